"""Methods: the gradient of each on every batch there is, weighted by its probability, in float64.

A policy over K outcomes has K^B batches of B samples. What a method makes of them is held against the
gradient of the objective it is said to climb, or, where a finite group leaves no closed form, against a
formula for one batch that is written here in plain Python.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import stdev

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import IPS, MARA, METHODS, BestOfN, Method, Tempered
from allmodes.objectives import policy_gradient_loss
from allmodes.targets import ips_flow, kl_divergence, reverse_kl_target
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.grid import hyper_grid, two_paths
from allmodes.worlds.sweep import Setting, train
from allmodes.worlds.training import (
    ENTROPY,
    FLOWRL,
    FORWARD_KL,
    GRPO,
    GRPO_ENTROPY,
    IPS_EXACT,
    IPS_GROUP,
    IPS_GRPO_ENTROPY,
    LEAVE_ONE_OUT,
    REVERSE_KL,
    TRAJECTORY_BALANCE,
    Training,
    training_of,
)
from method_cases import COMPOSITIONS, build
from world_steps import Samples, loss_terms

Objective = Callable[[Tensor], Tensor]  # log p (K,) → what is maximised

BATCH = 3
BETA = 0.4
LOGITS = torch.tensor([0.3, -0.8, 0.9], dtype=torch.float64)
REFERENCE = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).log()
REWARDS = torch.tensor([0.3, 1.0, 0.6], dtype=torch.float64)
LENGTHS = torch.tensor([1, 4, 2])

# Four outcomes for MARA: the good one that the reference likes best is neither the first nor the best.
LOGITS_4 = torch.tensor([0.3, -0.8, 0.9, 0.1], dtype=torch.float64)
REFERENCE_4 = torch.tensor([0.1, 0.35, 0.15, 0.4], dtype=torch.float64).log()
REWARDS_4 = torch.tensor([1.0, 0.7, 0.9, 0.2], dtype=torch.float64)
THRESHOLD = 0.5


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@dataclass(frozen=True)
class Batches:
    """Every batch of a policy, and what a method does on it.

    outcomes: (M, B). weights: their probabilities, (M,). gradients: of the mean loss of each with respect to
    the logits, (M, K). partition_gradients: with respect to log Z, (M,).
    """

    outcomes: Tensor
    weights: Tensor
    gradients: Tensor
    partition_gradients: Tensor

    @property
    def expected(self) -> Tensor:
        """The expected gradient, (K,)."""
        return self.weights @ self.gradients


def samples_of(
    outcomes: Tensor, logprobs: Tensor, *, reference: Tensor, rewards: Tensor, beta: float
) -> Samples:
    """Batches (M, B) as one flat step, each batch a group."""
    flat = outcomes.flatten()
    return Samples(
        rewards=rewards[flat],
        logprobs=logprobs.flatten(),
        ref_logprobs=reference[flat],
        lengths=LENGTHS.repeat(2)[flat],
        outcomes=flat,
        group_ids=torch.arange(len(outcomes)).repeat_interleave(outcomes.shape[1]),
        beta=torch.full(flat.shape, beta, dtype=rewards.dtype),
        probabilities=logprobs.flatten().detach().exp(),
    )


def run(
    method: Training,
    *,
    logits: Tensor = LOGITS,
    reference: Tensor = REFERENCE,
    rewards: Tensor = REWARDS,
    beta: float = BETA,
    batch_size: int = BATCH,
    log_partition: float = 0.7,
) -> Batches:
    """The loss that `train` builds, on all batches at once."""
    outcomes = torch.tensor(list(itertools.product(range(len(logits)), repeat=batch_size)))
    weights = logits.log_softmax(0)[outcomes].sum(-1).exp()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    policies = logits.expand(len(outcomes), -1).clone().requires_grad_()
    partitions = torch.full((len(outcomes), 1), log_partition, dtype=torch.float64, requires_grad=True)
    logprobs = policies.log_softmax(-1).gather(1, outcomes)
    samples = samples_of(outcomes, logprobs, reference=reference, rewards=rewards, beta=beta)
    advantages, extra = loss_terms(method, samples, partitions.expand(-1, batch_size).reshape(-1))
    flat = samples.logprobs
    losses = policy_gradient_loss(flat, flat.detach(), advantages, clip_low=0.2, clip_high=0.2)
    if extra is not None:
        losses = losses + extra
    total = losses.sum() / batch_size
    gradients = torch.autograd.grad(total, [policies, partitions], materialize_grads=True)
    return Batches(
        outcomes=outcomes,
        weights=weights,
        gradients=gradients[0],
        partition_gradients=gradients[1].squeeze(1),
    )


def ascent(objective: Objective, logits: Tensor = LOGITS) -> Tensor:
    """∇ of an objective of log p with respect to the logits."""
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(objective(leaf.log_softmax(0)), leaf)[0]


# The objectives, written out.


def expected_return(logprobs: Tensor) -> Tensor:
    return (logprobs.exp() * REWARDS).sum()


def reverse_kl(logprobs: Tensor) -> Tensor:
    return (logprobs.exp() * (logprobs - REFERENCE)).sum()


def forward_kl(logprobs: Tensor) -> Tensor:
    return (REFERENCE.exp() * (REFERENCE - logprobs)).sum()


def entropy(logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs).sum()


def log_mass(logprobs: Tensor) -> Tensor:
    """What IPS climbs: Σ r log p."""
    return (REWARDS * logprobs).sum()


def squared_log_ratio(logprobs: Tensor) -> Tensor:
    return 0.5 * (logprobs - REFERENCE).square().sum()


IPS_KL_FIRST = Training(name="IPS, KL first", kl="none", method=IPS(kl_first=True), frequencies="exact")

CLIMBS: dict[str, tuple[Training, Objective]] = {
    "reverse KL": (REVERSE_KL, lambda p: expected_return(p) - BETA * reverse_kl(p)),
    "reverse KL in the loss": (
        replace(REVERSE_KL, kl_in="loss"),
        lambda p: expected_return(p) - BETA * reverse_kl(p),
    ),
    "reverse KL without baseline": (
        replace(REVERSE_KL, advantages="none"),
        lambda p: expected_return(p) - BETA * reverse_kl(p),
    ),
    "forward KL": (FORWARD_KL, lambda p: expected_return(p) - BETA * forward_kl(p)),
    "forward KL without baseline": (
        replace(FORWARD_KL, advantages="none"),
        lambda p: expected_return(p) - BETA * forward_kl(p),
    ),
    "entropy": (ENTROPY, lambda p: expected_return(p) + BETA * entropy(p)),
    "entropy in the loss": (
        replace(ENTROPY, kl_in="loss"),
        lambda p: expected_return(p) + BETA * entropy(p),
    ),
    "leave-one-out": (LEAVE_ONE_OUT, expected_return),
    "IPS": (IPS_EXACT, log_mass),
    "IPS without baseline": (replace(IPS_EXACT, advantages="none"), log_mass),
    "IPS, reverse KL": (replace(IPS_EXACT, kl="reverse"), lambda p: log_mass(p) - BETA * reverse_kl(p)),
    "IPS, reverse KL in the loss": (
        replace(IPS_EXACT, kl="reverse", kl_in="loss"),
        lambda p: log_mass(p) - BETA * reverse_kl(p),
    ),
    "IPS, forward KL": (replace(IPS_EXACT, kl="forward"), lambda p: log_mass(p) - BETA * forward_kl(p)),
    "IPS, entropy": (replace(IPS_EXACT, kl="entropy"), lambda p: log_mass(p) + BETA * entropy(p)),
    "IPS, KL first": (IPS_KL_FIRST, lambda p: log_mass(p) - BETA * squared_log_ratio(p)),
}


@pytest.mark.parametrize("name", CLIMBS)
def test_the_expected_gradient_is_that_of_the_objective(name: str) -> None:
    method, objective = CLIMBS[name]
    close(-run(method).expected, ascent(objective))


@pytest.mark.parametrize(
    "name", ["reverse KL", "entropy", "leave-one-out", "IPS", "IPS, reverse KL", "IPS, KL first"]
)
def test_the_mean_as_baseline_takes_one_in_b_off_the_gradient(name: str) -> None:
    """Each sample is compared with itself, too: (B − 1)/B of the gradient, and the same optimum."""
    method, objective = CLIMBS[name]
    for batch_size in (2, 3, 4):
        batches = run(replace(method, advantages="mean"), batch_size=batch_size)
        close(-batches.expected, (batch_size - 1) / batch_size * ascent(objective))


def test_the_mean_as_baseline_spares_what_is_in_the_loss() -> None:
    """Then the regulariser weighs B/(B − 1) times as much as its β says."""
    for method, divergence in (
        (FORWARD_KL, forward_kl),
        (replace(REVERSE_KL, kl_in="loss"), reverse_kl),
        (replace(ENTROPY, kl_in="loss"), lambda p: -entropy(p)),
    ):
        expected = 2 / 3 * ascent(expected_return) - BETA * ascent(divergence)
        close(-run(replace(method, advantages="mean")).expected, expected)


def test_a_lower_bound_on_probabilities_bounds_exact_ips() -> None:
    bound = 0.3
    p = LOGITS.softmax(0)
    assert bool((p < bound).any())
    assert bool((p > bound).any())
    method = replace(IPS_EXACT, method=IPS(min_probability=bound), frequencies="exact")
    close(-run(method).expected, ips_flow(p.log(), REWARDS, min_probability=bound))


# IPS with the frequencies of a group.


@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_group_ips_without_baseline_is_the_flow_of_its_group_size(batch_size: int) -> None:
    flow = ips_flow(LOGITS.log_softmax(0), REWARDS, group_size=batch_size)
    close(-run(IPS_GROUP, batch_size=batch_size).expected, flow)


@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_a_baseline_makes_of_group_ips_the_flow_of_one_sample_less(batch_size: int) -> None:
    """The group's mean exactly so; leave-one-out is B/(B − 1) times as large."""
    flow = ips_flow(LOGITS.log_softmax(0), REWARDS, group_size=batch_size - 1)
    for advantages, factor in (("mean", 1.0), ("leave_one_out", batch_size / (batch_size - 1))):
        batches = run(replace(IPS_GROUP, advantages=advantages), batch_size=batch_size)
        close(-batches.expected, factor * flow)


