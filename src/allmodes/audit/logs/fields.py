"""How one of our columns is read from a row of a log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import regex

from allmodes.audit.logs.values import is_nan
from allmodes.errors import InputError, one_line, shown
from allmodes.runs.lines import BadLineError
from allmodes.runs.messages import answer_text, trajectory_text

_PATTERN_SECONDS = 5.0  # for one response; an honest pattern takes microseconds

Read = Callable[[Mapping[str, Any]], Any]


@final
@dataclass(frozen=True)
class Field:
    """source: description of the source. read: row → value. column: the log's column, if there is one."""

    source: str
    read: Read
    column: str | None = None

    def as_text(self) -> "Field":
        """A response: a text, all that the model wrote in a conversation, or token ids."""
        return Field(
            self.source, lambda row: _text_of(self.read(row), self.source, trajectory_text), self.column
        )


def plain(name: str) -> Field:
    """A column without changes."""
    return Field(name, lambda row: row.get(name), name)


def read_with(field: Field, change: Callable[[Any], Any]) -> Field:
    """A field with a function applied to its values."""
    return Field(field.source, lambda row: change(field.read(row)), field.column)


def matched(pattern: str, response: Field | None) -> Field:
    """The match of a regular expression in a response; in a conversation, in the model's answer.

    The value is the first group, or the whole match if the pattern has no group; None without a match. The
    `regex` package is used because it has a time limit (`re` has none) and supports look-around and
    backreferences, which patterns for answers use. Raises InputError for an invalid regular expression, for a
    log without responses, and from `read` for a pattern that takes too long.
    """
    try:
        compiled = regex.compile(pattern)
    except Exception as error:  # the package's own error, or any error of nested brackets
        raise InputError(f"`outcome_pattern`: expected a regular expression; {one_line(error)}") from error
    if response is None:
        raise InputError("`outcome_pattern`: expected a log with responses; got none")

    def read(row: Mapping[str, Any]) -> str | None:
        text = _text_of(response.read(row), response.source, answer_text)
        if text is None:
            return None
        try:
            found = compiled.search(text, timeout=_PATTERN_SECONDS)
        except TimeoutError as error:
            raise InputError(
                f"`outcome_pattern`: expected a pattern that takes less than {_PATTERN_SECONDS:g} s "
                f"for a response; {shown(pattern)} took longer for one of {len(text):,} characters; "
                "nested repeats such as (a+)+ try every way to divide a text"
            ) from error
        return None if found is None else found[1 if compiled.groups else 0]

    return Field(f"{pattern} in {response.source}", read)


def known(value: Any) -> Any:
    """A value; None if it is NaN."""
    return None if is_nan(value) else value


def _text_of(value: Any, name: str, text: Callable[[Any], str | None]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "tolist"):  # NumPy's
        value = value.tolist()
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return " ".join(map(str, value))
    try:
        if not isinstance(value, list):
            raise TypeError(f"expected messages; got {type(value).__name__}")
        return text(value)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, RecursionError) as error:
        raise BadLineError(f"`{name}` is neither a text nor a conversation") from error
