"""Findings of checks: five states, so that "not tested" never looks like "passed"."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final, get_args

State = Literal["issue", "tip", "passed", "not applicable", "skipped"]
STATES: tuple[State, ...] = get_args(State)


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """The finding of one check.

    code, title: of the check; its page is docs/checks/CODE.md. summary: the result in one or more sentences.
    remedy: what to change, in options of the user's trainer; empty if there is nothing to do. numbers:
    the figures of the summary, for report.json.
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
    """The result of a check, without the check's code and title."""

    state: State
    summary: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


class MissingError(Exception):
    """A check cannot run; the message names what the log or the settings lack."""


class NotApplicableError(Exception):
    """A check does not apply to this training; the message says why."""


def finding_of(code: str, title: str, ask: Callable[[], Answer]) -> Finding:
    """The finding of a check; if it cannot run or does not apply, a finding with the reason."""
    try:
        answer = ask()
    except MissingError as missing:
        answer = Answer(state="skipped", summary=f"Not tested: {missing}.")
    except NotApplicableError as why:
        reason = str(why)
        first = reason[:1].upper() if reason[:1].isascii() else reason[:1]  # β stays small
        answer = Answer(state="not applicable", summary=f"{first}{reason[1:]}.")
    return Finding(
        code=code,
        title=title,
        state=answer.state,
        summary=answer.summary,
        remedy=answer.remedy if answer.state in ("issue", "tip") else "",
        numbers=answer.numbers,
    )
