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
    """What all checks found of a log of means. evidence: what they looked at."""

    log: ScalarLog
    evidence: ScalarEvidence

    @property
    def contents(self) -> str:
        """Its rows and steps."""
        steps = [int(step) for series in self.log.series.values() for step in series.steps[[0, -1]]]
        return (
            f"means of {plural(len(self.log), 'logged step')} in steps {min(steps):,} to {max(steps):,} "
            f"({self.log.container})"
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What each figure was read from, and what was assumed."""
        read = "; ".join(f"{name} = {series.column}" for name, series in self.log.series.items())
        return (f"Read: {read}.", *self.log.remarks)

    @property
    def method(self) -> str:
        """Figures are means of means."""
        return (
            "The log holds means over each step, not samples: no optimum can be worked out from them, and a "
            "window is a mean over its rows. Errors are one standard error over rows."
        )

    @property
    def averaged(self) -> str:
        """Rows of the log."""
        return "rows"

    @property
    def columns_read(self) -> list[tuple[str, str]]:
        """What the means are read from."""
        series = self.log.series
        return [(HOLDS[name], series[name].column if name in series else "") for name in SCALARS]

    def log_report(self) -> dict[str, Any]:
        """Container, columns, and how many rows there were and were not used."""
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
        """Raises MissingError: there are none."""
        raise MissingError(self.evidence.needs_samples)

    def _course(self, name: Series) -> Course:
        return self.evidence.course(name)


def audit_scalars(log: ScalarLog, config: AuditConfig) -> ScalarAudit:
    """Audit a log of means. What the settings leave open, of the trainer and of β, the log may tell."""
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
    """Settings that are not given and the log knows."""
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
    """Whether no KL acts: a log in which it would stand has none, or one that is exactly 0 at every step.

    A policy that is trained leaves its reference: some versions write the 0 that they have not computed.
    """
    kl = log.series.get("kl")
    if log.program not in _LOG_EVERY_KL or "reward" not in log.series:
        return False
    if kl is None:
        return log.is_whole
    return len(kl.values) >= _ENOUGH and not bool(kl.values.any())


def _source_of_beta(log: ScalarLog) -> str:
    """Where β was read from, as a sentence."""
    if "beta" in log.series:
        return f"β is the last value of `{log.series['beta'].column}`."
    if "kl" in log.series:
        return f"β is taken as 0: `{log.series['kl'].column}` is exactly 0 at every step."
    names = " or ".join(f"`{name}`" for name in NAMES[log.program]["kl"]) if log.program else ""
    return f"β is taken as 0: the log has no {names}, which {log.program} logs where a KL acts."
