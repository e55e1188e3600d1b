"""Results of a design run: figures and hits, computed from its ledger."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from allmodes.chem.design.ledger import LedgerRow, reward_tensor
from allmodes.chem.fingerprints import fingerprints
from allmodes.chem.oracles.components import Regions
from allmodes.metrics import count_hits, internal_diversity, num_circles, oracle_burden


@final
@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One finished run.

    hits: Yield, the distinct molecules with a raw reward of at least the hit threshold. ob100: calls until
    the 100th of them, None below 100. intdiv1 and circles are those of the hits; intdiv1 is None without
    hits. failures: oracle calls without a score, by "component: kind". regions: hits of each region by its
    name, of all that the recipe names in their order; None if it names none.
    """

    algorithm: str
    seed: int
    stopped_by: str
    steps: int
    calls: int
    hits: int
    ob100: int | None
    intdiv1: float | None
    circles: int
    failures: dict[str, int]
    collapsed_at_step: int | None
    regions: dict[str, int] | None = None

    def regions_kept(self, *, kept_from: int) -> int | None:
        """Number of regions with at least `kept_from` hits; None without regions."""
        return None if self.regions is None else sum(hits >= kept_from for hits in self.regions.values())

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@final
@dataclass(frozen=True, kw_only=True)
class Hit:
    """A hit, and its number of the circle when it is the best molecule of one (0 for the best of all)."""

    row: LedgerRow
    circle: int | None


def find_hits(rows: Sequence[LedgerRow], *, hit_threshold: float, circle_distance: float) -> list[Hit]:
    """The hits of a ledger, best first (earlier calls win ties), with their circles.

    In this order the greedy packing of #Circles keeps the best molecule of each circle.
    """
    rewards = reward_tensor(rows)
    order = torch.argsort(rewards, descending=True, stable=True)
    best_first = [rows[index] for index in order.tolist() if rewards[index] >= hit_threshold]
    prints = fingerprints([row.evaluation.smiles for row in best_first])
    centres = num_circles(prints, distance=circle_distance).tolist()
    number = {index: circle for circle, index in enumerate(centres)}
    return [Hit(row=row, circle=number.get(index)) for index, row in enumerate(best_first)]


def result_of(
    rows: Sequence[LedgerRow],
    hits: Sequence[Hit],
    *,
    algorithm: str,
    seed: int,
    stopped_by: str,
    steps: int,
    collapsed_at_step: int | None,
    hit_threshold: float,
    regions: Regions | None = None,
) -> RunResult:
    """The figures of a run from its ledger rows, in the order of the calls, and its hits."""
    rewards = reward_tensor(rows)
    failed = [row.evaluation.failure for row in rows if row.evaluation.failure is not None]
    prints = fingerprints([hit.row.evaluation.smiles for hit in hits])
    return RunResult(
        algorithm=algorithm,
        seed=seed,
        stopped_by=stopped_by,
        steps=steps,
        calls=len(rows),
        hits=count_hits(rewards, threshold=hit_threshold),
        ob100=oracle_burden(rewards, threshold=hit_threshold, hits=100),
        intdiv1=internal_diversity(prints) if hits else None,
        circles=sum(1 for hit in hits if hit.circle is not None),
        failures=dict(Counter(": ".join(text.split(": ")[:2]) for text in failed)),
        collapsed_at_step=collapsed_at_step,
        regions=None if regions is None else hits_by_region(hits, regions),
    )


def hits_by_region(hits: Sequence[Hit], regions: Regions) -> dict[str, int]:
    """How many hits each region has, in their order; a hit outside of all counts for none."""
    found = Counter(regions.name_of(hit.row.evaluation.smiles) for hit in hits)
    return {name: found[name] for name in regions.names}
