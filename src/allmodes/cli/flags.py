"""Rules for reading flags where tyro's own rules would differ between commands.

Every list accepts the forms of `split_list`. Optional flags show only their type, and choices appear in
their own order.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from allmodes.runs.flag_lists import FORMS, split_list

REGISTRY = ConstructorRegistry()

_NAMES = {"INT": "a whole number", "FLOAT": "a number", "STR": "a text", "PATH": "a path"}


@REGISTRY.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`T | None` is given like T; it is None if it is not given."""
    kinds = get_args(info.type)
    if len(kinds) != 2 or NoneType not in kinds or get_origin(info.type) in (tuple, dict):
        return None
    spec = _spec(next(kind for kind in kinds if kind is not NoneType), info)
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["unset"] if value is None else spec.str_from_instance(value),
    )


@REGISTRY.primitive_rule
def _list(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Tuples of one type, of variable or fixed length."""
    if info.type_origin is not tuple:
        return None
    kinds = get_args(info.type)
    count = None if Ellipsis in kinds else len(kinds)
    entry = _spec(kinds[0], info)

    def read(tokens: Sequence[str]) -> tuple[Any, ...]:
        entries = _split(tokens, [kinds[0]], count)
        if count is not None and len(entries) != count:
            raise ValueError(f"expected {count} values; got {len(entries)}; {FORMS}")
        return tuple(_read(entry, text) for text in entries)

    metavar = f"{entry.metavar} ..." if count is None else " ".join([entry.metavar] * count)
    return _many(read, metavar, lambda value: [str(one) for one in value] or ["empty"])


@REGISTRY.primitive_rule
def _table(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Names with values: NAME VALUE NAME VALUE, in any form of a list, or NAME=VALUE."""
    if info.type_origin is not dict:
        return None
    kinds = get_args(info.type)
    name, value = (_spec(kind, info) for kind in kinds)

    def read(tokens: Sequence[str]) -> dict[Any, Any]:
        entries = _split(tokens, kinds, None)
        if all("=" in text for text in entries):
            entries = [part.strip() for text in entries for part in text.rsplit("=", 1)]
        if len(entries) % 2:
            raise ValueError(f"expected a value after each name; got {' '.join(entries)!r}")
        return {_read(name, a): _read(value, b) for a, b in zip(entries[::2], entries[1::2], strict=True)}

    return _many(read, f"{name.metavar} {value.metavar} ...", lambda table: [str(table)])


def _spec(kind: Any, info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any]:
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, info.markers))
    if isinstance(spec, UnsupportedTypeAnnotationError):
        raise TypeError(f"no flag can have the type {kind}")
    return spec


def _many(
    read: Callable[[Sequence[str]], Any], metavar: str, shown: Callable[[Any], list[str]]
) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple | dict),
        str_from_instance=shown,
    )


def _split(tokens: Sequence[str], kinds: Sequence[Any], count: int | None) -> list[str]:
    is_path = Path in kinds
    return split_list(
        tokens,
        of_texts=is_path or str in kinds,
        count=count,
        is_whole=os.path.exists if is_path else lambda token: False,
    )


def _read(spec: PrimitiveConstructorSpec[Any], text: str) -> Any:
    try:
        if spec.choices is not None and text not in spec.choices:
            raise ValueError
        return spec.instance_from_str([text])
    except ValueError as error:
        expected = _NAMES.get(spec.metavar, f"one of {', '.join(spec.choices or ())}")
        place = "; a file stands before the flags" if os.path.exists(text) else ""
        raise ValueError(f"expected {expected}; got {text!r}; {FORMS}{place}") from error
