"""What a scoring of a file can be told."""

from typing import Literal

from allmodes.chem.oracles.config import OracleConfig
from allmodes.runs.config import Config, Probability


class ScoringConfig(Config):
    """An oracle, and the reward from which a molecule is a hit."""

    kind: Literal["scoring"] = "scoring"
    """What the file is."""
    oracle: OracleConfig
    """How a molecule is scored."""
    screen: Probability | None = None
    """Reward from which on a molecule is a hit; none is called one if left out."""
