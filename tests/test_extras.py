"""What a user is told to type where a package is missing, for each way in which allmodes came to them."""

import ast
import importlib.metadata
import importlib.util
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allmodes import extras
from allmodes.errors import ConfigError

ROOT = Path(__file__).parents[1]


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


def declared(extra: str) -> set[str]:
    """The packages that an extra names, and those of the extras that it is made of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = set()
    for requirement in project["optional-dependencies"][extra]:
        if others := re.match(r"allmodes\[(.*)]$", requirement):
            found |= set().union(*map(declared, others[1].split(",")))
        else:
            found.add(re.split(r"[^\w-]", requirement)[0].lower())
    return found


def required() -> Iterator[tuple[str, list[str], str]]:
    """Every call of `require` and `how_to_install` in the package: where, its modules, its extras."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        code = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(code)) if "allmodes.extras" in code else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            given = {k.arg: k.value for k in node.keywords}.get("extras")
            if node.func.id == "how_to_install":
                given = node.args[0]
            elif node.func.id != "require":
                continue
            if isinstance(given, ast.Constant):
                modules = [a.value for a in node.args if isinstance(a, ast.Constant)]
                modules = modules[1:] if isinstance(node.args[0], ast.Constant) else modules
                yield f"{file.name}:{node.lineno}", modules, given.value


def test_every_extra_that_is_named_brings_what_is_missing() -> None:
    calls = list(required())
    assert len(calls) > 30
    transitive = {"tokenizers": "transformers"}  # comes with it
    for where, modules, names in calls:
        brought = set().union(*map(declared, names.split(",")))
        for module in modules:
            package = transitive.get(module, module).lower().replace("_", "-")
            assert package in brought, f"{where}: {module} is not in {names}"


def test_every_component_names_the_extra_of_its_engines() -> None:
    from allmodes.chem.oracles.components import KINDS

    assert {component.extra for component in KINDS.values()} == {"chem", "docking", "retrosynthesis"}
    for component in KINDS.values():
        assert set(component.engines) <= declared(component.extra), component


def test_the_demo_needs_neither_docking_nor_language_models() -> None:
    """`make demo` installs these alone; each of the others is of tens of MB or more."""
    assert declared("chem") == {"rdkit", "sqlalchemy"}
    assert declared("report") == {"jinja2", "matplotlib"}
    assert "--editable '.[chem,report]'" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "extra", "missing"),
    [
        (["chem", "receptor", "1abc.pdb", "--out", "receptor"], "docking", "gemmi"),
        (["chem", "score", "a.smi", "--oracle", "a.toml", "--out", "scores"], "retrosynthesis", "syntheseus"),
        (["run", "one-two", "--dry-run"], "text,report", "trl"),
    ],
)  # fmt: skip
def test_without_an_extra_a_command_names_it(
    arguments: list[str], extra: str, missing: str, tmp_path: Path
) -> None:
    """In a Python that has what the demo needs: other packages are hidden, also from its workers."""
    pytest.importorskip("rdkit")
    import os
    import subprocess

    hidden = (
        "gemmi",
        "meeko",
        "openmm",
        "pdbfixer",
        "ray",
        "scipy",
        "syntheseus",
        "transformers",
        "trl",
        "vina",
    )
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.machinery, sys\n"
        "find = importlib.machinery.PathFinder.find_spec\n"
        f"hidden = {hidden!r}\n"
        "def without(name, path=None, target=None):\n"
        "    return None if name in hidden else find(name, path, target)\n"
        "importlib.machinery.PathFinder.find_spec = without\n"
    )
    (tmp_path / "a.smi").write_text("CCO\n")
    (tmp_path / "a.toml").write_text('[[oracle.components]]\nkind = "retrosynthesis"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "allmodes.cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert f"[{extra}]'`; {missing} is not installed" in line


def test_documents_install_what_is_declared_from_a_clone_and_quoted() -> None:
    """allmodes is on no index, and zsh reads brackets outside of quotes."""
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [
        line
        for document in documents
        for line in document.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install [^`#]*\[", line)
    ]
    assert len(lines) > 10
    for line in lines:
        found = re.search(r"pip install -e '\.\[([\w,-]+)]'", line)
        assert found is not None, line
        for extra in found[1].split(","):
            declared(extra)
