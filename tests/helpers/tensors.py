"""Tensors of doubles by hand, and how near two of them must be."""

import torch
from torch import Tensor


def tensor(*values: float) -> Tensor:
    """Doubles, (K,)."""
    return torch.tensor(values, dtype=torch.float64)


def doubles(values: list[float]) -> Tensor:
    """The doubles of a list, (K,)."""
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Assert that two tensors differ by at most `tolerance` anywhere; NaN is never near."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def close_with_nan(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """As `close`, but for NaN in both at the same places."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance, equal_nan=True)
