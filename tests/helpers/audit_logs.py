"""Logs that tests write down, as an audit reads them."""

import math
from typing import Any

from allmodes.audit.config import AuditConfig
from allmodes.audit.evidence import Evidence
from allmodes.audit.logs.log import read_log
from allmodes.audit.logs.sources import RecordSource


def evidence(rows: list[dict[str, Any]], **settings: Any) -> Evidence:
    """What an audit with these settings knows of the rows."""
    return Evidence(read_log(RecordSource(list(rows)), dict), AuditConfig.model_validate(settings))


def numbers(column: Any) -> list[float | None]:
    """A column of a log that is there, None for NaN."""
    assert column is not None
    return [None if math.isnan(value) else value for value in column.tolist()]
