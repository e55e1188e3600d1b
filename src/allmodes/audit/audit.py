"""All checks over one log: `allmodes.audit.run(records)`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from allmodes.audit.checks import (
    ips_checks,
    log_checks,
    mara_checks,
    optimum_checks,
    quality_checks,
    setup_checks,
    training_checks,
)
from allmodes.audit.checks.findings import Answer, finding_of
from allmodes.audit.choices import Format
from allmodes.audit.config import AuditConfig
from allmodes.audit.diagnosis import Diagnosis, counted_rows
from allmodes.audit.evidence import Evidence
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.log import Log
from allmodes.audit.logs.reading import Reading, read_samples, used_sources
from allmodes.audit.logs.sources import Advance, RecordSource, Source
from allmodes.audit.logs.vocabulary import COLUMNS
from allmodes.audit.windows import Course, Series
from allmodes.errors import InputError
from allmodes.reports.formatting import plural
from allmodes.runs.lines import BadLineError


@final
@dataclass(frozen=True)
class Check:
    """A question with a stable code; its page is docs/checks/CODE.md."""

    code: str
    title: str
    ask: Callable[[Evidence], Answer]


# Codes are stable: a new check gets a new code, and a code is never reused.
CHECKS = (
    Check("AM001", "Usable rows", log_checks.usable_rows),
    Check("AM002", "Parts of the log that are written twice", log_checks.repeated_stretches),
    Check("AM003", "Samples of the reference", log_checks.drawn_from_the_reference),
    Check("AM010", "Good samples at the optimum", optimum_checks.evenness_of_the_optimum),
    Check("AM011", "Equal rewards under the reference", optimum_checks.spread_of_equal_rewards),
    Check("AM012", "β at which the best two change places", optimum_checks.flip_of_the_best_two),
    Check("AM020", "Samples that MARA makes equal", mara_checks.target_of_mara),
    Check("AM021", "Size of MARA's bonus", mara_checks.size_of_the_bonus),
    Check("AM022", "MARA's bonus and the length of responses", mara_checks.length_of_what_is_raised),
    Check("AM023", "MARA's bound on β", mara_checks.bound_on_beta),
    Check("AM024", "Group size and MARA's anchor", mara_checks.bias_of_the_anchor),
    Check("AM030", "Group size and outcomes that IPS loses", ips_checks.extinct_outcomes),
    Check("AM040", "Division by a standard deviation, with a transform", setup_checks.scaled_advantages),
    Check("AM041", "Which KL the estimator optimises", setup_checks.which_kl),
    Check("AM042", "Groups without a difference in reward", setup_checks.groups_without_difference),
    Check("AM043", "Truncated responses", setup_checks.truncated_responses),
    Check("AM044", "A quantile as τ", setup_checks.quantile_at_the_minimum),
    Check("AM045", "Sums and means of log-probabilities", setup_checks.sums_and_means),
    Check("AM050", "Entropy of outcomes over training", training_checks.falling_entropy),
    Check("AM051", "Different outcomes over training", training_checks.falling_distinct),
    Check("AM052", "Distinct n-grams over training", training_checks.falling_ngrams),
    Check("AM053", "Repeated responses over training", training_checks.rising_repeats),
    Check("AM054", "Entropy of tokens over training", training_checks.falling_token_entropy),
    Check("AM055", "KL to the reference over training", training_checks.rising_kl),
    Check("AM060", "Quality and diversity at the end", quality_checks.quality_and_diversity),
)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Audit(Diagnosis):
    """The findings of all checks on a log of samples.

    columns: the log's format and the source of each of our columns. evidence: the input of the checks.
    """

    log: Log
    columns: Mapped
    evidence: Evidence

    @property
    def contents(self) -> str:
        """Number of samples and prompts, and the range of steps."""
        log = self.log
        parts = [plural(len(log), "sample"), f"of {plural(len(log.prompt_names), 'prompt')}"]
        if log.steps is not None:
            steps = log.steps[log.steps >= 0]
            parts.append(f"in steps {int(steps.min()):,} to {int(steps.max()):,}")
        return " ".join(parts)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Columns of the log and their sources."""
        return self.log.remarks

    @property
    def method(self) -> str:
        """What the optima and errors refer to."""
        return (
            "Optima are computed over the samples in the log; outcomes that were never drawn are not "
            "included. Errors are one bootstrap standard error."
        )

    @property
    def averaged(self) -> str:
        """Groups of samples."""
        return "groups"

    @property
    def columns_read(self) -> list[tuple[str, str]]:
        """Figures over training of a log of samples."""
        return [(column, self.columns.sources.get(column, "")) for column in COLUMNS]

    def _course(self, name: Series) -> Course:
        return self.evidence.curves.course(name)

    def log_report(self) -> dict[str, Any]:
        """Format, columns, and the number of rows read and not used."""
        log = self.log
        return {
            "format": self.columns.format,
            "columns": dict(self.columns.sources),
            "rows": log.rows,
            "samples": len(log),
            "left_out": counted_rows(log.bad, log.first_places),
            "set_aside": counted_rows(log.set_aside, log.first_places),
            "remarks": list(log.remarks),
        }

    def samples_evidence(self) -> Evidence:
        """The input of the checks."""
        return self.evidence


