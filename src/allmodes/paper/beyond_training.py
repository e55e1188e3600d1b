"""Trains every method in each world, and measures the result.

Only runs with the same number of samples, the same learning rate and the same seeds are compared.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import (
    IPS,
    MARA,
    METHODS,
    UCPO,
    Method,
    OutcomeMatching,
    make_method,
    recipe_fields,
)
from allmodes.paper.beyond_worlds import Cell
from allmodes.paper.reproduction import Progress, Scale
from allmodes.runs.files import write_text
from allmodes.targets import total_variation
from allmodes.worlds.optimum import exact_optimum
from allmodes.worlds.prompts import Prompts
from allmodes.worlds.sweep import Setting, replicas, train
from allmodes.worlds.training import Training, training_of

DRAWS = 32  # samples per prompt among which good outcomes are counted
LOST = 0.1  # an outcome with less than this fraction of its target share is lost
_RECORDS = 60


@final
@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method with its settings, and its label in tables."""

    label: str
    method: Method

    @property
    def color(self) -> str:
        """The method's colour."""
        return self.method.color


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results of an arm in a cell; each metric has one value per seed.

    refused: why it was not trained there; None if it was. curve: metrics over training, (T,), means over
    seeds. policy: mean probability of each outcome at the end, (K,), where there is one prompt. optimum: the
    method's exact optimum where it is known, (K,).
    """

    arm: str
    color: str
    refused: str | None = None
    values: Mapping[str, list[float]] = field(default_factory=dict)
    curve: Mapping[str, list[float]] = field(default_factory=dict)
    policy: list[float] | None = None
    optimum: list[float] | None = None


def arms(threshold: float, settings: Mapping[str, Any]) -> Iterator[Arm]:
    """Every method of METHODS with its defaults, each followed by its entries of VARIANTS.

    settings: values for each method that has a setting of that name; variants of such a setting are left out.
    """
    for name, method in METHODS.items():
        known = recipe_fields(method)
        own = {key: value for key, value in {"threshold": threshold, **settings}.items() if key in known}
        yield Arm(label=method.label, method=make_method(name, {name: own}))
        for key, value, label in VARIANTS.get(name, ()):
            if key not in settings:
                yield Arm(label=label, method=make_method(name, {name: {**own, key: value}}))


VARIANTS: Mapping[str, tuple[tuple[str, Any, str], ...]] = {
    MARA.name: (("level", "outcomes", "MARA, outcomes"),),
    IPS.name: (("exponent", 0.5, "IPS, exponent 0.5 (UA-RL)"),),
    UCPO.name: (("form", "weighted", "UCPO, weighted form"),),
    OutcomeMatching.name: (
        ("strength", 0.5, f"{OutcomeMatching.label}, strength 0.5"),
        ("dual_rate", 0.003, f"{OutcomeMatching.label}, dual"),
    ),
}
"""Further settings of a method that are compared: setting, value, label."""


def measure(probabilities: Tensor, cell: Cell) -> dict[str, Tensor]:
    """Metrics of policies over outcomes, (S, K) or (S, P, K): each (S,), means over prompts.

    valid: mass of the good outcomes. tv: total variation between their shares and the wanted shares. lost:
    good outcomes with less than a tenth of their target share. recovery: expected share of the good outcomes
    among 32 samples. l1: Σ |p − target| over all outcomes.
    """
    good, weights = cell.good, torch.where(cell.good, cell.weights, 0.0)
    target = weights / weights.sum(-1, keepdim=True)
    own = torch.where(good, probabilities, 0)
    valid = own.sum(-1)
    shares = own / valid.clamp(min=1e-300).unsqueeze(-1)
    count = good.sum(-1)
    found = torch.where(good, 1 - (1 - probabilities) ** DRAWS, 0).sum(-1) / count
    figures = {
        "valid": valid,
        "tv": (shares - target).abs().sum(-1) / 2,
        "lost": ((shares < LOST * target) & good).double().sum(-1),
        "recovery": found,
        "l1": (probabilities - target).abs().sum(-1),
    }
    return {name: value.flatten(1).mean(1) if value.ndim > 1 else value for name, value in figures.items()}


def run_cell(cell: Cell, scale: Scale, *, seeds: int, progress: Progress) -> list[Measured]:
    """Train every arm with every seed, all at once, and measure the exact outcome distributions."""
    trained: list[tuple[Arm, Training]] = []
    refused: list[Measured] = []
    for arm in arms(cell.threshold, cell.settings):
        try:
            trained.append((arm, training_of(arm.method, kl=cell.kl, group_size=cell.group_size)))
        except InputError as error:
            refused.append(Measured(arm=arm.label, color=arm.color, refused=str(error)))
    sweep = train(
        cell.world,
        [s for _, training in trained for s in replicas(Setting(training=training, beta=cell.beta), seeds)],
        steps=scale.own_steps(cell.steps),
        batch_size=cell.batch_size,
        learning_rate=cell.learning_rate,
        seed=0,
        record=_RECORDS,
        decays=cell.decays,
        progress=progress,
    )
    found: list[Measured] = []
    for index, (arm, training) in enumerate(trained):
        history = sweep.history[:, index * seeds : (index + 1) * seeds].exp()
        first = min(int(len(history) * (1 - cell.tail)), len(history) - 1)
        final_policy = history[first:].mean(0)
        values = {name: value.tolist() for name, value in measure(final_policy, cell).items()}
        if isinstance(cell.world, Prompts):
            logits = sweep.logits[index * seeds : (index + 1) * seeds]
            values["within"] = cell.world.kl_within_outcomes(logits).mean(1).tolist()
        own = _own_target(cell, training)
        if own is not None:
            values["tv_own"] = total_variation(final_policy.log(), own.expand_as(final_policy)).tolist()
        curves = [measure(policy, cell) for policy in history]
        curve = {name: [float(one[name].mean()) for one in curves] for name in ("valid", "recovery", "tv")}
        found.append(
            Measured(
                arm=arm.label,
                color=arm.color,
                values=values,
                curve=curve,
                policy=final_policy.mean(0).tolist() if cell.good.ndim == 1 else None,
                optimum=None if own is None else own.exp().tolist(),
            )
        )
    return found + refused


def _own_target(cell: Cell, training: Training) -> Tensor | None:
    """The exact optimum of a training in a cell, (K,); None if it is not known."""
    if cell.good.ndim > 1:
        return None
    try:
        return exact_optimum(cell.world, training, beta=cell.beta)
    except InputError:  # the method works on trajectories, and an outcome has several of them here
        return None


def run_cells(
    chosen: list[Cell], scale: Scale, folder: Path, *, seeds: int, progress: Progress
) -> dict[str, list[Measured]]:
    """Run every cell, or read it from NAME.json in `folder`, where each is written when it is done."""
    found: dict[str, list[Measured]] = {}
    for cell in chosen:
        path = folder / f"{cell.name}.json"
        if path.is_file():
            found[cell.name] = [Measured(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
            progress(scale.own_steps(cell.steps))
            continue
        found[cell.name] = run_cell(cell, scale, seeds=seeds, progress=progress)
        write_text(path, json.dumps([vars(one) for one in found[cell.name]], ensure_ascii=False) + "\n")
    return found
