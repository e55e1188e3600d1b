"""`allmodes target`, `explore`, `paper` and `evaluate`: commands that need no training of your own."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from allmodes.audit.choices import Format
from allmodes.cli.audit import BY_NAME, Columns, given_columns


def target(
    file: tyro.conf.Positional[Path],
    *,
    beta: tuple[float, ...] = (0.01, 0.1, 1.0),
    kl: Literal["reverse", "forward", "both"] = "reverse",
    threshold: float | None = None,
    method: tuple[str, ...] = (),
    tolerance: float = 0.1,
    normalise: bool = False,
    out: Path | None = None,
) -> None:
    """Show the optimum of an objective before any training, from your own outcomes.

    Args:
        file: CSV or JSON of outcomes with the columns reward and probability (or logprob), outcome for names.
        beta: strengths of the KL.
        kl: the KL: reverse KL(π ‖ π_ref), forward KL(π_ref ‖ π), or both.
        threshold: τ, smallest reward of a good outcome; used by methods that need it.
        method: methods to compare, such as vanilla mara ips mara+entropy, or all; by default vanilla, and
            with a threshold mara.
        tolerance: largest difference of log-probabilities, in nats, at which good outcomes count as equal.
        normalise: scale probabilities to a sum of 1, for example for a sample of a larger space.
        out: folder for target.png, target.svg and target.json; without it the report is only printed.
    """
    from rich.console import Console

    from allmodes.worlds.own_outcomes.report import explain_file

    with _claimed(out, "target", file, ("target.json", "target.png", "target.svg")):
        explain_file(
            file,
            betas=beta,
            kl=kl,
            threshold=threshold,
            methods=method,
            tolerance=tolerance,
            normalise=normalise,
            out=out,
            console=Console(),
        )


def explore(
    file: tyro.conf.Positional[Path | None] = None,
    *,
    out: Path | None = None,
    beta: float = 0.05,
    threshold: float | None = None,
    kl: Literal["reverse", "forward"] = "reverse",
    normalise: bool = False,
) -> None:
    """Write an HTML page that shows the optimum of each method while you drag β and τ. It works offline.

    Other files can be dropped on the page; they stay in the browser.

    Args:
        file: CSV or JSON of outcomes as for `allmodes target`; by default the sample of `allmodes samples`.
        out: the page; by default the file's name with .html, in this folder.
        beta: initial strength of the KL.
        threshold: initial τ, smallest reward of a good outcome; by default that of the best few.
        kl: initial KL.
        normalise: scale probabilities to a sum of 1.
    """
    from allmodes.cli.samples import SAMPLES
    from allmodes.worlds.own_outcomes.explorer.page import write_explorer

    file = SAMPLES / "outcomes.csv" if file is None else file
    page = Path(f"{file.stem}.html") if out is None else out
    write_explorer(file, out=page, beta=beta, threshold=threshold, kl=kl, normalise=normalise)
    print(f"written: {page}\nOpen it in a browser: {page.resolve().as_uri()}")


def _claimed(
    out: Path | None, command: str, file: Path, files: Sequence[str]
) -> contextlib.AbstractContextManager[object]:
    """The output folder of a command that writes files only on request."""
    from allmodes.runs.claims import claimed_folder

    if out is None:
        return contextlib.nullcontext()
    return claimed_folder(out, out, command=command, inputs=(file,), files=files)


def paper(
    item: tyro.conf.Positional[str],
    *,
    out: Path | None = None,
    scale: Literal["quick", "paper", "real"] = "quick",
) -> None:
    """Reproduce a figure or table of the papers: figure, numbers, and the paper's numbers next to them.

    Args:
        item: an item's name, "list" for all names, or "all".
        out: folder for NAME.png, NAME.svg, NAME.json and NAME.md; runs/paper by default, or runs/paper-2 if
            runs/paper has items at another scale.
        scale: "paper" uses the papers' steps, batch sizes and rates; "quick" uses fewer replicas and steps;
            "real" is quick, but replaces stand-ins by real language models that install as packages
            (`allmodes text model`).
    """
    from rich.console import Console

    from allmodes.paper.catalogue import ITEMS, find
    from allmodes.paper.reproduction import SCALES
    from allmodes.paper.runner import print_items, reproduce_items
    from allmodes.runs.claims import claimed_folder

    if item == "list":
        print_items(Console())
    else:
        items = find(item)
        files = [f"{one.name}.json" for one in ITEMS]  # a folder has one scale
        with claimed_folder(
            out, Path("runs/paper"), command="paper", inputs=(f"--scale {scale}",), files=files
        ) as folder:
            reproduce_items(items, scale=SCALES[scale], out=folder, console=Console())


def evaluate(
    file: tyro.conf.Positional[Path],
    *,
    out: Path | None = None,
    k: tuple[int, ...] = (),
    tokenizer: Path | None = None,
    embedder: str | None = None,
    vocabulary_size: int = 50257,
    baseline: str | None = None,
    format: Format | None = None,  # noqa: A002
    columns: Columns = BY_NAME,
    rewards: dict[str, float] | None = None,
    outcome_pattern: str | None = None,
) -> None:
    """Quality and diversity of generations, with errors over prompts, from a file of samples of any program.

    The file is JSON Lines, JSON, CSV or Parquet with one row per sample or prompt, or a folder of such files,
    with the columns of `allmodes audit`: prompt and response, and optionally reward, score, outcome (null:
    invalid), correct, method.

    Args:
        file: the file or folder.
        out: folder for evaluation.json; without it the report is only printed.
        k: the k of pass@k and max@k; powers of two by default.
        tokenizer: a tokenizer.json, or a folder with one, for the n-grams; words by default.
        embedder: a sentence-transformers model by name or folder, or "stand-in" for hashed character n-grams.
        vocabulary_size: V of the expectation-adjusted distinct n-grams.
        baseline: the method that all others are compared with; the first in the file by default.
        format: the program that wrote the file; recognised from its columns by default.
        columns: the file's names of our columns.
        rewards: columns whose weighted sum is the reward: NAME WEIGHT ...; empty for no reward.
        outcome_pattern: regular expression whose first group in a response is its outcome; limit 5 seconds
            for each.
    """
    from rich.console import Console

    from allmodes.audit.logs.reading import Reading
    from allmodes.text.evaluation.evaluate import evaluate_file

    reading = Reading(
        format=format, columns=given_columns(columns), rewards=rewards, outcome_pattern=outcome_pattern
    )
    with _claimed(out, "evaluate", file, ("evaluation.json",)):
        evaluate_file(
            file,
            out=out,
            ks=k or None,
            tokenizer=tokenizer,
            embedder=embedder,
            vocabulary_size=vocabulary_size,
            baseline=baseline,
            reading=reading,
            console=Console(),
        )
