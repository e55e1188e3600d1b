"""Describe an error of a configuration in one line with the key, the expected and the given value."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from allmodes.errors import shown
from allmodes.runs.flag_lists import FORMS, FlagText

_EXPECTED = {"model_type": "a table", "dict_type": "a table", "path_type": "a path"}  # pydantic is terse
_LONG_NUMBER = re.compile(r"(?<![\d.])\d{5,}(?![\d.])")


def first_problem(problems: Sequence[Any], values: dict[str, Any]) -> Any:
    """The first wrong key's problem; for a union, that of the alternative that matches deepest."""
    if problems[0]["type"] == "missing":  # a misspelt key next to it is the cause
        table = problems[0]["loc"][:-1]
        unknown = [one for one in problems if one["type"] == "extra_forbidden" and one["loc"][:-1] == table]
        problems = unknown or problems
    first = _key_path(problems[0], values)
    same = [one for one in problems if _key_path(one, values)[: len(first)] == first]
    return max(same, key=lambda problem: len(problem["loc"]))


def _key_path(problem: Any, values: Any) -> list[str]:
    """The path of keys to a problem as written in the file, without pydantic's names of alternatives."""
    path = []
    for part in problem["loc"]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(str(part))
    if problem["type"] == "missing":
        path.append(str(problem["loc"][-1]))
    elif problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(problem["ctx"]["discriminator"].strip("'"))
    return path


def _meant(problem: Any, path: Sequence[str], model: type[BaseModel]) -> str:
    """A suggestion for an unknown key: a similar key, else all keys of the table."""
    unknown = str(problem["loc"][-1])
    there = list(dict.fromkeys(key for table in _tables_at(problem["loc"][:-1], model) for key in table))
    # The same key in another kind of table is not a suggestion.
    itself = ".".join(part for part in path if not part.isdigit())
    keys = [key for key in _all_keys(model) if key != itself]
    last = {key.rpartition(".")[2]: key for key in reversed(keys)}
    if unknown not in last and (near := difflib.get_close_matches(unknown, there, n=1)):
        return f"did you mean {'.'.join([*path[:-1], near[0]])}?"
    if len(unknown) > 1 and (near := difflib.get_close_matches(unknown, last, n=1, cutoff=0.8)):
        return f"did you mean {last[near[0]]}?"
    return f"expected one of {', '.join(there)}" if there else "expected no key here"


def _tables_at(location: Sequence[int | str], model: type[BaseModel]) -> list[dict[str, Any]]:
    """The keys allowed at a place; for a union, those of the alternative that the place names by kind."""
    models = [model]
    for part in location:
        fields = [table.model_fields[part] for table in models if part in table.model_fields]
        if fields:
            models = [inner for field in fields for inner in models_of(field.annotation)]
        elif not isinstance(part, int):
            models = [table for table in models if part in kinds_of(table)] or models
    return [table.model_fields for table in models]


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The values of a model's key `kind`."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _all_keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """All keys with their full paths, for all alternatives."""
    for name, field in model.model_fields.items():
        yield above + name
        for inner in models_of(field.annotation):
            yield from _all_keys(inner, f"{above}{name}.")


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The tables that a type allows: itself, an alternative, or entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for kind in get_args(annotation):
            yield from models_of(kind)


def explain(problem: Any, model: type[BaseModel], values: dict[str, Any]) -> str:
    """Describe a problem that pydantic found in a model's values, in one line."""
    parts = _key_path(problem, values)
    path = ".".join(parts) or "configuration"
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"`{path}`: unknown key; {_meant(problem, parts, model)}"
    if kind in ("missing", "union_tag_not_found"):
        return f"`{path}`: expected a value; got none"
    if kind == "union_tag_invalid":
        return (
            f"`{path}`: expected one of {problem['ctx']['expected_tags']}; got {shown(problem['ctx']['tag'])}"
        )
    expected = _EXPECTED.get(kind) or problem["msg"].removeprefix("Value error, ").removeprefix(
        "Input should be "
    )
    expected = _LONG_NUMBER.sub(_short_number, expected[:1].lower() + expected[1:])
    if not problem["loc"]:  # concerns several keys; the message names them and their values
        return f"expected {expected}"
    is_entry = isinstance(problem["input"], FlagText) and isinstance(problem["loc"][-1], int)
    forms = f"; {FORMS}" if is_entry else ""
    return f"`{path}`: expected {expected}; got {shown(problem['input'])}{forms}"


def _short_number(found: re.Match[str]) -> str:
    """Write 1000000 as 1,000,000, and a number with many more digits as 1e+30."""
    return f"{int(found[0]):,}" if len(found[0]) <= 12 else f"{int(found[0]):g}"
