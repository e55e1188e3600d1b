"""IPS, Table 2: how many good answers to HypoSpace's prompts each method still finds, in three domains."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from allmodes.extras import require
from allmodes.metrics import summarise
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, number, some, verdict
from allmodes.reports.plotting import INK, MUTED

if TYPE_CHECKING:
    from allmodes.paper.hypospace_runs import Runs

KEPT, SAME = 0.9, 0.02
"""Recovery counts as kept from this share of the base model's on; valid rates that differ by at most this
much count as equal."""
METRICS = {"valid_rate": "valid rate", "uniqueness": "uniqueness", "recovery_rate": "recovery rate"}


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train every method in every domain, or reuse the runs of other items, and sample the test prompts.

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("ips-table2 needs", "transformers", "trl", extras="text")
    from allmodes.paper import hypospace_runs

    runs = hypospace_runs.run(scale, progress, item="ips-table2")
    return Reproduction(
        figure=_draw(runs),
        numbers=hypospace_runs.numbers(runs),
        verdicts=judge(runs, whose=hypospace_runs.whose(scale)),
        notes=[
            *hypospace_runs.notes(scale, runs),
            f"A method counts as keeping the base model's recovery if it has at least {KEPT:.0%} of it, and "
            f"as right as often as another if its valid rate is at most {SAME} lower. Uniqueness falls with "
            "the number of valid samples. In the table, ± is the standard deviation over seeds, or for a "
            "single seed the bootstrap standard error over prompts.",
        ],
        tables=[markdown(runs)],
    )


def judge(runs: "Mapping[str, Runs]", *, whose: str) -> list[Verdict]:
    """The paper's claims, domain by domain, on the means over seeds."""
    from allmodes.paper.hypospace_runs import FLOWRL, GRPO, IPS

    def listed(methods: Sequence[str], metric: str) -> str:
        """The methods' means in each domain, with the base model's."""
        cells = [
            f"{domain}: "
            + ", ".join(f"{method} {number(found.mean(method, metric))}" for method in methods)
            + f", base {number(found.base.metrics.get(metric, math.nan))}"
            for domain, found in runs.items()
        ]
        return f"{whose}: " + "; ".join(cells)

    def recovery(found: "Runs", method: str) -> float:
        return found.mean(method, "recovery_rate")

    plain = (GRPO, FLOWRL)
    ahead = sum(recovery(found, IPS) > recovery(found, method) for found in runs.values() for method in plain)
    base = {domain: KEPT * found.base.metrics["recovery_rate"] for domain, found in runs.items()}
    lost = sum(recovery(found, method) < base[domain] for domain, found in runs.items() for method in plain)
    kept = sum(recovery(found, IPS) >= base[domain] > 0 for domain, found in runs.items())
    rates = [(found.mean(IPS, "valid_rate"), found.mean(GRPO, "valid_rate")) for found in runs.values()]
    right = sum(ours > 0 and ours >= theirs - SAME for ours, theirs in rates)
    return [
        verdict(
            "IPS-GRPO recovers more good answers than GRPO and FlowRL, in every domain",
            paper="substantially more in all three; the numbers are lost",
            measured=listed((IPS, *plain), "recovery_rate"),
            holds=some(ahead, len(plain) * len(runs)),
        ),
        verdict(
            "GRPO and FlowRL lose good answers that the base model finds",
            paper="a small subset of solutions is left",
            measured=f"{whose}: below {KEPT:.0%} of the base model's recovery in {lost} of "
            f"{len(plain) * len(runs)}",
            holds=some(lost, len(plain) * len(runs)),
        ),
        verdict(
            "IPS-GRPO keeps the base model's good answers",
            paper="wider coverage; the base model is not measured",
            measured=f"{whose}: at least {KEPT:.0%} of the base model's recovery in {kept} of {len(runs)} "
            "domains",
            holds=some(kept, len(runs)),
        ),
        verdict(
            "IPS-GRPO is right as often as GRPO",
            paper="matches or exceeds the baselines",
            measured=listed((IPS, GRPO), "valid_rate"),
            holds=some(right, len(runs)),
        ),
        *_against_all(runs, whose=whose),
    ]


def _against_all(runs: "Mapping[str, Runs]", *, whose: str) -> list[Verdict]:
    """A comparison that the paper does not make; empty where only its methods were trained."""
    from allmodes.paper.hypospace_runs import FLOWRL, GRPO, IPS

    methods = next(iter(runs.values())).results
    ours = [method for method in methods if method not in (FLOWRL, GRPO, IPS)]
    if not ours:
        return []
    best = {
        domain: max(found.results, key=lambda method, found=found: found.mean(method, "recovery_rate"))
        for domain, found in runs.items()
    }
    return [
        verdict(
            f"IPS-GRPO recovers the most of all methods (ours: with {' and '.join(ours)})",
            paper="not compared",
            measured=f"{whose}: "
            + "; ".join(
                f"{domain}: {method} {number(runs[domain].mean(method, 'recovery_rate'))}"
                for domain, method in best.items()
            ),
            holds=some(sum(method == IPS for method in best.values()), len(runs)),
        )
    ]


def markdown(runs: "Mapping[str, Runs]") -> str:
    """The table: a row for each domain and method."""
    from allmodes.paper.hypospace_runs import DOMAINS

    lines = [
        f"| domain | method | {' | '.join(METRICS.values())} |",
        "| --- | --- |" + " --- |" * len(METRICS),
    ]
    for domain, found in runs.items():
        rows = {"base model": [found.base], **found.results}
        lines += [
            f"| {DOMAINS[domain]} | {name} | "
            + " | ".join(_cell(results, metric) for metric in METRICS)
            + " |"
            for name, results in rows.items()
        ]
    return "\n".join(lines) + "\n"


def _cell(results: Sequence[Any], metric: str) -> str:
    """Mean and deviation over the seeds that have the metric; for one seed its error over prompts."""
    known = [result for result in results if metric in result.metrics]
    if not known:
        return "–"
    summary = summarise([result.metrics[metric] for result in known])
    spread = known[0].errors[metric] if len(known) == 1 else summary.std
    return f"{summary.mean:.2f} ± {spread:.2f}"


def _draw(runs: "Mapping[str, Runs]") -> Any:
    """Recovery against valid rate, one panel per domain, one dot per seed."""
    from matplotlib.figure import Figure

    from allmodes.paper.hypospace_runs import DOMAINS, colours

    figure: Any = Figure(figsize=(3.1 * len(runs) + 1.0, 3.0))
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, (domain, found) in zip(panels, runs.items(), strict=True):
        known = found.base.metrics
        axes.plot(
            known["valid_rate"], known["recovery_rate"], "*", color=INK, markersize=9, label="base model"
        )
        axes.axhline(known["recovery_rate"], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        for method, colour in colours(found).items():
            axes.plot(
                found.values(method, "valid_rate"), found.values(method, "recovery_rate"), "o", color=colour,
                markersize=6, alpha=0.8, label=method,
            )  # fmt: skip
        axes.set(title=DOMAINS[domain], xlabel="valid rate", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    panels[0].set_ylabel("recovery of good answers")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure
