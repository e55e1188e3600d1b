"""The common progress display: rows that fit a terminal, or occasional lines without a terminal."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from textwrap import wrap
from typing import Any, TypeVar, final

from rich.console import Console, RenderableType
from rich.progress import Progress, Task, TaskID
from rich.text import Text

from allmodes.reports.formatting import shown_name
from allmodes.runs.terminal import console

_T = TypeVar("_T")
_SILENCE = 30.0  # seconds after which a line is printed without a terminal
_APART = 2.0  # minimum seconds between two lines for each tenth
_BARS = (5, 40)  # shortest and longest
_UNITS = ((10**9, " GB"), (10**6, " MB"), (10**3, " kB"), (1, " bytes"))


def show_notes(notes: Iterable[str]) -> None:
    """Print notes on standard error, one line each."""
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


def progress_bar(*, on: Console = console, clock: Callable[[], float] = time.monotonic) -> "ProgressDisplay":
    """A progress display on standard error: description, bar, count, times, and the field `note`, a text.

    A task with the field `unit` "bytes" is counted in kB, MB or GB. Counts and times are never cut. Without a
    terminal a line is printed at each tenth, and after 30 s.
    """
    return ProgressDisplay(on, clock)


def tracked(entries: Iterable[_T], description: str, *, total: int | None = None) -> Iterator[_T]:
    """Yield the entries one by one, with a display of their count."""
    with progress_bar() as progress:
        task = progress.add_task(description, total=total, note="")
        for entry in entries:
            yield entry
            progress.advance(task)


@final
class ProgressDisplay(Progress):
    """Rich's progress display with our own rows, and lines if there is no terminal."""

    def __init__(self, on: Console, clock: Callable[[], float]) -> None:
        self._on = on  # rich's own attribute does not exist yet when it first asks for rows
        self._prints_lines = not on.is_terminal or on.is_dumb_terminal
        super().__init__(console=on, refresh_per_second=2, disable=self._prints_lines, get_time=clock)
        self._last_line = clock()
        self._tenths: dict[TaskID, int] = {}
        self._latest: TaskID | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Show rows, or start to print lines."""
        super().start()
        self._last_line = self.get_time()
        if self._prints_lines:
            threading.Thread(target=self._break_silence, daemon=True).start()

    def stop(self) -> None:
        """Show the last state of all rows."""
        self._stopped.set()
        super().stop()

    def add_task(self, description: str, *args: Any, **settings: Any) -> TaskID:
        """As in rich."""
        task_id = super().add_task(description, *args, **settings)
        self._tenths[task_id] = _tenth(self._tasks[task_id])
        return task_id

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As in rich, but a task begins with its first update; may print a line."""
        if self._tasks[task_id].start_time is None:
            self.start_task(task_id)
        super().update(task_id, **changes)
        self._changed(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As in rich; may print a line."""
        super().advance(task_id, advance)
        self._changed(task_id)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The rows of the display for the console's current width."""
        rows = [_row_of(task) for task in self.tasks if task.visible]
        # A display taller than the terminal would be cut off at the end, where the running tasks are.
        height = max(3, (self._on.height - 2) // 2)
        hidden = 0
        while len(rows) > height:
            idle = next((row for row in rows if row.is_done), None) or rows[-1]
            rows.remove(idle)
            hidden += 1
        yield from lay_out(rows, self._on.width)
        if hidden:
            yield Text(f"and {hidden} more")

    def _changed(self, task_id: TaskID) -> None:
        self._latest = task_id
        task = self._tasks.get(task_id)
        if not self._prints_lines or task is None:
            return
        now = self.get_time()
        tenth = _tenth(task)
        is_new = tenth > self._tenths[task_id]
        since = now - self._last_line
        ends = bool(task.total) and task.completed >= (task.total or 0) and (task.elapsed or 0) >= _APART
        if (is_new and (since >= _APART or ends)) or since >= _SILENCE:
            self._tenths[task_id] = tenth
            self._print_line(task)

    def _break_silence(self) -> None:
        while not self._stopped.wait(1.0):
            task = None if self._latest is None else self._tasks.get(self._latest)
            unfinished = [task] if task is not None and not task.finished else self.tasks
            waiting = next((one for one in unfinished if not one.finished), None)
            if waiting is not None and self.get_time() - self._last_line >= _SILENCE:
                self._print_line(waiting)

    def _print_line(self, task: Task) -> None:
        self._last_line = self.get_time()
        row = _row_of(task)
        share = f" ({100 * task.completed / task.total:.0f} %)" if task.total else ""
        parts = [f"{row.name}: {row.count.strip()}{share}".removesuffix(": "), row.times, row.note]
        self.console.print(Text(", ".join(filter(None, parts))), soft_wrap=True)


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """A task as shown. share: finished share, 0 to 1; None if the total is unknown."""

    name: str
    count: str
    times: str
    note: str
    share: float | None
    is_done: bool


def _tenth(task: Task) -> int:
    return int(10 * task.completed / task.total) if task.total else 0


def _row_of(task: Task) -> Row:
    is_done = task.total is not None and task.completed >= task.total
    times = [_time(task.elapsed if task.finished_time is None else task.finished_time)]
    if not is_done and task.time_remaining is not None:
        times.append(f"{_time(task.time_remaining)} left")
    return Row(
        name=task.description.rstrip(),
        count=_count(task),
        times=", ".join(times),
        note=str(task.fields.get("note", "")),
        share=min(1.0, task.completed / task.total) if task.total else None,
        is_done=is_done,
    )


def _count(task: Task) -> str:
    """The count of the total, at fixed width; empty if neither is known."""
    size, unit = 1, ""
    if task.fields.get("unit") == "bytes":
        size, unit = next((pair for pair in _UNITS if (task.total or task.completed) >= pair[0]), _UNITS[-1])
    done = f"{task.completed / size:,.{1 if size > 1 else 0}f}"
    if task.total is None:
        return f"{done}{unit} so far" if task.completed else ""
    total = f"{task.total / size:,.{1 if size > 1 else 0}f}"
    return f"{done:>{len(total)}}/{total}{unit}"


def _time(seconds: float | None) -> str:
    return str(timedelta(seconds=int(seconds or 0)))


def lay_out(rows: Sequence[Row], width: int) -> Iterator[Text]:
    """The rows as lines of at most `width` characters, in columns.

    If they do not fit, the bar is dropped first, then the note and then the times move to their own lines.
    Only notes and names are ever cut off.
    """
    if not rows:
        return
    counts, times = (max(len(getattr(row, field)) for row in rows) for field in ("count", "times"))
    notes = max(len(row.note) for row in rows)
    names = min(max(len(row.name) for row in rows), max(8, width - counts - 1))
    fixed = names + 1 + counts + 2 + times
    has_note = fixed + (2 + notes if notes else 0) <= width
    has_times = fixed <= width
    bar = min(_BARS[1], width - fixed - 2 - (2 + notes if has_note and notes else 0))
    for row in rows:
        line = Text(f"{shown_name(row.name, names):{names}} ")
        if bar >= _BARS[0] and has_times:
            line.append_text(_bar(row.share, bar)).append("  ")
        line.append(f"{row.count:>{counts}}")
        behind = [f"{row.times:{times}}" if has_note else row.times, row.note]
        if has_times:
            line.append(f"  {behind.pop(0)}")
        if has_note and row.note:
            line.append(f"  {behind.pop(0)}")
        line.rstrip()
        yield line
        if not (has_note and has_times):
            rest = ", ".join(filter(None, behind))
            yield from (Text(f"  {text}") for text in wrap(rest, width - 2, max_lines=2, placeholder=" …"))


def _bar(share: float | None, width: int) -> Text:
    done = 0 if share is None else round(share * width)
    return Text("━" * done, style="bar.complete").append("─" * (width - done), style="bar.back")
