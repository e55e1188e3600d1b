"""The settings of molecular design that most tests share."""

from pathlib import Path
from typing import Any

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.oracles.config import OracleConfig
from allmodes.runs.config import build_config


def molecule_config(**changes: Any) -> MoleculesConfig:
    """Ten calls of QED with a hit from 0.5 on, with other keys or values as given."""
    values = {
        "kind": "molecules",
        "budget": 10,
        "hit_threshold": 0.5,
        "oracle": {"components": [{"kind": "qed"}]},
        **changes,
    }
    return build_config(MoleculesConfig, values, source="test")


def oracle_config(*components: dict[str, Any], **rest: Any) -> OracleConfig:
    """An oracle of these components, with other keys as given."""
    return OracleConfig.model_validate({"components": components, **rest})


def training_config(prior: Path, **changes: Any) -> MoleculesConfig:
    """`molecule_config` of a run that is quick: a small prior, short molecules, one thread."""
    return molecule_config(**{"prior": prior, "batch_size": 16, "max_tokens": 24, "threads": 1, **changes})
