"""Monotone Newton's method, used to find the multipliers of targets."""

from collections.abc import Callable

import torch
from torch import Tensor

from allmodes.errors import RunError

_MOST_STEPS = 200  # Newton's iterates rise until rounding stops them; they need 5 to 30


def climb(step: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Repeat a step that rises to its fixed point until it no longer rises; a last step carries gradients.

    Newton's method on a decreasing convex function, from the left of its root, is such a step. Raises
    RunError if 200 steps are not enough.
    """
    with torch.no_grad():
        value = start
        for _ in range(_MOST_STEPS):
            risen = step(value)
            if not bool((risen > value).any()):
                break
            value = torch.maximum(value, risen)
        else:
            raise RunError(f"a fixed point was not reached in {_MOST_STEPS} steps of Newton's method")
    return step(value) if torch.is_grad_enabled() else value


def normalised(log_p: Tensor) -> Tensor:
    """Log-probabilities that sum to 1 over the last dimension, (..., K)."""
    return log_p - torch.logsumexp(log_p, -1, keepdim=True)
