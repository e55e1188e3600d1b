"""With which of TRL's settings a transform keeps its meaning; refused before a model is loaded."""

import warnings
from typing import Any, Literal, get_args

from allmodes.checks import check_choice
from allmodes.errors import ConfigError
from allmodes.integrations.answers import OutcomeKey
from allmodes.integrations.transforms import RewardTransform

KL = Literal["reverse", "forward", "token-reverse", "token-forward"]
KLS: tuple[KL, ...] = get_args(KL)


def has_sequence_kl(config: Any, *, transform: RewardTransform | None, kl: KL | None) -> bool:
    """Whether GRPO gets the reverse KL of whole responses, in its rewards, instead of TRL's in the loss."""
    if transform is None or not transform.needs_sequence_kl or config.beta == 0:
        return False
    return _kl_of(config, kl) == "reverse"


def _kl_of(config: Any, kl: KL | None) -> KL:
    """What `kl` says, or else TRL's own setting."""
    if kl is not None:
        return kl
    return "reverse" if config.use_bias_correction_kl else "forward"


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
        check_choice("kl", kl, KLS)
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


def check_grpo_settings(config: Any, *, transform: RewardTransform | None, kl: KL | None) -> None:
    """What GRPO does to rewards after the transform must not undo it. Raises ConfigError."""
    in_loss = transform is None or not transform.needs_sequence_kl
    if in_loss and kl in ("reverse", "token-reverse") and config.importance_sampling_level == "sequence":
        raise ConfigError(
            f"`importance_sampling_level` must be 'token' with kl={kl!r}: with 'sequence' TRL weighs the KL "
            "of each token by the ratio of the whole response, which gives the gradient of neither KL; got "
            "'sequence'"
        )
    if transform is None:
        return
    label = type(transform).__name__
    if config.multi_objective_aggregation != "sum_then_normalize":
        raise ConfigError(
            f"{label} transforms the sum of the rewards: `multi_objective_aggregation` must be "
            f"'sum_then_normalize'; got {config.multi_objective_aggregation!r}"
        )
    _check_policy_pass(config, transform)
    if transform.needs_sequence_kl:
        _check_whole_responses(config, label, kl)
    if config.scale_rewards not in ("none", False) and not transform.survives_scaling:
        if transform.is_advantage:
            why, remedy = "which has its own baseline", ""
        elif has_sequence_kl(config, transform=transform, kl=kl):
            why = "at whose optimum all rewards of a group are equal, so that their deviation is noise"
            remedy = ", or use RLOOTrainer, which divides by the deviation of the whole batch"
        else:
            why = "whose bonus it would divide, and not the KL beside it"
            remedy = ", or use RLOOTrainer, whose KL is in the reward"
        raise ConfigError(
            f"`scale_rewards` must be 'none' for {label}, {why}; got {config.scale_rewards!r}. "
            f"Set GRPOConfig(scale_rewards='none'){remedy}"
        )


def _check_policy_pass(config: Any, transform: RewardTransform) -> None:
    """At β = 0 GRPO computes log π_θ of the samples only where they serve later updates, or with vLLM."""
    if not transform.needs_policy or config.beta != 0:
        return
    generate_every = config.steps_per_generation * config.num_iterations
    if config.gradient_accumulation_steps % generate_every != 0:
        return
    if config.use_vllm and config.vllm_importance_sampling_correction:
        return
    raise ConfigError(
        f"{type(transform).__name__} needs the policy's log-probabilities, which TRL does not compute with "
        f"beta=0: set GRPOConfig(beta=...) above 0, or use RLOOTrainer; got beta={config.beta}"
    )


def _check_whole_responses(config: Any, label: str, kl: KL | None) -> None:
    """A log-ratio of whole responses needs the KL of whole responses, and a loss on all of their tokens."""
    has_several_tokens = config.beta != 0 and config.max_completion_length > 1
    if has_several_tokens and _kl_of(config, kl) in ("token-reverse", "token-forward"):
        warnings.warn(
            f"kl={kl!r} is per token, and from two tokens on it does not match the bonus of {label}: good "
            "responses do not become equally likely. kl='reverse' is the KL of whole responses",
            stacklevel=2,
        )
    if has_several_tokens and _kl_of(config, kl) == "forward":
        got = "got kl='forward'" if kl is not None else "got use_bias_correction_kl=False"
        raise ConfigError(
            f"`kl` must be 'reverse' for {label}: GRPO's forward KL is per token, and from two tokens on it "
            f"does not match a bonus for whole responses; {got}. kl='token-forward' is the paper's form, "
            "whose optimum is another"
        )
    for name, value, wanted in (
        ("importance_sampling_level", config.importance_sampling_level, "token"),
        ("top_entropy_quantile", config.top_entropy_quantile, 1.0),
        ("off_policy_mask_threshold", config.off_policy_mask_threshold, None),
    ):
        if value != wanted:
            raise ConfigError(
                f"`{name}` must be {wanted!r} for {label}, whose bonus is for the whole response and must "
                f"reach all of its tokens with the same weight; got {value!r}"
            )


def check_rloo_settings(config: Any, *, transform: RewardTransform | None, kl: KL | None) -> None:
    """What RLOO does to rewards after the transform must not undo it. Raises ConfigError."""
    if kl not in (None, "reverse"):
        raise ConfigError(
            f"`kl` must be 'reverse' for RLOOTrainer, whose KL is in the reward; got {kl!r}. GRPOTrainer has "
            "the others"
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
