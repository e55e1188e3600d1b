"""What a check says: five states, so that "not tested" never looks like "fine"."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final, get_args

State = Literal["issue", "tip", "passed", "not applicable", "skipped"]
STATES: tuple[State, ...] = get_args(State)


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check's answer.

    code, title: of the check; its page is docs/checks/CODE.md. summary: what was found, with its numbers.
    remedy: what to change, by the options of the user's trainer; empty where nothing is to be done. numbers:
    the figures behind it, for report.json.
    """

    code: str
    title: str
    state: State
    summary: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """A check's answer, before it bears the check's name."""

    state: State
    summary: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


class MissingError(Exception):
    """A check cannot be made: what the log or the settings lack."""


class NotApplicableError(Exception):
    """A check has no meaning for this training: why."""
