"""What a user is told to type where a package is missing, for each way in which allmodes came to them."""

import importlib.metadata
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from allmodes import extras
from allmodes.errors import ConfigError


def comes_from(monkeypatch: pytest.MonkeyPatch, record: dict[str, Any] | None, package: Path) -> None:
    """Installed as pip records it (None: from an index), with its code at `package`."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if record is None else json.dumps(record)

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    monkeypatch.setattr(extras, "__file__", str(package / "allmodes" / "extras.py"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    return folder


def source(command: str) -> list[str]:
    """The arguments of `pip install`, as a shell splits them."""
    words = shlex.split(command)
    return words[words.index("install") + 1 :]


def test_from_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    comes_from(monkeypatch, None, tmp_path / "lib" / "python" / "site-packages")
    command = extras.how_to_install("chem,report")
    assert command.endswith("pip install 'allmodes[chem,report]'")  # zsh reads [ ] outside of quotes


def test_from_an_editable_clone(monkeypatch: pytest.MonkeyPatch, clone: Path) -> None:
    comes_from(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": True}}, clone / "src")
    assert source(extras.how_to_install("text")) == ["-e", f"{clone}[text]"]
    monkeypatch.chdir(clone)
    assert source(extras.how_to_install("text")) == ["-e", ".[text]"]
    monkeypatch.chdir(clone.parent)
    assert source(extras.how_to_install("text")) == ["-e", "a clone[text]"]


def test_copied_from_a_clone(monkeypatch: pytest.MonkeyPatch, clone: Path, tmp_path: Path) -> None:
    comes_from(monkeypatch, {"url": clone.as_uri(), "dir_info": {}}, tmp_path / "site-packages")
    assert source(extras.how_to_install("text")) == [f"{clone}[text]"]


def test_from_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = {"url": "https://example.org/allmodes.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}
    comes_from(monkeypatch, record, tmp_path / "lib" / "python" / "site-packages")
    expected = "allmodes[text] @ git+https://example.org/allmodes.git"
    assert source(extras.how_to_install("text")) == [expected]


def test_on_the_path_without_an_installation(monkeypatch: pytest.MonkeyPatch, clone: Path) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    monkeypatch.setattr(extras, "__file__", str(clone / "src" / "allmodes" / "extras.py"))
    assert source(extras.how_to_install("text")) == ["-e", f"{clone}[text]"]


def test_pip_is_this_pythons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A shell that has not activated the environment would install into another one."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(extras.shutil, "which", lambda name: "/usr/bin/pip")
    assert shlex.split(extras.how_to_install("text"))[:3] == [sys.executable, "-m", "pip"]
    monkeypatch.chdir(tmp_path)
    assert extras.how_to_install("text").startswith("bin/python -m pip install ")
    monkeypatch.setattr(extras.shutil, "which", lambda name: str(tmp_path / "bin" / "pip"))
    assert extras.how_to_install("text").startswith("pip install ")


def test_the_first_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vina" else object())
    extras.require("docking needs", "meeko", extras="chem")
    with pytest.raises(ConfigError) as caught:
        extras.require("docking needs", "meeko", "vina", extras="chem")
    assert str(caught.value) == f"docking needs `{extras.how_to_install('chem')}`; vina is not installed"
