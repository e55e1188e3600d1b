"""A user's own code: where it is looked for, which files are its own, and what its failures look like."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allmodes.errors import ConfigError, InputError
from allmodes.runs.config import Config, build_config
from allmodes.runs.user_code import (
    CodeFolder,
    PathBesideRecipe,
    Reference,
    call,
    load_object,
    module_files,
)

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py


class Own(Config):
    """A configuration with code and a file of a user's."""

    code: Reference
    folder: CodeFolder = None
    file: PathBesideRecipe = Path("data.txt")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the command; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    modules, path = set(sys.modules), list(sys.path)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(reference: str, folder: Path | None = None) -> object:
    return load_object(reference, folder, where="`code`:")


def test_the_folder_of_the_command_comes_before_the_recipes(here: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (here / "mine_both.py").write_text("where = 'here'\n")
    (beside / "mine_both.py").write_text("where = 'beside'\n")
    (beside / "mine_beside.py").write_text("import mine_helper\nwhere = mine_helper.where\n")
    (beside / "mine_helper.py").write_text("where = 'helper'\n")
    assert load("mine_both:where", beside) == "here"
    assert load("mine_beside:where", beside) == "helper"
    assert module_files("mine_both", beside) == [("mine_both.py", here / "mine_both.py")]
    assert module_files("mine_beside", beside) == [("mine_beside.py", beside / "mine_beside.py")]
    with pytest.raises(ConfigError, match=r"^`code`: cannot import 'mine_nowhere'; ModuleNotFoundError"):
        load("mine_nowhere:where", beside)


def test_a_users_module_does_not_hide_what_is_imported_later(here: Path) -> None:
    """Its folder is first while the module is imported, and last for what the module imports when called."""
    (here / "mine_lazy.py").write_text(
        "import mine_eager\n"
        "def both():\n    import colorsys, mine_late\n    return colorsys.__file__, mine_late.found\n"
    )
    (here / "mine_eager.py").write_text("")
    (here / "mine_late.py").write_text("found = True\n")
    (here / "colorsys.py").write_text("")
    sys.modules.pop("colorsys", None)
    load("mine_lazy:both")
    load("mine_lazy:both")
    assert sys.path.count(str(here)) == 1
    file, found = load("mine_lazy:both")()  # type: ignore[operator]
    assert found
    assert Path(file).parent != here


def test_another_module_of_the_same_name_is_not_taken_for_it(here: Path) -> None:
    (here / "pytest.py").write_text("found = 1\n")
    with pytest.raises(ConfigError, match=r"expected 'pytest' from .*here.*; got .*imported already"):
        load("pytest:found")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", r"^`code`: cannot import 'mine_wrong'; ZeroDivisionError: division by zero$"),
        ("x = (", r"cannot import 'mine_wrong'; SyntaxError: '\(' was never closed"),
        ("other = 1", r"expected 'it' in 'mine_wrong', .*mine_wrong\.py; there is no such name$"),
    ],
)
def test_a_module_that_cannot_be_used_is_one_line(text: str, message: str, here: Path) -> None:
    (here / "mine_wrong.py").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load("mine_wrong:it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('two\\nlines')", r"^`f` raised ValueError: two lines \(mine_calls\.py, line 3\)$"),
        ("return {}['key']", r"^`f` raised KeyError: 'key' \(mine_calls\.py, line 3\)$"),
        ("raise AssertionError", r"^`f` raised AssertionError \(mine_calls\.py, line 3\)$"),
        ("import json; json.loads('{')", r"^`f` raised JSONDecodeError: .* \(mine_calls\.py, line 3\)$"),
        ("import sys; sys.exit(3)", r"^`f` raised SystemExit: 3 \(mine_calls\.py, line 3\)$"),
        ("return f(x)", r"^`f` raised RecursionError: .* \(mine_calls\.py, line 3\)$"),
    ],
)
def test_a_call_that_raises_names_the_line(body: str, message: str, here: Path) -> None:
    (here / "mine_calls.py").write_text(f"\ndef f(x):\n    {body}\n")
    function: Callable[..., object] = load("mine_calls:f")  # type: ignore[assignment]
    with pytest.raises(InputError, match=message) as caught:
        call("`f`", function, 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^`f` raised TypeError: .*positional argument[^(]*$"):
        call("`f`", function)
    assert call("`g`", max, [1, 3]) == 3


def test_the_recipes_folder_is_kept_and_its_files_are_found(here: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "data.txt").write_text("")
    values = {"code": "m:f"}
    config = build_config(Own, {**values, "file": "data.txt"}, source="x", recipe_folder=beside)
    assert (config.folder, config.file) == (beside, beside / "data.txt")
    assert build_config(Own, config.model_dump(), source="x") == config  # as a resumed run reads it
    (here / "data.txt").write_text("")
    config = build_config(Own, {**values, "file": "data.txt"}, source="x", recipe_folder=beside)
    assert config.file == Path("data.txt")
    assert build_config(Own, values, source="x").folder is None
    config = build_config(Own, {**values, "file": "none.txt"}, source="x", recipe_folder=beside)
    assert config.file == Path("none.txt")  # as the recipe has it, for the message
    with pytest.raises(ConfigError, match=r"`code`: expected .*; got 'm'"):
        build_config(Own, {"code": "m"}, source="x")


def test_a_function_beside_its_recipe_is_found(command: Command, tmp_path: Path) -> None:
    """From a folder that is another than the recipe's, in the oracle's own process."""
    pytest.importorskip("rdkit")
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "beside_recipe.py").write_text("def score(smiles):\n    return 0.5\n")
    recipe = tmp_path / "recipe" / "mine.toml"
    recipe.write_text(
        'kind = "molecules"\nalgorithm = "mara"\nbudget = 20\nhit_threshold = 0.5\n'
        '[[oracle.components]]\nkind = "function"\nfunction = "beside_recipe:score"\n'
    )
    code, out, err = command("run", recipe, "--dry-run")
    assert (code, err) == (0, "")
    assert json.loads(out)["oracle"]["components"][0]["folder"] == str(tmp_path / "recipe")
