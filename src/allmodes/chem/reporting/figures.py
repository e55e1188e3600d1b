"""Figures of the reports as inline SVG: learning curves, distributions and molecules."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from allmodes.chem.design.ledger import LedgerRow, reward_tensor
from allmodes.chem.design.results import find_hits
from allmodes.chem.fingerprints import fingerprints
from allmodes.chem.molecules import not_drawn
from allmodes.metrics import num_circles
from allmodes.reports.plotting import inline_svg

WINDOW = 200  # calls in the moving mean of the reward
_FEWEST = 50  # no mean is shown for fewer calls
_FINE, _COARSE = 160, 12  # grid points of the cheap curves, and of #Circles
_BINS = 24  # of a distribution
_INK, _FAINT = "#333333", "#d0d0d0"
ATOM_COLOURS = {  # by atomic number; calmer than RDKit's own, and dark enough for paper
    6: (0.20, 0.20, 0.20),
    7: (0.12, 0.30, 0.75),
    8: (0.80, 0.15, 0.12),
    9: (0.13, 0.53, 0.35),
    15: (0.80, 0.42, 0.08),
    16: (0.68, 0.52, 0.04),
    17: (0.13, 0.53, 0.25),
    35: (0.55, 0.27, 0.07),
    53: (0.42, 0.20, 0.52),
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 8.5,
    "svg.fonttype": "none",  # text stays text; the page's style sheet sets its own font
    "svg.hashsalt": "allmodes",
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "text.color": _INK,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}

Runs = Mapping[str, Sequence[Sequence[LedgerRow]]]
Curve = NDArray[np.float64]


def learning_curves(
    runs: Runs, *, colours: Mapping[str, str], hit_threshold: float, circle_distance: float
) -> str:
    """Hits, mean reward and #Circles against oracle calls, as one SVG.

    runs: by algorithm (its name as shown), the ledger rows of each seed in the order of the calls. A run's
    thin line ends where it stopped; mean and ±1 sd band end with the shortest run of their algorithm.
    """
    import matplotlib
    from matplotlib.figure import Figure

    hits = partial(hits_at, hit_threshold=hit_threshold)
    circles = partial(circles_at, hit_threshold=hit_threshold, distance=circle_distance)
    panels: list[tuple[str, int, Callable[[Sequence[LedgerRow], NDArray[np.int64]], Curve]]] = [
        ("Hits", _FINE, hits),
        (f"Mean reward of the last {WINDOW} calls", _FINE, mean_reward_at),
        ("#Circles of the hits", _COARSE, circles),
    ]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(10.4, 3.1))
        for axes, (title, points, curve) in zip(figure.subplots(1, 3), panels, strict=True):
            calls = _grid(runs, points)
            ends: dict[str, float] = {}
            for name, ledgers in runs.items():
                curves = np.array([curve(rows, calls) for rows in ledgers])
                _draw(axes, calls, curves, colours[name])
                last = [values[-1] for line in curves if len(values := line[~np.isnan(line)])]
                if last:
                    ends[name] = float(np.mean(last))
            _finish(axes, title, int(calls[-1]))
            _label_ends(axes, ends, colours)
        figure.subplots_adjust(left=0.045, right=0.885, top=0.9, bottom=0.16, wspace=0.72)
        return inline_svg(figure, transparent=True)


def _grid(runs: Runs, points: int) -> NDArray[np.int64]:
    """Numbers of calls at which curves are evaluated; the end of every run is one of them."""
    ends = [len(rows) for ledgers in runs.values() for rows in ledgers]
    even = np.linspace(0, max(ends, default=0), points + 1).round().astype(np.int64)
    return np.unique(np.concatenate([even, np.array(ends, dtype=np.int64)]))


def hits_at(rows: Sequence[LedgerRow], calls: NDArray[np.int64], *, hit_threshold: float) -> Curve:
    """Hits within each number of calls, (C,); NaN beyond the end of the run."""
    is_hit = reward_tensor(rows).numpy() >= hit_threshold
    return _at(np.concatenate([[0.0], np.cumsum(is_hit)]), calls)


def mean_reward_at(rows: Sequence[LedgerRow], calls: NDArray[np.int64]) -> Curve:
    """Mean raw reward of the last `WINDOW` calls (or all) up to each number of calls, without failures.

    (C,), NaN beyond the end of the run and where too few calls came before.
    """
    rewards = reward_tensor(rows).numpy()
    scored = ~np.isnan(rewards)
    sums = np.concatenate([[0.0], np.cumsum(np.where(scored, rewards, 0.0))])
    counts = np.concatenate([[0], np.cumsum(scored)])
    ends = np.arange(len(rows) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    number = counts - counts[starts]
    means = np.where(number > 0, (sums - sums[starts]) / np.maximum(number, 1), np.nan)
    means[ends < _FEWEST] = np.nan
    return _at(means, calls)


def circles_at(
    rows: Sequence[LedgerRow], calls: NDArray[np.int64], *, hit_threshold: float, distance: float
) -> Curve:
    """#Circles of the hits within each number of calls, (C,); NaN beyond the end of the run."""
    hits = find_hits(rows, hit_threshold=hit_threshold, circle_distance=distance)
    prints = fingerprints([hit.row.evaluation.smiles for hit in hits])
    found_at = torch.tensor([hit.row.call for hit in hits], dtype=torch.long)
    counts = [
        len(num_circles(prints[found_at <= end], distance=distance)) if end <= len(rows) else math.nan
        for end in calls.tolist()
    ]
    return np.array(counts, dtype=np.float64)


