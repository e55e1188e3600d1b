"""The reference of configuration keys: name, type, default and one line for each key.

`python -m allmodes.cli.config_keys > docs/guide/configuration.md` writes the reference from the models.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, final, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from allmodes.methods import METHODS
from allmodes.runs.config_errors import kinds_of, models_of
from allmodes.runs.method_settings import MethodName

NAME = "NAME"  # placeholder for the name of an entry of a list, as in flags


@final
@dataclass(frozen=True, kw_only=True)
class Key:
    """One key. default: as in TOML; None if it must be given."""

    name: str
    type: str
    default: str | None
    text: str


@final
@dataclass(frozen=True, kw_only=True)
class KeyTable:
    """The keys of one table. path: the dotted name of the table, "" for the recipe itself.

    kinds: the kinds that have these keys; () for all.
    """

    path: str
    kinds: tuple[str, ...]
    text: str
    keys: tuple[Key, ...]


def tables_of(model: type[BaseModel], path: str = "", text: str = "") -> Iterator[KeyTable]:
    """All keys of a model: its own, then those of each table in it."""
    yield KeyTable(path=path, kinds=(), text=text or _doc(model), keys=tuple(_keys(model)))
    yield from _below([model], path)


def _below(models: Sequence[type[BaseModel]], path: str) -> Iterator[KeyTable]:
    done = set[tuple[str, type[BaseModel]]]()
    for model in models:
        for name, field in model.model_fields.items():
            entry = NAME if _is_list(field.annotation) else ""
            inner_path = ".".join(filter(None, [path, name, entry]))
            inner = [one for one in models_of(field.annotation) if (inner_path, one) not in done]
            done |= {(inner_path, one) for one in inner}
            if len(inner) == 1:
                yield from tables_of(inner[0], inner_path, field.description or "")
            elif inner:
                yield from _alternatives(inner, inner_path, field.description or "")


def _alternatives(models: Sequence[type[BaseModel]], path: str, text: str) -> Iterator[KeyTable]:
    """The keys that all kinds share, once; then the keys that differ between kinds."""
    keys = [tuple(_keys(model)) for model in models]
    common = []
    for name in (key.name for key in keys[0]):
        same = [key for one in keys for key in one if key.name == name]
        if len(same) == len(models) and max(map(same.count, same)) > 1:
            common.append(max(same, key=same.count))
    text = f"{text} Keys of every kind:" if common else text
    yield KeyTable(path=path, kinds=(), text=text, keys=tuple(common))
    for model, own in zip(models, keys, strict=True):
        rest = tuple(key for key in own if key not in common)
        yield KeyTable(path=path, kinds=kinds_of(model), text=_doc(model), keys=rest)
    yield from _below(models, path)


def _keys(model: type[BaseModel]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        if not _is_table(field.annotation):
            yield Key(
                name=name,
                type=_type(field.annotation, field.metadata),
                default=_default(field),
                text=" ".join((field.description or "").split()),  # one line per key in a Markdown table
            )


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())


def _is_table(annotation: Any) -> bool:
    """Whether a value can only be a table, or several tables."""
    if get_origin(annotation) in (Annotated, tuple):
        return _is_table(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(_is_table(kind) for kind in get_args(annotation) if kind is not NoneType)
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_list(get_args(annotation)[0])
    return get_origin(annotation) is tuple


def _type(annotation: Any, limits: Sequence[Any]) -> str:
    """The allowed values as a text: "number > 0", "list of whole numbers", or all choices."""
    kinds = get_args(annotation)
    if annotation == MethodName:
        return f"{', '.join(map(_toml, METHODS))}, or several in a row with +"
    if get_origin(annotation) is Annotated:
        inner = [
            limit for one in kinds[1:] for limit in (one.metadata if isinstance(one, FieldInfo) else [one])
        ]
        return _type(kinds[0], inner)
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(kind, limits) for kind in kinds if kind is not NoneType))
    if get_origin(annotation) is Literal:
        return ", ".join(map(_toml, kinds))
    if get_origin(annotation) is tuple:
        count = "list" if Ellipsis in kinds else f"list of {len(kinds)}"
        entry = _type(kinds[0], [])
        return f"{count}: {entry}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"table {{ {', '.join(annotation.model_fields)} }}"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
    return names.get(annotation, "table") + _bounds(limits)


def _bounds(limits: Sequence[Any]) -> str:
    """Limits that matter to a user; limits that only catch typing errors are left out."""
    names = ("gt", "ge", "lt", "le")
    found = {name: getattr(one, name) for one in limits for name in names if hasattr(one, name)}
    found = {name: value for name, value in found.items() if abs(value) < 1000}
    if {"ge", "le"} <= found.keys():
        return f" from {found['ge']:g} to {found['le']:g}"
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return "".join(f"{',' if i else ''} {signs[name]} {found[name]:g}" for i, name in enumerate(found))


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, BaseModel):
        return f"{{ {', '.join(f'{name} = {_toml(one)}' for name, one in value)} }}"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)


def write_page() -> str:
    """The reference of all keys, in Markdown."""
    from allmodes.chem.config import MoleculesConfig
    from allmodes.text.config import TextConfig

    page = [_HEAD]
    for title, model in (("Molecules", MoleculesConfig), ("Language models", TextConfig)):
        page.append(f'## {title}: `kind = "{kinds_of(model)[0]}"`\n')
        for table in tables_of(model):
            page += _section(table)
    return "\n".join(page)


_HEAD = """# Every key of a recipe

<!-- Written from the models by `python -m allmodes.cli.config_keys > docs/guide/configuration.md`. -->

A recipe is a TOML, YAML or JSON file. Each key is also a flag of `allmodes run`, which overrides the file:
`--methods.mara.threshold 0.85`. An entry of a list of tables is addressed by its name:
`--oracle.components.docking.seed 2` sets a key of the component `docking`. A list is written `--seeds 0 1 2`,
`--seeds 0,1,2` or `--seeds [0,1,2]`; an entry that holds a comma needs quotes: `'["a,b", "c"]'`.

`allmodes run` lists the recipes that come with allmodes; `allmodes run RECIPE --help` lists the keys of one
with its values. A recipe may run programs and import modules that it names, so read it before you run it.
"""


def _section(table: KeyTable) -> Iterator[str]:
    if table.path:
        of_kind = f", kind {' or '.join(f'`{kind}`' for kind in table.kinds)}" if table.kinds else ""
        yield f"### `{table.path}`{of_kind}\n"
    if table.text:
        yield f"{table.text}\n"
    if table.keys:
        yield "| key | value | default | |\n| --- | --- | --- | --- |"
    for key in table.keys:
        default = "must be given" if key.default is None else f"`{key.default}`"
        yield f"| `{key.name}` | {key.type} | {default} | {key.text.replace('|', '/')} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(write_page())
