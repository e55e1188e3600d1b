"""The terminal summary of an audit."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from allmodes.audit.checks.findings import State
from allmodes.audit.diagnosis import Diagnosis
from allmodes.audit.prediction import Prediction
from allmodes.audit.reporting.overview import (
    OF_LOG,
    STATE_NAMES,
    describe_counts,
    lead,
    not_tested,
    prediction_sentence,
    raised,
    verdict_line,
)
from allmodes.reports.formatting import shown_name

STATE_STYLES: dict[State, str] = {
    "issue": "bold red",
    "tip": "bold yellow",
    "passed": "green",
    "not applicable": "dim",
    "skipped": "dim",
}
_REMARKS = 2000  # largest number of characters of the remarks on how the log was read


def print_summary(audit: Diagnosis, console: Console, *, name: str) -> None:
    """Print the answer, issues and tips in full, the prediction, and the names of all other checks."""
    console.print(Text(shown_name(verdict_line(audit), 2 * OF_LOG), style="bold"))
    console.print(Text(lead(audit, name=name)))
    console.print(Text(shown_name(" ".join(audit.remarks), _REMARKS), style="dim"))
    for finding in raised(audit):
        console.print()
        state = Text(STATE_NAMES[finding.state], style=STATE_STYLES[finding.state])
        console.print(state, Text(f"{finding.code} {finding.title}", style="bold"))
        console.print(Padding(Text(shown_name(finding.summary, OF_LOG)), (0, 0, 0, 2)))
        console.print(Padding(Text(f"→ {finding.remedy}"), (0, 0, 0, 2)))
    prediction = audit.prediction
    if isinstance(prediction, Prediction):
        console.print()
        console.print(prediction_line(prediction))
    console.print()
    console.print(Text(describe_counts(audit), style="bold"))
    for state in ("passed", "not applicable"):
        checks = [f"{found.code} {found.title}" for found in audit.findings if found.state == state]
        if checks:
            line = f"{STATE_NAMES[state]}: {'; '.join(checks)}"
            console.print(Text(line, style=STATE_STYLES[state]))
    for reason, findings in not_tested(audit).items():
        checks = "; ".join(f"{found.code} {found.title}" for found in findings)
        line = f"{STATE_NAMES['skipped']}: {checks}: {shown_name(reason, OF_LOG)}"
        console.print(Text(line, style=STATE_STYLES["skipped"]))


def prediction_line(prediction: Prediction) -> Text:
    """The line with the figures predicted from the optimum and the observed figures."""
    return Text("Predicted: ", style="bold") + Text(prediction_sentence(prediction))
