"""Evaluate quality and diversity of a file of generations, per prompt and method, with error bars."""

import json
import math
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from rich.text import Text

from allmodes.audit.logs.reading import Reading
from allmodes.errors import InputError
from allmodes.metrics import (
    answer_entropy,
    bootstrap_sem,
    distinct_k,
    ead,
    max_at_k,
    novelty_utility,
    pass_at_k,
    semantic_diversity,
    summarise,
    vendi_score,
    welch_test,
)
from allmodes.metrics.text import SHORT_ANSWER, words
from allmodes.reports.formatting import shown_name
from allmodes.reports.progress import progress_bar
from allmodes.runs.files import write_text
from allmodes.text.evaluation.evaluation_table import NEEDS, place, print_evaluation, shown_method
from allmodes.text.evaluation.generations import Generation, Index, samples_of
from allmodes.text.evaluation.measures import (
    STAND_IN,
    Embed,
    Tokenise,
    load_embedder,
    load_tokeniser,
    short_answer_classes,
)

_READING = Reading()
_MOST_EMBEDDED = 2048  # generations of a prompt: eigenvalues take the cube of it
Values = dict[str, float]


@final
@dataclass(frozen=True, kw_only=True)
class Measures:
    """How each prompt is measured. ks: None is all powers of two up to the prompt's generations."""

    tokenise: Tokenise
    vocabulary_size: int
    embed: Embed | None
    ks: tuple[int, ...] | None


def evaluate_file(
    path: Path,
    *,
    out: Path | None,
    ks: Sequence[int] | None,
    tokenizer: Path | None,
    embedder: str | None,
    vocabulary_size: int,
    console: Console,
    baseline: str | None = None,
    reading: Reading = _READING,
) -> dict[str, Any]:
    """Evaluate generations, print the table, and write evaluation.json into `out` unless that is None.

    path: a file or folder of samples, as for `allmodes audit`; `reading` says how to read it. `response` is
    required; `prompt`, `reward`, `score`, `outcome` (null if none could be parsed), `correct` and `method`
    are optional. Samples of a prompt need not be adjacent: memory holds a few numbers per sample, and the
    samples of one prompt. Unusable rows are counted and left out.

    ks: for pass@k and max@k; None is powers of two. tokenizer: tokenizer.json for EAD, or its folder; None
    uses words and punctuation marks. embedder: a sentence-transformers model, "stand-in", or None.
    baseline: the method that the table compares all others with; None is the first of the file.

    Every metric is computed per prompt and averaged over prompts; sem is its bootstrap error over prompts.
    Returns the content of evaluation.json; NaN is None. Raises InputError for wrong arguments or a log
    without samples, and RunError if `out` cannot be written.
    """
    if ks is not None and (not ks or min(ks) < 1):
        raise InputError(f"`ks` must be whole numbers from 1; got {list(ks)}")
    if vocabulary_size < 2:
        raise InputError(f"`vocabulary_size` must be at least 2; got {vocabulary_size}")
    embed = None if embedder is None else load_embedder(embedder)
    if isinstance(embed, str):
        raise InputError(
            f"`embedder`: expected one that can be loaded, for {embedder!r}; {embed}: install it, or take "
            f"{STAND_IN!r}"
        )
    measures = Measures(
        tokenise=words if tokenizer is None else load_tokeniser(tokenizer),
        vocabulary_size=vocabulary_size,
        embed=embed,
        ks=None if ks is None else tuple(sorted(set(ks))),
    )
    index, columns = _measure_file(path, reading, measures)
    reference = _baseline(baseline, list(columns))
    methods = {
        method: {name: _mean(values) for name, values in column.items()} for method, column in columns.items()
    }
    result = {
        "file": str(path),
        "lines": index.lines,
        "generations": sum(_counts(index, method)["generations"] for method in methods),
        "bad_lines": {
            kind: {"count": seen.count, "first_line": seen.first_line} for kind, seen in index.bad.items()
        },
        "remarks": list(index.remarks),
        "methods": [
            {"method": method, **_counts(index, method), "metrics": metrics}
            for method, metrics in methods.items()
        ],
        "comparisons": list(_comparisons(columns)),
        "skipped": _skipped(columns),
        "not_computed": _not_computed(index, columns, measures.ks),
        "settings": {
            "baseline": reference,
            "ks": None if ks is None else list(ks),
            "tokenizer": "words and punctuation" if tokenizer is None else str(tokenizer),
            "vocabulary_size": vocabulary_size,
            "embedder": embedder,
        },
        "notes": _notes(index, embedder if measures.embed is not None else None),
    }
    print_evaluation(result, index.left_out, console)
    if out is not None:
        file = out / "evaluation.json"
        write_text(file, json.dumps(result, indent=1, allow_nan=False) + "\n")
        console.print(Text(f"written: {file}"), soft_wrap=True)
    return result


