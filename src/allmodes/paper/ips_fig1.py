"""IPS, Figure 1: terminal distributions learned on the hyper-grid, compared with the target."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.paper.ips_grids import (
    BASELINES,
    BATCH_SIZE,
    OPEN,
    Trained,
    each,
    in_all,
    mean_sd,
    score,
    target_of,
    train_grid,
)
from allmodes.paper.reproduction import Holds, Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import INK, MUTED, RED
from allmodes.worlds.grid import GridWorld, mode_cells
from allmodes.worlds.training import FLOWRL, GRPO_ENTROPY, IPS_EXACT, IPS_GRPO_ENTROPY

SIDES, BACKGROUND = (8, 16), 0.1
METHODS = (*BASELINES, IPS_EXACT)
_LOWEST = 1e-4  # of the colour scale


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train on both grids and compare the exact terminal distributions with r/Z."""
    grids = [train_grid(2, side, BACKGROUND, METHODS, scale=scale, progress=progress) for side in SIDES]
    scales = [flowrl_largest_scale(grid.world) for grid in grids]
    return Reproduction(
        figure=_figure(grids),
        numbers={
            f"H={grid.side}": {**_numbers(grid), "flowrl_largest_scale": largest}
            for grid, largest in zip(grids, scales, strict=True)
        },
        verdicts=[entry for grid in grids for entry in _verdicts(grid)],
        notes=[
            "H of the paper's figure could not be recovered from its text; both values of its Table 1 are "
            "shown, with R0 = 0.1. 'Closely' means L1 < 0.1 here; 'partly' means an L1 below half of each "
            "baseline's.",
            OPEN,
            "With groups of 64 the 48 background cells are extinct at the exact optimum of H = 8: group "
            "frequencies cannot distinguish a cell that is drawn less than once per group from one that is "
            "drawn once. At H = 16 a corner of the ring that no group draws for some time is not found "
            "again.",
            "FlowRL divides its advantages by their standard deviation, so p ∝ q exp(L (c R − z)), with L "
            "the trajectory's length, is stationary only where c·std_p(R) = 15. The largest c·std_p(R) over "
            f"all c is {scales[0]:.2f} (H = 8) and {scales[1]:.2f} (H = 16): no such point exists, and "
            "FlowRL collapses.",
            "Not in the paper: 'IPS, exact' divides by exact probabilities of outcomes and has no entropy.",
        ],
    )


def _numbers(grid: Trained) -> dict[str, Any]:
    target = score(grid.world, target_of(grid.world))
    methods = {}
    for method in METHODS:
        learned = grid.learned[method.name]
        largest = [[*grid.world.outcomes[int(row.argmax())], float(row.max())] for row in learned]
        methods[method.name] = {**vars(grid.score(method)), "largest_cell": largest}
    return {
        "target_mode_mass": target.mode_mass,
        "finite_group_distance": grid.exact_distance(IPS_GRPO_ENTROPY),
        "one_corner_distance": grid.corner_distance,
        "methods": methods,
    }


def _verdicts(grid: Trained) -> list[Verdict]:
    baselines = (GRPO_ENTROPY, FLOWRL)
    largest = {m: grid.learned[m.name].amax(-1) for m in baselines}
    where = {
        m: " and ".join(
            str(grid.world.outcomes[k]) for k in grid.learned[m.name].argmax(-1).unique().tolist()
        )
        for m in baselines
    }
    ips = grid.score(IPS_GRPO_ENTROPY)
    is_close = bool((ips.distance < 0.1).all())
    is_closer = all(bool(ips.distance.max() < 0.5 * grid.score(m).distance.min()) for m in baselines)
    closeness: Holds = "yes" if is_close else "partly" if is_closer else "no"
    target_mass = float(score(grid.world, target_of(grid.world)).mode_mass)
    return [
        *(
            verdict(
                f"{method.name} ends on a single mode, H = {grid.side}",
                paper="the majority of the mass on a single high-reward mode",
                measured=f"the largest cell holds {each(largest[method], 3)} (each seed), at {where[method]}",
                holds=in_all(largest[method] > 0.5),
            )
            for method in baselines
        ),
        verdict(
            f"IPS-GRPO spreads over all symmetric modes, H = {grid.side}",
            paper="mass across all symmetric modes",
            measured=f"modes hit {each(ips.modes_hit, 0)} of 4, mode mass {each(ips.mode_mass)} (target "
            f"{target_mass:.2f})",
            holds=in_all(ips.modes_hit == 4),
        ),
        verdict(
            f"IPS-GRPO closely matches the target, H = {grid.side}",
            paper="closely matches the target distribution",
            measured=f"L1 {each(ips.distance)}; exact optimum of groups of {BATCH_SIZE} without entropy and "
            f"σ {grid.exact_distance(IPS_GRPO_ENTROPY):.2f}; IPS with exact probabilities "
            f"{each(grid.score(IPS_EXACT).distance)}; GRPO {each(grid.score(GRPO_ENTROPY).distance)}",
            holds=closeness,
        ),
    ]


