"""What a run has written, as tests read it."""

import csv
from pathlib import Path

from allmodes.chem.design.ledger import read_ledger
from allmodes.errors import RunError


def rows_so_far(ledger: Path) -> int:
    """Rows of the ledger of a run that another process may be making."""
    try:
        return len(read_ledger(ledger))
    except RunError:  # not created yet, or being created
        return 0


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table with a line of names."""
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))
