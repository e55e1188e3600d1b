"""With which of TRL's settings a transform keeps its meaning; refused before a model is loaded."""

from typing import Any, Literal

from allmodes.checks import check_choice
from allmodes.errors import ConfigError
from allmodes.integrations.answers import OutcomeKey
from allmodes.integrations.transforms import RewardTransform

KL = Literal["reverse", "forward"]


def check_settings(
    config: Any, *, transform: RewardTransform | None, kl: KL | None, outcome_key: OutcomeKey | None
) -> None:
    """What both trainers need. Raises ConfigError."""
    name = type(config).__name__
    if outcome_key is not None and not callable(outcome_key):
        raise ConfigError(
            f"`outcome_key` must be a function from a completion's text to its answer; got {outcome_key!r}"
        )
    if kl is not None:
        check_choice("kl", kl, ("reverse", "forward"))
        if config.beta == 0:
            raise ConfigError(f"`kl={kl!r}` has no effect with beta=0; set {name}(beta=...) above 0")
    if transform is None:
        return
    if not isinstance(transform, RewardTransform):
        raise ConfigError(f"`transform` must be a RewardTransform such as MARA; got {transform!r}")
    label = type(transform).__name__
    if transform.needs_reference and not config.beta > 0:
        raise ConfigError(
            f"{label} needs the reference model: `beta` must be above 0; got {name}(beta={config.beta})"
        )
    if config.num_generations < transform.min_group_size:
        raise ConfigError(
            f"{label} needs at least {transform.min_group_size} samples of a prompt; got "
            f"{name}(num_generations={config.num_generations})"
        )


def check_grpo_settings(config: Any, *, transform: RewardTransform | None) -> None:
    """What GRPO does to rewards after the transform must not undo it. Raises ConfigError."""
    if transform is None:
        return
    label = type(transform).__name__
    if config.multi_objective_aggregation != "sum_then_normalize":
        raise ConfigError(
            f"{label} transforms the sum of the rewards: `multi_objective_aggregation` must be "
            f"'sum_then_normalize'; got {config.multi_objective_aggregation!r}"
        )
    if config.scale_rewards not in ("none", False) and not transform.survives_scaling:
        if transform.is_advantage:
            why, remedy = "which has its own baseline", ""
        else:
            why = "whose bonus it would divide, and not the KL beside it"
            remedy = ", or use RLOOTrainer, whose KL is in the reward"
        raise ConfigError(
            f"`scale_rewards` must be 'none' for {label}, {why}; got {config.scale_rewards!r}. "
            f"Set GRPOConfig(scale_rewards='none'){remedy}"
        )


def check_rloo_settings(config: Any, *, transform: RewardTransform | None, kl: KL | None) -> None:
    """What RLOO does to rewards after the transform must not undo it. Raises ConfigError."""
    if kl == "forward":
        raise ConfigError(
            "`kl` must be 'reverse' for RLOOTrainer, whose KL is in the reward; got 'forward'. "
            "GRPOTrainer has both"
        )
    if transform is None:
        return
    label = type(transform).__name__
    if config.reward_clip_range:
        raise ConfigError(
            f"`reward_clip_range` would clip what {label} made of the rewards: it must be None; got "
            f"{config.reward_clip_range}. Clip inside the reward function"
        )
    if config.normalize_advantages and transform.is_advantage:
        raise ConfigError(
            f"`normalize_advantages` must be False for {label}, which has its own baseline; got True"
        )
