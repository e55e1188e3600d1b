"""Flows against gradients, enumerated updates, closed forms, SciPy and the targets they end in."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import group_advantages, ips_rewards, kl_in_rewards, leave_one_out_advantages
from allmodes.targets import (
    expected_return_flow,
    integrate_flow,
    ips_flow,
    ips_target,
    natural_gradient_flow,
    reverse_kl_target,
)
from tensors import close, tensor

REGULARIZERS = ["reverse", "forward", "in_reward"]
FIVE = (1.0, 0.8, 0.6, 0.4, 0.2)
PROPERTY = settings(max_examples=40, deadline=None)


def world(seed: int, outcomes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """A policy, a reference and positive rewards."""
    generator = torch.Generator().manual_seed(seed)
    policy, reference, rewards = torch.randn(3, outcomes, generator=generator, dtype=torch.float64)
    return torch.log_softmax(1.2 * policy, 0), torch.log_softmax(reference, 0), rewards.sigmoid()


def uniform(outcomes: int) -> Tensor:
    return torch.full((outcomes,), -math.log(outcomes), dtype=torch.float64)


def gradient_of(objective: Callable[[Tensor], Tensor], logprobs: Tensor) -> Tensor:
    """∇ of an objective of log p in the logits."""
    logits = logprobs.clone().requires_grad_()
    return torch.autograd.grad(objective(torch.log_softmax(logits, -1)).sum(), logits)[0]


def kl(logprobs: Tensor, other: Tensor) -> Tensor:
    return (logprobs.exp() * (logprobs - other)).sum(-1)


# -------------------------------------------------------------------- gradients of their objectives


@given(seed=st.integers(0, 10**6), outcomes=st.integers(1, 12), beta=st.sampled_from([0.0, 0.03, 1.0, 30.0]))
@PROPERTY
def test_the_flow_of_expected_return_is_the_gradient_of_its_objective(
    seed: int, outcomes: int, beta: float
) -> None:
    logprobs, ref, rewards = world(seed, outcomes)
    flow = expected_return_flow(logprobs, rewards - 0.5, ref_logprobs=ref, beta=beta)
    expected = gradient_of(lambda at: (at.exp() * (rewards - 0.5)).sum(-1) - beta * kl(at, ref), logprobs)
    close(flow, expected, 1e-14 * (1 + beta))
    assert abs(float(flow.sum())) < 1e-14 * (1 + beta)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@given(seed=st.integers(0, 10**6), outcomes=st.integers(1, 12), beta=st.sampled_from([0.0, 0.03, 1.0, 30.0]))
@PROPERTY
def test_the_flow_of_ips_is_the_gradient_of_its_objective(
    regularizer: Any, seed: int, outcomes: int, beta: float
) -> None:
    logprobs, ref, rewards = world(seed, outcomes)
    penalty: Callable[[Tensor], Tensor] = {
        "reverse": lambda at: kl(at, ref),
        "forward": lambda at: kl(ref, at),
        "in_reward": lambda at: 0.5 * (at - ref).square().sum(-1),
    }[regularizer]
    flow = ips_flow(logprobs, rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    expected = gradient_of(lambda at: (rewards * at).sum(-1) - beta * penalty(at), logprobs)
    close(flow, expected, 1e-13 * (1 + beta))
    assert abs(float(flow.sum())) < 1e-13 * (1 + beta)


@given(seed=st.integers(0, 10**6), outcomes=st.integers(2, 8), beta=st.sampled_from([0.0, 0.2, 3.0]))
@PROPERTY
def test_the_natural_flow_is_the_gradient_through_the_inverse_fisher_matrix(
    seed: int, outcomes: int, beta: float
) -> None:
    """(diag p − p pᵀ) θ̇ is the gradient, and that matrix has no other null vector than the constants."""
    logprobs, ref, rewards = world(seed, outcomes)
    flow = natural_gradient_flow(logprobs, rewards, ref_logprobs=ref, beta=beta)
    p = logprobs.exp()
    fisher = torch.diag(p) - torch.outer(p, p)
    expected = gradient_of(lambda at: (at.exp() * rewards).sum(-1) - beta * kl(at, ref), logprobs)
    close(fisher @ flow, expected, 1e-14 * (1 + beta))


def test_the_natural_flow_is_the_advantage_itself() -> None:
    logprobs, ref, rewards = world(1)
    flow = natural_gradient_flow(logprobs, rewards, ref_logprobs=ref, beta=0.3)
    close(flow, rewards - 0.3 * (logprobs - ref), 1e-15)
    close(natural_gradient_flow(logprobs, rewards), rewards, 0)


# -------------------------------------------------------------------- what sampled updates average to

Advantages = Callable[[Tensor, Tensor, Tensor], Tensor]


def expected_update(logprobs: Tensor, rewards: Tensor, group_size: int, advantages: Advantages) -> Tensor:
    """E[1/G Σ_j A_j ∇ log p(y_j)] over *all* groups of G samples; A of (rewards, outcomes, groups)."""
    groups = torch.tensor(list(itertools.product(range(len(logprobs)), repeat=group_size)))
    ids = torch.arange(len(groups)).repeat_interleave(group_size)
    gains = advantages(rewards[groups].flatten(), groups.flatten(), ids).view_as(groups)
    logits = logprobs.clone().requires_grad_()
    scores = torch.log_softmax(logits, 0)
    chance = scores.detach()[groups].sum(1).exp()
    return torch.autograd.grad((chance * (gains * scores[groups]).mean(1)).sum(), logits)[0]


@pytest.mark.parametrize("group_size", [1, 2, 4])
@pytest.mark.parametrize("min_probability", [0.0, 0.2, 0.5, 1.0])
def test_the_flow_of_ips_is_the_expected_update_of_groups(group_size: int, min_probability: float) -> None:
    for seed, outcomes in ((2, 3), (3, 4)):
        logprobs, _, rewards = world(seed, outcomes)
        expected = expected_update(
            logprobs,
            rewards,
            group_size,
            lambda gains, ids, groups: (
                ips_rewards(gains, ids, group_ids=groups, min_probability=min_probability).rewards
            ),
        )
        flow = ips_flow(logprobs, rewards, group_size=group_size, min_probability=min_probability)
        close(flow, expected, 1e-14)


@pytest.mark.parametrize("regularizer", ["reverse", "forward"])
@pytest.mark.parametrize("min_probability", [0.0, 0.4])
def test_the_flow_of_ips_with_groups_and_a_kl_is_the_expected_update_of_both(
    regularizer: Any, min_probability: float
) -> None:
    logprobs, ref, rewards = world(4, 3)
    expected = expected_update(
        logprobs,
        rewards,
        3,
        lambda gains, ids, groups: (
            ips_rewards(gains, ids, group_ids=groups, min_probability=min_probability).rewards
        ),
    ) - 0.3 * gradient_of(lambda at: kl(at, ref) if regularizer == "reverse" else kl(ref, at), logprobs)
    flow = ips_flow(
        logprobs,
        rewards,
        ref_logprobs=ref,
        beta=0.3,
        regularizer=regularizer,
        group_size=3,
        min_probability=min_probability,
    )
    close(flow, expected, 1e-14)


def exact_update(logprobs: Tensor, rewards: Tensor, *, min_probability: float) -> Tensor:
    """E[r/max(p, p_min) ∇ log p] over single samples, with the exact p of each."""
    p = logprobs.exp()
    gains = rewards / p.clamp(min=min_probability)
    return gradient_of(lambda at: p * gains * at, logprobs)


@pytest.mark.parametrize("min_probability", [0.0, 0.05, 0.3, 1.0])
def test_exact_probabilities_with_a_minimum(min_probability: float) -> None:
    logprobs, _, rewards = world(5)
    flow = ips_flow(logprobs, rewards, min_probability=min_probability)
    close(flow, exact_update(logprobs, rewards, min_probability=min_probability), 1e-15)


def test_a_minimum_of_one_is_no_scaling_at_all() -> None:
    logprobs, _, rewards = world(6)
    close(ips_flow(logprobs, rewards, min_probability=1.0), expected_return_flow(logprobs, rewards), 1e-15)


@pytest.mark.parametrize("min_probability", [0.0, 0.3])
def test_the_kl_within_the_reward_is_scaled_with_it(min_probability: float) -> None:
    """(r − β log p/q) / max(p, p_min): what a trainer does that has the KL in the reward before IPS."""
    logprobs, ref, rewards = world(7)
    inside = kl_in_rewards(rewards, logprobs, ref, beta=0.4)
    flow = ips_flow(
        logprobs,
        rewards,
        ref_logprobs=ref,
        beta=0.4,
        regularizer="in_reward",
        min_probability=min_probability,
    )
    close(flow, exact_update(logprobs, inside, min_probability=min_probability), 1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("group_size", [2, 3, 4])
def test_baselines_of_a_group_leave_the_flow_of_expected_return(group_size: int, beta: float) -> None:
    """Leave-one-out has the very flow of the expected return; the group's mean (G − 1)/G of it."""
    logprobs, ref, rewards = world(8, 3)
    flow = expected_return_flow(logprobs, rewards, ref_logprobs=ref, beta=beta)
    gains = kl_in_rewards(rewards, logprobs, ref, beta=beta)
    plain = expected_update(logprobs, gains, group_size, lambda gains, *_: gains)
    left_out = expected_update(
        logprobs, gains, group_size, lambda gains, _, groups: leave_one_out_advantages(gains, groups)
    )
    centred = expected_update(
        logprobs, gains, group_size, lambda gains, _, groups: group_advantages(gains, groups, scale="none")
    )
    close(plain, flow, 1e-14)
    close(left_out, flow, 1e-14)
    close(centred, flow * (group_size - 1) / group_size, 1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_baseline_drops_out(beta: float) -> None:
    logprobs, ref, rewards = world(9)
    flow = expected_return_flow(logprobs, rewards, ref_logprobs=ref, beta=beta)
    for baseline in (-3.0, 0.7, float((logprobs.exp() * rewards).sum()), 100.0):
        shifted = expected_return_flow(logprobs, rewards, ref_logprobs=ref, beta=beta, baseline=baseline)
        close(shifted, flow, 1e-15 * (1 + abs(baseline)) * 3)
    rows = (logprobs.expand(2, 3, 5), rewards.expand(2, 3, 5), ref.expand(2, 3, 5))
    per_row = expected_return_flow(
        rows[0], rows[1], ref_logprobs=rows[2], beta=beta, baseline=torch.arange(6.0).reshape(2, 3)
    )
    close(per_row, flow.expand(2, 3, 5), 1e-13)


def test_a_baseline_is_in_the_computation() -> None:
    """Not merely ignored: a baseline far away costs digits, one close to the rewards saves them."""
    logprobs, rewards = tensor(0.5, 0.5).log(), tensor(1e9 + 1e-6, 1e9)
    difference = float(rewards[0] - rewards[1])
    near = expected_return_flow(logprobs, rewards, baseline=1e9)
    far = expected_return_flow(logprobs, rewards - 1e9, baseline=1e12)
    assert near.tolist() == pytest.approx([difference / 4, -difference / 4], rel=1e-12)
    assert abs(float(far[0]) - difference / 4) > 1e-8


@pytest.mark.parametrize("group_size", [1, 2, 7, 100])
def test_without_clipping_both_ways_to_the_inclusion_agree(group_size: int) -> None:
    """p_min below 1/G clips no frequency: the binomial sum and 1 − (1 − p)^G are one number."""
    logprobs, _, rewards = world(10)
    closed = ips_flow(logprobs, rewards, group_size=group_size)
    summed = ips_flow(logprobs, rewards, group_size=group_size, min_probability=0.5 / group_size)
    close(summed, closed, 1e-12)
    seen = rewards * (1 - (1 - logprobs.exp()) ** group_size)
    close(closed, seen - logprobs.exp() * seen.sum(), 1e-13)


def test_a_group_of_one_is_the_plain_policy_gradient() -> None:
    logprobs, _, rewards = world(11)
    close(ips_flow(logprobs, rewards, group_size=1), expected_return_flow(logprobs, rewards), 1e-15)


def test_large_groups_have_the_flow_of_exact_probabilities() -> None:
    logprobs, _, rewards = world(12)
    exact = ips_flow(logprobs, rewards)
    close(ips_flow(logprobs, rewards, group_size=10**6), exact, 1e-14)
    clipped = ips_flow(logprobs, rewards, min_probability=0.1)
    gaps = [
        float((ips_flow(logprobs, rewards, group_size=g, min_probability=0.1) - clipped).abs().max())
        for g in (10, 100, 1000)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 5e-3


# ----------------------------------------------------------------------------- edges and batches

FLOWS: dict[str, Callable[..., Tensor]] = {
    "expected return": lambda p, r, q, beta: expected_return_flow(p, r, ref_logprobs=q, beta=beta),
    "natural": lambda p, r, q, beta: natural_gradient_flow(p, r, ref_logprobs=q, beta=beta),
    "reverse": lambda p, r, q, beta: ips_flow(p, r, ref_logprobs=q, beta=beta),
    "forward": lambda p, r, q, beta: ips_flow(p, r, ref_logprobs=q, beta=beta, regularizer="forward"),
    "in_reward": lambda p, r, q, beta: ips_flow(p, r, ref_logprobs=q, beta=beta, regularizer="in_reward"),
    "groups": lambda p, r, q, beta: ips_flow(p, r, ref_logprobs=q, beta=beta, group_size=4),
    "clipped": lambda p, r, q, beta: ips_flow(
        p, r, ref_logprobs=q, beta=beta, group_size=4, min_probability=0.3
    ),
}


@pytest.mark.parametrize("name", [name for name in FLOWS if name != "groups" and name != "clipped"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_batches_agree_with_single_rows(name: str, beta: float) -> None:
    worlds = [world(seed) for seed in range(6)]
    stacked = [torch.stack(parts).reshape(2, 3, 5) for parts in zip(*worlds, strict=True)]
    together = FLOWS[name](stacked[0], stacked[2], stacked[1], beta).reshape(6, 5)
    alone = torch.stack([FLOWS[name](p, r, q, beta) for p, q, r in worlds])
    close(together, alone, 1e-15)


@pytest.mark.parametrize("name", ["groups", "clipped"])
def test_batches_of_groups_agree_with_single_rows(name: str) -> None:
    worlds = [world(seed) for seed in range(6)]
    stacked = [torch.stack(parts).reshape(2, 3, 5) for parts in zip(*worlds, strict=True)]
    together = FLOWS[name](stacked[0], stacked[2], stacked[1], 0.2).reshape(6, 5)
    alone = torch.stack([FLOWS[name](p, r, q, 0.2) for p, q, r in worlds])
    close(together, alone, 1e-15)


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_float32_stays_float32_and_close(name: str, beta: float) -> None:
    p, q, r = world(13)
    single = FLOWS[name](p.float(), r.float(), q.float(), beta)
    assert single.dtype == torch.float32
    close(single.double(), FLOWS[name](p, r, q, beta), 2e-6)


@pytest.mark.parametrize("name", ["expected return", "natural", "reverse", "forward", "groups", "clipped"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_an_outcome_without_mass_has_no_say(name: str, beta: float) -> None:
    p, q, r = world(14, 4)
    hole = tensor(-torch.inf)
    flow = FLOWS[name](torch.cat([p, hole]), torch.cat([r, tensor(0.0)]), torch.cat([q, hole]), beta)
    close(flow, torch.cat([FLOWS[name](p, r, q, beta), tensor(0.0)]), 1e-15)
    dead = torch.cat([p, hole])
    followed = integrate_flow(
        lambda at: FLOWS[name](at, torch.cat([r, tensor(0.9)]), torch.cat([q, hole]), beta),
        dead,
        times=tensor(1.0),
        max_step=0.1,
    )
    assert followed[0, 4] == -math.inf
    assert torch.isfinite(followed[0, :4]).all()


def test_all_mass_on_one_outcome_does_not_move_without_a_kl() -> None:
    """Up to a constant: IPS would pay the others, but a softmax at the corner never sees them."""
    corner = tensor(1.0, 0.0, 0.0).log()
    rewards = tensor(0.3, 1.0, 0.5)
    assert (expected_return_flow(corner, rewards) == 0).all()
    for options in ({"group_size": 4}, {"group_size": 4, "min_probability": 0.5}, {"min_probability": 0.5}):
        assert (ips_flow(corner, rewards, **options) == 0).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["expected return", "clipped return", "natural"])
def test_equal_rewards_move_nothing_whatever_the_policy(name: str) -> None:
    """The paper has them collapse; A ≡ 0, and the natural gradient is a constant, which is nothing."""
    logprobs, _, _ = world(15)
    rewards = torch.full((5,), 0.7, dtype=torch.float64)
    flow = {
        "expected return": lambda at: expected_return_flow(at, rewards),
        "clipped return": lambda at: ips_flow(at, rewards, min_probability=1.0),
        "natural": lambda at: natural_gradient_flow(at, rewards),
    }[name]
    path = integrate_flow(flow, logprobs, times=tensor(1.0, 50.0), max_step=0.5)
    close(path, logprobs.expand(2, 5), 1e-13)


# ----------------------------------------------------------------------------- following a flow


def test_the_natural_flow_tilts_by_exp_of_time_times_reward() -> None:
    logprobs, _, rewards = world(16)
    times = tensor(0.0, 0.3, 2.0, 40.0)
    path = integrate_flow(lambda at: natural_gradient_flow(at, rewards), logprobs, times=times, max_step=0.25)
    expected = torch.log_softmax(logprobs + times[:, None] * rewards, -1)
    assert path.shape == (4, 5)
    close(path, expected, 1e-12)


@pytest.mark.parametrize("beta", [0.2, 1.5])
def test_with_a_kl_natural_log_ratios_relax_at_the_rate_beta(beta: float) -> None:
    """l(t) = l* + (l(0) − l*) e^(−βt), with l* the log-ratios of the reverse-KL target."""
    logprobs, ref, rewards = world(17)
    times = tensor(0.5, 1.0, 4.0)
    path = integrate_flow(
        lambda at: natural_gradient_flow(at, rewards, ref_logprobs=ref, beta=beta),
        logprobs,
        times=times,
        max_step=0.01,
    )

    def ratios(at: Tensor) -> Tensor:
        return at[..., 1:] - at[..., :1]

    rest = ratios(reverse_kl_target(ref, rewards, beta=beta))
    expected = rest + (ratios(logprobs) - rest) * torch.exp(-beta * times)[:, None]
    close(ratios(path), expected, 1e-9)


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_log_ratios_move_as_theorem_3_1_says(baseline: float) -> None:
    """d/dt log(p_i/p_j) = p_i (r_i − r̄) − p_j (r_j − r̄), by a five-point difference along the flow."""
    logprobs, _, rewards = world(18)
    h = 0.01
    path = integrate_flow(
        lambda at: expected_return_flow(at, rewards, baseline=baseline),
        logprobs,
        times=tensor(1 - 2 * h, 1 - h, 1.0, 1 + h, 1 + 2 * h),
        max_step=0.01,
    )
    ratio = path[:, :, None] - path[:, None, :]
    measured = (ratio[0] - 8 * ratio[1] + 8 * ratio[3] - ratio[4]) / (12 * h)
    p = path[2].exp()
    pushed = p * (rewards - (p * rewards).sum())
    close(measured, pushed[:, None] - pushed[None, :], 1e-9)


@pytest.mark.parametrize("name", FLOWS)
def test_scipy_follows_the_same_path(name: str) -> None:
    p, q, r = world(19, 4)

    def velocity(_: float, logits: Any) -> Any:
        return FLOWS[name](torch.log_softmax(torch.tensor(logits), 0), r, q, 0.2).numpy()

    times = tensor(0.7, 2.0, 5.0)
    found = solve_ivp(
        velocity, (0, 5), p.numpy(), method="DOP853", t_eval=times.numpy(), rtol=1e-12, atol=1e-13
    )
    expected = torch.log_softmax(torch.tensor(np.ascontiguousarray(found.y.T)), -1)
    path = integrate_flow(lambda at: FLOWS[name](at, r, q, 0.2), p, times=times, max_step=0.02)
    close(path, expected, 1e-8)


def test_halving_the_step_divides_the_error_by_sixteen() -> None:
    """Fourth order, against the closed form of the natural flow with a KL."""
    logprobs, ref, rewards = world(20)
    beta, time = 1.0, 2.0

    def error(max_step: float) -> float:
        path = integrate_flow(
            lambda at: natural_gradient_flow(at, rewards, ref_logprobs=ref, beta=beta),
            logprobs,
            times=tensor(time),
            max_step=max_step,
        )
        rest = reverse_kl_target(ref, rewards, beta=beta)
        exact = torch.log_softmax(rest + (logprobs - rest) * math.exp(-beta * time), 0)
        return float((path[0] - exact).abs().max())

    errors = [error(0.2 / 2**k) for k in range(4)]
    assert errors[0] > 1e-6
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(16, rel=0.15)


def test_fourth_order_of_a_nonlinear_flow_against_a_much_finer_one() -> None:
    """Four stages that are right for linear flows alone would fail here."""
    _, _, rewards = world(21)
    start = tensor(0.85, 0.05, 0.05, 0.03, 0.02).log()

    def end(max_step: float) -> Tensor:
        return integrate_flow(
            lambda at: ips_flow(at, 3 * rewards, min_probability=0.0),
            start,
            times=tensor(1.0),
            max_step=max_step,
        )[0]

    exact = end(1 / 640)
    errors = [float((end(1 / n) - exact).abs().max()) for n in (10, 20, 40, 80)]
    assert errors[0] > 1e-8
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(16, rel=0.25)


def test_no_step_is_longer_than_asked_and_none_is_wasted() -> None:
    logprobs = uniform(3)
    calls = 0

    def flow(at: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        assert at.exp().sum() == pytest.approx(1, abs=1e-14)
        return at.new_zeros(3)

    for times, max_step, steps in (
        (tensor(0.0), 0.1, 0),
        (tensor(1.0), 0.3, 4),
        (tensor(1.0), 0.25, 4),
        (tensor(0.0, 0.5, 1.25), 0.5, 3),
        (tensor(0.1, 1.1), 5.0, 2),
    ):
        calls = 0
        path = integrate_flow(flow, logprobs, times=times, max_step=max_step)
        assert calls == 4 * steps
        close(path, logprobs.expand(len(times), 3), 1e-15)


def test_stops_on_the_way_do_not_change_the_path_and_batches_follow_their_own() -> None:
    p, _, r = (torch.stack(parts) for parts in zip(world(22), world(23), strict=True))

    def flow(at: Tensor) -> Tensor:
        return ips_flow(at, r)

    path = integrate_flow(flow, p, times=tensor(0.0, 1.0, 2.0, 3.0), max_step=0.05)
    assert path.shape == (4, 2, 5)
    close(path[0], p, 1e-15)
    close(path[-1], integrate_flow(flow, p, times=tensor(3.0), max_step=0.05)[0], 1e-12)
    for row in range(2):
        alone = integrate_flow(
            lambda at, row=row: ips_flow(at, r[row]), p[row], times=tensor(3.0), max_step=0.05
        )
        close(path[-1, row], alone[0], 1e-14)


# --------------------------------------------------------------------------- where flows end


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_with_a_kl_expected_return_ends_in_the_reverse_kl_target(beta: float) -> None:
    """However far it starts: what Theorem 3.1's "independent of KL regularisation" overlooks."""
    worlds = [world(seed, 4) for seed in (24, 25, 26)]
    p, q, r = (torch.stack(parts) for parts in zip(*worlds, strict=True))
    target = reverse_kl_target(q, r, beta=beta)
    path = integrate_flow(
        lambda at: expected_return_flow(at, r, ref_logprobs=q, beta=beta),
        p,
        times=tensor(4000.0),
        max_step=2.0,
    )
    close(path[0].exp(), target.exp(), 1e-8)
    assert expected_return_flow(target, r, ref_logprobs=q, beta=beta).abs().max() < 1e-15 * 10


def test_without_a_kl_expected_return_ends_on_the_best_outcome() -> None:
    rewards = tensor(0.3, 1.0, 0.5)
    path = integrate_flow(
        lambda at: expected_return_flow(at, rewards),
        tensor(0.6, 0.1, 0.3).log(),
        times=tensor(500.0),
        max_step=0.5,
    )
    assert path[0, [0, 2]].exp().sum() < 0.01


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_ips_ends_in_its_target(regularizer: Any, beta: float) -> None:
    worlds = [world(seed) for seed in (28, 29, 30)]
    p, q, r = (torch.stack(parts) for parts in zip(*worlds, strict=True))
    path = integrate_flow(
        lambda at: ips_flow(at, r, ref_logprobs=q, beta=beta, regularizer=regularizer),
        p,
        times=tensor(150.0),
        max_step=0.25,
    )
    target = ips_target(r, ref_logprobs=q, beta=beta, regularizer=regularizer)
    close(path[0].exp(), target.exp(), 1e-8)


@pytest.mark.parametrize("group_size", [2, 4, 8, 64])
def test_ips_of_groups_ends_in_its_target(group_size: int) -> None:
    """From a start without the outcomes that die out, for these are slow: see below."""
    target = ips_target(tensor(*FIVE), group_size=group_size)
    start = torch.where(target.isneginf(), -torch.inf, tensor(*FIVE[::-1]).log()).log_softmax(0)
    path = integrate_flow(
        lambda at: ips_flow(at, tensor(*FIVE), group_size=group_size),
        start,
        times=tensor(300.0),
        max_step=0.25,
    )
    close(path[0].exp(), target.exp(), 1e-8)


@pytest.mark.parametrize(("group_size", "lost"), [(4, 2), (8, 1)])
def test_outcomes_that_a_group_is_too_small_for_die_out_like_one_over_time(
    group_size: int, lost: int
) -> None:
    """p_i t (c − G r_i) → n/(n + m) for m lost outcomes and n others, with c = Σ r (1 − (1 − p)^G).

    Each lost outcome has θ̇_i = −(c − G r_i) p_i, which the n others share, at rest among themselves.
    """
    rewards = tensor(*FIVE)
    p = ips_target(rewards, group_size=group_size).exp()
    assert int((p == 0).sum()) == lost
    c = (rewards * (1 - (1 - p) ** group_size)).sum()
    path = integrate_flow(
        lambda at: ips_flow(at, rewards, group_size=group_size),
        uniform(5),
        times=tensor(500.0, 2000.0),
        max_step=1.0,
    )
    dying = p == 0
    limit = path.exp()[:, dying] * tensor(500.0, 2000.0)[:, None] * (c - group_size * rewards[dying])
    expected = torch.full_like(limit, (5 - lost) / 5)
    assert ((limit[1] - expected[1]).abs() < 0.05).all()
    assert ((limit[1] - expected[1]).abs() < 0.6 * (limit[0] - expected[0]).abs()).all()


def test_clipping_does_not_move_the_end_while_all_outcomes_stay_above_the_minimum() -> None:
    rewards = tensor(*FIVE)
    path = integrate_flow(
        lambda at: ips_flow(at, rewards, min_probability=0.06),
        uniform(5),
        times=tensor(150.0),
        max_step=0.25,
    )
    close(path[0].exp(), ips_target(rewards).exp(), 1e-8)


def test_clipping_above_the_mass_of_an_outcome_loses_it() -> None:
    """r_5/p_min = 2 is below Σ r = 2.8 of the other four, which then share as if it were not there."""
    rewards = tensor(*FIVE)
    path = integrate_flow(
        lambda at: ips_flow(at, rewards, min_probability=0.1),
        tensor(1.0, 1.0, 1.0, 1.0, 0.0).log().log_softmax(0),
        times=tensor(100.0),
        max_step=0.25,
    )
    rest = tensor(1.0, 0.8, 0.6, 0.4, 0.0) / 2.8
    close(path[0].exp(), rest, 1e-8)
    rare = torch.cat([rest[:4] * (1 - 1e-6), tensor(1e-6)]).log()
    flow = ips_flow(rare, rewards, min_probability=0.1)
    assert float(flow[4]) * 1e6 == pytest.approx(0.2 / 0.1 - 2.8, abs=1e-5)


def test_a_reward_of_zero_decays_like_one_over_time() -> None:
    """p_3 t → (1/Σr) n/(n + 1): θ̇_3 = −p_3 Σr, and the n = 2 others, at rest among themselves, share it."""
    rewards = tensor(1.0, 0.5, 0.0)
    path = integrate_flow(lambda at: ips_flow(at, rewards), uniform(3), times=tensor(1e3, 4e3), max_step=1.0)
    products = (path[:, 2].exp() * tensor(1e3, 4e3)).tolist()
    expected = 2 / 3 / 1.5
    assert products[0] == pytest.approx(expected, rel=4e-3)
    assert products[1] == pytest.approx(expected, rel=1e-3)
    close(path[1, :2].softmax(0), tensor(2 / 3, 1 / 3), 1e-3)


def test_tied_winners_collapse_as_a_power_law_while_a_worse_outcome_dies() -> None:
    """d log(p_1/p_2)/d log t → (p_1 − p_2)/(1 + P), for p_3 → 1/(Δ (1 + P) t); P = p_1² + p_2².

    With one winner left this is ½: neither exponential nor at rest. The baseline saves the digits of r − r̄.
    """
    rewards = tensor(1.0, 1.0, 0.5)
    at, now = tensor(0.8, 0.1, 0.1).log(), 0.0
    path: list[Tensor] = []
    for end in [10.0 ** (k / 4) for k in range(4, 61)]:
        at = integrate_flow(
            lambda at: expected_return_flow(at, rewards, baseline=1.0),
            at,
            times=tensor(end - now),
            max_step=max(0.25, now / 30),
        )[0]
        now = end
        path.append(at)
    log_time = torch.arange(4, 61, dtype=torch.float64) / 4 * math.log(10)
    track = torch.stack(path)
    worse = track[:, 2].diff() / log_time.diff()
    ratio = (track[:, 0] - track[:, 1]).diff() / log_time.diff()
    p = track.exp()
    predicted = (p[:, 0] - p[:, 1]) / (1 + p[:, 0] ** 2 + p[:, 1] ** 2)
    late = slice(24, None)  # from 1e7 on
    close(worse[late], torch.full_like(worse[late], -1), 0.03)
    close(ratio[late], (predicted[1:] + predicted[:-1])[late] / 2, 1e-3)
    close(ratio[-8:], torch.full_like(ratio[-8:], 0.5), 5e-3)


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("flow", [expected_return_flow, natural_gradient_flow, ips_flow])
def test_bad_input_is_named(flow: Callable[..., Tensor]) -> None:
    logprobs, rewards = tensor(0.5, 0.5).log(), tensor(1.0, 2.0)
    with pytest.raises(InputError, match=r"`rewards` must have shape \(2,\) like `logprobs`; got \(3,\)"):
        flow(logprobs, tensor(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="`rewards` must be finite; got nan at index 1"):
        flow(logprobs, tensor(1.0, math.nan))
    with pytest.raises(InputError, match="`ref_logprobs` must be given where `beta` is not 0; got None"):
        flow(logprobs, rewards, beta=0.1)
    with pytest.raises(
        InputError, match=r"`ref_logprobs` must have shape \(2,\) like `logprobs`; got \(3,\)"
    ):
        flow(logprobs, rewards, beta=0.1, ref_logprobs=uniform(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizer": "both"}, r"`regularizer` must be one of .*; got 'both'"),
        ({"group_size": 0}, "`group_size` must be at least 1; got 0"),
        ({"group_size": -2, "min_probability": 0.1}, "`group_size` must be at least 1; got -2"),
        (
            {
                "regularizer": "in_reward",
                "group_size": 4,
                "beta": 0.1,
                "ref_logprobs": tensor(0.5, 0.5).log(),
            },
            '`group_size` must be None with "in_reward"',
        ),
        ({"regularizer": "in_reward", "group_size": 4}, '`group_size` must be None with "in_reward"'),
    ],
)
def test_bad_options_of_ips_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ips_flow(tensor(0.5, 0.5).log(), tensor(1.0, 2.0), **options)


@pytest.mark.parametrize(
    "times",
    [
        tensor(),
        torch.tensor(1.0),
        tensor(1.0, 2.0)[None],
        tensor(-0.1, 1.0),
        tensor(1.0, 1.0),
        tensor(2.0, 1.0),
    ],
)
def test_bad_times_are_named(times: Tensor) -> None:
    with pytest.raises(InputError, match="`times` must be an ascending vector of numbers of at least 0"):
        integrate_flow(lambda at: at, uniform(2), times=times, max_step=0.1)


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_times_that_are_not_finite_are_named(last: float) -> None:
    with pytest.raises(InputError, match=f"`times` must be finite; got {last} at index 1"):
        integrate_flow(lambda at: at, uniform(2), times=tensor(1.0, last), max_step=0.1)


@pytest.mark.parametrize("max_step", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps_are_named(max_step: float) -> None:
    with pytest.raises(InputError, match=f"`max_step` must be a finite number above 0; got {max_step}"):
        integrate_flow(lambda at: at, uniform(2), times=tensor(1.0), max_step=max_step)