@pytest.mark.parametrize("kl", ["reverse", "forward"])
def test_the_kl_of_group_ips_is_not_divided_by_frequencies(kl: str) -> None:
    flow = ips_flow(
        LOGITS.log_softmax(0),
        REWARDS,
        ref_logprobs=REFERENCE,
        beta=BETA,
        regularizer="reverse" if kl == "reverse" else "forward",
        group_size=BATCH,
    )
    close(-run(replace(IPS_GROUP, kl=kl)).expected, flow)


@pytest.mark.parametrize("bound", [0.5, 0.9])
def test_a_lower_bound_on_frequencies_bounds_group_ips(bound: float) -> None:
    flow = ips_flow(LOGITS.log_softmax(0), REWARDS, group_size=BATCH, min_probability=bound)
    close(-run(replace(IPS_GROUP, method=IPS(min_probability=bound))).expected, flow)


# Trajectory balance.


@pytest.mark.parametrize("log_partition", [-1.0, 0.7])
def test_trajectory_balance_descends_the_reverse_kl_to_its_target(log_partition: float) -> None:
    """2 ∇KL(p ‖ π_ref exp(R/β)/Z), whatever log Z: it is a baseline. And log Z moves to its own mean."""
    target = reverse_kl_target(REFERENCE, REWARDS, beta=BETA)
    batches = run(TRAJECTORY_BALANCE, log_partition=log_partition)
    close(batches.expected, 2 * ascent(lambda logprobs: kl_divergence(logprobs, target)))
    logprobs = LOGITS.log_softmax(0)
    gap = (logprobs.exp() * (log_partition + logprobs - REFERENCE - REWARDS / BETA)).sum()
    close(batches.weights @ batches.partition_gradients, 2 * gap)


