"""Damaged logs of means: `allmodes audit` takes them, or says one line."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

from allmodes.audit import AuditConfig
from allmodes.audit.scalars.audit import audit_scalars
from allmodes.audit.scalars.files import find_scalars
from fuzzing import as_json, check_call, damage_bytes, damage_tree, fuzz

ROWS: list[dict[str, Any]] = [
    {
        "step": i, "reward": i / 24, "entropy": 1.0 - i / 30, "kl": 0.1, "frac_reward_zero_std": 0.5,
        "completions/clipped_ratio": 0.1, "completions/max_length": 8, "answers/entropy": 1.0,
    }
    for i in range(24)
]  # fmt: skip


def write(rng: random.Random, folder: Path) -> Path:
    """A damaged trainer's state, file of verl's logger, history or chart of W&B."""
    rows: Any = damage_tree(rng, [dict(row) for row in ROWS]) if rng.random() < 0.7 else ROWS
    kind = rng.choice(("trainer_state.json", "verl.jsonl", "history.jsonl", "chart.csv"))
    rows = rows if isinstance(rows, list) else [rows]
    if kind == "trainer_state.json":
        data = as_json({"epoch": 1.0, "log_history": rows}).encode("utf-8", "surrogatepass")
    elif kind == "chart.csv":
        heads = ["Step", *(f"run - train/{name}" for name in ROWS[0] if name != "step")]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(heads)
        writer.writerows([*map(str, row.values())] for row in rows if isinstance(row, dict))
        data = text.getvalue().encode("utf-8", "surrogatepass")
    else:
        packed = [{"step": 1, "data": row} if kind == "verl.jsonl" else row for row in rows]
        data = "".join(as_json(row) + "\n" for row in packed).encode("utf-8", "surrogatepass")
    if rows is ROWS or rng.random() < 0.2:
        data = damage_bytes(rng, data)
    path = folder / kind
    path.write_bytes(data)
    return path


def audited(path: Path, format: Any, beta: float | None) -> None:  # noqa: A002 - the name of the flag
    """Audit what is taken for means, and make all that is printed of it."""
    found = find_scalars(path, format)
    if found is not None:  # a log of samples is tested elsewhere
        audit = audit_scalars(found.read(), AuditConfig(beta=beta))
        assert "Will this objective collapse?" in audit.summary()
        json.dumps(audit.log_report(), allow_nan=False)


def test_damaged_logs_of_means(tmp_path: Path) -> None:
    def attempt(rng: random.Random) -> None:
        path = write(rng, tmp_path)
        check_call(audited, path, rng.choice((None, "means")), rng.choice((None, 0.0, 0.1)))

    fuzz("means", 40, attempt)
