"""IPS, Figure 2: good answers recovered over the number of samples, in HypoSpace's three domains."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from allmodes.extras import require
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, number, some, verdict
from allmodes.reports.plotting import FAINT, MUTED

if TYPE_CHECKING:
    from allmodes.paper.hypospace_runs import Runs

FEW = 0.25
"""The second half of the samples finds few answers if it finds at most this share of those still missing."""

Curve = Sequence[tuple[int, float]]


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train every method in every domain, or reuse the runs of other items, and sample the test prompts.

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("ips-fig2 needs", "transformers", "trl", extras="text")
    from allmodes.paper import hypospace_runs

    runs = hypospace_runs.run(scale, progress, item="ips-fig2")
    return Reproduction(
        figure=_draw(runs),
        numbers={
            domain: {"base": _mean_curve([found.base])}
            | {method: _mean_curve(results) for method, results in found.results.items()}
            for domain, found in runs.items()
        },
        verdicts=judge(runs, whose=hypospace_runs.whose(scale)),
        notes=[
            *hypospace_runs.notes(scale, runs),
            "The recovery at k samples is the exact expectation over all orders of the samples, averaged "
            "over test prompts and seeds; bands are bootstrap standard errors over prompts. Saturation is "
            "measured by the share of the answers missed by the first half of the samples that the second "
            f"half finds: at most {FEW:.0%} counts as few. The paper counts answers, not shares of them.",
        ],
    )


def judge(runs: "Mapping[str, Runs]", *, whose: str) -> list[Verdict]:
    """The paper's claims about the curves."""
    from allmodes.paper.hypospace_runs import FLOWRL, GRPO, IPS

    curves = {
        domain: {method: _mean_curve(found.results[method]) for method in (GRPO, FLOWRL, IPS)}
        for domain, found in runs.items()
    }
    found = {
        domain: {method: found_late(curve) for method, curve in own.items()} for domain, own in curves.items()
    }
    pairs = [(domain, method) for domain in runs for method in (GRPO, FLOWRL)]
    few = sum(curves[domain][method][-1][1] > 0 and found[domain][method] <= FEW for domain, method in pairs)
    later = sum(found[domain][IPS] > found[domain][method] for domain, method in pairs)
    wider = sum(curves[domain][IPS][-1][1] > curves[domain][method][-1][1] for domain, method in pairs)
    last = max(k for k, _ in next(iter(curves.values()))[IPS])
    ends = "; ".join(
        f"{domain}: "
        + ", ".join(f"{method} {number(curve[-1][1])}" for method, curve in curves[domain].items())
        + f", base {number(_mean_curve([runs[domain].base])[-1][1])}, {_ahead(curves[domain])}"
        for domain in runs
    )
    late = "; ".join(
        f"{domain}: " + ", ".join(f"{method} {number(share)}" for method, share in own.items())
        for domain, own in found.items()
    )
    return [
        verdict(
            "GRPO and FlowRL saturate early: further samples find few new answers",
            paper="early saturation in all three domains",
            measured=f"{whose}: the second half of {last} samples finds at most {FEW:.0%} of what is missing "
            f"in {few} of {len(pairs)}; {late}",
            holds=some(few, len(pairs)),
        ),
        verdict(
            "IPS-GRPO continues to find new answers",
            paper="continues to recover new outcomes",
            measured=f"{whose}: a larger share of what is missing than GRPO and FlowRL in {later} of "
            f"{len(pairs)}; " + late,
            holds=some(later, len(pairs)),
        ),
        verdict(
            "IPS-GRPO covers more at the same number of samples",
            paper="wider coverage under identical budgets",
            measured=f"{whose}: after {last} samples ahead in {wider} of {len(pairs)}; {ends}",
            holds=some(wider, len(pairs)),
        ),
    ]


def found_late(curve: Curve) -> float:
    """Of the answers that the first half of the samples misses, the share that the second half finds.

    (R_n − R_h) / (1 − R_h), h the last point of the curve up to n/2; 1 where nothing is missing.
    """
    last, end = curve[-1]
    half = next(value for k, value in reversed(curve) if 2 * k <= last)
    return 1.0 if half >= 1 else (end - half) / (1 - half)


def _ahead(curves: Mapping[str, Curve]) -> str:
    """The number of samples from which IPS-GRPO is ahead of the others."""
    from allmodes.paper.hypospace_runs import IPS

    others = [curve for method, curve in curves.items() if method != IPS]
    behind = [k for place, (k, value) in enumerate(curves[IPS]) if any(value <= o[place][1] for o in others)]
    after = [k for k, _ in curves[IPS] if k > max(behind, default=0)]
    return f"IPS-GRPO ahead of both from {after[0]} samples on" if after else "IPS-GRPO not ahead of both"


def _mean_curve(results: Sequence[Any]) -> list[tuple[int, float]]:
    """The mean over seeds, at the same numbers of samples."""
    return [
        (points[0][0], sum(point[1] for point in points) / len(points))
        for points in zip(*(result.recovery for result in results), strict=True)
    ]


def _draw(runs: "Mapping[str, Runs]") -> Any:
    from matplotlib.figure import Figure

    from allmodes.paper.hypospace_runs import DOMAINS, colours
    from allmodes.text.reporting.figures import plot_recovery

    figure: Any = Figure(figsize=(3.1 * len(runs) + 1.0, 3.0))
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, (domain, found) in zip(panels, runs.items(), strict=True):
        plot_recovery(axes, [found.base.recovery], color=MUTED, label="base model", linestyle=(0, (1, 1)))
        for method, colour in colours(found).items():
            curves = [result.recovery for result in found.results[method]]
            plot_recovery(axes, curves, color=colour, label=method)
        ticks = [2**power for power in range(found.base.recovery[-1][0].bit_length())]
        axes.set(title=DOMAINS[domain], xlabel="samples of a prompt", xscale="log", ylim=(0, 1.02))
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.grid(color=FAINT, linewidth=0.5)
    panels[0].set_ylabel("recovery of good answers")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure
