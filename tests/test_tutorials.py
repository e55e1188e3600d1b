"""Tutorials and notebooks: every command runs, programs are those that are shown, figures are computed."""

import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
NOTEBOOKS = ROOT / "docs" / "notebooks"
WITHOUT_MODEL = ("see-the-optimum", "fix-grpo", "audit-your-log")


def commands(tutorial: str) -> list[list[str]]:
    text = (TUTORIALS / f"{tutorial}.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("allmodes ")]


def exit_code(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("tutorial", WITHOUT_MODEL)
def test_every_command_of_a_tutorial_runs(
    tutorial: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from allmodes.cli import main

    monkeypatch.chdir(tmp_path)
    ran = commands(tutorial)
    assert len(ran) >= 3
    for _, *arguments in ran:
        monkeypatch.setattr("sys.argv", ["allmodes", *arguments])
        assert exit_code(main) == 0, arguments
    printed = " ".join(capsys.readouterr().out.split())
    if tutorial == "fix-grpo":
        text = (TUTORIALS / "fix-grpo.md").read_text(encoding="utf-8")
        (quoted,) = re.findall(r"^> (.*), \.\.\.$", text, re.MULTILINE)
        assert quoted in printed
        assert "Will this objective collapse? No." in printed  # with MARA
    if tutorial == "see-the-optimum":
        assert "MARA 4.0 of 4" in printed
        assert "MARA under reverse KL is reward-multimodal for beta < 0.227" in printed


def test_the_tutorial_on_trl_shows_the_example() -> None:
    program = (ROOT / "examples" / "trl_colours.py").read_text(encoding="utf-8")
    text = (TUTORIALS / "trl.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(shown) == 2
    assert all(block in program for block in shown)


def test_the_example_of_the_tutorial_on_trl_trains_and_can_be_audited(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from allmodes.audit.command import Reading, audit_path
    from tiny_lm import TEMPLATE, WORDS, save_tiny_lm

    words = [*WORDS[:6], ".", "red", "orange", "yellow", "green", "blue", "indigo", "violet", "name"]
    save_tiny_lm(tmp_path / "model", words, template=TEMPLATE)
    arguments = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "run"), "--steps", "2"]
    subprocess.run(
        [sys.executable, str(ROOT / "examples" / "trl_colours.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=True,
    )
    console = Console(file=io.StringIO())
    audit = audit_path(tmp_path / "run" / "log", {}, Reading(), out=tmp_path / "audit", console=console)
    assert (audit.config.transform, audit.config.beta, audit.config.kl) == ("mara", 0.05, "k1-in-reward")
    assert len(audit.log) == 32
    assert audit.log.ref_logprobs is not None


def run_notebook(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    names = runpy.run_path(str(NOTEBOOKS / f"{name}.py"))
    return names, capsys.readouterr().out


def test_every_notebook_is_tested_here() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == {"own_outcomes", "small_world", "audit_log"}


def test_the_notebook_on_own_outcomes_says_what_enumeration_says(capsys: pytest.CaptureFixture[str]) -> None:
    names, printed = run_notebook("own_outcomes", capsys)
    weights = names["reference"].exp() * torch.exp(names["rewards"] / 0.1)
    expected = weights / weights.sum()
    rows = {line[:14].strip(): line[14:].split() for line in printed.splitlines() if line[:1].isalpha()}
    assert float(printed.splitlines()[1][14:].split()[1]) == pytest.approx(float(expected[0]), abs=1e-4)
    assert "good kept: 4.00 of 4" in printed
    assert printed.count(": 200\n") == 3  # the ratio of two equals at each β
    # IPS: rewards over their sum.
    assert float(rows["off topic"][0]) == pytest.approx(0.1 / 5.2, abs=1e-4)


def test_the_notebook_on_a_small_world_arrives_at_each_optimum(capsys: pytest.CaptureFixture[str]) -> None:
    _, printed = run_notebook("small_world", capsys)
    distances = [float(found) for found in re.findall(r"total variation: (\S+)", printed)]
    assert len(distances) == 3
    assert max(distances) < 0.02
    tables = [table.splitlines()[1:7] for table in printed.split("reward   reference  trained  optimum")[1:]]
    plain, mara, ips = [[float(row.split()[2]) for row in table] for table in tables]
    assert plain[3] / plain[5] == pytest.approx(10, rel=0.1)  # the reference's ratio of two equals
    assert max(mara[2:]) - min(mara[2:]) < 0.01
    assert ips[0] / ips[3] == pytest.approx(0.2, rel=0.1)


def test_the_notebook_on_audits_finds_the_collapse_and_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    names, printed = run_notebook("audit_log", capsys)
    assert "Will this objective collapse? Yes." in printed
    assert names["audit"].of("AM010").state == "issue"
    assert names["with_mara"].of("AM010").state == "passed"
    text = (NOTEBOOKS / "audit_log.py").read_text(encoding="utf-8")
    numbers = names["audit"].of("AM010").numbers
    assert f"So {numbers['effective'].value:.2f} of {numbers['good']:.2f} good answers" in text
    assert f"{100 * numbers['top_share'].value:.0f} % of their mass" in text
