"""Verdicts on the 1-2 task from made-up runs, and what the items leave behind."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch

from allmodes.errors import ConfigError
from allmodes.metrics import count_entropy
from allmodes.paper import mara_fig6, mara_fig9_11, mara_fig10, one_two_runs, real_models
from allmodes.paper.reproduction import PAPER, REAL, Scale
from allmodes.text.reporting.curves import Bin
from allmodes.text.reporting.results import Arm, TextResult

TINY = Scale(name="test", seeds=1, steps=0.004, grid_steps=1)


def steps(*counts: tuple[int, int], reward: float = 1.0) -> list[Bin]:
    return [
        Bin(step=8 * place, steps=8, reward=reward, diversity=count_entropy(pair),
            counts={"1": pair[0], "2": pair[1]})
        for place, pair in enumerate(counts, start=1)
    ]  # fmt: skip


def runs(found: Mapping[tuple[Arm, int], Sequence[Bin]], *, base: tuple[int, int] = (80, 20)) -> Any:
    result = TextResult(
        arm=None, seed=0, samples=256, unscored=0, reward=0.4, answers={"1": base[0], "2": base[1]},
        metrics={},
    )  # fmt: skip
    return one_two_runs.Runs(
        config=one_two_runs.configuration(TINY), base=result, before=None, bins=dict(found)
    )


def arm(method: str, *, kl: Any = "reverse", beta: float = 0.01) -> Arm:
    return Arm(trainer="rloo" if kl == "reverse" else "grpo", kl=kl, method=method, beta=beta)


def both_kls(plain: list[Bin], ours: list[Bin]) -> Any:
    return runs(
        {
            (arm(method, kl=kl), 0): found
            for kl in ("reverse", "token-forward")
            for method, found in (("vanilla", plain), ("mara", ours))
        }
    )


def fig6(found: Any) -> list[str]:
    return [entry.holds for entry in mara_fig6.judge(found, whose="x")]


def test_figure_6_holds_where_plain_rl_collapses_and_mara_does_not() -> None:
    good = both_kls(steps((80, 20), (99, 1)), steps((80, 20), (52, 48)))
    assert fig6(good) == ["yes", "yes", "yes", "yes"]
    found = mara_fig6.judge(good, whose="x")
    assert "2 of 2 runs, 2 of them to 1; shares of 1 0.99 0.99, base 0.80" in found[1].measured
    assert "reverse KL: 0.69, plain 0.50; forward KL: 0.69, plain 0.50" in found[3].measured


def test_figure_6_does_not_hold_where_nothing_is_lost_or_nothing_kept() -> None:
    kept = both_kls(steps((80, 20), (50, 50)), steps((80, 20), (99, 1)))
    assert fig6(kept) == ["yes", "no", "no", "no"]
    unlearned = both_kls(steps((80, 20), reward=0.2), steps((50, 50), reward=0.2))
    assert fig6(unlearned)[0] == "no"
    assert fig6(unlearned)[3] == "no"  # no step with a high reward
    one_kl = runs(
        {
            (arm("vanilla"), 0): steps((99, 1)),
            (arm("mara"), 0): steps((50, 50)),
            (arm("vanilla", kl="token-forward"), 0): steps((50, 50)),
            (arm("mara", kl="token-forward"), 0): steps((99, 1)),
        }
    )
    assert fig6(one_kl) == ["yes", "partly", "yes", "partly"]


def test_figure_6_asks_for_more_than_half_of_the_runs() -> None:
    half = runs(
        {(arm("vanilla"), seed): steps(end) for seed, end in enumerate([(99, 1), (80, 20)])}
        | {(arm("mara"), 0): steps((50, 50))}
    )
    assert fig6(half)[1] == "partly"


def test_runs_without_a_valid_answer_count_as_neither() -> None:
    lost = both_kls(steps((0, 0), reward=0.0), steps((0, 0), reward=0.0))
    assert fig6(lost) == ["no", "no", "no", "no"]
    assert all("nan" not in entry.measured for entry in mara_fig6.judge(lost, whose="x"))
    assert math.isnan(one_two_runs.share_of_one({}))
    assert not one_two_runs.has_one_answer({})


def test_figure_10_looks_at_every_beta() -> None:
    def judged(*ends: tuple[int, int]) -> list[str]:
        found = {
            (arm("vanilla", beta=beta), 0): steps((80, 20), end)
            for beta, end in zip(mara_fig10.BETAS, ends, strict=True)
        }
        return [entry.holds for entry in mara_fig10.judge(runs(found), whose="x")]

    assert judged((99, 1), (97, 3), (96, 4)) == ["yes", "yes", "yes", "no"]
    assert judged((80, 20), (99, 1), (75, 25)) == ["partly", "yes", "no", "yes"]
    assert judged((81, 19), (82, 18), (83, 17)) == ["no", "yes", "yes", "yes"]
    assert judged((1, 99), (2, 98), (20, 80)) == ["partly", "no", "yes", "no"]
    none = runs({(arm("vanilla"), 0): steps((80, 20), reward=0.1)})
    assert [entry.holds for entry in mara_fig10.judge(none, whose="x")] == ["no", "no", "no", "no"]


def seen(ones: int, twos: int, logprobs: Sequence[float]) -> Any:
    return mara_fig9_11.Seen(
        prompt="?", drawn=400, counts={"1": ones, "2": twos},
        logprobs=torch.tensor(logprobs, dtype=torch.float64),
        ones=torch.ones(len(logprobs), dtype=torch.bool), responses=["r"] * len(logprobs),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (seen(160, 40, [-1.0, -9.0]), ["yes", "yes", "yes"]),
        (seen(103, 97, [-1.0, -1.5]), ["no", "no", "yes"]),
        (seen(0, 0, []), ["no", "no", "no"]),
        (seen(200, 0, [-1.0]), ["yes", "no", "no"]),
    ],
)
def test_figures_9_and_11_say_what_was_sampled(found: Any, holds: list[str]) -> None:
    verdicts = mara_fig9_11.judge(found, whose="x")
    assert [entry.holds for entry in verdicts] == holds
    assert all("nan" not in entry.measured for entry in verdicts)


def test_an_optimum_with_equal_rewards_keeps_the_ratio() -> None:
    assert list(mara_fig9_11.optimum_shares(0.83).values()) == pytest.approx([0.83] * 4, abs=1e-12)


def test_the_real_scale_is_smollm2_after_a_warm_start_and_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str, out: Path) -> bool:
        raise ConfigError("SmolLM2-135M-Instruct needs `pip install x`; x is not installed")

    monkeypatch.setattr("allmodes.text.packaged_models.prepare_model", missing)
    config = one_two_runs.configuration(REAL, method=["vanilla", "mara"])
    assert config.warm_start is not None
    assert (config.warm_start.steps, config.warm_start.learning_rate) == (12, 8e-5)
    assert (config.lora is not None, config.method, config.seeds) == (True, ("vanilla", "mara"), (0,))
    with pytest.raises(ConfigError, match=r"mara-fig6 at --scale real: .* needs `pip install x`"):
        mara_fig6.reproduce(REAL, lambda _: None)
    assert real_models.SMOLLM2 in one_two_runs.SUBJECT.whose(REAL)


def test_the_papers_scale_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for item in (mara_fig6, mara_fig10, mara_fig9_11):
        with pytest.raises(ConfigError, match=r"expected Qwen/Qwen2.5-3B .*; got no accelerator"):
            item.reproduce(PAPER, lambda _: None)
