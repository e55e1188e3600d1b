"""Predicted optima against routes that share no line with them.

Two routes: the objective itself, over all trajectories or outcomes, is maximised by L-BFGS over the policy's
own table of logits; and the expected update of the method, over every batch there is, has to vanish at the
optimum.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import IPS, MARA, METHODS, Method, Tempered
from allmodes.objectives import policy_gradient_loss
from allmodes.targets import effective_modes
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.grid import GridWorld, hyper_grid, two_paths
from allmodes.worlds.optimum import exact_optimum
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
from allmodes.worlds.world import World
from method_cases import COMPOSITIONS, build
from tensors import close
from world_steps import Samples, loss_terms

Cell = tuple[int, ...]
SIDE = 3
BETA = 0.4
THRESHOLD = 0.5
KL_FIRST = Training(name="IPS, KL first", kl="none", method=IPS(kl_first=True), frequencies="exact")


def mara_of(flattening: float, algorithm: Literal[1, 2] = 1) -> Method:
    if flattening == 1:
        return MARA(threshold=THRESHOLD, algorithm=algorithm)
    return Tempered(threshold=THRESHOLD, flattening=flattening)


def optimum(world: World, method: Training, *, beta: float = BETA) -> Tensor:
    found = exact_optimum(world, method, beta=beta)
    assert found is not None
    assert found.dtype == torch.float64
    return found


# A grid of 3 × 3 cells with a reward of its own for each, and its 19 trajectories.


def small_grid() -> GridWorld:
    """Walk right or up, or stop: the rules of a hyper-grid, with rewards between .1 and 1."""
    cells = sorted(itertools.product(range(SIDE), repeat=2), key=sum)
    generator = torch.Generator().manual_seed(3)
    rewards = (0.1 + 0.9 * torch.rand(len(cells), generator=generator)).tolist()

    def step(cell: Cell, action: int) -> tuple[Cell, bool] | None:
        if action == 2:
            return cell, True
        moved = (cell[0] + (action == 0), cell[1] + (action == 1))
        return (moved, False) if max(moved) < SIDE else None

    return GridWorld(cells, dict(zip(cells, rewards, strict=True)), 3, step)


@dataclass(frozen=True)
class Walks:
    """All T trajectories: taken (T, cells · actions), ends (T, K) one-hot, allowed (cells, actions)."""

    world: GridWorld
    taken: Tensor
    ends: Tensor
    allowed: Tensor

    @property
    def rewards(self) -> Tensor:
        """Of each trajectory, (T,)."""
        return self.ends @ self.world.rewards

    def logprobs(self, logits: Tensor) -> Tensor:
        """Of each trajectory under a policy (cells, actions), (T,)."""
        log_total = (logits.exp() * self.allowed).sum(-1, keepdim=True).log()
        return self.taken @ torch.where(self.allowed, logits - log_total, 0).flatten()

    def outcome_logprobs(self, logprobs: Tensor) -> Tensor:
        return (logprobs.exp() @ self.ends).log()

    @property
    def reference(self) -> Tensor:
        """Of each trajectory under the uniform policy, (T,)."""
        return self.logprobs(torch.zeros(self.allowed.shape, dtype=torch.float64))


def walks_of(world: GridWorld) -> Walks:
    number = {cell: index for index, cell in enumerate(world.cells)}

    def walk(cell: Cell, path: list[int]) -> Iterator[tuple[list[int], Cell]]:
        here = 3 * number[cell]
        yield [*path, here + 2], cell
        for axis in (0, 1):
            if cell[axis] < SIDE - 1:
                moved = (cell[0] + (axis == 0), cell[1] + (axis == 1))
                yield from walk(moved, [*path, here + axis])

    found = list(walk((0, 0), []))
    taken = torch.zeros(len(found), 3 * len(number), dtype=torch.float64)
    ends = torch.zeros(len(found), len(number), dtype=torch.float64)
    for index, (path, cell) in enumerate(found):
        taken[index, path] = 1
        ends[index, world.outcomes.index(cell)] = 1
    return Walks(world=world, taken=taken, ends=ends, allowed=(taken.sum(0) > 0).view(-1, 3))


@pytest.fixture(scope="module")
def walks() -> Walks:
    found = walks_of(small_grid())
    assert len(found.taken) == 19  # C(6, 3) − 1
    close(found.reference.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    return found


def maximise(objective: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The argument, of a given shape, that maximises a smooth function; L-BFGS from 0 in float64."""
    logits = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [logits],
        lr=1,
        max_iter=2000,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = -objective(logits)
        loss.backward()
        return loss

    search.step(closure)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-7, "the search has not converged"
    return logits.detach()


