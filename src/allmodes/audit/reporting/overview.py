"""An audit in a few sentences, shared by the terminal summary, the page, the JSON report and notebooks."""

import html
from typing import TYPE_CHECKING, Literal

from allmodes.audit.checks.findings import Finding, State
from allmodes.audit.prediction import Prediction
from allmodes.reports.formatting import NBSP, plural, shown_name

if TYPE_CHECKING:
    from allmodes.audit.diagnosis import Diagnosis

STATE_NAMES: dict[State, str] = {
    "issue": "issue",
    "tip": "tip",
    "passed": "passed",
    "not applicable": "not applicable",
    "skipped": "not tested",
}
QUESTION = "Will this objective collapse?"
OF_LOG = 500  # largest number of characters of a summary, since it may quote the log
_NOT_TESTED = "Not tested: "
_FALLING, _TOKENS = ("AM050", "AM051", "AM052", "AM053"), "AM054"

Verdict = Literal["yes", "no", "not known"]


def verdict(audit: "Diagnosis") -> tuple[Verdict, str]:
    """Whether the objective collapses at its own optimum, and a sentence with the reason.

    From AM010: yes if it reports an issue or a tip, no if it passes clearly. Otherwise the answer
    is "not known", and the sentence says what is missing.
    """
    found = audit.of("AM010")
    if found.state not in ("issue", "tip", "passed"):
        reason = found.summary.removeprefix(_NOT_TESTED)
        return "not known", f"{reason[:1].upper()}{reason[1:]}"
    numbers = found.numbers
    if "effective" not in numbers:  # no KL acts
        return "yes", found.summary.split(" The optimum ")[0] + " Nothing brings back what the policy loses."
    evidence, count = audit.samples_evidence(), numbers["good"]
    reason = (
        f"The optimum keeps an effective number of {numbers['effective']} of {count:.3g} good "
        f"{evidence.kind}s of a prompt, and the likeliest has {numbers['top_share']} of their "
        f"mass.{evidence.assumption}"
    )
    if found.state != "passed":
        return "yes", reason
    bar = numbers["even_from"]
    if numbers["effective"].value < bar:
        return "not known", f"{reason} At least {bar:.3g} counts as even; more samples would decide it."
    return "no", reason


def verdict_line(audit: "Diagnosis") -> str:
    """The first line of the terminal summary and the page: the question, its answer, and the reason."""
    answer, reason = verdict(audit)
    return f"{QUESTION} {answer.capitalize()}. {reason}{_over_training(audit)}"


def _over_training(audit: "Diagnosis") -> str:
    """Whether diversity has fallen, as a sentence with a leading space; empty if nothing is known."""
    found = [audit.of(code) for code in _FALLING]
    tokens = audit.of(_TOKENS).state
    fallen = [finding.code for finding in found if finding.state in ("issue", "tip")]
    is_known = any(finding.state == "passed" for finding in found)
    said = f" Over training diversity has fallen ({', '.join(fallen)})." if fallen else ""
    if is_known and not fallen:
        said = " Over training diversity has not fallen clearly."
    if tokens in ("issue", "tip"):
        return (
            f"{said} {'Over training the' if not said else 'The'} entropy of tokens has fallen ({_TOKENS})."
        )
    if tokens == "passed" and not said:
        return (
            f" Over training the entropy of tokens has not fallen clearly ({_TOKENS}); the entropy of "
            "outcomes is not known."
        )
    return said


def lead(audit: "Diagnosis", *, name: str) -> str:
    """A sentence that describes the audited log."""
    config = audit.config
    beta = "β is not known" if config.beta is None else f"β{NBSP}={NBSP}{config.beta:g}"
    transform = "" if config.transform is None else f", {config.describe_transform()}"
    return f"{name}: {audit.contents}; {beta}{transform}."


def raised(audit: "Diagnosis") -> list[Finding]:
    """Issues, then tips."""
    return [finding for state in ("issue", "tip") for finding in audit.findings if finding.state == state]


def raised_counts(audit: "Diagnosis") -> list[str]:
    """`2 issues` and `1 tip`."""
    return [plural(audit.counts[state], state) for state in ("issue", "tip")]


def other_counts(audit: "Diagnosis") -> list[str]:
    """`12 passed`, `3 not applicable` and `4 not tested`."""
    return [
        f"{audit.counts[state]} {STATE_NAMES[state]}" for state in ("passed", "not applicable", "skipped")
    ]


def describe_counts(audit: "Diagnosis") -> str:
    """`2 issues, 1 tip; 12 passed, 3 not applicable, 4 not tested`."""
    return f"{', '.join(raised_counts(audit))}; {', '.join(other_counts(audit))}"


def prediction_sentence(prediction: Prediction) -> str:
    """The figures predicted from the optimum, with the observed figures."""
    figures = "; ".join(
        f"{pair.name} {pair.predicted}, observed {pair.observed}" for pair in prediction.figures
    )
    return f"{figures}. The prediction holds for {prediction.kl}.{prediction.assumption}"


def progress_sentence(prediction: Prediction) -> str:
    """How far a policy is on its way from the reference to the optimum predicted from the first samples."""
    figures = "; ".join(
        f"{pair.name} {pair.before} at the reference, {pair.predicted} at the optimum, {pair.observed} now"
        for pair in prediction.figures
    )
    to_optimum, to_reference = prediction.distances
    return (
        f"{prediction.after}: {figures}. Total variation distance to the optimum {to_optimum:.3f}, to the "
        f"reference {to_reference:.3f}. The optimum holds for {prediction.kl}.{prediction.assumption}"
    )


def not_tested(audit: "Diagnosis") -> dict[str, list[Finding]]:
    """The checks that were not tested, by reason."""
    found: dict[str, list[Finding]] = {}
    for finding in audit.findings:
        if finding.state == "skipped":
            found.setdefault(finding.summary.removeprefix(_NOT_TESTED), []).append(finding)
    return found


def html_summary(audit: "Diagnosis") -> str:
    """The verdict, issues and tips as an escaped HTML fragment."""
    rows = "".join(
        f"<tr><td>{STATE_NAMES[found.state]}</td><td>{found.code} {html.escape(found.title)}</td>"
        f"<td>{html.escape(shown_name(found.summary, OF_LOG))}<br>→ {html.escape(found.remedy)}</td></tr>"
        for found in raised(audit)
    )
    table = f"<table>{rows}</table>" if rows else ""
    return (
        f"<p><b>{html.escape(verdict_line(audit))}</b></p><p>{html.escape(lead(audit, name='Audit'))} "
        f"{html.escape(describe_counts(audit))}.</p>{table}"
    )
