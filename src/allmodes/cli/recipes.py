"""The recipes that come with allmodes, and the keys of a recipe on a terminal."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from allmodes.errors import ConfigError
from allmodes.reports.formatting import shown_name

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
_INDENT = " " * 6


def shipped_recipes() -> dict[str, Path]:
    """Recipes by name: those in the folder `recipes` of a clone, else those in the package."""
    package = Path(__file__).resolve().parents[1]
    clone = package.parents[1]
    folder = clone / "recipes" if (clone / "pyproject.toml").is_file() else package / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}


def find_recipe(recipe: Path) -> Path:
    """The file of a recipe, given by its path or by the name of one that ships with allmodes.

    Raises ConfigError if there is neither.
    """
    shipped = shipped_recipes()
    # `recipes/molecules.toml`, as written in the docs, also works without a clone.
    known = recipe.name.removesuffix(".toml") if recipe.parent in (Path(), Path("recipes")) else ""
    if recipe.is_file() or (recipe.exists() and known not in shipped):
        return recipe
    if known in shipped:
        return shipped[known]
    raise ConfigError(
        f"cannot read configuration {recipe}: there is no such file; the recipes of allmodes are "
        f"{', '.join(shipped)}"
    )


def looks_like_recipe(text: str) -> bool:
    """Whether a token that may be a flag's value is meant as a recipe."""
    return Path(text).suffix in SUFFIXES or text in shipped_recipes()


def list_recipes() -> Iterator[str]:
    """An entry for each recipe: its name, and the first sentence of its file."""
    recipes = shipped_recipes()
    width = max(map(len, recipes), default=0)
    columns = _columns()
    for name, path in recipes.items():
        comment = takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
        sentence = " ".join(line.removeprefix("# ") for line in comment).partition(". ")[0].rstrip(".")
        yield textwrap.fill(f"  {name:{width}}  {sentence}.", columns, subsequent_indent=" " * (width + 4))


def list_keys(recipe: Path, scale: str | None) -> Iterator[str]:
    """The keys of a recipe with its values, for a terminal. Raises ConfigError if it is not a recipe."""
    from allmodes.cli.config_keys import tables_of
    from allmodes.cli.run import find_kind
    from allmodes.runs.config import apply_scale, read_config_file

    values = read_config_file(recipe)
    model = find_kind(values, source=str(recipe)).config
    values = model.renamed(apply_scale(values, scale, model))
    columns = _columns()
    yield f"Keys of {recipe}; each is also a flag:"
    for table in tables_of(model):
        if not table.keys and not table.path:
            continue
        kinds = f" of kind {', '.join(table.kinds)}" if table.kinds else ""
        yield ""
        yield textwrap.fill(f"{table.path or table.text}{kinds}", columns)
        if table.path and table.text:
            yield textwrap.fill(table.text, columns)
        for key in table.keys:
            name = f"{table.path}.{key.name}" if table.path else key.name
            default = "must be given" if key.default is None else f"default {key.default}"
            found = list(_set_values(values, name.split("."), table.kinds))
            here = f"; here {', '.join(found)}" if found else ""
            line = f"  --{name}  {key.type} ({default}{here})"
            yield textwrap.fill(line, columns, subsequent_indent=_INDENT)
            if key.text:
                yield textwrap.fill(key.text, columns, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _columns() -> int:
    return max(30, shutil.get_terminal_size().columns)


def _set_values(values: Any, path: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    """A recipe's values of a key; for a list of tables, those of each entry of one of the kinds."""
    if not path:
        yield shown_name(repr(values), 40)
    elif isinstance(values, list):
        for entry in values:
            if isinstance(entry, Mapping) and (not kinds or entry.get("kind") in kinds):
                yield from _set_values(entry, path[1:], ())
    elif isinstance(values, Mapping) and path[0] in values:
        yield from _set_values(values[path[0]], path[1:], kinds)
