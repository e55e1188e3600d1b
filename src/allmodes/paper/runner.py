"""`allmodes paper`: reproduces items and writes figure, numbers and verdicts of each."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmodes.errors import ConfigError, RunError
from allmodes.paper.catalogue import ITEMS, Item
from allmodes.paper.reproduction import Reproduction, Scale, Verdict
from allmodes.reports.pages import made_by
from allmodes.reports.plotting import figure_style, save_figure
from allmodes.reports.progress import progress_bar
from allmodes.runs.files import write_text
from allmodes.runs.provenance import provenance

_COLOURS = {"yes": "green", "partly": "yellow", "no": "red"}


def print_items(console: Console) -> None:
    """The table of `allmodes paper list`."""
    table = Table("name", "source", "what it shows")
    for item in ITEMS:
        table.add_row(item.name, item.source, item.title)
    console.print(table)


def reproduce_items(items: Sequence[Item], *, scale: Scale, out: Path, console: Console) -> None:
    """Reproduce items one after the other and write each as soon as it is done.

    Writes NAME.png, NAME.svg, NAME.json and NAME.md into `out`, and verdicts.md over all of these items. With
    several items, those whose requirements are missing are skipped with a message; a single item raises its
    ConfigError. Raises RunError if `out` cannot be a folder.
    """
    _check_writable(out)
    verdicts: dict[str, Sequence[Verdict]] = {}
    skipped: dict[str, str] = {}
    with figure_style():
        for number, item in enumerate(items, start=1):
            start = time.perf_counter()
            try:
                with progress_bar() as bar:
                    name = f"{item.name} ({number} of {len(items)})" if len(items) > 1 else item.name
                    task = bar.add_task(name, total=None, note=item.title)
                    result = item.load().reproduce(scale, lambda done, task=task: bar.advance(task, done))
            except ConfigError as error:  # models or a device that this machine does not have
                if len(items) == 1:
                    raise
                skipped[item.name] = str(error)
                console.print(f"skipped {item.name}: {error}", style="yellow", markup=False, soft_wrap=True)
                continue
            seconds = round(time.perf_counter() - start, 1)
            _write(item, result, scale=scale, seconds=seconds, out=out)
            verdicts[item.name] = result.verdicts
            _print(item, result, console)
    if len(items) > 1:
        text = "\n".join(
            f"## {item.name}: {item.title} ({item.source})\n\n"
            + (f"Skipped: {skipped[item.name]}\n" if item.name in skipped else _markdown(verdicts[item.name]))
            for item in items
        )
        write_text(out / "verdicts.md", f"# Paper and measurement, --scale {scale.name}\n\n{text}{_made()}")
    console.print(f"written to {out}", highlight=False, markup=False, soft_wrap=True)


def _check_writable(folder: Path) -> None:
    """Raise RunError if a folder cannot be made or written, before anything is computed or left behind."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise RunError(f"cannot write {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError(f"cannot write {folder}: {there} may not be written")


def _write(item: Item, result: Reproduction, *, scale: Scale, seconds: float, out: Path) -> None:
    document = {
        "name": item.name,
        "source": item.source,
        "title": item.title,
        "scale": asdict(scale),
        "seconds": seconds,
        "verdicts": [asdict(verdict) for verdict in result.verdicts],
        "notes": list(result.notes),
        "numbers": plain(result.numbers),
        "provenance": provenance(),
    }
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    notes = "".join(f"- {note}\n" for note in result.notes)
    page = f"# {item.title} ({item.source})\n\n![]({item.name}.png)\n\n{_markdown(result.verdicts)}\n{notes}"
    page += "".join(f"\n{table}" for table in result.tables) + _made()
    save_figure(result.figure, out / item.name)
    write_text(out / f"{item.name}.json", text + "\n")
    write_text(out / f"{item.name}.md", page)


def _made() -> str:
    made, command = made_by()
    return f"\nMade by {made}, with `{command}`\n"


def plain(value: Any) -> Any:
    """Numbers for JSON: tensors as lists, six digits, and non-finite values as text."""
    if isinstance(value, torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else str(value)
    return value


def _markdown(verdicts: Sequence[Verdict]) -> str:
    rows = "".join(f"| {v.claim} | {v.paper} | {v.measured} | {v.holds} |\n" for v in verdicts)
    return f"| claim | paper says | measured | holds? |\n| --- | --- | --- | --- |\n{rows}"


def _print(item: Item, result: Reproduction, console: Console) -> None:
    table = Table(
        "claim", "paper says", "measured", "holds?", title=f"{item.name}: {item.source}", show_lines=True
    )
    for entry in result.verdicts:
        table.add_row(
            Text(entry.claim),
            Text(entry.paper),
            Text(entry.measured),
            Text(entry.holds, style=_COLOURS[entry.holds]),
        )
    console.print(table)