# Objectives of log-probabilities of trajectories (T,).

GridObjective = Callable[[Walks, Tensor], Tensor]


def expected_return(walks: Walks, logprobs: Tensor) -> Tensor:
    return (logprobs.exp() * walks.rewards).sum()


def log_mass(walks: Walks, logprobs: Tensor) -> Tensor:
    """What IPS climbs: Σ r log p over outcomes."""
    return (walks.world.rewards * walks.outcome_logprobs(logprobs)).sum()


def path_entropy(walks: Walks, logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs).sum()


def reverse_kl(walks: Walks, logprobs: Tensor) -> Tensor:
    return (logprobs.exp() * (logprobs - walks.reference)).sum()


def forward_kl(walks: Walks, logprobs: Tensor) -> Tensor:
    return (walks.reference.exp() * (walks.reference - logprobs)).sum()


ON_GRIDS: dict[str, tuple[Training, GridObjective]] = {
    "reverse KL": (REVERSE_KL, lambda w, p: expected_return(w, p) - BETA * reverse_kl(w, p)),
    "trajectory balance": (
        TRAJECTORY_BALANCE,
        lambda w, p: expected_return(w, p) - BETA * reverse_kl(w, p),
    ),
    "forward KL": (FORWARD_KL, lambda w, p: expected_return(w, p) - BETA * forward_kl(w, p)),
    "entropy": (ENTROPY, lambda w, p: expected_return(w, p) + BETA * path_entropy(w, p)),
    "IPS": (IPS_EXACT, log_mass),
    "IPS, entropy": (
        replace(IPS_EXACT, kl="entropy"),
        lambda w, p: log_mass(w, p) + BETA * path_entropy(w, p),
    ),
    "IPS, reverse KL": (
        replace(IPS_EXACT, kl="reverse"),
        lambda w, p: log_mass(w, p) - BETA * reverse_kl(w, p),
    ),
    "IPS, forward KL": (
        replace(IPS_EXACT, kl="forward"),
        lambda w, p: log_mass(w, p) - BETA * forward_kl(w, p),
    ),
}


@pytest.mark.parametrize("name", ON_GRIDS)
def test_on_a_grid_the_optimum_maximises_the_objective_over_trajectories(name: str, walks: Walks) -> None:
    method, objective = ON_GRIDS[name]
    logits = maximise(lambda table: objective(walks, walks.logprobs(table)), tuple(walks.allowed.shape))
    found = walks.outcome_logprobs(walks.logprobs(logits))
    close(optimum(walks.world, method).exp(), found.exp(), 1e-7)


def test_the_optima_on_the_grid_differ(walks: Walks) -> None:
    """So that none can pass for another."""
    names = [name for name in ON_GRIDS if name != "trajectory balance"]
    optima = torch.stack([optimum(walks.world, ON_GRIDS[name][0]).exp() for name in names])
    for one, another in itertools.combinations(optima, 2):
        assert float((one - another).abs().max()) > 1e-3


