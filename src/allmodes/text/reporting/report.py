"""The report of a training experiment: one HTML file that works offline."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allmodes.methods import label_of
from allmodes.reports.comparison import DASH, Cell, compare, ran_alone, verdict_with_means
from allmodes.reports.formatting import NBSP, listing, plural
from allmodes.reports.pages import render_page, require_report_extra
from allmodes.reports.plotting import figure_style, inline_svg, save_figure
from allmodes.runs.files import write_text
from allmodes.text.base_statistics import BaseModel
from allmodes.text.config import KL, STAND_IN, TextConfig, Trainer
from allmodes.text.reporting.curves import bins
from allmodes.text.reporting.figures import (
    colours_of,
    draw_answers,
    draw_recovery,
    draw_training,
    group_name,
    groups_of,
)
from allmodes.text.reporting.results import Arm, TextResult
from allmodes.text.reporting.views import COLLAPSED, View, view_of
from allmodes.text.task_kinds.kind import shown_model

_SHOWN, _LONGEST = 4, 200  # samples of an arm, and their characters
_MOST_ANSWERS = 8  # known answers of the base model in a table
_SCALING = (
    "GRPO: rewards divided by the standard deviation of the group; RLOO: advantages by that of the batch"
)

_FLOW_REMARKS = {
    "exact": "FlowRL is the trajectory-balance loss with whole responses and rewards over β: its optimum is "
    "that of RLOO.",
    "paper": "FlowRL is in its paper's form: means over tokens, rewards normalised within the group times "
    "the factor of the recipe and without β. Its optimum depends on the lengths of responses.",
}

Metrics = Mapping[tuple[Arm, int], Sequence[Mapping[str, Any]]]


def arm_name(arm: Arm) -> str:
    """The name of an arm, as reports show it."""
    return f"{group_name(arm.trainer, arm.kl)}, {label_of(arm.method)}, β = {arm.beta:g}"


def write_report(
    folder: Path,
    config: TextConfig,
    *,
    base: TextResult,
    base_model: BaseModel | None,
    results: Sequence[TextResult],
    metrics: Metrics,
    prompts: Mapping[str, int],
) -> Path:
    """Write report.html and its figures (PNG and SVG) into the experiment's folder; return the page's path.

    base_model: the shares of its answers, None if no answers are known. metrics: the rows of
    metrics.jsonl of each result's run. prompts: how many were `used`, `too_long`, `duplicates` of others, or
    kept for the `test`. Raises `ConfigError` without the extra `report`, and `RunError` if a file cannot be
    written.
    """
    require_report_extra()
    view = view_of(base)
    runs = {
        key: bins(rows, size=config.bin, knows_answers=bool(view.answers)) for key, rows in metrics.items()
    }
    pictures = {}
    with figure_style():
        figures = {
            "training": draw_training(
                runs, view=view, base=base, samples=config.prompts_per_step * config.group_size
            )
        }
        if view.answers:
            figures["answers"] = draw_answers(results, answer=view.answers[0], base=base)
        if base.recovery:
            figures["recovery"] = draw_recovery(results, base=base)
        for name, figure in figures.items():
            save_figure(figure, folder / name)
            pictures[name] = inline_svg(figure)
    page = render_page(
        Path(__file__).parent / "templates" / "report.html",
        run=folder,
        title=_title(config),
        lead=_lead(config, results),
        remarks=[*_remarks(config), *_test_remarks(config, prompts)],
        pictures=pictures,
        view=view,
        bin=config.bin,
        base=[cell(base) for cell in view.own.values()],
        base_model=None if base_model is None else _base_table(base_model),
        tables=result_tables(config, results, view),
        verdicts=result_verdicts(config, results, view),
        collapsed=f"{COLLAPSED:.0%}",
        several_prompts=prompts["used"] > 1,
        test_prompts=prompts.get("test", 0),
        seeds=[_seed_row(result, view) for result in results],
        samples=_samples(folder, config, results),
        settings=_settings(config, prompts),
        colours={label_of(method): colour for method, colour in colours_of(config.method).items()},
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _title(config: TextConfig) -> str:
    names = listing([label_of(method) for method in config.method])
    return f"{names[:1].upper()}{names[1:]} on {config.task.kind}"


def _lead(config: TextConfig, results: Sequence[TextResult]) -> str:
    model = (
        "a tiny stand-in for a base model, built at run time"
        if config.model == STAND_IN
        else shown_model(config.model)
    )
    return (
        f"{plural(len(results), 'run')} of {plural(config.steps, 'step')} from the same base model, {model}: "
        f"{listing([label_of(method) for method in config.method])}, at "
        f"β{NBSP}={NBSP}{listing([f'{beta:g}' for beta in config.beta])}, "
        f"{plural(len(config.seeds), 'seed')} each."
    )


def _remarks(config: TextConfig) -> list[str]:
    remarks = []
    if config.model == STAND_IN:
        remarks.append(
            "The base model is a stand-in: a tiny model trained for seconds on made-up responses to "
            "the task. Many of these are wrong, and some answers are far more frequent than others. It "
            "knows nothing else. Results with it may not hold for a large model."
        )
    if config.warm_start is not None:
        remarks.append(
            "Before all runs, the model was trained once on examples of the task's format (a warm start). "
            "The warm-started model is the base model here, and the reference of the KL."
        )
    methods = {label_of(name): config.methods.make(name) for name in config.method}
    of_answers = [label for label, method in methods.items() if method.needs_outcomes]
    if of_answers:
        remarks.append(
            f"The outcomes of {listing(of_answers)} are answers, not strings: responses with the same answer "
            "are one outcome."
        )
    estimating = [label for label in of_answers if methods[label].needs_reference]
    if estimating:
        remarks.append(
            f"For {listing(estimating)} the log-probability of an answer under the base model is estimated "
            "from the group's samples."
        )
    found = [method.group_warning(config.group_size) for method in methods.values()]
    remarks += [f"{warning}." for warning in found if warning is not None]
    if "flowrl" in config.trainer:
        remarks.append(_FLOW_REMARKS[config.flowrl.form])
    if "grpo" not in config.trainer:
        return remarks
    of_responses = [label for label, method in methods.items() if method.needs_sequence_kl]
    if of_responses and {"token-reverse", "token-forward"} & set(config.kl):
        remarks.append(
            "GRPO's KL per token treats the earlier tokens as fixed. With two or more tokens it does "
            "not match the log-probabilities of whole responses in the rewards of "
            f"{listing(of_responses)}: the optimum is another."
        )
    in_loss = [
        label for label, method in methods.items() if not (method.needs_sequence_kl or method.contains_kl)
    ]
    if in_loss:
        remarks.append(
            f"With {listing(in_loss)} GRPO has TRL's own KL, per token in the loss: with two or more "
            "tokens its optimum is not that of RLOO, whose KL is of whole responses."
        )
    return remarks


def _test_remarks(config: TextConfig, prompts: Mapping[str, int]) -> list[str]:
    """A note that the stand-in has seen the test prompts."""
    if config.model != STAND_IN or not prompts.get("test", 0):
        return []
    return [
        "The stand-in was trained on examples of all prompts, including test prompts, like a model "
        "that knows the task before RL; the runs only used the training prompts."
    ]


def _base_table(model: BaseModel) -> dict[str, Any]:
    """The shares of the base model's answers, before and after its warm start, if it had one."""
    names = list(model.base.answers)[:_MOST_ANSWERS]
    rows = [("before the warm start", model.before)] if model.before is not None else []
    rows.append(("warm-started: the base of all runs" if rows else "base of all runs", model.base))
    return {
        "answers": names,
        "left_out": len(model.base.answers) - len(names),
        "rows": [
            (
                name,
                f"{found.prompts:,}",
                f"{found.samples:,}",
                str(found.valid),
                *(str(found.answers.get(answer, "–")) for answer in names),
            )
            for name, found in rows
        ],
    }


