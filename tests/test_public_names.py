"""Every public name is on a page of the Python API, says what it is, and its examples print what they say."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "allmodes"

# What an example would not show: it needs a model, a user's file, or another package, or only holds what a
# function gives. Guides have whole programs for these.
WITHOUT_EXAMPLE = {
    *(
        "ForwardKLTarget",
        "PredictedRatios",
        "MaraResult",
        "IpsResult",
        "Threshold",
        "Summary",
        "Result",
        "Method",
    ),
    *("Task", "WritesExamples", "HasTestPrompts", "Creative", "RewardFunction", "RewardModel", "Judge"),
    *("reasoning_gym_task", "require_reasoning_gym", "Puzzles", "Countdown", "GraphColoring"),
    *("Audit", "Finding", "GRPOTrainer", "RLOOTrainer", "Program", "Regions"),
}
NEEDS = {
    "allmodes.audit": "pydantic",
    "allmodes.chem.benchmarks": "rdkit",
    "allmodes.chem.oracles.components": "pydantic",
    "allmodes.integrations.trl": "trl",
}


def public_modules() -> Iterator[str]:
    """Packages with `__all__`, and the modules of integrations."""
    for file in sorted([*PACKAGE.rglob("__init__.py"), PACKAGE / "integrations" / "trl.py"]):
        assigned = [
            target.id
            for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        if "__all__" in assigned and file != PACKAGE / "__init__.py":
            yield ".".join(file.with_suffix("").relative_to(ROOT / "src").parts).removesuffix(".__init__")


MODULES = list(public_modules())
DOCUMENTED = [name for name in MODULES if name != "allmodes.tasks.hypospace"]  # its names are those of tasks


def documented() -> dict[str, set[str]]:
    """Module → names that have an entry on a page of the API."""
    names: dict[str, set[str]] = {}
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        module = ""
        directive = r"^\.\. (currentmodule|autofunction|autoclass|py:data):: (\S+)$"
        for kind, name in re.findall(directive, page.read_text(encoding="utf-8"), re.MULTILINE):
            if kind == "currentmodule":
                module = name
            else:
                names.setdefault(module, set()).add(name)
    return names


def imported(name: str) -> ModuleType:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return importlib.import_module(name)


def described(module: ModuleType) -> list[str]:
    """Functions and classes whose entry is that of this module; data is described in its page."""
    values = {name: getattr(module, name) for name in documented()[module.__name__]}
    return sorted(
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and value.__name__ == name
    )


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_an_entry(name: str) -> None:
    entries = documented()
    module = imported(name)
    elsewhere = {
        id(getattr(imported(other), entry))
        for other in entries
        if other not in NEEDS and other != name
        for entry in entries[other]
    }
    missing = [
        public
        for public in module.__all__
        if public not in entries.get(name, set()) and id(getattr(module, public)) not in elsewhere
    ]
    assert missing == [], f"add them to a page of docs/api under currentmodule {name}"
    unknown = entries.get(name, set()) - set(module.__all__)
    assert unknown == set()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_says_what_it_is(name: str) -> None:
    module = imported(name)
    for public in described(module):
        value = getattr(module, public)
        doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
        assert doc, f"{name}.{public} has no docstring"
        first = inspect.cleandoc(doc).split("\n\n")[0]
        assert not first.startswith(f"{public}("), f"{name}.{public} has the docstring that a dataclass gets"
        is_table = hasattr(value, "model_fields")  # of keys, which the reference of recipes explains
        if not is_table and public not in WITHOUT_EXAMPLE:
            assert ">>> " in doc, f"{name}.{public} has no example"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_print_what_they_say(name: str) -> None:
    module = imported(name)
    names = {
        "torch": importlib.import_module("torch"),
        **{one: getattr(module, one) for one in module.__all__},
    }
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    failures: list[str] = []

    def examples(public: str, given: dict[str, Any]) -> dict[str, Any]:
        for test in finder.find(getattr(module, public), public, globs=given):
            runner.run(test, out=failures.append, clear_globs=False)
            return test.globs
        return given

    if name == "allmodes.methods":  # examples of methods use the batch of this one
        names = examples("Batch", dict(names))
    for public in described(module):
        examples(public, dict(names))
    assert failures == []


def test_an_example_that_prints_something_else_fails() -> None:
    """The runner is not deaf: a wrong number is a failure."""
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    failures: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=failures.append)
    assert len(failures) == 1
