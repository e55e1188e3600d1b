"""kill -9 at any moment, then resume: everything equals an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from allmodes.chem.ledger import read_ledger
from allmodes.chem.policy import RecurrentPolicy, save_policy
from allmodes.chem.tokenizer import SPECIAL_TOKENS, SmilesTokenizer

RECIPE = """
kind = "molecules"
algorithm = ["reinvent", "mara"]
seeds = [5]
budget = 150
screen = 0.4
batch_size = 16
max_tokens = 24
learning_rate = 1e-2
checkpoint_every = 3
threads = 1
workers = {workers}
prior = "{prior}"
mara = {{ threshold = 0.4 }}
scaffold_filter = {{ min_reward = 0.4, bucket_size = 2 }}

[[oracle.components]]
kind = "process"
command = ["{python}", "{oracle}"]
"""

ORACLE = """
import sys, time
for line in sys.stdin:
    time.sleep(0.01)
    open("{calls}", "a").write(line)
    print(min(1.0, line.count("O") / 4 + 0.05 * line.count("N")), flush=True)
"""


def write_recipe(folder: Path, prior: Path, workers: int) -> Path:
    folder.mkdir()
    (folder / "oracle.py").write_text(ORACLE.format(calls=folder / "calls.txt"))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        RECIPE.format(workers=workers, prior=prior, python=sys.executable, oracle=folder / "oracle.py")
    )
    return recipe


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from allmodes.cli import main; main()", "run", *arguments]


@pytest.fixture(scope="module")
def module_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GRU with random weights over atoms of which any chain is a molecule."""
    torch.manual_seed(0)
    policy = RecurrentPolicy(7, cell="gru", hidden_size=16, num_layers=1, embedding_size=8)
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_policy(path, policy, SmilesTokenizer((*SPECIAL_TOKENS, "C", "N", "O", "S")))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, module_prior: Path) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "task"
    recipe = write_recipe(folder, module_prior, workers=1)
    subprocess.run(command(str(recipe), "--out", str(folder / "run")), check=True, capture_output=True)
    return folder / "run"


def steps(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def ledger_rows(run: Path) -> int:
    try:
        return len(read_ledger(run / "ledger.sqlite"))
    except Exception:  # noqa: BLE001 - not created yet, or being created
        return 0


# Before the first checkpoint; in the middle of a batch after one; in the second algorithm, near its end.
MOMENTS = {
    "before the first checkpoint": lambda run: steps(run / "reinvent-5") >= 2,
    "while a batch is scored": lambda run: ledger_rows(run / "reinvent-5") >= 75,
    "near the end": lambda run: ledger_rows(run / "mara-5") >= 140,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_killed_and_resumed_equals_uninterrupted(
    moment: str, workers: int, whole: Path, module_prior: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "task"
    recipe = write_recipe(folder, module_prior, workers)
    run = folder / "run"
    process = subprocess.Popen(
        command(str(recipe), "--out", str(run)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not MOMENTS[moment](run):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "report.html").exists()
    time.sleep(1.5)  # worker processes notice that their parent is gone and leave their locks
    subprocess.run(command("--resume", str(run)), check=True, capture_output=True)

    for job in ("reinvent-5", "mara-5"):
        assert read_ledger(run / job / "ledger.sqlite") == read_ledger(whole / job / "ledger.sqlite")
        for name in ("metrics.jsonl", "result.json", "agent.safetensors"):
            assert (run / job / name).read_bytes() == (whole / job / name).read_bytes(), name
    assert (run / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    report, expected = (path.read_text() for path in (run / "report.html", whole / "report.html"))
    # The two tasks lie in different folders and name them in their components; nothing else may differ.
    assert report.replace(str(folder), "") == expected.replace(str(whole.parent), "")
    # No evaluation was lost: only a molecule that was in the scorer when it was killed is asked for again.
    asked = (folder / "calls.txt").read_text().split()
    results = [row for job in ("reinvent-5", "mara-5") for row in read_ledger(run / job / "ledger.sqlite")]
    assert len(asked) - len(results) <= workers


def test_resume_of_a_finished_run_changes_nothing(whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*.json*")}
    subprocess.run(command("--resume", str(whole)), check=True, capture_output=True)
    assert before == {path: path.read_bytes() for path in whole.rglob("*.json*")}


def test_resume_needs_a_run(tmp_path: Path) -> None:
    done = subprocess.run(command("--resume", str(tmp_path)), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "config.json" in done.stderr
    assert json.dumps(str(tmp_path))[1:-1] in done.stderr
