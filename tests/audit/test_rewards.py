"""What is read as the reward: a name, or what explains TRL's advantages; numbers are never just added up."""

import csv
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from allmodes.audit.logs.columns import Log
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.reading import Reading, read_samples
from allmodes.audit.logs.sources import RecordSource, open_source
from allmodes.errors import InputError

Rows = list[dict[str, Any]]


def trl(
    weights: dict[str, float],
    extras: Sequence[str] = (),
    *,
    scale: str = "group",
    size: int = 6,
    steps: int = 4,
) -> Rows:
    """Rows as GRPOTrainer logs them: reward functions, extra columns, and the advantages of the functions."""
    draw = random.Random(0)
    rows = []
    for step in range(steps):
        for prompt in range(3):
            made = [
                {
                    "accuracy": float(draw.random() < 0.5),
                    "format": draw.choice([0.0, 0.5, 1.0]),
                    "length": float(draw.randrange(20, 300)),
                    "gold": float(10 + prompt),
                    "sample_idx": i,
                }
                for i in range(size)
            ]
            totals = [math.fsum(weight * row[name] for name, weight in weights.items()) for row in made]
            mean = math.fsum(totals) / size
            sigma = math.sqrt(math.fsum((total - mean) ** 2 for total in totals) / (size - 1))
            divisor = {"group": sigma + 1e-4, "none": 1.0, "loo": (size - 1) / size}[scale]
            for i, (row, total) in enumerate(zip(made, totals, strict=True)):
                own = {name: row[name] for name in (*weights, *extras)}
                own |= {"step": step, "prompt": f"{prompt}+{prompt}?", "completion": f"{step} {prompt} {i}"}
                rows.append({**own, "advantage": (total - mean) / divisor})
    return rows


def read(rows: Rows, **settings: Any) -> tuple[Mapped, Log]:
    source, reading = RecordSource(list(rows)), Reading(**settings)
    mapped = reading.mapped(source)
    return mapped, read_samples(source, mapped)


def reward_of(rows: Rows, **settings: Any) -> str | None:
    return read(rows, **settings)[0].sources.get("reward")


def rewards_of(rows: Rows, **settings: Any) -> list[float]:
    rewards = read(rows, **settings)[1].rewards
    assert rewards is not None
    return rewards.tolist()


@pytest.mark.parametrize("scale", ["group", "none", "loo"])
def test_advantages_tell_which_columns_are_rewards(scale: str) -> None:
    extras = ("length", "gold", "sample_idx")
    assert reward_of(trl({"accuracy": 1.0}, extras, scale=scale)) == "accuracy"
    both = trl({"accuracy": 1.0, "format": 1.0}, extras, scale=scale)
    assert reward_of(both) == "accuracy + format"
    assert rewards_of(both) == [row["accuracy"] + row["format"] for row in both]


def test_a_column_of_the_prompt_is_not_in_the_reward_and_that_is_said() -> None:
    remarks = read(trl({"accuracy": 1.0}, ("gold",)))[1].remarks
    assert "Not in the reward: `gold`, the same for all samples of each prompt." in remarks
    assert "reward = accuracy." in remarks


@pytest.mark.parametrize("name", ["reward", "score"])
def test_advantages_win_over_a_name(name: str) -> None:
    """A reward function may have any name, and so may a column that is none."""
    rows = [{**row, name: row["length"]} for row in trl({"accuracy": 1.0}, ("length",))]
    assert reward_of(rows) == "accuracy"
    rows = [{**row, name: row["accuracy"]} for row in trl({"accuracy": 1.0}, ("length",))]
    for row in rows:
        del row["accuracy"]
    assert reward_of(rows) == name


def test_weights_that_are_not_in_the_file_are_asked_for() -> None:
    rows = trl({"accuracy": 1.0, "format": 0.2}, ("length",))
    words = (
        r"^`reward`: no sum of columns explains `advantage`; columns of numbers: `accuracy`, `format` and "
        r"`length`\. Name it with `--columns\.reward NAME`, or the columns of a weighted sum with `--rewards"
    )
    with pytest.raises(InputError, match=words):
        read(rows)
    assert reward_of(rows, rewards={"accuracy": 1.0, "format": 0.2}) == "accuracy + 0.2 × format"
    assert reward_of(rows, columns={"reward": "accuracy"}) == "accuracy"


def test_columns_that_explain_the_advantages_alike_are_asked_for() -> None:
    rows = [{**row, "percent": 100 * row["accuracy"]} for row in trl({"accuracy": 1.0})]
    with pytest.raises(InputError, match="`accuracy` and `percent` and `accuracy` \\+ `percent` explain"):
        read(rows)
    # Without a division the size of the advantages tells them.
    rows = [{**row, "percent": 100 * row["accuracy"]} for row in trl({"accuracy": 1.0}, scale="none")]
    assert reward_of(rows) == "accuracy"


