"""The summary of an audit in Markdown, for the summary page of a CI job."""

import re

from allmodes.audit.checks.findings import Finding
from allmodes.audit.diagnosis import Diagnosis
from allmodes.audit.prediction import Prediction
from allmodes.audit.reporting.overview import (
    OF_LOG,
    QUESTION,
    STATE_NAMES,
    lead,
    not_tested,
    other_counts,
    prediction_sentence,
    raised,
    raised_counts,
    verdict,
    verdict_line,
)
from allmodes.reports.formatting import listing, shown_name

_SIGNS = re.compile(r"([\\`*_\[\]|~#!])")  # characters with a meaning in Markdown


def markdown_summary(audit: Diagnosis, *, name: str) -> str:
    """The answer, issues and tips as a table, the prediction, and all other checks, in Markdown lines."""
    answer = f"{QUESTION} {verdict(audit)[0].capitalize()}."
    lines = [
        f"## {answer}",
        "",
        _text(verdict_line(audit).removeprefix(answer).strip(), 2 * OF_LOG),
        "",
        f"{_text(lead(audit, name=name))} {listing([*raised_counts(audit), *other_counts(audit)])}.",
        "",
    ]
    found = raised(audit)
    if found:
        lines += ["| | check | finding | what to change |", "| --- | --- | --- | --- |"]
        lines += [_row(finding) for finding in found]
        lines.append("")
    prediction = audit.prediction
    if isinstance(prediction, Prediction):
        lines += [f"**Predicted:** {_text(prediction_sentence(prediction), 2 * OF_LOG)}", ""]
    passed = [f for f in audit.findings if f.state in ("passed", "not applicable")]
    lines += [f"- {STATE_NAMES[f.state]}: {f.code} {_text(f.title)}. {_text(f.summary)}" for f in passed]
    for reason, findings in not_tested(audit).items():
        codes = ", ".join(finding.code for finding in findings)
        lines.append(f"- **{STATE_NAMES['skipped']}**: {codes}: {_text(reason)}")
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> str:
    cells = (
        STATE_NAMES[finding.state],
        f"{finding.code} {_text(finding.title)}",
        _text(finding.summary),
        _text(finding.remedy, 2 * OF_LOG),
    )
    return f"| {' | '.join(cells)} |"


def _text(text: str, width: int = OF_LOG) -> str:
    """A text on one line, escaped for Markdown except for pairs of backticks, which mark code."""
    parts = shown_name(text, width).split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick from the log
        return _escaped("`".join(parts))
    return "".join(
        "`{}`".format(part.replace("|", r"\|")) if number % 2 else _escaped(part)
        for number, part in enumerate(parts)
    )


def _escaped(text: str) -> str:
    return _SIGNS.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
