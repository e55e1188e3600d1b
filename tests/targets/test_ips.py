"""IPS targets against independent solvers, enumerated groups and the paper's limits."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from allmodes.errors import InputError
from allmodes.objectives import (
    forward_kl_loss,
    group_advantages,
    ips_rewards,
    kl_in_rewards,
    leave_one_out_advantages,
    reverse_kl_loss,
)
from allmodes.targets import entropy, ips_target, kl_divergence, total_variation
from tensors import close, tensor

REGULARIZERS = ["reverse", "forward", "in_reward"]
BETAS = [1e-6, 1e-3, 0.1, 1.0, 100.0]
FIVE = (1.0, 0.8, 0.6, 0.4, 0.2)
PROPERTY = settings(max_examples=25, deadline=None)


def world(seed: int, outcomes: int = 5, *, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """A reference and positive rewards that span two orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(outcomes, generator=generator, dtype=torch.float64)
    rewards = torch.randn(outcomes, generator=generator, dtype=torch.float64).exp()
    return torch.log_softmax(logits, 0), rewards


def value_of(regularizer: str, logprobs: Tensor, ref: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """The objectives of the docstring, written out."""
    gain = (rewards * logprobs).sum(-1)
    penalty = {
        "reverse": (logprobs.exp() * (logprobs - ref)).sum(-1),
        "forward": (ref.exp() * (ref - logprobs)).sum(-1),
        "in_reward": 0.5 * (logprobs - ref).square().sum(-1),
    }[regularizer]
    return gain - beta * penalty


# ------------------------------------------------------------------------------- without a KL


def test_without_a_kl_it_is_the_normalised_rewards() -> None:
    target = ips_target(tensor(*FIVE))
    close(target.exp(), tensor(1 / 3, 0.8 / 3, 0.2, 0.4 / 3, 0.2 / 3), 1e-15)
    extinct = ips_target(tensor(3.0, 0.0, 1.0))
    assert extinct.exp().tolist() == pytest.approx([0.75, 0, 0.25], abs=1e-15)
    assert extinct[1] == -math.inf


def test_without_a_kl_the_reference_has_no_say() -> None:
    ref, rewards = world(1)
    assert (ips_target(rewards, ref_logprobs=ref) == ips_target(rewards)).all()


def test_shifting_rewards_changes_the_target() -> None:
    shifted = ips_target(tensor(*FIVE) + 1)
    close(shifted.exp(), (tensor(*FIVE) + 1) / 8, 1e-15)
    assert float(total_variation(shifted, ips_target(tensor(*FIVE)))) > 0.1


# ---------------------------------------------------------------- objectives and independent solvers


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", BETAS)
@given(seed=st.integers(0, 10**6), outcomes=st.integers(2, 12))
@settings(max_examples=15, deadline=None)
def test_the_gradient_of_the_objective_vanishes(
    regularizer: Any, beta: float, seed: int, outcomes: int
) -> None:
    ref, rewards = world(seed, outcomes)
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    assert float(target.exp().sum()) == pytest.approx(1, abs=1e-14)
    logits = target.clone().requires_grad_()
    value = value_of(regularizer, torch.log_softmax(logits, 0), ref, rewards, beta)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-13 * (rewards.sum() + beta * (1 + ref.abs().max()))


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("seed", [3, 4])
def test_a_trust_region_maximiser_of_the_objective_gets_there(
    regularizer: Any, beta: float, seed: int
) -> None:
    """SciPy on the logits, one held at 0, from the uniform distribution."""
    ref, rewards = world(seed, 4)

    def loss(free: Tensor) -> Tensor:
        logprobs = torch.log_softmax(torch.cat([free, free.new_zeros(1)]), 0)
        return -value_of(regularizer, logprobs, ref, rewards, beta)

    def slope(x: Any) -> Any:
        return jacobian(loss, torch.tensor(x)).numpy()

    def curvature(x: Any) -> Any:
        return hessian(loss, torch.tensor(x)).numpy()

    best = minimize(
        lambda x: float(loss(torch.tensor(x))), np.zeros(3), jac=slope, hess=curvature, method="trust-exact"
    ).x
    for _ in range(3):  # where values can no longer be told apart, gradients still can
        best = best - np.linalg.solve(curvature(best), slope(best))
    expected = torch.softmax(torch.cat([torch.tensor(best), torch.zeros(1, dtype=torch.float64)]), 0)
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    close(target.exp(), expected, 1e-12)


def nested_brentq(regularizer: str, ref: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Each outcome's stationarity condition in x = log p solved by itself, then the multiplier for Σ p = 1.

    reverse: r/p − β (x − log q) = λ;  forward: (r + βq)/p = λ;  in_reward: (r − β (x − log q))/p = λ.
    """
    pairs = list(zip(rewards.tolist(), ref.tolist(), strict=True))

    def condition(x: float, r: float, log_q: float, multiplier: float) -> float:
        match regularizer:
            case "reverse":
                return r - (beta * (x - log_q) + multiplier) * math.exp(x)
            case "forward":
                return r + beta * math.exp(log_q) - multiplier * math.exp(x)
            case _:
                return r - beta * (x - log_q) - multiplier * math.exp(x)

    def masses(multiplier: float) -> list[float]:
        result = []
        for r, log_q in pairs:
            if regularizer == "reverse" and r == 0:
                x = log_q - multiplier / beta
            else:  # p = r/λ and the like never exceed 1 by much at the multipliers that are asked for
                x = brentq(condition, -800.0, 50.0, args=(r, log_q, multiplier), xtol=1e-14, rtol=1e-15)
            result.append(math.exp(x))
        return result

    total = float(rewards.sum()) + beta
    multiplier = brentq(
        lambda c: math.log(math.fsum(masses(c))), 1e-3 * total, 1e3 * total, xtol=1e-15, rtol=1e-15
    )
    return tensor(*masses(multiplier))


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("zeros", [0, 2])
def test_two_nested_root_finders_agree(regularizer: Any, beta: float, zeros: int) -> None:
    ref, rewards = world(5, 5)
    rewards[:zeros] = 0
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    expected = nested_brentq(regularizer, ref, rewards, beta)
    close(target.exp(), expected, 1e-12)
    assert torch.isfinite(target).all()  # a KL lets nothing die out, though e^(-1e6) rounds to 0


@pytest.mark.parametrize("beta", BETAS)
def test_the_forward_form_is_a_mixture_of_rewards_and_reference(beta: float) -> None:
    ref, rewards = world(6)
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer="forward")
    close(target.exp(), (rewards + beta * ref.exp()) / (rewards.sum() + beta), 1e-15)


@pytest.mark.parametrize("eta", [0.01, 0.5, 20.0])
def test_an_entropy_bonus_is_a_reverse_kl_to_the_uniform_distribution(eta: float) -> None:
    _, rewards = world(7)
    uniform = torch.full((5,), -math.log(5), dtype=torch.float64)
    target = ips_target(rewards, ref_logprobs=uniform, beta=eta)
    logits = target.clone().requires_grad_()
    logprobs = torch.log_softmax(logits, 0)
    value = (rewards * logprobs).sum() + eta * entropy(logprobs)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-13 * (1 + eta)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_it_beats_other_distributions(regularizer: Any) -> None:
    ref, rewards = world(8)
    best = ips_target(rewards, ref_logprobs=ref, beta=0.4, regularizer=regularizer)
    others = torch.stack([world(seed, spread=2.0)[0] for seed in range(200)])
    mixed = torch.logaddexp(best + math.log(0.95), others + math.log(0.05))
    height = value_of(regularizer, best, ref, rewards, 0.4)
    assert (height > value_of(regularizer, others, ref, rewards, 0.4)).all()
    assert (height > value_of(regularizer, mixed, ref, rewards, 0.4)).all()


# ----------------------------------------------------------------------------- limits and extremes


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_small_beta_gives_the_normalised_rewards_and_large_beta_the_reference(regularizer: Any) -> None:
    """And the distance to either limit falls in proportion to β and to 1/β."""
    ref, rewards = world(9)
    plain = ips_target(rewards)

    def distances(limit: Tensor, *betas: float) -> list[float]:
        return [
            float(
                total_variation(
                    ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer), limit
                )
            )
            for beta in betas
        ]

    small, smaller = distances(plain, 1e-5, 1e-6)
    assert 0 < smaller < 2e-6
    assert small / smaller == pytest.approx(10, rel=1e-3)
    large, larger = distances(ref, 1e5, 1e6)
    assert 0 < larger < 1e-5
    assert large / larger == pytest.approx(10, rel=1e-3)


def test_zero_rewards_keep_the_ratios_of_the_reference_under_a_reverse_kl() -> None:
    ref = tensor(0.1, 0.3, 0.4, 0.2).log()
    rewards = tensor(0.0, 0.0, 1.0, 0.5)
    p = ips_target(rewards, ref_logprobs=ref, beta=0.5).exp()
    assert float(p[1] / p[0]) == pytest.approx(3, rel=1e-13)
    assert 0 < float(p[0]) < 0.1


@pytest.mark.parametrize("regularizer", ["reverse", "in_reward"])
@pytest.mark.parametrize("beta", [1e-6, 0.1, 10.0])
def test_an_outcome_that_the_reference_lacks_stays_out_and_has_no_say(regularizer: Any, beta: float) -> None:
    ref, rewards = world(10)
    holed_ref = torch.cat([tensor(-torch.inf), ref, tensor(-torch.inf)])
    holed_rewards = torch.cat([tensor(3.0), rewards, tensor(0.0)])
    target = ips_target(holed_rewards, ref_logprobs=holed_ref, beta=beta, regularizer=regularizer)
    assert target[[0, -1]].isneginf().all()
    alone = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    close(target[1:-1], alone, 1e-13)


def test_a_forward_kl_lets_an_outcome_that_the_reference_lacks_live_on_its_reward() -> None:
    ref, rewards = tensor(0.0, 0.5, 0.5, 0.0).log(), tensor(1.0, 1.0, 0.0, 0.0)
    target = ips_target(rewards, ref_logprobs=ref, beta=2.0, regularizer="forward")
    assert target.exp().tolist() == pytest.approx([0.25, 0.5, 0.25, 0], abs=1e-15)


@pytest.mark.parametrize("regularizer", ["reverse", "in_reward"])
@pytest.mark.parametrize("reward", [0.0, 1e-300])
def test_without_reward_on_the_support_the_reference_is_kept(regularizer: Any, reward: float) -> None:
    ref, rewards = tensor(0.0, 0.3, 0.7).log(), tensor(2.0, reward, 0.0)
    target = ips_target(rewards, ref_logprobs=ref, beta=0.5, regularizer=regularizer)
    close(target.exp(), ref.exp(), 1e-11)


@pytest.mark.parametrize("beta", [0.0, *BETAS])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_single_outcome_has_all_the_mass(regularizer: Any, beta: float) -> None:
    target = ips_target(tensor(0.3), ref_logprobs=tensor(0.0), beta=beta, regularizer=regularizer)
    assert target.tolist() == pytest.approx([0], abs=1e-15)
    assert ips_target(tensor(0.3), group_size=3).tolist() == pytest.approx([0], abs=1e-15)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", [1e-6, 1e-2, 1.0, 100.0])
def test_a_reference_that_spans_e_to_the_200_and_rewards_that_span_eight_decades(
    regularizer: Any, beta: float
) -> None:
    """Nothing is lost to overflow, and the gradient of the objective still vanishes."""
    ref = torch.log_softmax(tensor(0.0, -200.0, -60.0, -3.0, -100.0), 0)
    rewards = tensor(1e-6, 100.0, 1e-2, 1.0, 0.0)
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    assert torch.isfinite(target).all()
    assert float(target.exp().sum()) == pytest.approx(1, abs=1e-14)
    logits = target.clone().requires_grad_()
    value = value_of(regularizer, torch.log_softmax(logits, 0), ref, rewards, beta)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-12 * float(rewards.sum() + beta * 200)


# ------------------------------------------------------------------ what sampled updates average to

Advantages = Callable[[Tensor, Tensor], Tensor]


def expected_update(
    logprobs: Tensor, rewards: Tensor, group_size: int, advantages: Advantages | None = None
) -> Tensor:
    """E[1/G Σ_j A_j ∇ log p(y_j)] over *all* groups of G samples, each scaled by its own frequencies."""
    outcomes = len(logprobs)
    groups = torch.tensor(list(itertools.product(range(outcomes), repeat=group_size)))
    ids = torch.arange(len(groups)).repeat_interleave(group_size)
    scaled = ips_rewards(rewards[groups].flatten(), groups.flatten(), group_ids=ids).rewards
    if advantages is not None:
        scaled = advantages(scaled, ids)
    logits = logprobs.clone().requires_grad_()
    scores = torch.log_softmax(logits, 0)
    chance = scores.detach()[groups].sum(1).exp()
    surrogate = (chance * (scaled.view_as(groups) * scores[groups]).mean(1)).sum()
    return torch.autograd.grad(surrogate, logits)[0]


def group_mean_advantages(rewards: Tensor, ids: Tensor) -> Tensor:
    return group_advantages(rewards, ids, scale="none")


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", [0.0, 0.05, 0.7])
def test_the_expected_update_with_exact_probabilities_vanishes(regularizer: Any, beta: float) -> None:
    """Rewards over p, and the KL as the trainers have it: k2 or k3 as a loss, or k1 within the reward."""
    ref, rewards = world(11)
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    logits = target.clone().requires_grad_()
    logprobs = torch.log_softmax(logits, 0)
    p = target.exp()
    if regularizer == "in_reward":
        scaled, penalty = kl_in_rewards(rewards, target, ref, beta=beta) / p, 0
    else:
        loss = {"reverse": reverse_kl_loss, "forward": forward_kl_loss}[regularizer]
        scaled, penalty = rewards / p, beta * loss(logprobs, ref)
    (gradient,) = torch.autograd.grad((p * (scaled * logprobs - penalty)).sum(), logits)
    assert gradient.abs().max() < 1e-13


@pytest.mark.parametrize("group_size", [2, 3, 4, 5])
@pytest.mark.parametrize("rewards", [(1.0, 0.9, 0.8), (1.0, 0.95, 0.5), (1.0, 0.6, 0.0), (2.0, 2.0, 2.0)])
def test_the_expected_update_of_finite_groups_vanishes(
    group_size: int, rewards: tuple[float, float, float]
) -> None:
    target = ips_target(tensor(*rewards), group_size=group_size)
    alive = ~target.isneginf()
    update = expected_update(target[alive], tensor(*rewards)[alive], group_size)
    assert update.abs().max() < 1e-14


@pytest.mark.parametrize("group_size", [3, 4, 5])
@pytest.mark.parametrize("baseline", ["group mean", "leave one out"])
def test_with_a_baseline_a_group_rests_where_one_sample_less_does_without(
    group_size: int, baseline: str
) -> None:
    advantages = group_mean_advantages if baseline == "group mean" else leave_one_out_advantages
    rewards = tensor(1.0, 0.9, 0.8)
    rest = ips_target(rewards, group_size=group_size - 1)
    assert (rest > -math.inf).all()
    assert expected_update(rest, rewards, group_size, advantages).abs().max() < 1e-14
    elsewhere = ips_target(rewards, group_size=group_size)
    assert expected_update(elsewhere, rewards, group_size, advantages).abs().max() > 1e-4


@pytest.mark.parametrize("group_size", [2, 3, 4, 5])
def test_a_baseline_is_worth_one_sample_anywhere(group_size: int) -> None:
    """Not only at rest: the whole update is that of a group of one less, times G/(G − 1) for RLOO."""
    logprobs, rewards = world(12, 3)
    smaller = expected_update(logprobs, rewards, group_size - 1)
    close(expected_update(logprobs, rewards, group_size, group_mean_advantages), smaller, 1e-14)
    close(
        expected_update(logprobs, rewards, group_size, leave_one_out_advantages),
        smaller * group_size / (group_size - 1),
        1e-14,
    )


# -------------------------------------------------------------------------------- finite groups


@pytest.mark.parametrize(
    ("group_size", "distance", "decimals", "extinct"),
    [(4, 0.242, 3, 2), (8, 0.121, 3, 1), (16, 0.054, 3, 0), (32, 0.0095, 4, 0), (64, 0.0008, 4, 0)],
)
def test_the_distances_of_small_groups_that_were_measured_elsewhere(
    group_size: int, distance: float, decimals: int, extinct: int
) -> None:
    target = ips_target(tensor(*FIVE), group_size=group_size)
    measured = float(total_variation(target, ips_target(tensor(*FIVE))))
    assert round(measured, decimals) == distance
    assert int(target.isneginf().sum()) == extinct


def group_fixed_point(rewards: list[float], group_size: int) -> list[float]:
    """p c = r (1 − (1 − p)^G) by two nested root finders on a polynomial in 1 − p, never divided by p."""

    def probability(reward: float, c: float) -> float:
        if group_size * reward <= c:
            return 0.0
        # (1 − (1 − p)^G)/p = Σ_k (1 − p)^k falls from G to 1.
        return brentq(
            lambda p: reward * math.fsum((1 - p) ** k for k in range(group_size)) - c,
            0.0,
            1.0,
            xtol=1e-16,
            rtol=1e-15,
        )

    c = brentq(
        lambda c: sum(probability(r, c) for r in rewards) - 1,
        max(rewards),
        group_size * max(rewards),
        xtol=1e-15,
        rtol=1e-15,
    )
    return [probability(r, c) for r in rewards]


@pytest.mark.parametrize("group_size", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("rewards", [FIVE, (1.0, 0.99, 0.98, 0.0), (3.0, 3.0, 2.9, 2.5, 2.0, 1.0)])
def test_finite_groups_by_two_nested_root_finders(group_size: int, rewards: tuple[float, ...]) -> None:
    expected = group_fixed_point(list(rewards), group_size)
    target = ips_target(tensor(*rewards), group_size=group_size)
    close(target.exp(), tensor(*expected), 1e-13)
    assert [p == 0 for p in expected] == target.isneginf().tolist()


@given(
    seed=st.integers(0, 10**6),
    outcomes=st.integers(1, 20),
    group_size=st.sampled_from([2, 3, 8, 100, 10**6]),
    zeros=st.integers(0, 2),
)
@settings(max_examples=80, deadline=None)
def test_a_group_pays_each_outcome_in_proportion_to_its_mass_and_only_the_strong_survive(
    seed: int, outcomes: int, group_size: int, zeros: int
) -> None:
    """r (1 − (1 − p)^G) = c p with c its sum, and p > 0 exactly where G r > c: this has one solution."""
    _, rewards = world(seed, outcomes + zeros)
    rewards[:zeros] = 0
    target = ips_target(rewards, group_size=group_size)
    p = target.exp()
    paid = tensor(
        *(
            r * -math.expm1(group_size * math.log1p(-q)) if q < 1 else r
            for r, q in zip(rewards.tolist(), p.tolist(), strict=True)
        )
    )
    c = paid.sum()
    assert float(p.sum()) == pytest.approx(1, abs=1e-14)
    assert ((paid - c * p).abs() <= 1e-13 * c).all()
    survives = group_size * rewards > c
    near = (group_size * rewards / c - 1).abs() < 1e-12
    assert ((p > 0) == survives)[~near].all()
    assert (p[:zeros] == 0).all()


def test_large_groups_approach_the_normalised_rewards() -> None:
    plain = ips_target(tensor(*FIVE))
    far, near, nearest = (
        float(total_variation(ips_target(tensor(*FIVE), group_size=g), plain)) for g in (64, 128, 256)
    )
    assert far > near > nearest > 1e-12
    close(ips_target(tensor(*FIVE), group_size=10**6), plain, 1e-14)


def test_equal_rewards_share_equally_whatever_the_group() -> None:
    for group_size in (2, 3, 50):
        target = ips_target(torch.full((40,), 0.3, dtype=torch.float64), group_size=group_size)
        close(target.exp(), torch.full((40,), 1 / 40, dtype=torch.float64), 1e-15)


# ------------------------------------------------------------------------- batches and precisions


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_batches_agree_with_single_rows_also_where_beta_is_zero(regularizer: Any) -> None:
    rows = [world(seed, 6) for seed in range(6)]
    ref = torch.stack([row[0] for row in rows]).reshape(2, 3, 6)
    rewards = torch.stack([row[1] for row in rows]).reshape(2, 3, 6)
    rewards[0, 1, 2] = 0
    beta = tensor(0.0, 1e-6, 0.1, 1.0, 0.0, 100.0).reshape(2, 3)
    before = (ref.clone(), rewards.clone(), beta.clone())
    together = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    assert together.shape == (2, 3, 6)
    for i, j in itertools.product(range(2), range(3)):
        alone = ips_target(
            rewards[i, j], ref_logprobs=ref[i, j], beta=float(beta[i, j]), regularizer=regularizer
        )
        close(together[i, j].exp(), alone.exp(), 1e-14)
    assert all((a == b).all() for a, b in zip(before, (ref, rewards, beta), strict=True))
    assert (ips_target(rewards, beta=torch.zeros(2, 3)) == ips_target(rewards)).all()


def test_batches_of_groups_agree_with_single_rows() -> None:
    rewards = torch.stack([world(seed, 6)[1] for seed in range(6)]).reshape(3, 2, 6)
    together = ips_target(rewards, group_size=4)
    for i, j in itertools.product(range(3), range(2)):
        close(together[i, j].exp(), ips_target(rewards[i, j], group_size=4).exp(), 1e-15)


@pytest.mark.parametrize("beta", [0.0, *BETAS])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_float32_agrees_with_float64(regularizer: Any, beta: float) -> None:
    for seed in range(10):
        ref, rewards = (t.float() for t in world(seed, 8, spread=4.0))
        rewards[0] = 0
        single = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
        assert single.dtype == torch.float32
        wide = torch.log_softmax(ref.double(), 0)
        double = ips_target(rewards.double(), ref_logprobs=wide, beta=beta, regularizer=regularizer)
        close(single.double().exp(), double.exp(), 2e-6)


@pytest.mark.parametrize("group_size", [2, 8, 1000])
def test_float32_groups_agree_with_float64(group_size: int) -> None:
    for seed in range(10):
        rewards = world(seed, 8)[1].float()
        single = ips_target(rewards, group_size=group_size)
        assert single.dtype == torch.float32
        close(single.double().exp(), ips_target(rewards.double(), group_size=group_size).exp(), 2e-6)


# -------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", [0.0, 0.02, 0.5, 8.0])
def test_gradients_in_rewards_and_reference_by_finite_differences(regularizer: Any, beta: float) -> None:
    ref, rewards = world(13, 4)

    def logprobs_of(rewards: Tensor, logits: Tensor) -> Tensor:
        ref_logprobs = torch.log_softmax(logits, 0)
        return ips_target(rewards, ref_logprobs=ref_logprobs, beta=beta, regularizer=regularizer)

    inputs = (rewards.clone().requires_grad_(), ref.clone().requires_grad_())
    assert torch.autograd.gradcheck(logprobs_of, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_gradients_of_a_batch_with_and_without_a_kl_by_finite_differences(regularizer: Any) -> None:
    (ref_1, rewards_1), (ref_2, rewards_2) = world(14, 3), world(15, 3)

    def logprobs_of(rewards: Tensor, logits: Tensor) -> Tensor:
        ref_logprobs = torch.log_softmax(logits, -1)
        return ips_target(rewards, ref_logprobs=ref_logprobs, beta=tensor(0.0, 0.4), regularizer=regularizer)

    inputs = (
        torch.stack([rewards_1, rewards_2]).requires_grad_(),
        torch.stack([ref_1, ref_2]).requires_grad_(),
    )
    assert torch.autograd.gradcheck(logprobs_of, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_the_value_does_not_depend_on_whether_gradients_are_wanted(regularizer: Any) -> None:
    for beta in BETAS:
        ref, rewards = world(16)
        wanted = ips_target(
            rewards.clone().requires_grad_(), ref_logprobs=ref, beta=beta, regularizer=regularizer
        )
        with torch.no_grad():
            unwanted = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
        close(wanted.detach(), unwanted, 1e-13)


def jacobian_of(regularizer: str, p: Tensor, ref: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """∂p_i/∂r_j by differentiating each outcome's stationarity condition and Σ p = 1; see `nested_brentq`.

    Each condition gives dp_i = s_i (dr_i − p_i dλ), and Σ dp = 0 gives dλ. No s is singular at r = 0.
    """
    if regularizer == "reverse":
        s = p / (rewards + beta * p)
    elif regularizer == "forward":
        s = torch.ones_like(p) / (rewards.sum() + beta)
    else:
        c = rewards.sum() - beta * (p.log() - ref).sum()
        s = p / (beta + c * p)
    return torch.diag(s) - torch.outer(s * p, s) / (s * p).sum()


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", BETAS)
def test_the_jacobian_by_implicit_differentiation(regularizer: Any, beta: float) -> None:
    """Also where finite differences would need steps below the rounding of the rewards."""
    ref, rewards = world(18)
    check_jacobian(regularizer, ref, rewards, beta)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("beta", [10.0, 0.3, 0.05, 0.01])
def test_the_jacobian_where_rewards_are_zero(regularizer: Any, beta: float) -> None:
    """A KL keeps these outcomes, smoothly: under a reverse KL ∂p_i/∂r_i at 0 is close to 1/β."""
    check_jacobian(regularizer, tensor(0.2, 0.3, 0.1, 0.4).log(), tensor(1.0, 0.5, 0.0, 0.0), beta)


def check_jacobian(regularizer: Any, ref: Tensor, rewards: Tensor, beta: float) -> None:
    def probabilities(rewards: Tensor) -> Tensor:
        return ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer).exp()

    p = probabilities(rewards)
    expected = jacobian_of(regularizer, p, ref, rewards, beta)
    torch.testing.assert_close(jacobian(probabilities, rewards), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_row_without_a_kl_leaves_the_others_their_gradients_at_zero_rewards(regularizer: Any) -> None:
    ref, _ = world(19, 3)
    rewards = tensor(1.0, 0.5, 0.25, 1.0, 0.5, 0.0).reshape(2, 3)

    def masses(rewards: Tensor, beta: Tensor) -> Tensor:
        rows = ref.expand_as(rewards)
        return ips_target(rewards, ref_logprobs=rows, beta=beta, regularizer=regularizer).exp()

    slopes = jacobian(lambda r: masses(r, tensor(0.0, 0.4)), rewards)
    p = rewards[0] / 1.75
    close(slopes[0, :, 0], (torch.eye(3) - p[:, None]) / 1.75, 1e-13)
    close(slopes[1, :, 1], jacobian(lambda r: masses(r, tensor(0.4)[0]), rewards[1]), 1e-13)
    assert (slopes[0, :, 1] == 0).all()
    assert (slopes[1, :, 0] == 0).all()


@pytest.mark.parametrize("regularizer", ["reverse", "in_reward"])
def test_gradients_pass_by_outcomes_that_the_reference_lacks(regularizer: Any) -> None:
    ref, rewards = world(17, 4)

    def gradients(ref: Tensor, rewards: Tensor) -> tuple[Tensor, ...]:
        leaves = (ref.clone().requires_grad_(), rewards.clone().requires_grad_())
        target = ips_target(leaves[1], ref_logprobs=leaves[0], beta=0.3, regularizer=regularizer)
        weights = torch.arange(1.0, 5.0, dtype=torch.float64)
        return torch.autograd.grad((weights * target[:4].exp()).sum(), leaves)

    holed = gradients(torch.cat([ref, tensor(-torch.inf)]), torch.cat([rewards, tensor(0.7)]))
    for with_hole, without in zip(holed, gradients(ref, rewards), strict=True):
        close(with_hole, torch.cat([without, tensor(0.0)]), 1e-13)


# ------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@given(seed=st.integers(0, 10**6), outcomes=st.integers(1, 10), exponent=st.floats(-6, 2))
@PROPERTY
def test_the_order_of_outcomes_does_not_matter(
    regularizer: Any, seed: int, outcomes: int, exponent: float
) -> None:
    ref, rewards = world(seed, outcomes)
    order = torch.randperm(outcomes, generator=torch.Generator().manual_seed(seed))
    options: dict[str, Any] = {"beta": 10**exponent, "regularizer": regularizer}
    target = ips_target(rewards, ref_logprobs=ref, **options)
    permuted = ips_target(rewards[order], ref_logprobs=ref[order], **options)
    close(permuted, target[order], 1e-12)
    close(
        ips_target(rewards[order], group_size=5).exp(), ips_target(rewards, group_size=5)[order].exp(), 1e-13
    )


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-6, 2), factor=st.floats(1e-3, 1e3))
@PROPERTY
def test_only_the_ratio_of_rewards_to_beta_matters(
    regularizer: Any, seed: int, exponent: float, factor: float
) -> None:
    ref, rewards = world(seed)
    beta = 10**exponent
    target = ips_target(rewards, ref_logprobs=ref, beta=beta, regularizer=regularizer)
    scaled = ips_target(rewards * factor, ref_logprobs=ref, beta=beta * factor, regularizer=regularizer)
    close(scaled.exp(), target.exp(), 1e-13)
    assert float(target.exp().sum()) == pytest.approx(1, abs=1e-14)
    close(ips_target(rewards * factor, group_size=6).exp(), ips_target(rewards, group_size=6).exp(), 1e-13)


@given(seed=st.integers(0, 10**6), exponent=st.floats(-4, 2))
@PROPERTY
def test_equal_outcomes_stay_equal_and_better_ones_are_likelier(seed: int, exponent: float) -> None:
    ref, rewards = world(seed)
    ref = torch.log_softmax(torch.cat([ref, ref[:1], ref[:1]]), 0)
    rewards = torch.cat([rewards, rewards[:1], 1.5 * rewards[:1]])
    for regularizer in REGULARIZERS:
        target = ips_target(rewards, ref_logprobs=ref, beta=10**exponent, regularizer=regularizer)  # type: ignore[arg-type]
        assert float(target[5]) == pytest.approx(float(target[0]), abs=1e-13)
        assert target[6] > target[0]


@given(seed=st.integers(0, 10**6))
@PROPERTY
def test_a_stronger_kl_brings_the_target_closer_to_the_reference(seed: int) -> None:
    ref, rewards = world(seed)
    beta = tensor(0.01, 0.1, 1.0, 10.0)
    many = (ref.expand(4, 5).contiguous(), rewards.expand(4, 5).contiguous())
    reverse = ips_target(many[1], ref_logprobs=many[0], beta=beta)
    assert (kl_divergence(reverse, many[0]).diff() <= 1e-13).all()
    forward = ips_target(many[1], ref_logprobs=many[0], beta=beta, regularizer="forward")
    assert (kl_divergence(many[0], forward).diff() <= 1e-13).all()


# ----------------------------------------------------------------------------------------- errors

REF = tensor(0.2, 0.3, 0.5).log()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": tensor(1.0, -0.5, 2.0)}, r"`rewards` must not be negative under inverse .*; got -0\.5"),
        ({"rewards": tensor(0.0, 0.0, 0.0)}, "`rewards` must not all be 0"),
        ({"rewards": tensor(1.0, math.nan, 2.0)}, "`rewards` must be finite; got nan at index 1"),
        ({"rewards": tensor(1.0, 2.0, math.inf)}, "`rewards` must be finite; got inf at index 2"),
        ({"rewards": tensor(1.0, 2.0)}, r"must have shape \(2,\) like `rewards`; got \(3,\)"),
        ({"rewards": torch.tensor(1.0)}, r"at least one outcome; got shape \(\)"),
        ({"rewards": torch.zeros(4, 0)}, r"at least one outcome; got shape \(4, 0\)"),
        ({"rewards": torch.tensor([1, 2, 3])}, "`rewards` must be floating point; got torch.int64"),
        ({"rewards": torch.tensor([1, 2, 3]), "beta": 0.0}, "`rewards` must be floating point"),
        ({"beta": -0.1}, "`beta` must not be negative; got -0.1"),
        ({"beta": math.nan}, "`beta` must be finite; got nan"),
        ({"beta": math.inf}, "`beta` must be finite; got inf"),
        ({"beta": torch.ones(3)}, r"`beta` must be a number or have shape \(\); got \(3,\)"),
        ({"ref_logprobs": None}, "`ref_logprobs` must be given if `beta` is above 0; got None"),
        ({"ref_logprobs": tensor(0.0, 0.0, 0.0)}, "sum to 1; got a sum of 3"),
        ({"ref_logprobs": tensor(math.nan, 0.0, 0.0)}, "sum to 1; got a sum of nan"),
        ({"regularizer": "both"}, r"`regularizer` must be one of \('reverse', .*; got 'both'"),
        ({"group_size": 4}, "`group_size` must be None if `beta` is above 0"),
        ({"group_size": 1, "beta": 0.0}, "`group_size` must be at least 2; got 1"),
        ({"group_size": 0, "beta": 0.0}, "`group_size` must be at least 2; got 0"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"rewards": tensor(1.0, 0.5, 2.0), "ref_logprobs": REF, "beta": 0.3}
    with pytest.raises(InputError, match=message):
        ips_target(**{**good, **change})


def test_one_bad_row_is_enough() -> None:
    rewards = tensor(1.0, 2.0, 0.0, 0.0).reshape(2, 2)
    with pytest.raises(InputError, match="must not all be 0"):
        ips_target(rewards)
    with pytest.raises(InputError, match="must not all be 0"):
        ips_target(rewards, group_size=3)
    with pytest.raises(InputError, match="`beta` is above 0"):
        ips_target(rewards + 1, beta=tensor(0.0, 1.0), group_size=3)
    with pytest.raises(InputError, match="`ref_logprobs` must be given"):
        ips_target(rewards + 1, beta=tensor(0.0, 1.0))
