"""`allmodes audit`: read one or two logs; write a page, a JSON report, and a terminal summary."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from allmodes.audit.audit import CHECKS, Audit, audit_source
from allmodes.audit.choices import Summary
from allmodes.audit.config import AuditConfig
from allmodes.audit.diagnosis import Diagnosis
from allmodes.audit.logs.reading import Reading
from allmodes.audit.logs.sources import SAMPLES, SETTINGS
from allmodes.audit.reporting.compare import (
    Comparison,
    comparison_json,
    print_comparison,
    write_comparison,
)
from allmodes.audit.reporting.json_report import json_report
from allmodes.audit.reporting.markdown_summary import markdown_summary
from allmodes.audit.reporting.overview import STATE_NAMES
from allmodes.audit.reporting.report import write_json, write_report
from allmodes.audit.reporting.terminal_summary import print_summary
from allmodes.audit.scalars.audit import ScalarAudit, audit_scalars
from allmodes.audit.scalars.files import METRICS, ScalarFiles, find_scalars
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.reports.formatting import shown_name
from allmodes.reports.pages import require_report_extra
from allmodes.reports.progress import progress_bar
from allmodes.runs.config import build_config, read_config_file
from allmodes.runs.terminal import console as errors


def audit_path(
    path: Path,
    settings: Mapping[str, Any],
    reading: Reading,
    *,
    out: Path,
    console: Console,
    summary: Summary = "terminal",
) -> Diagnosis:
    """Audit a file or folder: print a summary, and write report.html and report.json into a folder in `out`.

    Without the extra `report` no page is written, and a line says so. With summary="markdown", standard
    output holds the summary only.

    settings: of AuditConfig; they override those in the folder's audit.json. Raises InputError for a log or
    settings that cannot be read, and RunError if `out` cannot be written.
    """
    means = _find_means(path, reading)
    audit = (
        _audit(path, settings, reading, folder=out)
        if means is None
        else _audit_means(path, means, settings, reading)
    )
    name = log_name(path)
    if summary == "markdown":
        print(markdown_summary(audit, name=name), end="")
    else:
        print_summary(audit, console, name=name)
    _write(
        out,
        page=lambda: write_report(audit, out, name=name),
        report=lambda: json_report(audit, name=name),
        console=errors if summary == "markdown" else console,
    )
    return audit


def compare_paths(
    paths: tuple[Path, Path], settings: Mapping[str, Any], reading: Reading, *, out: Path, console: Console
) -> Audit:
    """Audit two logs side by side and return the audit of the second. Raises as `audit_path` does."""
    for path in paths:
        if _find_means(path, reading) is not None:
            raise InputError(
                f"--compare: expected two logs of samples; {path} holds means, which cannot be compared"
            )
    first, second = (
        _audit(path, settings, reading, folder=out / place)
        for path, place in zip(paths, ("first", "second"), strict=True)
    )
    comparison = Comparison(first=first, second=second, names=_names(paths))
    print_comparison(comparison, console)
    _write(
        out,
        page=lambda: write_comparison(comparison, out),
        report=lambda: comparison_json(comparison),
        console=console,
    )
    return second


def fail_on_findings(audit: Diagnosis, codes: Sequence[str]) -> None:
    """Raise RunError if one of these checks reports an issue or a tip, or was not tested.

    codes: codes of checks, or "issue" for any issue. A check that is named here and was skipped also fails,
    since it gives no answer. Raises InputError for an unknown code, as `check_codes` does.
    """
    check_codes(codes)
    failed = [
        finding
        for finding in audit.findings
        if (finding.code in codes and finding.state in ("issue", "tip", "skipped"))
        or ("issue" in codes and finding.state == "issue")
    ]
    if failed:
        line = "; ".join(f"{found.code} ({STATE_NAMES[found.state]}) {found.summary}" for found in failed)
        raise RunError(f"--fail-on: {line}")


def check_codes(codes: Sequence[str]) -> None:
    """Raise InputError for a text that is neither a check's code nor "issue"."""
    known = [check.code for check in CHECKS]
    unknown = next((code for code in codes if code not in (*known, "issue")), None)
    if unknown is not None:
        raise InputError(f"--fail-on: expected issue or one of {', '.join(known)}; got {unknown!r}")


