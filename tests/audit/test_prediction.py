"""The optimum from the reference's samples beside the observation, in one log and between two."""

import math
from typing import Any

import pytest
import torch

from allmodes.audit.checks.findings import MissingError, NotApplicableError
from allmodes.audit.prediction import predict_between, predict_within
from allmodes.targets import mara_target, reverse_kl_target
from audit_logs import evidence

REWARDS: dict[str | None, float] = {"a": 1.0, "b": 1.0, "c": 0.9, None: 0.0}
BASE: dict[str | None, int] = {"a": 60, "b": 20, "c": 40, None: 80}


def drawn(counts: dict[str | None, int], prompt: str = "p", **rest: Any) -> list[Any]:
    return [
        {"prompt": prompt, "response": f"it is {outcome}", "outcome": outcome,
         "reward": REWARDS[outcome], **rest}
        for outcome, count in counts.items()
        for _ in range(count)
    ]  # fmt: skip


def exact(target: Any, **settings: float) -> torch.Tensor:
    total = sum(BASE.values())
    ref = torch.tensor([count / total for count in BASE.values()], dtype=torch.float64).log()
    rewards = torch.tensor(list(REWARDS.values()), dtype=torch.float64)
    return target(ref, rewards, **settings).exp()


def test_two_logs() -> None:
    optimum = exact(reverse_kl_target, beta=0.2)
    after: dict[str | None, int] = {"a": 700, "b": 200, "c": 100}
    found = predict_between(evidence(drawn(BASE), beta=0.2, good=0.5), evidence(drawn(after)))
    assert (found.samples_before, found.samples_after) == (200, 1000)
    by_name = {name: at for at, name in enumerate(found.names)}
    for at, name in enumerate(["a", "b", "c", "invalid"]):
        row = by_name[name]
        assert float(found.predicted[row]) == pytest.approx(float(optimum[at]))
        assert float(found.observed[row]) == pytest.approx([0.7, 0.2, 0.1, 0.0][at])
        assert float(found.before[row]) == pytest.approx([0.3, 0.1, 0.2, 0.4][at])
        assert bool(found.good[row]) == (name != "invalid")
    top, effective, mass = found.figures
    assert (top.before.value, mass.before.value) == (pytest.approx(0.5), pytest.approx(0.6))
    good = optimum[:3] / optimum[:3].sum()
    assert top.predicted.value == pytest.approx(float(good[0]))
    assert top.observed.value == pytest.approx(0.7)
    assert effective.predicted.value == pytest.approx(1 / float(good.square().sum()))
    assert effective.observed.value == pytest.approx(1 / (0.49 + 0.04 + 0.01))
    assert mass.predicted.value == pytest.approx(float(optimum[:3].sum()))
    assert mass.observed.value == pytest.approx(1.0)
    assert found.distances[0] == pytest.approx(
        0.5 * float((optimum - torch.tensor([0.7, 0.2, 0.1, 0.0])).abs().sum())
    )
    assert found.distances[1] == pytest.approx(0.5 * (0.4 + 0.1 + 0.1 + 0.4))


def test_with_mara() -> None:
    optimum = exact(mara_target, beta=0.2, threshold=0.5)
    after: dict[str | None, int] = {"a": 300, "b": 300, "c": 300}
    settings = {"beta": 0.2, "transform": "mara", "threshold": 0.5}
    found = predict_between(evidence(drawn(BASE), **settings), evidence(drawn(after)))
    assert found.figures[0].predicted.value == pytest.approx(1 / 3)
    assert found.figures[1].observed.value == pytest.approx(3)
    assert found.figures[2].predicted.value == pytest.approx(float(optimum[:3].sum()))


def test_what_has_collapsed_or_come_up_is_not_left_out() -> None:
    rows = drawn({"a": 50}) + [{**row, "outcome": "new"} for row in drawn({"a": 50})]
    found = predict_between(evidence(drawn(BASE), beta=0.2, good=0.5), evidence(rows))
    assert found.figures[0].observed.value == 0.5
    assert found.figures[1].observed.value == pytest.approx(2)
    at = found.names.index("new")
    assert (float(found.predicted[at]), float(found.observed[at]), bool(found.good[at])) == (0.0, 0.5, True)
    alone = predict_between(evidence(drawn(BASE), beta=0.2, good=0.5), evidence(drawn({"a": 50})))
    assert (alone.figures[0].observed.value, alone.figures[1].observed.value) == (1.0, 1.0)


def test_a_figure_that_neither_side_has_is_left_out() -> None:
    rows = drawn({"a": 40, None: 60})  # one good outcome alone
    found = predict_between(evidence(rows, beta=0.2, good=0.5), evidence(rows))
    assert [pair.name for pair in found.figures] == ["mass of the good items"]


