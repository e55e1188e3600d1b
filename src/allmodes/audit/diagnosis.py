"""The findings of all checks on one log, in the form that every report uses, for samples and means alike."""

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from allmodes.audit.checks.findings import STATES, Finding, MissingError, NotApplicableError, State
from allmodes.audit.config import AuditConfig
from allmodes.audit.evidence import Evidence
from allmodes.audit.prediction import Prediction, predict_within
from allmodes.audit.windows import SERIES, Course, Series
from allmodes.errors import InputError
from allmodes.runs.lines import BadLines


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagnosis(ABC):
    """The findings of all checks, in the order of their codes, and the settings they used."""

    findings: tuple[Finding, ...]
    config: AuditConfig

    @property
    @abstractmethod
    def contents(self) -> str:
        """What the log holds, such as `192 samples of 4 prompts in steps 0 to 7`."""

    @property
    @abstractmethod
    def remarks(self) -> tuple[str, ...]:
        """How the log was read, in sentences."""

    @property
    @abstractmethod
    def method(self) -> str:
        """What figures and errors refer to, for readers of the page."""

    @property
    @abstractmethod
    def averaged(self) -> str:
        """What a window of steps is a mean over, such as `groups`."""

    @property
    @abstractmethod
    def columns_read(self) -> list[tuple[str, str]]:
        """Our columns, and what each was read from; an empty text where the log has none."""

    @cached_property
    def courses(self) -> dict[Series, Course]:
        """The figures over training that the log has."""
        found: dict[Series, Course] = {}
        for name in SERIES:
            with suppress(MissingError):  # its check reports it
                found[name] = self._course(name)
        return found

    @cached_property
    def prediction(self) -> Prediction | str:
        """The prediction from the log's first samples for its last, or the reason why there is none."""
        try:
            return predict_within(self.samples_evidence())
        except (MissingError, NotApplicableError) as why:
            return str(why)

    @abstractmethod
    def _course(self, name: Series) -> Course:
        """A figure over training. Raises MissingError if the log has none."""

    @abstractmethod
    def log_report(self) -> dict[str, Any]:
        """The content of report.json about the log, except its name."""

    @abstractmethod
    def samples_evidence(self) -> Evidence:
        """The evidence from samples. Raises MissingError for a log without samples."""

    @property
    def counts(self) -> dict[State, int]:
        """How many checks are in each state."""
        return {state: sum(finding.state == state for finding in self.findings) for state in STATES}

    def __repr__(self) -> str:
        from allmodes.audit.reporting.overview import describe_counts, lead, verdict  # they import this one

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
        from allmodes.audit.reporting.overview import html_summary  # which needs this module

        return html_summary(self)

    def of(self, code: str) -> Finding:
        """A check's finding. Raises InputError for a code that no check has."""
        found = next((finding for finding in self.findings if finding.code == code), None)
        if found is None:
            known = ", ".join(finding.code for finding in self.findings)
            raise InputError(f"expected one of {known}; got {code!r}")
        return found


def counted_rows(kinds: Mapping[str, BadLines], first_places: Mapping[str, str]) -> dict[str, Any]:
    """Rows by kind, with their number and the place of the first, for report.json."""
    return {kind: {"count": seen.count, "first": first_places[kind]} for kind, seen in kinds.items()}
