"""Who computes the components: the processes of one worker, on this machine."""

import json
import sys
from collections.abc import Sequence
from typing import Protocol, final

from allmodes.chem.oracles.components import ComponentConfig
from allmodes.chem.oracles.process import ScorerProcess
from allmodes.chem.oracles.results import Answer, Failure, StrayLineError
from allmodes.errors import ConfigError

# A program that cannot even be asked about this (ethanol) cannot run at all.
_PROBE = "CCO"


class Worker(Protocol):
    """Answers for one molecule at a time, group by group; `kill` may come from another thread."""

    def start(self) -> None:
        """Be ready to answer. Raises `ConfigError` for a component that cannot work."""
        ...

    def probe(self) -> None:
        """Ask each user's program for an answer. Raises `ConfigError` if it gives none."""
        ...

    def notes(self) -> list[str]:
        """What its user should know of the files that it has read, a line each."""
        ...

    def ask(self, group: int, smiles: str) -> list[Answer]:
        """One answer for each component of a group."""
        ...

    def settle(self) -> None:
        """Listen whether a program says more than it was asked. Raises `StrayLineError`."""
        ...

    def finish(self) -> None:
        """End the programs, whose last answers have been taken. Raises `StrayLineError` as `settle` does."""
        ...

    def kill(self) -> None:
        """Give up what is being computed, at once."""
        ...

    def stop(self) -> None:
        """Leave nothing running."""
        ...


def component_groups(components: Sequence[ComponentConfig]) -> list[list[ComponentConfig]]:
    """The components that are asked together, since they share a process."""
    together = [component for component in components if not component.own_process]
    own = [[component] for component in components if component.own_process]
    return [*([together] if together else []), *own]


@final
class LocalWorker:
    """One process for each group of components."""

    def __init__(self, groups: Sequence[Sequence[ComponentConfig]]) -> None:
        self._groups = groups
        self._processes = [_scorer_process(group) for group in groups]

    def start(self) -> None:
        """Start all processes. Raises `ConfigError` for a component that cannot work."""
        try:
            for process in self._processes:
                process.start()
        except BaseException:
            self.stop()
            raise

    def probe(self) -> None:
        """Ask each user's program about ethanol. Raises `ConfigError` if it gives no valid answer.

        The other components need none: they say when they start that they can work.
        """
        for (first, *_), process in zip(self._groups, self._processes, strict=True):
            if first.program is None:
                continue
            try:
                (answer,) = process.ask(_PROBE)
                process.settle()
            except StrayLineError as error:
                raise ConfigError(str(error)) from error
            if isinstance(answer, Failure) and answer.kind in ("died", "timed_out", "malformed"):
                raise ConfigError(
                    f"component {first.name!r}: `command`: expected an answer to {_PROBE!r}; "
                    f"got {answer.kind}: {answer.message}"
                )

    def notes(self) -> list[str]:
        """What its user should know of the files that it has read, a line each."""
        return [note for process in self._processes for note in process.notes]

    def ask(self, group: int, smiles: str) -> list[Answer]:
        """One answer for each component of a group."""
        return self._processes[group].ask(smiles)

    def settle(self) -> None:
        """Listen whether a program says more than it was asked. Raises `StrayLineError`."""
        for process in self._processes:
            process.settle()

    def finish(self) -> None:
        """End the programs, whose last answers have been taken. Raises `StrayLineError` as `settle` does."""
        for process in self._processes:
            process.finish()

    def kill(self) -> None:
        """End the processes from another thread."""
        for process in self._processes:
            process.kill()

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stop()


def _scorer_process(group: Sequence[ComponentConfig]) -> ScorerProcess:
    first = group[0]
    if first.program is not None:
        command, protocol = list(first.program.command), first.program.protocol
    else:
        protocol = "json"
        configs = json.dumps([component.model_dump(mode="json") for component in group])
        command = [sys.executable, "-m", "allmodes.chem.oracles.worker", configs]
    return ScorerProcess(
        command,
        name=first.name,
        components=len(group),
        time_limit=max(component.time_limit for component in group),
        start_limit=max(component.start_limit for component in group),
        handshake=first.program is None,
        protocol=protocol,
    )
