"""The figures of a benchmark run, computed from its ledger."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from allmodes.chem.benchmarks.tasks import Task
from allmodes.chem.design.ledger import LedgerRow, reward_tensor
from allmodes.chem.design.results import find_hits
from allmodes.chem.fingerprints import fingerprints
from allmodes.chem.molecules import murcko_scaffold
from allmodes.chem.oracles.components.similarity import nearness, text_nearness
from allmodes.metrics import mean_pair_distance, top_k_auc, top_mean

_FOUND = 1 - 1e-9  # a target counts as found at this similarity or more


@final
@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run, seen from its ledger.

    auc_top1, auc_top10, auc_top100: area under the mean of the best so far, as a share of the budget. top1,
    top10, top100: that mean at the end. diversity: mean Tanimoto distance of the top 100. hits, circles,
    scaffolds: distinct molecules from the threshold on, those of them that are pairwise far apart, and their
    Murcko scaffolds. nearest: for tasks with targets, the best similarity to each. None where undefined.
    """

    seed: int
    calls: int
    failed: int
    auc_top1: float
    auc_top10: float
    auc_top100: float
    top1: float | None
    top10: float | None
    top100: float | None
    diversity: float | None
    hits: int
    circles: int
    scaffolds: int
    nearest: tuple[float, ...]

    @property
    def coverage(self) -> float | None:
        """MolExp's score: the product over the targets of the best similarity to each."""
        return math.prod(self.nearest) if self.nearest else None

    @property
    def found(self) -> int | None:
        """Number of targets that were found exactly."""
        return sum(one >= _FOUND for one in self.nearest) if self.nearest else None

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Figures":
        """What `as_json` gave."""
        return cls(**{**values, "nearest": tuple(values["nearest"])})


def measure(
    task: Task,
    rows: Sequence[LedgerRow],
    *,
    seed: int,
    budget: int,
    threshold: float,
    circle_distance: float,
) -> Figures:
    """The figures of a run from its ledger, in the order of the calls."""
    rewards = reward_tensor(rows)
    order = rewards.nan_to_num(-1.0).argsort(descending=True, stable=True)[:100].tolist()
    best = [rows[index].evaluation.smiles for index in order if not rewards[index].isnan()]
    hits = find_hits(rows, hit_threshold=threshold, circle_distance=circle_distance)
    auc = {k: top_k_auc(rewards, k=k, budget=budget) for k in (1, 10, 100)}
    top = {k: _known(top_mean(rewards, k=k)) for k in (1, 10, 100)}
    return Figures(
        seed=seed,
        calls=len(rows),
        failed=int(rewards.isnan().sum()),
        auc_top1=auc[1],
        auc_top10=auc[10],
        auc_top100=auc[100],
        top1=top[1],
        top10=top[10],
        top100=top[100],
        diversity=_known(mean_pair_distance(fingerprints(best, bits=2048))),
        hits=len(hits),
        circles=sum(hit.circle is not None for hit in hits),
        scaffolds=len({murcko_scaffold(hit.row.evaluation.smiles) for hit in hits}),
        nearest=_nearest(task, [row.evaluation.smiles for row in rows]),
    )


def _nearest(task: Task, smiles: Sequence[str]) -> tuple[float, ...]:
    """The best similarity to each target, of the kind that the task's component computes."""
    if not task.targets or not smiles:
        return (0.0,) * len(task.targets)
    (component,) = task.components
    if component["kind"] == "levenshtein":
        similarities = text_nearness(task.targets, where=task.name)
    else:
        similarities = nearness(task.targets, fingerprint=component["fingerprint"], where=task.name)
    return tuple(max(column) for column in zip(*map(similarities, smiles), strict=True))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
