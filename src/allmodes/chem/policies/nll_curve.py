"""The curve of a training by maximum likelihood."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allmodes.reports.plotting import BLUE, MUTED, ORANGE, figure_style, save_figure


def draw_nll_curve(epochs: Sequence[Mapping[str, Any]], stem: Path) -> None:
    """Training and validation NLL over epochs, and where the latter is lowest, to `stem`.png and `stem`.svg.

    epochs: the rows of metrics.jsonl that `pretrain` writes. Raises ConfigError without matplotlib.
    """
    with figure_style() as figure_class:
        figure = figure_class(figsize=(4.6, 3.0))
        axes = figure.add_subplot()
        for key, label, colour in (
            ("training_nll", "training", ORANGE),
            ("validation_nll", "validation", BLUE),
        ):
            points = [(row["epoch"], row[key]) for row in epochs if row[key] is not None]
            axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=".")
        trained = [row for row in epochs if row["step"] > 0]
        best = min(trained, key=lambda row: row["validation_nll"])
        axes.axvline(best["epoch"], color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_title(f"Lowest validation NLL: {best['validation_nll']:.2f} at epoch {best['epoch']:g}")
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats per molecule")
        axes.legend()
        save_figure(figure, stem)
