"""The Wright omega function on the real line."""

import torch
from torch import Tensor

_SMALL = -40.0  # below this ω(a) = e^a (1 − e^a + ...) is e^a to the last digit of float64
_LARGE = 1e9  # above this a − log a is ω in float64, and squares in the iteration may overflow in float32
_STEPS = 4  # of fourth order; two are enough from these starting points


def wright_omega(a: Tensor) -> Tensor:
    """ω(a) = W₀(e^a), the root of ω + log ω = a; never overflows where e^a would. Any shape.

    dω/da = ω / (1 + ω); gradients of first order flow through it. ω(−inf) = 0 and ω(inf) = inf.
    Source: Lawrence, Corless & Jeffrey 2012, whose fourth-order iteration this is.
    """
    with torch.no_grad():
        fixed = a.detach()
        inside = fixed.clamp(min=_SMALL, max=_LARGE)
        # Above 1, a − log a; below, a logistic curve that tends to e^a and meets ω(1) = 1 closely enough.
        above = inside.clamp(min=1)
        omega = torch.where(inside > 1, above - above.log(), torch.sigmoid(inside - 0.5))
        for _ in range(_STEPS):
            residual = inside - omega - omega.log()
            grown = 1 + omega
            q = 2 * grown * (grown + residual * (2 / 3))
            omega = omega * (1 + residual / grown * (q - residual) / (q - 2 * residual))
        omega = torch.where(fixed <= _SMALL, fixed.exp(), omega)
        omega = torch.where(fixed >= _LARGE, fixed - fixed.log() * (1 - 1 / fixed), omega)
        omega = torch.where(fixed.isposinf(), torch.inf, omega)
    if not a.requires_grad:
        return omega
    slope = torch.where(omega.isinf(), 1, omega / (1 + omega))
    return omega + slope * (a - torch.where(fixed.isinf(), a, fixed)).nan_to_num()