def measure_prompt(rows: Sequence[Generation], measures: Measures) -> Values:
    """Every metric of one prompt's generations, each from the generations with the data that it needs.

    Names: reward, ead, semantic_diversity, vendi_score, distinct_classes, utility, valid_answers (share of
    1), answer_entropy (nats), pass@k and max@k.
    """
    values: Values = {}
    rewards = [row.reward for row in rows if row.reward is not None]
    if rewards:
        values["reward"] = summarise(rewards).mean
    tokens = [measures.tokenise(row.response) for row in rows]
    values["ead"] = ead(tokens, vocabulary_size=measures.vocabulary_size)
    if measures.embed is not None:
        embeddings = measures.embed([row.response for row in rows[:_MOST_EMBEDDED]]).double()
        values["semantic_diversity"] = semantic_diversity(embeddings)
        unit = torch.nn.functional.normalize(embeddings, dim=1)
        values["vendi_score"] = vendi_score(unit @ unit.T)
    values |= _classes(rows)
    answers = [row.answer for row in rows if row.has_answer]
    if answers:
        values["valid_answers"] = sum(answer is not None for answer in answers) / len(answers)
        values["answer_entropy"] = answer_entropy(answers)
    correct = [row.correct for row in rows if row.correct is not None]
    for k in _ks(len(correct), measures.ks):
        values[f"pass@{k}"] = pass_at_k(len(correct), sum(correct), k=k)
    for k in _ks(len(rewards), measures.ks):
        values[f"max@{k}"] = max_at_k(rewards, k=k)
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _classes(rows: Sequence[Generation]) -> Values:
    """distinct_classes and utility: of answers if any line has one, else of responses.

    Answers are compared exactly; NoveltyBench's rule is for free text. An invalid answer belongs to no class
    and has a utility of 0, but keeps its position.
    """
    classes: Sequence[str | int | None]
    if any(row.has_answer for row in rows):
        classes = [row.answer for row in rows]
    else:
        classes = short_answer_classes(row.response for row in rows)
    values: Values = {"distinct_classes": distinct_k([which for which in classes if which is not None])}
    scored = [
        (which, 0.0 if which is None else row.score)
        for which, row in zip(classes, rows, strict=True)
        if row.score is not None
    ]
    if scored:
        values["utility"] = novelty_utility(
            [which for which, _ in scored], [score for _, score in scored if score is not None]
        )
    return values


def _ks(count: int, ks: tuple[int, ...] | None) -> list[int]:
    if ks is not None:
        return [k for k in ks if k <= count]
    return [2**i for i in range(count.bit_length())]


def _measure_file(
    path: Path, reading: Reading, measures: Measures
) -> tuple[Index, dict[str | None, dict[str, "array[float]"]]]:
    """The index, and one value per prompt of every metric, by method."""
    columns: dict[str | None, dict[str, array[float]]] = {}
    with progress_bar() as progress:
        size = path.stat().st_size if path.is_file() else None
        first = progress.add_task("reading", total=size, note="", unit="bytes")
        with samples_of(path, reading, advance=lambda read: progress.advance(first, read)) as samples:
            index = samples.index
            measuring = progress.add_task("measuring", total=index.good_bytes, note="", unit="bytes")
            for method in index.offsets:
                column = columns.setdefault(method, defaultdict(lambda: array("d")))
                progress.update(measuring, note="" if method is None else shown_name(method))
                for rows in samples.prompts(method, advance=lambda read: progress.advance(measuring, read)):
                    for name, value in measure_prompt(rows, measures).items():
                        column[name].append(value)
    return index, {method: _in_order(column) for method, column in columns.items()}


