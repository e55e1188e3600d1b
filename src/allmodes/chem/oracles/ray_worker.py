"""A worker on any machine of a Ray cluster."""

import socket
import time
from collections.abc import Sequence
from typing import Any, final

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError

from allmodes.chem.oracles.components import ComponentConfig
from allmodes.chem.oracles.config import has_plain_program
from allmodes.chem.oracles.results import Answer, Failure, StrayLineError
from allmodes.chem.oracles.workers import LocalWorker
from allmodes.errors import ConfigError, RunError, one_line

_RETRIES = 1  # when Ray's process dies: the machine may be at fault rather than the molecule
_REACH = 10  # seconds for a cluster's address to answer
_LOOK = 0.5  # seconds between two looks at whether the answer is still wanted


def join_ray(address: str) -> None:
    """Join a Ray cluster, or start one here for "local". Raises `ConfigError` if there is none."""
    if ray.is_initialized():
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for a minute, and then end this process
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
        ray.init(
            address=address, log_to_driver=False, include_dashboard=False if address == "local" else None
        )
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f'`oracle.ray`: expected "local", "auto" or the address of a running cluster; got {address!r}: '
            f"{' '.join(str(error).split())}"
        ) from error


class _Remote:
    """What runs in Ray's process: the components' own processes, restarted with it."""

    def __init__(self, groups: Sequence[Sequence[ComponentConfig]]) -> None:
        self._worker = LocalWorker(groups)

    def call(self, name: str) -> str | None:
        """Start, probe, settle or finish; returns what is wrong."""
        try:
            getattr(self._worker, name)()
        except (ConfigError, StrayLineError) as error:
            return str(error)
        return None

    def notes(self) -> list[str]:
        return self._worker.notes()

    def ask(self, group: int, smiles: str) -> list[Answer] | str:
        """The answers, or what is wrong with all that the program says."""
        try:
            return self._worker.ask(group, smiles)
        except StrayLineError as error:
            return str(error)


@final
class RayWorker:
    """One actor with one CPU; files of the configuration must lie where its machine finds them."""

    def __init__(self, groups: Sequence[Sequence[ComponentConfig]]) -> None:
        self._groups = groups
        self._is_wanted = True
        self._start_limit = sum(max(c.start_limit for c in group) for group in groups)
        actor: Any = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES)(_Remote)
        self._actor = actor.remote([list(group) for group in groups])

    def start(self) -> None:
        """Start the processes. Raises `ConfigError` for a component that cannot work."""
        self._call("start")

    def probe(self) -> None:
        """Ask each user's program for an answer. Raises `ConfigError` if it gives none."""
        self._call("probe")

    def notes(self) -> list[str]:
        """What its user should know of the files that it has read, a line each."""
        return ray.get(self._actor.notes.remote(), timeout=self._start_limit)

    def _call(self, name: str) -> None:
        try:
            error = ray.get(self._actor.call.remote(name), timeout=self._start_limit)
        except GetTimeoutError as late:
            raise ConfigError(
                f"`oracle.workers`: expected a free CPU of the Ray cluster for each worker; none within "
                f"{self._start_limit:g} s"
            ) from late
        if error is not None:
            raise ConfigError(error)

    def ask(self, group: int, smiles: str) -> list[Answer]:
        """One answer for each component of a group. Raises `RunError` if the cluster does not answer."""
        reference = self._actor.ask.remote(group, smiles)
        message = "given up"
        patience = (1 + _RETRIES) * max(c.start_limit + c.time_limit for c in self._groups[group]) + _REACH
        deadline = time.monotonic() + patience
        try:
            while self._is_wanted:
                if ray.wait([reference], timeout=_LOOK)[0]:
                    return self._trusted(ray.get(reference))
                if time.monotonic() > deadline:  # its process keeps the limits, unless its machine is gone
                    raise RunError(f"Ray: no answer within {patience:g} s; is the cluster still there?")
        except (RayActorError, OutOfMemoryError) as error:
            message = one_line(error)[:300]
        except RayError as error:
            raise RunError(f"Ray: {one_line(error)[:300]}") from error
        return [Failure("died", f"Ray: {message}")] * len(self._groups[group])

    def settle(self) -> None:
        """Listen whether a program says more than it was asked. Raises `StrayLineError`."""
        self._listen("settle")

    def finish(self) -> None:
        """End the programs, whose last answers have been taken. Raises `StrayLineError` as `settle` does."""
        self._listen("finish")

    def _listen(self, name: str) -> None:
        if not has_plain_program(component for group in self._groups for component in group):
            return  # and so no time for the way to another machine
        reference = self._actor.call.remote(name)
        try:
            while self._is_wanted:
                if ray.wait([reference], timeout=_LOOK)[0]:
                    self._trusted(ray.get(reference))
                    return
        except RayError as error:
            raise RunError(f"Ray: {one_line(error)[:300]}") from error

    def _trusted(self, answer: Any) -> Any:
        if isinstance(answer, str):
            raise StrayLineError(answer)
        return answer

    def kill(self) -> None:
        """Give up what is being computed, from another thread."""
        self._is_wanted = False

    def stop(self) -> None:
        """End the actor; its processes end with it."""
        ray.kill(self._actor)
