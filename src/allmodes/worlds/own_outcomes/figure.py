"""The figure of optima: reward, reference, and the optimum of each objective for every β."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from allmodes.reports.formatting import shown_name
from allmodes.reports.plotting import INK, MUTED, distinct_colors, figure_style
from allmodes.worlds.own_outcomes.objectives import Objective
from allmodes.worlds.own_outcomes.optima import Optimum, good_threshold, ranked
from allmodes.worlds.own_outcomes.table import OutcomeTable

_MARKERS = "osD^vP*X<>phd8"  # by the order of the objectives
_GOOD = "#f1f0ea"  # behind good outcomes
_BARS = "#bdbbb2"
_THRESHOLD: dict[str, Any] = {"color": INK, "lw": 0.9, "ls": (0, (3, 2))}
_TITLE_PAD = 17  # points; a line fits between title and axes
_PER_ROW = 5  # panels beside the rewards
_MOST_PANELS = 15  # of each KL
_MOST_NAMES = 24  # outcomes that are bars with names; more are dots
_MOST_COVERS = 4  # objectives whose numbers stand above a panel; of more the least and the most
_LEGEND_WIDTH = 1.2  # inches of an entry
_MOST_VECTORS = 2000  # dots of a kind that an SVG holds one by one
_LOWEST = -8  # the fewest decades that dots are shown for; a strip below holds the rest


@final
@dataclass(frozen=True, kw_only=True)
class _View:
    """Outcomes in the order of the figure; arrays of (K,)."""

    names: list[str]
    rewards: NDArray[np.float64]
    reference: NDArray[np.float64]
    order: NDArray[np.int64]
    num_good: int  # they come first
    colors: dict[str, str]  # of each objective by its name
    tau: float
    tau_label: str

    def color(self, optimum: Optimum) -> str:
        return self.colors[optimum.source.name]

    def probabilities(self, optimum: Optimum) -> NDArray[np.float64]:
        return optimum.logprobs.exp().numpy()[self.order]


def draw_report(table: OutcomeTable, optima: Sequence[Optimum], *, threshold: float | None) -> Any:
    """A matplotlib figure: outcomes by falling reward, one panel a KL and β.

    Few outcomes are bars with names on a linear scale; many are dots on a logarithmic one. More than 15 β
    of a KL are thinned evenly. Raises InputError if matplotlib is not installed.
    """
    rows = _panel_rows(optima)
    kinds: list[Objective] = list(dict.fromkeys(o.source for o in optima))
    view = _view(table, threshold, kinds)
    number, width = len(view.names), max(len(row) for row in rows)
    is_few = number <= _MOST_NAMES
    # The fewer the outcomes the thicker their bars, yet 24 names must not touch.
    height = (
        number * max(0.18, 0.03 * len(kinds), min(0.09 + 0.075 * len(kinds), 3.4 / number)) if is_few else 1.9
    )
    limit = max(float(view.probabilities(o).max()) for row in rows for panel in row for o in panel)
    with figure_style() as figure_class:
        size = (2.3 + 2.0 * max(width, 2), 0.7 + (max(height, 0.9) + 0.8) * len(rows))
        figure = figure_class(figsize=size)
        figure.get_layout_engine().set(wspace=0.05)
        grid = figure.add_gridspec(len(rows), 1 + width, width_ratios=[0.55] + [1] * width)
        for i, row in enumerate(rows):
            first = figure.add_subplot(grid[i, 0])
            (_draw_reward_bars if is_few else _draw_reward_steps)(first, view)
            for j, panel in enumerate(row):
                axes = figure.add_subplot(grid[i, j + 1], sharey=first if is_few else None)
                if is_few:
                    _draw_bars(axes, view, panel, limit=limit)
                else:
                    _draw_dots(axes, view, panel, kinds, is_first=j == 0)
                _head(axes, view, panel)
        _legend(figure, view, kinds, is_few=is_few)
    return figure


def _view(table: OutcomeTable, threshold: float | None, kinds: Sequence[Objective]) -> _View:
    order = np.array(ranked(table))
    reference = table.ref_logprobs.exp().numpy()[order]
    tau = good_threshold(table, threshold)
    return _View(
        names=[
            shown_name(table.names[i], 22) + (" (ref. 0)" if bool(table.ref_logprobs[i].isneginf()) else "")
            for i in order
        ],
        rewards=table.rewards.numpy()[order],
        reference=reference,
        order=order,
        num_good=int((table.rewards >= tau).sum()),
        colors=distinct_colors({kind.name: kind.method.color for kind in kinds}),
        tau=tau,
        tau_label="best reward in reach" if threshold is None else f"threshold τ = {tau:g}",
    )


def _panel_rows(optima: Sequence[Optimum]) -> list[list[list[Optimum]]]:
    """Rows of panels; a panel holds the optima of one KL and β, a row the panels of one KL."""
    rows = []
    for kl in dict.fromkeys(o.kl for o in optima):
        betas = sorted({o.beta for o in optima if o.kl == kl})
        if len(betas) > _MOST_PANELS:
            betas = [betas[round(i)] for i in np.linspace(0, len(betas) - 1, _MOST_PANELS)]
        panels = [[o for o in optima if o.kl == kl and o.beta == beta] for beta in betas]
        per_row = math.ceil(len(panels) / math.ceil(len(panels) / _PER_ROW))  # 6 are 3 + 3, not 5 + 1
        rows += [panels[i : i + per_row] for i in range(0, len(panels), per_row)]
    return rows


def _draw_reward_bars(axes: Any, view: _View) -> None:
    places = np.arange(len(view.names))
    axes.set_title("reward", pad=_TITLE_PAD)
    axes.axhspan(-0.5, view.num_good - 0.5, color=_GOOD, lw=0, zorder=0)
    axes.barh(places, view.rewards, height=0.55, color=_BARS, lw=0)
    axes.axvline(view.tau, **_THRESHOLD)
    axes.set_ylim(len(view.names) - 0.5, -0.5)
    axes.set_yticks(places, view.names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=3)


def _draw_reward_steps(axes: Any, view: _View) -> None:
    number = len(view.names)
    base = min(0.0, float(view.rewards.min()))
    axes.set_title("reward", pad=_TITLE_PAD)
    axes.axvspan(0.5, view.num_good + 0.5, color=_GOOD, lw=0, zorder=0)
    axes.stairs(view.rewards, np.arange(number + 1) + 0.5, baseline=base, fill=True, color=_BARS, lw=0)
    axes.axhline(view.tau, **_THRESHOLD)
    axes.set_xlim(0.5, number + 0.5)
    axes.set_xlabel("outcomes by reward")
    axes.locator_params(axis="x", nbins=2, integer=True)


def _draw_bars(axes: Any, view: _View, panel: Sequence[Optimum], *, limit: float) -> None:
    places = np.arange(len(view.names))
    height = 0.8 / len(panel)
    axes.axhspan(-0.5, view.num_good - 0.5, color=_GOOD, lw=0, zorder=0)
    for i, optimum in enumerate(panel):
        middle = places + (i - (len(panel) - 1) / 2) * height
        percent = 100 * view.probabilities(optimum)
        axes.barh(middle, percent, height=0.88 * height, color=view.color(optimum), lw=0)
    axes.vlines(100 * view.reference, places - 0.44, places + 0.44, color=INK, lw=1.3)
    axes.set_xlim(0, min(101.0, 112 * max(limit, float(view.reference.max()))))
    axes.set_xlabel("probability, %")
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _draw_dots(
    axes: Any, view: _View, panel: Sequence[Optimum], kinds: Sequence[Objective], *, is_first: bool
) -> None:
    ranks = np.arange(1, len(view.names) + 1)
    is_good = ranks <= view.num_good
    floor = _floor(view)
    size = float(np.clip(1800 / len(ranks), 3, 18))
    tick = float(np.clip(110 / len(ranks), 0.3, 2))  # as wide as an outcome
    axes.axvspan(0.5, view.num_good + 0.5, color=_GOOD, lw=0, zorder=0)
    series = [(view.reference, MUTED, "o", 0.6)]
    series += [(view.probabilities(o), view.color(o), _marker(kinds, o.source), 1.0) for o in panel]
    step = 1 / (len(series) + 1)  # of the strip, which is one decade high
    is_raster = len(ranks) > _MOST_VECTORS
    for i, (values, colour, marker, alpha) in enumerate(series):
        with np.errstate(divide="ignore"):
            decades = np.log10(values)
        # Good outcomes are what matters: the others stand back.
        for which, share, strength in ((~is_good, 0.6, 0.45), (is_good, 1.0, 1.0)):
            chosen = which & (decades >= floor)
            axes.scatter(
                ranks[chosen], decades[chosen], s=share * size, marker=marker, lw=0, color=colour,
                alpha=alpha * strength, rasterized=is_raster, zorder=2 + strength,
            )  # fmt: skip
        at = floor - step * (i + 1)
        low = ranks[decades < floor]
        axes.vlines(low, at - 0.35 * step, at + 0.35 * step, lw=tick, color=colour, rasterized=is_raster)
    axes.axhline(floor, color=MUTED, lw=0.6)
    axes.set_xlim(0.5, len(ranks) + 0.5)
    axes.set_ylim(floor - 1, 0.15)
    decades = range(0, floor, -1 if floor > -4 else -2)
    labels = [f"$10^{{{d}}}$" if d else "1" for d in decades]
    axes.set_yticks([*decades, floor - 0.5], [*labels, f"below $10^{{{floor}}}$"])
    axes.tick_params(axis="y", labelleft=is_first)
    axes.set_xlabel("outcomes by reward")
    axes.locator_params(axis="x", nbins=4, integer=True)
    if is_first:
        axes.set_ylabel("probability", labelpad=-12)


def _floor(view: _View) -> int:
    """The decade below which all dots are in one strip: a little below the reference, and below 1/K."""
    least = float(view.reference[view.reference > 0].min())
    return int(np.clip(math.floor(math.log10(min(least, 0.1 / len(view.names)))), _LOWEST, -3))


def _head(axes: Any, view: _View, panel: Sequence[Optimum]) -> None:
    """KL and β, and below them how many good outcomes each optimum covers, in the objectives' colours."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
    from matplotlib.transforms import ScaledTranslation

    axes.set_title(f"{panel[0].kl} KL, β = {panel[0].beta:g}", pad=_TITLE_PAD)
    parts = [("covers", MUTED, "normal")]
    covered = [(f"{o.good_modes:.{1 if o.good_modes < 9.95 else 0}f}", o) for o in panel]
    if len(covered) <= _MOST_COVERS:
        parts += [(number, view.color(o), "bold") for number, o in covered]
    else:
        least, most = (pick(covered, key=lambda pair: pair[1].good_modes) for pick in (min, max))
        parts += [(least[0], view.color(least[1]), "bold"), ("to", MUTED, "normal")]
        parts += [(most[0], view.color(most[1]), "bold")]
    parts += [(f"of {view.num_good} good", MUTED, "normal")]
    areas: list[Any] = [
        TextArea(word, textprops={"color": c, "size": 8, "weight": w}) for word, c, w in parts
    ]
    above = ScaledTranslation(0, 3 / 72, axes.figure.dpi_scale_trans)
    axes.add_artist(
        AnchoredOffsetbox(
            loc="lower left",
            child=HPacker(children=areas, pad=0, sep=4),
            bbox_to_anchor=(0, 1),
            bbox_transform=axes.transAxes + above,
            frameon=False,
            borderpad=0,
            pad=0,
        )
    )


def _legend(figure: Any, view: _View, kinds: Sequence[Objective], *, is_few: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if is_few:
        handles.append(Line2D([], [], color=INK, marker="|", ls="", ms=10, mew=1.3, label="reference"))
        handles += [Patch(color=view.colors[kind.name], lw=0, label=kind.label) for kind in kinds]
    else:
        handles.append(Line2D([], [], color=MUTED, marker="o", ls="", ms=4, mew=0, label="reference"))
        handles += [
            Line2D(
                [], [], color=view.colors[k.name], marker=_marker(kinds, k), ls="", ms=4, mew=0, label=k.label
            )
            for k in kinds
        ]
    handles.append(Patch(color=_GOOD, lw=0, label="good outcomes"))
    handles.append(Line2D([], [], **_THRESHOLD, label=view.tau_label))
    columns = min(len(handles), max(2, int(figure.get_figwidth() / _LEGEND_WIDTH)))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.6, handletextpad=0.5
    )


def _marker(kinds: Sequence[Objective], kind: Objective) -> str:
    return _MARKERS[list(kinds).index(kind) % len(_MARKERS)]
