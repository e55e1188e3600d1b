"""The demo's lines are the optima of `allmodes target`, one a method, at any width."""

import io

import pytest
from rich.console import Console

from allmodes.cli.samples import SAMPLES
from allmodes.methods import METHODS
from allmodes.worlds.own_outcomes.demo import BETA, THRESHOLD, show_collapse
from allmodes.worlds.own_outcomes.optima import explain_optimum
from allmodes.worlds.own_outcomes.table import read_outcomes
from allmodes.worlds.own_outcomes.warnings import percent

SAMPLE = SAMPLES / "outcomes.csv"


def shown(width: int, *, color: bool = False) -> list[str]:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=color, color_system="truecolor" if color else None
    )
    show_collapse(SAMPLE, console=console)
    return stream.getvalue().splitlines()


def test_every_method_has_a_line_with_its_optimum_or_a_reason() -> None:
    optima = explain_optimum(
        read_outcomes(SAMPLE), betas=[BETA], kl="reverse", threshold=THRESHOLD, methods=["all"]
    )
    lines = shown(124)
    known = set()
    for optimum in optima:
        (line,) = (line for line in lines if line.startswith(f"{optimum.source.label}  "))
        known.add(optimum.source.label)
        start = line.index("%") + 3
        assert line[:start].split("  ")[-2].strip() == percent(optimum.good_mass)
        assert f"{optimum.good_modes:.1f} of 4" in line
        bar = line[start:]
        for letter, i in zip("ABCD", (0, 1, 2, 3), strict=True):
            assert bar.count(letter) == pytest.approx(float(optimum.logprobs[i].exp()) * len(bar), abs=1)
    text = " ".join(" ".join(lines).split())
    for method in METHODS.values():
        assert method.label in known or f"{method.label} under reverse KL is left out" in text
    assert {"vanilla", "MARA", "IPS", "OMM"} <= known


def test_a_new_method_has_a_line_without_further_ado(toy_method: type) -> None:
    assert any(line.startswith(f"{toy_method.label}  ") for line in shown(100))  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 55, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = shown(width)
    bars = [line for line in lines if line.strip() and set(line.split()[-1]) <= set("ABCD.")]
    assert len([bar for bar in bars if len(bar.split()[-1]) > 1]) >= 13
    assert all(len(line) <= width for line in bars)
    longest = max(len(bar.split()[-1]) for bar in bars)
    assert longest == min(100, width - 2 if width < 68 else width - 44)


def test_a_terminal_gets_the_colour_of_each_method() -> None:
    text = "\n".join(shown(100, color=True))
    for name in ("mara", "ips", "outcome_matching"):
        red, green, blue = (int(METHODS[name].color[at : at + 2], 16) for at in (1, 3, 5))
        assert f"48;2;{red};{green};{blue}m" in text
