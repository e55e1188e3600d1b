"""One colour a method, from one place: nothing outside `methods/` pairs a method with a colour of its own."""

import ast
from pathlib import Path

import pytest

import allmodes
from allmodes.methods import METHODS, Then, color_of, make_method
from allmodes.reports import plotting
from allmodes.worlds import training
from allmodes.worlds.training import Training

SOURCE = Path(allmodes.__file__).parent
HUES = {name for name in vars(plotting) if isinstance(getattr(plotting, name), str) and name.isupper()} - {
    "INK", "MUTED", "FAINT",
}  # fmt: skip
COLORS = {method.color.lower() for method in METHODS.values()} | {
    getattr(plotting, name).lower() for name in HUES
}
NAMES = {text.lower() for m in METHODS.values() for text in (m.name, m.label)} | {"grpo", "rloo", "ips-grpo"}
IDENTIFIERS = {method.__name__ for method in METHODS.values()} | {
    name for name, value in vars(training).items() if isinstance(value, Training)
}


def colored_methods(source: str) -> list[int]:
    """Lines of the dictionaries, and of the tuples, in which a method stands beside a colour."""
    tree = ast.parse(source)
    methods = IDENTIFIERS | _assigned_trainings(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key]
        elif isinstance(node, ast.Tuple):
            pairs = [(first, second) for first in node.elts for second in node.elts if first is not second]
        else:
            continue
        if any(_is_method(first, methods) and _has_color(second) for first, second in pairs):
            found.append(node.lineno)
    return found


def _assigned_trainings(tree: ast.Module) -> set[str]:
    """Names of a module's own trainings, such as MARA_REVERSE = Training(...)."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name) and node.value.func.id in ("Training", "replace")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_method(node: ast.expr, methods: set[str]) -> bool:
    if isinstance(node, ast.Attribute):  # MARA.name
        return _is_method(node.value, methods)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.lower().split("\n")[0] in NAMES
    return isinstance(node, ast.Name) and node.id in methods


def _has_color(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(
        (isinstance(part, ast.Name) and part.id in HUES)
        or (isinstance(part, ast.Constant) and str(part.value).lower() in COLORS)
        for part in parts
    )


@pytest.mark.parametrize(
    "source",
    [
        "looks = {REVERSE_KL.name: BLUE}",
        "looks = {'MARA': '#0072B2'}",
        "looks = {'GRPO': (ORANGE, 's')}",
        "rows = ((IPS_EXACT, 'exact', BLUE),)",
        "OURS = Training(name='ours')\nrows = [(OURS, 'ours', PURPLE)]",
    ],
)
def test_a_method_with_a_colour_is_found(source: str) -> None:
    assert colored_methods(source) == [source.count("\n") + 1]


@pytest.mark.parametrize("source", ["looks = {'left': BLUE}", "looks = {'MARA': '*'}", "x = (MARA, 0.1)"])
def test_a_colour_of_something_else_is_no_fault(source: str) -> None:
    assert colored_methods(source) == []


def test_only_methods_give_methods_colours() -> None:
    found = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        if "methods" not in path.parts[-2:-1]
        if (lines := colored_methods(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_composition_has_the_colour_of_its_first_part_by_name_and_as_a_method() -> None:
    both = make_method("ips+entropy")
    assert isinstance(both, Then)
    assert both.color == color_of("ips+entropy") == METHODS["ips"].color
    assert Training(name="both", kl="none", method=both).color == both.color
