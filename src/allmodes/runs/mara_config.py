"""MARA's settings, the same for molecules and for language models."""

from typing import Literal

from allmodes.objectives import BatchQuantile, Constant, Threshold
from allmodes.runs.config import Config, Number, PositiveFloat, Probability


class BatchQuantileThreshold(Config):
    """τ is this quantile of the batch's rewards."""

    batch_quantile: Probability
    """τ is this quantile of the rewards of each batch; 0.9: the best tenth is good."""


class MaraConfig(Config):
    """From where on rewards are good, what the anchor is chosen from, and how large a bonus may be."""

    threshold: Number | BatchQuantileThreshold = 0.8
    """τ, the reward from which on all answers shall be equally likely."""
    anchor: Literal["group", "leave_one_out"] = "group"
    """The anchor is the likeliest good sample of the group (the paper), or of its other samples."""
    max_gap_bonus: PositiveFloat | None = None
    """Largest bonus β (log π_ref(z) − log π_ref(y)); no limit if left out."""

    def make_threshold(self) -> Threshold:
        """τ as a function of a batch's rewards."""
        if isinstance(self.threshold, BatchQuantileThreshold):
            return BatchQuantile(self.threshold.batch_quantile)
        return Constant(self.threshold)

    def in_words(self) -> str:
        """For reports."""
        tau = (
            f"quantile {self.threshold.batch_quantile:g} of each batch"
            if isinstance(self.threshold, BatchQuantileThreshold)
            else f"{self.threshold:g}"
        )
        limit = "" if self.max_gap_bonus is None else f"; bonus at most {self.max_gap_bonus:g}"
        return f"threshold τ = {tau}; anchor: {self.anchor.replace('_', ' ')}{limit}"
