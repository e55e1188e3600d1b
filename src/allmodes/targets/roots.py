"""The root of a decreasing function of one number, for many of them at once."""

from collections.abc import Callable

import torch
from torch import Tensor

_MOST_STEPS = 200  # twice what bisection needs; about 12 are usual
_PRECISION = 2.0**-52  # of float64


def find_root(falling: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where a decreasing function crosses 0 between two bounds, elementwise, to the precision of float64.

    The nearer bound where it does not cross 0. Values may be infinite, and NaN counts as below 0. Gradients
    do not flow. Each step is an inverse quadratic interpolation where three points allow it, else a halving.
    Source: Chandrupatla 1997.
    """
    with torch.no_grad():
        newest, older = low, high
        at_newest, at_older = _values(falling, newest), _values(falling, older)
        ends = at_newest <= 0, at_older > 0
        part = torch.full_like(low, 0.5)
        for _ in range(_MOST_STEPS):
            point = newest + part * (older - newest)
            value = _values(falling, point)
            same_side = (value > 0) == (at_newest > 0)
            oldest, at_oldest = (
                torch.where(same_side, newest, older),
                torch.where(same_side, at_newest, at_older),
            )
            older, at_older = (
                torch.where(same_side, older, newest),
                torch.where(same_side, at_older, at_newest),
            )
            newest, at_newest = point, value
            best = torch.where(at_newest.abs() < at_older.abs(), newest, older)
            least = _PRECISION * (best.abs() + _PRECISION) / (older - newest).abs()
            if bool(((least > 0.5) | (at_newest == 0)).all()):
                break
            place = (newest - older) / (oldest - older)
            height = (at_newest - at_older) / (at_oldest - at_older)
            can_interpolate = (1 - (1 - place).sqrt() < height) & (height < place.sqrt())
            first = at_newest / (at_older - at_newest) * at_oldest / (at_older - at_oldest)
            second = (oldest - newest) / (older - newest) * at_newest / (at_oldest - at_newest)
            second = second * at_older / (at_oldest - at_older)
            part = torch.where(can_interpolate, first + second, 0.5)
            part = torch.minimum(torch.maximum(part, least), 1 - least).clamp(0, 1)
        best = torch.where(at_newest.abs() < at_older.abs(), newest, older)
        return torch.where(ends[0], low, torch.where(ends[1], high, best))


def _values(falling: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    return falling(at).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