def test_mara_under_trajectory_balance_has_one_gradient_by_both_algorithms() -> None:
    first = Training(name="MARA", loss="trajectory_balance", method=MARA(threshold=THRESHOLD))
    second = replace(first, method=MARA(threshold=THRESHOLD, algorithm=2))
    close(on_four(first).gradients, on_four(second).gradients)
    close(on_four(first).gradients, by_hand(on_four(first), partition_coefficients))


# One batch at a time, in plain Python. Each function gives the coefficients c of ∇L = 1/B Σ c ∇ log p.


def by_hand(batches: Batches, coefficients: Callable[[tuple[int, ...]], list[float]]) -> Tensor:
    """1/B Σ c_i (e_{y_i} − p) for each batch, (M, K)."""
    logits = LOGITS_4 if batches.gradients.shape[1] == 4 else LOGITS
    p = logits.softmax(0).tolist()
    rows: list[list[float]] = []
    for batch in batches.outcomes.tolist():
        row = [0.0] * len(p)
        for y, c in zip(batch, coefficients(tuple(batch)), strict=True):
            for k in range(len(p)):
                row[k] += c * ((k == y) - p[k]) / len(batch)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def standardised(rewards: list[float]) -> list[float]:
    mean = sum(rewards) / len(rewards)
    return [(r - mean) / (stdev(rewards) + 1e-4) for r in rewards]


