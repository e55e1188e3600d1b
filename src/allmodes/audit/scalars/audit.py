"""All checks over a log of means."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Never, final

from allmodes.audit.audit import CHECKS
from allmodes.audit.checks.findings import Answer, MissingError, finding_of
from allmodes.audit.config import AuditConfig
from allmodes.audit.diagnosis import Diagnosis, counted_rows
from allmodes.audit.scalars.checks import ASK, ScalarEvidence
from allmodes.audit.scalars.log import ScalarLog
from allmodes.audit.scalars.names import HOLDS, NAMES, SCALARS, TRAINERS, Program
from allmodes.audit.windows import Course, Series
from allmodes.reports.formatting import plural

# Programs that log a KL exactly where one acts.
_LOG_EVERY_KL: tuple[Program, ...] = ("trl", "verl")
_ENOUGH = 10  # steps with a KL of exactly 0


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ScalarAudit(Diagnosis):
    """The findings of all checks on a log of means. evidence: the input of the checks."""

    log: ScalarLog
    evidence: ScalarEvidence

    @property
    def contents(self) -> str:
        """Number of logged steps, and their range."""
        steps = [int(step) for series in self.log.series.values() for step in series.steps[[0, -1]]]
        return (
            f"means of {plural(len(self.log), 'logged step')} in steps {min(steps):,} to {max(steps):,} "
            f"({self.log.container})"
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """The source of each figure, and assumptions."""
        read = "; ".join(f"{name} = {series.column}" for name, series in self.log.series.items())
        return (f"Read: {read}.", *self.log.remarks)

    @property
    def method(self) -> str:
        """What the figures and errors refer to."""
        return (
            "The log holds means over each step, not samples, so no optimum can be computed from it. A "
            "window is a mean over its rows. Errors are one standard error over rows."
        )

    @property
    def averaged(self) -> str:
        """Rows of the log."""
        return "rows"

    @property
    def columns_read(self) -> list[tuple[str, str]]:
        """The columns that the means are read from."""
        series = self.log.series
        return [(HOLDS[name], series[name].column if name in series else "") for name in SCALARS]

    def log_report(self) -> dict[str, Any]:
        """Container, columns, and the number of rows read and not used."""
        log = self.log
        return {
            "format": "means",
            "container": log.container,
            "program": log.program,
            "columns": {name: series.column for name, series in log.series.items()},
            "rows": log.rows,
            "samples": 0,
            "steps": len(log),
            "left_out": counted_rows(log.bad, log.first_places),
            "set_aside": {},
            "written_again": log.written_again,
            "remarks": list(self.remarks),
        }

    def samples_evidence(self) -> Never:
        """Raises MissingError, since the log has no samples."""
        raise MissingError(self.evidence.needs_samples)

    def _course(self, name: Series) -> Course:
        return self.evidence.course(name)


def audit_scalars(log: ScalarLog, config: AuditConfig) -> ScalarAudit:
    """Audit a log of means. If the settings lack the trainer or β, they are read from the log if possible."""
    told = _told(log, config)
    if "beta" in told:
        log = replace(log, remarks=(*log.remarks, _source_of_beta(log)))
    evidence = ScalarEvidence(log, config.model_copy(update=told))

    def ask(code: str) -> Callable[[], Answer]:
        return partial(ASK.get(code, _needs_samples), evidence)

    return ScalarAudit(
        findings=tuple(finding_of(check.code, check.title, ask(check.code)) for check in CHECKS),
        config=evidence.config,
        log=log,
        evidence=evidence,
    )


def _needs_samples(evidence: ScalarEvidence) -> Answer:
    raise MissingError(evidence.needs_samples)


def _told(log: ScalarLog, config: AuditConfig) -> dict[str, Any]:
    """Settings that are not given and can be read from the log."""
    told: dict[str, Any] = {}
    if config.trainer is None and log.program is not None:
        told["trainer"] = TRAINERS[log.program]
    if config.beta is None:
        beta = log.series.get("beta")
        if beta is not None:
            told["beta"] = float(beta.values[-1])
        elif _has_no_kl(log):
            told["beta"] = 0.0
    return told


def _has_no_kl(log: ScalarLog) -> bool:
    """Whether no KL acts: the log would contain a KL but has none, or it is exactly 0 at every step.

    A trained policy moves away from its reference; some versions write 0 for a KL they do not compute.
    """
    kl = log.series.get("kl")
    if log.program not in _LOG_EVERY_KL or "reward" not in log.series:
        return False
    if kl is None:
        return log.is_whole
    return len(kl.values) >= _ENOUGH and not bool(kl.values.any())


def _source_of_beta(log: ScalarLog) -> str:
    """A sentence that names the source of β."""
    if "beta" in log.series:
        return f"β is the last value of `{log.series['beta'].column}`."
    if "kl" in log.series:
        return f"β is taken as 0: `{log.series['kl'].column}` is exactly 0 at every step."
    names = " or ".join(f"`{name}`" for name in NAMES[log.program]["kl"]) if log.program else ""
    return f"β is taken as 0: the log has no {names}, which {log.program} logs where a KL acts."
