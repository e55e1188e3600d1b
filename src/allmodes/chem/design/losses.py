"""The losses of molecular design: REINVENT's squared distance, and GRPO over whole sequences."""

from typing import Literal

from torch import Tensor

from allmodes.chem.arms import Loss
from allmodes.methods import Method, Result
from allmodes.objectives import group_advantages, policy_gradient_loss, reinvent_loss, reverse_kl_loss

_CLIP = 0.2  # PPO's and GRPO's ε; at work only where a batch was sampled by an earlier agent


def design_loss(
    loss: Loss,
    method: Method,
    result: Result,
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor,
    sigma: float,
) -> Tensor:
    """The loss of each sample under the rewards that a method made, (N,).

    REINVENT: (log π_θ − log π_ref − σ R̄)². GRPO, the batch being one group:

    −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + β/2 (log π_θ − log π_ref)²   with β = 1/σ

    The gradient of that penalty is that of β KL(π_θ ‖ π_ref) on samples of the agent itself; replayed
    sequences are held to the reference by the same term. It is left out where the rewards contain the KL. A =
    R̄ for a method with a baseline of its own, else R̄ less its mean, and over its standard deviation where
    that leaves the method's optimum in place.

    logprobs, old_logprobs, ref_logprobs: (N,), nats; old: under the agent that drew each sample. Source:
    MARA, section 6.3 and equation 12; IPS, section 5.3.
    """
    if loss == "reinvent":
        reference = ref_logprobs if result.ref_logprobs is None else result.ref_logprobs
        return reinvent_loss(logprobs, reference, result.rewards, sigma=sigma)
    advantages = result.rewards
    if not method.has_own_baseline:
        advantages = group_advantages(advantages, None, scale=advantage_scale(method))
    policy = policy_gradient_loss(logprobs, old_logprobs, advantages, clip_low=_CLIP, clip_high=_CLIP)
    if method.contains_kl:
        return policy
    return policy + reverse_kl_loss(logprobs, ref_logprobs) / sigma


def advantage_scale(method: Method) -> Literal["group", "none"]:
    """What GRPO's advantages of a method are divided by: the group's standard deviation, or nothing."""
    return "group" if method.optimum_survives_std_normalization and not method.has_own_baseline else "none"
