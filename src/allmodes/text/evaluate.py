"""How good and how diverse a file of generations is, per prompt, with error bars and method by method."""

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
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

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
from allmodes.runs.files import write_text
from allmodes.runs.lines import bad_in_words
from allmodes.runs.progress import progress_bar
from allmodes.runs.words import shown_name
from allmodes.text.generations import Generation, Index, index_file, read_prompts
from allmodes.text.measures import (
    STAND_IN,
    Embed,
    Tokenise,
    load_embedder,
    load_tokeniser,
    short_answer_classes,
)

_MOST_EMBEDDED = 2048  # generations of a prompt: eigenvalues take the cube of it
_NEEDS = {
    "reward": "`reward`",
    "ead": "a response with tokens",
    "semantic_diversity": "an embedder and two generations of a prompt",
    "vendi_score": "an embedder",
    "distinct_classes": "an answer or response",
    "utility": "`score`",
    "valid_answers": "`answer`",
    "answer_entropy": "`answer`",
    "pass@k": "`correct`, and k generations of a prompt",
    "max@k": "`reward`, and k generations of a prompt",
}

Values = dict[str, float]


@final
@dataclass(frozen=True, kw_only=True)
class Measures:
    """How each prompt is measured. ks: None stands for powers of two up to the prompt's generations."""

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
) -> dict[str, Any]:
    """Evaluate generations, print the table, write evaluation.json below `out` unless that is None.

    path: JSON Lines, one object a generation. `prompt` (string or whole number) and `response` (string) are
    needed; `reward` and `score` (numbers), `answer` (string, or null where none could be parsed), `correct`
    (bool) and `method` (string) may be there. The lines of a prompt need not be adjacent: the file is read
    twice, and memory holds byte offsets and the lines of one prompt. Bad lines are counted and left out.

    ks: of pass@k and max@k; None is powers of two. tokenizer: tokenizer.json for EAD, or its folder; None
    takes words and punctuation marks. embedder: sentence-transformers model, "stand-in", or None for none.

    Every metric is computed per prompt, then averaged over prompts; sem is the bootstrap's over prompts.
    Returns what evaluation.json holds; NaN is None. Raises InputError for wrong arguments or a file without a
    good line, and RunError where `out` cannot be written.
    """
    if ks is not None and (not ks or min(ks) < 1):
        raise InputError(f"`ks` must be whole numbers from 1; got {list(ks)}")
    if vocabulary_size < 2:
        raise InputError(f"`vocabulary_size` must be at least 2; got {vocabulary_size}")
    embed = None if embedder is None else load_embedder(embedder)
    measures = Measures(
        tokenise=words if tokenizer is None else load_tokeniser(tokenizer),
        vocabulary_size=vocabulary_size,
        embed=None if isinstance(embed, str) else embed,
        ks=None if ks is None else tuple(sorted(set(ks))),
    )
    index, columns = _measure_file(path, measures)
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
        "methods": [
            {"method": method, **_counts(index, method), "metrics": metrics}
            for method, metrics in methods.items()
        ],
        "comparisons": list(_comparisons(columns)),
        "skipped": _skipped(columns, embed if isinstance(embed, str) else None),
        "settings": {
            "ks": None if ks is None else list(ks),
            "tokenizer": "words and punctuation" if tokenizer is None else str(tokenizer),
            "vocabulary_size": vocabulary_size,
            "embedder": embedder,
        },
        "notes": _notes(index, embedder if measures.embed is not None else None),
    }
    _print(result, index, console)
    if out is not None:
        file = out / "evaluation.json"
        write_text(file, json.dumps(result, indent=1, allow_nan=False) + "\n")
        console.print(Text(f"written: {file}"), soft_wrap=True)
    return result


def measure_prompt(rows: Sequence[Generation], measures: Measures) -> Values:
    """Every metric that one prompt's generations allow, from those of them that have what it needs.

    Names: reward, ead, semantic_diversity, vendi_score, distinct_classes, utility, valid_answers (share of
    1), answer_entropy (nats), pass@k and max@k.
    """
    values: Values = {}
    rewards = [row.reward for row in rows if row.reward is not None]
    if rewards:
        values["reward"] = math.fsum(rewards) / len(rewards)
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
    """distinct_classes and utility: of answers where any line has one, else of responses.

    An invalid answer is in no class and of no use, but takes its turn.
    """
    if any(row.has_answer for row in rows):
        texts = [row.answer for row in rows]
    else:
        texts = [row.response for row in rows]
    found = iter(short_answer_classes(text for text in texts if text is not None))
    classes = [None if text is None else next(found) for text in texts]
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
    path: Path, measures: Measures
) -> tuple[Index, dict[str | None, dict[str, "array[float]"]]]:
    """The index, and one value a prompt of every metric, by method."""
    columns: dict[str | None, dict[str, array[float]]] = {}
    with progress_bar() as progress:
        size = path.stat().st_size if path.is_file() else None
        reading = progress.add_task("reading", total=size, note="bytes")
        index = index_file(path, advance=lambda read: progress.advance(reading, read))
        measuring = progress.add_task("measuring", total=index.good_bytes, note="")
        for method, prompts in index.offsets.items():
            column = columns.setdefault(method, defaultdict(lambda: array("d")))
            note = "" if method is None else escape(shown_name(method))
            progress.update(measuring, note=note)
            for rows in read_prompts(path, prompts, advance=lambda read: progress.advance(measuring, read)):
                for name, value in measure_prompt(rows, measures).items():
                    column[name].append(value)
    return index, {method: _in_order(column) for method, column in columns.items()}


