"""What an oracle says of a molecule."""

from dataclasses import dataclass
from typing import Literal, final

FailureKind = Literal["raised", "not_finite", "out_of_range", "timed_out", "died", "malformed"]


@final
@dataclass(frozen=True)
class Failure:
    """A component gave no score: what happened, and its own words."""

    kind: FailureKind
    message: str


@final
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result for one molecule.

    raw and shaped: by component name, without the components that failed. reward: None when any failed.
    failure: "component: kind: message" of the first that failed, else None.
    """

    smiles: str
    raw: dict[str, float]
    shaped: dict[str, float]
    reward: float | None
    failure: str | None
