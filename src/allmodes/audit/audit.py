"""All checks over one log: `allmodes.audit.run(records)`."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
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
from allmodes.audit.checks.findings import STATES, Answer, Finding, MissingError, NotApplicableError, State
from allmodes.audit.choices import Format
from allmodes.audit.config import AuditConfig
from allmodes.audit.evidence import Evidence
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.log import Log
from allmodes.audit.logs.reading import Reading, read_samples, used_sources
from allmodes.audit.logs.sources import Advance, RecordSource, Source
from allmodes.audit.prediction import Prediction, predict_within
from allmodes.audit.reporting.overview import describe_counts, html_summary, lead, verdict
from allmodes.audit.windows import SERIES, Course, Series
from allmodes.errors import InputError
from allmodes.runs.lines import BadLineError


@final
@dataclass(frozen=True)
class Check:
    """A question with a stable code; its page is docs/checks/CODE.md."""

    code: str
    title: str
    ask: Callable[[Evidence], Answer]


# Codes are stable: a new check takes a new one, and none is used again.
CHECKS = (
    Check("AM001", "Usable rows", log_checks.usable_rows),
    Check("AM002", "Parts of the log that are written twice", log_checks.repeated_stretches),
    Check("AM003", "Samples of the reference", log_checks.drawn_from_the_reference),
    Check("AM010", "Good samples at the optimum", optimum_checks.evenness_of_the_optimum),
    Check("AM011", "Equal rewards under the reference", optimum_checks.spread_of_equal_rewards),
    Check("AM012", "β at which the best two change places", optimum_checks.flip_of_the_best_two),
    Check("AM020", "What MARA would make equal", mara_checks.target_of_mara),
    Check("AM021", "Size of MARA's bonus", mara_checks.size_of_the_bonus),
    Check("AM022", "MARA's bonus and the length of responses", mara_checks.length_of_what_is_raised),
    Check("AM023", "MARA's bound on β", mara_checks.bound_on_beta),
    Check("AM024", "Group size and MARA's anchor", mara_checks.bias_of_the_anchor),
    Check("AM030", "Group size and outcomes that IPS loses", ips_checks.extinct_outcomes),
    Check("AM040", "Division by a standard deviation, with a transform", setup_checks.scaled_advantages),
    Check("AM041", "Which KL an estimator is", setup_checks.which_kl),
    Check("AM042", "Groups without a difference in reward", setup_checks.groups_without_difference),
    Check("AM043", "Truncated responses", setup_checks.truncated_responses),
    Check("AM044", "A quantile as τ", setup_checks.quantile_at_the_minimum),
    Check("AM045", "Sums and means of log-probabilities", setup_checks.sums_and_means),
    Check("AM050", "Entropy of outcomes over training", training_checks.falling_entropy),
    Check("AM051", "Different outcomes over training", training_checks.falling_distinct),
    Check("AM052", "Distinct n-grams over training", training_checks.falling_ngrams),
    Check("AM053", "Repeated responses over training", training_checks.rising_repeats),
    Check("AM060", "Quality and diversity at the end", quality_checks.quality_and_diversity),
)


@final
@dataclass(frozen=True, kw_only=True)
class Audit:
    """What all checks found, in the order of their codes.

    columns: the log's format and where each of our columns came from. evidence: what the checks looked at.
    """

    findings: tuple[Finding, ...]
    config: AuditConfig
    log: Log
    columns: Mapped
    evidence: Evidence

    @property
    def counts(self) -> dict[State, int]:
        """How many checks are in each state."""
        return {state: sum(finding.state == state for finding in self.findings) for state in STATES}

    @cached_property
    def courses(self) -> dict[Series, Course]:
        """The figures over training that the log has."""
        found: dict[Series, Course] = {}
        for name in SERIES:
            with suppress(MissingError):  # its check says so
                found[name] = self.evidence.curves.course(name)
        return found

    @cached_property
    def prediction(self) -> Prediction | str:
        """What the log's first samples said of its last, or why nothing can be said."""
        try:
            return predict_within(self.evidence)
        except (MissingError, NotApplicableError) as why:
            return str(why)

    def __repr__(self) -> str:
        answer, _ = verdict(self)
        return f"<{lead(self, name='Audit').rstrip('.')}; collapse: {answer}; {describe_counts(self)}>"

    def summary(self) -> str:
        """The terminal summary of `allmodes audit` as a text."""
        from rich.console import Console

        from allmodes.audit.reporting.terminal_summary import print_summary  # which needs this module

        console = Console(file=io.StringIO(), width=100, force_terminal=False)
        with console.capture() as capture:
            print_summary(self, console, name="Audit")
        return capture.get()

    def _repr_html_(self) -> str:
        return html_summary(self)

    def of(self, code: str) -> Finding:
        """A check's finding. Raises InputError for a code that no check has."""
        found = next((finding for finding in self.findings if finding.code == code), None)
        if found is None:
            raise InputError(f"expected one of {', '.join(check.code for check in CHECKS)}; got {code!r}")
        return found


def run(
    records: Iterable[Mapping[str, Any]],
    config: AuditConfig | None = None,
    *,
    format: Format | None = None,  # noqa: A002 - the word that users know
    columns: Mapping[str, str] | None = None,
    rewards: Mapping[str, float] | None = None,
    outcome_pattern: str | None = None,
) -> Audit:
    """Audit samples that are in memory.

        from allmodes.audit import run
        run(rows, AuditConfig(beta=0.01)).of("AM010")

    format, columns, rewards, outcome_pattern: as `map_columns` has them. Raises InputError for no usable
    sample.
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
    """Audit a log of any size. Raises InputError for one that has no usable sample.

    has_behavior_logprobs: whether `policy_logprob` is of the policy that drew the samples.
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
            raise InputError("expected a log that stays as it is; rows of it changed while they were read")
        return again

    evidence = Evidence(log, config, texts=texts, has_behavior_logprobs=has_behavior_logprobs)
    return Audit(
        findings=tuple(_finding(check, evidence) for check in CHECKS),
        config=config,
        log=log,
        columns=mapped,
        evidence=evidence,
    )


def _finding(check: Check, evidence: Evidence) -> Finding:
    try:
        answer = check.ask(evidence)
    except MissingError as missing:
        answer = Answer(state="skipped", summary=f"Not tested: {missing}.")
    except NotApplicableError as why:
        reason = str(why)
        first = reason[:1].upper() if reason[:1].isascii() else reason[:1]  # β stays small
        answer = Answer(state="not applicable", summary=f"{first}{reason[1:]}.")
    return Finding(
        code=check.code,
        title=check.title,
        state=answer.state,
        summary=answer.summary,
        remedy=answer.remedy if answer.state in ("issue", "tip") else "",
        numbers=answer.numbers,
    )
