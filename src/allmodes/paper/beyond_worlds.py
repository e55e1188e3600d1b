"""Small worlds in which all methods are compared: good outcomes, wanted shares, training settings."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor

from allmodes.paper.didactic import half_reference, plateaus
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.grid import GridWorld, hyper_grid, two_paths
from allmodes.worlds.prompts import Prompts
from allmodes.worlds.training import TrainingKL
from allmodes.worlds.world import World


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """One world and one way to train in it.

    good: (K,) or (P, K), which outcomes are good. weights: of the same shape, the wanted shares among them,
    up to a factor. is_search: True where good outcomes must be found and recovery is judged; False where
    every outcome is acceptable and the distance to the wanted shares is judged. settings: values that replace
    methods' defaults, by setting, such as `{"target": "reward"}` where shares should be proportional to "
    "reward. tail: the last fraction of training over which policies are averaged, for learning rates at which
    training never settles; 0 takes the last policy alone.
    """

    name: str
    title: str
    world: World
    kl: TrainingKL
    beta: float
    batch_size: int
    group_size: int | None
    learning_rate: float
    steps: int
    good: Tensor
    weights: Tensor
    threshold: float
    is_search: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    tail: float = 0.0
    decays: bool = False


def categorical_cells() -> Iterator[Cell]:
    """MARA's didactic world: two plateaus of ten good outcomes, one of them rare under the reference."""
    world = Categorical(half_reference(), plateaus(1.0, 1.0))
    for kl in ("reverse", "forward"):
        for beta in (0.05, 0.2, 1.0):
            yield Cell(
                name=f"categorical-{kl}-{beta:g}",
                title=f"100 outcomes, 20 good, {kl} KL, β = {beta:g}",
                world=world,
                kl=kl,
                beta=beta,
                batch_size=32,
                group_size=None,
                learning_rate=5e-3,
                steps=3000,
                good=world.rewards > 0.5,
                weights=world.rewards,
                threshold=0.5,
                is_search=True,
            )


def grid_cells() -> Iterator[Cell]:
    """IPS's hyper-grids: every outcome is acceptable, and shares should be proportional to reward."""
    for side in (8, 16):
        for background in (0.1, 0.01):
            for decays in (False, True):
                yield _grid_cell(
                    hyper_grid(2, side, background=background),
                    name=f"grid-{side}-{background:g}" + ("-decayed" if decays else ""),
                    title=f"hyper-grid {side} × {side}, R₀ = {background:g}"
                    + (", rate decays" if decays else ""),
                    decays=decays,
                )


def path_cells() -> Iterator[Cell]:
    """Two outcomes of equal reward with 35 and 7 paths; the others have none."""
    world = two_paths()
    cell = _grid_cell(world, name="two-paths", title="two outcomes, 35 paths against 7")
    yield replace(cell, good=world.rewards > 0.5, threshold=0.5, settings={})


def _grid_cell(world: GridWorld, *, name: str, title: str, decays: bool = False) -> Cell:
    return Cell(
        name=name,
        title=title,
        world=world,
        kl="reverse",
        beta=0.01,
        batch_size=64,
        group_size=None,
        learning_rate=0.03,
        steps=1500,
        good=torch.ones(len(world.rewards), dtype=torch.bool),
        weights=world.rewards,
        threshold=1e-6,
        is_search=False,
        settings={"target": "reward"},
        decays=decays,
    )


def finite_group_cells() -> Iterator[Cell]:
    """Five outcomes of unequal reward and small groups, almost no KL: the shares at which training ends."""
    rewards = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2], dtype=torch.float64)
    uniform = torch.full((5,), -math.log(5), dtype=torch.float64)
    world = Categorical(uniform, rewards)
    for group in (4, 8, 16):
        yield Cell(
            name=f"groups-{group}",
            title=f"rewards 1, 0.8, 0.6, 0.4, 0.2 in groups of {group}, β = 0.001",
            world=world,
            kl="reverse",
            beta=1e-3,
            batch_size=64,
            group_size=group,
            learning_rate=2e-3,
            steps=5000,
            good=torch.ones(5, dtype=torch.bool),
            weights=rewards,
            threshold=1e-6,
            is_search=False,
            settings={"target": "reward"},
            tail=0.5,
        )


