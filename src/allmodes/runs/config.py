"""Configurations: frozen models from a TOML, YAML or JSON file and flags; later ones win.

Order: default < file < flag. Unknown keys are refused. Every error is one line that names the key, the
expected and the given value.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from allmodes.errors import ConfigError, one_line, shown
from allmodes.extras import how_to_install
from allmodes.runs.config_errors import explain, first_problem
from allmodes.runs.flag_lists import FlagText, split_list


class Config(BaseModel):
    """Parent of every configuration: frozen, unknown keys refused; numbers must be written as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    alternatives: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Alternatives of each key: a flag or a scale that sets the key removes its alternatives."""

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values under the current keys, for recipes and flags of older versions.

        Raises ValueError for a value that is given under both.
        """
        return values

    def __reduce__(self) -> Any:
        # Pickled by values: classes built at run time have no name under which another process finds them.
        return type(self).model_validate, (self.model_dump(),)

    @model_validator(mode="before")
    @classmethod
    def _read_flags(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        values = cls.renamed(values)
        fields = cls.model_fields
        return {
            key: _flag_for(fields[key].annotation, value) if key in fields else value
            for key, value in values.items()
        }


ConfigT = TypeVar("ConfigT", bound=Config)


def _not_tiny(value: float) -> float:
    if value < 1e-12:  # its inverse may overflow in single precision
        raise ValueError("at least 1e-12")
    return value


# Strict: `"500"` and `true` are not numbers. The limits are beyond every use: a larger value is a typing
# error that would overflow or exhaust the memory.
MOST = 10**9  # largest count of things that are processed one by one
MOST_AT_ONCE = 10**6  # largest count of things in memory at once
Number = Annotated[float, Field(strict=True, ge=-1e30, le=1e30)]
PositiveFloat = Annotated[float, Field(strict=True, gt=0, le=1e9), AfterValidator(_not_tiny)]
LearningRate = Annotated[float, Field(strict=True, gt=0, le=1)]
PositiveInt = Annotated[int, Field(strict=True, gt=0, le=MOST)]
Whole = Annotated[int, Field(strict=True, ge=-MOST, le=MOST)]
Count = Annotated[int, Field(strict=True, ge=0, le=MOST)]
SmallCount = Annotated[int, Field(strict=True, ge=0, le=1000)]
Size = Annotated[int, Field(strict=True, gt=0, le=MOST_AT_ONCE)]  # of a batch, a window, a text
GroupSize = Annotated[int, Field(strict=True, ge=2, le=MOST_AT_ONCE)]
Workers = Annotated[int, Field(strict=True, gt=0, le=4096)]  # processes or threads
Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
Seeds = Annotated[tuple[Annotated[int, Field(strict=True, ge=0, lt=2**31)], ...], Field(min_length=1)]

_MOST_BYTES = 1 << 20  # of a configuration file
_MOST_VALUES = 100_000  # of a configuration, counting every repetition by a YAML alias
_DEEPEST = 32  # levels of nested tables
_LARGEST = 1e300  # of a number
_NO_TEXT = re.compile(
    "[\0\ud800-\udfff]"
)  # NUL, which no path has; half of a surrogate pair, which no file has

_SHORT_NUMBER = re.compile(r"[+-]?(\.\d+|\d+\.)([eE][+-]?\d+)?")  # .5 and 1., which TOML does not allow


def _flag_for(annotation: Any, value: Any) -> Any:
    """What a flag sets for a key of this type; for a table of free keys, each of its keys."""
    if isinstance(value, dict):
        is_free = get_origin(annotation) is dict
        return {key: _flag_for(Any, inner) for key, inner in value.items()} if is_free else value
    kinds = list(_list_kinds(annotation))
    if not isinstance(value, FlagText):
        return [value] if kinds and isinstance(value, str) else value
    if kinds:
        of_texts = any(issubclass(kind, str | Path) for kind in kinds)
        entries = split_list(value.tokens, of_texts=of_texts)
        values = [FlagText(entry) if of_texts else _flag_value((entry,)) for entry in entries]
        # If both fit, a single value is kept as it is; `one_or_several` turns it into a list.
        return values[0] if len(values) == 1 and not of_texts else values
    if len(value.tokens) > 1 or (annotation is Any and value.startswith("[")):
        return [_flag_value((entry,)) for entry in split_list(value.tokens, of_texts=True)]
    return str(value)


def _list_kinds(annotation: Any) -> Iterator[type]:
    """The types of the entries of the lists that a type allows; `object` except for text and path."""
    if get_origin(annotation) is tuple:
        for kind in get_args(annotation):
            while get_origin(kind) is Annotated:
                kind = get_args(kind)[0]
            if kind is not Ellipsis:
                yield kind if isinstance(kind, type) else object
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for kind in get_args(annotation):
            yield from _list_kinds(kind)


def one_or_several(value: object) -> object:
    """A before-validator: a single value becomes a list of it; None becomes an empty list."""
    return value if value is None or isinstance(value, list | tuple) else (value,)


def distinct(values: tuple[object, ...] | None) -> tuple[object, ...] | None:
    """An after-validator: no value may occur twice."""
    if values is not None and len(set(values)) != len(values):
        raise ValueError("each value once")
    return values


def read_config_file(path: Path) -> dict[str, Any]:
    """The mapping in a .toml, .yaml, .yml or .json file. Raises `ConfigError` if it cannot be read."""
    load = _LOADERS.get(path.suffix.lower())
    if load is None:
        raise ConfigError(f"{path}: expected a .toml, .yaml, .yml or .json file; got {path.suffix!r}")
    try:
        with open(path, "rb") as handle:
            data = handle.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")  # Windows editors prepend a byte-order mark
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigError(f"cannot read configuration {path}: {reason}") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: expected a configuration of at most {_MOST_BYTES:,} bytes; got more")
    try:
        loaded = _text_keys(load(text))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except Exception as error:  # PyYAML passes on any error that a malformed value causes
        raise ConfigError(f"{path}: expected valid {path.suffix[1:].upper()}; {one_line(error)}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a table of keys and values; got {type(loaded).__name__}")
    _check_plain(loaded, source=f"{path}: ")
    return loaded


def _text_keys(value: Any) -> Any:
    """Turn keys that YAML reads as numbers into texts, as in TOML and JSON."""
    if isinstance(value, dict):
        return {
            str(key) if isinstance(key, int | float) and not isinstance(key, bool) else key: _text_keys(inner)
            for key, inner in value.items()
        }
    return [_text_keys(inner) for inner in value] if isinstance(value, list) else value


def _load_json(text: str) -> Any:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_once([key for key, _ in pairs])
        return dict(pairs)

    return json.loads(text, object_pairs_hook=table)


def _load_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(f"reading YAML needs `{how_to_install('yaml')}`") from error
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        # Checked before construction: nested aliases can expand beyond any memory.
        if node is not None and _size_of(node, {}) > _MOST_VALUES:
            raise ConfigError(
                f"expected at most {_MOST_VALUES:,} values, including those of aliases; got more"
            )
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _size_of(node: Any, known: dict[int, float]) -> float:
    """The number of values of a YAML node, including repetitions by aliases; infinite if it contains itself.

    Raises `ConfigError` for a key that occurs twice in a table.
    """
    if id(node) not in known:
        known[id(node)] = math.inf  # for an alias inside the node that it repeats
        parts = node.value if isinstance(node.value, list) else []
        _check_once([part[0].value for part in parts if isinstance(part, tuple)])
        flat = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_size_of(part, known) for part in flat)
    return known[id(node)]


