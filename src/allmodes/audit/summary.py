"""An audit on one screen of a terminal."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from allmodes.audit.audit import Audit
from allmodes.audit.findings import State
from allmodes.audit.prediction import Prediction
from allmodes.audit.report import STATE_NAMES, counts_in_words, lead, raised
from allmodes.runs.words import shown_name

STATE_STYLES: dict[State, str] = {
    "issue": "bold red",
    "tip": "bold yellow",
    "passed": "green",
    "not applicable": "dim",
    "skipped": "dim",
}
_OF_LOG = 500  # characters of a summary, which may hold words of the log


def print_summary(audit: Audit, console: Console, *, name: str) -> None:
    """Issues and tips in full, the codes of all others, and prediction beside outcome."""
    console.print(Text(lead(audit, name=name)))
    for finding in raised(audit):
        console.print()
        state = Text(STATE_NAMES[finding.state], style=STATE_STYLES[finding.state])
        console.print(state, Text(f"{finding.code} {finding.title}", style="bold"))
        console.print(Padding(Text(shown_name(finding.summary, _OF_LOG)), (0, 0, 0, 2)))
        console.print(Padding(Text(f"→ {finding.remedy}"), (0, 0, 0, 2)))
    prediction = audit.prediction
    if isinstance(prediction, Prediction):
        console.print()
        console.print(prediction_line(prediction))
    console.print()
    console.print(Text(counts_in_words(audit), style="bold"))
    for state in ("passed", "not applicable"):
        codes = [finding.code for finding in audit.findings if finding.state == state]
        if codes:
            console.print(Text(f"{STATE_NAMES[state]}: ", style=STATE_STYLES[state]) + Text(" ".join(codes)))
    reasons: dict[str, list[str]] = {}
    for finding in audit.findings:
        if finding.state == "skipped":
            reasons.setdefault(finding.summary, []).append(finding.code)
    for reason, codes in reasons.items():
        words = f"{' '.join(codes)} {shown_name(reason, _OF_LOG)}"
        console.print(Text(words, style=STATE_STYLES["skipped"]))


def prediction_line(prediction: Prediction) -> Text:
    """The figures that the optimum predicts, beside those observed."""
    figures = "; ".join(
        f"{pair.name} {pair.predicted}, observed {pair.observed}" for pair in prediction.figures
    )
    return Text("Predicted: ", style="bold") + Text(
        f"{figures}. The prediction holds for {prediction.kl}.{prediction.assumption}"
    )
