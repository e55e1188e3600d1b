"""Format words and numbers for reports."""

from collections.abc import Sequence

NBSP = "\N{NO-BREAK SPACE}"

_CLEAR = 0.05


def listing(words: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """A number as with `%g`, with a real minus sign."""
    return f"{value:g}".replace("-", "−")


def shown_name(name: str, width: int = 32) -> str:
    """A name for a terminal or a figure: one line, no control characters, at most `width` characters."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(name.split())) or "(empty)"
    tail = width // 3  # long names often differ at the end
    return line if len(line) <= width else f"{line[: width - 1 - tail]}…{line[-tail:]}"


def p_relation(p: float) -> str:
    """A p-value as it follows "p": `= 0.42`, `< 0.001`."""
    if p < 0.001:
        return f"<{NBSP}0.001"
    if p > 0.999:
        return f">{NBSP}0.999"
    return f"={NBSP}{p:.3f}" if min(p, 1 - p) < 0.1 else f"={NBSP}{p:.2f}"


def p_in_digits(p: float) -> str:
    """A p-value in two digits, never as 0: `0.042`, `3e-09`, `< 1e-16`."""
    return f"<{NBSP}1e-16" if p < 1e-16 else f"{p:.2g}"


def is_clear(p: float) -> bool:
    """Whether a one-sided p-value marks a clear difference: at most 0.05 away from 0 or 1."""
    return p <= _CLEAR or p >= 1 - _CLEAR
