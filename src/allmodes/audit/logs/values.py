"""Parse the cells of a log: numbers, truth values, and identities of prompts and outcomes."""

import hashlib
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

from allmodes.runs.lines import BadLineError, finite_number, whole_text

_NAME = 80  # characters of a prompt or an outcome that are kept for showing
LARGEST = 1e100  # largest number, so that sums of squares are finite
_PLAIN = (float, int)
# Reasons why a generation ended, as named by vLLM, SGLang, TGI and model servers.
_CUT_OFF = ("length", "max_tokens", "max_length", "model_length")
_ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls", "tool_use", "function_call")
_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_EVALUATION = ("eval", "evaluation", "val", "valid", "validation", "test", "dev")


class Key(NamedTuple):
    """The identity of a prompt or an outcome (16 bytes, equal for equal values), and its value."""

    digest: bytes
    value: Any


def is_nan(value: Any) -> bool:
    """Whether a value is NaN, also as a text."""
    return value != value or (isinstance(value, str) and value.strip().lower() == "nan")


def number_of(value: Any, name: str, *, largest: float = LARGEST) -> float:
    """A number, also as a text, NaN for null. Raises BadLineError for anything else, or beyond ±largest."""
    if type(value) in _PLAIN and -LARGEST <= value <= LARGEST:  # nearly all values; isinstance is slow
        return float(value)
    if value is None:
        return math.nan
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise BadLineError(f"`{name}` is not a number") from error
    elif isinstance(value, Real | Decimal) and not isinstance(value, bool | int | float):
        value = float(value)  # such as NumPy's
    number = finite_number(value, name)
    if abs(number) > largest:
        raise BadLineError(f"`{name}` is beyond ±{largest:g}")
    return number


def reward_of(value: Any, name: str, *, largest: float = LARGEST) -> float:
    """Like `number_of`; a verifier's true and false are 1 and 0."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):  # as tables write them
        return float(value.strip().lower() == "true")
    return number_of(value, name, largest=largest)


def logprob_of(value: Any, name: str) -> float:
    """A log-probability, NaN for null. Raises BadLineError for one above 0."""
    number = number_of(value, name)
    if number > 0:
        raise BadLineError(f"`{name}` is positive: expected a log-probability")
    return number


def whole_of(value: Any, name: str) -> int:
    """A whole number ≥ 0; −1 for null."""
    if type(value) is int and 0 <= value < 1 << 62:
        return value
    if value is None:
        return -1
    number = number_of(value, name)
    if number != int(number) or not 0 <= number < 1 << 62:
        raise BadLineError(f"`{name}` is not a whole number ≥ 0")
    return int(number)


def truth_or_none(value: Any, name: str) -> bool | None:
    """A truth value, also as a word or a number; None for null. Raises BadLineError otherwise."""
    if value is None or isinstance(value, bool):
        return value
    found = _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise BadLineError(f"`{name}` is neither true nor false")
    return found


def cut_off(value: Any, name: str) -> bool | None:
    """Whether a limit ended a response, from a truth value or from the reason that a server gives.

    name: of its column. None if it is not known, for example for another reason ("abort"). Raises
    BadLineError for any other value.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):  # SGLang's
        value = value.get("type")
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _CUT_OFF:
            return True
        if word in _ENDED:
            return False
        if word not in _TRUTHS and "reason" in name:
            return None
    return truth_or_none(value, "truncated")


def is_evaluation(value: Any) -> bool:
    """Whether a row is of an evaluation, from a truth value or the name of its split."""
    return value is True or (isinstance(value, str) and value.strip().lower() in (*_EVALUATION, "true"))


def key_of(value: Any, name: str) -> Key | None:
    """The identity of a text, a number, a list or a conversation; None for null.

    Texts are equal if all their characters are; a number never equals a text; 1 and 1.0 are equal. A
    conversation of one user message equals its text, and a missing key of a message equals null. Raises
    BadLineError for NaN, and for a value that JSON cannot hold.
    """
    if type(value) is str:
        return Key(_digest(value.encode("utf-8", "surrogatepass"), b""), value)
    if value is None:
        return None
    if hasattr(value, "tolist"):  # NumPy's
        value = value.tolist()
    try:
        if isinstance(value, list | dict):
            value = _question(_without_nulls(value))
        if isinstance(value, str):
            return Key(_digest(value.encode("utf-8", "surrogatepass"), b""), value)
        if isinstance(value, float):
            if math.isnan(value):
                raise BadLineError(f"`{name}` is NaN")
            value = int(value) if value.is_integer() else value
        return Key(_digest(json.dumps(value, sort_keys=True).encode(), b"json"), value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadLineError(f"`{name}` is neither a text nor a number") from error


def name_of(key: Key) -> str:
    """A prompt or an outcome for display, cut off at 80 characters."""
    return text_of(key.value)[:_NAME]


def text_of(value: Any) -> str:
    """The value of a key as a text."""
    return whole_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def digest_of(text: str) -> int:
    """A signed 64-bit digest of a text; equal for equal texts."""
    return first_bits(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def first_bits(digest: bytes) -> int:
    """The first 64 bits of a digest as a number with a sign."""
    return int.from_bytes(digest[:8], "little", signed=True)


def _without_nulls(value: Any) -> Any:
    """A value without null entries: Parquet writes null for each key that only other rows have."""
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _question(value: Any) -> Any:
    """A conversation of a single user message with only a text becomes that text."""
    match value:
        case [{"role": "user", "content": str(content), **rest}] if not rest:
            return content
        case _:
            return value


def _digest(data: bytes, kind: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=kind).digest()
