"""MARA, Tables 1 and 5: quality and diversity on open questions, by nine methods.

Quick scale uses stand-ins built at run time. Real scale uses SmolLM2, NoveltyBench's prompts, MiniLM as the
embedder, and stand-ins for both preference models. Paper scale uses the paper's models and settings (Tables 3
and 4), an accelerator and a model hub. Real and paper scale keep their results in the folder that the
environment variable ALLMODES_TABLE1_WORK names, by default runs/table1-real and runs/table1-work: a killed
run resumes there, and a training.jsonl or test.jsonl in it (JSON Lines with `prompt`) replaces the prompts
from the hub. NoveltyBench's are data/wildchat-1k.jsonl and data/curated.jsonl of
github.com/novelty-bench/novelty-bench. For your own models and prompts: `allmodes.paper.table1.table1`.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from allmodes.extras import require
from allmodes.methods import color_of
from allmodes.paper.real_models import SMOLLM2
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.paper.table1_settings import (
    BASE,
    ENSEMBLE,
    MOST_WORDS,
    NAMES,
    PAPER,
    QUICK,
    REAL,
    TRAINED,
    Settings,
)
from allmodes.reports.plotting import INK, MUTED, distinct_colors

WORK = "ALLMODES_TABLE1_WORK"
MARA_ROWS = ("MARA (rev)", "MARA (fwd)")
LOWER_ROWS = ("MARA (rev, .75)", "MARA (fwd, .75)")
BASELINES = ("GRPO", "RLOO", "Entropy", "Unlikely", "BoN", ENSEMBLE)
IN_DIST, OUT_DIST = "in_dist_reward", "out_dist_reward"
DIVERSITY = {"ead": "EAD", "semantic_diversity": "semantic diversity", "distinct_classes": "distinct classes"}
_MARKERS = {
    BASE: "D",
    "GRPO": "o",
    "RLOO": "s",
    "Entropy": "v",
    "Unlikely": "P",
    "BoN": "X",
    ENSEMBLE: "p",
    "MARA (rev)": "*",
    "MARA (fwd)": "*",
    "MARA (rev, .75)": "^",
    "MARA (fwd, .75)": "^",
}


def settings_of(scale: Scale) -> Settings:
    """The settings of a scale; quick and real take the scale's number of steps."""
    if scale.name == "paper":
        return PAPER
    if scale.name == "real":
        from allmodes.text.models import has_bfloat16

        precision = "bfloat16" if has_bfloat16() else "float32"
        return replace(REAL, steps=scale.own_steps(REAL.steps), precision=precision)
    return replace(
        QUICK, steps=scale.own_steps(QUICK.steps), seeds=tuple(range(min(len(QUICK.seeds), scale.seeds)))
    )


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train, measure and judge.

    Raises ConfigError at real and paper scale where models, prompts or an accelerator are missing, before
    training.
    """
    require("table1 needs", "transformers", "trl", extras="text")
    from allmodes.paper.table1 import table1

    settings = settings_of(scale)
    work = {"real": "runs/table1-real", "paper": "runs/table1-work"}.get(scale.name)
    if work is not None:
        table = table1(settings, Path(os.environ.get(WORK, work)), advance=progress)
    else:
        with tempfile.TemporaryDirectory(prefix="allmodes-table1-") as folder:
            table = table1(settings, Path(folder), share=min(scale.steps, 1.0), advance=progress)
    return Reproduction(
        figure=draw(table, settings), numbers=_numbers(table), verdicts=judge(table, settings),
        notes=_notes(table, settings),
    )  # fmt: skip


def judge(table: Any, settings: Settings) -> list[Verdict]:
    """The paper's claims compared with the measurements."""
    said = _whose(settings)

    def mean(row: str, metric: str) -> float:
        return table.rows[row][metric].mean

    def cell(row: str, metric: str) -> str:
        return f"{row} {_cell(table, row, metric)}"

    def cells(rows: Sequence[str], metric: str) -> str:
        return ", ".join(cell(row, metric) for row in rows)

    best = max(BASELINES, key=lambda row: mean(row, OUT_DIST))
    above = [row for row in MARA_ROWS if mean(row, OUT_DIST) > mean(best, OUT_DIST)]
    plain = ("RLOO", "GRPO")
    wins = {
        metric: sum(mean(mara, metric) > mean(row, metric) for mara in MARA_ROWS for row in plain)
        for metric in ("ead", "distinct_classes")
    }
    best_by_metric = {
        metric: max((BASE, *BASELINES, *MARA_ROWS), key=lambda row: mean(row, metric)) for metric in DIVERSITY
    }
    led = [metric for metric, row in best_by_metric.items() if row in MARA_ROWS]
    lower = [OUT_DIST, *DIVERSITY]
    better = sum(
        mean(row, metric) > mean(other, metric)
        for row, other in zip(MARA_ROWS, LOWER_ROWS, strict=True)
        for metric in lower
    )
    return [
        verdict(
            "MARA has a higher out-of-distribution reward than every baseline",
            paper="rev 1.451 ± 0.103, fwd 1.604 ± 0.113; best baseline Unlikely 1.381 ± 0.114",
            measured=f"{said}{cells(MARA_ROWS, OUT_DIST)}; best baseline {cell(best, OUT_DIST)}; one-sided p "
            + ", ".join(_p(table, row, best, OUT_DIST) for row in MARA_ROWS),
            holds=_all_or_part(len(above), len(MARA_ROWS)),
        ),
        verdict(
            "MARA has a higher EAD than RLOO and GRPO",
            paper="rev 0.543, fwd 0.568; RLOO 0.514, GRPO 0.497",
            measured=f"{said}{cells((*MARA_ROWS, *plain), 'ead')}",
            holds=_all_or_part(wins["ead"], 4),
        ),
        verdict(
            "MARA has more distinct classes than RLOO and GRPO",
            paper="rev 4.14, fwd 4.62; RLOO 3.88, GRPO 3.96",
            measured=f"{said}{cells((*MARA_ROWS, *plain), 'distinct_classes')}",
            holds=_all_or_part(wins["distinct_classes"], 4),
        ),
        verdict(
            "MARA is best in all diversity metrics but one",
            paper="best in EAD and distinct classes; semantic diversity: Entropy",
            measured=said
            + "; ".join(
                f"{DIVERSITY[metric]}: {cell(row, metric)}" for metric, row in best_by_metric.items()
            ),
            holds=_all_or_part(len(led), len(DIVERSITY) - 1),
        ),
        verdict(
            "An entropy bonus costs quality",
            paper="out-of-distribution 0.786, base model 1.166, RLOO 1.280",
            measured=f"{said}{cells(('Entropy', BASE, 'RLOO'), OUT_DIST)}",
            holds=_all_or_part(
                sum(mean("Entropy", OUT_DIST) < mean(row, OUT_DIST) for row in (BASE, "RLOO")), 2
            ),
        ),
        verdict(
            "Best-of-N training: highest training reward, fewer classes, less quality elsewhere",
            paper="in-distribution 16.88 (RLOO 15.56), distinct 2.29, out-of-distribution 0.596",
            measured=f"{said}in-distribution {cells(('BoN', 'RLOO'), IN_DIST)}; distinct "
            f"{cells(('BoN', 'RLOO'), 'distinct_classes')}; out-of-distribution "
            f"{cells(('BoN', BASE), OUT_DIST)}",
            holds=_all_or_part(
                sum(
                    (
                        mean("BoN", IN_DIST) > mean("RLOO", IN_DIST),
                        mean("BoN", "distinct_classes") < mean("RLOO", "distinct_classes"),
                        mean("BoN", OUT_DIST) < mean(BASE, OUT_DIST),
                    )
                ),
                3,
            ),
        ),
        verdict(
            "A threshold at the 75th percentile instead of the 90th does slightly worse",
            paper="fwd worse in 3 of 4 metrics; rev *better* in 3 of 4 (Table 5)",
            measured=f"{said}the 90th is better in {better} of 8 comparisons; out-of-distribution "
            + cells((*MARA_ROWS, *LOWER_ROWS), OUT_DIST),
            holds=_all_or_part(better, 8),
        ),
    ]


