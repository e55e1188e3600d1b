"""What importing allmodes brings in, and what it must do without. Needs the core dependencies alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = ("rdkit", "matplotlib", "transformers", "trl", "jinja2", "yaml", "scipy", "hypothesis")

WATCH = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Missing())
CODE
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def modules_after(code: str, *, blocked: tuple[str, ...] = ()) -> set[str]:
    """Top-level modules of a fresh interpreter after `code`, with some of them not to be found."""
    command = [sys.executable, "-c", WATCH.replace("CODE", code), json.dumps(blocked)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("code", ["import allmodes", "import allmodes.objectives, allmodes.metrics"])
def test_the_core_brings_in_no_extras(code: str) -> None:
    found = modules_after(code)
    assert "allmodes" in found
    assert not found & set(EXTRAS)


@pytest.mark.parametrize("code", ["import allmodes.objectives, allmodes.metrics", "import allmodes.methods"])
def test_the_numeric_core_stands_on_torch_alone(code: str) -> None:
    blocked = (*EXTRAS, "pydantic", "rich", "tyro", "safetensors")
    found = modules_after(code, blocked=blocked)
    assert "torch" in found


def test_methods_bring_in_what_torch_does_and_no_more() -> None:
    own = modules_after("import allmodes.methods") - modules_after("import torch")
    assert own - set(sys.stdlib_module_names) == {"allmodes"}


def test_runs_need_no_extras() -> None:
    names = ("runs.checkpoint", "runs.config", "runs.files", "runs.folder", "chem.config", "reports.progress")
    code = f"import {', '.join(f'allmodes.{name}' for name in names)}, allmodes.runs.provenance, allmodes.cli"
    found = modules_after(code, blocked=EXTRAS)
    assert {"torch", "pydantic", "safetensors"} <= found


def test_the_command_line_imports_nothing_heavy_before_it_must() -> None:
    found = modules_after("import allmodes.cli")
    assert not found & {*EXTRAS, "torch", "numpy"}


def test_the_demo_and_the_explorer_need_no_extras(tmp_path: Path) -> None:
    code = f"""
from allmodes.cli import main
for arguments in (["demo", "collapse"], ["explore", "--out", {str(tmp_path / "page.html")!r}]):
    sys.argv = ["allmodes", *arguments]
    try:
        main()
    except SystemExit as left:
        assert left.code == 0
"""
    assert not modules_after(code, blocked=EXTRAS) & {*EXTRAS}
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["chem", "pretrain", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
from allmodes.cli import main
sys.argv = ["allmodes", *{arguments!r}]
try:
    main()
except SystemExit as left:
    assert left.code == 0
else:
    raise AssertionError("--help went on")
"""
    assert not modules_after(code) & {*EXTRAS, "torch", "numpy"}
