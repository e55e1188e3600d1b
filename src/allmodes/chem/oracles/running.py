"""A running program: its pipes, unread output, and the end of its standard error."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from typing import IO, cast, final

from allmodes.chem.oracles.results import Failure
from allmodes.chem.oracles.watchdog import end_descendants

LEFT = Failure("died", "ended without an answer (exit code 0)")
_LONGEST_LINE = 1 << 22  # bytes; no honest answer is longer, twenty poses of a large ligand included
_KEPT = 1 << 16  # bytes of what a program writes to standard error


@final
class Tail:
    """The end of what is written into a pipe, read by a thread of its own so that no writer ever waits."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while part := os.read(self._stream.fileno(), _KEPT):
            self._kept = (self._kept + part)[-_KEPT:]

    def text(self, *, wait: float) -> bytes:
        """The last 64 KB, once all writers have closed the pipe, or after `wait` seconds."""
        self._thread.join(wait)
        return self._kept

    def close(self) -> None:
        """Close the pipe, unless a process still holds its other end."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._stream.close()


@final
class RunningProgram:
    """A program that runs in its own session.

    fresh: until its first answer. first, slowest: seconds that the first answer took, and the slowest of the
    others, None without any.
    """

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # so that its own children end with it
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self._stderr = Tail(cast("IO[bytes]", self._process.stderr))
        self._buffer = b""
        self._asked = time.monotonic()
        self.fresh = True
        self.first, self.slowest = 0.0, cast("float | None", None)

    def has_ended(self) -> bool:
        """Whether the program has ended by itself."""
        return self._process.poll() is not None

    def has_output(self, wait: float) -> bool:
        """Whether something lies unread, or comes within `wait` seconds; the end of the output is nothing."""
        if not self._buffer and self._readable(wait):
            self._buffer = os.read(self._stdout.fileno(), 65536)
        return bool(self._buffer)

    def unread(self) -> bytes:
        """What lies unread."""
        return self._buffer

    def write_line(self, text: str) -> bool:
        """Send a line to the program; False if it could not be sent."""
        self._asked = time.monotonic()
        try:
            self._stdin.write(text.encode() + b"\n")
        except BrokenPipeError:
            return False
        return True

    def end_input(self) -> None:
        """Close the program's input, so that it can end."""
        self._stdin.close()

    def read_line(self, limit: float) -> bytes | Failure:
        """The next line, or the reason why there is none within `limit` seconds."""
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

    def read_rest(self, limit: float) -> None:
        """Read until the output ends, or for `limit` seconds."""
        deadline = time.monotonic() + limit
        while len(self._buffer) <= _LONGEST_LINE and self._readable(max(0.0, deadline - time.monotonic())):
            part = os.read(self._stdout.fileno(), 65536)
            if not part:
                return
            self._buffer += part

    def note_answer(self) -> None:
        """Record that the last line read answers the last request."""
        took = time.monotonic() - self._asked
        if self.fresh:
            self.fresh, self.first = False, took
        else:
            self.slowest = max(took, self.slowest or 0.0)

    def death(self) -> Failure:
        """How the program ended, and the end of its standard error."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Failure("died", "closed its output")
        if code == 0:
            return LEFT
        words = self._stderr.text(wait=1.0).strip().splitlines()
        last = f": {shorten(words[-1])}" if words else ""
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Failure("died", f"{ended}{last}")

    def signal(self) -> None:
        """Kill the program and all that it started."""
        if self._process.returncode is None:  # else its number may be another's by now
            end_descendants(self._process.pid)
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill it, wait for its end, and close its pipes."""
        self.signal()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
        self._stderr.close()

    def _readable(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            return bool(selector.select(seconds))


def shorten(text: bytes) -> str:
    """The beginning of what a program wrote, as text."""
    return text.decode("utf-8", errors="replace").strip()[:300]
