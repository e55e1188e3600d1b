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
    """What the log calls our columns, where it is neither ours nor its format's name."""

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
    """Our columns that are named, and theirs."""
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

    A log is JSON Lines, JSON, CSV or Parquet with a row a sample or a prompt, a folder of such files, or a
    run's folder. Logs of TRL, verl, OpenRLHF, open-instruct, prime-rl, NoveltyBench, REINVENT, Saturn and
    allmodes are recognised. Means over each step are read as well, and say less: trainer_state.json, event
    files of TensorBoard, W&B's exports, verl's file logger. What is not known is not tested, and named.

    Args:
        log: the file or folder.
        compare: two logs instead of one, such as of the base model and of what training made of it.
        demo: audit a small log that comes with allmodes, of a training that collapses.
        summary: what to print: text for a terminal, or Markdown for the page of a CI job.
        out: folder for report.html and report.json; runs/audit/NAME by default, or NAME-2 where that is of
            another log.
        fail_on: codes of checks, or "issue" for all issues: exit with 1 where one is raised, or a code was
            not tested.
        trainer: whose options the remedies name.
        beta: strength of the KL, 1/sigma of REINVENT; 0 without a KL.
        kl: how the KL is estimated, and where it goes.
        scale_rewards: what advantages are divided by the standard deviation of.
        transform: what is done to the rewards: none, a method of allmodes such as mara, several of them as
            mara+entropy, or other.
        settings: of that method, by their names: NAME VALUE ...
        entropy: η of the entropy bonus.
        threshold: MARA's τ.
        threshold_quantile: the quantile of a batch's rewards that is τ.
        good: the reward from which on a sample is good; τ by default, else suggested.
        group_size: samples of a prompt in an update; read off the log where it has steps.
        max_tokens: the limit of a response.
        format: whose log it is; recognised by its columns by default.
        columns: what the log calls our columns.
        rewards: the columns that the reward is the sum of, with their weights: NAME WEIGHT ...; none without.
        outcome_pattern: regular expression (of the package regex: Python's and more) whose first group in a
            response is its outcome; it has 5 seconds for each.
        model: the reference, to compute ref_logprob with: a Hugging Face name, a folder, a .gguf file,
            or a policy over SMILES: a .safetensors file, "lstm" or "mamba".
        policy: the trained model, to compute policy_logprob with.
        prompts: whether a text of a prompt is a user's message or stands as it is.
    """
    from rich.console import Console

    from allmodes.audit.command import Reading, audit_path, check_codes, compare_paths, fail_on_findings
    from allmodes.errors import InputError
    from allmodes.runs.claims import claimed_folder

    if log is not None and compare is not None:
        raise InputError("expected a log or --compare FIRST SECOND; got both")
    if demo and (log is not None or compare is not None):
        raise InputError("--demo: expected no log beside it")
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
        print(f"\nThe same for a log of your own: {program()} audit LOG --beta BETA --kl k1-in-reward")
    fail_on_findings(found, fail_on)


def _number(text: str) -> int | float | str:
    """A setting's value: a number where it is one, whole where it is written so."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _folder_name(log: Path) -> str:
    """That of a run's samples is its folder's: all such files have one name."""
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
    """The log with what it lacks of the log-probabilities under reference and policy; says what it cost."""
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
