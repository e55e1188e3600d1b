"""A program that scores molecules, one line in and one line out, kept at arm's length."""

import contextlib
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any, final

from allmodes.chem.oracles.results import Failure
from allmodes.errors import ConfigError

Answer = float | Failure


@final
class ScorerProcess:
    """A child process that answers each SMILES line with one JSON line.

    The answer is a number, `{"value": number}`, `{"error": text}`, or for several components a list of these.
    A process that dies, hangs over its time limit or answers nonsense is ended, costs that molecule alone,
    and is started anew for the next. `handshake`: the program's first line says that it is ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        components: int,
        time_limit: float,
        start_limit: float,
        handshake: bool,
    ) -> None:
        self._command = list(command)
        self._components = components
        self._time_limit, self._start_limit, self._handshake = time_limit, start_limit, handshake
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._buffer = b""
        self._fresh = False

    def start(self) -> None:
        """Start the program. Raises `ConfigError` when it is not there or says that it cannot work."""
        program = self._command[0]
        if shutil.which(program) is None:
            raise ConfigError(f"`command`: expected a program that can be run; got {program!r}")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            start_new_session=True,  # so that its own children end with it
        )
        self._buffer, self._fresh = b"", True
        if self._handshake:
            line = self._read_line(time.monotonic() + self._start_limit)
            if isinstance(line, Failure):
                self.stop()
                raise ConfigError(f"the oracle's worker did not start: {line.message}")
            error = json.loads(line).get("error")
            if error is not None:
                self.stop()
                raise ConfigError(error)
            self._fresh = False

    def ask(self, smiles: str) -> list[Answer]:
        """One answer a component for a SMILES; all the same failure when the process is at fault."""
        try:
            if self._process is None:
                self.start()
            answers = self._exchange(smiles)
        except (OSError, ConfigError) as error:
            answers = Failure("died", str(error))
        if isinstance(answers, Failure):
            self.stop()
            return [answers] * self._components
        return answers

    def _exchange(self, smiles: str) -> list[Answer] | Failure:
        process = self._process
        assert process is not None and process.stdin is not None
        if self._unasked():
            return Failure("malformed", "expected one line for each SMILES; got more")
        try:
            process.stdin.write(smiles.encode() + b"\n")
        except BrokenPipeError:
            return self._died()
        # A program without a handshake may still be loading when it is asked for the first time.
        limit = self._time_limit + (self._start_limit if self._fresh else 0)
        line = self._read_line(time.monotonic() + limit)
        if isinstance(line, Failure):
            return line
        self._fresh = False
        try:
            answer = json.loads(line)
        except ValueError:
            return Failure("malformed", f"expected one line of JSON; got {_shorten(line)!r}")
        items = answer if isinstance(answer, list) else [answer]
        if len(items) != self._components:
            return Failure("malformed", f"expected {self._components} answers; got {len(items)}")
        return [_parse(item) for item in items]

    def _unasked(self) -> bool:
        """Whether output lies unread before anything was asked: answers and questions are out of step."""
        return not self._fresh and (bool(self._buffer) or self._readable(0))

    def _readable(self, seconds: float) -> bool:
        assert self._process is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)  # pyright: ignore[reportArgumentType]
            return bool(selector.select(seconds))

    def _read_line(self, deadline: float) -> bytes | Failure:
        process = self._process
        assert process is not None and process.stdout is not None
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._readable(remaining):
                hint = "; does the program flush its output after each line?" if self._fresh else ""
                limit = self._time_limit if not self._fresh else self._time_limit + self._start_limit
                return Failure("timed_out", f"no answer within {limit:g} s{hint}")
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                return self._died()
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _died(self) -> Failure:
        assert self._process is not None and self._stderr is not None
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Failure("died", "closed its output")
        self._stderr.seek(0)
        words = self._stderr.read().strip().splitlines()
        last = f": {_shorten(words[-1])}" if words else ""
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Failure("died", f"{ended}{last}")

    def stop(self) -> None:
        """End the process and its children, if it runs."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()
        self._process = None


def _parse(item: Any) -> Answer:
    if isinstance(item, dict) and "error" in item:
        return Failure("raised", str(item["error"])[:500])
    value = item.get("value") if isinstance(item, dict) else item
    if value is None:
        return Failure("not_finite", "expected a number; got null")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Failure("malformed", f"expected a number; got {str(item)[:100]!r}")
    if not math.isfinite(value):
        return Failure("not_finite", f"expected a finite number; got {value}")
    return float(value)


def _shorten(text: bytes) -> str:
    return text.decode("utf-8", errors="replace")[:300]
