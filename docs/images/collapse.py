"""The first picture of README: what eight answers to one question become at the exact optimum of a method.

python docs/images/collapse.py docs/images/collapse
"""

import sys
from pathlib import Path

from allmodes.cli.samples import SAMPLES
from allmodes.reports.plotting import INK, MUTED, darker, figure_style, save_figure
from allmodes.worlds.own_outcomes.demo import BETA, THRESHOLD
from allmodes.worlds.own_outcomes.optima import explain_optimum, explain_reference, ranked
from allmodes.worlds.own_outcomes.table import read_outcomes

ROWS = {
    "vanilla": "plain RL",
    "entropy": "RL, entropy bonus",
    "ips": "IPS",
    "mara": "MARA",
    "outcome_matching": "OMM (ours)",
}
WRONG = "#e4e4e0"


def main(stem: Path) -> None:
    """Draw the rows from top to bottom."""
    table = read_outcomes(SAMPLES / "outcomes.csv")
    good = [i for i in ranked(table) if table.rewards[i] >= THRESHOLD]
    rows = [("base model", "#9a9a9a", explain_reference(table, threshold=THRESHOLD, tolerance=0.1))]
    for name, label in ROWS.items():
        (optimum,) = explain_optimum(table, betas=[BETA], kl="reverse", threshold=THRESHOLD, methods=[name])
        rows.append((label, optimum.source.method.color, optimum))
    with figure_style() as figure_class:
        figure = figure_class(figsize=(5.6, 2.9))
        axes = figure.subplots()
        for row, (_, color, optimum) in enumerate(rows):
            left = 0.0
            for number, i in enumerate(good):
                share = 100 * float(optimum.logprobs[i].exp())
                shade = darker(color) if number % 2 else color
                axes.barh(row, share, left=left, color=shade, edgecolor="white", linewidth=0.6, height=0.72)
                if share > 4:
                    axes.text(left + share / 2, row, "ABCD"[number], color="white", ha="center", va="center")
                left += share
            axes.barh(row, 100 - left, left=left, color=WRONG, height=0.72)
            if 100 - left > 12:
                axes.text((100 + left) / 2, row, "not good", color=MUTED, ha="center", va="center")
            kept = f"{optimum.good_modes:.1f} of {len(good)}"
            axes.text(103, row, kept, va="center", color=INK, fontweight="bold" if row else "normal")
        axes.text(103, -0.75, "kept", va="center", color=MUTED)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=10)
        axes.set(xlim=(0, 120), ylim=(len(rows) - 0.5, -1.1))
        axes.set_xticks([0, 50, 100], ["0", "50", "100 % of the answers"])
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        save_figure(figure, stem)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
