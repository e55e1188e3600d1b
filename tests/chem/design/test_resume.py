"""kill -9 at any moment, then resume: everything equals an uninterrupted run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.policies.policy import Cell, RecurrentPolicy, save_policy
from allmodes.chem.policies.tokenizer import SPECIAL_TOKENS, SmilesTokenizer
from pages import without_origin
from processes import start_command

Command = Callable[..., tuple[int, str, str]]

RECIPE = """
kind = "molecules"
algorithm = ["reinvent", "mara"]
seeds = [5]
budget = {budget}
precision = "{precision}"
screen = 0.4
batch_size = 16
max_tokens = 24
learning_rate = 1e-2
checkpoint_every = 3
threads = {threads}
workers = {workers}
prior = "{prior}"
mara = {{ threshold = {threshold} }}
scaffold_filter = {{ min_reward = 0.4, bucket_size = 2 }}

[[oracle.components]]
kind = "process"
command = ["{python}", "{oracle}"]
protocol = "json"
"""

ORACLE = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    smiles = request["smiles"]
    time.sleep(0.01)
    open("{calls}", "a").write(smiles + "\\n")
    value = min(1.0, smiles.count("O") / 4 + 0.05 * smiles.count("N"))
    print(json.dumps({{"id": request["id"], "value": value}}), flush=True)
"""


DEFAULTS = {"budget": 150, "precision": "float32", "threads": 1, "threshold": "0.4", "workers": 1}


def write_recipe(folder: Path, prior: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / "oracle.py").write_text(ORACLE.format(calls=folder / "calls.txt"))
    recipe = folder / "recipe.toml"
    paths = {"prior": prior, "python": sys.executable, "oracle": folder / "oracle.py"}
    recipe.write_text(RECIPE.format(**{**DEFAULTS, **paths, **changes}))
    return recipe


@pytest.fixture(scope="module")
def module_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_prior(tmp_path_factory.mktemp("prior") / "tiny.safetensors", cell="gru", hidden_size=16)


def small_prior(path: Path, *, cell: Cell, hidden_size: int) -> Path:
    """Random weights over atoms of which any chain is a molecule."""
    torch.manual_seed(0)
    policy = RecurrentPolicy(7, cell=cell, hidden_size=hidden_size, num_layers=1, embedding_size=8)
    save_policy(path, policy, SmilesTokenizer((*SPECIAL_TOKENS, "C", "N", "O", "S")))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, module_prior: Path) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "task"
    recipe = write_recipe(folder, module_prior)
    finish(start_command("run", recipe, "--out", folder / "run"))
    return folder / "run"


def finish(process: BaseProcess) -> None:
    process.join()
    assert process.exitcode == 0