def _at(values: Curve, calls: NDArray[np.int64]) -> Curve:
    """Values at numbers of calls; NaN beyond the end of the run."""
    inside = calls < len(values)
    return np.where(inside, values[np.minimum(calls, len(values) - 1)], np.nan)


def _draw(axes: Any, calls: NDArray[np.int64], curves: Curve, colour: str) -> None:
    """Draw the curves of one algorithm, (seeds, points); NaN if a run has ended."""
    mean = curves.mean(0)
    if len(curves) > 1:
        spread = curves.std(0, ddof=1)
        axes.fill_between(calls, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        for curve in curves:
            axes.plot(calls, curve, color=colour, alpha=0.3, linewidth=0.7)
    axes.plot(calls, mean, color=colour, linewidth=2, solid_capstyle="round")


def _finish(axes: Any, title: str, calls: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_title(title, loc="left", fontsize=9.5, pad=8)
    axes.set_xlabel("oracle calls")
    axes.set_xlim(0, max(calls, 1))
    if title.startswith("Mean"):
        axes.yaxis.set_major_locator(MaxNLocator(5))
    else:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, width=0.8)


def _label_ends(axes: Any, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Each algorithm's name where its runs end on average, pushed up where two would overlap."""
    low, high = axes.get_ylim()
    free = 0.0
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        height = max((end - low) / (high - low), free)
        axes.text(1.03, height, name, color=colours[name], transform=axes.transAxes, va="center")
        free = height + 0.075


def draw_molecule(smiles: str, *, width: int = 240, height: int = 170, bond: int = 26) -> str:
    """A molecule as SVG with a viewBox and no size of its own. The SMILES must be one that RDKit reads.

    bond: its length in pixels at most: a small molecule is not blown up. A molecule that is too large says so
    instead, see `not_drawn`.
    """
    whole = Chem.MolFromSmiles(smiles)
    reason = not_drawn(whole)
    if reason is not None:
        return (
            f'<svg viewBox="0 0 {width} {height}" role="img"><text x="{width / 2:g}" y="{height / 2:g}" '
            f'text-anchor="middle" font-size="11" fill="{_INK}">{reason}</text></svg>'
        )
    molecule = rdMolDraw2D.PrepareMolForDrawing(whole)
    rdDepictor.StraightenDepiction(molecule)
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    options = drawer.drawOptions()
    options.clearBackground = False
    options.fixedBondLength = bond
    options.bondLineWidth = 1.5 if molecule.GetNumAtoms() <= 30 else 1.1
    options.minFontSize, options.maxFontSize = 9, 13
    options.padding = 0.03
    options.updateAtomPalette(ATOM_COLOURS)
    drawer.DrawMolecule(molecule)
    drawer.FinishDrawing()
    _, _, drawing = drawer.GetDrawingText().partition("<!-- END OF HEADER -->")
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-hidden="true">{drawing}'


def draw_distribution(values: Sequence[float], *, mark: float | None = None) -> str:
    """A histogram of values, at least one, as SVG; bars from `mark` up have the accent's colour."""
    edges, counts = distribution(values, mark=mark)
    width, height = 230.0, 90.0
    places = (edges - edges[0]) * width / (edges[-1] - edges[0])
    tall = (height - 4) * counts / counts.max()
    bars = [
        f'<rect x="{left + 0.5:.1f}" y="{height - top:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
        f'height="{top:.1f}" fill="{"var(--accent)" if mark is not None and edge >= mark else "#a9b4bf"}"/>'
        for left, right, top, edge in zip(places[:-1], places[1:], tall, edges[:-1], strict=True)
        if top
    ]
    axis = f'<path d="M0 {height + 0.5}H{width:.0f}" stroke="#999999"/>'
    return f'<svg viewBox="0 0 {width:.0f} {height + 1:.0f}" aria-hidden="true">{"".join(bars)}{axis}</svg>'


def distribution(values: Sequence[float], *, mark: float | None = None) -> tuple[Curve, NDArray[np.int64]]:
    """Edges, (B + 1,), and counts, (B,), of equal bins from the lowest value to the highest.

    A mark between the two is an edge: no bin holds values from both sides of it.
    """
    data = np.asarray(values, dtype=np.float64)
    low, high = data.min(), data.max()
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value: one bin among empty ones
        return low + np.arange(-7.0, 9.0), np.bincount([7], [len(data)], 15).astype(np.int64)
    size = (high - low) / _BINS
    edges = np.linspace(low, high, _BINS + 1)
    if mark is not None and low < mark <= high:
        below, above = math.ceil((mark - low) / size), math.floor((high - mark) / size) + 1
        edges = mark + size * np.arange(-below, above + 1)  # 0 times the size: the mark itself
    return edges, np.histogram(data, edges)[0]
