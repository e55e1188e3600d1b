"""The hyper-grids of the IPS paper, which several items share: training and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from allmodes.metrics import summarise
from allmodes.paper.didactic import colors_of, policies
from allmodes.paper.reproduction import Holds, Progress, Scale
from allmodes.targets import ips_target
from allmodes.worlds.grid import GridWorld, hyper_grid, mode_cells
from allmodes.worlds.optimum import exact_optimum
from allmodes.worlds.sweep import Setting, replicas, train
from allmodes.worlds.training import FLOWRL, GRPO_ENTROPY, IPS_EXACT, IPS_GRPO_ENTROPY, Training

BATCH_SIZE, LEARNING_RATE = 64, 0.03
ENTROPY_WEIGHT, FLOWRL_BETA = 0.1, 1 / 15
SMALL_GROUP = 16
IPS_GRPO_SMALL = replace(IPS_GRPO_ENTROPY, name=f"IPS-GRPO, groups of {SMALL_GROUP}", group_size=SMALL_GROUP)
BASELINES = (GRPO_ENTROPY, FLOWRL, IPS_GRPO_ENTROPY)
COLOURS = colors_of((*BASELINES, IPS_GRPO_SMALL, IPS_EXACT))
OPEN = (
    "The paper leaves open the number of steps, the batch, the learning rate, the entropy weight and the "
    "policy's architecture. Here: a tabular policy that starts uniform over the allowed actions, "
    f"{BATCH_SIZE} trajectories per step in one group for every method, Adam with learning rate "
    f"{LEARNING_RATE}, and for GRPO and IPS-GRPO the entropy of the whole trajectory as a term of the loss "
    f"with weight {ENTROPY_WEIGHT} and advantages divided by their standard deviation. FlowRL has β = 1/15 "
    "and, instead of an entropy, its own KL to the uniform start. L1 is the sum of |p̂ − p| over exact "
    "distributions (dynamic programming), not over samples."
)


def beta_of(method: Training) -> float:
    """The entropy weight with which the items train a method."""
    return FLOWRL_BETA if method.loss == "flowrl" else ENTROPY_WEIGHT


@final
@dataclass(frozen=True, kw_only=True)
class Score:
    """L1 distance to r/Z, mass of the mode cells, mode cells with half their target mass or more; (...)."""

    distance: Tensor
    mode_mass: Tensor
    modes_hit: Tensor


@final
@dataclass(frozen=True, kw_only=True)
class Trained:
    """A grid and what the methods learned on it.

    learned: each method's outcome probabilities, (seeds, K). by_weight: score of each
    method and entropy weight, where several were tried.
    """

    dimensions: int
    side: int
    background: float
    world: GridWorld
    learned: dict[str, Tensor]
    by_weight: dict[str, dict[float, Score]]

    @property
    def title(self) -> str:
        """Dimensions, side and background, as text of two lines."""
        dimensions = f"d = {self.dimensions}, " if self.dimensions != 2 else ""
        return f"{dimensions}H = {self.side}\nR0 = {self.background:g}"

    @property
    def uniform_distance(self) -> float:
        """L1 distance of the uniform distribution to r/Z."""
        return float((target_of(self.world) - 1 / len(self.world.outcomes)).abs().sum())

    def score(self, method: Training) -> Score:
        """Score of each seed of a method."""
        return score(self.world, self.learned[method.name])

    def exact_distance(self, method: Training) -> float | None:
        """L1 distance to r/Z of the exact optimum that IPS has without an entropy; None for the others.

        With a group's frequencies and its mean as the baseline, the optimum is p ∝ r (1 − (1 − p)^(G−1)).
        """
        if not method.method.needs_outcomes:
            return None
        size = BATCH_SIZE if method.group_size is None else method.group_size
        bare = replace(method, kl="none", advantages="mean", group_size=size)
        optimum = exact_optimum(self.world, bare, beta=0.0)
        return None if optimum is None else float(score(self.world, optimum.exp()).distance)

    @property
    def corner_distance(self) -> float:
        """L1 distance to r/Z of the optimum for groups of the batch size on the start's own corner alone."""
        near = torch.tensor([all(2 * x < self.side for x in cell) for cell in self.world.outcomes])
        reachable = torch.where(near, self.world.rewards, 0)
        optimum = ips_target(reachable, group_size=BATCH_SIZE - 1).exp()
        return float(score(self.world, optimum).distance)


def train_grid(
    dimensions: int,
    side: int,
    background: float,
    methods: Sequence[Training],
    *,
    weights: Sequence[float] = (),
    scale: Scale,
    progress: Progress,
) -> Trained:
    """Train all seeds of all methods in one batch, and GRPO and IPS-GRPO at further entropy weights."""
    world = hyper_grid(dimensions, side, background=background)
    weighed = (GRPO_ENTROPY, IPS_GRPO_ENTROPY) if weights else ()
    settings = [s for m in methods for s in replicas(Setting(training=m, beta=beta_of(m)), scale.seeds)]
    settings += [
        s
        for m in weighed
        for w in weights
        for s in replicas(Setting(training=m, beta=w), min(scale.seeds, 2))
    ]
    sweep = train(
        world,
        settings,
        steps=scale.own_steps(scale.grid_steps),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=0,
        record=20,
        progress=progress,
    )
    return Trained(
        dimensions=dimensions,
        side=side,
        background=background,
        world=world,
        learned={method.name: policies(sweep, method, beta_of(method)) for method in methods},
        by_weight={
            method.name: {
                weight: score(world, policies(sweep, method, weight))
                for weight in sorted((*weights, ENTROPY_WEIGHT))
            }
            for method in weighed
        },
    )


def score(world: GridWorld, probabilities: Tensor) -> Score:
    """How close distributions over outcomes, (..., K), are to the reward-proportional one."""
    target, modes = target_of(world), mode_cells(world)
    return Score(
        distance=(probabilities - target).abs().sum(-1),
        mode_mass=probabilities[..., modes].sum(-1),
        modes_hit=(probabilities[..., modes] >= 0.5 * target[modes]).sum(-1),
    )


def target_of(world: GridWorld) -> Tensor:
    """R/Z, (K,)."""
    return world.rewards / world.rewards.sum()


def mean_sd(values: Tensor) -> str:
    """Mean ± standard deviation with two decimals, as text."""
    summary = summarise(values.double().tolist())
    return f"{summary.mean:.2f} ± {summary.std:.2f}"


def each(values: Tensor, digits: int = 2) -> str:
    """Every seed's number, as text."""
    return ", ".join(f"{value:.{digits}f}" for value in values.tolist())


def in_all(cases: Sequence[bool] | Tensor) -> Holds:
    """Whether a claim holds in all cases ("yes"), in some ("partly") or in none ("no")."""
    return "yes" if all(cases) else "partly" if any(cases) else "no"
