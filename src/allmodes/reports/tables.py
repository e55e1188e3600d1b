"""Tables for terminals of any width, without cutting off any text."""

from collections.abc import Collection, Iterator, Sequence
from textwrap import wrap

from rich.console import Console
from rich.text import Text

Cell = str | Text  # of one style

_GAP = 2
_NAME = 8  # names are not wrapped below this width


def print_table(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, texts: Collection[str] = ()
) -> None:
    """Print a table as wide as the terminal, or at its natural width in a pipe.

    texts: headings of columns with texts, which are left-aligned and wrapped if space is short.
    """
    width = console.width if console.is_terminal else None
    for line in table_lines(headings, rows, texts=texts, width=width):
        console.print(line, soft_wrap=True, highlight=False)


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, texts: Collection[str], width: int | None
) -> Iterator[Text]:
    """The lines of a table of at most `width` characters; None for no limit.

    Headings and texts are wrapped if that is enough; else each row becomes a list of its cells.
    """
    columns = [[str(row[i]) for row in rows] for i in range(len(headings))]
    widths = _widths(headings, columns, texts, width)
    if widths is None:
        for number, row in enumerate(rows):
            if number:
                yield Text()
            yield from _record(headings, row, width or 80)
        return
    on_left = [heading in texts for heading in headings]
    yield from _lines([Text(heading, style="bold") for heading in headings], widths, on_left)
    yield Text("─" * (sum(widths) + _GAP * (len(widths) - 1)))
    for row in rows:
        yield from _lines(row, widths, on_left)


def _widths(
    headings: Sequence[str], columns: Sequence[Sequence[str]], texts: Collection[str], width: int | None
) -> list[int] | None:
    """The width of each column; None if they do not fit even when wrapped."""
    pairs = list(zip(headings, columns, strict=True))
    natural = [max(len(heading), *map(len, column), 1) for heading, column in pairs]
    space = None if width is None else width - _GAP * (len(headings) - 1)
    if space is None or sum(natural) <= space:
        return natural
    least = []
    for heading, column in pairs:
        words = max((len(word) for word in heading.split()), default=1)
        cells = max(map(len, column), default=1)
        least.append(max(words, min(cells, _NAME) if heading in texts else cells))
    if sum(least) > space:
        return None
    widths = list(least)
    for _ in range(space - sum(least)):  # give space to the most wrapped column, texts before headings
        wanted = [
            (whole > now and heading in texts, whole - now)
            for heading, whole, now in zip(headings, natural, widths, strict=True)
        ]
        widths[wanted.index(max(wanted))] += 1
    return widths


def _lines(cells: Sequence[Cell], widths: Sequence[int], on_left: Sequence[bool]) -> Iterator[Text]:
    wrapped = [wrap(str(cell), width) or [""] for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, wrapped))):
        line = Text()
        for cell, parts, width, left in zip(cells, wrapped, widths, on_left, strict=True):
            part = parts[number] if number < len(parts) else ""
            style = cell.style if isinstance(cell, Text) else ""
            line.append(f"{part:<{width}}" if left else f"{part:>{width}}", style).append(" " * _GAP)
        line.rstrip()
        yield line


def _record(headings: Sequence[str], cells: Sequence[Cell], width: int) -> Iterator[Text]:
    for heading, cell in zip(headings, cells, strict=True):
        if str(cell):
            yield from map(Text, wrap(f"{heading}: {cell}", width, subsequent_indent="  "))
