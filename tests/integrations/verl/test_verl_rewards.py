"""What verl's estimators are handed, without verl: keys, padding, sessions of several rows, its KL."""

import math

import pytest
import torch
from torch import Tensor

from allmodes.integrations.rows import transform_rows
from allmodes.integrations.verl.rewards import all_advantages, sessions_of, token_rewards
from allmodes.methods import MARA, AlphaDPG, BestOfN, Method, Plain
from method_cases import cases

# Two prompts with two responses each; the uid of the first has underscores, its second response three rows.
KEYS = ["u_1_0_0", "u_1_1_2", "pad9_0_0", "v_0_0", "u_1_1_0", "v_1_0", "u_1_1_10"]
TAGS = [{"is_padding": key.startswith("pad"), "status": "success"} for key in KEYS]
BETA = 0.5


def scores() -> Tensor:
    """1 for all but v_0; verl gives it to the last token of each row."""
    scores = torch.zeros(7, 3)
    scores[:, 2] = torch.tensor([1.0, 1, 0, 0, 1, 1, 1])
    return scores


def kl() -> Tensor:
    """Log-ratios by token, 0 for padding."""
    drawn = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    drawn[2] = 0
    return drawn


def test_rows_are_told_by_their_keys() -> None:
    found = sessions_of(KEYS, TAGS)
    assert found.count == 4
    assert found.last.tolist() == [0, 6, 3, 5]  # the tenth row is behind the second, as numbers
    assert found.group_ids.tolist() == [0, 0, 1, 1]
    assert found.is_real.tolist() == [True, True, False, True, True, True, True]
    assert sessions_of(KEYS[3:4], [{}]).count == 1


@pytest.mark.parametrize("case", [pytest.param(method, id=name) for name, method in cases().items()])
@pytest.mark.parametrize("in_reward", [False, True])
def test_reward_and_kl_of_each_row_by_the_facts_of_a_method(case: Method, in_reward: bool) -> None:
    """The sum of a row is R̄ − β log(π/π_ref) of its response, of which each fact changes a part."""
    sessions = sessions_of(KEYS, TAGS)
    values = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.2, 0.4, 0.2], dtype=torch.float64)
    rewards = scores() - BETA * kl() if in_reward else scores()
    raw = rewards.clone()
    new = token_rewards(case, sessions, values, scores=scores(), rewards=rewards)
    assert torch.equal(rewards, raw)
    of_row = BETA * kl().sum(1) * in_reward
    whole = of_row.clone()
    whole[[1, 4, 6]] = of_row[[1, 4, 6]].sum()
    penalty = whole if case.needs_sequence_kl else of_row
    wanted = -penalty * (not case.contains_kl)
    if not case.has_own_baseline:
        wanted = wanted + scores().sum(1) + values
    torch.testing.assert_close(new.sum(1), wanted.float(), atol=1e-5, rtol=1e-5)
    assert in_reward or not case.has_own_baseline or not new.any()


def test_raw_rewards_are_not_written_into() -> None:
    """Without a KL in the reward verl's token-level rewards are its scores, the same tensor."""
    raw = scores()
    values = torch.ones(7, dtype=torch.float64)
    new = token_rewards(MARA(threshold=1), sessions_of(KEYS, TAGS), values, scores=raw, rewards=raw)
    assert torch.equal(raw, scores())
    assert new.data_ptr() != raw.data_ptr()
    assert torch.equal(new - raw, torch.nn.functional.one_hot(torch.zeros(7, dtype=torch.long), 3).float())


def test_without_a_method_nothing_changes_to_the_bit() -> None:
    sessions = sessions_of(KEYS, TAGS)
    rewards = scores() - BETA * kl()
    values = torch.zeros(7, dtype=torch.float64)
    assert torch.equal(token_rewards(Plain(), sessions, values, scores=scores(), rewards=rewards), rewards)


def test_advantages_of_a_method_reach_the_tokens_that_are_trained_on() -> None:
    values = torch.arange(7).double()
    mask = torch.ones(7, 3)
    mask[1] = 0  # rejected by verl's rollout correction
    mask[3, 1:] = 0
    kl_part = torch.full((7, 3), 0.25) * mask
    for method in (BestOfN(k=2), AlphaDPG()):
        found = all_advantages(method, values, advantages=kl_part, mask=mask)
        torch.testing.assert_close(found, (values[:, None].float() + 0.25) * mask)
    assert torch.equal(all_advantages(Plain(), values, advantages=kl_part, mask=mask), kl_part)


def test_a_whole_batch_by_hand() -> None:
    """MARA with a KL in the reward: at its optimum, flat over the good, all rows of "u" are worth the same.

    Each row gets 1 + β (log π_ref(z) − log π_ref(y)) − β (log π(y) − log π_ref(y)) of its whole response,
    which for equal log π(y) is one number.
    """
    sessions = sessions_of(KEYS, TAGS)
    mask = torch.ones(7, 3)
    mask[2] = 0
    policy = torch.full((7, 3), -1.0)
    policy[0] = -3.0  # one row of three tokens; the other response has three rows: both have −9
    reference = policy - kl()
    result = transform_rows(
        MARA(threshold=1.0), sessions, scores=scores(), mask=mask, ref_logprobs=reference, beta=BETA
    )
    rewards = scores() - BETA * kl() * mask
    new = token_rewards(MARA(threshold=1.0), sessions, result.values, scores=scores(), rewards=rewards)
    of_u = new.sum(1)[[0, 1, 4, 6]]
    anchor = max(float(reference[0].sum()), float(reference[[1, 4, 6]].sum()))
    torch.testing.assert_close(of_u, torch.full((4,), 1 + BETA * (anchor + 9)), atol=1e-5, rtol=1e-5)
    assert new[2].tolist() == [0, 0, 0]
    assert not math.isclose(float(rewards[0].sum()), float(rewards[1].sum()), abs_tol=0.1)
