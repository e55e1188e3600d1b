"""The results of an oracle for a molecule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

from allmodes.errors import RunError, printable

FailureKind = Literal[
    "raised",
    "not_finite",
    "out_of_range",
    "timed_out",
    "died",
    "malformed",
    "unsuitable",  # not a molecule for this component: too many torsions, an element it does not know
    "not_embedded",  # no three-dimensional structure could be made
]


class UnscorableError(Exception):
    """Raised by a scorer for a molecule that it cannot score, with the kind of failure."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind


@final
class StrayLineError(RunError):
    """A program wrote a line that answers no request: its answers may belong to other molecules."""


@final
@dataclass(frozen=True)
class Scored:
    """A component's raw value, and details as JSON, such as a pose or a route."""

    value: float
    details: dict[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Failure:
    """A component gave no score: the kind of failure, and its message without control characters."""

    kind: FailureKind
    message: str

    def __post_init__(self) -> None:
        # It is shown on pages, in tables and in terminals, and may come from a user's program.
        object.__setattr__(self, "message", printable(self.message))


Answer = Scored | Failure


@final
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result for one molecule.

    raw and shaped: by component name, without the components that failed. reward: None when any failed.
    failure: "component: kind: message" of the first that failed, else None. details: by component name, where
    it has any.
    """

    smiles: str
    raw: dict[str, float]
    shaped: dict[str, float]
    reward: float | None
    failure: str | None
    details: Mapping[str, dict[str, Any]] = field(default_factory=dict)