def flowrl_largest_scale(world: GridWorld) -> float:
    """Largest c·std_p(R) over c > 0, of p ∝ q exp(L (c R − z)) with z such that Σ p = 1."""
    lengths = torch.tensor([float(sum(cell) + 1) for cell in world.outcomes], dtype=torch.float64)
    slopes = torch.logspace(-2, 3, 400, dtype=torch.float64).unsqueeze(1)
    low, high = torch.full_like(slopes, -1e4), torch.full_like(slopes, 1e4)

    def heights(z: Tensor) -> Tensor:
        return world.ref_outcome_logprobs + lengths * (slopes * world.rewards - z)

    for _ in range(100):
        middle = (low + high) / 2
        too_low = torch.logsumexp(heights(middle), -1, keepdim=True) > 0
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    p = torch.softmax(heights(low), -1)
    mean = (p * world.rewards).sum(-1, keepdim=True)
    deviation = (p * (world.rewards - mean).square()).sum(-1).sqrt()
    return float((slopes.squeeze(1) * deviation).max())


def _figure(grids: Sequence[Trained]) -> Any:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 4.7))
    panels = figure.subplots(len(grids), 1 + len(METHODS))
    image = None
    for row, grid in zip(panels, grids, strict=True):
        for axes, (title, p, caption) in zip(row, _maps(grid), strict=True):
            image = axes.imshow(
                _square(grid.world, p, grid.side).clamp(min=_LOWEST).numpy(),
                norm=LogNorm(_LOWEST, 1),
                cmap="YlGnBu",
                origin="lower",
            )
            _outline_modes(axes, grid.world)
            axes.set(xticks=(0, grid.side - 1), yticks=(0, grid.side - 1))
            axes.tick_params(length=0, labelsize=7, pad=1)
            axes.spines[:].set_visible(False)
            axes.set_xlabel(caption, fontsize=8, loc="left", linespacing=1.25)
            if grid is grids[0]:
                axes.set_title(title)
        row[0].set_ylabel(f"H = {grid.side}", fontsize=9.5, color=INK)
    bar = figure.colorbar(image, ax=panels, shrink=0.55, aspect=25, pad=0.015, extend="min")
    bar.outline.set_visible(False)
    bar.set_label("probability of ending in the cell")
    note = "maps: seed 0   numbers: mean ± sd of the seeds   outlined: the four mode cells"
    figure.supxlabel(note, fontsize=7.5, color=MUTED)
    return figure


def _maps(grid: Trained) -> list[tuple[str, Tensor, str]]:
    """Title, probabilities and caption of each map of a row."""
    target = target_of(grid.world)
    maps = [("target  r/Z", target, f"mode mass {float(score(grid.world, target).mode_mass):.2f}")]
    for method in METHODS:
        entry = grid.score(method)
        caption = (
            f"L1 {mean_sd(entry.distance)}\nmode mass {mean_sd(entry.mode_mass)}\nmodes hit "
            f"{float(entry.modes_hit.double().mean()):.3g} of 4"
        )
        maps.append((method.name, grid.learned[method.name][0], caption))
    return maps


def _square(world: GridWorld, p: Tensor, side: int) -> Tensor:
    """(side, side), the second coordinate upwards."""
    square = torch.zeros(side, side, dtype=p.dtype)
    x, y = torch.tensor(world.outcomes).unbind(1)
    square[y, x] = p
    return square


def _outline_modes(axes: Any, world: GridWorld) -> None:
    from matplotlib.patches import Rectangle

    for index in mode_cells(world).nonzero().squeeze(1).tolist():
        x, y = world.outcomes[index]
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=1.1))
