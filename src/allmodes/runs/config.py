"""Configurations: frozen models from a TOML, YAML or JSON file and flags; later ones win.

Order: default < file < flag. Unknown keys are refused. Every error is one line that names the key, what was
expected and what was got.
"""

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allmodes.errors import ConfigError


class Config(BaseModel):
    """Parent of every configuration: frozen, unknown keys refused; numbers must be written as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=Config)

# Strict: `"500"` and `true` are no numbers.
Number = Annotated[float, Field(strict=True)]
PositiveFloat = Annotated[float, Field(strict=True, gt=0)]
PositiveInt = Annotated[int, Field(strict=True, gt=0)]
Count = Annotated[int, Field(strict=True, ge=0)]
Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
Seeds = Annotated[tuple[Annotated[int, Field(strict=True, ge=0, lt=2**31)], ...], Field(min_length=1)]

_SHORT_NUMBER = re.compile(r"[+-]?(\.\d+|\d+\.)([eE][+-]?\d+)?")  # .5 and 1., which TOML does not know


def one_or_several(value: object) -> object:
    """A validator before others: a single value stands for a list of it."""
    return value if isinstance(value, list | tuple) else (value,)


def distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    """A validator after others: no value comes twice."""
    if len(set(values)) != len(values):
        raise ValueError("each value once")
    return values


def read_config_file(path: Path) -> dict[str, Any]:
    """The mapping in a .toml, .yaml, .yml or .json file. Raises `ConfigError` when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read configuration {path}: {reason}") from error
    if path.suffix == ".toml":
        loaded = _parse(path, lambda: tomllib.loads(text))
    elif path.suffix == ".json":
        loaded = _parse(path, lambda: json.loads(text))
    elif path.suffix in (".yaml", ".yml"):
        try:
            import yaml
        except ImportError as error:
            raise ConfigError(f"{path}: reading YAML needs `pip install allmodes[yaml]`") from error
        loaded = _parse(path, lambda: yaml.safe_load(text), yaml.YAMLError)
    else:
        raise ConfigError(f"{path}: expected a .toml, .yaml, .yml or .json file; got {path.suffix!r}")
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a table of keys and values; got {type(loaded).__name__}")
    return loaded


def _parse(path: Path, load: Callable[[], Any], *failures: type[Exception]) -> Any:
    try:
        return load()
    except (ValueError, RecursionError, *failures) as error:
        raise ConfigError(
            f"{path}: expected valid {path.suffix[1:].upper()}; {' '.join(str(error).split())}"
        ) from error


def apply_flags(values: dict[str, Any], flags: Sequence[str]) -> dict[str, Any]:
    """Values with flags such as `--mara.threshold 0.8` or `--seeds=[0,1]` laid over them.

    A flag's value is read as TOML where it is TOML (numbers, true, lists, tables), else as text. An entry of
    a list of tables is found by its name: `--oracle.components.docking.seed 2`. Raises `ConfigError` for an
    argument that is no flag, or a flag with no value.
    """
    merged: dict[str, Any] = json.loads(json.dumps(values, default=str))
    rest = list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"expected a flag such as --budget 1000; got {flag!r}")
        key, equals, text = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"flag --{key}: expected a value; got none")
            text = rest.pop(0)
        *parents, last = key.replace("-", "_").split(".")
        table = merged
        for parent in parents:
            table = _child(table, parent)
        _set(table, last, _flag_value(text))
    return merged


def apply_scale(values: dict[str, Any], scale: str | None) -> dict[str, Any]:
    """Values with those of the table `scale.NAME` laid over them, key by key, as flags would be.

    A recipe with such tables has "quick" ones unless another is asked for. Raises `ConfigError` for a scale
    that the recipe does not have.
    """
    rest = {key: value for key, value in values.items() if key != "scale"}
    scales = values.get("scale", {})
    if not isinstance(scales, dict) or not all(isinstance(table, dict) for table in scales.values()):
        raise ConfigError(f"`scale`: expected a table of tables, one for each scale; got {scales!r}")
    if scale is None and "quick" not in scales:
        return rest
    if (scale or "quick") not in scales:
        raise ConfigError(f"--scale: expected one of {', '.join(scales) or 'none'}; got {scale!r}")
    merged: dict[str, Any] = json.loads(json.dumps(rest, default=str))
    _lay_over(merged, scales[scale or "quick"])
    return merged


def _lay_over(table: Any, changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _lay_over(_child(table, key), value)
        else:
            _set(table, key, value)


def _child(table: Any, key: str) -> Any:
    """The table below a key, made where there is none: what is laid over wins, also over a single value."""
    if isinstance(table, list):  # of tables with names
        named = [entry for entry in table if isinstance(entry, dict) and key in _spellings(entry)]
        if len(named) != 1:
            names = ", ".join(str(_name(entry)) for entry in table if isinstance(entry, dict))
            raise ConfigError(f"expected the name of an entry, one of {names}; got {key!r}")
        return named[0]
    if not isinstance(table.get(key), dict) and not _has_tables(table.get(key)):
        table[key] = {}
    return table[key]


def _set(table: Any, key: str, value: Any) -> None:
    if isinstance(table, list):
        raise ConfigError(f"expected a key below the name of an entry; got {key!r} alone")
    table[key] = value


def _has_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _spellings(entry: dict[str, Any]) -> tuple[str, str]:
    """An entry's name, and as a flag spells it, in which hyphens have become underscores."""
    return str(_name(entry)), str(_name(entry)).replace("-", "_")


def _name(entry: dict[str, Any]) -> Any:
    return entry.get("name", entry.get("kind"))


def _flag_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return float(text) if _SHORT_NUMBER.fullmatch(text) else text


def build_config(model: type[ConfigT], values: dict[str, Any], *, source: str) -> ConfigT:
    """A configuration from a mapping. Raises `ConfigError`: one line, the first wrong key, expected, got."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = _first_problem(error.errors(include_url=False), values)
        raise ConfigError(f"{source}: {_explain(problem, model, values)}") from error


def _first_problem(problems: Sequence[Any], values: dict[str, Any]) -> Any:
    """The first wrong key's problem; of the alternatives of a union that it fails, the deepest is meant."""
    first = _key_path(problems[0], values)
    same = [one for one in problems if _key_path(one, values)[: len(first)] == first]
    return max(same, key=lambda problem: len(problem["loc"]))


def _key_path(problem: Any, values: Any) -> list[str]:
    """The keys down to a problem as they are written in the file: pydantic adds the names of alternatives."""
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


def _explain(problem: Any, model: type[Config], values: dict[str, Any]) -> str:
    path = ".".join(_key_path(problem, values)) or "configuration"
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = f"one of {', '.join(model.model_fields)}" if len(problem["loc"]) == 1 else "a known key"
        return f"`{path}`: expected {known}; got an unknown key"
    if kind in ("missing", "union_tag_not_found"):
        return f"`{path}`: expected a value; got none"
    if kind == "union_tag_invalid":
        return f"`{path}`: expected one of {problem['ctx']['expected_tags']}; got {problem['ctx']['tag']!r}"
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = expected[:1].lower() + expected[1:]
    if not problem["loc"]:  # of several keys together: the message says which, and what they are
        return f"expected {expected}"
    return f"`{path}`: expected {expected}; got {problem['input']!r}"
