"""What a progress display shows on a narrow terminal, and what is printed where there is none."""

import io
import re

import pytest
from rich.console import Console

from allmodes.reports.progress import ProgressDisplay, Row, lay_out, progress_bar, tracked

ROWS = [
    Row(
        name="reinvent seed 0",
        count="2,000/2,000",
        times="0:01:23",
        note="345 hits, mean reward 0.65",
        share=1.0,
        is_done=True,
    ),
    Row(
        name="mara seed 0",
        count="1,234/2,000",
        times="0:01:23, 0:11:00 left",
        note="12 hits, mean reward 0.45, workers 98 % busy, few new molecules",
        share=0.6,
        is_done=False,
    ),
    Row(
        name="vanilla, RLOO, reverse KL of whole responses, beta 0.01, seed 0",
        count="  0/300",
        times="0:00:00",
        note="",
        share=0.0,
        is_done=False,
    ),
]


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60, 40])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_counts_and_times_are_never_cut(width: int, number: int) -> None:
    lines = [line.plain for line in lay_out(ROWS[:number], width)]
    text = " ".join(" ".join(lines).split())
    for row in ROWS[:number]:
        assert row.count.strip() in text
        assert row.times in text
    assert max(map(len, lines)) <= width


def test_a_wide_terminal_has_one_line_a_run_with_a_bar() -> None:
    lines = [line.plain for line in lay_out(ROWS[:1], 120)]
    assert len(lines) == 1
    assert re.fullmatch(r"reinvent seed 0 ━{40}  2,000/2,000  0:01:23  345 hits, mean reward 0.65", lines[0])


def test_nothing_to_show() -> None:
    assert list(lay_out([], 80)) == []


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def display(
    clock: Clock, *, is_terminal: bool = False, width: int = 80
) -> tuple[ProgressDisplay, io.StringIO]:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=is_terminal, width=width, height=24, _environ={"TERM": "xterm"}
    )
    return progress_bar(on=console, clock=clock), file


def test_without_a_terminal_a_line_at_each_tenth() -> None:
    clock = Clock()
    progress, file = display(clock)
    with progress:
        task = progress.add_task("mara seed 0", total=2000, note="")
        for done in range(1, 2001):
            clock.now = done / 10
            progress.update(task, completed=done, note=f"{done} hits")
    lines = file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("mara seed 0:   200/2,000 (10 %), 0:00:20, 0:0".replace(":   ", ": "))
    assert lines[-1] == "mara seed 0: 2,000/2,000 (100 %), 0:03:20, 2000 hits"


def test_without_a_terminal_a_line_every_thirty_seconds_where_a_tenth_takes_longer() -> None:
    clock = Clock()
    progress, file = display(clock)
    with progress:
        task = progress.add_task("docking", total=1000, note="")
        for done in range(1, 31):
            clock.now = 10.0 * done
            progress.advance(task)
    assert len(file.getvalue().splitlines()) == 10


def test_without_a_terminal_nothing_of_what_ends_at_once() -> None:
    progress, file = display(Clock())
    with progress:
        task = progress.add_task("reading", total=100, note="")
        for _ in range(100):
            progress.advance(task)
    assert file.getvalue() == ""


def test_a_task_that_says_nothing_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmodes.reports.progress._SILENCE", 0.0)
    clock = Clock()
    progress, file = display(clock)
    with progress:
        progress.add_task("base model", total=None, note="measured")
        clock.now = 31.0
        progress._stopped.wait(1.5)
    assert file.getvalue().splitlines()[0] == "base model, 0:00:31, measured"


def test_without_a_total_the_count_stands_alone() -> None:
    clock = Clock()
    progress, file = display(clock)
    with progress:
        task = progress.add_task("fig5", total=None, note="title")
        clock.now = 40.0
        progress.advance(task, 1234)
    assert file.getvalue() == "fig5: 1,234 so far, 0:00:40, title\n"


def test_bytes_have_a_unit() -> None:
    clock = Clock()
    progress, file = display(clock)
    with progress:
        task = progress.add_task("reading", total=2_500_000, note="", unit="bytes")
        clock.now = 40.0
        progress.advance(task, 1_300_000)
    assert file.getvalue().startswith("reading: 1.3/2.5 MB (52 %), 0:00:40")


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_keeps_counts_and_times(width: int) -> None:
    clock = Clock()
    progress, file = display(clock, is_terminal=True, width=width)
    with progress:
        for seed in range(30):
            progress.add_task(f"reinvent  seed {seed}", total=2000, completed=2000, note="finished before")
        task = progress.add_task("mara      seed 0", total=2000, note="")
        clock.now = 83.0
        progress.update(task, completed=1234, note="[b]12 hits[/b], mean reward 0.45")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    shown = text[text.rindex("mara seed 0") :]
    assert "1,234/2,000" in shown
    assert "0:01:23" in shown
    assert "[b]12 hits[/b]" in " ".join(shown.split())  # a note is a text, whatever it holds
    assert re.search(r"and \d+ more", shown)  # rows that the terminal has no place for


def test_tracked_gives_all() -> None:
    assert list(tracked(range(5), "counting", total=5)) == list(range(5))
