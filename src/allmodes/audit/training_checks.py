"""Whether diversity has fallen over training: the first window of steps beside the last."""

import math

from torch import Tensor

from allmodes.audit.evidence import Evidence
from allmodes.audit.findings import Answer, MissingError
from allmodes.audit.windows import Window, change_points, windows
from allmodes.audit.words import option
from allmodes.metrics import welch_test

_CLEAR = 0.01  # one-sided p-value from which on a fall is more than noise
_LESS, _HALF = 0.8, 0.5  # of the first window
_MANY = 0.5  # share of repeated responses that is an issue wherever it comes from


def falling_entropy(evidence: Evidence) -> Answer:
    """Entropy of the outcomes of a group."""
    found = evidence.group_figures
    ends = _ends(found.steps, found.entropy)
    return _fallen(evidence, ends, "The entropy of a group's outcomes", unit=" nats")


def falling_distinct(evidence: Evidence) -> Answer:
    """Different outcomes of a group over its samples."""
    found = evidence.group_figures
    ends = _ends(found.steps, found.distinct)
    return _fallen(evidence, ends, "The share of different outcomes in a group", unit="")


def falling_ngrams(evidence: Evidence) -> Answer:
    """Expectation-adjusted distinct n-grams of a group's responses."""
    steps, values = evidence.ead_of_groups
    return _fallen(evidence, _ends(steps, values), "EAD of a group's responses", unit="")


def rising_repeats(evidence: Evidence) -> Answer:
    """Responses that a group has said before."""
    found = evidence.group_figures
    first, last, changes = _ends(found.steps, found.repeated)
    p = welch_test(last.values.tolist(), first.values.tolist())
    has_risen = p < _CLEAR and last.mean > first.mean + (1 - _LESS) * (1 - first.mean)
    state = "issue" if has_risen and last.mean > _MANY else "tip" if has_risen else "passed"
    return Answer(
        state=state,
        summary=f"The share of repeated responses in a group {_course(first, last, p)}{_at(changes)}.",
        remedy=_remedy(evidence) if state != "passed" else "",
        numbers=_numbers(first, last, p, changes),
    )


def _fallen(evidence: Evidence, ends: tuple[Window, Window, list[int]], name: str, *, unit: str) -> Answer:
    first, last, changes = ends
    # welch_test is NaN where neither window varies and both are equal: nothing has fallen.
    p = welch_test(first.values.tolist(), last.values.tolist())
    is_clear = p < _CLEAR
    state = "passed"
    if is_clear and last.mean < _HALF * first.mean:
        state = "issue"
    elif is_clear and last.mean < _LESS * first.mean:
        state = "tip"
    return Answer(
        state=state,
        summary=f"{name} {_course(first, last, p, unit)}{_at(changes)}.",
        remedy=_remedy(evidence) if state != "passed" else "",
        numbers=_numbers(first, last, p, changes),
    )


def _ends(steps: Tensor, values: Tensor) -> tuple[Window, Window, list[int]]:
    """The first and the last window with a value, and the steps at which windows change their level."""
    known = [w for w in windows(steps, values) if not math.isnan(w.mean)]
    if len(known) < 2 or min(len(known[0].values), len(known[-1].values)) < 2:
        raise MissingError("the log has too few groups or steps to compare the first with the last")
    changes = change_points([w.mean for w in known])
    return known[0], known[-1], [known[at].first_step for at in changes]


def _course(first: Window, last: Window, p: float, unit: str = "") -> str:
    def words(window: Window) -> str:
        error = "" if math.isnan(window.error) else f" ± {window.error:.1g}"
        return f"{window.mean:.3g}{error}{unit} in steps {window.first_step} to {window.last_step}"

    test = "" if math.isnan(p) else f" (p = {p:.2g})"
    return f"was {words(first)} and is {words(last)}{test}"


def _at(changes: list[int]) -> str:
    return f", with changes at step {', '.join(map(str, changes))}" if changes else ""


def _numbers(
    first: Window, last: Window, p: float, changes: list[int]
) -> dict[str, float | list[int] | None]:
    return {
        "first": first.mean,
        "last": last.mean,
        "p": None if math.isnan(p) else p,
        "changes": changes,
    }


def _remedy(evidence: Evidence) -> str:
    trainer = evidence.config.trainer
    return (
        f"See what the optimum is (AM010); {option('mara', trainer)}, or a larger {option('beta', trainer)}."
    )
