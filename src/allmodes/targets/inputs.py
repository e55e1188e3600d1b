"""Input checks of the exact targets."""

import torch
from torch import Tensor

from allmodes.checks import (
    check_finite,
    check_log_distribution,
    check_outcome_dimension,
    check_same_shape,
)
from allmodes.errors import InputError


def check_outcomes(ref_logprobs: Tensor, rewards: Tensor) -> None:
    """Require a reference that sums to 1 and finite rewards, both of shape (..., K)."""
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_log_distribution("ref_logprobs", ref_logprobs)
    check_outcome_dimension("rewards", rewards)
    check_finite("rewards", rewards)


def per_outcome(name: str, value: float | Tensor, like: Tensor, *, may_be_negative: bool = False) -> Tensor:
    """A number, or a tensor of the leading shape, as a tensor that broadcasts over outcomes."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    check_finite(name, tensor)
    if not may_be_negative and bool((tensor < 0).any()):
        raise InputError(f"`{name}` must not be negative; got {float(tensor.min())}")
    if tensor.ndim == 0:
        return tensor
    if tensor.shape != like.shape[:-1]:
        raise InputError(
            f"`{name}` must be a number or have shape {tuple(like.shape[:-1])}; got {tuple(tensor.shape)}"
        )
    return tensor.unsqueeze(-1)