def of(values: Tensor, batch: tuple[int, ...]) -> list[float]:
    return [float(values[y]) for y in batch]


def log_p(batch: tuple[int, ...]) -> list[float]:
    return of(LOGITS.log_softmax(0), batch)


def test_grpo_has_standardised_advantages_and_a_forward_kl() -> None:
    """∇ k3 = (1 − q/p) ∇ log p."""

    def coefficients(batch: tuple[int, ...]) -> list[float]:
        ratios = [math.exp(q - p) for q, p in zip(of(REFERENCE, batch), log_p(batch), strict=True)]
        advantages = standardised(of(REWARDS, batch))
        return [-a + BETA * (1 - ratio) for a, ratio in zip(advantages, ratios, strict=True)]

    batches = run(GRPO)
    close(batches.gradients, by_hand(batches, coefficients))


def test_grpo_with_entropy_has_standardised_advantages_and_the_log_probability_beside() -> None:
    def coefficients(batch: tuple[int, ...]) -> list[float]:
        advantages = standardised(of(REWARDS, batch))
        return [-a + BETA * p for a, p in zip(advantages, log_p(batch), strict=True)]

    batches = run(GRPO_ENTROPY)
    close(batches.gradients, by_hand(batches, coefficients))


def test_ips_grpo_standardises_the_scaled_rewards() -> None:
    def coefficients(batch: tuple[int, ...]) -> list[float]:
        scaled = [float(REWARDS[y]) * len(batch) / batch.count(y) for y in batch]
        return [-a + BETA * p for a, p in zip(standardised(scaled), log_p(batch), strict=True)]

    batches = run(IPS_GRPO_ENTROPY)
    close(batches.gradients, by_hand(batches, coefficients))


def test_flowrl_balances_means_over_actions_and_standardised_rewards() -> None:
    log_partition = 0.7

    def gaps(batch: tuple[int, ...]) -> list[float]:
        steps = [float(LENGTHS[y]) for y in batch]
        return [
            log_partition + p / n - q / n - a / BETA
            for p, q, n, a in zip(
                log_p(batch), of(REFERENCE, batch), steps, standardised(of(REWARDS, batch)), strict=True
            )
        ]

    def coefficients(batch: tuple[int, ...]) -> list[float]:
        return [2 * gap / float(LENGTHS[y]) for gap, y in zip(gaps(batch), batch, strict=True)]

    batches = run(FLOWRL, log_partition=log_partition)
    close(batches.gradients, by_hand(batches, coefficients))
    of_partition = [2 * sum(gaps(tuple(batch))) / BATCH for batch in batches.outcomes.tolist()]
    close(batches.partition_gradients, torch.tensor(of_partition, dtype=torch.float64))


# MARA.


def on_four(method: Training) -> Batches:
    return run(method, logits=LOGITS_4, reference=REFERENCE_4, rewards=REWARDS_4)


def augmented(batch: tuple[int, ...], anchor: str = "group", flattening: float = 1.0) -> list[float]:
    """R + λ (r̄ − R), with r̄ = R(z) + β (log q(z) − log q(y)) above τ."""
    rewards = []
    for place, y in enumerate(batch):
        reward = float(REWARDS_4[y])
        pool = [
            k
            for other, k in enumerate(batch)
            if REWARDS_4[k] >= THRESHOLD and not (anchor == "leave_one_out" and other == place)
        ]
        if reward >= THRESHOLD and pool:
            z = max(pool, key=lambda k: float(REFERENCE_4[k]))
            bar = float(REWARDS_4[z] + BETA * (REFERENCE_4[z] - REFERENCE_4[y]))
            reward += flattening * (bar - reward)
        rewards.append(reward)
    return rewards


