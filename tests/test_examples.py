"""The examples, run as a reader runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# An import of one of these fails, as where they are not installed.
RUN = (
    "import runpy, sys; sys.modules |= dict.fromkeys(['trl', 'transformers', 'accelerate', 'peft']); "
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)


def test_the_plain_loop_is_short_and_ends_flat_with_mara_alone_and_needs_no_trainer() -> None:
    script = EXAMPLES / "plain_loop.py"
    assert len(script.read_text().splitlines()) < 60
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert run.stderr == ""
    printed = {name: [float(p) for p in rest] for name, *rest in map(str.split, run.stdout.splitlines())}
    assert printed.keys() == {"before", "vanilla", "MARA"}
    assert max(printed["before"]) < 0.05  # good words are rare at first
    # Vanilla's optimum is π_ref exp(R/β): from .015, .004, .013, .007 and 1, .9, .8, .8 at β = .1.
    weights = [
        p * factor for p, factor in zip(printed["before"], (1, 0.367879, 0.135335, 0.135335), strict=True)
    ]
    optimum = [weight / sum(weights) for weight in weights]
    assert printed["vanilla"] == pytest.approx(optimum, abs=0.04)
    assert max(printed["vanilla"]) > 0.7
    assert printed["MARA"] == pytest.approx([0.25] * 4, abs=0.02)
