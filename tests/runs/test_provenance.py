import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

import allmodes
from allmodes.runs.provenance import file_sha256, provenance, shown_command


def test_versions_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["allmodes", "run", "recipe.toml", "--budget", "5"])
    facts = json.loads(json.dumps(provenance(), allow_nan=False))
    assert facts["command"] == ["allmodes", "run", "recipe.toml", "--budget", "5"]
    assert abs(
        datetime.now(UTC) - datetime.strptime(facts["date"], "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC)
    ) < timedelta(hours=1)
    assert facts["allmodes"] == allmodes.__version__
    assert facts["python"] == platform.python_version()
    assert facts["versions"]["torch"] == importlib.metadata.version("torch")
    assert facts["versions"]["numpy"] == importlib.metadata.version("numpy")
    assert facts["machine"]["torch_threads"] == torch.get_num_threads()
    assert facts["machine"]["system"] == platform.platform()
    assert isinstance(facts["machine"]["processor"], str)


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name != "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert provenance()["versions"] == {"torch": real("torch")}


def test_commit_of_a_source_checkout_is_its_head() -> None:
    root = Path(allmodes.__file__).resolve().parents[2]
    commit = provenance()["git_commit"]
    if not (root / ".git").exists():
        assert commit is None
        return

    def resolve(name: str) -> str:
        command = ["git", "-C", str(root), "rev-parse", "--verify", f"{name}^{{commit}}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert resolve(commit.removesuffix("-dirty")) == resolve("HEAD")


def test_no_git_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["git_commit"] is None


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    large = bytes(range(256)) * 5000
    path.write_bytes(large)
    assert file_sha256(path) == hashlib.sha256(large).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/home/me/.venv/bin/allmodes", "run", "my recipe.toml"], "allmodes run 'my recipe.toml'"),
        (["/src/allmodes/cli/__main__.py", "target", "a.csv"], "allmodes target a.csv"),
        (["/home/me/train.py", "--beta", "0.1"], "train.py --beta 0.1"),
        (["-c"], "python"),
        (
            ["allmodes", "audit", "/home/me/log/a.jsonl", "--out=/tmp/x"],
            "allmodes audit .../a.jsonl --out=.../x",
        ),
        (["/lib/ipykernel_launcher.py", "-f", "/home/me/kernel.json"], "a notebook"),
        (["allmodes", "audit", "a\nb\udc80\x1b[2J"], "allmodes audit 'a b??[2J'"),
    ],
)
def test_a_command_as_it_was_typed(arguments: list[str], text: str) -> None:
    assert shown_command(arguments) == text