def partition_coefficients(batch: tuple[int, ...]) -> list[float]:
    """Of trajectory balance on MARA's rewards, at log Z = .7."""
    policy = of(LOGITS_4.log_softmax(0), batch)
    return [
        2 * (0.7 + p - q - r / BETA)
        for p, q, r in zip(policy, of(REFERENCE_4, batch), augmented(batch), strict=True)
    ]


def mara_coefficients(
    batch: tuple[int, ...], rewards: list[float], kl: str, kl_in: str = "rewards"
) -> list[float]:
    policy, reference = of(LOGITS_4.log_softmax(0), batch), of(REFERENCE_4, batch)
    ratios = [p - q for p, q in zip(policy, reference, strict=True)]
    inside = kl == "reverse" and kl_in == "rewards"
    gains = [r - BETA * ratio * inside for r, ratio in zip(rewards, ratios, strict=True)]
    others = len(batch) - 1
    advantages = [g - (sum(gains) - g) / others for g in gains]
    if inside:
        return [-a for a in advantages]
    if kl == "reverse":
        return [-a + BETA * ratio for a, ratio in zip(advantages, ratios, strict=True)]
    return [-a + BETA * (1 - math.exp(-ratio)) for a, ratio in zip(advantages, ratios, strict=True)]


@pytest.mark.parametrize("anchor", ["group", "leave_one_out"])
@pytest.mark.parametrize("flattening", [1.0, 0.4, 0.0])
@pytest.mark.parametrize(
    ("kl", "kl_in"), [("reverse", "rewards"), ("reverse", "loss"), ("forward", "rewards")]
)
def test_mara_augments_each_batch_by_its_anchor(kl: str, kl_in: str, flattening: float, anchor: str) -> None:
    flattened: Method = MARA(threshold=THRESHOLD, anchor=anchor)
    if flattening < 1:
        flattened = Tempered(threshold=THRESHOLD, anchor=anchor, flattening=flattening)
    batches = on_four(Training(name="MARA", kl=kl, kl_in=kl_in, method=flattened))

    def coefficients(batch: tuple[int, ...]) -> list[float]:
        return mara_coefficients(batch, augmented(batch, anchor, flattening), kl, kl_in)

    close(batches.gradients, by_hand(batches, coefficients))


@pytest.mark.parametrize("anchor", ["group", "leave_one_out"])
@pytest.mark.parametrize("advantages", ["none", "mean", "leave_one_out", "group_std"])
def test_both_algorithms_of_mara_have_one_gradient_on_each_batch(advantages: str, anchor: str) -> None:
    first = Training(name="1", advantages=advantages, method=MARA(threshold=THRESHOLD, anchor=anchor))
    second = replace(first, method=MARA(threshold=THRESHOLD, anchor=anchor, algorithm=2))
    plain = on_four(Training(name="plain", advantages=advantages))
    close(on_four(second).gradients, on_four(first).gradients)
    assert float((on_four(first).gradients - plain.gradients).abs().max()) > 0.02


def test_the_two_anchors_differ() -> None:
    group, others = (
        on_four(Training(name=anchor, method=MARA(threshold=THRESHOLD, anchor=anchor)))
        for anchor in ("group", "leave_one_out")
    )
    assert float((group.gradients - others.gradients).abs().max()) > 0.02


@pytest.mark.parametrize("kl", ["reverse", "forward"])
def test_mara_without_flattening_is_plain(kl: str) -> None:
    flat = on_four(Training(name="MARA", kl=kl, method=Tempered(threshold=THRESHOLD, flattening=0.0)))
    close(flat.gradients, on_four(Training(name="plain", kl=kl)).gradients)


@pytest.mark.parametrize("kl", ["reverse", "forward"])
def test_tempered_mara_lies_between_plain_and_mara(kl: str) -> None:
    """Advantages are linear in the rewards, and rewards in the flattening."""
    plain, half, whole = (
        on_four(Training(name="MARA", kl=kl, method=Tempered(threshold=THRESHOLD, flattening=part))).gradients
        for part in (0.0, 0.5, 1.0)
    )
    close(half, (plain + whole) / 2)
    assert float((plain - whole).abs().max()) > 0.02