def test_on_a_grid_ips_with_the_kl_inside_the_reward_has_its_fixed_point_there(walks: Walks) -> None:
    """No function's maximum: Σ P (r − β log(P/Q))/p ∇ log P is followed until it rests."""
    logits = torch.zeros(walks.allowed.shape, dtype=torch.float64, requires_grad=True)
    for _ in range(600):
        logprobs = walks.logprobs(logits)
        with torch.no_grad():
            gains = walks.rewards - BETA * (logprobs - walks.reference)
            share = (logprobs - walks.ends @ walks.outcome_logprobs(logprobs)).exp()
        update = torch.autograd.grad((share * gains * logprobs).sum(), logits)[0]
        with torch.no_grad():
            logits += 0.3 * update
    assert float(update.abs().max()) < 1e-9, "it does not rest yet"
    found = walks.outcome_logprobs(walks.logprobs(logits)).detach()
    close(optimum(walks.world, KL_FIRST).exp(), found.exp(), 1e-7)


@pytest.mark.parametrize("eta", [0.1, 0.7])
def test_in_two_paths_entropy_shares_35_to_7_and_ips_half_and_half(eta: float) -> None:
    world = two_paths()
    a, b = world.outcomes.index((4, 3)), world.outcomes.index((6, 1))
    shares = optimum(world, ENTROPY, beta=eta).exp()
    assert float(shares[a] / shares[b]) == pytest.approx(5, rel=1e-12)
    ips = optimum(world, IPS_EXACT, beta=eta).exp()
    assert [float(ips[a]), float(ips[b]), float(ips.sum())] == pytest.approx([0.5, 0.5, 1])


def test_exact_gradient_ips_reaches_half_and_half_in_two_paths() -> None:
    """Gradient ascent on Σ r log p through the dynamic program; what is rewarded 0 decays like 1/t."""
    world = two_paths()
    a, b = world.outcomes.index((4, 3)), world.outcomes.index((6, 1))
    logits = world.initial_logits(1).double().requires_grad_()
    for _ in range(1500):
        objective = (world.rewards * world.outcome_logprobs(logits)).sum()
        gradient = torch.autograd.grad(objective, logits)[0]
        with torch.no_grad():
            logits += gradient
    shares = world.outcome_logprobs(logits.detach())[0].exp()
    assert 0.4995 < float(shares[a]) <= 0.5
    assert 0.4995 < float(shares[b]) <= 0.5


# Categorical worlds

RATINGS = torch.tensor([0.3, 1.0, 0.6, 0.9], dtype=torch.float64)
PRIOR = torch.tensor([0.45, 0.1, 0.25, 0.2], dtype=torch.float64).log()


def categorical() -> Categorical:
    return Categorical(PRIOR, RATINGS)


def augmented(beta: float, flattening: float) -> Tensor:
    """R + λ (r̄ − R) with the best outcome of all as the anchor: the third, R = .6 and q = .25."""
    bar = 0.6 + beta * (PRIOR[2] - PRIOR)
    return torch.where(RATINGS >= THRESHOLD, RATINGS + flattening * (bar - RATINGS), RATINGS)


@pytest.mark.parametrize("beta", [0.15, 0.6])
@pytest.mark.parametrize("flattening", [1.0, 0.5, 0.2, 0.0])
@pytest.mark.parametrize("algorithm", [1, 2])
def test_mara_maximises_the_return_of_its_rewards_under_a_reverse_kl(
    algorithm: int, flattening: float, beta: float
) -> None:
    method = Training(name="MARA", method=mara_of(flattening, algorithm=1 if algorithm == 1 else 2))
    rewards = augmented(beta, flattening)

    def objective(logits: Tensor) -> Tensor:
        logprobs = logits.log_softmax(0)
        return (logprobs.exp() * (rewards - beta * (logprobs - PRIOR))).sum()

    found = maximise(objective, (4,)).log_softmax(0)
    close(optimum(categorical(), method, beta=beta).exp(), found.exp(), 1e-7)


