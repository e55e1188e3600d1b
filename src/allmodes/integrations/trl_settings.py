"""Check that TRL's settings keep the optimum of a method; others are refused before a model is loaded.

A method is only known through its properties.
"""

import dataclasses
import warnings
from typing import Any, Literal, get_args

from allmodes.checks import check_choice
from allmodes.errors import ConfigError
from allmodes.integrations.batches import key_of
from allmodes.methods import Method, OutcomeKey

KL = Literal["reverse", "forward", "token-reverse", "token-forward"]
KLS: tuple[KL, ...] = get_args(KL)


def has_sequence_kl(config: Any, *, transform: Method | None, kl: KL | None) -> bool:
    """Whether GRPO gets the reverse KL of whole responses, in its rewards, instead of TRL's in the loss."""
    if transform is None or config.beta == 0:
        return False
    return transform.contains_kl or (transform.needs_sequence_kl and _kl_of(config, kl) == "reverse")


def _kl_of(config: Any, kl: KL | None) -> KL:
    """The value of `kl`, or else TRL's own setting."""
    if kl is not None:
        return kl
    return "reverse" if config.use_bias_correction_kl else "forward"


def check_settings(
    config: Any, *, transform: Method | None, kl: KL | None, outcome_key: OutcomeKey | None
) -> None:
    """Check the needs of both trainers. Raises ConfigError."""
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
    if not isinstance(transform, Method):
        raise ConfigError(f"`transform` must be a RewardTransform such as MARA; got {transform!r}")
    _check_kl_is_there(config, transform)
    label = type(transform).__name__
    if transform.needs_outcomes and key_of(transform, outcome_key) is None:
        raise ConfigError(
            f"{label} needs the outcome of each completion: give the trainer `outcome_key`, a function from "
            "the text of a completion to its outcome; got None"
        )
    if config.num_generations < transform.min_group_size:
        raise ConfigError(
            f"{label} needs at least {transform.min_group_size} samples of a prompt; got "
            f"{name}(num_generations={config.num_generations})"
        )
    warning = transform.group_warning(config.num_generations)
    if warning is not None:
        warnings.warn(f"{warning}; got {name}(num_generations={config.num_generations})", stacklevel=2)


def _check_kl_is_there(config: Any, transform: Method) -> None:
    """Check the KL if the method needs its reference, contains it, or changes it."""
    label = type(transform).__name__
    if transform.contains_kl and transform.changes_reference:
        raise ConfigError(
            f"{label} must not both hold a KL in its rewards and change the reference of the trainer's; got "
            f"{transform.describe()}"
        )
    needs_kl = transform.needs_reference or transform.contains_kl or transform.changes_reference
    if needs_kl and not config.beta > 0:
        raise ConfigError(
            f"{label} needs the reference model: `beta` must be above 0; got "
            f"{type(config).__name__}(beta={config.beta})"
        )


def check_grpo_settings(config: Any, *, transform: Method | None, kl: KL | None) -> None:
    """Check that GRPO's processing of rewards does not undo the method. Raises ConfigError."""
    in_loss = transform is None or not (transform.needs_sequence_kl or transform.contains_kl)
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
    if transform.contains_kl:
        _check_contained_kl(config, label, kl)
    elif transform.needs_sequence_kl:
        _check_whole_responses(config, label, kl)
    if transform.changes_reference and not has_sequence_kl(config, transform=transform, kl=kl):
        raise ConfigError(
            f"`kl` must be 'reverse' for {label}, which changes the reference of a KL in the reward; got "
            f"{_kl_of(config, kl)!r}, whose KL is in the loss"
        )
    _check_scaling(config, transform, kl)


def _check_scaling(config: Any, transform: Method, kl: KL | None) -> None:
    if config.scale_rewards in ("none", False) or transform.optimum_survives_std_normalization:
        return
    if transform.has_own_baseline:
        why, remedy = "which has its own baseline", ""
    elif has_sequence_kl(config, transform=transform, kl=kl):
        why = "at whose optimum all rewards of a group are equal, so their standard deviation is noise"
        remedy = ", or use RLOOTrainer, which divides by the standard deviation of the whole batch"
    else:
        why = "whose bonus it would divide, but not the KL"
        remedy = ", or use RLOOTrainer, whose KL is in the reward"
    raise ConfigError(
        f"`scale_rewards` must be 'none' for {type(transform).__name__}, {why}; got "
        f"{config.scale_rewards!r}. Set GRPOConfig(scale_rewards='none'){remedy}"
    )


def makes_policy_pass(config: Any) -> bool:
    """Whether GRPO computes log π_θ of its samples: where they serve later updates, or to correct vLLM."""
    generate_every = config.steps_per_generation * config.num_iterations
    if config.gradient_accumulation_steps % generate_every != 0:
        return True
    return config.use_vllm and config.vllm_importance_sampling_correction


def samples_from_all_tokens(config: Any) -> bool:
    """Whether the temperature alone changes what is sampled, so that vLLM's log-probabilities are π's."""
    return (
        config.top_k in (None, 0, -1)
        and config.top_p == 1
        and not config.min_p
        and config.repetition_penalty == 1
        and not config.generation_kwargs
    )


