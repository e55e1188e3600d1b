"""Elementwise losses; the caller masks and averages, since trainers do this differently."""

import torch
from torch import Tensor

from allmodes.checks import check_positive, check_same_shape, check_vector


def policy_gradient_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> Tensor:
    """Clipped policy gradient, one loss per element.

    −min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A)   with   ρ = exp(log π_θ − log π_old)

    logprobs, old_logprobs, advantages: one shape, (N,) for sequences or (N, T) for tokens (expand the
    advantages); leave out samples with a NaN advantage first. Gradients flow only through `logprobs`.
    On-policy, ρ = 1 and the gradient is −A ∇ log π_θ.

    Raises InputError for shapes that disagree or ε ≤ 0. Source: PPO, Schulman et al. 2017, equation 7;
    two-sided ε as in DAPO, Yu et al. 2025.

    >>> logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    >>> advantages = torch.tensor([1.0, -1.0])
    >>> loss = policy_gradient_loss(logprobs, logprobs.detach(), advantages, clip_low=0.2, clip_high=0.2)
    >>> loss.sum().backward()
    >>> logprobs.grad
    tensor([-1.,  1.])
    """
    check_same_shape("old_logprobs", old_logprobs, "logprobs", logprobs)
    check_same_shape("advantages", advantages, "logprobs", logprobs)
    check_positive("clip_low", clip_low)
    check_positive("clip_high", clip_high)
    ratio = torch.exp(logprobs - old_logprobs.detach())
    fixed = advantages.detach()
    return -torch.minimum(ratio * fixed, ratio.clamp(1 - clip_low, 1 + clip_high) * fixed)


def reinvent_loss(logprobs: Tensor, ref_logprobs: Tensor, rewards: Tensor, *, sigma: float) -> Tensor:
    """REINVENT's squared distance to the augmented likelihood, one loss per sequence.

    L = (log π_θ − log π_ref − σ R)²

    logprobs, ref_logprobs, rewards: (N,), log-probabilities of whole sequences in nats. Its expected gradient
    on-policy is −2σ ∇(E[R] − β KL(π_θ ‖ π_ref)) with β = 1/σ. Gradients flow only through `logprobs`.

    Raises InputError for shapes that disagree or σ ≤ 0. Source: MARA, equation 12; Olivecrona et al. 2017.

    >>> reinvent_loss(torch.tensor([-20.0]), torch.tensor([-22.0]), torch.tensor([0.5]), sigma=10.0)
    tensor([9.])
    """
    check_vector("logprobs", logprobs)
    check_same_shape("ref_logprobs", ref_logprobs, "logprobs", logprobs)
    check_same_shape("rewards", rewards, "logprobs", logprobs)
    check_positive("sigma", sigma)
    return (logprobs - (ref_logprobs + sigma * rewards).detach()).square()


def trajectory_balance_loss(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    rewards: Tensor,
    log_partition: Tensor,
    *,
    beta: float | Tensor,
) -> Tensor:
    """Squared violation of trajectory balance, one loss per sequence.

    L = (log Z + log π_θ − log π_ref − R/β)²,   0 everywhere at π_θ = π_ref exp(R/β)/Z

    logprobs, ref_logprobs, rewards, log_partition: (N,), log-probabilities of whole sequences in nats; β a
    number or (N,). Gradients flow through `logprobs` and `log_partition`, which is a learned log Z per
    prompt, or the detached group mean of R/β + log π_ref − log π_θ (VarGrad). FlowRL uses means over tokens
    for both log-probabilities, advantages divided by their standard deviation for R, and β = 1/15.

    Raises InputError for shapes that disagree or β ≤ 0. Source: Malkin et al. 2022, equation 14, with a tree
    of states; FlowRL, Zhu et al. 2025, equation 6.

    >>> ref_logprobs, rewards = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0])
    >>> logprobs = torch.log_softmax(ref_logprobs + rewards / 0.5, -1)  # the optimum at β = 0.5
    >>> log_partition = torch.logsumexp(ref_logprobs + rewards / 0.5, -1).expand(2)
    >>> trajectory_balance_loss(logprobs, ref_logprobs, rewards, log_partition, beta=0.5).round(decimals=4)
    tensor([0., 0.])
    """
    check_vector("logprobs", logprobs)
    for name, tensor in (
        ("ref_logprobs", ref_logprobs),
        ("rewards", rewards),
        ("log_partition", log_partition),
    ):
        check_same_shape(name, tensor, "logprobs", logprobs)
    check_positive("beta", beta)
    if isinstance(beta, Tensor) and beta.ndim > 0:
        check_same_shape("beta", beta, "logprobs", logprobs)
    target = (ref_logprobs + rewards / beta).detach()
    return (log_partition + logprobs - target).square()


def filtered_likelihood_loss(logprobs: Tensor, rewards: Tensor, *, threshold: float | Tensor) -> Tensor:
    """Maximum likelihood on good samples, one loss per sequence; RAFT and STaR.

    L = −1[R ≥ τ] log π_θ

    logprobs, rewards: (N,); threshold a number or (N,). The trainer averages over the good samples or over
    all. A NaN reward is never good. With samples of π_θ itself it has the gradient of E[1[R ≥ τ]] at the
    current policy: it concentrates π_θ on the good set and keeps ratios within it.

    Raises InputError for shapes that disagree. Source: Dong et al. 2023; MARA, section 3.2.

    >>> filtered_likelihood_loss(torch.tensor([-2.0, -3.0]), torch.tensor([1.0, 0.0]), threshold=0.9)
    tensor([2., 0.])
    """
    check_vector("logprobs", logprobs)
    check_same_shape("rewards", rewards, "logprobs", logprobs)
    if isinstance(threshold, Tensor) and threshold.ndim > 0:
        check_same_shape("threshold", threshold, "logprobs", logprobs)
    return torch.where(rewards >= threshold, -logprobs, 0)
