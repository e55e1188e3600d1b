"""Damaged files of samples and of outcomes: `audit`, `evaluate` and `target` take them, or say one line."""

import csv
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from fuzzing import VALUES, as_json, check_command, damage_bytes, damage_tree, fuzz, pick

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
NUMBERS = (
    "0",
    "1",
    "-1",
    "0.5",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-320",
    "1e30",
    "9" * 30,
    "x",
    "",
    "0.1,0.2",
)
SAMPLES: list[dict[str, Any]] = [
    {
        "prompt": f"question {i % 2}",
        "response": f"{i}: the answer is {i % 3}.",
        "reward": float(i % 3 > 0),
        "ref_logprob": -1.0 - i % 3,
        "policy_logprob": -1.5 - i % 3,
        "step": i // 8,
        "outcome": str(i % 3),
        "num_tokens": 10 + i % 3,
        "truncated": i % 7 == 0,
        "answer": None if i % 5 == 0 else str(i % 3),
        "score": i % 4,
        "correct": i % 3 == 1,
        "method": "base" if i % 2 else "mara",
    }
    for i in range(32)
]
OUTCOMES = [
    {"outcome": f"way {i}", "reward": 1.0 if i < 4 else 0.25 * i, "probability": 0.1} for i in range(10)
]


def write(rng: random.Random, folder: Path, rows: list[dict[str, Any]], suffixes: list[str]) -> Path:
    """A file of damaged rows in one of several formats; columns are renamed and left out, too."""
    rows = [dict(row) for row in rows]
    for name in pick(rng, [*rows[0]], 8):
        for row in rows:
            row.pop(name, None)
    if rng.random() < 0.3 and rows[0]:
        name, value = rng.choice([*rows[0]]), rng.choice(VALUES)  # a whole column
        for row in rows:
            row[name] = value
    damaged: Any = damage_tree(rng, rows) if rng.random() < 0.7 else rows
    suffix = rng.choice(suffixes)
    data = _encoded(damaged, suffix)
    if damaged is rows or rng.random() < 0.1:
        data = damage_bytes(rng, data)
    path = folder / f"damaged{suffix}"
    path.write_bytes(data)
    return path


def _encoded(rows: Any, suffix: str) -> bytes:
    rows = rows if isinstance(rows, list) else [rows]
    if suffix == ".parquet":
        table = _table([row for row in rows if isinstance(row, dict)])
        if table is not None:
            return table
    if suffix == ".csv":
        tables = [row for row in rows if isinstance(row, dict)]
        names = list(dict.fromkeys(str(name) for row in tables for name in row))
        handle = io.StringIO(newline="")
        writer = csv.writer(handle)
        writer.writerow(names)
        writer.writerows([row.get(name, "") for name in names] for row in tables)
        return handle.getvalue().encode("utf-8", "surrogatepass")
    text = as_json(rows) if suffix == ".json" else "".join(f"{as_json(row)}\n" for row in rows)
    return text.encode()


def _table(rows: list[dict[str, Any]]) -> bytes | None:
    """Parquet, where it can hold such rows."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    try:
        parquet.write_table(arrow.Table.from_pylist(rows), buffer)
    except (arrow.ArrowException, OverflowError, UnicodeError, TypeError):
        return None
    return buffer.getvalue()


def _flags(rng: random.Random, known: dict[str, tuple[str, ...]]) -> list[str]:
    return [f"--{name}={rng.choice(known[name])}" for name in pick(rng, sorted(known), 3)]


AUDIT_FLAGS = {
    "beta": NUMBERS,
    "threshold": NUMBERS,
    "threshold-quantile": NUMBERS,
    "good": NUMBERS,
    "group-size": NUMBERS,
    "max-tokens": NUMBERS,
    "columns.prompt": ("prompt", "nothing", "reward", ""),
    "columns.reward": ("score", "nothing", "prompt"),
    "columns.outcome": ("answer", "step"),
    "outcome-pattern": ("(", r"(\d)", "(a+)+$", "", ".*", "x", r"(?<=is )\d"),
    "format": ("trl", "verl", "openrlhf", "reinvent", "saturn", "allmodes", "ledger"),
    "transform": ("none", "mara", "ips"),
    "rewards": ("reward 1", "score=nan", "reward", "reward=1e308"),
    "fail-on": ("issue", "AM010", "nothing"),
}


def test_damaged_logs_through_audit(command: Command, tmp_path: Path) -> None:
    def attempt(rng: random.Random) -> None:
        path = write(rng, tmp_path, SAMPLES, [".jsonl", ".csv", ".parquet", ".json"])
        check_command(command, "audit", path, *_flags(rng, AUDIT_FLAGS))

    fuzz("damaged logs", 12, attempt)


def test_damaged_logs_side_by_side(command: Command, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()

    def attempt(rng: random.Random) -> None:
        first = write(rng, tmp_path / "first", SAMPLES, [".jsonl"])
        second = write(rng, tmp_path, SAMPLES, [".jsonl", ".csv"])
        check_command(command, "audit", "--compare", first, second, *_flags(rng, AUDIT_FLAGS))

    fuzz("damaged pairs", 3, attempt)


EVALUATE_FLAGS = {
    "k": ("0", "1", "2", "-1", "9" * 30, "x", "1000000000"),
    "vocabulary-size": ("0", "1", "2", "-5", "9" * 30, "1.5"),
    "embedder": ("stand-in",),
    "out": ("out", "damaged.jsonl/x", "x" * 300),
    "tokenizer": ("nothing", "damaged.jsonl", "."),
}


def test_damaged_generations_through_evaluate(command: Command, tmp_path: Path) -> None:
    def attempt(rng: random.Random) -> None:
        path = write(rng, tmp_path, SAMPLES, [".jsonl", ".csv", ".parquet", ".json"])
        check_command(command, "evaluate", path, *_flags(rng, EVALUATE_FLAGS))

    fuzz("damaged generations", 40, attempt)


TARGET_FLAGS = {
    "beta": NUMBERS,
    "kl": ("reverse", "forward", "both", "none"),
    "threshold": NUMBERS,
    "tolerance": NUMBERS,
    "normalise": ("True",),
}


def test_damaged_outcomes_through_target(command: Command, tmp_path: Path) -> None:
    def attempt(rng: random.Random) -> None:
        path = write(rng, tmp_path, OUTCOMES, [".csv", ".json"])
        flags = [
            flag if not flag.startswith("--norm") else "--normalise" for flag in _flags(rng, TARGET_FLAGS)
        ]
        out = ["--out", "out"] if rng.random() < 0.02 else []
        check_command(command, "target", path, *flags, *out)

    fuzz("damaged outcomes", 60, attempt)