_LOADERS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".json": _load_json,
    ".yaml": _load_yaml,
    ".yml": _load_yaml,
}


def _check_once(keys: Sequence[Any]) -> None:
    seen: set[str] = set()
    for key in keys:
        if isinstance(key, str) and key in seen:
            raise ConfigError(f"expected each key once; got {shown(key)} twice in one table")
        seen.add(key if isinstance(key, str) else "")


def _check_plain(values: dict[str, Any], *, source: str = "") -> None:
    """Require values that all formats can write and later steps accept. Raises `ConfigError` with the key.

    These are tables with text keys, lists, texts without NUL and without halves of surrogate pairs,
    finite numbers, booleans, null and dates; at most 32 levels deep.
    """
    for key, value in _walk(values, ()):
        expected = (
            _expected(value) if len(key) <= _DEEPEST else f"at most {_DEEPEST} levels of tables and lists"
        )
        if expected is not None:
            path = ".".join(str(part) for part in key) or "configuration"
            raise ConfigError(f"{source}`{path}`: expected {expected}; got {shown(value)}")


def _walk(value: Any, key: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield key, value
    if len(key) <= _DEEPEST and isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(inner, (*key, name))


def _expected(value: Any) -> str | None:
    """What a value should be; None if it is valid."""
    match value:
        case None | bool() | list() | date() | time():
            return None
        case dict():
            is_plain = all(isinstance(key, str) and _expected(key) is None for key in value)
            return None if is_plain else "keys that are texts"
        case str():
            return "a text of Unicode without NUL" if _NO_TEXT.search(value) else None
        case int() | float():
            return None if abs(value) < _LARGEST else "a finite number"  # NaN is not
        case _:
            return "a text, a number, a boolean, a list or a table"


def apply_flags(values: dict[str, Any], flags: Sequence[str], model: type[Config] = Config) -> dict[str, Any]:
    """Override values with flags such as `--mara.threshold 0.8` or `--seeds=[0,1]`.

    A flag's value is read as TOML if it is valid TOML (numbers, true, lists, tables), else as text. A key
    that takes a list accepts any form of `split_list`: `--seeds 0 1`. An entry of a list of tables is
    addressed by its name: `--oracle.components.docking.seed 2`. model: the model of the keys, for keys of
    older versions and keys with alternatives. Raises `ConfigError` for an argument that is not a flag, or a
    flag without a value.
    """
    merged: dict[str, Any] = json.loads(json.dumps(_renamed(model, values), default=str))
    rest = list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"expected a flag such as --budget 1000; got {shown(flag)}")
        key, equals, text = flag[2:].partition("=")
        tokens = [text] if equals else []
        while rest and not rest[0].startswith("--"):
            tokens.append(rest.pop(0))
        if not tokens:
            raise ConfigError(f"flag --{key}: expected a value; got none")
        path = key.replace("-", "_").split(".")
        try:
            for (*parents, last), value in _renamed_flag(model, path, _flag_value(tokens)):
                table = merged
                for parent in parents:
                    table = _child(table, parent)
                _set(table, last, value)
                _drop_alternatives(model, merged, [*parents, last][0])
        except ConfigError as error:
            raise ConfigError(f"flag --{key}: {error}") from error
    _check_plain(merged, source="flags: ")
    return merged


