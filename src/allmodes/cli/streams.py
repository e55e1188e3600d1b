"""Standard output and error as a shell hands them over: any encoding, closed, full, or read to the half."""

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
    """Standard output cannot be written; its cause is the OSError."""


class _Output(io.TextIOWrapper):
    """Standard output; a failure of it differs in type from one of any other file."""

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
    """Standard error; where it cannot be written, work continues silently."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Give a closed stream the null device, and let no character and no full disk end in a traceback.

    Without the null device the first file that a program opens would become its standard output.
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
    """JSON with escapes where standard output has another encoding: it must say the same when it is read."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), indent=2)
    return text


def give_up_output() -> None:
    """Send what is left for standard output to the null device: Python would fail on it again at its end."""
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
    """For characters that an encoding lacks: the name of a Greek letter, plain punctuation, or ?."""
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
