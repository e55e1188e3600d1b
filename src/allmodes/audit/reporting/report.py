"""The report of an audit: one self-contained HTML file, and the same as JSON."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from allmodes.audit.checks.findings import STATES, Finding, MissingError, NotApplicableError, State
from allmodes.audit.diagnosis import Diagnosis
from allmodes.audit.prediction import Prediction
from allmodes.audit.reporting.figures import draw_bonus, draw_optimum, draw_prediction, draw_training
from allmodes.audit.reporting.json_report import json_report
from allmodes.audit.reporting.overview import (
    QUESTION,
    STATE_NAMES,
    lead,
    other_counts,
    raised,
    raised_counts,
    verdict,
    verdict_line,
)
from allmodes.reports.formatting import listing, plural
from allmodes.reports.pages import render_page, require_report_extra
from allmodes.reports.plotting import GREEN, MUTED, ORANGE, RED, figure_style, inline_svg
from allmodes.runs.files import write_text

_STATE_COLOURS: dict[State, str] = {
    "issue": RED,
    "tip": ORANGE,
    "passed": GREEN,
    "not applicable": MUTED,
    "skipped": MUTED,
}
# Sections by the first two digits of a code.
_SECTIONS = {
    "AM00": "The log",
    "AM01": "The optimum",
    "AM02": "MARA",
    "AM03": "Inverse probability scaling",
    "AM04": "The setup",
    "AM05": "Over training",
    "AM06": "The result",
}
_SETTINGS = {
    "trainer": "Trainer",
    "beta": "β",
    "kl": "KL",
    "scale_rewards": "Advantages divided by the standard deviation of",
    "transform": "Transform",
    "entropy": "η of the entropy bonus",
    "threshold": "τ",
    "threshold_quantile": "τ as a quantile",
    "group_size": "Group size",
    "max_tokens": "Longest response in tokens",
    "good": "Smallest good reward",
}


def write_report(audit: Diagnosis, folder: Path, *, name: str) -> Path:
    """Write report.html and report.json into a folder, and return the page's path.

    Raises ConfigError without the extra `report`, and RunError if a file cannot be written.
    """
    require_report_extra()
    answer, _ = verdict(audit)
    pictures, why_not = _pictures(audit)
    return write_page(
        folder,
        "report.html",
        report=json_report(audit, name=name),
        title=f"{QUESTION} {answer.capitalize()}",
        lead=code_spans(verdict_line(audit).removeprefix(f"{QUESTION} {answer.capitalize()}. ")),
        remarks=[
            f"{lead(audit, name=name)} {len(audit.findings)} checks: "
            f"{listing([*raised_counts(audit), *other_counts(audit)])}.",
            audit.method,
            *audit.remarks,
        ],
        raised=[_row(finding) for finding in raised(audit)],
        sections=_sections(audit),
        pictures=pictures,
        why_not=why_not,
        prediction=prediction_rows(audit.prediction),
        columns=audit.columns_read,
        averaged=audit.averaged,
        settings=settings_rows(audit),
    )


def write_page(folder: Path, template: str, *, report: Mapping[str, Any], **values: Any) -> Path:
    """Write report.html from a template and its values, and report.json; return the page's path."""
    page = render_page(
        Path(__file__).parent / "templates" / template,
        code_spans=code_spans,
        colours={STATE_NAMES[state]: _STATE_COLOURS[state] for state in reversed(STATES)},
        **values,
    )
    write_json(folder, report)
    path = folder / "report.html"
    write_text(path, page)
    return path


def write_json(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write only report.json, and return its path. Raises RunError if it cannot be written."""
    path = folder / "report.json"
    write_text(path, json.dumps(report, indent=1) + "\n")
    return path


def code_spans(text: str) -> str:
    """A text escaped for a page, with text between backticks as code."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick from the log
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def settings_rows(audit: Diagnosis) -> list[tuple[str, str]]:
    """The known settings of the training."""
    values = audit.config.model_dump(exclude_none=True)
    of_method = values.pop("settings", {})  # settings of the method, by its own names
    rows = [(_SETTINGS[key], str(value)) for key, value in values.items()]
    rows += [(f"{audit.config.transform}: {key}", str(value)) for key, value in of_method.items()]
    if not {"good", "threshold", "threshold_quantile"} & values.keys():
        with suppress(MissingError):  # raised if all rewards are equal
            rows.append((_SETTINGS["good"], f"{audit.samples_evidence().good_from:g}, suggested"))
    known = {name for name, _ in rows}
    unknown = [name for name in _SETTINGS.values() if name not in known]
    return [*rows, ("Not given", listing(unknown))] if unknown else rows


def prediction_rows(prediction: Prediction | str) -> dict[str, Any]:
    """Predicted and observed figures for a table, or the reason why there are none."""
    if isinstance(prediction, str):
        return {"missing": prediction}
    before = plural(prediction.samples_before, "sample")
    if prediction.kind == "outcome":
        source = (
            f"From {before} of the reference, over {plural(prediction.prompts.count, 'prompt')}, "
            f"compared with {plural(prediction.samples_after, 'sample')} of {prediction.after}."
        )
    else:
        source = (
            f"From {before} ({prediction.after}) with known log-probabilities under reference and policy, "
            "both normalised over these samples."
        )
    to_prediction, to_reference = prediction.distances
    return {
        "missing": "",
        "lead": (
            f"{source} The prediction holds for {prediction.kl}.{prediction.assumption} The total variation "
            f"distance of the observed shares to the prediction is {to_prediction:.3f}, and to the reference "
            f"{to_reference:.3f}."
        ),
        "rows": [
            (pair.name, str(pair.before), str(pair.predicted), str(pair.observed))
            for pair in prediction.figures
        ],
    }


def _row(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "title": finding.title,
        "state": STATE_NAMES[finding.state],
        "summary": finding.summary,
        "remedy": finding.remedy,
    }


def _sections(audit: Diagnosis) -> list[dict[str, Any]]:
    return [
        {"name": name, "rows": [_row(f) for f in audit.findings if f.code.startswith(prefix)]}
        for prefix, name in _SECTIONS.items()
    ]


def _pictures(audit: Diagnosis) -> tuple[dict[str, str], dict[str, str]]:
    """The figures that can be drawn, and the reasons for the missing ones."""
    prediction = audit.prediction
    draw: dict[str, Callable[[], Any]] = {
        "optimum": lambda: draw_optimum(audit.samples_evidence()),
        "bonus": lambda: draw_bonus(audit.samples_evidence()),
        "training": lambda: draw_training([("", audit.courses)]),
    }
    if isinstance(prediction, Prediction):
        draw["prediction"] = lambda: draw_prediction(prediction)
    return draw_all(draw)


def draw_all(draw: dict[str, Callable[[], Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Figures by name as elements of a page, and the reasons for those that cannot be drawn."""
    pictures, why_not = {}, {}
    with figure_style():
        for name, figure in draw.items():
            try:
                pictures[name] = inline_svg(figure())
            except (MissingError, NotApplicableError) as why:
                why_not[name] = str(why)
    return pictures, why_not
