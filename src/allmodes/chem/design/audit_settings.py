"""The settings of a design run for an audit of its samples, by the names of AuditConfig."""

from collections.abc import Iterator
from typing import Any

from allmodes.chem.arms import Arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.losses import advantage_scale
from allmodes.methods import Plain, method_names, recipe_fields
from allmodes.objectives import BatchQuantile

_OWN_KEYS = ("threshold", "entropy")  # settings of methods that an audit knows by keys of their own


def audit_settings(config: MoleculesConfig, arm: Arm) -> dict[str, Any]:
    """A batch is one group, β is 1/σ, and responses are SMILES as they were drawn."""
    is_grpo = arm.loss == "grpo"
    settings: dict[str, Any] = {
        "trainer": "allmodes",
        "beta": 1 / config.sigma,
        "kl": "sequence-k2-in-loss" if is_grpo else "reinvent-loss",
        "scale_rewards": advantage_scale(config.methods.make(arm.method)) if is_grpo else "none",
        "transform": "none" if arm.method == Plain.name else arm.method,
        "group_size": config.batch_size,
        "max_tokens": config.max_tokens,
        "good": config.hit_threshold,
    }
    others = {}
    for name, value, is_default in _method_settings(config, arm):
        if isinstance(value, BatchQuantile):
            settings["threshold_quantile"] = value.q
        elif name in _OWN_KEYS and value is not None:
            settings[name] = value
        elif name in _OWN_KEYS:
            others[name] = "none"
        elif not is_default:
            others[name] = value
    return {**settings, "settings": others} if others else settings


def _method_settings(config: MoleculesConfig, arm: Arm) -> Iterator[tuple[str, Any, bool]]:
    """Name and value of each setting of the method, and whether the value is its default."""
    for part in method_names(arm.method):
        method = config.methods.make(part)
        for name, field in recipe_fields(type(method)).items():
            value = getattr(method, name)
            yield name, value, value == field.default
