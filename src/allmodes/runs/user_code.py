"""A user's Python code, `module:object` in a recipe: how it is found, imported and called.

A module is searched in the current folder, then in the recipe's folder, then on Python's path.
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
    """A file in the current folder or, if there is none, in the recipe's folder."""
    folder = (info.context or {}).get(_RECIPE_FOLDER)
    beside = None if folder is None or path.is_absolute() else Path(folder).absolute() / path
    return beside if beside is not None and beside.exists() and not path.exists() else path


Reference = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
# Both are saved with the run, since it is resumed without its recipe.
CodeFolder = Annotated[Path | None, AfterValidator(_recipe_folder), Field(validate_default=True)]
PathBesideRecipe = Annotated[Path, AfterValidator(_beside_recipe)]


def load_object(reference: str, folder: Path | None, *, where: str) -> Any:
    """Import a module and return the object that `module:object` names. where: start of error messages.

    folder: the recipe's folder, or None. Raises ConfigError if the module cannot be imported, if another
    module of its name is already imported, or if it has no such object.
    """
    module_name, _, name = reference.partition(":")
    expected = module_files(module_name, folder)
    with _importable(folder):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # a user's module may raise anything on import
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
        raise ConfigError(f"{where} expected {name!r} in {module_name!r}, {origin}; there is no such name")
    return getattr(module, name)


@contextlib.contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Put folders of the user's code first on the path during an import, and last afterwards.

    If they stayed first, they could hide a library that is imported later.
    """
    places = [str(place) for place in _places(folder)]
    before = list(sys.path)
    sys.path[:0] = places
    importlib.invalidate_caches()  # the module may have just been written
    try:
        yield
    finally:
        sys.path[:] = [*before, *(place for place in places if place not in before)]


def _places(folder: Path | None) -> list[Path]:
    here = Path.cwd()  # also with PYTHONSAFEPATH, and however the command was started
    return [here] if folder is None or folder == here else [here, folder]


def module_files(module: str, folder: Path | None) -> list[tuple[str, Path]]:
    """Names and source files of a user's module and of all modules of its package.

    The module is searched as in `load_object`, but not imported. For an installed package, only the module's
    own file; nothing for a module that is compiled, in an archive, or missing.
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
    """Call a user's function and return its result. name: of the function, for the message.

    Raises InputError with file and line if the function raises or calls exit.
    """
    try:
        return function(*arguments, **keywords)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(str(error))}" if str(error) else type(error).__name__
        raise InputError(
            f"{name} raised {reason}{_place(traceback.extract_tb(error.__traceback__))}"
        ) from error


def _place(frames: Sequence[traceback.FrameSummary]) -> str:
    """The place where it raised: the last line outside libraries."""
    own = [frame for frame in frames[1:] if not _is_library(Path(frame.filename))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _is_library(file: Path) -> bool:
    return "site-packages" in file.parts or file.is_relative_to(sysconfig.get_paths()["stdlib"])
