"""Whether diversity has fallen over training: the first window of steps compared with the last."""

import math

from allmodes.audit.checks.findings import Answer, MissingError, NotApplicableError
from allmodes.audit.evidence import Evidence
from allmodes.audit.objective import Setup
from allmodes.audit.trainer_options import option
from allmodes.audit.windows import CLEAR, SERIES, Course, Series
from allmodes.metrics import welch_test
from allmodes.reports.formatting import p_relation

_LESS, _HALF = 0.8, 0.5  # of the first window
_MORE = 1.1  # a KL rises if it exceeds this multiple of an earlier window
_LEAST_WINDOWS = 3
NO_KL = "no KL acts, so nothing ties the policy to the reference (AM010)"
_MANY = 0.5  # above this share, repeated responses are an issue whatever their cause


def falling_entropy(evidence: Evidence) -> Answer:
    """Entropy of the outcomes of a group."""
    return fallen("entropy", evidence.curves.course("entropy"), evidence)


def falling_distinct(evidence: Evidence) -> Answer:
    """Different outcomes of a group over its samples."""
    return fallen("distinct", evidence.curves.course("distinct"), evidence)


def falling_ngrams(evidence: Evidence) -> Answer:
    """Expectation-adjusted distinct n-grams of a group's responses."""
    return fallen("ead", evidence.curves.course("ead"), evidence)


def rising_repeats(evidence: Evidence) -> Answer:
    """Share of responses that repeat an earlier response of the group."""
    if evidence.log.responses is None:
        raise MissingError("the log has no column `response`")
    course = evidence.curves.course("repeated")
    first, last = course.first, course.last
    has_risen = course.p_risen < CLEAR and last.mean > first.mean + (1 - _LESS) * (1 - first.mean)
    state = "issue" if has_risen and last.mean > _MANY else "tip" if has_risen else "passed"
    return Answer(
        state=state,
        summary=_summary("repeated", course, course.p_risen),
        remedy=_remedy(evidence) if state != "passed" else "",
        numbers=_numbers(course, course.p_risen),
    )


def falling_token_entropy(evidence: Evidence) -> Answer:
    """Entropy of the policy over the next token, estimated by −log π of what it drew."""
    return fallen("token_entropy", evidence.curves.course("token_entropy"), evidence)


def rising_kl(evidence: Evidence) -> Answer:
    """Whether the policy still moves away from the reference at the end."""
    if evidence.objective.lacks_kl:
        raise NotApplicableError(NO_KL)
    return still_rising(evidence.curves.course("kl"))


def fallen(name: Series, course: Course, setup: Setup) -> Answer:
    """The finding for a figure of diversity over training."""
    is_clear = course.p_fallen < CLEAR
    state = "passed"
    if is_clear and course.last.mean < _HALF * course.first.mean:
        state = "issue"
    elif is_clear and course.last.mean < _LESS * course.first.mean:
        state = "tip"
    return Answer(
        state=state,
        summary=_summary(name, course, course.p_fallen),
        remedy=_remedy(setup) if state != "passed" else "",
        numbers=_numbers(course, course.p_fallen),
    )


def still_rising(course: Course) -> Answer:
    """Whether the KL rises from the window that ends the first two thirds to the last.

    A policy at the optimum of its objective has stopped moving away from the reference.
    """
    if len(course.windows) < _LEAST_WINDOWS:
        raise MissingError("the log has too few groups or steps to compare the last third with the first two")
    before = course.windows[len(course.windows) * 2 // 3 - 1]
    p = welch_test(course.last.values.tolist(), before.values.tolist())
    is_rising = p < CLEAR and course.last.mean > _MORE * before.mean
    test = "" if math.isnan(p) else f" (p {p_relation(p)})"
    return Answer(
        state="tip" if is_rising else "passed",
        summary=(
            f"The {SERIES['kl']} was {before.describe()} and is {course.last.describe()}{test}: "
            + ("it still rises." if is_rising else "it no longer rises clearly.")
        ),
        remedy=(
            "The policy has not reached the optimum yet. Train longer, or judge the objective by its "
            "optimum (AM010)."
        )
        if is_rising
        else "",
        numbers={"before": before.mean, **_numbers(course, p)},
    )


def _summary(name: Series, course: Course, p: float) -> str:
    changes = f", with changes at step {', '.join(map(str, course.changes))}" if course.changes else ""
    return f"The {SERIES[name]} {course.describe(p)}{changes}."


def _numbers(course: Course, p: float) -> dict[str, float | list[int] | None]:
    return {
        "first": course.first.mean,
        "last": course.last.mean,
        "p": None if math.isnan(p) else p,
        "changes": course.changes,
    }


def _remedy(evidence: Setup) -> str:
    beta = option("beta", evidence.config.trainer)
    mara = option("mara", evidence.config.trainer)
    if evidence.objective.is_per_token and not evidence.objective.lacks_kl:
        return (
            "The optimum of a KL per token is not known here (AM041). For one that keeps every good answer, "
            f"use {mara}; otherwise raise {beta}."
        )
    if evidence.objective.uses_mara:
        return f"The optimum is even (AM010): see AM021 and AM040 to AM043, or raise {beta}."
    return f"If the optimum is uneven (AM010), use {mara}; otherwise raise {beta}."
