"""The common style of all figures, and atomic writing of PNG and SVG."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allmodes.errors import ConfigError
from allmodes.extras import how_to_install
from allmodes.runs.files import replacing

INK, MUTED, FAINT = "#333333", "#777777", "#d0d0d0"
# Okabe and Ito's colours, which are distinct for colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
DPI = 160
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "allmodes",  # equal figures give equal files
    "svg.fonttype": "path",
}


def distinct_colors(colors: Mapping[str, str]) -> dict[str, str]:
    """Colours #rrggbb by name; a name that repeats an earlier colour gets a darker one."""
    found: dict[str, str] = {}
    for name, color in colors.items():
        shown = color
        while shown in found.values() and shown != darker(shown):
            shown = darker(shown)
        found[name] = shown
    return found


def darker(color: str) -> str:
    """A colour #rrggbb at 0.6 of its brightness."""
    return "#" + "".join(f"{round(0.6 * int(color[at : at + 2], 16)):02x}" for at in (1, 3, 5))


@contextmanager
def figure_style() -> Iterator[Any]:
    """Matplotlib in the figure style of allmodes, drawing to files only; yields its `Figure` class.

    Raises ConfigError if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from cycler import cycler
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"figures need `{how_to_install('report')}`; matplotlib is not installed"
        ) from error
    style: Any = {**_STYLE, "axes.prop_cycle": cycler(color=list(CYCLE))}
    with mpl.rc_context(style):
        yield Figure


def inline_svg(figure: Any, *, transparent: bool = False) -> str:
    """The figure as an element of a page, with its width in `--width`; call it inside `figure_style`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=transparent, metadata=nothing)
    text = buffer.getvalue()
    width = f"--width: {96 * figure.get_figwidth():.0f}px"  # its text is readable there; narrow pages scroll
    return text[text.index("<svg") :].replace("<svg", f'<svg style="{width}"', 1)


def save_figure(figure: Any, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg atomically; call it inside `figure_style`."""
    for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
        with replacing(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=metadata)
