"""KL estimators from samples y ~ π_θ. An estimator's value and its gradient can belong to different KLs.

The `_value` functions estimate KL(π_θ ‖ π_ref) and have no gradient. The `_loss` functions are surrogates
with the gradient of the KL in their name; their values have no meaning. All are elementwise, for
log-probabilities of whole sequences or of tokens; per token, the states are treated as fixed. They are
separate because k1 as a loss has zero expected gradient, and k3 as a loss has the gradient of the *forward*
KL.
"""

import torch
from torch import Tensor

from allmodes.checks import check_broadcasts, check_finite, check_same_shape


def k1_value(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """k1 = log π_θ − log π_ref, nats. Unbiased, may be negative. Any shape.

    Raises InputError for shapes that disagree. Source: Schulman 2020.

    >>> k1_value(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5]))
    tensor([ 1.0000, -0.5000])
    """
    return _log_ratio(logprobs, ref_logprobs).detach()


def k2_value(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """k2 = ½ (log π_θ − log π_ref)², nats. Biased, never negative. Any shape.

    Raises InputError for shapes that disagree. Source: Schulman 2020.

    >>> k2_value(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5]))
    tensor([0.5000, 0.1250])
    """
    return 0.5 * _log_ratio(logprobs, ref_logprobs).detach().square()


def k3_value(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """k3 = π_ref/π_θ − 1 − log(π_ref/π_θ), nats. Unbiased, never negative. Any shape.

    Raises InputError for shapes that disagree. Source: Schulman 2020.

    >>> k3_value(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5]))
    tensor([0.3679, 0.1487])
    """
    return _k3(_log_ratio(logprobs, ref_logprobs).detach())


def reverse_kl_loss(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Surrogate whose expected gradient is ∇KL(π_θ ‖ π_ref): k2 as a loss. Any shape.

    ∇ ½ (log π_θ − log π_ref)² = (log π_θ − log π_ref) ∇ log π_θ

    Raises InputError for shapes that disagree. Source: Tang & Munos 2025.

    >>> logprobs = torch.tensor([-1.0], requires_grad=True)
    >>> reverse_kl_loss(logprobs, torch.tensor([-2.0])).sum().backward()
    >>> logprobs.grad
    tensor([1.])
    """
    return 0.5 * _log_ratio(logprobs, ref_logprobs).square()


def forward_kl_loss(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Surrogate whose expected gradient is ∇KL(π_ref ‖ π_θ): k3 as a loss, as GRPO wrote it. Any shape.

    ∇ k3 = (1 − π_ref/π_θ) ∇ log π_θ, whose mean is −Σ π_ref ∇ log π_θ

    Raises InputError for shapes that disagree. Source: Tang & Munos 2025.

    >>> logprobs = torch.tensor([-1.0], requires_grad=True)
    >>> forward_kl_loss(logprobs, torch.tensor([-2.0])).sum().backward()
    >>> logprobs.grad
    tensor([0.6321])
    """
    return _k3(_log_ratio(logprobs, ref_logprobs))


def reverse_kl_weighted_loss(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Surrogate whose expected gradient is ∇KL(π_θ ‖ π_ref): k3 times the importance ratio. Any shape.

    ρ k3 with ρ = π_θ / stop_gradient(π_θ), of value 1. This is TRL's k3 with `use_bias_correction_kl`.

    Raises InputError for shapes that disagree. Source: Tang & Munos 2025.

    >>> logprobs = torch.tensor([-1.0], requires_grad=True)
    >>> reverse_kl_weighted_loss(logprobs, torch.tensor([-2.0])).sum().backward()
    >>> logprobs.grad
    tensor([1.])
    """
    ratio = torch.exp(logprobs - logprobs.detach())
    return ratio * _k3(_log_ratio(logprobs, ref_logprobs))


def kl_in_rewards(rewards: Tensor, logprobs: Tensor, ref_logprobs: Tensor, *, beta: float | Tensor) -> Tensor:
    """Rewards with the KL inside: R − β (log π_θ − log π_ref), no gradient; of whole sequences.

    A policy gradient on these rewards is the exact gradient of E[R] − β KL(π_θ ‖ π_ref). Shapes are equal; β
    is a number or of a shape that broadcasts to them.

    Raises InputError for shapes that disagree, or a β that is not finite. Source: MARA, equation 1 and
    appendix B.2.

    >>> kl_in_rewards(torch.ones(2), torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -2.0]), beta=0.1)
    tensor([0.9000, 1.0000])
    """
    check_same_shape("logprobs", logprobs, "rewards", rewards)
    check_broadcasts("beta", beta, "rewards", rewards)
    check_finite("beta", torch.as_tensor(beta))
    return rewards - beta * k1_value(logprobs, ref_logprobs)


def _log_ratio(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    check_same_shape("ref_logprobs", ref_logprobs, "logprobs", logprobs)
    return logprobs - ref_logprobs


def _k3(log_ratio: Tensor) -> Tensor:
    return torch.expm1(-log_ratio) + log_ratio
