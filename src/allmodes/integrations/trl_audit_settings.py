"""What a trainer of TRL's knows of the settings that an audit asks for."""

import math
from typing import Any

from allmodes.audit.choices import Transform
from allmodes.integrations.transforms import (
    IPS,
    MARA,
    BestOfN,
    EntropyBonus,
    RewardTransform,
    Unlikeliness,
)
from allmodes.objectives.thresholds import BatchQuantile, Constant, GroupQuantile


def audit_settings(trainer: Any) -> dict[str, Any]:
    """What AuditConfig can be told of a training by TRL's trainer, under its names."""
    args, transform = trainer.args, transform_of(trainer)
    if hasattr(args, "normalize_advantages"):  # RLOO's
        scaling, kl = "batch" if args.normalize_advantages else "none", "k1-in-reward"
    else:
        # Rewards that are normalised one by one are so once more in the end, over the batch.
        is_summed_first = args.multi_objective_aggregation == "sum_then_normalize"
        scaling = trainer.scale_rewards if is_summed_first else "batch"
        if getattr(trainer, "has_kl_in_reward", False):  # a trainer of ours with MARA, say
            kl = "k1-in-reward"
        else:
            kl = "k3-in-loss-corrected" if args.use_bias_correction_kl else "k3-in-loss"
    settings = {
        "trainer": "trl",
        "beta": float(trainer.beta),
        "kl": kl if trainer.beta != 0 else None,
        "scale_rewards": scaling,
        "transform": _name_of(transform),
        "entropy": float(transform.entropy) if isinstance(transform, EntropyBonus) else None,
        **_threshold_of(transform),
        "group_size": trainer.num_generations,
        "max_tokens": trainer.max_completion_length,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _name_of(transform: RewardTransform | None) -> Transform:
    match transform:
        case None:
            return "none"
        case MARA():
            return "mara"
        case IPS():
            return "ips"
        case EntropyBonus():
            return "entropy"
        case Unlikeliness():
            return "unlikeliness"
        case BestOfN():
            return "best-of-n"
        case _:
            return "other"


def _threshold_of(transform: RewardTransform | None) -> dict[str, float]:
    """τ of MARA where it is a number, or a quantile; a function of the user's own is neither."""
    if not isinstance(transform, MARA):
        return {}
    threshold = transform.threshold
    if isinstance(threshold, GroupQuantile | BatchQuantile):
        return {"threshold_quantile": float(threshold.q)}
    value = threshold.value if isinstance(threshold, Constant) else threshold
    return {} if callable(value) or not math.isfinite(value) else {"threshold": float(value)}


def transform_of(trainer: Any) -> RewardTransform | None:
    """The transform of a trainer of ours; TRL's have none."""
    transform = getattr(trainer, "transform", None)
    return transform if isinstance(transform, RewardTransform) else None
