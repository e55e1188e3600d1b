"""All checks over one log: `allmodes.audit.run(records)`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from allmodes.audit import (
    ips_checks,
    log_checks,
    mara_checks,
    optimum_checks,
    quality_checks,
    setup_checks,
    training_checks,
)
from allmodes.audit.evidence import Evidence
from allmodes.audit.findings import Answer, Finding, MissingError, NotApplicableError
from allmodes.audit.formats import Format, Mapped, map_columns
from allmodes.audit.log import Log, read_log
from allmodes.audit.sources import Advance, RecordSource, Source
from allmodes.errors import InputError
from allmodes.runs.audit_config import AuditConfig
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
    Check("AM001", "All rows can be used", log_checks.usable_rows),
    Check("AM002", "No stretch of rows is there twice", log_checks.repeated_stretches),
    Check("AM010", "The optimum keeps the good samples", optimum_checks.evenness_of_the_optimum),
    Check("AM011", "Equal rewards are about equally likely", optimum_checks.spread_of_equal_rewards),
    Check("AM012", "β does not sit where the best two change places", optimum_checks.flip_of_the_best_two),
    Check("AM020", "MARA has several good samples to make equal", mara_checks.target_of_mara),
    Check("AM021", "MARA's bonus is small beside the rewards", mara_checks.size_of_the_bonus),
    Check("AM022", "MARA's bonus does not go to long responses", mara_checks.length_of_what_is_raised),
    Check("AM023", "β is below MARA's bound", mara_checks.bound_on_beta),
    Check("AM024", "Groups are large enough for MARA's anchor", mara_checks.bias_of_the_anchor),
    Check("AM030", "Groups are large enough for IPS to keep all outcomes", ips_checks.extinct_outcomes),
    Check(
        "AM040", "A transform's rewards are not divided by their deviation", setup_checks.scaled_advantages
    ),
    Check("AM041", "The KL is the one that it is taken for", setup_checks.which_kl),
    Check("AM042", "Groups have different rewards", setup_checks.groups_without_difference),
    Check("AM043", "Responses are whole", setup_checks.truncated_responses),
    Check("AM044", "A quantile as τ is above the smallest reward", setup_checks.quantile_at_the_minimum),
    Check("AM045", "Log-probabilities are of whole responses", setup_checks.sums_and_means),
    Check("AM050", "Entropy of outcomes has not fallen", training_checks.falling_entropy),
    Check("AM051", "Different outcomes have not become fewer", training_checks.falling_distinct),
    Check("AM052", "Distinct n-grams have not become fewer", training_checks.falling_ngrams),
    Check("AM053", "Repeated responses have not become more", training_checks.rising_repeats),
    Check("AM060", "Reward has not fallen", quality_checks.quality_and_diversity),
)


@final
@dataclass(frozen=True, kw_only=True)
class Audit:
    """What all checks found, in the order of their codes.

    columns: the log's format and where each of our columns came from.
    """

    findings: tuple[Finding, ...]
    config: AuditConfig
    log: Log
    columns: Mapped

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
) -> Audit:
    """Audit samples that are in memory.

        from allmodes.audit import run
        run(rows, AuditConfig(beta=0.01)).of("AM010")

    format, columns, rewards: as `map_columns` has them. Raises InputError for no usable sample.
    """
    return audit_source(
        RecordSource(list(records)), config or AuditConfig(), format=format, columns=columns, rewards=rewards
    )


def audit_source(
    source: Source,
    config: AuditConfig,
    *,
    format: Format | None = None,  # noqa: A002
    columns: Mapping[str, str] | None = None,
    rewards: Mapping[str, float] | None = None,
    advance: Advance = lambda done: None,
) -> Audit:
    """Audit a log of any size. Raises InputError for one that has no usable sample."""
    mapped = map_columns(_first_row(source), format=format, columns=columns, rewards=rewards)
    log = read_log(source, mapped.convert, advance=advance)

    def texts(rows: Sequence[int]) -> list[str]:
        places = {log.place(row) for row in rows}
        found = (row for _, row in source.rows(wanted=places, advance=lambda done: None))
        return [mapped.convert(row)["response"] or "" for row in found if not isinstance(row, BadLineError)]

    evidence = Evidence(log, config, texts=texts)
    return Audit(
        findings=tuple(_finding(check, evidence) for check in CHECKS), config=config, log=log, columns=mapped
    )


def _first_row(source: Source) -> Mapping[str, Any]:
    """The first row that can be read; {} where none can, which `read_log` then says."""
    for _, row in source.rows(advance=lambda done: None):
        if not isinstance(row, BadLineError):
            return row
    return {}


def _finding(check: Check, evidence: Evidence) -> Finding:
    try:
        answer = check.ask(evidence)
    except MissingError as missing:
        answer = Answer(state="skipped", summary=f"Not tested: {missing}.")
    except NotApplicableError as why:
        answer = Answer(state="not applicable", summary=f"{str(why)[:1].upper()}{str(why)[1:]}.")
    return Finding(
        code=check.code,
        title=check.title,
        state=answer.state,
        summary=answer.summary,
        remedy=answer.remedy,
        numbers=answer.numbers,
    )