def _whose(settings: Settings) -> str:
    """Prefix of a measurement that names the models, where they are not the paper's."""
    if settings.has_made_up_rewards:
        return f"{SMOLLM2}, stand-ins for preference models: "
    return "stand-ins: " if settings.is_stand_in else ""


def _all_or_part(count: int, all_of: int) -> Any:
    return "yes" if count >= all_of else "partly" if count else "no"


def _cell(table: Any, row: str, metric: str) -> str:
    figure = table.rows[row][metric]
    if math.isnan(figure.mean):
        return "–"
    return f"{figure.mean:.3f}" + ("" if math.isnan(figure.sem) else f" ± {figure.sem:.3f}")


def _p(table: Any, row: str, other: str, metric: str) -> str:
    p = table.p_greater(row, other, metric)
    return "none (too few prompts)" if math.isnan(p) else f"{p:.2g}"


def _numbers(table: Any) -> dict[str, Any]:
    return {
        "rows": {
            name: {
                metric: {"mean": figure.mean, "sem": figure.sem, "seeds": figure.seeds}
                for metric, figure in figures.items()
            }
            | {"unscored": table.unscored[name]}
            for name, figures in table.rows.items()
        },
        "p_greater": {
            name: {
                other: {metric: table.p_greater(name, other, metric) for metric in (OUT_DIST, *DIVERSITY)}
                for other in ("RLOO", "GRPO")
                if other != name
            }
            for name in table.rows
        },
        "embedder": table.embedder,
        "stand_ins": table.stand_ins,
    }


