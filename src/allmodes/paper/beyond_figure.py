"""The figure of the comparison of all methods."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from allmodes.metrics import summarise
from allmodes.paper.beyond_training import Measured
from allmodes.paper.beyond_worlds import Cell
from allmodes.reports.plotting import INK, MUTED

_COLUMNS = 3
_LEADING = 5  # curves with a label; the others are fainter


def draw(chosen: Sequence[Cell], found: Mapping[str, Sequence[Measured]]) -> Any:
    """Rows of panels for each kind of world: search, then shares.

    Search: recovery against good mass over training, one curve per method, with a dot at its end. Shares: the
    distance to the wanted shares, one bar per method.
    """
    from matplotlib.figure import Figure

    searches = [cell for cell in chosen if cell.is_search]
    others = [cell for cell in chosen if not cell.is_search]
    tallest = max(len(arms) for arms in found.values())
    heights = [3.3] * math.ceil(len(searches) / _COLUMNS)
    first = len(heights)  # row of the bars
    heights += [0.17 * tallest + 0.6] * math.ceil(len(others) / _COLUMNS)
    figure = Figure(figsize=(4.0 * _COLUMNS, sum(heights) + 0.2))
    panels = figure.subplots(len(heights), _COLUMNS, squeeze=False, height_ratios=heights)
    for kind, show, rows in ((searches, _search, panels[:first]), (others, _shares, panels[first:])):
        places = iter(rows.ravel())
        for cell in kind:
            show(next(places), cell, found[cell.name])
        for axes in places:
            axes.set_visible(False)
    return figure


def _search(axes: Any, cell: Cell, arms: Sequence[Measured]) -> None:
    trained = sorted(
        (one for one in arms if one.refused is None), key=lambda one: -summarise(one.values["recovery"]).mean
    )
    for place, one in reversed(list(enumerate(trained))):
        is_leading = place < _LEADING
        style = {"color": one.color, "alpha": 1.0 if is_leading else 0.45}
        axes.plot(one.curve["valid"], one.curve["recovery"], linewidth=1.2, **style)
        axes.plot(
            one.curve["valid"][-1], one.curve["recovery"][-1], "o", markersize=4.5 if is_leading else 3,
            label=one.arm if is_leading else None, **style,
        )  # fmt: skip
    axes.set_title(cell.title, fontsize=8)
    axes.set(xlabel="good mass", ylabel="recovery", xlim=(None, 1.02), ylim=(0, 1.02))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=6.5, loc="best")


def _shares(axes: Any, cell: Cell, arms: Sequence[Measured]) -> None:
    trained = sorted(
        (one for one in arms if one.refused is None), key=lambda one: -summarise(one.values["tv"]).mean
    )
    for place, one in enumerate(trained):
        summary = summarise(one.values["tv"])
        axes.barh(place, summary.mean, color=one.color, height=0.7)
        axes.plot(one.values["tv"], [place] * len(one.values["tv"]), ".", color=INK, markersize=2)
    axes.set_yticks(range(len(trained)), [one.arm for one in trained], fontsize=6.5)
    axes.set_title(cell.title, fontsize=8)
    axes.set(xlabel="total variation to the wanted shares (dots: seeds)", xlim=(0, None))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(trained) - 0.4)
    axes.grid(axis="x", color=MUTED, linewidth=0.3)
