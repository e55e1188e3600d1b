"""No test uses the network: libraries that would ask a model hub, and wait for it, are told so."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from allmodes.cli import main

os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Cases of bytes are numbered: bytes such as gzip's hold the time, and workers must agree on the ids."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """What the imports have left stays: no collection looks at it again, of which trainers ask for many."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`allmodes` with arguments, in this process and a folder of its own: exit code, what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["allmodes", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def toy_method(monkeypatch: pytest.MonkeyPatch) -> type:
    """A method that is in `METHODS` for the time of a test, as if its module and its line were there."""
    from allmodes.methods import METHODS
    from method_cases import Toy

    monkeypatch.setitem(METHODS, Toy.name, Toy)
    return Toy


@pytest.fixture(scope="session")
def molecules_file() -> Path:
    """62 medicines and common compounds, one SMILES and one name a line."""
    return Path(__file__).parent / "data" / "molecules.smi"


@pytest.fixture(scope="session")
def molecules(molecules_file: Path) -> list[str]:
    """The SMILES of `molecules_file` as they are written there."""
    return [line.split()[0] for line in molecules_file.read_text(encoding="utf-8").splitlines()]
