"""The page on files of samples names what the reader reads, and nothing else."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from allmodes.audit.choices import Format
from allmodes.audit.logs.files import READERS
from allmodes.audit.logs.sources import SAMPLES
from allmodes.audit.logs.vocabulary import VOCABULARY
from allmodes.cli.audit import Columns, audit
from allmodes.cli.reports import evaluate

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guide" / "samples.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first head is this."""
    tables = re.findall(r"(?:^\|.*\|\n)+", TEXT, re.MULTILINE)
    (table,) = (found.splitlines() for found in tables if found.startswith(f"| {head} |"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def test_the_containers_are_those_that_are_read() -> None:
    assert {name for row in rows("ends in") for name in names(row[0])} == set(READERS)


def test_the_columns_are_those_of_the_vocabulary() -> None:
    found = [(names(ours), tuple(names(theirs)), holds) for ours, theirs, holds in rows("column")]
    assert found == [([name], column.names, column.holds) for name, column in VOCABULARY.items()]
    assert [field.name for field in fields(Columns)] == list(VOCABULARY)


def test_no_name_is_read_for_two_columns_but_for_the_reward() -> None:
    for name, column in VOCABULARY.items():
        for other, others in VOCABULARY.items():
            if name < other and {name, other} != {"reward", "score"}:
                assert not set(column.names) & set(others.names), (name, other)


def test_the_formats_are_those_that_are_recognised() -> None:
    assert {name for row in rows("format") for name in names(row[0])} == set(get_args(Format))


def test_both_commands_have_the_flags_of_the_page() -> None:
    flags = {flag.split(".")[0] for flag in re.findall(r"`--([a-z-]+)", TEXT)} - {"model", "embedder"}
    assert flags == {"columns", "rewards", "outcome-pattern", "format"}
    for command in (audit, evaluate):
        assert {flag.replace("-", "_") for flag in flags} <= inspect.signature(command).parameters.keys()


def test_the_page_is_linked_and_names_the_runs_own_file() -> None:
    assert SAMPLES in TEXT
    assert "(samples.md)" in (ROOT / "docs" / "guide" / "audit.md").read_text(encoding="utf-8")
    assert "docs/guide/samples.md" in (ROOT / "README.md").read_text(encoding="utf-8")
