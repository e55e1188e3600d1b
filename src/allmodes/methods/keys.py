"""Integer ids of prompt and outcome keys that are equal in every batch, process and run."""

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b

import torch
from torch import Tensor

from allmodes.errors import InputError

_PLACE = re.compile(r" at 0x[0-9a-fA-F]+>")


def stable_ids(keys: Sequence[Hashable | None]) -> Tensor:
    """The id of each key, (N,), int64; equal for equal keys in every process, −1 for None.

    Ids are the first 63 bits of a hash of the key's value, not of its address in memory. Python's own `hash`
    of a text differs between processes. Raises InputError for NaN, and for an object without a value that
    identifies it.

    >>> ids = stable_ids(["C1CC1", None, "C1CC1"])
    >>> bool(ids[0] == ids[2]), int(ids[1])
    (True, -1)
    """
    return torch.tensor([-1 if key is None else stable_id(key) for key in keys], dtype=torch.long)


def stable_id(key: Hashable) -> int:
    """The id of one key, from 0 to 2⁶³ − 1.

    >>> stable_id("C1CC1") == stable_id("C1CC1")
    True
    """
    return _hashed(_name(key))


@lru_cache(maxsize=65536)
def _hashed(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _name(key: object) -> str:
    """A text that is equal for equal keys: 1, 1.0 and True are one key, "1" is another."""
    if isinstance(key, str):
        return f"s{len(key)}:{key}"
    if isinstance(key, int | float | Fraction | Decimal):
        return f"n{_number(key)}"
    if isinstance(key, tuple):
        return f"t({','.join(_name(part) for part in key)})"
    if isinstance(key, frozenset):  # its order differs between processes
        return f"f({','.join(sorted(_name(part) for part in key))})"
    if type(key).__module__ == "numpy" and hasattr(key, "item"):  # NumPy numbers equal Python numbers as keys
        return _name(key.item())  # pyright: ignore[reportAttributeAccessIssue]
    kind = type(key).__qualname__
    if isinstance(key, Enum):
        return f"o{kind}:{kind}.{key.name}"
    if is_dataclass(key) and not isinstance(key, type):  # field by field: one may be a frozenset
        parts = (_name(getattr(key, field.name)) for field in fields(key) if field.compare)
        return f"d{kind}({','.join(parts)})"
    text = repr(key)
    if not isinstance(key, Hashable) or _PLACE.search(text):
        why = "is only identified by its address in memory" if _PLACE.search(text) else "can change"
        raise InputError(
            "a key must be a text, a number, or tuples and frozensets of these; got "
            f"{type(key).__name__}, which {why}"
        )
    return f"o{kind}:{text}"


def _number(key: float | Fraction | Decimal) -> str:
    if isinstance(key, float | Decimal) and not math.isfinite(key):
        if key != key:
            raise InputError("a key must not be NaN, which does not equal itself; use None for no outcome")
        return "inf" if key > 0 else "-inf"
    exact = Fraction(key)
    return str(exact.numerator) if exact.denominator == 1 else str(exact)