def run(
    records: Iterable[Mapping[str, Any]],
    config: AuditConfig | None = None,
    *,
    format: Format | None = None,  # noqa: A002 - the word that users know
    columns: Mapping[str, str] | None = None,
    rewards: Mapping[str, float] | None = None,
    outcome_pattern: str | None = None,
) -> Audit:
    """Audit samples in memory; each sample is a mapping with the keys of a line of a log.

    format, columns, rewards, outcome_pattern: as in `map_columns`. Raises InputError if there is no usable
    sample.

    >>> samples = [{"outcome": "12"[i % 8 == 0], "reward": 1.0, "step": 0} for i in range(200)]
    >>> audit = run(samples, AuditConfig(beta=0.01, kl="k1-in-reward", good=1.0))
    >>> audit.of("AM011").state
    'tip'
    """
    reading = Reading(format=format, columns=columns or {}, rewards=rewards, outcome_pattern=outcome_pattern)
    source = reading.split(RecordSource(list(records)))
    mapped = reading.mapped(source)
    return audit_source(source, mapped, config or AuditConfig())


def audit_source(
    source: Source,
    mapped: Mapped,
    config: AuditConfig,
    *,
    has_behavior_logprobs: bool = True,
    advance: Advance = lambda done: None,
) -> Audit:
    """Audit a log of any size. Raises InputError if it has no usable sample.

    has_behavior_logprobs: whether `policy_logprob` is that of the policy that drew the samples.
    """
    log = read_samples(source, mapped, advance=advance)
    mapped = replace(mapped, sources=used_sources(mapped, log))
    if config.trainer is None and mapped.trainer is not None:
        config = config.model_copy(update={"trainer": mapped.trainer})

    def texts(rows: Sequence[int]) -> list[str]:
        places = {log.place(row) for row in rows}
        found = (row for _, row in source.rows(wanted=places, advance=lambda done: None))
        try:
            again = [
                mapped.convert(row)["response"] or "" for row in found if not isinstance(row, BadLineError)
            ]
        except BadLineError:
            again = []
        if len(again) != len(rows):
            raise InputError("expected a log that does not change; its rows changed while they were read")
        return again

    evidence = Evidence(log, config, texts=texts, has_behavior_logprobs=has_behavior_logprobs)
    return Audit(
        findings=tuple(finding_of(check.code, check.title, partial(check.ask, evidence)) for check in CHECKS),
        config=config,
        log=log,
        columns=mapped,
        evidence=evidence,
    )