def prompt_cells() -> Iterator[Cell]:
    """Many prompts with several right answers each; a table, or parameters that all prompts share.

    50 prompts of 543 strings, as many as HypoSpace's causal graphs have. 2 to 16 of them are good, with
    shares that fall as rank^(−1.5) and 15 % of all mass. Shared parameters: 20 such prompts, 128 features.
    """
    for group in (4, 8, 16, 32):
        world = _hypotheses(50, samples_per_prompt=group, prompts_per_step=10)
        yield _prompt_cell(
            world, f"prompts-tabular-{group}", f"50 prompts, table, groups of {group}", steps=1500
        )
    for group in (4, 8, 16, 32):
        world = _hypotheses(20, samples_per_prompt=group, prompts_per_step=10, features=128)
        cell = _prompt_cell(
            world, f"prompts-shared-{group}", f"20 prompts, shared parameters, groups of {group}", steps=1500
        )
        yield replace(cell, learning_rate=0.03)
    world = _hypotheses(50, samples_per_prompt=8, prompts_per_step=10, flipped=0.05)
    yield _prompt_cell(
        world, "prompts-noise", "50 prompts, table, groups of 8, 5 % of verdicts flipped", steps=1500
    )


def string_cells() -> Iterator[Cell]:
    """Four good outcomes of 5, 20, 100 and 375 strings (rarer ones have more), and 1,500 wrong strings."""
    generator = torch.Generator().manual_seed(0)
    sizes, masses, wrong = (5, 20, 100, 375), (0.25, 0.1, 0.04, 0.01), 1500
    parts = []
    for size, mass in (*zip(sizes, masses, strict=True), (wrong, 1 - sum(masses))):
        spread = 2.0 * torch.randn(size, generator=generator, dtype=torch.float64)
        parts.append(torch.log_softmax(spread, 0) + math.log(mass))
    counts = torch.tensor([*sizes, wrong])
    outcomes = torch.repeat_interleave(torch.tensor([0, 1, 2, 3, -1]), counts).unsqueeze(0)
    reference = torch.cat(parts).unsqueeze(0)
    world = Prompts(reference, (outcomes >= 0).double(), outcomes, samples_per_prompt=32)
    yield replace(
        _prompt_cell(world, "strings", "4 outcomes that 5 to 375 strings say, groups of 32", steps=3000),
        beta=0.02,
        learning_rate=0.02,
    )


def discovery_cells() -> Iterator[Cell]:
    """Five good outcomes: one of them very rare at first; or all but one of them, as after a collapse."""
    starts = {"rare": (0.25, 0.15, 0.08, 0.02, 1e-4), "collapsed": (0.97, 1e-4, 1e-4, 1e-4, 1e-4)}
    for name, good in starts.items():
        bad = 200
        rest = (1 - sum(good)) / bad
        reference = torch.tensor([*good, *[rest] * bad], dtype=torch.float64).log().unsqueeze(0)
        outcomes = torch.tensor([*range(len(good)), *[-1] * bad]).unsqueeze(0)
        world = Prompts(reference, (outcomes >= 0).double(), outcomes, samples_per_prompt=16)
        few = sum(share < 1e-3 for share in good)
        title = f"{few} of 5 good outcomes at 0.0001 at first, groups of 16"
        yield _prompt_cell(world, f"discovery-{name}", title, steps=4000)


def _prompt_cell(world: Prompts, name: str, title: str, *, steps: int) -> Cell:
    good = torch.isfinite(world.rewards) & (world.rewards > 0.5)
    return Cell(
        name=name,
        title=title,
        world=world,
        kl="reverse",
        beta=0.01,
        batch_size=world.batch_size,
        group_size=None,
        learning_rate=0.05,
        steps=steps,
        good=good,
        weights=good.double(),
        threshold=0.5,
        is_search=True,
    )


def _hypotheses(
    count: int,
    *,
    samples_per_prompt: int,
    prompts_per_step: int,
    features: int | None = None,
    flipped: float = 0.0,
) -> Prompts:
    strings, most, mass = 543, 16, 0.15
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(2, most + 1, (count,), generator=generator).tolist()
    reference = torch.empty(count, strings, dtype=torch.float64)
    outcomes = torch.full((count, strings), -1)
    for prompt, size in enumerate(sizes):
        good = torch.log_softmax(-1.5 * torch.arange(1, size + 1).double().log(), 0) + math.log(mass)
        bad = torch.log_softmax(-torch.arange(1, strings - size + 1).double().log(), 0) + math.log(1 - mass)
        # Each prompt has its own order of strings, so that no string is right for all prompts.
        order = torch.randperm(strings, generator=generator)
        reference[prompt, order] = torch.cat([good, bad])
        outcomes[prompt, order[:size]] = torch.arange(size)
    shared = None
    if features is not None:
        shared = torch.randn(count, strings, features, generator=generator) / features**0.5
    return Prompts(
        reference,
        (outcomes >= 0).double(),
        outcomes,
        samples_per_prompt=samples_per_prompt,
        prompts_per_step=prompts_per_step,
        features=shared,
        flipped=flipped,
    )


def cells() -> list[Cell]:
    """All cells, in the order of the report."""
    return [
        *categorical_cells(),
        *prompt_cells(),
        *string_cells(),
        *discovery_cells(),
        *grid_cells(),
        *path_cells(),
        *finite_group_cells(),
    ]