def result_tables(config: TextConfig, results: Sequence[TextResult], view: View) -> list[dict[str, Any]]:
    """One table per trainer and KL, with the methods by β."""
    tables = []
    for trainer, kl in groups_of([_arm(result) for result in results]):
        rows = []
        for beta in config.beta:
            groups = _groups(config, results, trainer=trainer, kl=kl, beta=beta)
            comparison = compare(view.metrics, groups)
            for label, runs in groups.items():
                means = [_with_missing(row.cells[label]) for row in comparison]
                tests = [row.tests[label].text if label in row.tests else "" for row in comparison]
                cells = [*means, *(cell(runs) for cell in view.extras.values())]
                rows.append({"beta": f"{beta:g}", "method": label, "cells": cells, "tests": tests})
        tables.append({"name": group_name(trainer, kl), "rows": rows})
    return tables


def _groups(
    config: TextConfig, results: Sequence[TextResult], *, trainer: Trainer, kl: KL, beta: float
) -> dict[str, list[TextResult]]:
    """The results of each method by its label; not every trainer has every method."""
    arms = {m: Arm(trainer=trainer, kl=kl, method=m, beta=beta) for m in config.method}
    found = {m: [result for result in results if result.arm == arm] for m, arm in arms.items()}
    return {label_of(m): runs for m, runs in found.items() if runs}


