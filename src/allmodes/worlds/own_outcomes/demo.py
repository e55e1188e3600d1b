"""`allmodes demo collapse`: the optimum of every method on a few outcomes, each a line with a bar."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from allmodes.reports.formatting import shown_name
from allmodes.reports.plotting import darker
from allmodes.worlds.own_outcomes.optima import (
    Optimum,
    explain_optimum,
    explain_reference,
    good_in_reach,
    ranked,
    without_optimum,
)
from allmodes.worlds.own_outcomes.table import OutcomeTable, read_outcomes
from allmodes.worlds.own_outcomes.warnings import percent, warnings

BETA, THRESHOLD = 0.05, 0.8
_TOLERANCE = 0.1
_REFERENCE_COLOR = "#9a9a9a"
_OTHER = "."  # all that is not good
_SHORTEST, _LONGEST = 24, 100  # characters of a bar
_GAP = 2


def show_collapse(file: Path, *, console: Console) -> None:
    """Print which of a file's good outcomes the reference and each method of `METHODS` keep.

    All numbers are those of `allmodes target`. Raises InputError as `read_outcomes` does.
    """
    table = read_outcomes(file)
    optima = explain_optimum(table, betas=[BETA], kl="reverse", threshold=THRESHOLD, methods=["all"])
    reference = explain_reference(table, threshold=THRESHOLD, tolerance=_TOLERANCE)
    good = [i for i in ranked(table) if bool(good_in_reach(table, THRESHOLD)[i])]
    letters = dict(zip(good, ascii_uppercase, strict=False))

    console.print(Text(f"{len(table.names)} answers to one question; {len(good)} of them are good:\n"))
    console.print(Text.assemble(*_legend(table, letters)), highlight=False, soft_wrap=True)
    console.print(
        Text(f"Where training with each method ends (exact optimum, reverse KL, beta = {BETA:g}):\n")
    )
    rows = [("reference", _REFERENCE_COLOR, reference)]
    rows += [(optimum.source.label, optimum.source.method.color, optimum) for optimum in optima]
    for line in _picture(rows, letters, console):
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    missing = without_optimum(table, betas=[BETA], kl="reverse", threshold=THRESHOLD, methods=["all"])
    plain = [optimum for optimum in optima if optimum.source.is_plain]
    for sentence in warnings(table, plain, threshold=THRESHOLD, tolerance=_TOLERANCE):
        console.print(Text(sentence))
    console.print(Text(f"\n{plain[0].source.label}: RL with unchanged rewards. {' '.join(missing)}"))


def _legend(table: OutcomeTable, letters: dict[int, str]) -> Iterator[str]:
    width = max(len(shown_name(table.names[i])) for i in letters)
    for i, letter in letters.items():
        share = percent(float(table.ref_logprobs[i].exp()))
        reward = f"{float(table.rewards[i]):g}"
        yield f"  {letter}  {shown_name(table.names[i]):{width}}  reward {reward:6}  reference {share:>6}\n"
    others = [i for i in range(len(table.names)) if i not in letters]
    share = percent(float(table.ref_logprobs[others].exp().sum()))
    best = max(float(table.rewards[i]) for i in others)
    yield f"  {_OTHER}  {f'{len(others)} others':{width}}  reward {f'<= {best:g}':6}  reference {share:>6}\n"


def _picture(
    rows: Sequence[tuple[str, str, Optimum]], letters: dict[int, str], console: Console
) -> Iterator[Text]:
    """A line a method: label, effective number of good outcomes, its mass on them, and all mass as a bar."""
    labels = max(len(label) for label, _, _ in rows)
    headings = f"{'':{labels}}  {'good kept':>9}  {'on good':>7}"
    space = console.width - len(headings) - _GAP
    is_below = space < _SHORTEST  # then each bar is on a line of its own
    width = min(_LONGEST, console.width - _GAP if is_below else space)
    has_color = console.is_terminal and console.color_system is not None and not console.no_color
    yield Text(headings, style="bold")
    for label, color, optimum in rows:
        kept = f"{optimum.good_modes:.1f} of {len(letters)}"
        line = Text(f"{label:{labels}}  {kept:>9}  {percent(optimum.good_mass):>7}")
        bar = _bar(optimum, letters, width, color if has_color else None)
        if is_below:
            yield line
            yield Text(" " * _GAP).append_text(bar)
        else:
            yield line.append(" " * _GAP).append_text(bar)


def _bar(optimum: Optimum, letters: dict[int, str], width: int, color: str | None) -> Text:
    """All mass as `width` characters: each good outcome by its letter, then the others."""
    shares = [float(optimum.logprobs[i].exp()) for i in letters]
    lengths = _lengths([*shares, max(0.0, 1 - sum(shares))], width)
    bar = Text()
    for number, (mark, length) in enumerate(zip([*letters.values(), _OTHER], lengths, strict=True)):
        if color is None or mark == _OTHER:
            bar.append(mark * length, "dim" if mark == _OTHER else "")
        else:
            bar.append(f"{mark:^{length}}" if length else "", _style(darker(color) if number % 2 else color))
    return bar


def _style(color: str) -> Style:
    background = Color.parse(color)
    red, green, blue = background.get_truecolor()
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    return Style(bgcolor=background, color=Color.parse("#000000" if is_light else "#ffffff"))


def _lengths(shares: Sequence[float], width: int) -> list[int]:
    """Whole lengths that sum to `width`, each within 1 of its share; the largest rests are rounded up."""
    exact = [share * width / sum(shares) for share in shares]
    lengths = [int(length) for length in exact]
    by_rest = sorted(range(len(shares)), key=lambda i: lengths[i] - exact[i])
    for i in by_rest[: width - sum(lengths)]:
        lengths[i] += 1
    return lengths
