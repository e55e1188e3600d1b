"""A user's own Python code, `module:object` in a recipe: where it is found, its files, its import, its calls.

A module is looked for in the folder of the command, then beside the recipe, then wherever Python looks.
"""

import contextlib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from allmodes.errors import ConfigError, InputError, one_line

_RECIPE_FOLDER = "recipe_folder"  # in the context that `build_config` validates in


def _recipe_folder(folder: Path | None, info: ValidationInfo) -> Path | None:
    given = (info.context or {}).get(_RECIPE_FOLDER) if folder is None else folder
    return None if given is None else Path(given).absolute()


def _beside_recipe(path: Path, info: ValidationInfo) -> Path:
    """A file of the folder of the command, or where there is none the recipe's."""
    folder = (info.context or {}).get(_RECIPE_FOLDER)
    beside = None if folder is None or path.is_absolute() else Path(folder).absolute() / path
    return beside if beside is not None and beside.exists() and not path.exists() else path


Reference = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
# Both are saved with the run, which is resumed without its recipe.
CodeFolder = Annotated[Path | None, AfterValidator(_recipe_folder), Field(validate_default=True)]
PathBesideRecipe = Annotated[Path, AfterValidator(_beside_recipe)]


def load_object(reference: str, folder: Path | None, *, where: str) -> Any:
    """The object that `module:object` names; its module is imported. where: begins the error's message.

    folder: the recipe's, None for none. Raises ConfigError where the module cannot be imported, where its
    name is that of another module which is imported already, or where it has no such object.
    """
    module_name, _, name = reference.partition(":")
    expected = module_files(module_name, folder)
    with _importable(folder):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever a user's module raises while it is imported
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ConfigError(f"{where} cannot import {module_name!r}; {reason}") from error
    origin = getattr(module, "__file__", None)
    files = {file.resolve() for _, file in expected}
    if files and origin is not None and Path(origin).resolve() not in files:
        raise ConfigError(
            f"{where} expected {module_name!r} from {expected[0][1]}; got {origin}, which is imported "
            "already: give your module another name"
        )
    if not hasattr(module, name):
        raise ConfigError(f"{where} expected {name!r} in {module_name!r}, {origin}; got nothing of that name")
    return getattr(module, name)


@contextlib.contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Folders of the user's code come first during an import, and last for what it imports later.

    In front all the time they could hide a library that is imported later.
    """
    places = [str(place) for place in _places(folder)]
    before = list(sys.path)
    sys.path[:0] = places
    importlib.invalidate_caches()  # a module may have been written a moment ago
    try:
        yield
    finally:
        sys.path[:] = [*before, *(place for place in places if place not in before)]


def _places(folder: Path | None) -> list[Path]:
    here = Path.cwd()  # also under PYTHONSAFEPATH, and whatever the command has been started by
    return [here] if folder is None or folder == here else [here, folder]


def module_files(module: str, folder: Path | None) -> list[tuple[str, Path]]:
    """Names and files of the source of a user's module, and of all modules of the package that it is in.

    It is looked for where `load_object` imports it from, and not imported. Of an installed package its own
    file alone; nothing for a module that is compiled, packed or not there at all.
    """
    top, *rest = module.split(".")
    for place in (*_places(folder), *map(Path, sys.path)):
        root = place.absolute()
        if (root / top / "__init__.py").is_file():
            installed = {"site-packages", "dist-packages"} & set(root.parts)
            files = [_source(root.joinpath(top, *rest))] if installed else sorted((root / top).rglob("*.py"))
            return [(file.relative_to(root).as_posix(), file) for file in files if file.is_file()]
        if (root / f"{top}.py").is_file():
            return [(f"{top}.py", root / f"{top}.py")]
    return []


def _source(module: Path) -> Path:
    return module / "__init__.py" if module.is_dir() else module.with_name(f"{module.name}.py")


def call(name: str, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    """What a user's function returns. name: of it, for the message.

    Raises InputError with its file and line where it raises, or asks Python to end.
    """
    try:
        return function(*arguments, **keywords)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(str(error))}" if str(error) else type(error).__name__
        raise InputError(
            f"{name} raised {reason}{_place(traceback.extract_tb(error.__traceback__))}"
        ) from error


def _place(frames: Sequence[traceback.FrameSummary]) -> str:
    """Where it raised: the last line that is of no library, which is the user's to look at."""
    own = [frame for frame in frames[1:] if not _is_library(Path(frame.filename))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _is_library(file: Path) -> bool:
    return "site-packages" in file.parts or file.is_relative_to(sysconfig.get_paths()["stdlib"])
