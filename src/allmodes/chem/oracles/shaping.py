"""From a raw value to a score between 0 and 1, and from scores to one reward."""

import math
from collections.abc import Sequence

from allmodes.chem.oracles.config import (
    Aggregation,
    DoubleSigmoidShaping,
    NoShaping,
    Shaping,
    StepShaping,
    ValueMappingShaping,
)
from allmodes.chem.oracles.results import Failure

_LARGEST_EXPONENT = 300.0  # of 10, so that no score overflows


def shape(value: float, shaping: Shaping) -> float | Failure:
    """The score of a raw value.

    sigmoid:          1 / (1 + 10^(−10 k (x − (low + high)/2) / (high − low)))
    reverse_sigmoid:  1 / (1 + 10^(+10 k (x − (low + high)/2) / (high − low)))
    double_sigmoid:   1 / (1 + 10^(−(x − low) coef_si / coef_div))   where x < (low + high)/2, else
                      1 / (1 + 10^(+(x − high) coef_se / coef_div))
    step:             1 if low ≤ x ≤ high else 0
    value_mapping:    mapping[x]; a failure where x is not in it
    none:             x, which must lie in [0, 1]

    The sigmoids are REINVENT 4's: with low = −16, high = 0, k = 0.15 a docking score of −10 has 0.606.
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
    if isinstance(shaping, ValueMappingShaping):
        scores = {float(text): score for text, score in shaping.mapping.items()}
        if value not in scores:
            known = ", ".join(shaping.mapping)
            return Failure(
                "out_of_range", f"expected a value of `shaping.mapping`, one of {known}; got {value:g}"
            )
        return scores[value]
    middle = (shaping.low + shaping.high) / 2
    if isinstance(shaping, DoubleSigmoidShaping):
        rising = value < middle
        steepness = (shaping.coef_si if rising else shaping.coef_se) / shaping.coef_div
        exponent = steepness * (value - shaping.low if rising else shaping.high - value)
    else:
        position = (value - middle) / (shaping.high - shaping.low)
        exponent = 10 * shaping.k * position * (1 if shaping.kind == "sigmoid" else -1)
    return 1 / (1 + 10 ** min(-exponent, _LARGEST_EXPONENT))


def aggregate(scores: Sequence[float], weights: Sequence[float], how: Aggregation) -> float:
    """One reward from scores in [0, 1] and weights > 0.

    product:          Π sᵢ^wᵢ
    geometric_mean:   (Π sᵢ^wᵢ)^(1 / Σ wᵢ)
    arithmetic_mean:  Σ wᵢ sᵢ / Σ wᵢ
    """
    if how == "product":
        return math.prod(score**weight for score, weight in zip(scores, weights, strict=True))
    if how == "arithmetic_mean":
        weighted = (score * weight for score, weight in zip(scores, weights, strict=True))
        return math.fsum(weighted) / math.fsum(weights)
    # Relative to the largest, so that no power underflows where the mean does not.
    relative = [weight / max(weights) for weight in weights]
    return aggregate(scores, relative, "product") ** (1 / math.fsum(relative))
