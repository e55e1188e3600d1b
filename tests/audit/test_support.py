"""Support of a log and the optima over them, against enumeration and against `allmodes.targets`."""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.audit.support import (
    Support,
    anchor_bias,
    beta_bounds,
    evenness,
    mara_logprobs,
    method_logprobs,
    optimum_logprobs,
    outcome_support,
    response_support,
)
from allmodes.errors import InputError
from allmodes.methods import IPS
from allmodes.objectives.groups import Groups
from allmodes.targets import ips_target, mara_beta_bound, mara_target, reverse_kl_target


def close(got: Tensor, expected: Tensor, *, to: float = 1e-12) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=to, equal_nan=True)


def some_support(seed: int, sizes: tuple[int, ...] = (5, 3, 7)) -> Support:
    """Support of several prompts in shuffled order."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    prompts = prompts[torch.randperm(len(prompts), generator=generator)]
    count = len(prompts)
    raw = torch.randn(count, generator=generator, dtype=torch.float64)
    ref = torch.empty_like(raw)
    for prompt in range(len(sizes)):
        ref[prompts == prompt] = raw[prompts == prompt].log_softmax(0)
    return Support(
        kind="outcome",
        prompts=Groups(index=prompts, count=len(sizes)),
        ref_logprobs=ref,
        rewards=torch.rand(count, generator=generator, dtype=torch.float64),
        shares=ref.exp(),
        first=torch.arange(count),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
def test_optima_are_those_of_targets_prompt_by_prompt(seed: int, beta: float) -> None:
    support = some_support(seed)
    good = support.rewards >= 0.5
    plain, mara = optimum_logprobs(support, beta=beta), mara_logprobs(support, good, beta=beta)
    bounds = beta_bounds(support, good)
    for prompt in range(3):
        own = support.prompts.index == prompt
        ref, rewards = support.ref_logprobs[own], support.rewards[own]
        close(plain[own], reverse_kl_target(ref, rewards, beta=beta))
        close(bounds[prompt], mara_beta_bound(ref, rewards, threshold=0.5))
        if bool(good[own].any()):
            close(mara[own], mara_target(ref, rewards, beta=beta, threshold=0.5))
        else:
            close(mara[own], plain[own])


def test_no_beta_no_optimum() -> None:
    with pytest.raises(InputError, match="`beta`"):
        optimum_logprobs(some_support(0), beta=0)
    with pytest.raises(InputError, match="`beta`"):
        mara_logprobs(some_support(0), torch.ones(15, dtype=torch.bool), beta=-1)


def test_a_prompt_without_a_good_item() -> None:
    support = some_support(1)
    good = (support.rewards >= 0.5) & (support.prompts.index != 1)
    close(mara_logprobs(support, good, beta=0.3)[support.prompts.index == 1],
          optimum_logprobs(support, beta=0.3)[support.prompts.index == 1])  # fmt: skip
    even = evenness(support, optimum_logprobs(support, beta=0.3), good)
    assert int(even.count[1]) == 0
    for values in (even.top_share, even.effective, even.spread, beta_bounds(support, good)):
        assert math.isnan(float(values[1]))
        assert not math.isnan(float(values[0]))


@pytest.mark.parametrize("seed", range(3))
def test_evenness_by_its_formulas(seed: int) -> None:
    support = some_support(seed)
    good = support.rewards >= 0.3
    logprobs = optimum_logprobs(support, beta=0.2)
    even = evenness(support, logprobs, good)
    for prompt in range(3):
        chosen = logprobs[(support.prompts.index == prompt) & good]
        shares = chosen.exp() / chosen.exp().sum()
        assert int(even.count[prompt]) == len(chosen)
        close(even.top_share[prompt], shares.max())
        close(even.effective[prompt], 1 / (shares**2).sum(), to=1e-9)
        close(even.spread[prompt], chosen.max() - chosen.min())


def test_evenness_of_what_a_float_cannot_hold() -> None:
    support = some_support(0, sizes=(3,))
    logprobs = torch.tensor([-5000.0, -5000.0, -9000.0], dtype=torch.float64)
    even = evenness(support, logprobs, torch.ones(3, dtype=torch.bool))
    close(even.effective, torch.tensor([2.0], dtype=torch.float64))
    close(even.spread, torch.tensor([4000.0], dtype=torch.float64))


def test_outcomes_have_their_share_of_the_prompts_samples() -> None:
    prompts = Groups(index=torch.tensor([0, 1, 0, 0, 1, 0]), count=3)
    outcomes = torch.tensor([4, 4, 7, 4, 9, 7])
    rewards = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.25, 1.0])
    support = outcome_support(prompts, outcomes, rewards, torch.ones(len(rewards)).double(), beta=None)
    seen = {
        (int(p), int(outcomes[f])): (round(math.exp(lp), 12), float(r), float(n))
        for p, f, lp, r, n in zip(
            support.prompts.index,
            support.first,
            support.ref_logprobs,
            support.rewards,
            support.shares,
            strict=True,
        )
    }
    assert seen == {
        (0, 4): (0.5, 1.0, 0.5), (0, 7): (0.5, 0.75, 0.5), (1, 4): (0.5, 0.0, 0.5), (1, 9): (0.5, 0.25, 0.5),
    }  # fmt: skip


@pytest.mark.parametrize("beta", [0.01, 0.3, 4.0])
def test_an_outcomes_reward_is_the_one_that_gives_its_mass_at_the_optimum(beta: float) -> None:
    # Two spellings of one outcome with unequal rewards, one of another: masses by enumeration of strings.
    ref = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    rewards = torch.tensor([1.0, 0.4, 0.7], dtype=torch.float64)
    optimum = reverse_kl_target(ref.log(), rewards, beta=beta).exp()
    samples = torch.tensor([0] * 2 + [1] * 3 + [2] * 5)  # exactly as often as the reference has it
    support = outcome_support(
        Groups(index=torch.zeros(10, dtype=torch.long), count=1),
        torch.tensor([0, 0, 1])[samples],
        rewards[samples],
        torch.ones(10).double(),
        beta=beta,
    )
    got = optimum_logprobs(support, beta=beta).exp()
    close(got, torch.stack([optimum[:2].sum(), optimum[2]]))


def test_responses_count_once_with_their_own_log_probability() -> None:
    prompts = Groups(index=torch.tensor([0, 0, 0, 1]), count=2)
    support = response_support(
        prompts,
        torch.tensor([5, 6, 5, 5]),
        torch.tensor([1.0, 0.0, 0.5, 0.2], dtype=torch.float64),
        torch.tensor([-3.0, -2.0, -3.5, -1.0], dtype=torch.float64),
        beta=None,
    )
    assert len(support) == 3
    by_first = {int(f): i for i, f in enumerate(support.first)}
    assert set(by_first) == {0, 1, 3}
    order = [by_first[0], by_first[1], by_first[3]]
    assert support.shares[order].tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    close(
        support.ref_logprobs[[by_first[0], by_first[1], by_first[3]]],
        torch.tensor([-3.25, -2.0, -1.0]).double(),
    )
    close(support.rewards[by_first[0]], torch.tensor(0.75).double())


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(2, 4),
    group_size=st.integers(2, 4),
    seed=st.integers(0, 10**6),
)
def test_the_anchors_bias_is_that_of_all_groups(size: int, group_size: int, seed: int) -> None:
    """Every group of G samples, enumerated: the anchor's mean log-probability, given one of its samples."""
    generator = torch.Generator().manual_seed(seed)
    ref = torch.randn(size + 1, generator=generator, dtype=torch.float64).log_softmax(0)
    good = torch.tensor([True] * size + [False])
    support = Support(
        kind="outcome",
        prompts=Groups(index=torch.zeros(size + 1, dtype=torch.long), count=1),
        ref_logprobs=ref,
        rewards=good.double(),
        shares=ref.exp(),
        first=torch.arange(size + 1),
    )

    def mean_anchor(given_: int) -> float:
        total = 0.0
        for others in itertools.product(range(size + 1), repeat=group_size - 1):
            weight = math.exp(sum(float(ref[o]) for o in others))
            total += weight * max(float(ref[y]) for y in (given_, *others) if bool(good[y]))
        return total

    likeliest, rarest = int(ref[:size].argmax()), int(ref[:size].argmin())
    expected = mean_anchor(likeliest) - mean_anchor(rarest)
    assert float(anchor_bias(support, good, group_size=group_size)[0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_anchors_bias_of_several_prompts_is_each_ones_own(seed: int) -> None:
    support = some_support(seed)
    good = support.rewards >= 0.3
    together = anchor_bias(support, good, group_size=5)
    for prompt in range(3):
        own = support.prompts.index == prompt
        alone = Support(
            kind="outcome",
            prompts=Groups(index=torch.zeros(int(own.sum()), dtype=torch.long), count=1),
            ref_logprobs=support.ref_logprobs[own],
            rewards=support.rewards[own],
            shares=support.shares[own],
            first=support.first[own],
        )
        close(together[prompt], anchor_bias(alone, good[own], group_size=5)[0])


def test_the_anchors_bias_by_prompt() -> None:
    support = some_support(2)
    good = (support.rewards >= 0.4) & (support.prompts.index != 1)
    bias = anchor_bias(support, good, group_size=4)
    assert math.isnan(float(bias[1]))
    assert float(bias[0]) > float(anchor_bias(support, good, group_size=8)[0]) > 0


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("is_forward", [False, True])
def test_the_fixed_points_of_ips_are_those_of_targets(beta: float, *, is_forward: bool) -> None:
    support = some_support(0)
    found = method_logprobs(
        support, IPS(), beta=beta, kl="forward" if is_forward else "reverse", group_size=None
    )
    assert found is not None
    for prompt in range(support.prompts.count):
        own = support.prompts.index == prompt
        expected = ips_target(
            support.rewards[own],
            ref_logprobs=support.ref_logprobs[own],
            beta=beta,
            regularizer="forward" if is_forward else "reverse",
        )
        close(found[own], expected, to=1e-10)


def test_ips_without_any_reward_keeps_the_reference() -> None:
    support = some_support(1)
    nothing = dataclasses.replace(support, rewards=support.rewards * (support.prompts.index != 1))
    own = support.prompts.index == 1
    found = method_logprobs(nothing, IPS(), beta=0.3, kl="reverse", group_size=None)
    assert found is not None
    close(found[own], support.ref_logprobs[own])
