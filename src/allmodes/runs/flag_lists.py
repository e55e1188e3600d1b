"""Parse lists after a flag: 0 1 2, or 0,1,2, or [0,1,2], with or without quotes and blanks.

Imports nothing, so that the command line starts fast.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import final

FORMS = "a list is written 0 1 2, or 0,1,2, or [0,1,2]"

_CLOSING = {"[": "]", "(": ")", "{": "}"}
_QUOTES = "\"'"


@final
class FlagText(str):
    """The values after a flag whose key may take a list. tokens: as the shell split them."""

    __slots__ = ("tokens",)
    tokens: tuple[str, ...]

    def __new__(cls, *tokens: str) -> "FlagText":
        """From one or more tokens; as a text they are joined by blanks."""
        text = super().__new__(cls, " ".join(tokens))
        text.tokens = tokens
        return text


def split_list(
    tokens: Sequence[str],
    *,
    of_texts: bool,
    count: int | None = None,
    is_whole: Callable[[str], bool] = lambda token: False,
) -> list[str]:
    """The entries of a list, each without its quotes.

    Entries are separated by commas and by the shell. Blanks inside a token separate numbers and choices, but
    belong to the entry if entries are texts. Commas inside brackets or quotes do not separate, so
    '["a,b", "c"]' has two entries. of_texts: whether entries are texts. count: required number of entries;
    exactly this many text tokens are taken unchanged. is_whole: whether a token is a single entry whatever it
    contains, such as the path of an existing file.
    """
    tokens = list(tokens)
    if _is_wrapped(tokens) and not (len(tokens) == 1 and is_whole(tokens[0])):
        tokens[0] = tokens[0].lstrip()[1:]
        tokens[-1] = tokens[-1].rstrip()[:-1]
    elif of_texts and len(tokens) == count:
        return [token if is_whole(token) else token.removesuffix(",") for token in tokens]
    separators = "," if of_texts else ", \t\n"
    return [
        entry for token in tokens for entry in ([token] if is_whole(token) else _entries(token, separators))
    ]


def _entries(token: str, separators: str) -> Iterator[str]:
    start = 0
    for position, depth in _scan(token, separators):
        if depth == 0 and token[position] in separators:
            yield from _entry(token[start:position])
            start = position + 1
    yield from _entry(token[start:])


def _entry(text: str) -> Iterator[str]:
    text = text.strip()
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        yield text[1:-1]
    elif text:
        yield text


def _is_wrapped(tokens: Sequence[str]) -> bool:
    """Whether one pair of square brackets encloses everything, unlike in `[nH]1cccc1` or `[a] [b]`."""
    text = "\n".join(tokens).strip()
    if not (text.startswith("[") and text.endswith("]")):
        return False
    return all(depth > 0 or position == len(text) - 1 for position, depth in _scan(text, ", \t\n"))


def _scan(text: str, separators: str) -> Iterator[tuple[int, int]]:
    """Each position outside quotes, with the number of brackets open after it."""
    expected: list[str] = []
    quote = ""
    previous = ","
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES and (previous in separators or previous in _CLOSING or previous in " ="):
            quote = character
        else:
            if character in _CLOSING:
                expected.append(_CLOSING[character])
            elif expected and character == expected[-1]:
                expected.pop()
            yield position, len(expected)
        previous = character
