"""Compare two logs: what changed between their audits, and what the first predicts for the second."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmodes.audit.audit import Audit
from allmodes.audit.checks.findings import Finding, MissingError, NotApplicableError
from allmodes.audit.checks.quality_checks import last_windows
from allmodes.audit.estimates import Estimate
from allmodes.audit.prediction import Prediction, predict_between
from allmodes.audit.reporting.figures import draw_prediction, draw_training
from allmodes.audit.reporting.json_report import json_report, plain, prediction_json
from allmodes.audit.reporting.overview import OF_LOG, STATE_NAMES, lead, verdict_line
from allmodes.audit.reporting.report import (
    draw_all,
    prediction_rows,
    settings_rows,
    write_page,
)
from allmodes.audit.reporting.terminal_summary import STATE_STYLES, prediction_line
from allmodes.audit.windows import SERIES, Series
from allmodes.metrics import welch_test
from allmodes.reports.comparison import p_cell
from allmodes.reports.formatting import shown_name
from allmodes.reports.pages import require_report_extra


@final
@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of the last windows of both logs. p: of Welch's one-sided test that the second is larger."""

    name: str
    first: Estimate
    second: Estimate
    p: float


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two audits. names: the names of their logs."""

    first: Audit
    second: Audit
    names: tuple[str, str]

    @cached_property
    def differences(self) -> dict[Series, Difference]:
        """Reward and diversity of the last windows, if both logs have them."""
        try:
            first, second = last_windows(self.first.evidence), last_windows(self.second.evidence)
        except MissingError:
            return {}
        return {
            name: Difference(
                name=SERIES[name],
                first=Estimate(value=first[name].mean, error=first[name].error),
                second=Estimate(value=second[name].mean, error=second[name].error),
                p=welch_test(second[name].values.tolist(), first[name].values.tolist()),
            )
            for name in SERIES
            if name in first and name in second
        }

    @cached_property
    def prediction(self) -> Prediction | str:
        """The prediction for the second log from the first log's samples, with the second's settings."""
        other = self.second.evidence
        try:
            return predict_between(self.first.evidence.under(other.objective), other)
        except (MissingError, NotApplicableError) as why:
            return str(why)


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write report.html and report.json into a folder, and return the page's path.

    Raises ConfigError without the extra `report`, and RunError if a file cannot be written.
    """
    require_report_extra()
    one, other = comparison.names
    prediction = comparison.prediction
    audits = _named(comparison)
    courses = [(name, audit.courses) for audit, name in audits]
    draw: dict[str, Callable[[], Any]] = {"training": lambda: draw_training(courses)}
    if isinstance(prediction, Prediction):
        draw["prediction"] = lambda: draw_prediction(prediction)
    pictures, why_not = draw_all(draw)
    return write_page(
        folder,
        "comparison.html",
        report=comparison_json(comparison),
        title=f"{one} and {other}",
        lead=" ".join(f"{name}: {verdict_line(audit)}" for audit, name in audits),
        remarks=[
            *(lead(audit, name=name) for audit, name in audits),
            "Errors are one standard error, from the bootstrap over groups.",
            *_remarks(comparison),
        ],
        names=comparison.names,
        averaged=comparison.second.averaged,
        differences=[_cells(difference) for difference in comparison.differences.values()],
        checks=[
            _states(first, second)
            for first, second in zip(comparison.first.findings, comparison.second.findings, strict=True)
        ],
        pictures=pictures,
        why_not=why_not,
        prediction=prediction_rows(prediction),
        settings=[(name, settings_rows(audit)) for audit, name in audits],
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The content of report.json for two logs."""
    return {
        "logs": [json_report(audit, name=name) for audit, name in _named(comparison)],
        "differences": {
            name: {"first": plain(d.first), "second": plain(d.second), "p_second_larger": plain(d.p)}
            for name, d in comparison.differences.items()
        },
        "prediction": prediction_json(comparison.prediction),
    }


def _named(comparison: Comparison) -> list[tuple[Audit, str]]:
    return list(zip((comparison.first, comparison.second), comparison.names, strict=True))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print figures of the last windows, checks whose state differs, and the prediction."""
    for audit, name in _named(comparison):
        console.print(Text(shown_name(f"{name}: {verdict_line(audit)}", 2 * OF_LOG), style="bold"))
        console.print(Text(lead(audit, name=name)))
    for remark in _remarks(comparison):
        console.print(Text(shown_name(remark, 2000), style="dim"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("last window", *comparison.names, "p (second larger)"):
        table.add_column(Text(heading))
    for difference in comparison.differences.values():
        row = _cells(difference)
        table.add_row(row["name"], row["first"], row["second"], row["p"])
    console.print(table)
    for one, other in zip(comparison.first.findings, comparison.second.findings, strict=True):
        if one.state != other.state:
            console.print(
                Text(f"{one.code} {one.title}: "),
                Text(STATE_NAMES[one.state], style=STATE_STYLES[one.state]),
                Text("→"),
                Text(STATE_NAMES[other.state], style=STATE_STYLES[other.state]),
            )
    prediction = comparison.prediction
    if isinstance(prediction, Prediction):
        console.print(prediction_line(prediction))
    else:
        console.print(Text(f"No prediction: {prediction}.", style="dim"))


def _remarks(comparison: Comparison) -> list[str]:
    """How both logs were read; only once if it is the same for both."""
    one, other = (audit.log.remarks for audit in (comparison.first, comparison.second))
    if one == other:
        return [" ".join(one)]
    return [f"{name}: {' '.join(own)}" for name, own in zip(comparison.names, (one, other), strict=True)]


def _states(first: Finding, second: Finding) -> dict[str, str]:
    return {
        "code": first.code,
        "title": first.title,
        "first": STATE_NAMES[first.state],
        "second": STATE_NAMES[second.state],
        "summary": second.summary,
    }


def _cells(difference: Difference) -> dict[str, Any]:
    p = p_cell(difference.p)
    return {
        "name": difference.name,
        "first": str(difference.first),
        "second": str(difference.second),
        "p": p.text,
        "is_clear": p.is_clear,
    }