def _check_policy_pass(config: Any, transform: Method) -> None:
    """Check β = 0, at which TRL may make no pass with the policy's log-probabilities."""
    if not transform.needs_policy or config.beta != 0 or makes_policy_pass(config):
        return
    raise ConfigError(
        f"{type(transform).__name__} needs the policy's log-probabilities, which TRL does not compute with "
        f"beta=0: set GRPOConfig(beta=...) above 0, or use RLOOTrainer; got beta={config.beta}"
    )


def _check_contained_kl(config: Any, label: str, kl: KL | None) -> None:
    """Check a method that has the reverse KL of whole responses in its rewards."""
    if kl not in (None, "reverse"):
        raise ConfigError(
            f"`kl` must be 'reverse' for {label}, whose rewards hold the log-ratio of the whole response; "
            f"got {kl!r}"
        )
    _check_equal_weights(config, label, "whose rewards hold the log-ratio of")


def _check_whole_responses(config: Any, label: str, kl: KL | None) -> None:
    """Check that a bonus for whole responses has the KL of whole responses, and a loss on all tokens."""
    has_several_tokens = config.beta != 0 and config.max_completion_length > 1
    if has_several_tokens and _kl_of(config, kl) in ("token-reverse", "token-forward"):
        warnings.warn(
            f"kl={kl!r} is per token, and with two or more tokens it does not match the bonus of "
            f"{label}: good responses do not become equally likely. kl='reverse' is the KL of whole "
            "responses",
            stacklevel=2,
        )
    if has_several_tokens and _kl_of(config, kl) == "forward":
        got = "got kl='forward'" if kl is not None else "got use_bias_correction_kl=False"
        raise ConfigError(
            f"`kl` must be 'reverse' for {label}: GRPO's forward KL is per token, and with two or more "
            f"tokens it does not match a bonus for whole responses; {got}. kl='token-forward' is the "
            "paper's form, which has another optimum"
        )
    _check_equal_weights(config, label, "whose bonus is for")


def _check_equal_weights(config: Any, label: str, why: str) -> None:
    for name, value, wanted in (
        ("importance_sampling_level", config.importance_sampling_level, "token"),
        ("top_entropy_quantile", config.top_entropy_quantile, 1.0),
        ("off_policy_mask_threshold", config.off_policy_mask_threshold, None),
    ):
        if value != wanted:
            raise ConfigError(
                f"`{name}` must be {wanted!r} for {label}, {why} the whole response and must "
                f"reach all of its tokens with the same weight; got {value!r}"
            )


def check_rloo_settings(config: Any, *, transform: Method | None, kl: KL | None) -> None:
    """Check that RLOO's processing of rewards does not undo the method. Raises ConfigError."""
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
            f"`reward_clip_range` would clip the transformed rewards of {label}: it must be None; got "
            f"{config.reward_clip_range}. Clip inside the reward function"
        )
    if config.normalize_advantages and transform.has_own_baseline:
        raise ConfigError(
            f"`normalize_advantages` must be False for {label}, which has its own baseline; got True"
        )


_UNUSED_BY_FLOW = (
    *("loss_type", "importance_sampling_level", "delta", "top_entropy_quantile", "entropy_coef"),
    *("off_policy_mask_threshold", "use_adaptive_entropy", "multi_objective_aggregation"),
)
"""Settings of GRPO's loss that trajectory balance does not have."""


def check_flow_settings(config: Any, *, transform: Method | None, kl: KL | None, is_exact: bool) -> None:
    """Check settings that the trajectory-balance loss needs or ignores. Raises ConfigError."""
    if not config.beta > 0:
        raise ConfigError(
            "FlowRLTrainer needs the reference model: `beta` must be above 0; got "
            f"{type(config).__name__}(beta={config.beta})"
        )
    if kl not in (None, "reverse"):
        raise ConfigError(
            "`kl` must be 'reverse' for FlowRLTrainer, whose loss holds the log-ratio of the whole "
            f"response; got {kl!r}"
        )
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in _UNUSED_BY_FLOW:
        if name in defaults and getattr(config, name) != defaults[name]:
            raise ConfigError(
                f"`{name}` has no effect on FlowRLTrainer's loss: expected {defaults[name]!r}, TRL's "
                f"default; got {getattr(config, name)!r}"
            )
    if transform is None:
        return
    label = type(transform).__name__
    if transform.has_own_baseline:
        raise ConfigError(
            f"{label} returns advantages, but FlowRLTrainer's target π_ref exp(R/β) needs rewards: expected "
            "another method, or RLOOTrainer"
        )
    needs_beta = transform.needs_reference or transform.contains_kl or transform.changes_reference
    if not is_exact and (needs_beta or not transform.optimum_survives_std_normalization):
        raise ConfigError(
            f"`form` must be 'exact' for {label}, whose bonus the paper's form would divide by the standard "
            "deviation of a group; got 'paper'"
        )
