"""Exact optima against their optimality conditions, independent solvers and the papers' numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import mara_rewards, target_rewards
from allmodes.targets import forward_kl_target, kl_divergence, mara_target, reverse_kl_target

BETAS = [1e-6, 1e-3, 0.1, 1.0, 100.0]


def world(seed: int, outcomes: int = 7, *, spread: float = 2.0, holes: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(outcomes, generator=generator, dtype=torch.float64)
    logits[:holes] = -torch.inf
    rewards = torch.rand(outcomes, generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits, 0), rewards


def probabilities(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
def test_reverse_kl_gradient_of_the_objective_vanishes(beta: float, entropy: float) -> None:
    ref, rewards = world(1)
    target = reverse_kl_target(ref, rewards, beta=beta, entropy=entropy)
    logits = target.clone().requires_grad_()
    logprobs = torch.log_softmax(logits, 0)
    p = logprobs.exp()
    objective = (p * (rewards - beta * (logprobs - ref) - entropy * logprobs)).sum()
    (gradient,) = torch.autograd.grad(objective, logits)
    assert gradient.abs().max() < 1e-14
    assert target.exp().sum() == pytest.approx(1, abs=1e-15)


def test_reverse_kl_is_the_best_of_many() -> None:
    ref, rewards = world(2)
    best = reverse_kl_target(ref, rewards, beta=0.2)

    def value(logprobs: Tensor) -> float:
        return float((logprobs.exp() * rewards).sum() - 0.2 * kl_divergence(logprobs, ref))

    for seed in range(200):
        other, _ = world(seed, spread=3.0)
        mixed = torch.logaddexp(best + math.log(0.9), other + math.log(0.1))
        assert value(best) > value(other)
        assert value(best) > value(mixed)


def test_entropy_alone_ignores_the_reference() -> None:
    ref, rewards = world(3, holes=2)
    target = reverse_kl_target(ref, rewards, beta=0.0, entropy=0.5)
    torch.testing.assert_close(target, torch.log_softmax(rewards / 0.5, 0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("holes", [0, 3])
def test_no_mass_where_the_reference_has_none(beta: float, holes: int) -> None:
    ref, rewards = world(4, holes=holes)
    target = reverse_kl_target(ref, rewards, beta=beta)
    assert (target.isneginf() == ref.isneginf()).all()
    assert target.exp().sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("beta", BETAS)
@given(seed=st.integers(0, 10**6), spread=st.floats(0, 8), outcomes=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_forward_kl_meets_its_optimality_conditions(
    beta: float, seed: int, spread: float, outcomes: int
) -> None:
    """On the support R + β q/p is one number Λ, and p sums to 1: the optimum of a concave objective."""
    ref, rewards = world(seed, outcomes, spread=spread)
    target = forward_kl_target(ref, rewards, beta=beta)
    p = target.logprobs.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    residual = rewards + beta * (ref - target.logprobs).exp() - target.multiplier
    assert residual.abs().max() < 1e-12 * max(1, beta)
    assert target.multiplier >= rewards.max()
    assert target.off_support_mass == 0


@pytest.mark.parametrize("beta", BETAS)
def test_forward_kl_multiplier_by_bisection(beta: float) -> None:
    """Another route to the gap: plain bisection of Σ βq/(s + d) = 1 over the logarithm of s."""
    ref, rewards = world(5, 12)
    weights = [beta * math.exp(value) for value in ref.tolist()]
    distances = [max(rewards.tolist()) - value for value in rewards.tolist()]
    low, high = math.log(beta) - 60, math.log(beta)
    for _ in range(200):
        middle = (low + high) / 2
        total = math.fsum(w / (math.exp(middle) + d) for w, d in zip(weights, distances, strict=True))
        low, high = (middle, high) if total > 1 else (low, middle)
    expected = [w / (math.exp(low) + d) for w, d in zip(weights, distances, strict=True)]
    p = forward_kl_target(ref, rewards, beta=beta).logprobs.exp()
    torch.testing.assert_close(p, probabilities(*expected), rtol=1e-11, atol=0)


def test_forward_kl_puts_the_rest_on_better_outcomes_off_support() -> None:
    ref = probabilities(0.5, 0.5, 0, 0, 0).log()
    rewards = probabilities(0.2, 0.6, 2.0, 2.0, 1.0)
    target = forward_kl_target(ref, rewards, beta=0.4)
    inside = [0.4 * 0.5 / (2.0 - 0.2), 0.4 * 0.5 / (2.0 - 0.6)]
    rest = (1 - sum(inside)) / 2
    torch.testing.assert_close(
        target.logprobs.exp(), probabilities(*inside, rest, rest, 0), rtol=1e-14, atol=0
    )
    assert float(target.multiplier) == 2.0
    assert float(target.off_support_mass) == pytest.approx(1 - sum(inside), rel=1e-14)


def test_forward_kl_leaves_worse_outcomes_off_support_alone() -> None:
    ref, rewards = world(6, holes=3)
    rewards[:3] = rewards[3:].min() - 0.1
    target = forward_kl_target(ref, rewards, beta=0.1)
    assert float(target.off_support_mass) == 0
    assert target.logprobs[:3].isneginf().all()
    alone = forward_kl_target(ref[3:], rewards[3:], beta=0.1)
    torch.testing.assert_close(target.logprobs[3:], alone.logprobs, rtol=0, atol=1e-14)


def test_forward_kl_gradient_by_finite_differences() -> None:
    ref, rewards = world(7, 5)

    def probabilities_of(rewards: Tensor, logits: Tensor) -> Tensor:
        return forward_kl_target(torch.log_softmax(logits, 0), rewards, beta=0.3).logprobs.exp()

    inputs = (rewards.clone().requires_grad_(), ref.clone().requires_grad_())
    assert torch.autograd.gradcheck(probabilities_of, inputs, eps=1e-7, atol=1e-7)


def test_ties_in_reward_keep_the_ratio_of_the_reference_under_both() -> None:
    ref, _ = world(8, 4)
    rewards = torch.full((4,), 0.7, dtype=torch.float64)
    for beta in BETAS:
        for target in (
            reverse_kl_target(ref, rewards, beta=beta),
            forward_kl_target(ref, rewards, beta=beta).logprobs,
        ):
            torch.testing.assert_close(target, ref, rtol=0, atol=1e-13)


@pytest.mark.parametrize("beta", [0.01, 0.2, 3.0])
@given(seed=st.integers(0, 10**6), tau=st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_mara_is_reverse_kl_on_mara_rewards(beta: float, seed: int, tau: float) -> None:
    ref, rewards = world(seed)
    augmented = mara_rewards(rewards, ref, beta=beta, threshold=tau).rewards
    expected = reverse_kl_target(ref, augmented, beta=beta)
    torch.testing.assert_close(
        mara_target(ref, rewards, beta=beta, threshold=tau), expected, rtol=1e-12, atol=1e-12
    )


def test_mara_is_uniform_above_and_the_reference_below() -> None:
    ref, rewards = world(9, 10)
    tau, beta = float(rewards.median()), 0.05
    target = mara_target(ref, rewards, beta=beta, threshold=tau)
    good = rewards >= tau
    assert (target[good] - target[good][0]).abs().max() < 1e-14
    below = target[~good] - ref[~good] - rewards[~good] / beta
    assert (below - below[0]).abs().max() < 1e-12


def test_mara_is_not_multimodal_above_its_beta_bound() -> None:
    """R = (.9, .8, 1, 1), q = (.6, .3, .09, .01), β = .2: .9 has 4.0 times the mass of each good one."""
    ref, rewards = probabilities(0.6, 0.3, 0.09, 0.01).log(), probabilities(0.9, 0.8, 1, 1)
    p = mara_target(ref, rewards, beta=0.2, threshold=1.0).exp()
    assert float(p[0] / p[2]) == pytest.approx(0.6 / 0.09 * math.exp(-0.1 / 0.2), rel=1e-13)
    assert float(p[0] / p[2]) == pytest.approx(4.0, abs=0.05)


def test_mara_under_forward_kl_goes_to_the_least_likely_good_outcome() -> None:
    """Measured in float64 elsewhere: vanilla (.666, .333, .001), MARA (.028, .971, .001) at β = 1e-3."""
    ref, rewards = probabilities(0.02, 0.01, 0.97).log(), probabilities(1, 1, 0)
    vanilla = forward_kl_target(ref, rewards, beta=1e-3).logprobs.exp()
    torch.testing.assert_close(vanilla, probabilities(0.666, 0.333, 0.001), rtol=0, atol=5e-4)
    augmented = mara_rewards(rewards, ref, beta=1e-3, threshold=1.0).rewards
    mara = forward_kl_target(ref, augmented, beta=1e-3).logprobs.exp()
    torch.testing.assert_close(mara, probabilities(0.028, 0.971, 0.001), rtol=0, atol=5e-4)


def test_any_target_is_the_optimum_of_its_rewards() -> None:
    ref, density = world(10)
    wanted = torch.log_softmax(5 * density, 0)
    rewards = target_rewards(wanted, ref, beta=0.7)
    torch.testing.assert_close(reverse_kl_target(ref, rewards, beta=0.7), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_and_precisions_agree_with_single_rows(dtype: torch.dtype) -> None:
    rows = [world(seed, holes=seed % 2) for seed in range(6)]
    ref = torch.stack([row[0] for row in rows]).reshape(2, 3, 7).to(dtype)
    rewards = torch.stack([row[1] for row in rows]).reshape(2, 3, 7).to(dtype)
    beta = torch.tensor([[1e-3, 0.1, 1.0], [10.0, 100.0, 0.5]], dtype=dtype)
    tolerance = 1e-13 if dtype == torch.float64 else 2e-5
    together = {
        "reverse": reverse_kl_target(ref, rewards, beta=beta),
        "forward": forward_kl_target(ref, rewards, beta=beta).logprobs,
        "mara": mara_target(ref, rewards, beta=beta, threshold=0.5),
    }
    for i in range(2):
        for j in range(3):
            q, r, b = (t[i, j].double() for t in (ref, rewards, beta))
            q = torch.log_softmax(q, 0)
            alone = {
                "reverse": reverse_kl_target(q, r, beta=b),
                "forward": forward_kl_target(q, r, beta=b).logprobs,
                "mara": mara_target(q, r, beta=b, threshold=0.5),
            }
            for name, target in alone.items():
                got = together[name][i, j].double().exp()
                assert (got - target.exp()).abs().max() < tolerance * (1 + 1 / float(b)), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -1.0}, "`beta` must not be negative; got -1"),
        ({"beta": math.nan}, "`beta` must be finite; got nan"),
        ({"beta": 0.0}, "`beta`"),
        ({"rewards": torch.tensor([math.nan, 0, 0], dtype=torch.float64)}, "`rewards` must be finite"),
        (
            {"rewards": torch.zeros(2, dtype=torch.float64)},
            r"must have shape \(2,\) like `rewards`; got \(3,\)",
        ),
        ({"ref_logprobs": torch.zeros(3, dtype=torch.float64)}, "sum to 1; got a sum of 3"),
        ({"ref_logprobs": torch.zeros(0), "rewards": torch.zeros(0)}, "at least one outcome"),
        ({"beta": torch.ones(4)}, "`beta` must be a number or have shape"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    good = {
        "ref_logprobs": probabilities(0.2, 0.3, 0.5).log(),
        "rewards": probabilities(1, 2, 3),
        "beta": 1.0,
    }
    arguments = {**good, **change}
    ref, rewards, beta = (arguments[name] for name in ("ref_logprobs", "rewards", "beta"))
    for function in (reverse_kl_target, forward_kl_target):
        with pytest.raises(InputError, match=message):
            function(ref, rewards, beta=beta)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        mara_target(ref, rewards, beta=beta, threshold=1.0)  # type: ignore[arg-type]
