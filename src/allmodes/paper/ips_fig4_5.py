"""IPS, Figures 4 and 5: the structures that GRPO and IPS-GRPO give for the same top view."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from allmodes.extras import require
from allmodes.paper.ips_grids import in_all
from allmodes.paper.reproduction import Holds, Progress, Reproduction, Scale, Verdict, number, verdict
from allmodes.reports.plotting import FAINT, INK

if TYPE_CHECKING:
    from allmodes.paper.hypospace_runs import Runs

VIEW = "0 1 0\n0 0 0\n0 1 1"
"""The top view of the paper's appendix C."""
NARROW, WIDE = 0.5, 0.75
"""Of the structures that as many uniform draws would find: a narrow subset has at most the first share, a
diverse set at least the second."""
_SHOWN = 7  # structures of a method in the figure


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """The answers of one method to one prompt. samples: per seed; counts: of each good answer, by seed."""

    samples: int
    counts: Sequence[Mapping[str, int]]

    def different(self) -> float:
        """Distinct good answers, mean over seeds."""
        return sum(map(len, self.counts)) / len(self.counts)

    def even(self, known: int) -> float:
        """Expected distinct answers among as many uniform draws from the `known` ones, mean over seeds.

        S (1 − (1 − 1/S)^v), v the number of good answers drawn.
        """
        drawn = [sum(counts.values()) for counts in self.counts]
        return sum(known * (1 - (1 - 1 / known) ** v) for v in drawn) / len(drawn)

    def share_of_even(self, known: int) -> float:
        """Distinct answers relative to uniform draws; NaN if no answer is good."""
        even = self.even(known)
        return self.different() / even if even else math.nan

    def largest(self) -> float:
        """The share of the most frequent among good answers, mean over seeds; NaN if none is good."""
        shares = [max(counts.values()) / sum(counts.values()) for counts in self.counts if counts]
        return sum(shares) / len(shares) if shares else math.nan


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train on structures of blocks, or reuse the runs of other items, and read the prompt's samples.

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("ips-fig4-5 needs", "transformers", "trl", extras="text")
    from allmodes.paper import hypospace_runs

    runs = hypospace_runs.run(scale, progress, item="ips-fig4-5", domains=["voxels"])
    found = runs["voxels"]
    task = hypospace_runs.task_of(found.config)
    prompt = next(prompt for prompt in task.test_prompts if f"empty):\n{VIEW}\n" in prompt)
    sizes = {one: len(task.known_answers(one)) for one in task.test_prompts}
    methods = (hypospace_runs.GRPO, hypospace_runs.IPS)
    seen = {method: samples_of(found, method, prompts=task.test_prompts) for method in methods}
    here = {method: by_prompt[prompt] for method, by_prompt in seen.items()}
    return Reproduction(
        figure=_draw(here, known=sizes[prompt], colours=hypospace_runs.colours(found)),
        numbers={
            "prompt": prompt, "structures": sizes[prompt],
            "counts": {method: [dict(c) for c in one.counts] for method, one in here.items()},
            "different_structures_by_test_prompt": {
                method: [one.different() for one in by_prompt.values()] for method, by_prompt in seen.items()
            },
        },
        verdicts=judge(seen, prompt=prompt, known=sizes[prompt], whose=hypospace_runs.whose(scale)),
        notes=[
            *hypospace_runs.notes(scale, runs),
            f"The top view is that of the paper's appendix C, one of the test prompts; {sizes[prompt]} "
            f"structures have this view. Figures show the first seed's {_SHOWN} most frequent structures, "
            "and how often each was sampled.",
            f"A method that finds up to {NARROW:.0%} of the structures that as many uniform draws would find "
            f"has a narrow subset; one that finds at least {WIDE:.0%} a diverse set.",
        ],
    )  # fmt: skip


def samples_of(found: "Runs", method: str, *, prompts: Sequence[str]) -> dict[str, Seen]:
    """The good answers of all seeds of a method to each prompt."""
    counts: dict[str, list[Counter[str]]] = {prompt: [] for prompt in prompts}
    for folder in found.folders[method]:
        for own in counts.values():
            own.append(Counter())
        for row in _rows(folder / "generations.jsonl"):
            if row["correct"]:
                counts[row["prompt"]][-1][row["answer"]] += 1
    return {prompt: Seen(samples=found.config.samples, counts=own) for prompt, own in counts.items()}


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:  # covered by the result's checksums
        return [json.loads(line) for line in lines]


