"""A program that scores molecules, one line in and one line out, kept at arm's length."""

import contextlib
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any, cast, final, get_args

from allmodes.chem.oracles.results import Answer, Failure, FailureKind, Scored
from allmodes.errors import ConfigError

_LEASH = (sys.executable, "-m", "allmodes.chem.oracles.leash")
_LEFT = Failure("died", "ended without an answer (exit code 0)")
_LONGEST_LINE = 1 << 22  # bytes; no honest answer is longer, twenty poses of a large ligand included
_KINDS = get_args(FailureKind)


@final
class ScorerProcess:
    """A child process that answers each SMILES line with one JSON line.

    The answer is a number, `{"value": number, "details": {...}}`, `{"error": text, "kind": kind}`, or for
    several components a list of these; details and kind may be left out.
    A process that dies, hangs over its time limit or answers nonsense is ended, costs that molecule alone,
    and is started anew for the next. It ends when this process does, however that ends. `handshake`: the
    program's first line says that it is ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        components: int,
        time_limit: float,
        start_limit: float,
        handshake: bool,
    ) -> None:
        self._command = [*_LEASH, *command]
        self._program = command[0]
        self._name, self._components = name, components
        self._time_limit, self._start_limit, self._handshake = time_limit, start_limit, handshake
        self._running: _Running | None = None
        self.notes: list[str] = []  # what it said to its user when it started

    def start(self) -> None:
        """Start the program. Raises `ConfigError` when it is not there or says that it cannot work."""
        if shutil.which(self._program) is None:
            raise ConfigError(
                f"component {self._name!r}: `command`: expected a program that can be run; "
                f"got {self._program!r}"
            )
        try:
            self._running = _Running(self._command)
        except OSError as error:
            raise ConfigError(f"component {self._name!r}: cannot be started; {error}") from error
        if self._handshake:
            line = self._running.read_line(self._start_limit)
            if isinstance(line, Failure):
                self.stop()
                raise ConfigError(f"component {self._name!r}: its worker did not start: {line.message}")
            first = json.loads(line)
            if first.get("error") is not None:
                self.stop()
                raise ConfigError(first["error"])
            self.notes = first.get("notes", [])
            self._running.fresh = False

    def ask(self, smiles: str) -> list[Answer]:
        """One answer a component for a SMILES; all the same failure when the process is at fault."""
        if self._running is not None and self._running.has_ended():  # after its last answer, not in one
            self.stop()
        used = self._running is not None
        answers = self._try(smiles)
        if used and answers == _LEFT:  # it had answered before and left in peace: it wants a new start
            self.stop()
            answers = self._try(smiles)
        if isinstance(answers, Failure):
            self.stop()
            return [answers] * self._components
        return answers

    def _try(self, smiles: str) -> list[Answer] | Failure:
        try:
            if self._running is None:
                self.start()
            return self._exchange(smiles)
        except (OSError, ConfigError) as error:
            return Failure("died", str(error))

    def _exchange(self, smiles: str) -> list[Answer] | Failure:
        running = self._running
        if running is None:
            return Failure("died", "could not be started")
        if not running.fresh and running.has_output():  # said after its last answer was taken
            return Failure("malformed", "expected one line for each SMILES; got more")
        if not running.write_line(smiles):
            return running.death()
        # A program without a handshake may still be loading when it is asked for the first time.
        line = running.read_line(self._time_limit + (self._start_limit if running.fresh else 0))
        if isinstance(line, Failure):
            return line
        if running.has_output():
            return Failure("malformed", "expected one line for each SMILES; got more")
        running.fresh = False
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            return Failure("malformed", f"expected one line of JSON; got {_shorten(line)!r}")
        items = answer if isinstance(answer, list) else [answer]
        if len(items) != self._components:
            return Failure("malformed", f"expected {self._components} answers; got {len(items)}")
        return [_parse(item) for item in items]

    def kill(self) -> None:
        """End the process and its children from another thread than the one that waits for an answer."""
        running = self._running
        if running is not None:
            running.signal()

    def stop(self) -> None:
        """End the process and its children, if it runs."""
        if self._running is not None:
            self._running.kill()
            self._running = None


class _Running:
    """A started program: its pipes, and what it has written but nobody has read."""

    def __init__(self, command: list[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `kill`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            start_new_session=True,  # so that its own children end with it
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self._buffer = b""
        self.fresh = True  # until its first answer

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def has_output(self) -> bool:
        """Whether something lies unread; the end of the output is nothing."""
        if not self._buffer and self._readable(0):
            self._buffer = os.read(self._stdout.fileno(), 65536)
        return bool(self._buffer)

    def write_line(self, text: str) -> bool:
        """Whether the program could be told."""
        try:
            self._stdin.write(text.encode() + b"\n")
        except BrokenPipeError:
            return False
        return True

    def read_line(self, limit: float) -> bytes | Failure:
        """The next line, or why there is none within `limit` seconds."""
        deadline = time.monotonic() + limit
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._readable(remaining):
                hint = "; does the program flush its output after each line?" if self.fresh else ""
                return Failure("timed_out", f"no answer within {limit:g} s{hint}")
            part = os.read(self._stdout.fileno(), 65536)
            if not part:
                return self.death()
            self._buffer += part
            if len(self._buffer) > _LONGEST_LINE:
                return Failure("malformed", f"expected one line of JSON; got {len(self._buffer)} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def death(self) -> Failure:
        """How the program ended, and its last words."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Failure("died", "closed its output")
        if code == 0:
            return _LEFT
        self._stderr.seek(0)
        words = self._stderr.read().strip().splitlines()
        last = f": {_shorten(words[-1])}" if words else ""
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Failure("died", f"{ended}{last}")

    def signal(self) -> None:
        if self._process.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()

    def _readable(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            return bool(selector.select(seconds))


def _parse(item: Any) -> Answer:
    if isinstance(item, dict) and item.get("error") is not None:
        kind = item.get("kind") if item.get("kind") in _KINDS else "raised"
        return Failure(cast("FailureKind", kind), _printable(str(item["error"]))[:500])
    value = item.get("value", item) if isinstance(item, dict) else item
    details = item.get("details", {}) if isinstance(item, dict) else {}
    if value is None:
        return Failure("not_finite", "expected a number; got null")
    if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(details, dict):
        return Failure("malformed", f"expected a number; got {str(item)[:100]!r}")
    try:
        number = float(value)
    except OverflowError:
        return Failure("not_finite", f"expected a finite number; got one of {len(str(value))} digits")
    if not math.isfinite(number):
        return Failure("not_finite", f"expected a finite number; got {number}")
    return Scored(number, details)


def _printable(text: str) -> str:
    """The text without what no file can hold: half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _shorten(text: bytes) -> str:
    return text.decode("utf-8", errors="replace")[:300]