def test_a_reward_that_comes_late_is_in_the_sum() -> None:
    """`format` is 0 throughout the first 1,000 rows."""
    rows = trl({"accuracy": 1.0, "format": 1.0}, size=10, steps=80)
    for row in rows[:1200]:
        row["format"] = 0.0
    for start in range(0, 1200, 10):
        group = rows[start : start + 10]
        mean = math.fsum(row["accuracy"] for row in group) / 10
        for row in group:
            row["advantage"] = row["accuracy"] - mean
    assert reward_of(rows) == "accuracy + format"


def test_without_differences_nothing_is_told() -> None:
    rows = [{**row, "accuracy": 0.0, "advantage": 0.0} for row in trl({"accuracy": 1.0})]
    assert reward_of(rows) == "accuracy"  # nothing speaks against the only one
    with pytest.raises(InputError, match="`advantage` is the same for all samples of each prompt"):
        read([{**row, "length": 5.0} for row in rows])


LOOSE = {"prompt": "q", "sample_idx": 3, "seed": 103}


@pytest.mark.parametrize("response", ["completion", "response", "output"])
def test_numbers_are_not_added_up(response: str) -> None:
    rows = [{**LOOSE, response: "a", "score": 0}, {**LOOSE, response: "b", "score": 1}]
    assert reward_of(rows) == "score"
    assert reward_of([{**row, "reward": 0.5} for row in rows]) == "reward"
    assert rewards_of(rows) == [0.0, 1.0]
    for row in rows:
        del row["score"]
    with pytest.raises(InputError, match="columns of numbers: `sample_idx` and `seed`"):
        read(rows)
    assert reward_of(rows, rewards={}) is None
    assert "No column is read as the reward." in read(rows, rewards={})[1].remarks


def test_a_log_without_any_number_has_no_reward_and_is_read() -> None:
    assert reward_of([{"prompt": "q", "response": "a", "note": "x"}]) is None


def test_numpy_rows_and_truth_values() -> None:
    numpy = pytest.importorskip("numpy")
    rows = [{"response": "a", "reward": numpy.float32(0.5)}, {"response": "b", "reward": numpy.int64(1)}]
    assert rewards_of(rows) == [0.5, 1.0]
    rows = [{"response": "a", "reward": "True"}, {"response": "b", "reward": "false"}]
    assert rewards_of(rows) == [1.0, 0.0]


def as_csv(path: Path, rows: Rows, index: str | None) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        names = [*([] if index is None else [index]), *rows[0]]
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({**({} if index is None else {index: number}), **row})
    return path


def as_table(path: Path, rows: Rows, index: str | None) -> Path:
    table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows], "ncols": len(rows[0])}
    path.write_text(json.dumps(table))
    return path


@pytest.mark.parametrize(
    ("name", "write", "index"),
    [
        ("a.csv", as_csv, None),
        ("a.csv", as_csv, ""),
        ("a.csv", as_csv, "Unnamed: 0"),
        ("a.csv", as_csv, "index"),
        ("a.table.json", as_table, None),
    ],
)
def test_tables_keep_their_rewards(name: str, write: Any, index: str | None, tmp_path: Path) -> None:
    rows = trl({"accuracy": 1.0, "format": 1.0}, ("length", "gold"))
    path = write(tmp_path / name, rows, index)
    for rewards in (None, {"accuracy": 1.0, "format": 1.0}):
        source = open_source(path)
        mapped = Reading(rewards=rewards).mapped(source)
        log = read_samples(source, mapped)
        assert mapped.format == "trl"
        assert mapped.sources["reward"] == "accuracy + format"
        assert log.rewards is not None
        assert log.rewards.tolist() == [row["accuracy"] + row["format"] for row in rows]
        assert log.bad == {}


def test_huge_numbers_cost_their_row(tmp_path: Path) -> None:
    rows = trl({"accuracy": 1.0})
    rows[3]["accuracy"] = 1e155
    rows[4]["advantage"] = 1e300
    log = read(rows, rewards={"accuracy": 1.0})[1]
    assert {kind: bad.count for kind, bad in log.bad.items()} == {"`accuracy` is beyond ±1e+100": 1}
    log = read(rows, rewards={"accuracy": 1e200})[1]
    assert set(log.bad) == {"`accuracy` is beyond ±1e+100", "`reward` is beyond ±1e+100"}