def _notes(table: Any, settings: Settings) -> list[str]:
    own = settings.is_stand_in
    return [
        *(
            [
                f"Stand-ins: a chat model of {table.stand_ins['parameters'] / 1000:.0f} thousand parameters "
                "and two reward models, built at run time from a synthetic world of questions, answers and "
                "preferences. The results show that the code works, and say little about the paper's models. "
                "The units of rewards are arbitrary. `--scale paper` runs the same code on the paper's "
                "models."
            ]
            if own
            else []
        ),
        *(_real_notes(settings) if settings.has_made_up_rewards else ()),
        f"{len(settings.seeds)} seeds; ± is the bootstrap standard error over prompts, of each prompt's mean "
        "over seeds. The JSON file has each seed.",
        "MARA (rev) is trained with RLOO, whose reverse KL is inside the reward. RLOO has no forward KL: "
        "MARA (fwd) is trained with GRPO without division by the standard deviation and with the per-token "
        "forward KL in its loss, states held fixed: the paper's form, whose optimum is not flat for "
        "responses of two or more tokens.",
        "The paper does not give β, the entropy coefficient, or the members of the ensemble. Here: β = "
        f"{settings.beta:g} (Figure 11 has 0.01), η = {settings.entropy:g}, RLOO's first and last of four "
        "checkpoints. Unlikely needs rewards of 0 or more: the base model's lowest reward is subtracted.",
        "In-distribution rewards are of new samples from training prompts, after training. An empty response "
        "has no reward, and is left out of the rewards only.",
        "Classes: " + _judge_of(settings),
        f"Semantic diversity: embedder {table.embedder!r}"
        + (", which sees spellings, not meanings." if table.embedder == "stand-in" else "."),
        "The table, mean ± standard error:\n\n" + markdown(table),
    ]