def _in_order(column: dict[str, "array[float]"]) -> dict[str, "array[float]"]:
    """Metrics in the order of `_NEEDS`, each family by k."""

    def place(name: str) -> tuple[int, int]:
        family, _, k = name.partition("@")
        return list(_NEEDS).index(f"{family}@k" if k else family), int(k or 0)

    return {name: column[name] for name in sorted(column, key=place)}


def _mean(values: Sequence[float]) -> dict[str, float | int | None]:
    resamples = max(1000, min(10_000, 2**25 // len(values)))  # a standard error to 2% at worst
    sem = bootstrap_sem(values, resamples=resamples)
    return {"mean": summarise(values).mean, "sem": _plain(sem), "prompts": len(values)}


def _comparisons(columns: dict[str | None, dict[str, "array[float]"]]) -> Iterator[dict[str, Any]]:
    """Both one-sided p-values of every pair of methods, for what both have."""
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


def _skipped(columns: dict[str | None, dict[str, "array[float]"]], no_embedder: str | None) -> dict[str, str]:
    """Metrics that no method has, and what they want."""
    found = {name.partition("@")[0] for column in columns.values() for name in column}
    skipped = {
        name: f"needs {needs}" for name, needs in _NEEDS.items() if name.partition("@")[0] not in found
    }
    if no_embedder is not None:
        skipped |= dict.fromkeys(("semantic_diversity", "vendi_score"), no_embedder)
    return skipped


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
        f"Classes are NoveltyBench's for short texts: two of at most {SHORT_ANSWER} words are alike if they "
        "share half of the larger one's words, longer ones only if all words are equal. They are classes of "
        "`answer` where a prompt has any, else of `response`.",
    ]
    if embedder == STAND_IN:
        notes.append(
            "The embedder is a stand-in, counts of three characters in a row: it tells spellings apart, not "
            "meanings. Its semantic diversity and Vendi score compare with no published number."
        )
    sizes = {len(offsets) for prompts in index.offsets.values() for offsets in prompts.values()}
    if len(sizes) > 1:
        notes.append(
            f"Prompts have {min(sizes)} to {max(sizes)} generations: EAD, classes, utility, entropy and "
            "Vendi score depend on how many, and pass@k and max@k leave out prompts with fewer than k."
        )
    if embedder is not None and max(sizes) > _MOST_EMBEDDED:
        notes.append(f"Only the first {_MOST_EMBEDDED} generations of a prompt are embedded.")
    return notes


def _print(result: dict[str, Any], index: Index, console: Console) -> None:
    methods = result["methods"]
    for row in methods:
        name = f"{_shown(row['method'])}: " if len(methods) > 1 else ""
        console.print(
            Text(f"{name}{row['generations']:,} generations of {row['prompts']:,} prompts"), soft_wrap=True
        )
    if index.bad:
        number = sum(seen.count for seen in index.bad.values())
        words_ = f"{number:,} bad line{'s' * (number > 1)} left out: {bad_in_words(index.bad)}"
        console.print(Text(words_, style="yellow"), soft_wrap=True)
    console.print(_table(result))
    if result["skipped"]:
        skipped = "; ".join(f"{name} ({why})" for name, why in result["skipped"].items())
        console.print(Text(f"skipped: {skipped}"), soft_wrap=True)
    for note in result["notes"]:
        console.print(Text(note))


def _table(result: dict[str, Any]) -> Table:
    """One line a metric and method; p tests a method against the file's first."""
    methods = result["methods"]
    p_values = {
        (row["metric"], row["second"]): row["p_second_greater"]
        for row in result["comparisons"]
        if row["first"] == methods[0]["method"]
    }
    several = len(methods) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    if several:
        table.add_column("method")
    for name in ("mean", "± SEM", "prompts"):
        table.add_column(name, justify="right", no_wrap=True)
    if several:
        table.add_column("p, greater than the first", justify="right")
    names = list(dict.fromkeys(name for row in methods for name in row["metrics"]))
    for metric in names:
        for row in methods:
            if metric not in row["metrics"]:
                continue
            cell = row["metrics"][metric]
            sem = "" if cell["sem"] is None else f"{cell['sem']:.2g}"
            cells = [metric, f"{cell['mean']:.4g}", sem, f"{cell['prompts']:,}"]
            if several:
                p = p_values.get((metric, row["method"]))
                cells.insert(1, Text(_shown(row["method"])))
                cells.append("" if p is None else f"{p:.2g}")
            table.add_row(*cells)
    return table


def _shown(method: str | None) -> str:
    return "(no method)" if method is None else shown_name(method)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
