"""Reward and diversity of the last window of steps, with bootstrap errors."""

import math

from allmodes.audit.checks.findings import Answer, MissingError
from allmodes.audit.estimates import Estimate
from allmodes.audit.evidence import Evidence
from allmodes.audit.windows import CLEAR, SERIES, Series, Window
from allmodes.reports.formatting import listing

_FALL = 0.05  # of the range of the rewards


def last_windows(evidence: Evidence) -> dict[Series, Window]:
    """Reward and diversity of the last window of steps, or of all samples of a log without steps.

    Figures without a column in the log are left out. Raises MissingError if none is left.
    """
    found: dict[Series, Window] = {}
    for name in SERIES:
        try:
            found[name] = evidence.curves.last_window(name)
        except MissingError:
            continue  # its own check reports it as not tested
    if not found:
        raise MissingError("the log has no rewards and no outcomes or responses")
    return found


def quality_and_diversity(evidence: Evidence) -> Answer:
    """Whether the reward has fallen, with all figures of the last window."""
    estimates: dict[Series, Estimate] = {
        name: Estimate(value=window.mean, error=window.error)
        for name, window in last_windows(evidence).items()
    }
    figures = listing([f"{SERIES[name]} {estimate}" for name, estimate in estimates.items()])
    if evidence.log.steps is None:
        return Answer(
            state="skipped",
            summary=f"Not tested: the log has no column `step`. All samples: {figures}.",
            numbers={**estimates},
        )
    course = evidence.curves.course("reward")
    p = course.p_fallen
    rewards = evidence.samples.rewards[~evidence.samples.rewards.isnan()]
    least = _FALL * float(rewards.max() - rewards.min())
    has_fallen = p < CLEAR and course.last.mean < course.first.mean - least
    return Answer(
        state="tip" if has_fallen else "passed",
        summary=f"The reward {course.describe(p)}. The last window: {figures}.",
        remedy="Training has made the samples worse: see AM021, AM040, AM041 and AM042."
        if has_fallen
        else "",
        numbers={**estimates, "first_reward": course.first.mean, "p": None if math.isnan(p) else p},
    )
