"""Standard output and error in any state: any encoding, closed, full, or read only in part."""

import codecs
import contextlib
import io
import json
import os
import sys
import unicodedata

_HANDLER = "allmodes-plain"
_PLAIN = {"─": "-", "━": "=", "│": "|", "‖": "||", "…": "...", "–": "-", "—": "-", "−": "-", "×": "x",
          "•": "*", "·": "*", "→": "->", "≤": "<=", "≥": ">=", "±": "+-",
          "“": '"', "”": '"', "‘": "'", "’": "'"}  # fmt: skip


class OutputError(Exception):
    """Standard output cannot be written; the cause is the OSError."""


class _Output(io.TextIOWrapper):
    """Standard output; its write errors have a type of their own."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError from error


class _Messages(io.TextIOWrapper):
    """Standard error; if it cannot be written, work continues silently."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Replace closed streams by the null device, and prevent tracebacks from characters or a full disk.

    Without the null device, the first file that a program opens would become its standard output.
    """
    _open_closed()
    codecs.register_error(_HANDLER, _plain_text)
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _again(sys.stdout, _Output)
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _again(sys.stderr, _Messages)


def _again(stream: io.TextIOWrapper, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    encoding, buffering, through = stream.encoding, stream.line_buffering, stream.write_through
    return kind(
        stream.detach(), encoding=encoding, errors=_HANDLER, line_buffering=buffering, write_through=through
    )


def printable_json(text: str) -> str:
    """JSON, with escapes if standard output is not UTF-8, so that it reads back the same."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), indent=2)
    return text


def give_up_output() -> None:
    """Send remaining output to the null device, since Python would fail on it again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _open_closed() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _plain_text(error: UnicodeError) -> tuple[str, int]:
    """Replacement for characters that an encoding lacks: a Greek letter's name, plain punctuation, or ?."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain_character, error.object[error.start : error.end])), error.end


def _plain_character(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER "):
        return name.removeprefix("GREEK SMALL LETTER ").lower()
    if name.startswith("BOX DRAWINGS "):
        return "+"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return plain or "?"
