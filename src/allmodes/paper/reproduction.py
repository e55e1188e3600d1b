"""The result of an item of a paper: a figure, numbers, and a verdict on each claim."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

Holds = Literal["yes", "no", "partly"]


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is computed.

    seeds: replicas of each setting. grid_steps: steps in the grids, which take longest.

    "paper" takes the papers' steps, batch sizes and rates where they give them; "quick" the same with fewer
    replicas, and fewer steps in the grids; "real" is "quick" except for items that train language models:
    these use real models that install as packages, instead of stand-ins.
    """

    name: str
    seeds: int
    steps: float = 1.0  # share of a figure's own steps; below 1 in tests alone
    grid_steps: int

    @property
    def kind(self) -> Literal["quick", "real", "paper"]:
        """The settings that it uses: "real" and "paper" their own, any other scale those of "quick"."""
        return self.name if self.name in ("real", "paper") else "quick"

    def own_steps(self, steps: int) -> int:
        """The steps to train where the paper takes `steps`."""
        return max(1, round(self.steps * steps))


QUICK = Scale(name="quick", seeds=4, grid_steps=1500)
PAPER = Scale(name="paper", seeds=8, grid_steps=6000)
REAL = Scale(name="real", seeds=4, grid_steps=1500)
SCALES = {scale.name: scale for scale in (QUICK, PAPER, REAL)}


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim: what the paper says, what was measured, and whether it holds."""

    claim: str
    paper: str
    measured: str
    holds: Holds


def verdict(claim: str, *, paper: str, measured: str, holds: bool | Holds) -> Verdict:
    """A verdict; `holds` must be computed from the measured numbers."""
    word: Holds = ("yes" if holds else "no") if isinstance(holds, bool) else holds
    return Verdict(claim=claim, paper=paper, measured=measured, holds=word)


def some(found: int, total: int, *, enough: int | None = None) -> Holds:
    """Whether a claim holds that does in `found` of `total` cases.

    "yes" from `enough` cases on (all if left out, always at least one), "partly" from one on, else "no".
    """
    if found >= max(total if enough is None else enough, 1):
        return "yes"
    return "partly" if found else "no"


def number(value: float) -> str:
    """A number with two decimals, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"


@final
@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A finished item.

    numbers: ready for JSON. notes: what the paper leaves open and what was chosen. tables: Markdown, for the
    item's page.
    """

    figure: Any
    numbers: dict[str, Any]
    verdicts: Sequence[Verdict]
    notes: Sequence[str] = field(default=())
    tables: Sequence[str] = field(default=())


Progress = Callable[[int], None]