def _real_notes(settings: Settings) -> list[str]:
    return [
        "Stand-ins for preference models, of which none installs as a package. The reward of training "
        f"(in-distribution) is max(cos, 0) · min(1, {MOST_WORDS}/n): the cosine of the embeddings of prompt "
        "and response, and n words in the response. A response that repeats its prompt has the highest. The "
        "out-of-distribution reward is the mean log-likelihood of a response's tokens and its end under the "
        "untouched base model, nats a token: responses that this model often gives score high, and a policy "
        "that collapses onto them is not penalised. Neither measures human preferences, so these verdicts "
        "say little about the paper's claims on preferences. Utility is left out, since it needs scores of 0 "
        "or more.",
        "Shortened for a CPU: the model has 135 million parameters, weights rounded to 4 bits, and an "
        f"adapter (LoRA) that is trained for {settings.steps} steps of {settings.prompts_per_step} × "
        f"{settings.group_size} responses; responses are cut off at {settings.max_test_tokens} tokens. "
        f"NoveltyBench's WildChat prompts of at most {settings.max_prompt_tokens} tokens are for training, "
        f"the first {settings.max_test_prompts} of its curated ones for the test, {settings.generations} "
        "responses each. So few steps, prompts and responses show that the pipeline works on a real model; "
        "they do not rank the methods. `--scale paper` runs the same code on the paper's models.",
        f"Of the {settings.prompts_per_step * settings.group_size} responses of a step only one is at or "
        "above the 90th percentile. It is its own anchor, so MARA changes nothing: MARA (rev) is RLOO.",
    ]


def _judge_of(settings: Settings) -> str:
    if settings.is_stand_in:
        return "a rule that compares the named items, instead of a judge."
    if settings.judge is not None:
        return settings.judge.model + "."
    rule = "NoveltyBench's rule for short answers"
    if settings.has_made_up_rewards:
        return (
            f"{rule}; for others a cosine of MiniLM's embeddings of at least 0.8, a stand-in for its judge."
        )
    return f"{rule}."


def markdown(table: Any) -> str:
    """The table as Markdown."""
    columns = (IN_DIST, OUT_DIST, *DIVERSITY, "utility")
    names = ("In-dist. reward", "Out-dist. reward", "EAD", "Semantic div.", "Distinct", "Utility")
    lines = [f"| Model | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    lines += [
        f"| {row} | " + " | ".join(_cell(table, row, metric) for metric in columns) + " |" for row in NAMES
    ]
    return "\n".join(lines)


def _colors() -> dict[str, str]:
    """A colour for each row: its method's, darker for its second trainer; the ensemble has RLOO's."""
    kinds = {row.name: f"{row.method} by {row.trainer}" for row in TRAINED}
    shades = distinct_colors({kinds[row.name]: color_of(row.method) for row in TRAINED})
    colors = {name: shades[kind] for name, kind in kinds.items()}
    return {**colors, ENSEMBLE: colors["RLOO"], BASE: INK}


def draw(table: Any, settings: Settings) -> Any:
    """Out-of-distribution reward against each diversity metric, one point per method."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(10.2, 3.6))
    panels = figure.subplots(1, len(DIVERSITY), sharey=True)
    colours = _colors()
    has_stand_ins = settings.is_stand_in or settings.has_made_up_rewards
    for axes, (metric, label) in zip(panels, DIVERSITY.items(), strict=True):
        for row in NAMES:
            x, y = table.rows[row][metric], table.rows[row][OUT_DIST]
            axes.errorbar(
                x.mean,
                y.mean,
                xerr=None if math.isnan(x.sem) else x.sem,
                yerr=None if math.isnan(y.sem) else y.sem,
                fmt=_MARKERS[row],
                color=colours[row],
                markersize=9 if row in MARA_ROWS else 6,
                elinewidth=0.8,
                label=row,
            )
        is_stand_in = table.embedder == "stand-in" if metric == "semantic_diversity" else has_stand_ins
        axes.set_xlabel(label + (" (stand-in)" if metric != "ead" and is_stand_in else ""))
        axes.margins(0.08)
    panels[0].set_ylabel("out-of-distribution reward" + (" (stand-in)" if has_stand_ins else ""))
    panels[0].set_title("better is up and to the right")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    if has_stand_ins:
        note = "stand-ins: tiny models and reward models built at run time"
        if settings.has_made_up_rewards:
            note = f"{SMOLLM2}; its base model's log-likelihood stands in for a preference model"
        figure.supxlabel(f"{note}; bars: standard error over prompts", fontsize=7.5, color=MUTED)
    return figure