def test_mara_leaves_alone_a_batch_without_a_good_sample() -> None:
    high = MARA(threshold=2.0)
    close(
        on_four(Training(name="MARA", method=high)).gradients,
        on_four(Training(name="plain")).gradients,
    )


# All methods.

WITH_MARA = Training(name="MARA", method=MARA(threshold=THRESHOLD))
ALL = {
    "reverse KL": REVERSE_KL,
    "forward KL": FORWARD_KL,
    "entropy": ENTROPY,
    "leave-one-out": LEAVE_ONE_OUT,
    "GRPO": GRPO,
    "GRPO, entropy": GRPO_ENTROPY,
    "FlowRL": FLOWRL,
    "trajectory balance": TRAJECTORY_BALANCE,
    "IPS": IPS_EXACT,
    "IPS, group": IPS_GROUP,
    "IPS-GRPO": IPS_GRPO_ENTROPY,
    "IPS, KL first": IPS_KL_FIRST,
    "IPS, group, KL first": Training(name="", kl="none", method=IPS(kl_first=True)),
    "reverse KL in the loss": replace(REVERSE_KL, kl_in="loss"),
    "MARA": WITH_MARA,
    "MARA, algorithm 2": replace(WITH_MARA, method=MARA(threshold=THRESHOLD, algorithm=2)),
    "MARA, leave-one-out anchor": replace(
        WITH_MARA, method=MARA(threshold=THRESHOLD, anchor="leave_one_out")
    ),
    "MARA, forward KL": replace(WITH_MARA, kl="forward"),
    "MARA, tempered": replace(WITH_MARA, method=Tempered(threshold=THRESHOLD, flattening=0.5)),
}


def random_step(seed: int, beta: float, dtype: torch.dtype = torch.float64) -> tuple[Samples, Tensor]:
    """Five samples of one setting and its log Z."""
    generator = torch.Generator().manual_seed(seed)
    outcomes = torch.multinomial(LOGITS_4.softmax(0), 5, replacement=True, generator=generator)
    logprobs = LOGITS_4.log_softmax(0)[outcomes].unsqueeze(0).to(dtype)
    samples = samples_of(
        outcomes.unsqueeze(0),
        logprobs,
        reference=REFERENCE_4.to(dtype),
        rewards=REWARDS_4.to(dtype),
        beta=beta,
    )
    return samples, torch.full((5,), float(seed), dtype=dtype)


def signal(method: Training, samples: Samples, log_partition: Tensor) -> Tensor:
    """Both parts of a signal, (2, N); 0 for a part that is not there."""
    advantages, extra = loss_terms(method, samples, log_partition)
    return torch.stack([advantages, torch.zeros_like(advantages) if extra is None else extra])


@pytest.mark.parametrize("name", ALL)
def test_settings_in_one_step_do_not_see_each_other(name: str) -> None:
    """Each with its own β, group and log Z: together as one by one."""
    steps = [random_step(seed, beta) for seed, beta in ((0, 0.1), (1, 0.8), (2, 3.0))]
    fields = {
        field: torch.cat([getattr(samples, field) for samples, _ in steps])
        for field in vars(steps[0][0])
        if field != "group_ids"
    }
    together = Samples(**fields, group_ids=torch.arange(3).repeat_interleave(5))
    method = ALL[name]
    whole = signal(method, together, torch.cat([log_partition for _, log_partition in steps]))
    close(whole, torch.cat([signal(method, *step) for step in steps], 1), 1e-12)


@pytest.mark.parametrize("name", ALL)
def test_signals_keep_the_precision_of_the_samples(name: str) -> None:
    single = signal(ALL[name], *random_step(3, 0.4, torch.float32))
    assert single.dtype == torch.float32
    close(single.double(), signal(ALL[name], *random_step(3, 0.4)), 1e-4)


def test_exact_ips_alone_needs_probabilities() -> None:
    assert {name for name, method in ALL.items() if method.needs_probabilities} == {"IPS", "IPS, KL first"}
    samples, log_partition = random_step(4, 0.4)
    blind = replace(samples, probabilities=None)
    for name, method in ALL.items():
        if not method.needs_probabilities:
            close(signal(method, blind, log_partition), signal(method, samples, log_partition))
            assert name not in ("IPS", "IPS, KL first")