def test_prompts_are_known_by_their_texts() -> None:
    message = [{"role": "user", "content": "q2"}]
    before = drawn(BASE, "q1") + drawn(BASE, "q2") + drawn(BASE, "gone")
    after = drawn({"a": 10}, message) + drawn({"b": 30, "a": 10}, "q1") + drawn({"a": 9}, "new")  # type: ignore[arg-type]
    found = predict_between(evidence(before, beta=0.2, good=0.5), evidence(after))
    assert found.prompts.count == 2
    assert found.figures[0].observed.value == pytest.approx((1.0 + 0.75) / 2)
    with pytest.raises(MissingError, match="no prompt has samples both before and after"):
        predict_between(evidence(drawn(BASE, "q1"), beta=0.2), evidence(drawn(BASE, "q2")))


def test_one_log_its_first_step_and_its_last_window() -> None:
    rows = drawn(BASE, step=0) + drawn({"a": 5, "b": 5}, step=1) + drawn({"a": 90, "b": 10}, step=2)
    found = predict_within(evidence(rows, beta=0.2, good=0.5))
    assert found.after == "steps 2 to 2"
    assert (found.samples_before, found.samples_after) == (200, 100)
    assert found.figures[0].observed.value == pytest.approx(0.9)
    optimum = exact(reverse_kl_target, beta=0.2)
    assert found.figures[2].predicted.value == pytest.approx(float(optimum[:3].sum()))


def test_a_log_of_one_step_comes_after_another() -> None:
    found = predict_between(evidence(drawn(BASE), beta=0.2, good=0.5), evidence(drawn(BASE, step=7)))
    assert (found.after, found.samples_after) == ("steps 7 to 7", 200)
    rows = [
        {"response": str(i), "reward": i / 4, "ref_logprob": -2.0, "policy_logprob": -2.0 - i, "step": 7}
        for i in range(4)
    ]
    assert predict_within(evidence(rows, beta=0.2, good=0.5)).after == "steps 7 to 7"


def test_responses_with_both_log_probabilities() -> None:
    ref, rewards = [-2.0, -3.0, -4.0, -1.0], [1.0, 1.0, 0.8, 0.0]
    beta = 0.1
    rows = [
        {"response": str(i), "reward": r, "ref_logprob": q, "policy_logprob": q + r / beta - 12.0}
        for i, (q, r) in enumerate(zip(ref, rewards, strict=True))
    ]
    found = predict_within(evidence(rows, beta=beta, good=0.5))
    assert found.kind == "response"
    assert found.distances[0] == pytest.approx(0, abs=1e-12)  # the policy is the optimum
    share = 1 / (1 + math.exp(-1) + math.exp(-4))
    for figure in (found.figures[0].predicted, found.figures[0].observed):
        assert figure.value == pytest.approx(share)
    slope = found.figures[3]
    assert slope.before.value == 0.0
    assert (slope.predicted.value, slope.observed.value) == (1.0, pytest.approx(1.0))
    other = predict_within(evidence(rows, beta=2 * beta, good=0.5))
    assert other.distances[0] > 0.001
    assert other.figures[3].observed.value == pytest.approx(2.0)  # the policy has gone twice as far
    untrained = [{**row, "policy_logprob": row["ref_logprob"]} for row in rows]
    with pytest.raises(MissingError, match="policy and reference are the same"):
        predict_within(evidence(untrained, beta=beta, good=0.5))


def test_errors_of_responses_are_those_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, rewards = (
        torch.randn(400, generator=generator).tolist(),
        torch.rand(400, generator=generator).tolist(),
    )
    rows = [
        {"response": str(i), "reward": r, "ref_logprob": -20.0, "policy_logprob": -30.0 + r / 0.1 + e}
        for i, (r, e) in enumerate(zip(rewards, noise, strict=True))
    ]
    slope = predict_within(evidence(rows, beta=0.1, good=0.5)).figures[3].observed
    # Of least squares: σ / √Σ(x − x̄)², with x = R/β uniform over 10.
    assert slope.error == pytest.approx(1 / math.sqrt(400 * 100 / 12), rel=0.4)
    assert abs(slope.value - 1) < 5 * slope.error


LACKS = [
    (drawn(BASE), {"beta": 0.1}, "no column `step`"),
    (drawn(BASE, step=3), {"beta": 0.1}, "one window of steps"),
    (drawn(BASE, step=0) + drawn(BASE, step=1), {}, "give `--beta`"),
]


@pytest.mark.parametrize(("rows", "settings", "lacks"), LACKS)
def test_what_a_prediction_lacks(rows: list[Any], settings: dict[str, Any], lacks: str) -> None:
    with pytest.raises(MissingError, match=lacks):
        predict_within(evidence(rows, **settings))


def test_without_a_kl_nothing_is_predicted() -> None:
    with pytest.raises(NotApplicableError, match="β is 0"):
        predict_within(evidence(drawn(BASE, step=0) + drawn(BASE, step=1), beta=0.0))
