"""Rewards of a uniform optimum under a forward KL, by an independently solved u; and the solver behind."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import mara_rewards
from allmodes.targets import forward_kl_mara_rewards, forward_kl_target
from tensors import close, tensor

BETAS = [1e-6, 1e-3, 0.1, 1.0, 100.0]


def anchor_index(ref: list[float], rewards: list[float], threshold: float) -> int:
    """MARA's z in plain Python: the likeliest good outcome, of these the one of the highest reward."""
    good = [i for i, r in enumerate(rewards) if r >= threshold and ref[i] > -math.inf]
    return max(good, key=lambda i: (ref[i], rewards[i]))


def world(seed: int, outcomes: int = 8) -> tuple[Tensor, Tensor, float]:
    """A reference, rewards whose anchor has reward 0 so that no digits of R̄ − R(z) are lost, a threshold."""
    generator = torch.Generator().manual_seed(seed)
    ref = torch.log_softmax(torch.randn(outcomes, generator=generator, dtype=torch.float64), 0)
    rewards = torch.rand(outcomes, generator=generator, dtype=torch.float64)
    threshold = float(rewards.sort().values[outcomes // 2])
    shift = float(rewards[anchor_index(ref.tolist(), rewards.tolist(), threshold)])
    rewards = rewards - shift
    return ref, rewards, float(rewards.sort().values[outcomes // 2])


def expected_optimum(ref: Tensor, rewards: Tensor, *, beta: float, threshold: float) -> tuple[Tensor, float]:
    """The masses and u of |S| u + Σ_{R < τ} βq/(R(z) + βq(z)/u − R) = 1, by a root finder over log u."""
    log_q, r = ref.tolist(), rewards.tolist()
    z = anchor_index(log_q, r, threshold)
    q = [math.exp(value) for value in log_q]
    good = [r_i >= threshold and q_i > 0 for r_i, q_i in zip(r, q, strict=True)]

    def masses(log_u: float) -> list[float]:
        u = math.exp(log_u)
        return [
            (u if is_good else beta * q_i / (r[z] - r_i + beta * q[z] / u)) if q_i > 0 else 0.0
            for r_i, q_i, is_good in zip(r, q, good, strict=True)
        ]

    log_u = brentq(lambda x: math.fsum(masses(x)) - 1, -700.0, 0.0, xtol=1e-15, rtol=1e-15)
    return tensor(*masses(log_u)), math.exp(log_u)


# --------------------------------------------------------------------------- the optimum they give


@pytest.mark.parametrize("beta", BETAS)
@given(seed=st.integers(0, 10**6), outcomes=st.integers(2, 20))
@settings(max_examples=25, deadline=None)
def test_the_forward_kl_optimum_is_uniform_above_the_threshold(beta: float, seed: int, outcomes: int) -> None:
    ref, rewards, tau = world(seed, outcomes)
    augmented = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    target = forward_kl_target(ref, augmented, beta=beta)
    p = target.logprobs.exp()
    good = rewards >= tau
    assert float(p[good].max() - p[good].min()) < 1e-10
    expected, u = expected_optimum(ref, rewards, beta=beta, threshold=tau)
    close(p, expected, 1e-10)
    assert float(p[good].mean()) == pytest.approx(u, rel=1e-10)
    assert float(target.off_support_mass) == 0


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_masses_below_the_threshold_have_all_their_digits(beta: float, seed: int) -> None:
    """They are of the order of β: an absolute tolerance would not see them at β = 1e-6."""
    ref, rewards, tau = world(seed)
    augmented = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    p = forward_kl_target(ref, augmented, beta=beta).logprobs.exp()
    expected, _ = expected_optimum(ref, rewards, beta=beta, threshold=tau)
    torch.testing.assert_close(p, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_the_rewards_themselves_follow_the_formula(beta: float) -> None:
    """R̄ = R(z) + (β/u) (q(z) − q(y)) above with u from the root finder, R below."""
    ref, rewards, tau = world(4)
    augmented = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    _, u = expected_optimum(ref, rewards, beta=beta, threshold=tau)
    z = anchor_index(ref.tolist(), rewards.tolist(), tau)
    good = rewards >= tau
    formula = rewards[z] + beta / u * (ref[z].exp() - ref.exp())
    torch.testing.assert_close(augmented[good], formula[good], rtol=1e-12, atol=1e-15 * beta)
    assert (augmented[~good] == rewards[~good]).all()
    assert augmented[z] == rewards[z]
    assert (augmented[good] >= rewards[z]).all()


@pytest.mark.parametrize("beta", [1e-2, 1.0, 100.0])
@given(seed=st.integers(0, 10**6), offset=st.floats(-3, 3))
@settings(max_examples=25, deadline=None)
def test_a_common_offset_costs_no_more_than_the_rounding_that_is_documented(
    beta: float, seed: int, offset: float
) -> None:
    """About 1e-16 R(z)/(β π_ref), here with a factor of 100 to spare."""
    ref, rewards, tau = world(seed)
    rewards = rewards + offset
    tau = float(rewards.sort().values[4])
    augmented = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    good = rewards >= tau
    p = forward_kl_target(ref, augmented, beta=beta).logprobs.exp()[good]
    bound = 1e-14 * (1 + (1 + abs(offset)) / (beta * ref[good].exp().min()))
    assert (p / p.mean() - 1).abs().max() < bound


def test_papers_mara_is_not_uniform_under_a_forward_kl_and_this_is() -> None:
    """Measured elsewhere: the paper's rewards give (.028, .971, .001) at β = 1e-3."""
    ref, rewards = tensor(0.02, 0.01, 0.97).log(), tensor(1.0, 1.0, 0.0)
    papers = mara_rewards(rewards, ref, beta=1e-3, threshold=1.0).rewards
    close(forward_kl_target(ref, papers, beta=1e-3).logprobs.exp(), tensor(0.028, 0.971, 0.001), 5e-4)
    ours = forward_kl_mara_rewards(ref, rewards, beta=1e-3, threshold=1.0)
    p = forward_kl_target(ref, ours, beta=1e-3).logprobs.exp()
    assert float(p[0]) == pytest.approx(float(p[1]), rel=1e-9)
    assert float(p[0]) == pytest.approx((1 - float(p[2])) / 2, rel=1e-12)
    # β q_3/(1 + β q(z)/u) with u close to ½.
    assert float(p[2]) == pytest.approx(1e-3 * 0.97 / (1 + 1e-3 * 0.02 / float(p[0])), rel=1e-9)


def test_the_papers_mara_gets_worse_as_beta_falls_and_this_does_not() -> None:
    ref, rewards = tensor(0.3, 0.1, 0.6).log(), tensor(0.0, 0.0, -1.0)
    shares = []
    for beta in (1e-1, 1e-3, 1e-5):
        papers = mara_rewards(rewards, ref, beta=beta, threshold=0.0).rewards
        shares.append(float(forward_kl_target(ref, papers, beta=beta).logprobs[1].exp()))
        ours = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=0.0)
        p = forward_kl_target(ref, ours, beta=beta).logprobs.exp()
        assert float(p[0]) == pytest.approx(float(p[1]), rel=1e-11)
    assert shares[0] < shares[1] < shares[2]
    assert shares[0] > 0.5


@pytest.mark.parametrize("beta", BETAS)
def test_when_all_are_good_the_optimum_is_uniform_over_the_support(beta: float) -> None:
    ref, rewards, _ = world(5)
    augmented = forward_kl_mara_rewards(ref, 0 * rewards, beta=beta, threshold=-1.0)
    close(forward_kl_target(ref, augmented, beta=beta).logprobs.exp(), torch.full_like(ref, 1 / 8), 1e-12)
    # Nothing below: |S| u = 1, so R̄ = |S| β (q(z) − q(y)), in closed form.
    close(augmented, 8 * beta * (ref.exp().max() - ref.exp()), 1e-13 * beta)


@pytest.mark.parametrize("beta", BETAS)
def test_a_lone_good_outcome_keeps_its_reward(beta: float) -> None:
    ref, rewards, _ = world(6)
    tau = float(rewards.max())
    assert (forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau) == rewards).all()


# ------------------------------------------------------------------------------ the support, ties


@pytest.mark.parametrize("beta", BETAS)
def test_good_outcomes_outside_the_support_stay_at_zero(beta: float) -> None:
    """With reward 5, far above the others: it gets R(z), below Λ, and the rest do not see it."""
    ref, rewards, tau = world(7)
    holed_ref = torch.cat([tensor(-torch.inf), ref, tensor(-torch.inf)])
    holed_rewards = torch.cat([tensor(5.0), rewards, tensor(float(rewards.min()))])
    augmented = forward_kl_mara_rewards(holed_ref, holed_rewards, beta=beta, threshold=tau)
    z = anchor_index(ref.tolist(), rewards.tolist(), tau)
    assert augmented[0] == rewards[z]
    assert augmented[-1] == holed_rewards[-1]
    alone = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    torch.testing.assert_close(augmented[1:-1], alone, rtol=1e-13, atol=0)
    target = forward_kl_target(holed_ref, augmented, beta=beta)
    assert float(target.off_support_mass) == 0
    assert target.logprobs[[0, -1]].isneginf().all()
    expected, _ = expected_optimum(ref, rewards, beta=beta, threshold=tau)
    close(target.logprobs[1:-1].exp(), expected, 1e-10)


def test_without_a_good_outcome_in_the_support_rewards_are_unchanged() -> None:
    ref, rewards, _ = world(8)
    assert (forward_kl_mara_rewards(ref, rewards, beta=0.1, threshold=7.0) == rewards).all()
    holed = torch.cat([ref, tensor(-torch.inf)])
    tempting = torch.cat([rewards, tensor(9.0)])
    assert (forward_kl_mara_rewards(holed, tempting, beta=0.1, threshold=7.0) == tempting).all()


def test_ties_for_the_anchor_go_to_the_highest_reward() -> None:
    ref = tensor(0.3, 0.3, 0.1, 0.3).log()
    for rewards, anchor in ((tensor(1.0, 2.0, 3.0, 0.0), 2.0), (tensor(2.0, 1.0, 3.0, 0.0), 2.0)):
        augmented = forward_kl_mara_rewards(ref, rewards, beta=0.5, threshold=1.0)
        assert augmented[:2].tolist() == [anchor, anchor]
        expected, u = expected_optimum(ref, rewards, beta=0.5, threshold=1.0)
        assert float(augmented[2]) == pytest.approx(anchor + 0.5 / u * 0.2, rel=1e-13)
        close(forward_kl_target(ref, augmented, beta=0.5).logprobs.exp(), expected, 1e-14)


def test_a_reward_at_the_threshold_is_good() -> None:
    ref, rewards = tensor(0.5, 0.2, 0.3).log(), tensor(0.4, 0.5, 0.6)
    p = forward_kl_target(
        ref, forward_kl_mara_rewards(ref, rewards, beta=0.2, threshold=0.5), beta=0.2
    ).logprobs.exp()
    assert float(p[1]) == pytest.approx(float(p[2]), rel=1e-13)
    assert abs(float(p[0] - p[1])) > 1e-3


@given(seed=st.integers(0, 10**6), beta=st.sampled_from(BETAS))
@settings(max_examples=40, deadline=None)
def test_rewards_above_the_threshold_matter_only_at_the_anchor_and_order_not_at_all(
    seed: int, beta: float
) -> None:
    ref, rewards, tau = world(seed)
    augmented = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    z = anchor_index(ref.tolist(), rewards.tolist(), tau)
    others = (rewards >= tau) & (torch.arange(8) != z)
    raised = torch.where(others, rewards + 1, rewards)
    assert (forward_kl_mara_rewards(ref, raised, beta=beta, threshold=tau) == augmented).all()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    permuted = forward_kl_mara_rewards(ref[order], rewards[order], beta=beta, threshold=tau)
    torch.testing.assert_close(permuted, augmented[order], rtol=1e-12, atol=0)


# --------------------------------------------------------------------------- batches, precisions


def test_batches_agree_with_single_rows() -> None:
    worlds = [world(seed) for seed in range(6)]
    ref = torch.stack([w[0] for w in worlds]).reshape(2, 3, 8)
    rewards = torch.stack([w[1] for w in worlds]).reshape(2, 3, 8)
    tau = tensor(*[w[2] for w in worlds]).reshape(2, 3)
    tau[1, 2] = 50.0  # no outcome is good here
    beta = tensor(1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0).reshape(2, 3)
    before = (ref.clone(), rewards.clone(), tau.clone(), beta.clone())
    together = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    assert together.shape == (2, 3, 8)
    for i, j in itertools.product(range(2), range(3)):
        alone = forward_kl_mara_rewards(
            ref[i, j], rewards[i, j], beta=float(beta[i, j]), threshold=float(tau[i, j])
        )
        torch.testing.assert_close(together[i, j], alone, rtol=1e-13, atol=1e-20)
    assert (together[1, 2] == rewards[1, 2]).all()
    assert all((a == b).all() for a, b in zip(before, (ref, rewards, tau, beta), strict=True))
    one_for_all = forward_kl_mara_rewards(ref, rewards, beta=0.1, threshold=-0.2)
    each = forward_kl_mara_rewards(
        ref, rewards, beta=torch.full((2, 3), 0.1), threshold=torch.full((2, 3), -0.2, dtype=torch.float64)
    )
    torch.testing.assert_close(one_for_all, each, rtol=1e-6, atol=0)


@pytest.mark.parametrize("beta", [1e-3, 0.1, 1.0, 100.0])
def test_float32_is_uniform_to_its_precision(beta: float) -> None:
    ref, rewards, tau = world(9)
    tau -= 1e-6
    single = forward_kl_mara_rewards(ref.float(), rewards.float(), beta=beta, threshold=tau)
    assert single.dtype == torch.float32
    double = forward_kl_mara_rewards(ref, rewards, beta=beta, threshold=tau)
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6 * beta)


def test_gradients_may_be_wanted_elsewhere() -> None:
    """The value is the same while autograd records."""
    ref, rewards, tau = world(10)
    leaf = rewards.clone().requires_grad_()
    recorded = forward_kl_mara_rewards(ref, leaf, beta=0.2, threshold=tau).detach()
    torch.testing.assert_close(
        recorded, forward_kl_mara_rewards(ref, rewards, beta=0.2, threshold=tau), rtol=1e-13, atol=1e-16
    )


# --------------------------------------------------- the solver behind: gradients and many outcomes


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_an_outcome_off_the_support_that_is_best_but_below_the_multiplier_has_no_say(
    share: float, recorded: bool
) -> None:
    """Λ is above the best reward on the support; what lies between the two is no bracket of it."""
    ref, rewards, _ = world(20)
    alone = forward_kl_target(ref, rewards, beta=2.0)
    between = float(rewards.max() + share * (alone.multiplier - rewards.max()))
    target = forward_kl_target(
        torch.cat([tensor(-torch.inf), ref]),
        torch.cat([tensor(between), rewards]).requires_grad_(recorded),
        beta=2.0,
    )
    assert float(target.multiplier.detach()) == pytest.approx(float(alone.multiplier), rel=1e-14)
    close(target.logprobs.detach()[1:], alone.logprobs, 1e-13)
    assert target.logprobs[0] == -math.inf
    assert float(target.off_support_mass.detach()) == 0


@pytest.mark.parametrize("beta", [1e-3, 0.3, 20.0])
@pytest.mark.parametrize("ties", [False, True])
def test_the_forward_kl_target_by_finite_differences(beta: float, ties: bool) -> None:
    """In rewards and reference, for masses and multiplier; also of a batch, and where the best are tied."""
    (ref, rewards, _), (other_ref, other_rewards, _) = world(11, 4), world(12, 4)
    if ties:
        rewards[:2] = rewards.max()

    def outputs(rewards: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        target = forward_kl_target(torch.log_softmax(logits, -1), rewards, beta=beta)
        return target.logprobs, target.multiplier

    inputs = (
        torch.stack([rewards, other_rewards]).requires_grad_(),
        torch.stack([ref, other_ref]).requires_grad_(),
    )
    # At a tie the maximum has a kink, but not the optimum.
    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-7, atol=1e-6, rtol=1e-5)


def multiplier_slopes(logprobs: Tensor, ref: Tensor) -> Tensor:
    """∂Λ/∂R_i = (p_i²/q_i) / Σ p²/q, from Σ βq/(Λ − R) = 1 by the implicit function theorem."""
    weights = (2 * logprobs - ref).exp()
    return weights / weights.sum()


@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_of_the_multiplier_by_the_implicit_function_theorem(beta: float) -> None:
    ref, rewards, _ = world(13)
    leaf = rewards.clone().requires_grad_()
    target = forward_kl_target(ref, leaf, beta=beta)
    (gradient,) = torch.autograd.grad(target.multiplier, leaf)
    close(gradient, multiplier_slopes(target.logprobs.detach(), ref), 1e-12)


def test_gradients_pass_by_outcomes_that_the_reference_lacks() -> None:
    ref, rewards, _ = world(14, 5)
    holed_ref = torch.cat([ref, tensor(-torch.inf)])
    leaf = torch.cat([rewards, tensor(-9.0)]).requires_grad_()
    target = forward_kl_target(holed_ref, leaf, beta=0.2)
    (gradient,) = torch.autograd.grad(target.multiplier, leaf, retain_graph=True)
    close(gradient[:5], multiplier_slopes(target.logprobs.detach()[:5], ref), 1e-13)
    assert gradient[5] == 0
    (of_mass,) = torch.autograd.grad(target.logprobs[0].exp(), leaf)
    alone = rewards.clone().requires_grad_()
    (expected,) = torch.autograd.grad(forward_kl_target(ref, alone, beta=0.2).logprobs[0].exp(), alone)
    close(of_mass, torch.cat([expected, tensor(0.0)]), 1e-13)


def many(outcomes: int, *, best: int, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """A world of many outcomes, and its optimum by a root finder over the logarithm of the gap."""
    generator = torch.Generator().manual_seed(15)
    ref = torch.log_softmax(2 * torch.randn(outcomes, generator=generator, dtype=torch.float64), 0)
    rewards = torch.rand(outcomes, generator=generator, dtype=torch.float64)
    rewards[best] = 1.5
    return ref, rewards, optimum_by_root_finding(ref, rewards, beta)


def optimum_by_root_finding(ref: Tensor, rewards: Tensor, beta: float) -> Tensor:
    on = ~ref.isneginf()
    q = ref.exp().numpy()
    distance = torch.where(on, rewards[on].max() - rewards, 0).numpy()
    log_gap = brentq(
        lambda x: float((beta * q / (math.exp(x) + distance)).sum()) - 1,
        math.log(beta) - 60,
        math.log(beta) + 1,
        xtol=1e-15,
        rtol=1e-15,
    )
    return torch.tensor(beta * q / (math.exp(log_gap) + distance))


def check_many(ref: Tensor, rewards: Tensor, expected: Tensor, beta: float) -> None:
    """Masses, and the multiplier's gradient, with and without autograd."""
    leaf = rewards.clone().requires_grad_()
    target = forward_kl_target(ref, leaf, beta=beta)
    torch.testing.assert_close(target.logprobs.detach().exp(), expected, rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(target.multiplier, leaf)
    on = expected > 0
    close(gradient[on], multiplier_slopes(expected[on].log(), ref[on]), 1e-12)
    assert (gradient[~on] == 0).all()
    with torch.no_grad():
        alone = forward_kl_target(ref, rewards, beta=beta)
    torch.testing.assert_close(alone.logprobs.exp(), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("beta", [1e-5, 0.1, 10.0])
@pytest.mark.parametrize(
    ("outcomes", "best"),
    [
        (2**15 + 11, 3),
        (2**15 + 11, 2**15 - 1),
        (2**15 + 11, 2**15),
        (2**15 + 11, 2**15 + 10),
        (2**17 + 11, 5),
        (2**17 + 11, 2**17),
        (2**17 + 11, 2**17 + 10),
    ],
)
def test_more_outcomes_than_one_piece_holds(outcomes: int, best: int, beta: float) -> None:
    """Wherever the best outcome lies: within a sample of every 64th or not, at a seam, among the last few."""
    ref, rewards, expected = many(outcomes, best=best, beta=beta)
    check_many(ref, rewards, expected, beta)


@pytest.mark.parametrize("beta", [1e-3, 1.0])
def test_many_outcomes_of_which_every_64th_is_outside_the_support(beta: float) -> None:
    """As in a grid whose edge the reference forbids: a sample of every 64th outcome then weighs nothing."""
    ref, rewards, _ = many(2**15 + 64, best=17, beta=beta)
    ref[::64] = -torch.inf
    ref = torch.log_softmax(ref, 0)
    check_many(ref, rewards, optimum_by_root_finding(ref, rewards, beta), beta)
    augmented = forward_kl_mara_rewards(ref, rewards - 1.5, beta=beta, threshold=0.0)
    assert torch.isfinite(augmented).all()


@pytest.mark.parametrize(
    ("dtype", "unlikely"),
    [
        *((torch.float64, value) for value in (-600.0, -700.0, -730.0, -2000.0)),
        *((torch.float32, value) for value in (-80.0, -100.0, -110.0)),
    ],
)
def test_many_outcomes_of_which_one_alone_has_mass(dtype: torch.dtype, unlikely: float) -> None:
    """The others' probabilities are tiny, subnormal or 0 in this precision; their logarithm is finite."""
    generator = torch.Generator().manual_seed(16)
    rewards = torch.rand(2**15 + 64, generator=generator, dtype=torch.float64).to(dtype)
    ref = torch.full_like(rewards, unlikely)
    rewards[7], ref[7] = 2.0, 0.0
    target = forward_kl_target(ref, rewards, beta=0.1)
    tolerance = 10 * torch.finfo(dtype).eps
    assert float(target.multiplier) == pytest.approx(2.1, rel=tolerance)
    assert float(target.logprobs[7]) == pytest.approx(0, abs=tolerance * 21)


@pytest.mark.parametrize(
    ("dtype", "unlikely"),
    [
        (torch.float64, -700.0),
        (torch.float64, -740.0),
        (torch.float64, -2000.0),
        (torch.float32, -80.0),
        (torch.float32, -110.0),
    ],
)
def test_a_best_outcome_whose_probability_underflows(dtype: torch.dtype, unlikely: float) -> None:
    """With Λ at its reward to the last digit, it has what the likely outcome leaves: 1 − .1/(.9 − .1)."""
    ref, rewards = torch.tensor([0.0, unlikely, unlikely], dtype=dtype), tensor(0.1, 0.9, 0.5).to(dtype)
    target = forward_kl_target(ref, rewards, beta=0.1)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    close(target.logprobs.exp().double(), tensor(0.125, 0.875, 0.0), tolerance)
    augmented = forward_kl_mara_rewards(ref, rewards, beta=0.1, threshold=0.5)
    close(augmented.double(), tensor(0.1, 0.9, 0.9), 1e-6)


def test_batches_of_many_outcomes_and_uniform_rewards_of_them() -> None:
    worlds = [many(2**15 + 11, best=best, beta=0.1) for best in (3, 2**15 + 10)]
    ref, rewards = (torch.stack([w[k] for w in worlds]) for k in range(2))
    p = forward_kl_target(ref, rewards, beta=0.1).logprobs.exp()
    torch.testing.assert_close(p, torch.stack([w[2] for w in worlds]), rtol=1e-10, atol=0)
    shifted = rewards - 0.9
    augmented = forward_kl_mara_rewards(ref, shifted, beta=0.1, threshold=0.0)
    mara = forward_kl_target(ref, augmented, beta=0.1).logprobs.exp()
    for row in range(2):
        expected, _ = expected_optimum(ref[row], shifted[row], beta=0.1, threshold=0.0)
        torch.testing.assert_close(mara[row], expected, rtol=1e-6, atol=1e-12)


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "`beta` must be above 0"),
        ({"beta": tensor(0.0)[0]}, "`beta` must be above 0"),
        ({"beta": -1.0}, "`beta` must not be negative; got -1"),
        ({"beta": math.nan}, "`beta` must be finite; got nan"),
        ({"beta": torch.ones(4)}, r"`beta` must be a number or have shape \(\); got \(4,\)"),
        ({"threshold": math.nan}, "`threshold` must be finite; got nan"),
        ({"threshold": torch.ones(4)}, r"`threshold` must be a number or have shape \(\); got \(4,\)"),
        ({"rewards": tensor(math.nan, 0, 0)}, "`rewards` must be finite; got nan at index 0"),
        ({"rewards": torch.tensor([1, 0, 1])}, "`rewards` must be floating point; got torch.int64"),
        ({"rewards": tensor(0, 0)}, r"must have shape \(2,\) like `rewards`; got \(3,\)"),
        ({"ref_logprobs": tensor(0, 0, 0)}, "sum to 1; got a sum of 3"),
        ({"ref_logprobs": torch.zeros(0), "rewards": torch.zeros(0)}, "at least one outcome"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "ref_logprobs": tensor(0.2, 0.3, 0.5).log(),
        "rewards": tensor(1.0, 2.0, 3.0),
        "beta": 1.0,
        "threshold": 2.0,
    }
    arguments = {**good, **change}
    with pytest.raises(InputError, match=message):
        forward_kl_mara_rewards(
            arguments["ref_logprobs"],
            arguments["rewards"],
            beta=arguments["beta"],
            threshold=arguments["threshold"],
        )


def test_a_negative_threshold_is_a_threshold() -> None:
    ref, rewards = tensor(0.2, 0.3, 0.5).log(), tensor(-1.0, -2.0, -3.0)
    augmented = forward_kl_mara_rewards(ref, rewards, beta=0.5, threshold=-2.0)
    p = forward_kl_target(ref, augmented, beta=0.5).logprobs.exp()
    assert float(p[0]) == pytest.approx(float(p[1]), rel=1e-13)
