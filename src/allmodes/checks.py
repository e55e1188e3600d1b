"""Shape and value checks for public functions."""

import math

import torch
from torch import Tensor

from allmodes.errors import InputError, shown


def check_vector(name: str, tensor: Tensor) -> None:
    """Require shape (N,) and a floating dtype."""
    if tensor.ndim != 1:
        raise InputError(f"`{name}` must have shape (N,); got {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise InputError(f"`{name}` must be floating point; got {tensor.dtype}")


def check_same_shape(name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """Require the shape of another tensor."""
    if tensor.shape != like.shape:
        raise InputError(
            f"`{name}` must have shape {tuple(like.shape)} like `{like_name}`; got {tuple(tensor.shape)}"
        )


def check_broadcasts(name: str, value: float | Tensor, like_name: str, like: Tensor) -> None:
    """Require a number, or a tensor that broadcasts to the shape of another without widening it."""
    if not isinstance(value, Tensor):
        return
    try:
        fits = torch.broadcast_shapes(value.shape, like.shape) == like.shape
    except RuntimeError:  # torch raises it for shapes that do not broadcast
        fits = False
    if not fits:
        raise InputError(
            f"`{name}` must broadcast to the shape {tuple(like.shape)} of `{like_name}`; got "
            f"{tuple(value.shape)}"
        )


def check_ids(name: str, ids: Tensor, like_name: str, like: Tensor) -> None:
    """Require integer ids with the shape of another tensor."""
    check_same_shape(name, ids, like_name, like)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InputError(f"`{name}` must hold integers; got {ids.dtype}")


def check_mask(name: str, mask: Tensor, like_name: str, like: Tensor) -> None:
    """Require a boolean tensor with the shape of another tensor."""
    check_same_shape(name, mask, like_name, like)
    if mask.dtype != torch.bool:
        raise InputError(f"`{name}` must be boolean; got {mask.dtype}")


def check_finite(name: str, tensor: Tensor) -> None:
    """Require that no element is NaN or infinite; the message names the first such element."""
    if bool(torch.isfinite(tensor.sum())):  # then every element is finite; one pass without extra memory
        return
    bad = ~torch.isfinite(tensor)
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        got = float(tensor[tuple(where)])
        raise InputError(
            f"`{name}` must be finite; got {got} at index {where[0] if len(where) == 1 else where}"
        )


def check_positive(name: str, value: float | Tensor) -> None:
    """Require a finite number above zero, or a tensor of such numbers."""
    if isinstance(value, Tensor):
        bad = ~(torch.isfinite(value) & (value > 0))
        if bool(bad.any()):
            raise InputError(f"`{name}` must be finite and above 0; got {float(value[bad][0])}")
    elif not (math.isfinite(value) and value > 0):
        raise InputError(f"`{name}` must be a finite number above 0; got {value}")


def check_count(name: str, value: int, *, most: int) -> None:
    """Require a whole number from one to `most`."""
    if not 1 <= value <= most:
        expected = "at least 1" if value < 1 else f"at most {most:,}"
        raise InputError(f"`{name}` must be {expected}; got {shown(value)}")


def check_not_negative(name: str, value: float) -> None:
    """Require a finite number of at least zero."""
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"`{name}` must be a finite number of at least 0; got {value}")


def check_fraction(name: str, value: float) -> None:
    """Require a number from 0 to 1."""
    if not 0 <= value <= 1:
        raise InputError(f"`{name}` must lie between 0 and 1; got {value}")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Require one of the allowed names."""
    if value not in allowed:
        raise InputError(f"`{name}` must be one of {allowed}; got {value!r}")


def check_outcome_dimension(name: str, tensor: Tensor) -> None:
    """Require a floating dtype and at least one outcome along the last dimension."""
    if tensor.ndim == 0 or tensor.shape[-1] == 0:
        raise InputError(f"`{name}` must hold at least one outcome; got shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise InputError(f"`{name}` must be floating point; got {tensor.dtype}")


def check_log_distribution(name: str, logprobs: Tensor) -> None:
    """Require log-probabilities along the last dimension: floating, not empty, no NaN, summing to 1."""
    check_outcome_dimension(name, logprobs)
    with torch.no_grad():
        check_totals(name, logprobs.exp().sum(-1))


def check_totals(name: str, totals: Tensor) -> None:
    """Require sums of probabilities to be 1, up to rounding."""
    # Rounding error of K terms in this precision; a larger deviation is an input error.
    tolerance = 100 * torch.finfo(totals.dtype).eps ** 0.75
    off = ~((totals - 1).abs() <= tolerance)
    if bool(off.any()):
        where = off.nonzero()[0].tolist()
        row = f" in row {where if len(where) > 1 else where[0]}" if where else ""
        got = float(totals[tuple(where)])
        raise InputError(f"`{name}` must be log-probabilities that sum to 1; got a sum of {got:.6g}{row}")
