"""The examples, run as a reader runs them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

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


def test_the_audit_of_plain_trl_leaves_logs_that_can_be_audited(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from allmodes.audit.command import Reading, audit_path

    call = [
        sys.executable,
        str(EXAMPLES / "audit_trl.py"),
        "--trainer",
        "grpo",
        "--out",
        str(tmp_path / "run"),
    ]
    subprocess.run(
        [*call, "--steps", "2", "--base-steps", "5", "--group", "8"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=True,
    )
    console = Console(file=io.StringIO())
    own = audit_path(tmp_path / "run/log", {}, Reading(), out=tmp_path / "own", console=console)
    assert own.config.kl == "k3-in-loss-corrected"
    assert (len(own.log), own.log.ref_logprobs is not None) == (16, True)
    theirs = audit_path(
        tmp_path / "run/trainer/completions", {}, Reading(), out=tmp_path / "trl", console=console
    )
    assert (theirs.columns.format, len(theirs.log)) == ("trl", 16)
    assert torch.equal(own.log.rewards.sort().values, theirs.log.rewards.sort().values)  # type: ignore[union-attr]