def _renamed(model: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    try:
        return model.renamed(values)
    except ValueError as error:
        raise ConfigError(f"expected {error}") from error


def _renamed_flag(model: type[Config], path: list[str], value: Any) -> list[tuple[list[str], Any]]:
    """A flag's key and value under the current keys; several for a table that has been split."""
    given: Any = value
    for key in reversed(path):
        given = {key: given}
    renamed = _renamed(model, given)
    return [(path, value)] if renamed == given else list(_leaves(renamed, []))


def _leaves(value: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, [*path, key])
    else:
        yield path, value


def _drop_alternatives(model: type[Config], values: dict[str, Any], key: str) -> None:
    for other in model.alternatives.get(key, ()):
        values.pop(other, None)


def apply_scale(values: dict[str, Any], scale: str | None, model: type[Config] = Config) -> dict[str, Any]:
    """Override values with those of the table `scale.NAME`, key by key, like flags.

    The default scale of a recipe with such tables is "quick". model: as for `apply_flags`.
    Raises `ConfigError` for a scale that the recipe does not have.
    """
    rest = {key: value for key, value in values.items() if key != "scale"}
    scales = values.get("scale", {})
    if not isinstance(scales, dict) or not all(isinstance(table, dict) for table in scales.values()):
        raise ConfigError(f"`scale`: expected a table of tables, one for each scale; got {shown(scales)}")
    if scale is None and "quick" not in scales:
        return rest
    if (scale or "quick") not in scales:
        if not scales:
            raise ConfigError(f"--scale: expected none, since this recipe has no scales; got {shown(scale)}")
        raise ConfigError(f"--scale: expected one of {', '.join(scales)}; got {shown(scale)}")
    merged: dict[str, Any] = json.loads(json.dumps(_renamed(model, rest), default=str))
    changes = _renamed(model, scales[scale or "quick"])
    _lay_over(merged, changes)
    for key in changes:
        _drop_alternatives(model, merged, key)
    return merged


def _lay_over(table: Any, changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _lay_over(_child(table, key), value)
        else:
            _set(table, key, value)


def _child(table: Any, key: str) -> Any:
    """The table of a key, created if missing; it replaces a value that is not a table."""
    if isinstance(table, list):  # of tables with names
        named = [entry for entry in table if isinstance(entry, dict) and key in _spellings(entry)]
        if len(named) != 1:
            names = ", ".join(str(_name(entry)) for entry in table if isinstance(entry, dict))
            raise ConfigError(f"expected the name of an entry, one of {names}; got {shown(key)}")
        return named[0]
    if not isinstance(table.get(key), dict) and not _has_tables(table.get(key)):
        table[key] = {}
    return table[key]


def _set(table: Any, key: str, value: Any) -> None:
    if isinstance(table, list):
        raise ConfigError(f"expected a key after the name of an entry; got only {shown(key)}")
    table[key] = value


def _has_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _spellings(entry: dict[str, Any]) -> tuple[str, str]:
    """An entry's name, and its spelling in a flag, where hyphens become underscores."""
    return str(_name(entry)), str(_name(entry)).replace("-", "_")


def _name(entry: dict[str, Any]) -> Any:
    return entry.get("name", entry.get("kind"))


def _flag_value(tokens: Sequence[str]) -> Any:
    """The value of a token that is valid TOML; else the text, which the key may read as a list."""
    if len(tokens) > 1:
        return FlagText(*tokens)
    try:
        return tomllib.loads(f"value = {tokens[0]}")["value"]
    except (ValueError, RecursionError):  # not TOML, too many digits, or too deep nesting
        return float(tokens[0]) if _SHORT_NUMBER.fullmatch(tokens[0]) else FlagText(*tokens)


def check_scales(model: type[ConfigT], values: dict[str, Any], *, but: str | None, source: str) -> None:
    """Check the scales of a recipe that are not chosen, so that their errors are found early.

    Raises `ConfigError` if a scale's table makes the recipe invalid. but: the chosen scale ("quick" for
    None), which is checked together with the flags.
    """
    base = {key: value for key, value in values.items() if key != "scale"}
    known = [(problem["loc"], problem["type"]) for problem in _problems(model, base)]
    for name in values.get("scale", {}):
        if name == (but or "quick"):
            continue
        merged = apply_scale(values, name, model)
        new = [one for one in _problems(model, merged) if (one["loc"], one["type"]) not in known]
        if new:
            problem = first_problem(new, merged)
            raise ConfigError(f"{source}, scale.{name}: {explain(problem, model, merged)}")


def build_config(
    model: type[ConfigT], values: dict[str, Any], *, source: str, recipe_folder: Path | None = None
) -> ConfigT:
    """A configuration from a mapping. Raises `ConfigError`: one line, the first wrong key, expected, got.

    recipe_folder: the folder of the recipe, which is also searched for a user's modules and files.
    """
    try:
        values = _renamed(model, values)
        return model.model_validate(values, context={"recipe_folder": recipe_folder})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    except ValidationError as error:
        problem = first_problem(error.errors(include_url=False), values)
        raise ConfigError(f"{source}: {explain(problem, model, values)}") from error


def _problems(model: type[Config], values: dict[str, Any]) -> list[Any]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []
