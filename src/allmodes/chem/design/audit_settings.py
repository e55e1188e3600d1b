"""What a design run can tell an audit of its samples: the settings, by the names of AuditConfig."""

from typing import Any

from allmodes.chem.config import Algorithm, MoleculesConfig
from allmodes.runs.mara_config import BatchQuantileThreshold


def audit_settings(config: MoleculesConfig, algorithm: Algorithm) -> dict[str, Any]:
    """A batch is one group, β is 1/σ, and responses are SMILES as they were drawn."""
    is_policy_gradient = algorithm in ("grpo", "ips-grpo")
    settings: dict[str, Any] = {
        "trainer": "allmodes",
        "beta": 1 / config.sigma,
        "kl": "sequence-k2-in-loss" if is_policy_gradient else "reinvent-loss",
        "scale_rewards": "group" if is_policy_gradient else "none",
        "transform": {"mara": "mara", "ips-grpo": "ips"}.get(algorithm, "none"),
        "group_size": config.batch_size,
        "max_tokens": config.max_tokens,
        "good": config.screen,
    }
    if algorithm == "mara":
        threshold = config.mara.threshold
        if isinstance(threshold, BatchQuantileThreshold):
            settings["threshold_quantile"] = threshold.batch_quantile
        else:
            settings["threshold"] = threshold
    return settings
