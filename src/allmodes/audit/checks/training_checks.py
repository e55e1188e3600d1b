"""Whether diversity has fallen over training: the first window of steps beside the last."""

import math

from allmodes.audit.checks.findings import Answer, MissingError
from allmodes.audit.evidence import Evidence
from allmodes.audit.trainer_options import option
from allmodes.audit.windows import CLEAR, SERIES, Course, Series

_LESS, _HALF = 0.8, 0.5  # of the first window
_MANY = 0.5  # share of repeated responses that is an issue wherever it comes from


def falling_entropy(evidence: Evidence) -> Answer:
    """Entropy of the outcomes of a group."""
    return _fallen(evidence, "entropy")


def falling_distinct(evidence: Evidence) -> Answer:
    """Different outcomes of a group over its samples."""
    return _fallen(evidence, "distinct")


def falling_ngrams(evidence: Evidence) -> Answer:
    """Expectation-adjusted distinct n-grams of a group's responses."""
    return _fallen(evidence, "ead")


def rising_repeats(evidence: Evidence) -> Answer:
    """Responses that a group has said before."""
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


def _fallen(evidence: Evidence, name: Series) -> Answer:
    course = evidence.curves.course(name)
    is_clear = course.p_fallen < CLEAR
    state = "passed"
    if is_clear and course.last.mean < _HALF * course.first.mean:
        state = "issue"
    elif is_clear and course.last.mean < _LESS * course.first.mean:
        state = "tip"
    return Answer(
        state=state,
        summary=_summary(name, course, course.p_fallen),
        remedy=_remedy(evidence) if state != "passed" else "",
        numbers=_numbers(course, course.p_fallen),
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


def _remedy(evidence: Evidence) -> str:
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
