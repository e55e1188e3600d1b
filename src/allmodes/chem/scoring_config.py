"""What a scoring of a file can be told."""

from typing import Any, Literal

from allmodes.chem.oracles.config import OracleConfig
from allmodes.runs.config import Config, Probability


class ScoringConfig(Config):
    """An oracle, and the reward from which a molecule is a hit."""

    kind: Literal["scoring"] = "scoring"
    """What the file is."""
    oracle: OracleConfig
    """How a molecule is scored."""
    hit_threshold: Probability | None = None
    """Reward from which on a molecule is a hit; none is called one if left out."""

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`screen` is `hit_threshold`."""
        return {"hit_threshold" if key == "screen" else key: value for key, value in values.items()}