def judge(seen: Mapping[str, Mapping[str, Seen]], *, prompt: str, known: int, whose: str) -> list[Verdict]:
    """The paper's claims on its prompt, and on all test prompts.

    seen: by method and prompt. known: structures of the prompt.
    """
    from allmodes.paper.hypospace_runs import GRPO, IPS

    plain, ours = seen[GRPO][prompt], seen[IPS][prompt]
    pairs = [(seen[GRPO][one].different(), seen[IPS][one].different()) for one in seen[GRPO]]
    more, fewer = sum(ips > grpo for grpo, ips in pairs), sum(ips < grpo for grpo, ips in pairs)

    def said(one: Seen) -> str:
        good = sum(sum(counts.values()) for counts in one.counts) / len(one.counts)
        return (
            f"{whose}: {one.different():.3g} of {known} structures in {one.samples} samples, {good:.3g} of "
            f"them right; as many uniform draws would find {one.even(known):.1f}; share of the most frequent "
            f"{number(one.largest())}"
        )

    return [
        verdict(
            "GRPO gives a narrow subset of the valid structures",
            paper="Figure 4",
            measured=said(plain),
            holds=plain.share_of_even(known) <= NARROW,
        ),
        verdict(
            "IPS-GRPO gives a diverse set for the same prompt",
            paper="Figure 5",
            measured=said(ours),
            holds=_diverse(ours.share_of_even(known)),
        ),
        verdict(
            "IPS-GRPO gives more distinct structures than GRPO",
            paper="one prompt",
            measured=f"{whose}: {ours.different():.3g} and {plain.different():.3g} on this prompt; on all "
            f"{len(pairs)} test prompts, more on {more} and fewer on {fewer}",
            holds=in_all([ours.different() > plain.different(), 2 * more > len(pairs)]),
        ),
    ]


def _diverse(share: float) -> Holds:
    return "yes" if share >= WIDE else "partly" if share > NARROW else "no"


def filled(key: str) -> Any:
    """Which cells of a structure hold a block: (columns, rows, layers), with the view's last row in front.

    key: heights row by row, as the task names a structure: 010/000/031.
    """
    heights = np.array([[int(height) for height in row] for row in key.split("/")])
    columns = heights[::-1].T
    return columns[:, :, None] > np.arange(3)


def _draw(here: Mapping[str, Seen], *, known: int, colours: Mapping[str, str]) -> Any:
    """A row for each method, one structure per panel, the most frequent first."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(1.4 * _SHOWN, 2.0 * len(here)))
    rows = figure.subfigures(len(here), 1)
    for row, (method, seen) in zip(rows, here.items(), strict=True):
        first = Counter(seen.counts[0])
        total, shown = first.total(), first.most_common(_SHOWN)
        rest = f"; the {_SHOWN} most frequent" if len(first) > len(shown) else ""
        row.suptitle(
            f"{method}: {len(first)} of {known} structures in {seen.samples} samples, {total} of them right"
            + rest,
            x=0.01, ha="left", fontsize=9.5,
        )  # fmt: skip
        for place, (key, count) in enumerate(shown, start=1):
            axes = row.add_subplot(1, _SHOWN, place, projection="3d")
            blocks = filled(key)
            _floor(axes, blocks)
            axes.voxels(blocks, facecolors=colours[method], edgecolor=INK, linewidth=0.4)
            axes.set_title(f"{count} of {total}", fontsize=8, loc="center", pad=-4)
    return figure


def _floor(axes: Any, blocks: Any) -> None:
    """Draw the grid under the blocks, and set the same view for all panels."""
    width, depth, height = blocks.shape
    for x in range(width + 1):
        for y in range(depth + 1):  # cell by cell: what is farther away than a block is drawn behind it
            for end in ((min(x + 1, width), y), (x, min(y + 1, depth))):
                axes.plot([x, end[0]], [y, end[1]], [0, 0], color=FAINT, linewidth=0.6)
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(0, depth), zlim=(0, height))
    axes.set_box_aspect((width, depth, height))
    axes.view_init(elev=28, azim=-62)
