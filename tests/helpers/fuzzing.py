"""Random damage to files and values, and the one property that all of it must leave: success or one line.

Cases have numbers, and each its own generator: a failure names the case, which ALLMODES_FUZZ_ONLY runs alone.
ALLMODES_FUZZ_CASES sets how many cases each test runs, ALLMODES_FUZZ_SEED the seed.
"""

import datetime
import json
import math
import os
import random
import signal
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest

from allmodes.errors import AllmodesError

_CASES = int(os.environ.get("ALLMODES_FUZZ_CASES", "0"))
_SEED = os.environ.get("ALLMODES_FUZZ_SEED", "1")
_ONLY = os.environ.get("ALLMODES_FUZZ_ONLY")
_SECONDS = 60  # of the processor that a case may take, and ten times as many of waiting: all beyond is a hang
_LONGEST = 3000  # characters of an error, progress and the parser's hints included

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e-320, 1e308, -1e308, 10**30, 2**31, 2**63, 2**64, -(2**63),
    math.nan, math.inf, -math.inf, "", " ", "0", "0.5", "1e400", "nan", "x", "x" * 300, "x" * 20_000, "a\nb",
    "a\tb", "\x1b[31m", "\x00", "\ud800", "\u202e", "=1+1", "é", "../..", "/", ".", "/dev/null", "a/b", "*",
    "(", "[", "{", "C(", "c1ccccc1", "C" * 3000, "(a+)+$", "%s", "{x}", "null", [], {}, [[]], [None], [0],
    [1, 1], ["x"], {"x": 1}, {"kind": "qed"}, {"kind": "nothing"}, {"": {}}, datetime.date(2020, 1, 1),
    [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],
)  # fmt: skip
_BYTES = (
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r",
    b'"', b"'", b"[", b"{", b"]", b"}", b",", b"=", b":",
    b"#", b"&a ", b"*a", b"!!", b"1e999", b"nan", b"-", b"9" * 5000, b"\\", b"\\ud800", b"\\u0000", b"0x",
    b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\t", b" ", b"<<: ", b"?", b"|", b"'''", b'"""',
)  # fmt: skip


class TooSlowError(BaseException):
    """A case took longer than any may; no `except Exception` on its way holds it."""


def fuzz(name: str, default: int, attempt: Callable[[random.Random], None]) -> None:
    """Run `attempt` on many generators and fail with each kind of failure once, by the case to run alone."""
    failures: dict[str, str] = {}
    numbers = range(_CASES or default) if _ONLY is None else [int(_ONLY)]
    for number in numbers:
        try:
            _within_limit(attempt, random.Random(f"{_SEED}/{name}/{number}"))
        except (Exception, TooSlowError) as error:  # noqa: BLE001 - all of them are what is looked for
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if "/allmodes/" in frame.filename] or frames
            kind = f"{type(error).__name__} at {ours[-1].filename}:{ours[-1].lineno}"
            notes = " | ".join(getattr(error, "__notes__", []))
            failures.setdefault(kind, f"{kind}, case {number}: {str(error)[:600]!r} {notes[:1500]}")
    if failures:
        pytest.fail(
            "\n".join([f"{name}: {len(failures)} kinds of failures", *failures.values()]), pytrace=False
        )


def _within_limit(attempt: Callable[[random.Random], None], rng: random.Random) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {_SECONDS} s, or {10 * _SECONDS} s of waiting")

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, _SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, 10 * _SECONDS),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        attempt(rng)
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def check_command(command: Callable[..., tuple[int, str, str]], *arguments: object) -> int:
    """Run a command; its exit code. Raises AssertionError for more than one line of an error, or no line."""
    try:
        code, out, err = command(*arguments)
    except BaseException as error:
        error.add_note(f"allmodes {' '.join(shorten(str(argument)) for argument in arguments)}")
        raise
    words = shorten(f"{arguments}: {err}", 1500)
    assert code in (0, 1, 2), words
    assert "Traceback" not in out + err, words
    if code:
        lines = [line for line in err.splitlines() if line.startswith("allmodes: ")]
        by_parser = code == 2 and not lines and "helptext" in err  # of a flag whose value is none
        assert len(lines) == 1 or by_parser, words
        assert len(err) <= _LONGEST, words
    return code


def check_call(function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Call a function that reads a file: it returns, or raises our error, which the command line shortens."""
    try:
        function(*arguments, **named)
    except AllmodesError as error:
        if not str(error):
            raise AssertionError("an error without a word") from error


def shorten(text: str, width: int = 300) -> str:
    """The text's two ends."""
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Data with one to four changes: bytes put in, taken out or changed, lines repeated or swapped, a cut."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 | 1:
                data = data[:at] + rng.choice(_BYTES) + data[at:]
            case 2:
                data = data[:at] + data[at + rng.randint(1, 20) :]
            case 3:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 4:
                lines = data.split(b"\n")
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                data = b"\n".join(lines)
            case 5:
                lines = data.split(b"\n")
                rng.shuffle(lines)
                data = b"\n".join(lines)
            case _:
                data = data[:at]
    return data


def damage_tree(rng: random.Random, tree: Any) -> Any:
    """A copy of nested tables and lists with one to three values, keys or entries changed."""
    copy: Any = {"tree": _copy(tree)}
    for _ in range(rng.randint(1, 3)):
        parent, key = rng.choice(_places(copy["tree"], copy, "tree"))
        match rng.randrange(6):
            case 0 | 1 | 2:
                parent[key] = _copy(rng.choice(VALUES))
            case 3 if isinstance(parent, dict) and parent is not copy:
                parent[rng.choice(["x", "", "kind", "name", "trust_remote_code", f"{key}s"])] = parent[key]
            case 4 if parent is not copy:
                del parent[key]
            case _:
                parent[key] = [parent[key], parent[key]]
    return copy["tree"]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _places(value: Any, parent: Any, key: Any) -> list[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(parent, key), *(place for name, part in inner for place in _places(part, value, name))]


def as_json(value: Any) -> str:
    """JSON as Python writes it, NaN and halves of surrogate pairs included."""
    return json.dumps(value, default=str)


def as_toml(value: Any, *, is_top: bool = True) -> str:
    """TOML, tables inline below the top; what TOML lacks is written as JSON, and is an error there."""
    if is_top and isinstance(value, dict):
        return "".join(f"{json.dumps(str(k))} = {as_toml(v, is_top=False)}\n" for k, v in value.items())
    if isinstance(value, dict):
        parts = (f"{json.dumps(str(k))} = {as_toml(v, is_top=False)}" for k, v in value.items())
        return f"{{ {', '.join(parts)} }}"
    if isinstance(value, list):
        return f"[{', '.join(as_toml(part, is_top=False) for part in value)}]"
    return str(value) if isinstance(value, float | datetime.date) else json.dumps(value)


def pick(rng: random.Random, values: Sequence[Any], most: int) -> list[Any]:
    """None to `most` of the values."""
    return rng.sample(list(values), rng.randint(0, min(most, len(values))))
