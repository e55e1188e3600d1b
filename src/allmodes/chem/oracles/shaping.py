"""From a raw value to a score between 0 and 1, and from scores to one reward."""

import math
from collections.abc import Sequence
from typing import Literal

from allmodes.chem.oracles.results import Failure
from allmodes.runs.oracle_config import NoShaping, Shaping, StepShaping


def shape(value: float, shaping: Shaping) -> float | Failure:
    """The score of a raw value.

    sigmoid:          1 / (1 + 10^(−10 k (x − (low + high)/2) / (high − low)))
    reverse_sigmoid:  1 / (1 + 10^(+10 k (x − (low + high)/2) / (high − low)))
    step:             1 if low ≤ x ≤ high else 0
    none:             x, which must lie in [0, 1]

    The sigmoids are REINVENT's: with low = −16, high = 0, k = 0.15 a docking score of −10 has .606.
    """
    if isinstance(shaping, NoShaping):
        if not 0 <= value <= 1:
            message = f"expected a value between 0 and 1; got {value:g}: give the component a shaping"
            return Failure("out_of_range", message)
        return value
    if isinstance(shaping, StepShaping):
        low = -math.inf if shaping.low is None else shaping.low
        high = math.inf if shaping.high is None else shaping.high
        return float(low <= value <= high)
    position = (value - (shaping.low + shaping.high) / 2) / (shaping.high - shaping.low)
    exponent = 10 * shaping.k * position * (-1 if shaping.kind == "sigmoid" else 1)
    return 1 / (1 + 10 ** min(exponent, 300.0))


def aggregate(scores: Sequence[float], how: Literal["geometric_mean", "product"]) -> float:
    """One reward from scores ≥ 0: their product, or its n-th root (equal weights)."""
    product = math.prod(scores)
    return product if how == "product" else product ** (1 / len(scores))
