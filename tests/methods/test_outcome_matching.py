"""Outcome marginal matching against numbers by hand and a slow loop."""

import math

import pytest
import torch
from torch import Tensor

from allmodes.methods import METHODS, Batch, OutcomeMatching, Result, State


def call(
    method: OutcomeMatching,
    rewards: list[float] | Tensor,
    outcomes: list[int] | Tensor,
    *,
    prompts: list[int] | Tensor | None = None,
    state: State | None = None,
) -> Result:
    rewards = torch.as_tensor(rewards, dtype=torch.float64)
    prompt_ids = torch.zeros(len(rewards), dtype=torch.long) if prompts is None else torch.as_tensor(prompts)
    return method(
        Batch(
            rewards=rewards,
            group_ids=prompt_ids,
            outcome_ids=torch.as_tensor(outcomes, dtype=torch.long),
            prompt_ids=prompt_ids,
        ),
        beta=0.0,
        state=state,
    )


def test_rewards_of_one_group_by_hand() -> None:
    # T = 4 good ones, two known outcomes: p̃ of a is (2 + .5)/4, that of b .5/4.
    found = call(OutcomeMatching(threshold=1.0), [1, 1, 1, 1, 0, 0], [7, 7, 7, 3, -1, 9]).rewards
    expected = [1 + math.log(0.5 / 0.625)] * 3 + [1 + math.log(0.5 / 0.125), 0, 0]
    assert expected[0] == pytest.approx(0.77685, abs=1e-5)
    assert expected[3] == pytest.approx(2.38629, abs=1e-5)
    assert found.tolist() == pytest.approx(expected, abs=1e-14)
    assert METHODS["outcome_matching"] is OutcomeMatching


def table(counts: dict[int, float]) -> dict[str, Tensor]:
    """The state of prompt 0 after many visits."""
    ids = sorted(counts)
    ones = torch.ones(len(ids), dtype=torch.float64)
    return {
        "prompt_ids": torch.zeros(len(ids), dtype=torch.long),
        "outcome_ids": torch.tensor(ids),
        "counts": torch.tensor([counts[i] for i in ids], dtype=torch.float64),
        "good": ones,
        "seen": ones,
        "reward_sums": ones,
        "multipliers": torch.zeros(len(ids), dtype=torch.float64),
    }


def test_guard_keeps_the_penalty_of_a_collapsed_prompt_by_hand() -> None:
    lost = table({0: 64.0} | dict.fromkeys(range(1, 16), 0.0))
    collapsed = call(OutcomeMatching(threshold=1.0), [1.0] * 8, [0] * 8, state=lost).rewards
    assert collapsed.tolist() == pytest.approx([0.426] * 8, abs=5e-4)
    found_again = call(OutcomeMatching(threshold=1.0), [1.0] * 8, [0] * 7 + [3], state=lost).rewards
    assert float(found_again[-1]) == pytest.approx(6.116, abs=5e-4)