def test_tempered_mara_goes_from_plain_to_uniform_above_the_threshold() -> None:
    def at(flattening: float) -> Tensor:
        return optimum(categorical(), Training(name="MARA", method=mara_of(flattening)), beta=0.15)

    close(at(0.0), optimum(categorical(), REVERSE_KL, beta=0.15))
    good = RATINGS >= THRESHOLD
    spread = [float(at(part)[good].max() - at(part)[good].min()) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert spread == pytest.approx([spread[0] * (1 - part) for part in (0.0, 0.25, 0.5, 0.75, 1.0)], abs=1e-9)
    assert spread[0] > 0.5
    good_share = at(1.0)[good].log_softmax(0)
    assert float(effective_modes(good_share)) == pytest.approx(3)


@pytest.mark.parametrize("beta", [0.15, 0.6])
def test_mara_under_a_forward_kl_maximises_the_return_of_its_rewards(beta: float) -> None:
    method = Training(name="MARA", kl="forward", method=MARA(threshold=THRESHOLD))
    rewards = augmented(beta, 1.0)

    def objective(logits: Tensor) -> Tensor:
        logprobs = logits.log_softmax(0)
        return (logprobs.exp() * rewards).sum() - beta * (PRIOR.exp() * (PRIOR - logprobs)).sum()

    found = maximise(objective, (4,)).log_softmax(0)
    close(optimum(categorical(), method, beta=beta).exp(), found.exp(), 1e-7)


@pytest.mark.parametrize("name", ["reverse KL", "forward KL", "IPS, reverse KL"])
def test_a_world_in_float32_has_its_optimum_as_well(name: str) -> None:
    """Its reference sums to 1 as nearly as float32 can tell."""
    single = Categorical(PRIOR.float(), RATINGS.float())
    method = ON_GRIDS[name][0]
    close(optimum(single, method).exp(), optimum(categorical(), method).exp(), 1e-6)


def test_mara_in_a_grid_is_refused() -> None:
    for kl in ("reverse", "forward"):
        with pytest.raises(InputError, match="one trajectory per outcome"):
            exact_optimum(
                small_grid(), Training(name="MARA", kl=kl, method=MARA(threshold=THRESHOLD)), beta=BETA
            )


# The expected update


def update_on(method: Training, logprobs: Tensor, outcomes: Tensor, weights: Tensor) -> Tensor:
    """Gradient of the weighted sum of the losses of all samples of batches (M, B), weights alike, (K,)."""
    flat = outcomes.flatten()
    logits = logprobs.detach().clone().requires_grad_()
    of_samples = logits.log_softmax(0)[flat]
    samples = Samples(
        rewards=RATINGS[flat],
        logprobs=of_samples,
        ref_logprobs=PRIOR[flat],
        lengths=torch.ones_like(flat),
        outcomes=flat,
        group_ids=torch.arange(len(outcomes)).repeat_interleave(outcomes.shape[1]),
        beta=torch.full(flat.shape, BETA, dtype=torch.float64),
        probabilities=of_samples.detach().exp(),
    )
    advantages, extra = loss_terms(method, samples, torch.zeros_like(of_samples))
    losses = policy_gradient_loss(
        of_samples, of_samples.detach(), advantages, clip_low=0.2, clip_high=0.2
    ) + (0 if extra is None else extra)
    return torch.autograd.grad((losses * weights.flatten()).sum(), logits)[0]


def expected_update(method: Training, logprobs: Tensor) -> Tensor:
    """Over all batches that are one group, each with its probability."""
    size = 3 if method.group_size is None else method.group_size
    outcomes = torch.tensor(list(itertools.product(range(len(logprobs)), repeat=size)))
    weights = logprobs[outcomes].sum(-1, keepdim=True).exp() / size
    return update_on(method, logprobs, outcomes, weights.expand(outcomes.shape))


def population_update(method: Training, logprobs: Tensor) -> Tensor:
    """Over one group of all outcomes, each with its probability, so that MARA's anchor is the best there is.

    Only for methods without a baseline: that would have to be weighted, too.
    """
    assert method.advantages == "none"
    return update_on(method, logprobs, torch.arange(len(logprobs)).unsqueeze(0), logprobs.exp())


def rests_or_is_unknown(
    options: dict[str, object], update: Callable[[Training, Tensor], Tensor] = expected_update
) -> bool:
    """Whether an optimum that is told is one; a method that is refused, or has none to tell, tells no lie."""
    try:
        method = Training(name="", **options)  # type: ignore[arg-type]
        found = exact_optimum(categorical(), method, beta=BETA)
    except InputError:
        return True
    if found is None:
        return True
    rest = found.clamp(min=-80).log_softmax(0)  # what is extinct is nearly so
    return float(update(method, rest).abs().max()) < 1e-9


KNOWN: dict[str, Training] = {
    "reverse KL": REVERSE_KL,
    "reverse KL in the loss": replace(REVERSE_KL, kl_in="loss"),
    "reverse KL, mean": replace(REVERSE_KL, advantages="mean"),
    "reverse KL, no baseline": replace(REVERSE_KL, advantages="none"),
    "forward KL": FORWARD_KL,
    "entropy": ENTROPY,
    "entropy in the loss": replace(ENTROPY, kl_in="loss"),
    "trajectory balance": TRAJECTORY_BALANCE,
    "IPS": IPS_EXACT,
    "IPS, mean": replace(IPS_EXACT, advantages="mean"),
    "IPS, reverse KL": replace(IPS_EXACT, kl="reverse"),
    "IPS, reverse KL in the loss": replace(IPS_EXACT, kl="reverse", kl_in="loss"),
    "IPS, forward KL": replace(IPS_EXACT, kl="forward"),
    "IPS, entropy": replace(IPS_EXACT, kl="entropy"),
    "IPS, KL first": KL_FIRST,
    "IPS under trajectory balance": replace(TRAJECTORY_BALANCE, method=IPS(), frequencies="exact"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_at_the_optimum_the_expected_update_vanishes(name: str) -> None:
    found = optimum(categorical(), KNOWN[name])
    close(found.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    close(expected_update(KNOWN[name], found), torch.zeros(4, dtype=torch.float64), 1e-9)
    away = (found + torch.tensor([0.2, 0.0, -0.1, 0.0])).log_softmax(0)
    assert float(expected_update(KNOWN[name], away).abs().max()) > 1e-3


@pytest.mark.parametrize("flattening", [1.0, 0.5])
@pytest.mark.parametrize(
    ("kl_in", "loss"),
    [("rewards", "policy_gradient"), ("loss", "policy_gradient"), ("rewards", "trajectory_balance")],
)
def test_at_the_optimum_of_mara_the_update_of_the_population_vanishes(
    kl_in: str, loss: str, flattening: float
) -> None:
    flattened = mara_of(flattening)
    method = Training(name="MARA", kl_in=kl_in, loss=loss, method=flattened, advantages="none")
    found = optimum(categorical(), method)
    close(population_update(method, found), torch.zeros(4, dtype=torch.float64), 1e-9)
    away = (found + torch.tensor([0.2, 0.0, -0.1, 0.0])).log_softmax(0)
    assert float(population_update(method, away).abs().max()) > 1e-3


# Ratio of the likeliest to the least likely good outcome where MARA rests with groups of 4.
ANCHORS = [
    ("group", "none", 1.271),
    ("group", "leave_one_out", 1.058),
    ("leave_one_out", "none", 1.004),
    ("leave_one_out", "leave_one_out", 1.227),
]


@pytest.mark.parametrize(("anchor", "advantages", "ratio"), ANCHORS)
def test_in_small_groups_an_anchor_and_a_baseline_are_biased_together(
    anchor: Literal["group", "leave_one_out"], advantages: Literal["none", "leave_one_out"], ratio: float
) -> None:
    """A baseline over the group's augmented rewards depends on the sample, by way of the others' anchors.

    It undoes most of the bias of the group's anchor, and gives one to the leave-one-out anchor, which alone
    has next to none: only where there is no other good sample.
    """
    mara = MARA(threshold=THRESHOLD, anchor=anchor)
    method = Training(name="MARA", advantages=advantages, method=mara, group_size=4)
    logprobs = optimum(categorical(), method)
    for _ in range(100):
        update = expected_update(method, logprobs)
        logprobs = (logprobs - 2 * update).log_softmax(0)
    assert float(update.abs().max()) < 1e-6, "it does not rest yet"
    good = logprobs[RATINGS >= THRESHOLD]
    assert float((good.max() - good.min()).exp()) == pytest.approx(ratio, abs=1e-3)


@pytest.mark.parametrize("advantages", ["none", "mean", "leave_one_out"])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_group_ips_rests_where_the_expected_update_of_all_groups_leads(size: int, advantages: str) -> None:
    """The update is followed to its end; what goes extinct does so like 1/t."""
    method = replace(IPS_GROUP, group_size=size, advantages=advantages)
    found = optimum(categorical(), method)
    logprobs = torch.full((4,), 0.25, dtype=torch.float64).log()
    for _ in range(200):
        logprobs = (logprobs - 0.5 * expected_update(method, logprobs)).log_softmax(0)
    extinct = found.isneginf()
    assert bool((logprobs[extinct].exp() < 0.02).all())
    close(logprobs[~extinct].softmax(0), found[~extinct].exp(), 0.02)
    # And in full precision: nothing moves at the optimum, with what is extinct nearly so.
    rest = found.clamp(min=-80).log_softmax(0)
    close(expected_update(method, rest), torch.zeros(4, dtype=torch.float64), 1e-9)


def test_groups_of_ips_lose_the_worst_outcome_when_they_are_small() -> None:
    """The outcome of reward .3 goes extinct among 3 samples, not among 16; and a mean costs one sample."""
    sizes = {size: optimum(categorical(), replace(IPS_GROUP, group_size=size)).exp() for size in (3, 16)}
    assert float(sizes[3][0]) == 0
    assert float(sizes[16][0]) > 0.02
    with_mean = optimum(categorical(), replace(IPS_GROUP, group_size=4, advantages="mean"))
    close(with_mean.exp(), sizes[3])


# Where nothing is known

UNKNOWN: dict[str, Training] = {
    "leave-one-out": LEAVE_ONE_OUT,
    "leave-one-out, mean": replace(LEAVE_ONE_OUT, advantages="mean"),
    "GRPO": GRPO,
    "GRPO, entropy": GRPO_ENTROPY,
    "reverse KL, standardised": replace(REVERSE_KL, advantages="group_std"),
    "MARA, standardised": Training(name="", advantages="group_std", method=MARA(threshold=THRESHOLD)),
    "FlowRL": FLOWRL,
    "IPS-GRPO": IPS_GRPO_ENTROPY,
    "IPS of groups of unknown size": IPS_GROUP,
    "IPS of groups, reverse KL": replace(IPS_GROUP, kl="reverse", group_size=4),
    "IPS of groups, forward KL": replace(IPS_GROUP, kl="forward", group_size=4),
    "IPS of groups, entropy": replace(IPS_GROUP, kl="entropy", group_size=4),
    "IPS of groups, KL first": Training(name="", kl="none", method=IPS(kl_first=True), group_size=4),
    "IPS with a lower bound": replace(IPS_EXACT, method=IPS(min_probability=0.1), frequencies="exact"),
    "IPS of groups with a lower bound": replace(IPS_GROUP, method=IPS(min_probability=0.5), group_size=4),
    "IPS of groups of one, which is plain": replace(IPS_GROUP, group_size=1),
    "IPS of groups of two, which with a baseline is plain": replace(
        IPS_GROUP, group_size=2, advantages="leave_one_out"
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_optimum_that_is_not_known_is_none(name: str) -> None:
    assert exact_optimum(categorical(), UNKNOWN[name], beta=BETA) is None


@pytest.mark.parametrize("name", ["leave-one-out", "GRPO", "FlowRL", "IPS-GRPO"])
def test_on_a_grid_it_is_none_as_well(name: str) -> None:
    assert exact_optimum(hyper_grid(2, 3, background=0.1), UNKNOWN[name], beta=BETA) is None


Loss = Literal["policy_gradient", "trajectory_balance"]
COUNTED: dict[str, dict[str, object]] = {
    "plain": {},
    "IPS": {"method": IPS(), "frequencies": "exact"},
    "IPS, KL first": {"method": IPS(kl_first=True), "frequencies": "exact"},
    "IPS of groups, KL first": {"method": IPS(kl_first=True)},
}


@pytest.mark.parametrize("counted", COUNTED)
@pytest.mark.parametrize("loss", ["policy_gradient", "trajectory_balance"])
def test_no_combination_of_options_is_told_an_optimum_where_it_does_not_rest(
    loss: Loss, counted: str
) -> None:
    combinations = itertools.product(
        ("none", "reverse", "forward", "entropy"), ("rewards", "loss"), ("none", "mean", "leave_one_out")
    )
    wrong = [
        f"kl={kl}, kl_in={kl_in}, advantages={advantages}"
        for kl, kl_in, advantages in combinations
        if not rests_or_is_unknown(
            {
                "kl": kl,
                "kl_in": kl_in,
                "advantages": advantages,
                "loss": loss,
                **COUNTED[counted],
                "group_size": 3,
            }
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("flattening", [1.0, 0.5])
@pytest.mark.parametrize("loss", ["policy_gradient", "trajectory_balance"])
def test_no_combination_of_options_with_mara_is_told_an_optimum_where_it_does_not_rest(
    loss: Loss, flattening: float
) -> None:
    combinations = itertools.product(("none", "reverse", "forward", "entropy"), ("rewards", "loss"))
    wrong = [
        f"kl={kl}, kl_in={kl_in}"
        for kl, kl_in in combinations
        if not rests_or_is_unknown(
            {
                "kl": kl,
                "kl_in": kl_in,
                "advantages": "none",
                "loss": loss,
                "method": mara_of(flattening),
            },
            population_update,
        )
    ]
    assert wrong == []


COUNTERS = [
    name
    for name in (*METHODS, *COMPOSITIONS)
    if not build(name).needs_reference and not build(name).has_state
]


@pytest.mark.parametrize("name", COUNTERS)
def test_no_method_is_told_an_optimum_where_groups_of_it_do_not_rest(name: str) -> None:
    """Left out: methods with an anchor, whose optimum is that of large groups, and those with a memory."""
    combinations = itertools.product(
        ("none", "reverse", "forward"), ("rewards", "loss"), ("none", "mean", "leave_one_out")
    )
    wrong = [
        f"kl={kl}, kl_in={kl_in}, advantages={advantages}"
        for kl, kl_in, advantages in combinations
        if not rests_or_is_unknown(
            {"kl": kl, "kl_in": kl_in, "advantages": advantages, "method": build(name), "group_size": 3}
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("name", METHODS)
def test_on_a_grid_a_method_that_looks_at_single_walks_has_no_optimum(name: str) -> None:
    method = build(name)
    training = training_of(method, group_size=max(4, method.min_group_size))
    looks = (method.needs_reference or method.needs_policy) and not method.needs_outcomes
    if looks and exact_optimum(categorical(), training, beta=BETA) is not None:
        with pytest.raises(InputError, match="one trajectory per outcome"):
            exact_optimum(small_grid(), training, beta=BETA)
    else:
        found = exact_optimum(small_grid(), training, beta=BETA)
        assert found is None or abs(float(found.logsumexp(0))) < 1e-9
