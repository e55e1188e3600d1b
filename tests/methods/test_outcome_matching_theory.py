"""The theorems on outcome marginal matching: optimum, flow, dual, bias; and small trainings."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.methods import KL, Batch, OutcomeMatching, Result, State
from allmodes.objectives import group_advantages, leave_one_out_advantages
from allmodes.targets import outcome_matching_target

DOUBLE = torch.float64

# --- T1: the optimum. Two of four good outcomes have two strings; wrong strings differ in reward. ---

IDS = torch.tensor([4, 4, 1, 7, 7, 3, -1, 5, 6, 6])
GOOD = torch.arange(10) < 6
OUTCOMES = [[0, 1], [2], [3, 4], [5]]


def world(seed: int, *, skew: float = 2.0, equal: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the reference and rewards, good ones from 1 on; equal within outcomes or not."""
    generator = torch.Generator().manual_seed(seed)
    log_ref = torch.log_softmax(skew * torch.randn(10, generator=generator, dtype=DOUBLE), 0)
    rewards = 0.3 * torch.rand(10, generator=generator, dtype=DOUBLE)
    rewards[:6] += 1
    if equal:
        rewards[[1, 4]] = rewards[[0, 3]]
    return log_ref, rewards


def shares_of(policy: Tensor) -> Tensor:
    return torch.stack([policy[rows].sum() for rows in OUTCOMES]) / policy[GOOD].sum()


def objective(
    policy: Tensor, log_ref: Tensor, rewards: Tensor, *, beta: float, strength: float, target: Tensor, kl: KL
) -> Tensor:
    """J(π) = E[R] − a π(A) KL(s ‖ g) − β KL."""
    shares, reference = shares_of(policy), log_ref.exp()
    value = (policy * rewards).sum()
    value = value - strength * policy[GOOD].sum() * (shares * (shares / target).log()).sum()
    if kl == "reverse":
        return value - beta * (policy * (policy.log() - log_ref)).sum()
    return value - beta * (reference * (log_ref - policy.log())).sum()


def totals(
    method: OutcomeMatching, policy: Tensor, log_ref: Tensor, rewards: Tensor, *, beta: float, kl: KL
) -> Tensor:
    """Reward with exact shares and the KL in it, of each string: equal everywhere at an optimum."""
    shares, target = shares_of(policy), torch.full((4,), 0.25, dtype=DOUBLE)
    limit = method.max_log_ratio
    bonus = method.strength * (target / shares).log().clamp(-limit, limit)
    shift = max(0.0, -float((shares * bonus).sum()) - method.max_penalty)
    total = rewards.clone()
    for rows, each in zip(OUTCOMES, bonus, strict=True):
        total[rows] += method.reward_gap * (each + shift)
    pull = beta * (log_ref - policy.log()) if kl == "reverse" else beta * log_ref.exp() / policy
    return total + pull


