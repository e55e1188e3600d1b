"""Rows of a training's log that are no samples of it: copies of a generation, and evaluations."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from allmodes.audit.logs.columns import Log
from allmodes.audit.logs.reading import Reading, read_samples
from allmodes.audit.logs.sources import RecordSource

Rows = list[dict[str, Any]]


def read(rows: Rows) -> Log:
    source = RecordSource(list(rows))
    return read_samples(source, Reading().mapped(source))


def generation(
    step: int, prompts: Sequence[str], *, size: int = 4, seed: int = 0, answers: int = 1000
) -> Rows:
    """A group of TRL's for each prompt."""
    draw = random.Random(f"{step} {seed}")
    rows = []
    for prompt in prompts:
        made = [draw.randrange(answers) for _ in range(size)]
        mean = sum(made) / size
        rows += [
            {"step": step, "prompt": prompt, "completion": f"it is {answer}", "worth": float(answer),
             "advantage": answer - mean}
            for answer in made
        ]  # fmt: skip
    return rows


def at(step: int, rows: Rows) -> Rows:
    return [{**row, "step": step} for row in rows]


def counts(log: Log) -> dict[str, int]:
    return {kind: seen.count for kind, seen in log.set_aside.items()}


COPY, EVALUATION = "a copy of a generation of an earlier step", "of an evaluation"


@pytest.mark.parametrize("reuse", [2, 4])
def test_a_generation_that_serves_several_updates_counts_once(reuse: int) -> None:
    made = [generation(reuse * i, [f"p{i}", f"q{i}"]) for i in range(3)]
    rows = [row for i, own in enumerate(made) for again in range(reuse) for row in at(reuse * i + again, own)]
    log = read(rows)
    assert len(log) == 3 * 8
    assert counts(log) == {COPY: 3 * 8 * (reuse - 1)}
    assert log.steps is not None
    assert sorted(set(log.steps.tolist())) == [0, reuse, 2 * reuse]
    remark = f"{3 * 8 * (reuse - 1)} rows set aside, each {COPY}; the first on record 9."
    assert remark in log.remarks
    assert (log.bad, log.rows) == ({}, len(rows))


def test_short_answers_are_copies_where_chance_does_not_bring_them_about() -> None:
    made = generation(0, [f"p{i}" for i in range(8)], answers=2)
    assert counts(read([row for step in range(4) for row in at(step, made)])) == {COPY: 96}


def test_a_policy_that_has_collapsed_is_no_copy_of_itself() -> None:
    same = [{**row, "completion": "yes", "worth": 1.0, "advantage": 0.0} for row in generation(0, ["p", "q"])]
    log = read([row for step in range(6) for row in at(step, same)])
    assert (len(log), log.set_aside) == (48, {})


def test_equal_steps_of_another_program_are_samples() -> None:
    """Only TRL writes one generation at several steps; a log of one's own may well repeat itself."""
    rows = [
        {"prompt": "p", "response": f"r{i}", "reward": 1.0, "step": step}
        for step in range(3)
        for i in range(20)
    ]
    assert len(read(rows)) == 60


def test_what_is_left_of_the_window_before_counts_once() -> None:
    """An evaluation of one group pushes the first group out of TRL's window of three."""
    first = generation(1, ["a", "b", "c"])
    second = [*first[4:], *generation(2, ["e"], seed=1)]
    log = read([*at(1, first), *at(2, second)])
    assert counts(log)[COPY] == 8
    assert len(log) + sum(counts(log).values()) == 24


def evaluated() -> Rows:
    """At every other step an evaluation of the same prompts stands where training's samples were."""
    draw, rows = random.Random(0), []
    for step in range(1, 9):
        if step % 2 == 0:
            rows += generation(step, [f"eval {i}" for i in range(3)], seed=1)
        else:
            rows += generation(step, [f"p{draw.randrange(99)} {i}" for i in range(3)])
    return rows


def test_evaluations_in_the_place_of_samples_are_told_by_steps_and_prompts() -> None:
    rows = evaluated()
    log = read(rows)
    assert counts(log) == {EVALUATION: sum("eval" in row["prompt"] for row in rows)}
    assert not any("eval" in name for name in log.prompt_names)


def test_evaluations_behind_samples_are_told_too() -> None:
    rows: Rows = []
    for step in range(1, 9):
        own = generation(step, [f"p{step}", f"q{step}", f"r{step}"])
        rows += own if step % 4 else [*own[8:], *generation(step, ["eval 1", "eval 2"], seed=1)]
    log = read(rows)
    assert counts(log) == {EVALUATION: 16}
    assert len(log.prompt_names) == 3 * 6 + 2


def test_evaluations_of_another_group_size_are_told_at_once() -> None:
    rows = [*generation(1, ["a", "b"]), *generation(2, ["c", "d"]), *generation(2, ["x", "y", "z"], size=1)]
    assert counts(read(rows)) == {EVALUATION: 3}


@pytest.mark.parametrize("epochs", [1.25, 2, 3])
def test_epochs_in_a_fixed_order_are_no_evaluation(epochs: float) -> None:
    """Four batches come again every four steps."""
    batches = [[f"a{i}", f"b{i}"] for i in range(4)]
    rows = [
        row for step in range(1, int(4 * epochs) + 1) for row in generation(step, batches[(step - 1) % 4])
    ]
    assert read(rows).set_aside == {}
    rows = [row for step in range(1, 9) for row in generation(step, ["a", "b"])]
    assert read(rows).set_aside == {}


def test_what_may_be_an_evaluation_is_said() -> None:
    """Training on one batch with an evaluation at every other step looks like two batches in turn."""
    rows = [
        row
        for step in range(1, 5)
        for row in generation(step, ["eval 1", "eval 2"] if step % 2 == 0 else ["a", "b"])
    ]
    log = read(rows)
    assert (len(log), log.set_aside) == (32, {})
    assert any("16 rows may be of an evaluation (the first on record 9)" in remark for remark in log.remarks)


def test_epochs_in_random_order_are_no_evaluation() -> None:
    for seed in range(20):
        draw, rows = random.Random(seed), []
        for step in range(24):
            if step % 8 == 0:
                order = draw.sample(range(24), 24)
            rows += generation(step, [f"p{i}" for i in order[3 * (step % 8) : 3 * (step % 8) + 3]])
        assert read(rows).set_aside == {}, seed


@pytest.mark.parametrize(("name", "value"), [("split", "eval"), ("is_eval", True), ("mode", "val")])
def test_a_column_that_says_so(name: str, value: Any) -> None:
    rows = [
        {
            "prompt": "p",
            "response": f"r{i}",
            "reward": 1.0,
            "step": i // 4,
            name: value if i % 4 == 0 else "train",
        }
        for i in range(12)
    ]
    log = read(rows)
    assert (len(log), counts(log)) == (9, {EVALUATION: 3})
    # A file of evaluations alone is what it is, and so is one of both without steps: that is said.
    assert len(read([{**row, name: value} for row in rows])) == 12
    for row in rows:
        del row["step"]
    log = read(rows)
    assert len(log) == 12
    assert "3 rows of an evaluation are used like the others, because the log has no steps." in log.remarks


def test_the_size_of_a_log_is_not_bounded_by_its_steps() -> None:
    log = read([row for step in range(3000) for row in generation(step, [f"p{step}"], size=2)])
    assert len(log) == 6000