def log_name(path: Path, *, parts: int = 1) -> str:
    """The name of a log in a report: the last part of its path, so that no home folder is shown."""
    return shown_name("/".join(path.resolve().parts[-parts:]), 60)


def _write(
    folder: Path, *, page: Callable[[], Path], report: Callable[[], Mapping[str, Any]], console: Console
) -> None:
    """Write page and JSON report, and return a line that names them (no page without `report`)."""
    try:
        require_report_extra()
    except ConfigError as missing:  # findings and exit code do not depend on the page
        path = write_json(folder, report())
        line = f"report: {path} (without report.html: {missing})"
    else:
        line = f"report: {page()}"
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def _names(paths: tuple[Path, Path]) -> tuple[str, str]:
    """The shortest final parts of two paths that differ."""
    for parts in range(1, max(len(path.resolve().parts) for path in paths)):
        names = log_name(paths[0], parts=parts), log_name(paths[1], parts=parts)
        if names[0] != names[1]:
            return names
    return log_name(paths[0]), log_name(paths[1])


def _find_means(path: Path, reading: Reading) -> ScalarFiles | None:
    """The means at a path; None for a log of samples, or if the flags say how to read samples."""
    says_how = bool(reading.columns) or reading.rewards is not None or reading.outcome_pattern is not None
    if reading.format == "means" and says_how:
        raise InputError("--format means: expected no --columns, --rewards or --outcome-pattern")
    return None if says_how else find_scalars(path, reading.format)


def _audit_means(
    path: Path, means: ScalarFiles, settings: Mapping[str, Any], reading: Reading
) -> ScalarAudit:
    if reading.backfill is not None:
        raise InputError(f"--model and --policy: expected a log of samples; {path} holds means")
    config = _config(path, settings)
    with progress_bar() as progress:
        task = progress.add_task(f"reading {log_name(path)}", total=means.size, note="", unit="bytes")
        log = means.read(advance=lambda read: progress.advance(task, read))
    return audit_scalars(log, config)


def _audit(path: Path, settings: Mapping[str, Any], reading: Reading, *, folder: Path) -> Audit:
    source = reading.open(path)
    config = _config(path, settings)
    mapped = reading.mapped(source)
    has_behavior_logprobs = True
    if reading.backfill is not None:
        source = reading.backfill(source, mapped, folder)
        mapped = reading.mapped(source)
        # A policy given by the user computes log-probabilities of samples that another policy may have drawn.
        has_behavior_logprobs = "policy_logprob" not in source.columns
    with progress_bar() as progress:
        task = progress.add_task(f"reading {log_name(path)}", total=source.size, note="", unit="bytes")
        return audit_source(
            source,
            mapped,
            config,
            has_behavior_logprobs=has_behavior_logprobs,
            advance=lambda read: progress.advance(task, read),
        )


def _config(path: Path, settings: Mapping[str, Any]) -> AuditConfig:
    file = path / SETTINGS if path.is_dir() else path.parent / SETTINGS
    beside = (
        read_config_file(file)
        if file.is_file() and (path.is_dir() or path.name in (SAMPLES, METRICS))
        else {}
    )
    if {"threshold", "threshold_quantile"} & settings.keys():  # only one may be set; the flag overrides
        beside = {key: value for key, value in beside.items() if not key.startswith("threshold")}
    if settings.get("transform", beside.get("transform")) != beside.get("transform"):
        beside = {key: value for key, value in beside.items() if key not in ("entropy", "settings")}
    return build_config(AuditConfig, {**beside, **settings}, source=str(file) if beside else "flags")
