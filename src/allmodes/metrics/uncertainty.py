"""Means with their spread, and whether two of them differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.checks import check_finite
from allmodes.errors import InputError


@final
@dataclass(frozen=True, kw_only=True)
class Summary:
    """mean, standard deviation (divisor n − 1; NaN for one value) and number of values."""

    mean: float
    std: float
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard deviation over seeds. Raises InputError for no values.

    >>> summarise([0.0, 1.0, 2.0])
    Summary(mean=1.0, std=1.0, count=3)
    """
    if len(values) == 0:
        raise InputError("`values` must hold at least one number; got none")
    scale = _power_of_two(values)
    scaled = [value / scale for value in values]
    mean = math.fsum(scaled) / len(scaled)
    if len(values) == 1:
        return Summary(mean=mean * scale, std=math.nan, count=1)
    variance = math.fsum((value - mean) ** 2 for value in scaled) / (len(scaled) - 1)
    return Summary(mean=mean * scale, std=math.sqrt(variance) * scale, count=len(values))


def _power_of_two(values: Sequence[float]) -> float:
    """What to divide by for sums of squares to stay finite: exact, and 1 for numbers of usual size."""
    largest = max(map(abs, values))
    return 2.0 ** (math.frexp(largest)[1] - 1) if 1e100 < largest < math.inf else 1.0


def bootstrap_sem(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> float:
    """Standard error of the mean by the bootstrap: the spread of the means of resampled values.

    values: (n,), one a unit that is resampled whole (a prompt, say). NaN for fewer than two. Approaches
    std √((n−1)/n) / √n as the resamples grow. Raises InputError for values that are not finite or fewer than
    two resamples. Source: MARA, Tables 1 and 5; Efron 1979.

    >>> round(bootstrap_sem([0.0, 1.0, 1.0, 0.0]), 2)
    0.25
    """
    data = torch.as_tensor(values, dtype=torch.float64)
    check_finite("values", data)
    scale = _power_of_two([float(data.abs().max())]) if len(data) else 1.0
    data = data / scale
    if resamples < 2:
        raise InputError(f"`resamples` must be at least 2; got {resamples}")
    if len(data) < 2:
        return math.nan
    generator = torch.Generator().manual_seed(seed)
    means: list[Tensor] = []
    block = max(1, min(resamples, 2**18 // len(data)))  # bounds the memory of the drawn indices
    for start in range(0, resamples, block):
        shape = (min(block, resamples - start), len(data))
        means.append(data[torch.randint(len(data), shape, generator=generator)].mean(1))
    return float(torch.cat(means).std()) * scale


def welch_test(greater: Sequence[float], lesser: Sequence[float]) -> float:
    """One-sided p-value that the mean of `greater` is not larger than that of `lesser`.

    t = (m₁ − m₂) / √(s₁²/n₁ + s₂²/n₂),  ν = (s₁²/n₁ + s₂²/n₂)² / Σ (sᵢ²/nᵢ)²/(nᵢ − 1),  p = P(T_ν ≥ t)

    NaN when a side has fewer than two values, or neither side varies and the means are equal.
    Source: Welch 1947; the test of MARA's Table 2, without its assumption of equal variances.

    >>> round(welch_test([0.9, 0.8, 0.85], [0.5, 0.6, 0.55]), 4)
    0.0009
    """
    if min(len(greater), len(lesser)) < 2:
        return math.nan
    scale = _power_of_two([*greater, *lesser])  # of which t and ν do not depend
    one, two = (summarise([value / scale for value in side]) for side in (greater, lesser))
    errors = [side.std / math.sqrt(side.count) for side in (one, two)]
    error = math.hypot(*errors)
    if error == 0:
        return math.nan if one.mean == two.mean else float(one.mean < two.mean)
    t = (one.mean - two.mean) / error
    shares = [(part / error) ** 2 for part in errors]
    freedom = 1 / (shares[0] ** 2 / (one.count - 1) + shares[1] ** 2 / (two.count - 1))
    near = t * t / (freedom + t * t)
    if near < 0.5:  # the direct form would lose p − ½ to rounding where the means nearly agree
        tail = 0.5 * (1 - _incomplete_beta(0.5, freedom / 2, near))
    else:
        tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return tail if t >= 0 else 1 - tail


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised I_x(a, b) by its continued fraction (DLMF 8.17.22), evaluated with Lentz's method.

    Written here because metrics stand on torch alone, and torch has no incomplete beta function.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only below its turning point
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a
