"""No heading and no name is cut, at any width and in a pipe."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from allmodes.reports.tables import print_table, table_lines

HEADINGS = ("beta", "objective", "good modes", "likeliest", "multimodal")
ROWS = [
    ("0.01", "reference", "1.5 of 3", "half answer", Text("no", style="red")),
    ("0.1", "MARA", "10.5 of 30", "a rare proof of some length", Text("yes", style="green")),
]
TEXTS = ("objective", "likeliest", "multimodal")


def printed(width: int, *, is_terminal: bool) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=is_terminal, no_color=True, color_system=None)
    print_table(console, HEADINGS, ROWS, texts=TEXTS)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 120, 80, 60, 50, 40, 20])
def test_all_is_there_at_any_width(width: int) -> None:
    lines = printed(width, is_terminal=True)
    letters = sorted("".join(lines).replace("─", "").replace(" ", "").replace(":", ""))
    for text in (*HEADINGS, *(str(cell) for row in ROWS for cell in row)):
        for letter in set(text) - {" "}:
            assert letter in letters
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for word in ("rare", "proof", "length", "multimodal", "objective", "half"):
        assert word in words


def test_a_wide_terminal_has_a_line_a_row() -> None:
    assert printed(80, is_terminal=True) == [
        "beta  objective  good modes  likeliest                    multimodal",
        "────────────────────────────────────────────────────────────────────",
        "0.01  reference    1.5 of 3  half answer                  no",
        " 0.1  MARA       10.5 of 30  a rare proof of some length  yes",
    ]


def test_a_pipe_has_a_line_a_row_whatever_its_width() -> None:
    assert printed(20, is_terminal=False) == printed(80, is_terminal=True)


def test_names_and_headings_are_wrapped() -> None:
    lines = printed(58, is_terminal=True)
    assert "likeliest" in lines[0]
    assert any("a rare proof of" in line for line in lines)
    assert "a rare proof of some length" not in " ".join(lines)


def test_a_narrow_terminal_has_a_line_a_cell() -> None:
    assert printed(30, is_terminal=True)[:5] == [
        "beta: 0.01",
        "objective: reference",
        "good modes: 1.5 of 3",
        "likeliest: half answer",
        "multimodal: no",
    ]


def test_a_table_without_rows() -> None:
    assert [line.plain for line in table_lines(("a", "b"), [], texts=(), width=10)] == ["a  b", "────"]


@given(
    st.lists(st.tuples(st.text("abc ", max_size=30), st.text("12.", max_size=9)), max_size=4),
    st.integers(16, 60),
)
def test_every_cell_comes_back(rows: list[tuple[str, str]], width: int) -> None:
    lines = [line.plain for line in table_lines(("name", "count"), rows, texts=("name",), width=width)]
    shown = "".join("".join(lines).split())
    for name, count in rows:
        assert shown.count("a") >= name.count("a")
        assert count in shown or not count
    assert all(len(line) <= width for line in lines)
