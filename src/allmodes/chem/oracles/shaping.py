"""Transforms of raw values to scores between 0 and 1, and aggregation of scores to one reward."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from allmodes.chem.oracles.results import Failure
from allmodes.reports.formatting import number
from allmodes.runs.config import Config, Number, PositiveFloat, Probability

Aggregation = Literal["geometric_mean", "arithmetic_mean", "product"]

_LARGEST_EXPONENT = 300.0  # of 10, so that no score overflows


class NoShaping(Config):
    """The raw value is the score; it must lie between 0 and 1."""

    kind: Literal["none"] = "none"
    """The raw value is the score."""

    def score(self, value: float) -> float | Failure:
        """x, which must lie in [0, 1]."""
        if not 0 <= value <= 1:
            message = f"expected a value between 0 and 1; got {value:g}: give the component a shaping"
            return Failure("out_of_range", message)
        return value

    def describe(self) -> str:
        """For reports."""
        return "none: the raw value is the score"


class SigmoidShaping(Config):
    """Sigmoid from 0 below `low` to 1 above `high`; "reverse_sigmoid" falls instead."""

    kind: Literal["sigmoid", "reverse_sigmoid"]
    """Rising, or falling."""
    low: Number
    """Value at which the score is near 0 (falling: near 1)."""
    high: Number
    """Value at which the score is near 1 (falling: near 0)."""
    k: PositiveFloat
    """Steepness."""

    @model_validator(mode="after")
    def _ordered(self) -> "SigmoidShaping":
        if not self.low < self.high:
            raise ValueError(f"low < high; low is {self.low}, high is {self.high}")
        return self

    def score(self, value: float) -> float:
        """1 / (1 + 10^(−10 k (x − (low + high)/2) / (high − low))); reversed with +10 k.

        REINVENT 4's: with low = −16, high = 0, k = 0.15, reversed, a docking score of −10 has 0.606.
        """
        position = (value - (self.low + self.high) / 2) / (self.high - self.low)
        return _sigmoid(10 * self.k * position * (1 if self.kind == "sigmoid" else -1))

    def describe(self) -> str:
        """For reports."""
        below, above = ("low", "high") if self.kind == "sigmoid" else ("high", "low")
        kind = self.kind.replace("_", " ")
        return f"{kind}: {below} below {number(self.low)}, {above} above {number(self.high)} (k = {self.k:g})"


class DoubleSigmoidShaping(Config):
    """1 between `low` and `high`, 0 beyond both; REINVENT 4's, with its names and steepnesses.

    coef_si / coef_div is the steepness at `low`, coef_se / coef_div that at `high`, in units of the value.
    """

    kind: Literal["double_sigmoid"]
    """Good between two values."""
    low: Number
    """Value below which the score falls to 0."""
    high: Number
    """Value above which the score falls to 0."""
    coef_div: PositiveFloat = 100.0
    """Divisor of both steepnesses."""
    coef_si: PositiveFloat = 150.0
    """Steepness at `low`, times `coef_div`."""
    coef_se: PositiveFloat = 150.0
    """Steepness at `high`, times `coef_div`."""

    @model_validator(mode="after")
    def _ordered(self) -> "DoubleSigmoidShaping":
        if not self.low < self.high:
            raise ValueError(f"low < high; low is {self.low}, high is {self.high}")
        return self

    def score(self, value: float) -> float:
        """1 / (1 + 10^(−(x − low) coef_si / coef_div)) below the middle; above, (x − high) coef_se."""
        rising = value < (self.low + self.high) / 2
        steepness = (self.coef_si if rising else self.coef_se) / self.coef_div
        return _sigmoid(steepness * (value - self.low if rising else self.high - value))

    def describe(self) -> str:
        """For reports."""
        rise, fall = (number(steepness / self.coef_div) for steepness in (self.coef_si, self.coef_se))
        between = f"high from {number(self.low)} to {number(self.high)}"
        return f"double sigmoid: {between}, low beyond (steepness {rise} and {fall})"


class ValueMappingShaping(Config):
    """The score of a value from `mapping`; a value that is not in it is a failure."""

    kind: Literal["value_mapping"]
    """A score for each value."""
    mapping: Annotated[dict[str, Probability], Field(min_length=1)]
    """Scores by value, such as { "0" = 1.0, "1" = 0.5 }."""

    @field_validator("mapping")
    @classmethod
    def _of_numbers(cls, mapping: dict[str, float]) -> dict[str, float]:
        values = {}
        for text in mapping:
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise ValueError(f"numbers as keys; one key is {text!r}")
            if value in values:
                raise ValueError(f"each value once; {values[value]!r} and {text!r} are the same number")
            values[value] = text
        return mapping

    def score(self, value: float) -> float | Failure:
        """mapping[x]; a failure if x is not in it."""
        scores = {float(text): score for text, score in self.mapping.items()}
        if value not in scores:
            known = ", ".join(self.mapping)
            return Failure(
                "out_of_range", f"expected a value of `shaping.mapping`, one of {known}; got {value:g}"
            )
        return scores[value]

    def describe(self) -> str:
        """For reports."""
        scores = (f"{number(float(text))} to {number(score)}" for text, score in self.mapping.items())
        return f"value mapping: {', '.join(scores)}; any other value is a failure"


class StepShaping(Config):
    """1 if low ≤ value ≤ high, else 0; a missing bound is no limit."""

    kind: Literal["step"]
    """Good within bounds."""
    low: Number | None = None
    """Smallest good value; no bound if left out."""
    high: Number | None = None
    """Largest good value; no bound if left out."""

    @model_validator(mode="after")
    def _bounded(self) -> "StepShaping":
        if self.low is None and self.high is None:
            raise ValueError("at least one of low and high")
        return self

    def score(self, value: float) -> float:
        """1 within the bounds, else 0."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return float(low <= value <= high)

    def describe(self) -> str:
        """For reports."""
        low, high = (None if bound is None else number(bound) for bound in (self.low, self.high))
        if high is None:
            return f"step: 1 from {low} up, else 0"
        return f"step: 1 up to {high}, else 0" if low is None else f"step: 1 from {low} to {high}, else 0"