def test_trajectory_balance_and_flowrl_alone_learn_a_partition_function() -> None:
    learners = {name for name, method in ALL.items() if method.loss != "policy_gradient"}
    assert learners == {"trajectory balance", "FlowRL"}
    for name, method in ALL.items():
        moves = bool(run(method).partition_gradients.any())
        assert moves == (name in learners)


def test_unknown_names_are_refused() -> None:
    for field in ("kl", "kl_in", "advantages", "loss"):
        with pytest.raises(InputError, match=f"`{field}` must be one of"):
            Training(name="odd", **{field: "odd"})


def test_unknown_settings_are_refused() -> None:
    """An unknown kind of frequencies would else be an AssertionError in the first step, or count as exact."""
    with pytest.raises(InputError, match="`frequencies`"):
        Training(name="odd", frequencies="odd")
    with pytest.raises(InputError, match="`algorithm`"):
        MARA(threshold=THRESHOLD, algorithm=3)
    for flattening in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="`flattening`"):
            Tempered(threshold=THRESHOLD, flattening=flattening)


def test_algorithm_2_is_refused_where_it_is_not_equal_to_algorithm_1() -> None:
    second = MARA(threshold=THRESHOLD, algorithm=2)
    refusal = "MARA changes the reference, so it needs kl 'reverse' inside the rewards"
    for kl in ("forward", "none", "entropy"):
        with pytest.raises(InputError, match=refusal):
            Training(name="odd", kl=kl, method=second)
    with pytest.raises(InputError, match=refusal):
        Training(name="odd", kl="reverse", kl_in="loss", method=second)


def test_a_second_kl_is_refused_where_one_is_inside_the_scaling() -> None:
    for kl in ("reverse", "forward", "entropy"):
        with pytest.raises(InputError, match="`kl` must be 'none'"):
            Training(name="odd", kl=kl, method=IPS(kl_first=True))


@pytest.mark.parametrize("name", [*METHODS, *COMPOSITIONS])
@pytest.mark.parametrize("world", ["categorical", "hyper-grid", "two paths"])
def test_every_method_can_be_trained_in_every_world(world: str, name: str) -> None:
    worlds = {
        "categorical": Categorical(REFERENCE_4, REWARDS_4),
        "hyper-grid": hyper_grid(2, 4, background=0.1),
        "two paths": two_paths(),
    }
    training = training_of(build(name), group_size=4)
    settings = [Setting(training=training, beta=BETA, seed=seed) for seed in (0, 1)]
    sweep = train(worlds[world], settings, steps=3, batch_size=32, learning_rate=0.1, seed=0, record=3)
    assert sweep.logits.isfinite().all()
    assert float((sweep.history[-1].exp() - sweep.history[0].exp()).abs().max()) > 1e-3


def test_facts_of_a_method_decide_how_it_is_trained() -> None:
    own = training_of(BestOfN(k=2), kl="forward", group_size=4)
    assert (own.advantages, own.kl, own.group_size, own.name) == ("none", "forward", 4, "best of N")
    assert training_of(IPS(kl_first=True)).kl == "none"
    assert training_of(MARA(threshold=THRESHOLD, algorithm=2), kl_in="loss").kl_in == "rewards"
    plain = training_of(MARA(threshold=THRESHOLD), kl_in="loss", advantages="mean")
    assert (plain.kl, plain.kl_in, plain.advantages) == ("reverse", "loss", "mean")


def test_what_the_facts_of_a_method_rule_out_is_refused() -> None:
    for advantages in ("mean", "leave_one_out", "group_std"):
        with pytest.raises(InputError, match=f"`advantages` must be 'none'; got '{advantages}'"):
            Training(name="odd", method=BestOfN(), advantages=advantages)
    for loss in ("trajectory_balance", "flowrl"):
        with pytest.raises(
            InputError, match="best of N returns advantages: `loss` must be 'policy_gradient'"
        ):
            Training(name="odd", method=BestOfN(), loss=loss, advantages="none")
    with pytest.raises(InputError, match="`group_size` must be at least 4; got 2"):
        Training(name="odd", method=BestOfN(k=4), advantages="none", group_size=2)
    with pytest.raises(InputError, match="MARA takes no exact probabilities"):
        Training(name="odd", method=MARA(threshold=THRESHOLD), frequencies="exact")
    with pytest.raises(InputError, match="changes the reference"):
        training_of(MARA(threshold=THRESHOLD, algorithm=2), kl="forward")
