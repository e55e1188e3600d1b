"""A design run in a tracker: its curves, its settings, and an image of its best molecules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from rdkit import Chem
from rdkit.Chem import Draw

from allmodes.chem.design.ledger import LedgerRow, read_ledger
from allmodes.runs.tracking import Trackers

_SHOWN = 12
_COLUMNS = 4
_SIZE = (250, 200)  # pixels of a molecule


@final
class RunTracking:
    """Shows each row of metrics.jsonl and, at regular steps, the best molecules so far."""

    def __init__(self, trackers: Trackers, ledger: Path, *, every: int) -> None:
        self._trackers, self._ledger, self._every = trackers, ledger, every

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl, when its step is in the ledger."""
        self._trackers.log(row)
        if row["step"] % self._every == 0:
            self.show_best(step=row["step"])

    def show_best(self, *, step: int) -> None:
        """The best molecules of the ledger."""
        self._trackers.image("best molecules", lambda: draw_best(read_ledger(self._ledger)), step=step)


def draw_best(rows: list[LedgerRow]) -> Any:
    """A PIL picture of the 12 best molecules in order, earlier calls first among equals; None without any."""
    scored = [(row.evaluation.reward, row) for row in rows if row.evaluation.reward is not None]
    best = sorted(scored, key=lambda entry: (-entry[0], entry[1].call))[:_SHOWN]
    if not best:
        return None
    return Draw.MolsToGridImage(
        [Chem.MolFromSmiles(row.evaluation.smiles) for _, row in best],
        molsPerRow=_COLUMNS,
        subImgSize=_SIZE,
        legends=[f"{reward:.3f} (call {row.call})" for reward, row in best],
        returnPNG=False,
    )
