"""Figures of a log with their sampling errors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.audit.evidence import Evidence
from allmodes.audit.support import Support
from allmodes.audit.windows import error_of_mean

_LEAST_PROMPTS = 5  # from this number on, whole prompts are resampled; below it, single samples
_RESAMPLES = 100
_MOST_ROWS = 20_000  # of one resample; its error is then scaled to all rows


@final
@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over prompts and its standard error; NaN if there is none."""

    value: float
    error: float

    def is_above(self, bound: float) -> bool:
        """Whether the mean is above `bound` by two standard errors (or at all, without an error)."""
        return self.value - (0 if math.isnan(self.error) else 2 * self.error) > bound

    def is_below(self, bound: float) -> bool:
        """Whether the mean is below `bound` by two standard errors (or at all, without an error)."""
        return self.value + (0 if math.isnan(self.error) else 2 * self.error) < bound

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        has_error = self.error > 1e-6 * abs(self.value)  # neither NaN nor a rounding error
        return f"{shown(self.value)} ± {shown(self.error, digits=1)}" if has_error else shown(self.value)


def shown(value: float, *, digits: int = 3) -> str:
    """A number with this many significant digits, in plain notation up to a million."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if 10**digits <= abs(value) < 1e6 or "e+0" in text else text


def factor(log_ratio: Estimate) -> str:
    """A ratio as a text, from its logarithm in nats."""
    if math.isinf(log_ratio.value):
        return "infinitely many"
    return shown(math.exp(log_ratio.value)) if log_ratio.value < 13.8 else f"e^{log_ratio.value:.3g}"


def estimate(evidence: Evidence, statistics: Callable[[Support], list[Tensor]]) -> list[Estimate]:
    """Means over prompts of statistics of their items, (P,) each; NaN marks a prompt without a value.

    Errors are bootstrap errors over prompts; if fewer than 5 prompts have a value, over samples, which are
    then treated as independent. Source: Efron 1979.
    """
    found = statistics(evidence.support)
    defined = [_defined(values) for values in found]
    errors = [error_of_mean(values) for values in defined]
    is_few = [0 < len(values) < _LEAST_PROMPTS for values in defined]
    if any(is_few):
        over_samples = _errors_over_samples(evidence, statistics)
        errors = [
            other if few else error for few, other, error in zip(is_few, over_samples, errors, strict=True)
        ]
    return [
        Estimate(value=float(values.nanmean()), error=error)
        for values, error in zip(found, errors, strict=True)
    ]


def _errors_over_samples(evidence: Evidence, statistics: Callable[[Support], list[Tensor]]) -> list[float]:
    rows, beta = evidence.support_rows, evidence.beta_of_rewards
    size = min(len(rows), _MOST_ROWS)
    generator = torch.Generator().manual_seed(0)
    means: list[list[float]] = []
    for _ in range(_RESAMPLES):
        drawn = rows[torch.randint(len(rows), (size,), generator=generator)]
        means.append(
            [float(values.nanmean()) for values in statistics(evidence.support_of(drawn, beta=beta))]
        )
    columns = (_defined(column) for column in torch.tensor(means, dtype=torch.float64).T)
    return [
        float(column.std()) * math.sqrt(size / len(rows)) if len(column) > 1 else math.nan
        for column in columns
    ]


def _defined(values: Tensor) -> Tensor:
    return values[~values.isnan()]