def _in_order(column: dict[str, "array[float]"]) -> dict[str, "array[float]"]:
    """Metrics in the order of `NEEDS`, each family by k."""
    return {name: column[name] for name in sorted(column, key=place)}


def _mean(values: Sequence[float]) -> dict[str, float | int | None]:
    resamples = max(1000, min(10_000, 2**25 // len(values)))  # a standard error to 2% at worst
    sem = bootstrap_sem(values, resamples=resamples)
    return {"mean": summarise(values).mean, "sem": _plain(sem), "prompts": len(values)}


def _comparisons(columns: dict[str | None, dict[str, "array[float]"]]) -> Iterator[dict[str, Any]]:
    """Both one-sided p-values of every pair of methods, for the metrics that both have."""
    for (first, one), (second, other) in combinations(columns.items(), 2):
        for metric in one:
            if metric in other:
                yield {
                    "metric": metric,
                    "first": first,
                    "second": second,
                    "p_first_greater": _plain(welch_test(one[metric], other[metric])),
                    "p_second_greater": _plain(welch_test(other[metric], one[metric])),
                }


def _baseline(name: str | None, methods: Sequence[str | None]) -> str | None:
    """The method that others are compared with. Raises InputError for one that the file does not have."""
    if name is None:
        return methods[0]
    if name not in methods:
        names = ", ".join(shown_method(method) for method in methods)
        raise InputError(f"`baseline`: expected one of the methods of the file, {names}; got {name!r}")
    return name


def _not_computed(
    index: Index, columns: dict[str | None, dict[str, "array[float]"]], ks: tuple[int, ...] | None
) -> list[dict[str, Any]]:
    """The k that were asked for and that a method has no prompt for, with the reason."""
    found: list[dict[str, Any]] = []
    for method, column in columns.items():
        most = _counts(index, method)["most_generations_of_a_prompt"]
        families = {name.partition("@")[0] for name in column if "@" in name}
        wanted = [("pass", "`correct`"), ("max", "`reward`")]
        for family, needs in wanted:
            for k in ks or ():
                is_known = family in families or (family == "max" and "reward" in column)
                if f"{family}@{k}" not in column and (is_known or most < k):
                    why = f"needs {k} generations of a prompt with {needs}; a prompt has at most {most}"
                    found.append({"method": method, "metric": f"{family}@{k}", "why": why})
    return found


def _skipped(columns: dict[str | None, dict[str, "array[float]"]]) -> dict[str, str]:
    """Metrics that no method has, and the data they need."""
    found = {name.partition("@")[0] for column in columns.values() for name in column}
    return {name: f"needs {needs}" for name, needs in NEEDS.items() if name.partition("@")[0] not in found}


def _counts(index: Index, method: str | None) -> dict[str, int]:
    sizes = [len(offsets) for offsets in index.offsets[method].values()]
    return {
        "prompts": len(sizes),
        "generations": sum(sizes),
        "fewest_generations_of_a_prompt": min(sizes),
        "most_generations_of_a_prompt": max(sizes),
    }


def _notes(index: Index, embedder: str | None) -> list[str]:
    notes = [
        "Classes are those of the answers (`answer` or `outcome`) where a prompt has any; these are alike "
        "only if they are equal. Otherwise they are those of `response` by NoveltyBench's rule for short "
        "texts: two "
        f"of at most {SHORT_ANSWER} words are alike if they share half as many distinct words as the longer "
        "one "
        "has words, longer ones only if all words are equal.",
    ]
    if embedder == STAND_IN:
        notes.append(
            "The embedder is a stand-in that counts three-character sequences: it compares spelling, not "
            "meaning. Its semantic diversity and Vendi score cannot be compared with published numbers."
        )
    sizes = {len(offsets) for prompts in index.offsets.values() for offsets in prompts.values()}
    if len(sizes) > 1:
        notes.append(
            f"Prompts have {min(sizes)} to {max(sizes)} generations: EAD, classes, utility, entropy and "
            "Vendi score depend on this number, and pass@k and max@k leave out prompts with fewer than k."
        )
    if embedder is not None and max(sizes) > _MOST_EMBEDDED:
        notes.append(f"Only the first {_MOST_EMBEDDED} generations of each prompt are embedded.")
    return notes


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
