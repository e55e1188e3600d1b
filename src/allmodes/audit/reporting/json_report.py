"""An audit as plain data for report.json: numbers are not rounded, and NaN is null."""

import math
from collections.abc import Mapping
from typing import Any

import allmodes
from allmodes.audit.diagnosis import Diagnosis
from allmodes.audit.estimates import Estimate
from allmodes.audit.prediction import Prediction
from allmodes.audit.reporting.overview import verdict
from allmodes.audit.windows import Course


def json_report(audit: Diagnosis, *, name: str) -> dict[str, Any]:
    """The content of report.json for one log."""
    answer, reason = verdict(audit)
    return {
        "allmodes": allmodes.__version__,
        "log": {"name": name, **audit.log_report()},
        "settings": audit.config.model_dump(exclude_none=True),
        "verdict": {"answer": answer, "reason": reason},
        "counts": audit.counts,
        "findings": [
            {
                "code": finding.code,
                "title": finding.title,
                "state": finding.state,
                "summary": finding.summary,
                "remedy": finding.remedy,
                "numbers": plain(finding.numbers),
            }
            for finding in audit.findings
        ],
        "training": {name: _course(course) for name, course in audit.courses.items()},
        "prediction": prediction_json(audit.prediction),
    }


def prediction_json(prediction: Prediction | str) -> dict[str, Any]:
    """Predicted and observed figures, or the reason why there are none."""
    if isinstance(prediction, str):
        return {"missing": prediction}
    to_prediction, to_reference = prediction.distances
    return {
        "kind": prediction.kind,
        "kl": prediction.kl,
        "prompts": prediction.prompts.count,
        "samples_before": prediction.samples_before,
        "samples_after": prediction.samples_after,
        "after": prediction.after,
        "figures": {
            pair.name: {
                "before": plain(pair.before),
                "predicted": plain(pair.predicted),
                "observed": plain(pair.observed),
            }
            for pair in prediction.figures
        },
        "total_variation_to_prediction": plain(to_prediction),
        "total_variation_to_reference": plain(to_reference),
    }


def plain(value: Any) -> Any:
    """Numbers of findings as JSON values."""
    if isinstance(value, Estimate):
        return {"value": plain(value.value), "error": plain(value.error)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _course(course: Course) -> dict[str, Any]:
    return {
        "windows": [
            {
                "first_step": window.first_step,
                "last_step": window.last_step,
                "mean": plain(window.mean),
                "error": plain(window.error),
                "groups": len(window.values),
            }
            for window in course.windows
        ],
        "changes": course.changes,
    }