class LinearShaping(Config):
    """0 up to `low`, 1 at or above `high`, linear in between; "reverse_linear" falls instead."""

    kind: Literal["linear", "reverse_linear"]
    """Rising, or falling."""
    low: Number = 0.0
    """Value up to which the score is 0 (falling: 1)."""
    high: Number
    """Value at or above which the score is 1 (falling: 0)."""

    @model_validator(mode="after")
    def _ordered(self) -> "LinearShaping":
        if not self.low < self.high:
            raise ValueError(f"low < high; low is {self.low}, high is {self.high}")
        return self

    def score(self, value: float) -> float:
        """(x − low) / (high − low), cut off at 0 and 1; 1 minus that for "reverse_linear"."""
        rising = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return rising if self.kind == "linear" else 1.0 - rising

    def describe(self) -> str:
        """For reports."""
        first, last = ("0", "1") if self.kind == "linear" else ("1", "0")
        low, high = number(self.low), number(self.high)
        return f"linear: {first} up to {low}, {last} from {high} up, a straight line between"


class GaussianShaping(Config):
    """A bell around `center`; or one flank of it, with 1 on the other side."""

    kind: Literal["gaussian"]
    """Good near a value."""
    center: Number
    """Value at which the score is 1."""
    width: PositiveFloat
    """Standard deviation: at this distance the score is 0.607."""
    good: Literal["near", "above", "below"] = "near"
    """"above": 1 from `center` up, "below": 1 up to `center`; the bell's flank on the other side."""

    def score(self, value: float) -> float:
        """exp(−(x − center)² / (2 width²)), or 1 on the good side.

        GuacaMol's GaussianModifier, MaxGaussianModifier ("above") and MinGaussianModifier ("below").
        """
        away = (value - self.center) / self.width
        if (self.good == "above" and away > 0) or (self.good == "below" and away < 0):
            return 1.0
        return math.exp(-away * away / 2)

    def describe(self) -> str:
        """For reports."""
        side = {"near": "", "above": " and above it", "below": " and below it"}[self.good]
        return f"Gaussian: 1 at {number(self.center)}{side} (standard deviation {number(self.width)})"


Shaping = Annotated[
    NoShaping
    | SigmoidShaping
    | DoubleSigmoidShaping
    | StepShaping
    | ValueMappingShaping
    | LinearShaping
    | GaussianShaping,
    Field(discriminator="kind"),
]


def _sigmoid(exponent: float) -> float:
    """1 / (1 + 10^−exponent)."""
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
