"""What is said of the rows of a log themselves."""

import math
import random
from typing import Any

import pytest

from allmodes.audit.checks.findings import MissingError, NotApplicableError
from allmodes.audit.checks.log_checks import drawn_from_the_reference, repeated_stretches, usable_rows
from allmodes.audit.checks.quality_checks import quality_and_diversity
from allmodes.audit.config import AuditConfig
from allmodes.audit.evidence import Evidence
from allmodes.audit.logs.log import read_log
from allmodes.audit.logs.sources import RecordSource
from audit_logs import evidence


def rows_with(bad: int, count: int = 100) -> list[Any]:
    return [{"response": "r", "reward": math.nan if i < bad else 1.0} for i in range(count)]


@pytest.mark.parametrize(("bad", "state"), [(0, "passed"), (3, "tip"), (6, "issue")])
def test_rows_that_were_left_out(bad: int, state: str) -> None:
    found = usable_rows(evidence(rows_with(bad)))
    assert (found.state, found.numbers["left_out"]) == (state, bad)
    if bad:
        assert f"`reward` is NaN or infinite: {bad}, first at record 1" in found.summary


def samples(count: int, *, answers: int, seed: int = 0) -> list[Any]:
    draw = random.Random(seed)
    return [
        {"prompt": i // 8 % 5, "response": str(draw.randrange(answers)), "reward": 1.0, "step": i // 40}
        for i in range(count)
    ]


@pytest.mark.parametrize("answers", [1, 2, 5, 1000])
def test_short_answers_that_come_again_are_no_repeated_stretch(answers: int) -> None:
    # The probability of a false alarm is below 0.001 a log.
    for seed in range(20):
        found = repeated_stretches(evidence(samples(400, answers=answers, seed=seed)))
        assert (found.state, found.numbers["rows"]) == ("passed", 0)


def test_alternating_answers_are_no_repeated_stretch() -> None:
    rows = [{"response": str(i % 2), "reward": 1.0} for i in range(500)]
    assert repeated_stretches(evidence(rows)).state == "passed"


@pytest.mark.parametrize(
    ("answers", "again", "state"), [(1000, 40, "issue"), (1000, 12, "tip"), (5, 160, "issue")]
)
def test_a_stretch_that_is_there_twice(answers: int, again: int, state: str) -> None:
    rows = samples(400, answers=answers)
    copied = rows[:200] + rows[200 - again : 200] + rows[200:]
    found = repeated_stretches(evidence(copied))
    assert (found.state, found.numbers["rows"]) == (state, again)
    assert f"begins at record 201 and repeats the rows that begin at record {201 - again}." in found.summary


def test_prompts_with_one_sample_each() -> None:
    rows = [{"prompt": i, "response": f"answer {i}", "reward": 1.0} for i in range(100)]
    assert repeated_stretches(evidence(rows + rows)).numbers["rows"] == 100
    # A policy that always says the same to each of its prompts, in any order, is no copy of itself.
    draw = random.Random(0)
    collapsed = [row for _ in range(8) for row in draw.sample(rows, 100)]
    assert repeated_stretches(evidence(collapsed)).numbers["rows"] == 0


def test_three_copies_are_two_too_many() -> None:
    rows = samples(100, answers=1000)
    assert repeated_stretches(evidence(rows * 3)).numbers["rows"] == 200


def test_rows_that_differ_in_one_column_alone_are_different() -> None:
    rows = samples(100, answers=1000)
    for name, value in (
        ("ref_logprob", -1.0),
        ("step", 99),
        ("reward", 0.5),
        ("num_tokens", 3),
        ("outcome", "x"),
    ):
        other = [{**row, name: value} for row in rows]
        assert repeated_stretches(evidence(rows + other)).numbers["rows"] == 0


def reference(gaps: list[float] | None, **rest: Any) -> list[Any]:
    """Two outcomes again and again; gaps: how much likelier the policy finds each sample, over and over."""
    rows = []
    for i in range(40):
        row: dict[str, Any] = {"outcome": str(i % 2), "response": str(i), "reward": float(i % 2), **rest}
        if gaps is not None:
            row |= {"ref_logprob": -9.0, "policy_logprob": -9.0 + gaps[i % len(gaps)]}
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("gaps", "state"),
    [
        ([0.0], "passed"),
        ([-0.3725, 0.6], "passed"),  # weights of 1.451 and 0.549
        ([-0.4899, 1.0], "tip"),  # of 1.632 and 0.368
        ([-5.0] + [0.0] * 39, "issue"),
        ([2.0], "tip"),  # all alike: the policy draws less than the reference does
    ],
)
@pytest.mark.parametrize("step", [None, 0, 7])
def test_samples_that_another_policy_drew(gaps: list[float], state: str, step: int | None) -> None:
    rows = reference(gaps) if step is None else reference(gaps, step=step)
    found = drawn_from_the_reference(evidence(rows))
    weights = [math.exp(-gap) for gap in gaps]
    worth = sum(weights) ** 2 / sum(w * w for w in weights) / len(gaps)
    assert (found.state, found.numbers["worth"]) == (state, pytest.approx(worth))
    assert found.numbers["kl"].value == pytest.approx(sum(gaps) / len(gaps))
    assert found.numbers["seen"].value == pytest.approx(sum(weights) / len(weights))


