"""`allmodes audit`: a diagnosis from a log of samples of any trainer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, final

import tyro

from allmodes.audit.choices import Format, KLForm, Scaling, Summary, Trainer
from allmodes.cli.program import program, same_command, say_how_to_continue
from allmodes.cli.samples import SAMPLES

Names = Annotated[str | None, tyro.conf.arg(metavar="COLUMN")]


@final
@dataclass(frozen=True, kw_only=True)
class Columns:
    """The log's names of our columns, if they are neither ours nor those of its format."""

    prompt: Names = None
    response: Names = None
    outcome: Names = None
    reward: Names = None
    score: Names = None
    correct: Names = None
    method: Names = None
    ref_logprob: Names = None
    policy_logprob: Names = None
    step: Names = None
    num_tokens: Names = None
    truncated: Names = None
    evaluation: Names = None


BY_NAME = Columns()
_DEMO = SAMPLES / "samples.jsonl"
_OF_DEMO = {"beta": 0.05, "kl": "k1-in-reward"}


def given_columns(columns: Columns) -> dict[str, str]:
    """Our column → the log's column, for the columns that were given."""
    return {name: value for name, value in vars(columns).items() if value is not None}


def audit(
    log: tyro.conf.Positional[Path | None] = None,
    *,
    compare: tuple[Path, Path] | None = None,
    demo: bool = False,
    summary: Summary = "terminal",
    out: Path | None = None,
    fail_on: tuple[str, ...] = (),
    trainer: Trainer | None = None,
    beta: float | None = None,
    kl: KLForm | None = None,
    scale_rewards: Scaling | None = None,
    transform: str | None = None,
    settings: dict[str, str] | None = None,
    entropy: float | None = None,
    threshold: float | None = None,
    threshold_quantile: float | None = None,
    good: float | None = None,
    group_size: int | None = None,
    max_tokens: int | None = None,
    format: Format | None = None,  # noqa: A002
    columns: Columns = BY_NAME,
    rewards: dict[str, float] | None = None,
    outcome_pattern: str | None = None,
    model: str | None = None,
    policy: str | None = None,
    prompts: Literal["auto", "chat", "text"] = "auto",
) -> None:
    """Diagnose an objective and its training from a log: will it collapse, and has it?

    A log is JSON Lines, JSON, CSV or Parquet with one row per sample or prompt, a folder of such files, or a
    run's folder. Logs of TRL, verl, OpenRLHF, open-instruct, prime-rl, NoveltyBench, REINVENT, Saturn and
    allmodes are recognised. Means over each step can also be read, with fewer checks: trainer_state.json,
    TensorBoard event files, W&B exports, verl's file logger. Checks without the needed data are listed as
    not tested.

    Args:
        log: the file or folder.
        compare: two logs instead of one, such as those of the base model and the trained model.
        demo: audit a small log that comes with allmodes, from a training that collapses.
        summary: format of the printed summary: terminal, or Markdown for the summary page of a CI job.
        out: folder for report.html and report.json; runs/audit/NAME by default, or NAME-2 if NAME holds
            another log.
        fail_on: codes of checks, or "issue" for all issues: exit with 1 if one of them reports an issue or a
            tip, or was not tested.
        trainer: the trainer whose options the remedies name.
        beta: strength of the KL, 1/sigma of REINVENT; 0 without a KL.
        kl: the estimator of the KL, and whether it is in the reward or the loss.
        scale_rewards: whose standard deviation advantages are divided by.
        transform: transform of the rewards: none, a method of allmodes such as mara, several of them as in
            mara+entropy, or other.
        settings: settings of that method: NAME VALUE ...
        entropy: η of the entropy bonus.
        threshold: MARA's τ.
        threshold_quantile: τ as a quantile of a batch's rewards.
        good: smallest reward of a good sample; τ by default, else suggested from the rewards.
        group_size: samples of a prompt in an update; read from the log if it has steps.
        max_tokens: maximum length of a response, in tokens.
        format: the program that wrote the log; recognised from its columns by default.
        columns: the log's names of our columns.
        rewards: columns whose weighted sum is the reward: NAME WEIGHT ...; empty for no reward.
        outcome_pattern: regular expression (syntax of the package `regex`) whose first group in a response is
            its outcome; the time limit is 5 seconds per response.
        model: the reference, to compute ref_logprob with: a Hugging Face name, a folder, a .gguf file,
            or a policy over SMILES: a .safetensors file, "lstm" or "mamba".
        policy: the trained model, to compute policy_logprob with.
        prompts: whether the text of a prompt is a user message, or the complete prompt as the model saw it.
    """
    from rich.console import Console

    from allmodes.audit.command import Reading, audit_path, check_codes, compare_paths, fail_on_findings
    from allmodes.errors import InputError
    from allmodes.runs.claims import claimed_folder

    if log is not None and compare is not None:
        raise InputError("expected a log or --compare FIRST SECOND; got both")
    if demo and (log is not None or compare is not None):
        raise InputError("--demo: expected no log; got one")
    if compare is not None and summary == "markdown":
        raise InputError("--summary markdown: expected one log; got two")
    paths = compare or (_DEMO if demo else log)
    if paths is None:
        raise InputError("expected a log or --compare FIRST SECOND; got neither; --demo shows an audit")
    check_codes(fail_on)
    given: dict[str, Any] = {
        "trainer": trainer,
        "beta": beta,
        "kl": kl,
        "scale_rewards": scale_rewards,
        "transform": transform,
        "settings": None if settings is None else {key: _number(value) for key, value in settings.items()},
        "entropy": entropy,
        "threshold": threshold,
        "threshold_quantile": threshold_quantile,
        "good": good,
        "group_size": group_size,
        "max_tokens": max_tokens,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if demo:
        settings = {**_OF_DEMO, **settings}
    reading = Reading(
        format=format,
        columns=given_columns(columns),
        rewards=rewards,
        outcome_pattern=outcome_pattern,
        backfill=None
        if model is None and policy is None
        else partial(_backfill, model=model, policy=policy, prompts=prompts, max_tokens=max_tokens),
    )
    console = Console()
    several = isinstance(paths, tuple)
    default = Path("runs/audit") / ("demo" if demo else "comparison" if several else _folder_name(paths))
    inputs = paths if several else (paths,)
    files = ("report.html", "report.json")
    with claimed_folder(out, default, command="audit", inputs=inputs, files=files) as folder:
        if several:
            found = compare_paths(paths, settings, reading, out=folder, console=console)
        else:
            found = audit_path(paths, settings, reading, out=folder, console=console, summary=summary)
    if demo and summary == "terminal":
        print(f"\nTo audit a log of your own: {program()} audit LOG --beta BETA --kl k1-in-reward")
    fail_on_findings(found, fail_on)


def _number(text: str) -> int | float | str:
    """A setting's value: an int or a float if it is written as one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _folder_name(log: Path) -> str:
    """The name of a log; samples.jsonl of a run gets the name of its folder, since all have the same name."""
    from allmodes.audit.logs.sources import SAMPLES as OF_RUN

    run = log.resolve().parent if log.name == OF_RUN else log
    return run.resolve().name if run.is_dir() else log.stem


def _backfill(
    source: Any,
    mapped: Any,
    folder: Path,
    *,
    model: str | None,
    policy: str | None,
    prompts: Literal["auto", "chat", "text"],
    max_tokens: int | None,
) -> Any:
    """Fill in missing log-probabilities under reference and policy, and print how many were computed."""
    from allmodes.reports.formatting import plural
    from allmodes.reports.progress import console
    from allmodes.text.backfill import backfill_log

    columns: tuple[tuple[Literal["ref_logprob", "policy_logprob"], str | None], ...] = (
        ("ref_logprob", model),
        ("policy_logprob", policy),
    )
    for column, name in columns:
        if name is not None:
            with say_how_to_continue(same_command):
                source = backfill_log(
                    source,
                    mapped,
                    model=name,
                    column=column,
                    folder=folder,
                    prompts=prompts,
                    max_tokens=max_tokens,
                )
            line = f"{column}: {plural(source.computed, 'row')} computed"
            if source.failed:
                line += f", {source.failed:,} that the model cannot have written"
            if source.as_they_stand:
                line += f", {source.as_they_stand:,} with a prompt that does not fit the chat template"
            console.print(line, markup=False, highlight=False)
    return source
