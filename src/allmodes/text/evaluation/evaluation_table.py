"""The table of an evaluation, and the metrics that could not be computed."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmodes.reports.formatting import p_in_digits, plural, shown_name

NEEDS = {
    "reward": "`reward`",
    "ead": "a response with tokens",
    "semantic_diversity": "an embedder and two generations of a prompt",
    "vendi_score": "an embedder",
    "distinct_classes": "an answer or response",
    "utility": "`score`",
    "valid_answers": "`answer` or `outcome`",
    "answer_entropy": "`answer` or `outcome`",
    "pass@k": "`correct`, and k generations of a prompt",
    "max@k": "`reward`, and k generations of a prompt",
}


def place(name: str) -> tuple[int, int]:
    """Where a metric stands in a table: in the order of `NEEDS`, each family by k."""
    family, _, k = name.partition("@")
    return list(NEEDS).index(f"{family}@k" if k else family), int(k or 0)


def print_evaluation(result: dict[str, Any], left_out: str, console: Console) -> None:
    """Print counts of samples read and left out, the table, and its notes."""
    methods = result["methods"]
    shown = _distinct([row["method"] for row in methods])
    for row in methods:
        name = f"{shown[row['method']]}: " if len(methods) > 1 else ""
        console.print(
            Text(f"{name}{row['generations']:,} generations of {row['prompts']:,} prompts"), soft_wrap=True
        )
    console.print(
        Text(shown_name(f"Read as: {' '.join(result['remarks'])}", 2000), style="dim"), soft_wrap=True
    )
    if left_out:
        number = sum(kind["count"] for kind in result["bad_lines"].values())
        line = f"{plural(number, 'sample')} left out: {left_out}"
        console.print(Text(line, style="yellow"), soft_wrap=True)
    console.print(_table(result, shown))
    if len(methods) > 1:
        baseline = shown[result["settings"]["baseline"]]
        line = (
            "p: one-sided Welch test, over prompts, that the method's mean is greater than that of "
            f"{baseline}, the baseline. The default is the first method of the file; --baseline NAME "
            "selects another."
        )
        console.print(Text(line))
    for row in result["not_computed"]:
        name = f", {shown[row['method']]}" if len(methods) > 1 else ""
        console.print(Text(f"not computed: {row['metric']}{name}: {row['why']}", style="yellow"))
    if result["skipped"]:
        skipped = "; ".join(f"{name} ({why})" for name, why in result["skipped"].items())
        console.print(Text(f"skipped: {skipped}"), soft_wrap=True)
    for note in result["notes"]:
        console.print(Text(note))


def _table(result: dict[str, Any], shown: dict[str | None, str]) -> Table:
    """One line a metric and method; p tests whether a method's mean is greater than the baseline's."""
    p_values = _p_values(result)
    several = len(shown) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    if several:
        table.add_column("method", overflow="fold")
    for name in ("mean", "± SEM", "prompts"):
        table.add_column(name, justify="right", no_wrap=True)
    if several:
        table.add_column("p", justify="right", no_wrap=True)
    for metric, method, cell in _cells(result):
        name = [Text(shown[method])] if several else []
        if cell is None:
            table.add_row(metric, *name, "not computed", *[""] * (3 if several else 2))
            continue
        sem = "" if cell["sem"] is None else f"{cell['sem']:.2g}"
        p = p_values.get((metric, method))
        last = ["" if p is None else p_in_digits(p)] if several else []
        table.add_row(metric, *name, f"{cell['mean']:.4g}", sem, f"{cell['prompts']:,}", *last)
    return table


def _p_values(result: dict[str, Any]) -> dict[tuple[str, str | None], float | None]:
    """That a method's mean is greater than the baseline's, by metric and method."""
    baseline = result["settings"]["baseline"]
    found: dict[tuple[str, str | None], float | None] = {}
    for row in result["comparisons"]:
        for one, other in (("first", "second"), ("second", "first")):
            if row[one] == baseline:
                found[row["metric"], row[other]] = row[f"p_{other}_greater"]
    return found


def _cells(result: dict[str, Any]) -> Iterator[tuple[str, str | None, dict[str, Any] | None]]:
    """Every metric of every method in the order of the table; None if it could not be computed."""
    missing = {(row["metric"], row["method"]) for row in result["not_computed"]}
    names = {name for row in result["methods"] for name in row["metrics"]} | {name for name, _ in missing}
    for name in sorted(names, key=place):
        for row in result["methods"]:
            if name in row["metrics"] or (name, row["method"]) in missing:
                yield name, row["method"], row["metrics"].get(name)


def _distinct(methods: Sequence[str | None]) -> dict[str | None, str]:
    """Names to show, cut as short as they stay distinct; numbered if they are equal uncut."""
    longest = max(len(method or "") for method in methods) + 16
    names: list[str] = []
    for width in (32, 64, 128, longest):
        names = [shown_method(method, width) for method in methods]
        if len(set(names)) == len(names):
            break
    return {
        method: f"{name} [{number}]" if names.count(name) > 1 else name
        for number, (method, name) in enumerate(zip(methods, names, strict=True), 1)
    }


def shown_method(method: str | None, width: int = 32) -> str:
    """A method's name on one line, in at most `width` characters."""
    return "(no method)" if method is None else shown_name(method, width)
