"""Settings for an audit from a TRL trainer."""

import math
from typing import Any

from allmodes.integrations.batches import method_name
from allmodes.methods import METHODS, Method, Plain, recipe_fields
from allmodes.objectives.thresholds import BatchQuantile, Constant, GroupQuantile


def audit_settings(trainer: Any) -> dict[str, Any]:
    """The keys of AuditConfig that can be read from a TRL trainer."""
    args, transform = trainer.args, transform_of(trainer)
    flow = getattr(trainer, "flow", None)
    if flow is not None:  # our FlowRLTrainer's, which has the gradient of the reverse KL of whole responses
        scaling, kl = "none" if flow.form == "exact" else "group", "k1-in-reward"
    elif hasattr(args, "normalize_advantages"):  # RLOO's
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
        # The paper's form of FlowRL has an optimum that none of the audit's has.
        "transform": "other" if flow is not None and flow.form == "paper" else _name_of(transform),
        "entropy": _setting(transform, "entropy"),
        **_threshold_of(transform),
        "settings": _other_settings(transform) or None,
        "group_size": trainer.num_generations,
        "max_tokens": trainer.max_completion_length,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _name_of(transform: Method | None) -> str:
    """The names of METHODS, joined where there are several; "none" for rewards as they are."""
    name = Plain.name if transform is None else method_name(transform)
    if name == Plain.name:
        return "none"
    return name if all(part in METHODS for part in name.split("+")) else "other"


def _setting(transform: Method | None, name: str) -> Any:
    """A setting of the method, or of the first of its parts that has it; None if none has."""
    parts = getattr(transform, "methods", (transform,))
    return next((getattr(part, name) for part in parts if hasattr(part, name)), None)


def _other_settings(transform: Method | None) -> dict[str, int | float | str]:
    """What else a recipe could say of the method, where it is not the default."""
    if transform is None or _name_of(transform) in ("none", "other"):
        return {}
    parts = getattr(transform, "methods", (transform,))
    bare = any(getattr(part, "threshold", 0.0) is None for part in parts)
    return ({"threshold": "none"} if bare else {}) | {
        name: getattr(part, name)
        for part in parts
        for name, field in recipe_fields(type(part)).items()
        if name not in ("threshold", "entropy")
        and isinstance(getattr(part, name), int | float | str)
        and getattr(part, name) != field.default
    }


def _threshold_of(transform: Method | None) -> dict[str, float]:
    """τ where it is a number, or a quantile; a function of the user's own is neither."""
    threshold = _setting(transform, "threshold")
    if isinstance(threshold, GroupQuantile | BatchQuantile):
        return {"threshold_quantile": float(threshold.q)}
    value = threshold.value if isinstance(threshold, Constant) else threshold
    return {"threshold": float(value)} if isinstance(value, int | float) and math.isfinite(value) else {}


def transform_of(trainer: Any) -> Method | None:
    """The method of a trainer of ours; TRL's have none."""
    transform = getattr(trainer, "transform", None)
    return transform if isinstance(transform, Method) else None
