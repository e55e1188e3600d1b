"""A scoring program in a child process: one line in, one line out, with checks and time limits."""

import json
import math
import shutil
import sys
from collections.abc import Sequence
from typing import Any, Literal, cast, final, get_args

from allmodes.chem.oracles.results import Answer, Failure, FailureKind, Scored, StrayLineError
from allmodes.chem.oracles.running import LEFT, RunningProgram, shorten
from allmodes.errors import ConfigError, printable

_WATCHDOG = (sys.executable, "-m", "allmodes.chem.oracles.watchdog")
_KINDS = get_args(FailureKind)
_QUIET = 0.02  # minimum seconds without output from a program that has answered everything
_SLOWER = 1.25  # a line may take so much longer than the slowest one so far
_FIRST = 1.0  # seconds, at most, for the first answer to count: the program was still loading
_GOODBYE = 1.0  # minimum seconds for a program to end after its input has ended

Protocol = Literal["plain", "json"]


@final
class ScorerProcess:
    """A child process that answers each request with one line of JSON.

    protocol "plain": a request is a SMILES. The answer is a number, `{"value": number, "details": {...}}`, or
    `{"error": text, "kind": kind}`; details and kind may be left out. "json": a request is
    `{"id": number, "smiles": text}`, and the answer an object like these with the same `id`; for several
    components it has a list of them as `answers`.

    A process that dies, exceeds its time limit or prints invalid output is ended and restarted for the next
    molecule; only the current molecule fails. It ends with this process, for whatever reason. `handshake`:
    the program's first line says that it is ready.
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
        protocol: Protocol,
    ) -> None:
        self._command = [*_WATCHDOG, *command]
        self._program = command[0]
        self._name, self._components, self._protocol = name, components, protocol
        self._time_limit, self._start_limit, self._handshake = time_limit, start_limit, handshake
        self._running: RunningProgram | None = None
        self._requests = 0
        self._last = ""  # the molecule of the last answer
        self.notes: list[str] = []  # what it said to its user when it started

    def start(self) -> None:
        """Start the program. Raises `ConfigError` if it is not there or says that it cannot work."""
        if shutil.which(self._program) is None:
            raise ConfigError(
                f"component {self._name!r}: `command`: expected a program that can be run; "
                f"got {self._program!r}"
            )
        try:
            self._running = RunningProgram(self._command)
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
                raise ConfigError(printable(first["error"]))
            self.notes = first.get("notes", [])
            self._running.fresh = False

    def ask(self, smiles: str) -> list[Answer]:
        """One answer a component for a SMILES; all the same failure when the process is at fault.

        Raises `StrayLineError` if a plain program has written a line that answers no request.
        """
        if self._running is not None and self._running.has_ended():  # after its last answer, not in one
            self._refuse_output(wait=0)
            self.stop()
        used = self._running is not None
        answers = self._try(smiles)
        if used and answers == LEFT:  # it had answered before and left in peace: it wants a new start
            self.stop()
            answers = self._try(smiles)
        if isinstance(answers, Failure):
            self.stop()
            return [answers] * self._components
        return answers

    def settle(self) -> None:
        """Wait long enough to notice a line beyond the answers.

        A plain program that has once said too much answers each request with the line of an earlier one, and
        is always a line behind: that line comes within the time that an answer takes. Raises
        `StrayLineError` for one. With ids there is nothing to listen for.
        """
        running = self._running
        if self._protocol == "plain" and running is not None:
            known = min(running.first, _FIRST) if running.slowest is None else running.slowest
            self._refuse_output(wait=min(max(_QUIET, _SLOWER * known), self._time_limit))

    def finish(self) -> None:
        """End the program's input, and listen until it has ended. Raises `StrayLineError` as `settle` does.

        A last line that could be no answer, such as "done", is no sign of that.
        """
        running = self._running
        if self._protocol == "plain" and running is not None:
            running.end_input()
            running.read_rest(max(_GOODBYE, 2 * (running.slowest or 0.0)))
            if any(_is_answer(line) for line in running.unread().splitlines()):
                self._refuse_output(wait=0)
        self.stop()

    def _refuse_output(self, *, wait: float) -> None:
        """Raise StrayLineError if a plain program says something within `wait` seconds."""
        running = self._running
        if self._protocol != "plain" or running is None or not running.has_output(wait):
            return
        said = running.unread()
        self.stop()
        where = f"after the answer for {self._last!r}" if self._last else "before it was asked anything"
        raise StrayLineError(
            f"component {self._name!r}: expected one line for each SMILES; got one more {where}: "
            f"{shorten(said)!r}; from there on, answers cannot be assigned to molecules. "
            'Print nothing else to standard output, or use `protocol = "json"`, whose answers have ids'
        )

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
        if not running.fresh:  # said after its last answer was taken
            self._refuse_output(wait=0)
            if self._protocol == "json" and running.has_output(0):  # with ids it costs this molecule alone
                said = shorten(running.unread())
                return Failure("malformed", f"expected one line for each request; got one more: {said!r}")
        self._requests += 1
        is_json = self._protocol == "json"
        request = json.dumps({"id": self._requests, "smiles": smiles}) if is_json else smiles
        if not running.write_line(request):
            return running.death()
        # A program without a handshake may still be loading when it is asked for the first time.
        line = running.read_line(self._time_limit + (self._start_limit if running.fresh else 0))
        if isinstance(line, Failure):
            return line
        running.note_answer()
        self._last = smiles
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            return Failure("malformed", f"expected one line of JSON; got {shorten(line)!r}")
        self._refuse_output(wait=0)
        if is_json:
            number = answer.get("id") if isinstance(answer, dict) else None
            if type(number) is not int or number != self._requests:
                return Failure("malformed", f"expected `id` {self._requests}; got {shorten(line)!r}")
            answer = answer.get("answers", answer)
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


def _is_answer(line: bytes) -> bool:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return not isinstance(answer, str | bool)


def _parse(item: Any) -> Answer:
    if isinstance(item, dict) and item.get("error") is not None:
        kind = item.get("kind") if item.get("kind") in _KINDS else "raised"
        return Failure(cast("FailureKind", kind), str(item["error"])[:500])
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
