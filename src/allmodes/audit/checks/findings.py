"""What a check says: five states, so that "not tested" never looks like "fine"."""

from collections.abc import Callable, Mapping
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


def finding_of(code: str, title: str, ask: Callable[[], Answer]) -> Finding:
    """A check's finding; where it cannot be made, or has no meaning here, that and the reason."""
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
