"""Distances between distributions, and the effective number of outcomes."""

import torch
from torch import Tensor

from allmodes.checks import check_log_distribution, check_same_shape


def kl_divergence(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p − log q), nats, (...), of log-probabilities (..., K).

    +inf if p has mass outside the support of q. Reverse KL is KL(π ‖ π_ref), forward KL is KL(π_ref ‖ π).
    Raises InputError for shapes that disagree or probabilities that do not sum to 1.

    >>> kl_divergence(torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log())
    tensor(0.3681)
    """
    check_same_shape("other_logprobs", other_logprobs, "logprobs", logprobs)
    check_log_distribution("logprobs", logprobs)
    check_log_distribution("other_logprobs", other_logprobs)
    has_mass = ~logprobs.isneginf()
    difference = torch.where(has_mass, logprobs - other_logprobs, 0)
    return (torch.where(has_mass, logprobs, 0).exp() * difference).sum(-1)


def total_variation(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """½ Σ |p − q|, between 0 and 1, (...), of log-probabilities (..., K).

    Raises InputError for shapes that disagree or probabilities that do not sum to 1.

    >>> total_variation(torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log())
    tensor(0.4000)
    """
    check_same_shape("other_logprobs", other_logprobs, "logprobs", logprobs)
    check_log_distribution("logprobs", logprobs)
    check_log_distribution("other_logprobs", other_logprobs)
    return 0.5 * (logprobs.exp() - other_logprobs.exp()).abs().sum(-1)


def entropy(logprobs: Tensor) -> Tensor:
    """−Σ p log p, nats, (...), of log-probabilities (..., K).

    Raises InputError for probabilities that do not sum to 1.

    >>> entropy(torch.tensor([0.5, 0.5]).log())
    tensor(0.6931)
    """
    check_log_distribution("logprobs", logprobs)
    finite = torch.where(logprobs.isneginf(), 0, logprobs)
    return -(logprobs.exp() * finite).sum(-1)


def effective_modes(logprobs: Tensor) -> Tensor:
    """Effective number of outcomes, exp(H(p)), (...): K for a uniform distribution over K outcomes.

    logprobs: (..., K). Raises InputError if they do not sum to 1. Source: Hill number of order 1.

    >>> effective_modes(torch.tensor([0.25, 0.25, 0.25, 0.25]).log())
    tensor(4.)
    >>> effective_modes(torch.tensor([0.97, 0.01, 0.01, 0.01]).log())
    tensor(1.1826)
    """
    return entropy(logprobs).exp()
