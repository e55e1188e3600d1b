"""Configuration of scoring a file."""

from typing import Any, Literal

from allmodes.chem.oracles.config import OracleConfig
from allmodes.runs.config import Config, Probability


class ScoringConfig(Config):
    """An oracle, and the smallest reward of a hit."""

    kind: Literal["scoring"] = "scoring"
    """Kind of the file."""
    oracle: OracleConfig
    """How a molecule is scored."""
    hit_threshold: Probability | None = None
    """Smallest reward of a hit; there are no hits if left out."""

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`screen` is `hit_threshold`."""
        return {"hit_threshold" if key == "screen" else key: value for key, value in values.items()}