def test_a_policy_that_is_thousands_of_nats_away() -> None:
    # Log-probabilities of long responses: only their differences within a prompt count, none is too small.
    gaps = [2000.0, 2000.0, 2001.2, 2000.0]
    rows = [{**row, "prompt": p} for p in range(2) for row in reference([gap - 3000 * p for gap in gaps])]
    log = evidence(rows)
    found = drawn_from_the_reference(log)
    weights = [math.exp(2000 - gap) for gap in gaps]
    assert found.numbers["worth"] == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights) / 4)
    assert (found.state, log.support.shares.isnan().any().item()) == ("passed", False)
    assert log.support.shares[0] == pytest.approx((1 + math.exp(-1.2)) / (3 + math.exp(-1.2)))
    far = evidence(
        [{**row, "policy_logprob": -9.0 - 900 * (i == 0)} for i, row in enumerate(reference([0.0]))]
    )
    assert drawn_from_the_reference(far).state == "issue"
    assert far.support.ref_logprobs.isfinite().all()


def test_another_policys_view_of_the_samples_is_no_weight() -> None:
    log = read_log(RecordSource(reference([0.0, 3.0], step=0)), dict)
    found = Evidence(log, AuditConfig(), has_behavior_logprobs=False)
    assert found.reference.weights.eq(1).all()
    assert drawn_from_the_reference(found).numbers == {"first_step": 0}


@pytest.mark.parametrize(("step", "state"), [(0, "passed"), (1, "passed"), (2, "tip")])
def test_a_log_that_begins_in_the_middle(step: int, state: str) -> None:
    found = drawn_from_the_reference(evidence(reference(None, step=step)))
    assert (found.state, found.numbers["first_step"]) == (state, step)


def test_where_nobody_says_who_drew_the_samples() -> None:
    with pytest.raises(MissingError, match="`step`"):
        drawn_from_the_reference(evidence(reference(None)))
    responses = [{"response": str(i), "reward": float(i % 2), "ref_logprob": -3.0} for i in range(9)]
    with pytest.raises(NotApplicableError, match="does not matter which policy drew them"):
        drawn_from_the_reference(evidence(responses))


def test_a_first_step_without_rewards_is_no_reference() -> None:
    rows = [{**row, "reward": None} for row in reference(None, step=0)] + reference(None, step=1)
    with pytest.raises(MissingError, match="no sample of the first step has a reward"):
        drawn_from_the_reference(evidence(rows))


def training(rewards: list[float]) -> list[Any]:
    """A step for each reward, with ten groups of two samples, of which one has it and one a little less."""
    return [
        {"prompt": prompt, "step": step, "response": f"{step} {prompt} {i}", "outcome": str(i),
         "reward": reward - 0.01 * i * prompt}
        for step, reward in enumerate(rewards)
        for prompt in range(10)
        for i in range(2)
    ]  # fmt: skip


def test_the_last_window() -> None:
    found = quality_and_diversity(evidence(training([0.2, 0.5, 0.9, 0.9])))
    assert found.state == "passed"
    assert found.numbers["reward"].value == pytest.approx(0.9 - 0.01 * 4.5 / 2)
    spread = math.sqrt(sum((0.005 * (p - 4.5)) ** 2 for p in range(10)) / 10)
    assert found.numbers["reward"].error == pytest.approx(spread / math.sqrt(10), rel=0.3)
    assert found.numbers["entropy"].value == pytest.approx(math.log(2))
    assert (found.numbers["distinct"].value, found.numbers["repeated"].value) == (1.0, 0.0)


def test_a_reward_that_falls() -> None:
    found = quality_and_diversity(evidence(training([0.9, 0.9, 0.5, 0.2])))
    assert found.state == "tip"
    assert found.numbers["p"] < 0.01


def test_a_log_of_rewards_alone_has_a_course() -> None:
    rows = [
        {name: row[name] for name in ("prompt", "step", "reward")} for row in training([0.9, 0.9, 0.5, 0.2])
    ]
    found = quality_and_diversity(evidence(rows))
    assert found.state == "tip"
    assert set(found.numbers) == {"reward", "first_reward", "p"}


def test_without_steps_all_samples_are_the_last_window() -> None:
    rows = [{name: value for name, value in row.items() if name != "step"} for row in training([0.5])]
    found = quality_and_diversity(evidence(rows))
    assert found.state == "skipped"
    assert "no column `step`" in found.summary
    assert found.numbers["reward"].value == pytest.approx(0.5 - 0.01 * 4.5 / 2)