def _arm(result: TextResult) -> Arm:
    if result.arm is None:
        raise ValueError("the base model is not among the trained")
    return result.arm


def _with_missing(cell: Cell) -> str:
    missing = cell.missing if cell.text != DASH else 0
    return f"{cell.text} ({missing} without)" if missing else cell.text


def result_verdicts(config: TextConfig, results: Sequence[TextResult], view: View) -> list[str]:
    """A sentence for each method but the first: what its tests against the first say."""
    if len(config.method) == 1:
        return [ran_alone(label_of(config.method[0]))]
    if len(config.seeds) < 2:
        return ["No verdict: a test needs at least two seeds."]
    sentences = []
    for trainer, kl in groups_of([_arm(result) for result in results]):
        for beta in config.beta:
            groups = _groups(config, results, trainer=trainer, kl=kl, beta=beta)
            comparison = compare(view.metrics, groups)
            where = f"{group_name(trainer, kl)}, β{NBSP}={NBSP}{beta:g}"
            found = list(groups)  # not every trainer has every method
            sentences += [f"{where}: {verdict_with_means(comparison, label)}" for label in found[1:]]
            if len(found) == 1:
                sentences.append(f"{where}: {ran_alone(found[0])}")
    return sentences


def _seed_row(result: TextResult, view: View) -> dict[str, Any]:
    arm = _arm(result)
    return {
        "method": label_of(arm.method),
        "cells": [
            group_name(arm.trainer, arm.kl),
            f"{arm.beta:g}",
            str(result.seed),
            *(cell(result) for cell in view.own.values()),
        ],
    }


def _samples(folder: Path, config: TextConfig, results: Sequence[TextResult]) -> list[dict[str, Any]]:
    """Responses of each arm's first seed."""
    shown = []
    for result in results:
        arm = _arm(result)
        if result.seed == config.seeds[0]:
            path = folder / f"{arm.folder_name}-{result.seed}" / "generations.jsonl"
            pairs = [(_short(prompt), _short(text)) for prompt, text in _first_samples(path)]
            shown.append({"name": arm_name(arm), "pairs": pairs})
    return shown


def _first_samples(path: Path) -> list[tuple[str, str]]:
    """The first response to each of the first prompts, or with one prompt the first responses."""
    with open(path, encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    first = list({row["prompt"]: row for row in reversed(rows)}.values())[::-1]
    chosen = rows if len(first) == 1 else first
    return [(row["prompt"], row["response"]) for row in chosen[:_SHOWN]]


def _short(text: str) -> str:
    """One line without control characters: a model may write anything."""
    line = "".join(c if c.isprintable() else "↵" if c == "\n" else "�" for c in text[: _LONGEST + 1])
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _settings(config: TextConfig, prompts: Mapping[str, int]) -> list[tuple[str, str]]:
    settings = [
        ("Model", "stand-in, built at run time" if config.model == STAND_IN else shown_model(config.model)),
        (
            "Prompts",
            f"{prompts['used']:,} used, {prompts['too_long']:,} too long, "
            f"{prompts['duplicates']:,} left out as duplicates",
        ),
        ("Group", f"{plural(config.group_size, 'response')} to each prompt"),
        ("Step", f"{plural(config.prompts_per_step, 'prompt')}, {plural(config.updates_per_step, 'update')}"),
        ("Learning rate", f"{config.learning_rate:g}, {config.schedule}"),
        ("Longest response", plural(config.max_tokens, "token")),
        ("Temperature", f"{config.temperature:g}"),
        ("Precision", config.precision),
        ("Scaling", _SCALING if config.scale_rewards else "none"),
    ]
    if config.warm_start is not None:
        settings.append(("Warm start", config.warm_start.describe()))
    settings += config.task.describe()
    about = {name: config.methods.make(name).describe() for name in config.method}
    settings += [(label_of(name), described) for name, described in about.items() if described]
    return settings