def steps(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def ledger_rows(run: Path) -> int:
    try:
        return len(read_ledger(run / "ledger.sqlite"))
    except Exception:  # noqa: BLE001 - not created yet, or being created
        return 0


JOBS = ("reinvent-5", "mara-5")

# Before the first checkpoint; in the middle of a batch after one; in the second algorithm, near its end.
MOMENTS = {
    "before the first checkpoint": lambda run: steps(run / "reinvent-5") >= 2,
    "while a batch is scored": lambda run: ledger_rows(run / "reinvent-5") >= 75,
    "near the end": lambda run: ledger_rows(run / "mara-5") >= 140,
}


# With two processes both algorithms run at once: one moment is like another. In this one both are unfinished.
@pytest.mark.parametrize(
    ("moment", "workers"), [*((moment, 1) for moment in MOMENTS), ("while a batch is scored", 2)]
)
def test_killed_and_resumed_equals_uninterrupted(
    moment: str, workers: int, whole: Path, module_prior: Path, tmp_path: Path, command: Command
) -> None:
    """Three processes: the uninterrupted run's, that of the killed one, and this one, which resumes."""
    folder = tmp_path / "task"
    recipe = write_recipe(folder, module_prior, workers=workers)
    run = folder / "run"
    kill_at(MOMENTS[moment], run, start_command("run", recipe, "--out", run))
    assert not (run / "report.html").exists()
    assert command("run", "--resume", run)[0] == 0

    assert_same(run, whole)
    # No evaluation was lost: only a molecule that was in the scorer when it was killed is asked for again,
    # and ethanol twice, before each start.
    asked = (folder / "calls.txt").read_text().split()
    results = [row for job in JOBS for row in read_ledger(run / job / "ledger.sqlite")]
    assert len(asked) - len(results) <= workers + 2


def kill_at(moment: Callable[[Path], bool], run: Path, process: BaseProcess) -> None:
    deadline = time.monotonic() + 120
    while not moment(run):
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    time.sleep(1.5)  # worker processes notice that their parent is gone and leave their locks


def assert_same(run: Path, whole: Path) -> None:
    """Everything that a run leaves behind, but for timings, equals the uninterrupted run's."""
    for job in JOBS:
        assert read_ledger(run / job / "ledger.sqlite") == read_ledger(whole / job / "ledger.sqlite")
        for name in ("metrics.jsonl", "samples.jsonl", "result.json", "agent.safetensors"):
            assert (run / job / name).read_bytes() == (whole / job / name).read_bytes(), name
    assert (run / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    paths = (run / "report.html", whole / "report.html")
    report, expected = (without_origin(path.read_text()) for path in paths)
    # The two tasks lie in different folders and name them in their components; nothing else may differ.
    assert report.replace(str(run.parent), "") == expected.replace(str(whole.parent), "")


def test_lstm_in_bfloat16_on_two_threads_resumes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the recipe runs it: oneDNN's recurrent layers on several threads; the threshold a quantile."""
    # Two threads that wait for one another on a busy machine sleep instead of spinning.
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    prior = small_prior(tmp_path / "lstm.safetensors", cell="lstm", hidden_size=64)
    changes = {"budget": 100, "precision": "bfloat16", "threads": 2, "threshold": "{ batch_quantile = 0.8 }"}
    whole, run = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    first, second = (write_recipe(folder.parent, prior, **changes) for folder in (whole, run))
    finish(start_command("run", first, "--out", whole, is_copy=False))
    killed = start_command("run", second, "--out", run, is_copy=False)
    kill_at(lambda run: ledger_rows(run / "mara-5") >= 70, run, killed)
    finish(start_command("run", "--resume", run, is_copy=False))
    assert_same(run, whole)


def test_a_full_disk_is_one_line_and_the_run_goes_on_with_room(
    module_prior: Path, tmp_path: Path, command: Command
) -> None:
    recipe = write_recipe(tmp_path / "task", module_prior, budget=60)
    run = tmp_path / "task" / "run"
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "from allmodes.cli import main; main()"
    )
    arguments = [sys.executable, "-c", limited, "run", str(recipe), "--out", str(run)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("allmodes: cannot write")
    assert "Traceback" not in done.stderr
    assert not list(run.rglob("*tmp*"))
    assert command("run", "--resume", run)[0] == 0
    assert len(read_ledger(run / "mara-5" / "ledger.sqlite")) == 60


def assert_ends_soon(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_a_hanging_program_ends_with_a_killed_run(module_prior: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "task", module_prior)
    pid_file = tmp_path / "pid"
    (tmp_path / "task" / "oracle.py").write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    if json.loads(line)['smiles'] == 'CCO':\n"
        "        print(json.dumps({'id': json.loads(line)['id'], 'value': 0.5}), flush=True)\n"
        "    else:\n"
        f"        open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(1000)\n"
    )
    run = tmp_path / "task" / "run"
    process = start_command("run", recipe, "--out", run)
    kill_at(lambda _: pid_file.exists() and pid_file.read_text() != "", run, process)
    assert_ends_soon(int(pid_file.read_text()))


def test_resume_of_a_finished_run_changes_nothing(whole: Path, command: Command) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*.json*")}
    assert command("run", "--resume", whole)[0] == 0
    assert before == {path: path.read_bytes() for path in whole.rglob("*.json*")}


def test_resume_needs_a_run(command: Command, tmp_path: Path) -> None:
    code, _, error = command("run", "--resume", tmp_path)
    assert code == 2
    assert error.count("\n") == 1
    assert "config.json" in error
    assert json.dumps(str(tmp_path))[1:-1] in error


STUCK = """
import ctypes, os
def score(smiles):
    open({pid_file!r}, "w").write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(1000)  # no other thread gets a turn, as with Vina
"""
DRIVER = """
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.oracles.config import OracleConfig
component = {"name": "stuck", "kind": "function", "function": "stuck:score"}
with ComponentOracle(OracleConfig.model_validate({"components": [component]})) as oracle:
    oracle.submit(["CCO"])[0].result()
"""


def test_a_worker_whose_threads_all_stand_still_ends_with_a_killed_run(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    (tmp_path / "stuck.py").write_text(STUCK.format(pid_file=str(pid_file)))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    assert_ends_soon(int(pid_file.read_text()))