@pytest.mark.parametrize("kl", ["reverse", "forward"])
@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_the_optimum_maximises_the_objective(kl: KL, beta: float) -> None:
    """By another route: climb J itself, from uniform."""
    log_ref, rewards = world(1, skew=1.0, equal=kl == "forward")
    method = OutcomeMatching(threshold=1.0, strength=0.8, max_penalty=10)
    found = method.optimum(log_ref, rewards, beta=beta, kl=kl, outcome_ids=IDS)
    assert found is not None
    heights = torch.zeros(10, dtype=DOUBLE, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [heights],
        max_iter=600,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    settings: dict[str, Any] = {
        "beta": beta,
        "strength": 0.8,
        "target": torch.full((4,), 0.25, dtype=DOUBLE),
        "kl": kl,
    }

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -objective(torch.softmax(heights, 0), log_ref, rewards, **settings)
        value.backward()
        return value

    optimiser.step(loss)
    climbed = torch.softmax(heights.detach(), 0)
    torch.testing.assert_close(found.exp(), climbed, rtol=0, atol=2e-6)
    best = objective(found.exp(), log_ref, rewards, **settings)
    assert best >= objective(climbed, log_ref, rewards, **settings) - 1e-13


@pytest.mark.parametrize(
    ("kl", "settings"),
    [
        ("reverse", {}),
        ("reverse", {"strength": 0.3, "reward_gap": 2.0}),
        ("reverse", {"max_penalty": 0.01}),
        ("reverse", {"max_log_ratio": 0.4}),
        ("reverse", {"max_log_ratio": 0.4, "max_penalty": 0.01}),
        ("forward", {"max_log_ratio": 20.0}),
        ("forward", {"strength": 0.3, "reward_gap": 2.0, "max_penalty": 0.01, "max_log_ratio": 20.0}),
    ],
)
def test_at_the_optimum_all_strings_have_one_total(kl: KL, settings: dict[str, Any]) -> None:
    method = OutcomeMatching(threshold=1.0, **settings)
    guarded = limited = 0
    seeds = range(5) if kl == "reverse" else range(2)
    for seed, beta in itertools.product(seeds, (0.05, 0.3, 1.0)):
        log_ref, rewards = world(seed, equal=kl == "forward")
        found = method.optimum(log_ref, rewards, beta=beta, kl=kl, outcome_ids=IDS)
        assert found is not None
        assert float(found.logsumexp(0)) == pytest.approx(0, abs=1e-12)
        total = totals(method, found.exp(), log_ref, rewards, beta=beta, kl=kl)
        assert float(total.max() - total.min()) < 1e-12 * float(1 + total.abs().max())
        ratio = (shares_of(found.exp()) * 4).log()
        guarded += float((shares_of(found.exp()) * ratio).sum()) * method.strength > method.max_penalty
        limited += float(ratio.abs().max()) > method.max_log_ratio
    assert guarded > 0 or method.max_penalty == 0.5, "no world needs the guard"
    assert limited > 0 or method.max_log_ratio >= 3, "no world needs the limit"


def test_equal_rewards_keep_a_part_of_the_references_skew_and_all_of_its_style() -> None:
    log_ref, rewards = world(2)
    rewards[:6] = 1.0
    reference = log_ref.exp()
    for beta, strength in ((0.1, 1.0), (0.7, 0.5)):
        method = OutcomeMatching(threshold=1.0, strength=strength, max_log_ratio=20, max_penalty=20)
        found = method.optimum(log_ref, rewards, beta=beta, outcome_ids=IDS)
        assert found is not None
        policy = found.exp()
        skew = (shares_of(reference)[0] / shares_of(reference)[1]).log()
        left = (shares_of(policy)[0] / shares_of(policy)[1]).log()
        assert float(left) == pytest.approx(float(beta / (strength + beta) * skew), abs=1e-12)
        assert float(found[0] - found[1]) == pytest.approx(float(log_ref[0] - log_ref[1]), abs=1e-12)
        # (iii), with one reward of wrong answers
        rewards[6:] = 0.0
        found = method.optimum(log_ref, rewards, beta=beta, outcome_ids=IDS)
        assert found is not None
        policy, shares, q = found.exp(), shares_of(found.exp()), shares_of(reference)
        odds = (reference[GOOD].sum() / reference[~GOOD].sum()).log() - (shares * (shares / q).log()).sum()
        odds = odds + (1 - strength * (shares * (shares * 4).log()).sum()) / beta
        got = policy[GOOD].sum() / policy[~GOOD].sum()
        assert float(got.log()) == pytest.approx(float(odds), abs=1e-10)


def test_the_forward_kl_bends_shares_no_more_than_its_bound() -> None:
    for seed, beta in itertools.product(range(3), (0.02, 0.2)):
        log_ref, rewards = world(seed, equal=True)
        rewards[:6] = 1.0
        method = OutcomeMatching(threshold=1.0, strength=0.7)
        found = method.optimum(log_ref, rewards, beta=beta, kl="forward", outcome_ids=IDS)
        assert found is not None
        mass = torch.stack([found.exp()[rows].sum() for rows in OUTCOMES])
        reference = torch.stack([log_ref.exp()[rows].sum() for rows in OUTCOMES])
        bound = float((beta / 0.7 * (reference / mass).max()).exp())
        assert 1 < float(mass.max() / mass.min()) <= bound


def test_with_the_dual_shares_are_the_targets() -> None:
    """The I-projection: multipliers exist for which all totals are equal, and they have mean 0."""
    log_ref, rewards = world(3, skew=0.5)
    method = OutcomeMatching(threshold=1.0, dual_rate=0.01)
    found = method.optimum(log_ref, rewards, beta=0.5, outcome_ids=IDS)
    assert found is not None
    policy = found.exp()
    torch.testing.assert_close(shares_of(policy), torch.full((4,), 0.25, dtype=DOUBLE), rtol=0, atol=1e-12)
    total = totals(method, policy, log_ref, rewards, beta=0.5, kl="reverse")
    multipliers = total[6] - torch.stack([total[rows].mean() for rows in OUTCOMES])
    for rows, each in zip(OUTCOMES, multipliers, strict=True):
        total[rows] += each
    assert float(total.max() - total.min()) < 1e-12
    assert float(multipliers.mean()) == pytest.approx(0, abs=1e-12)
    assert method.optimum(*world(3, skew=20.0), beta=0.5, outcome_ids=IDS) is None  # beyond the limit of λ


def test_targets_in_proportion_to_reward_and_tempered() -> None:
    log_ref, rewards = world(4, equal=True)
    worth = torch.stack([rewards[rows].mean() for rows in OUTCOMES])
    for method, expected in (
        (OutcomeMatching(threshold=1.0, target="reward"), worth / worth.sum()),
        (OutcomeMatching(threshold=1.0, target="tempered", temperature=0.2), torch.softmax(worth / 0.2, 0)),
    ):
        found = method.optimum(log_ref, rewards, beta=0.0, outcome_ids=IDS)
        assert found is not None
        torch.testing.assert_close(shares_of(found.exp()), expected, rtol=0, atol=1e-12)
        assert float(found[0] - found[1]) == pytest.approx(float(log_ref[0] - log_ref[1]), abs=1e-12)
        assert found[~GOOD].isneginf().all()


def test_without_a_kl_better_outcomes_get_more_and_style_stays() -> None:
    log_ref, rewards = world(5, equal=True)
    found = OutcomeMatching(threshold=1.0, strength=0.5).optimum(log_ref, rewards, beta=0.0, outcome_ids=IDS)
    assert found is not None
    worth = torch.stack([rewards[rows].mean() for rows in OUTCOMES])
    torch.testing.assert_close(shares_of(found.exp()), torch.softmax(worth / 0.5, 0), rtol=0, atol=1e-12)


def test_optima_that_are_not_known_are_none_and_rows_without_good_answers_plain() -> None:
    log_ref, rewards = world(6)
    method = OutcomeMatching(threshold=1.0)
    mixed = rewards.clone()
    mixed[1] = 0.5  # a wrong string of a good outcome
    assert method.optimum(log_ref, mixed, beta=0.1, outcome_ids=IDS) is None
    spread = OutcomeMatching(threshold=1.0, strength=0.01)
    assert spread.optimum(log_ref, rewards, beta=0.0, outcome_ids=IDS) is None  # over the limit
    assert method.optimum(log_ref, rewards, beta=0.1, kl="forward", outcome_ids=IDS) is None  # R differs
    settings: dict[str, Any] = {"good": rewards >= 1, "beta": 0.0, "strength": 0.0}
    assert outcome_matching_target(log_ref, rewards, **settings) is None
    rows = torch.stack([rewards, 0.1 * rewards])
    found = method.optimum(log_ref.expand(2, -1), rows, beta=0.1, outcome_ids=IDS)
    assert found is not None
    torch.testing.assert_close(found[1], torch.log_softmax(log_ref + rewards, 0))
    rows[:, [1, 4]] = rows[:, [0, 3]]
    found = method.optimum(log_ref.expand(2, -1), rows, beta=0.1, kl="forward", outcome_ids=IDS)
    alone = method.optimum(log_ref, rows[0], beta=0.1, kl="forward", outcome_ids=IDS)
    assert found is not None
    assert alone is not None
    torch.testing.assert_close(found[0], alone, rtol=0, atol=1e-12)
    gap = 0.1 * log_ref.exp() / found[1].exp() + rows[1]
    assert float(gap.max() - gap.min()) < 1e-10


# --- T2 and T3: the flow over outcomes. ---


def flow_world(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.softmax(torch.randn(count, generator=generator, dtype=DOUBLE), 0)
    log_ref = torch.log_softmax(2 * torch.randn(count, generator=generator, dtype=DOUBLE), 0)
    return target, log_ref, torch.log_softmax(4 * torch.randn(count, generator=generator, dtype=DOUBLE), 0)


@pytest.mark.parametrize(("strength", "beta"), [(1.0, 0.2), (0.3, 0.6), (0.0, 0.5)])
def test_the_flow_contracts_at_rate_a_plus_beta(strength: float, beta: float) -> None:
    """d/dt KL(s* ‖ s) ≤ −(a + β) KL(s* ‖ s), with the optimum that the target states."""
    target, log_ref, start = flow_world(6, 0)
    rewards = torch.ones(6, dtype=DOUBLE)
    optimum = outcome_matching_target(
        log_ref,
        rewards,
        good=rewards > 0,
        log_weights=target.log(),
        beta=beta,
        strength=strength,
        max_log_ratio=50,
    )
    assert optimum is not None
    logs, step, before = start, 0.002, math.inf
    for _ in range(1500):
        distance = float((optimum.exp() * (optimum - logs)).sum())
        assert distance <= before * math.exp(-(strength + beta) * step) * (1 + 1e-5) + 1e-14
        before = distance
        # Midpoint rule for the natural-gradient flow d log s/dt = r − E[r].
        half = torch.log_softmax(
            logs + step / 2 * (strength * (target.log() - logs) - beta * (logs - log_ref)), 0
        )
        pull = strength * (target.log() - half) - beta * (half - log_ref)
        logs = torch.log_softmax(logs + step * pull, 0)
    assert before < 0.3 * float((optimum.exp() * (optimum - start)).sum())


@pytest.mark.parametrize(("strength", "beta", "rate"), [(1.0, 0.1, 0.5), (0.0, 0.3, 1.0), (0.5, 0.0, 2.0)])
def test_the_dual_has_a_lyapunov_function(strength: float, beta: float, rate: float) -> None:
    """V = KL(g ‖ s) + |λ − λ*|²/2η never rises, at the rate −(a + β)(KL(g ‖ s) + KL(s ‖ g))."""
    target, log_ref, logs = flow_world(5, 1)
    rest = beta * (target.log() - log_ref)
    multipliers, step = torch.zeros(5, dtype=DOUBLE), 0.001

    def lyapunov() -> float:
        return float(
            (target * (target.log() - logs)).sum()
            + (multipliers - rest + rest.mean()).square().sum() / (2 * rate)
        )

    values = [lyapunov()]
    for _ in range(4000):
        shares = logs.exp()
        both = ((target - shares) * (target.log() - logs)).sum()  # KL(g ‖ s) + KL(s ‖ g)
        pull = strength * (target.log() - logs) + multipliers - beta * (logs - log_ref)
        logs = torch.log_softmax(logs + step * pull, 0)
        multipliers = multipliers + step * rate * (target - shares)
        values.append(lyapunov())
        expected = -(strength + beta) * float(both) * step
        assert values[-1] - values[-2] == pytest.approx(expected, abs=2e-5)
    assert values[-1] < values[0]


def test_average_shares_differ_by_what_the_multipliers_have_moved() -> None:
    """Whatever the policy does: λ_o − λ_p = η Σ (c_p/g_p − c_o/g_o)/G while unclamped, so ≤ 4Λ/(ηT) apart."""
    method = OutcomeMatching(threshold=1.0, target="tempered", temperature=0.5, dual_rate=0.005)
    generator = torch.Generator().manual_seed(0)
    worth = torch.tensor([1.0, 1.2, 1.5], dtype=DOUBLE)
    target = torch.softmax(worth / 0.5, 0)
    state = visit(method, torch.tensor([0, 1, 2]), worth).state
    assert state is not None
    start = state["multipliers"]
    drawn, size, steps = torch.zeros(3, dtype=DOUBLE), 8, 60
    for step in range(steps):
        shares = torch.softmax(torch.tensor([1.0, -0.5, math.sin(step)]), 0)
        outcomes = torch.multinomial(shares, size, replacement=True, generator=generator)
        state = visit(method, outcomes, worth[outcomes], state=state).state
        assert state is not None
        drawn += torch.bincount(outcomes, minlength=3) / target / size
    multipliers = state["multipliers"] - start
    assert state["multipliers"].abs().max() < 2, "clamped"
    differences = multipliers[:, None] - multipliers
    torch.testing.assert_close(differences, -0.005 * (drawn[:, None] - drawn), rtol=0, atol=1e-10)
    assert ((drawn[:, None] - drawn).abs() / steps).max() <= 4 * 2 / (0.005 * steps)


def visit(
    method: OutcomeMatching, outcomes: Tensor, rewards: Tensor, *, state: State | None = None
) -> Result:
    ids = torch.zeros(len(outcomes), dtype=torch.long)
    batch = Batch(rewards=rewards, group_ids=ids, outcome_ids=outcomes, prompt_ids=ids, wants_metrics=False)
    return method(batch, beta=0.0, state=state)


# --- T4: bias, by enumeration of all groups. ---


def expected_gradient(policy: Tensor, rewards_of: Any, *, size: int, baseline: bool) -> Tensor:
    """Of the policy gradient over all groups, in log-weights."""
    found = torch.zeros_like(policy)
    for drawn in itertools.product(range(len(policy)), repeat=size):
        group = torch.tensor(drawn)
        rewards = rewards_of(group)
        advantages = leave_one_out_advantages(rewards, torch.zeros_like(group)) if baseline else rewards
        pull = torch.zeros_like(policy).index_add_(0, group, advantages) / size
        found += policy[group].prod() * (pull - policy * pull.sum())
    return found


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_linear_form_is_an_unbiased_gradient(size: int) -> None:
    """−(share among the others)/g has the gradient of −Σ p²/2g; with a baseline (G − 2)/(G − 1) of it."""
    target = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    logits = torch.tensor([1.0, 0.2, -0.7], dtype=DOUBLE, requires_grad=True)
    policy = torch.softmax(logits, 0)
    (-(policy.square() / (2 * target)).sum()).backward()

    def linear(group: Tensor) -> Tensor:
        others = (group[:, None] == group).double().sum(1) - 1
        return -(others / (size - 1)) / target[group]

    assert logits.grad is not None
    policy = policy.detach()
    plain = expected_gradient(policy, linear, size=size, baseline=False)
    torch.testing.assert_close(plain, logits.grad, rtol=0, atol=1e-14)
    centred = expected_gradient(policy, linear, size=size, baseline=True)
    torch.testing.assert_close(centred, (size - 2) / (size - 1) * logits.grad, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_log_form_rests_at_uniform_and_leans_to_the_rare_by_little(size: int) -> None:
    def rewards_with(worth: Tensor, policy: Tensor, memory: float) -> Any:
        method = OutcomeMatching(threshold=0.1, target="reward")
        ones = torch.ones_like(policy)
        state = {
            "prompt_ids": torch.zeros(len(policy)).long(),
            "outcome_ids": torch.arange(len(policy)),
            "counts": memory * policy,
            "good": ones,
            "seen": ones,
            "reward_sums": worth,
            "multipliers": 0 * ones,
        }
        return lambda group: visit(method, group, worth[group], state=state).rewards

    uniform = torch.full((3,), 1 / 3, dtype=DOUBLE)
    for baseline in (False, True):
        rest = expected_gradient(uniform, rewards_with(uniform, uniform, 6.0), size=size, baseline=baseline)
        assert rest.abs().max() < 1e-14
    worth = torch.tensor([0.7, 0.3], dtype=DOUBLE)
    lean = {
        memory: expected_gradient(worth, rewards_with(worth, worth, memory), size=size, baseline=False)
        for memory in (32.0, 64.0, 128.0)
    }
    assert all(0 < float(pull[1]) < 2e-3 for pull in lean.values())
    # Away from the target the pull is the log-ratio's, p (1 − p) Δ log(g/p).
    policy = torch.tensor([0.85, 0.15], dtype=DOUBLE)
    pull = expected_gradient(policy, rewards_with(worth, policy, 128.0), size=size, baseline=False)
    exact = 0.85 * 0.15 * math.log(0.3 / 0.15 * 0.85 / 0.7)
    assert float(pull[1]) == pytest.approx(exact, rel=0.05)


# --- Small trainings. ---


@pytest.mark.parametrize("beta", [0.05, 0.2, 1.0])
def test_two_answers_come_to_rest_at_the_stated_ratio(beta: float) -> None:
    """Two right answers and a wrong one, exact shares of 4,000 samples; reference 1.9 nats apart."""
    log_ref = torch.log_softmax(torch.tensor([0.0, -1.9, 0.5], dtype=DOUBLE), 0)
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=DOUBLE)
    method, logs, state = OutcomeMatching(threshold=1.0), log_ref, None
    for _ in range(120):
        counts = (4000 * logs.exp()).round().long().clamp(min=1)
        strings = torch.arange(3).repeat_interleave(counts)
        result = visit(method, strings.masked_fill(strings == 2, -1), rewards[strings], state=state)
        state = result.state
        total = result.rewards[(counts.cumsum(0) - counts)] - beta * (logs - log_ref)
        logs = torch.log_softmax(logs + 0.3 * total, 0)
    assert float(logs[1] - logs[0]) == pytest.approx(-1.9 * beta / (1 + beta), abs=2e-3)
    expected = method.optimum(log_ref, rewards, beta=beta)
    assert expected is not None
    torch.testing.assert_close(logs.exp(), expected.exp(), rtol=0, atol=2e-3)


def trained(
    method: OutcomeMatching, *, flipped: float = 0.0, size: int = 8, scaled: bool = False, steps: int = 500
) -> tuple[float, float]:
    """Validity, and expected share of the good set in 32 samples, of 10 prompts with 80 strings each.

    The first 2 to 8 strings of a prompt are good, 15 % of the reference's mass and Zipf^1.5 among themselves.
    """
    generator = torch.Generator().manual_seed(0)
    prompts, strings = 10, 80
    good_count = torch.arange(prompts) % 7 + 2
    rank = torch.arange(strings, dtype=DOUBLE)
    is_good = rank < good_count[:, None]
    weight = torch.where(is_good, (rank + 1) ** -1.5, 1 / (rank - good_count[:, None] + 1).clamp(min=1))
    mass = (weight * is_good).sum(1, keepdim=True), (weight * ~is_good).sum(1, keepdim=True)
    log_ref = torch.where(is_good, 0.15 * weight / mass[0], 0.85 * weight / mass[1]).log()
    logs, first, second, state = log_ref.clone(), 0.0, 0.0, None
    ids = torch.arange(prompts).repeat_interleave(size)
    for step in range(1, steps + 1):
        drawn = torch.multinomial(logs.exp(), size, replacement=True, generator=generator)
        judged = is_good.gather(1, drawn) ^ (torch.rand(drawn.shape, generator=generator) < flipped)
        batch = Batch(
            rewards=judged.double().flatten(),
            group_ids=ids,
            outcome_ids=drawn.flatten(),
            prompt_ids=ids,
            wants_metrics=False,
        )
        result = method(batch, beta=0.0, state=state)
        state = result.state
        rewards = result.rewards - 0.01 * (logs - log_ref).gather(1, drawn).flatten()
        scale = "group" if scaled else "none"
        advantages = group_advantages(rewards, ids, scale=scale).view(prompts, size)
        gradient = torch.zeros_like(logs).scatter_add_(1, drawn, advantages)
        gradient = (gradient - logs.exp() * advantages.sum(1, keepdim=True)) / size
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        logs = torch.log_softmax(logs + 0.05 * (1 - step / steps) * corrected, 1)
    policy = logs.exp() * is_good
    found = (1 - (1 - policy) ** 32).sum(1) / good_count
    return float(policy.sum(1).mean()), float(found.mean())


def test_good_outcomes_are_found_and_answers_stay_right() -> None:
    validity, found = trained(OutcomeMatching(threshold=0.5))
    assert validity > 0.9
    assert found > 0.85


def test_a_verifier_that_errs_does_not_destroy_validity() -> None:
    validity, _ = trained(OutcomeMatching(threshold=0.5), flipped=0.05)
    assert validity > 0.8
    without, _ = trained(OutcomeMatching(threshold=0.5, min_good_share=0), flipped=0.05)
    assert without < validity - 0.2


def test_advantages_over_a_standard_deviation_keep_validity() -> None:
    validity, found = trained(OutcomeMatching(threshold=0.5), size=4, scaled=True)
    assert validity > 0.9
    assert found > 0.7
