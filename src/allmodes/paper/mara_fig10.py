"""MARA, Figure 10: the 1-2 task with plain RL alone, at several strengths of the KL."""

import math
from typing import TYPE_CHECKING, Any

from allmodes.extras import require
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, number, verdict
from allmodes.reports.plotting import FAINT, INK, MUTED

if TYPE_CHECKING:
    from allmodes.paper.one_two_runs import Runs

BETAS = (0.001, 0.01, 0.1)


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train plain RL with RLOO at each β.

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("mara-fig10 needs", "transformers", "trl", extras="text")
    from allmodes.paper import one_two_runs

    config = one_two_runs.configuration(scale, beta=list(BETAS))
    runs = one_two_runs.run([config], scale, progress, item="mara-fig10")
    return Reproduction(
        figure=_draw(runs),
        numbers=one_two_runs.numbers(runs),
        verdicts=judge(runs, whose=one_two_runs.SUBJECT.whose(scale)),
        notes=[
            *one_two_runs.notes(scale, runs),
            "All right answers have the same reward, so the optimum of the KL-regularised objective has the "
            "base model's ratio of answers at every β (Remark 4.3). Any further loss of diversity is due to "
            "training, not to the objective.",
        ],
    )


def judge(runs: "Runs", *, whose: str) -> list[Verdict]:
    """The paper's claims, and what theory predicts for the end of training."""
    from allmodes.paper.one_two_runs import HIGH_REWARD, has_one_answer, mean, share_of_one

    good = {key: found[-1] for key, found in runs.bins.items() if found[-1].reward >= HIGH_REWARD}
    shares = {key: share_of_one(found.counts) for key, found in good.items()}
    base = share_of_one(runs.base.answers)
    start = mean([found[0].diversity for found in runs.bins.values()])
    collapsed = sum(has_one_answer(found.counts) for found in good.values())
    collapsed_betas = {arm.beta for (arm, _), found in good.items() if has_one_answer(found.counts)}
    lower = sum(not found.diversity >= start for found in good.values())
    ones = sum(share > 0.5 for share in shares.values())
    listed = ", ".join(f"{number(share)} (β = {arm.beta:g})" for (arm, _), share in shares.items())
    found = f"{whose}: {len(good)} of {len(runs.bins)} runs reach a reward of {HIGH_REWARD}"
    return [
        verdict(
            "Runs that reach high rewards end with one answer, at every β",
            paper="policies of such runs, all β",
            measured=f"{found}; {collapsed} of these have one answer, at {len(collapsed_betas)} of "
            f"{len(BETAS)} β; shares of 1: {listed or 'none'}",
            holds=(
                "no"
                if collapsed == 0
                else "yes"
                if collapsed == len(good) and len(collapsed_betas) == len(BETAS)
                else "partly"
            ),
        ),
        verdict(
            "Most end with the answer that is likelier under the base model",
            paper="most collapse into 1's",
            measured=f"{found}; {ones} of these with more 1s; base {number(base)}",
            holds=2 * ones > len(good) if base > 0.5 else 2 * ones < len(good),
        ),
        verdict(
            "Diversity of valid answers falls over training",
            paper="entropy falls toward 0",
            measured=f"{found}; {lower} of these end below the first steps' {number(start)} nats, at "
            f"{number(mean([step.diversity for step in good.values()]))} on average",
            holds=2 * lower > len(good),
        ),
        verdict(
            "Training ends at the base model's ratio of answers, as at the optimum (ours, Remark 4.3)",
            paper="equal rewards keep the reference's ratios",
            measured=f"{found}; their share of 1 is {number(mean(list(shares.values())))} on average, base "
            f"{number(base)}; mean absolute difference "
            f"{number(mean([abs(share - base) for share in shares.values()]))}",
            holds=bool(shares) and mean([abs(share - base) for share in shares.values()]) < 0.1,
        ),
    ]


def _draw(runs: "Runs") -> Any:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    from allmodes.paper.one_two_runs import share_of_one

    figure: Any = Figure(figsize=(9.6, 2.8))
    shares, curves, entropies = figure.subplots(1, 3)
    palette = dict(zip(BETAS, colormaps["viridis"]([0.1, 0.5, 0.85]), strict=True))
    for (arm, _), found in runs.bins.items():
        colour = palette[arm.beta]
        steps = [step.step for step in found]
        ones = [share_of_one(step.counts) for step in found]
        shares.plot(BETAS.index(arm.beta), ones[-1], "o", color=colour, markersize=6, alpha=0.8)
        curves.plot(steps, ones, color=colour, linewidth=1.5)
        entropies.plot(steps, [step.diversity for step in found], color=colour, linewidth=1.5)
    base = share_of_one(runs.base.answers)
    for axes in (shares, curves):
        axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        if not math.isnan(base):
            axes.axhline(base, color=INK, linewidth=0.8)
        axes.set(ylim=(-0.03, 1.03), ylabel="share of “1” among valid answers")
    shares.set(xticks=range(len(BETAS)), xticklabels=[f"{beta:g}" for beta in BETAS], xlabel="β",
               xlim=(-0.5, len(BETAS) - 0.5), title="a  at the end")  # fmt: skip
    curves.set(xlabel="step", title="b  over training")
    entropies.axhline(math.log(2), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    entropies.set(xlabel="step", ylabel="entropy, nats", ylim=(0, 0.75), title="c  diversity")
    for axes in (shares, curves, entropies):
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
    return figure
