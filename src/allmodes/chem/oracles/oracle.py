"""The oracle of a run: components, shaping and aggregation behind one protocol, on several workers."""

import itertools
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, final

from allmodes.chem.oracles.components import ComponentConfig
from allmodes.chem.oracles.config import OracleConfig, has_plain_program
from allmodes.chem.oracles.results import Answer, Evaluation, Failure, Scored
from allmodes.chem.oracles.shaping import aggregate
from allmodes.chem.oracles.store import ResultStore, component_key
from allmodes.chem.oracles.workers import LocalWorker, Worker, component_groups
from allmodes.extras import require

_FIRST = -1  # batch number of the request to end: before every molecule
_LAST = sys.maxsize  # ... or after all of them
_LOOK = 0.1  # seconds between two looks at threads that shall end


class Oracle(Protocol):
    """SMILES in, one evaluation each out, whenever it is known."""

    def submit(self, smiles: Sequence[str]) -> list[Future[Evaluation]]:
        """One future for each SMILES."""
        ...

    def finish(self) -> None:
        """All that was wanted is known. Raises `StrayLineError` if it cannot be trusted."""
        ...


@final
class ComponentOracle:
    """Scores molecules with the components of a configuration; use it as a context manager.

    `config.workers` workers take the next molecule as soon as they are free, so a slow molecule does not
    delay the others. store: results of slow components are looked up there first, and stored there. Entering
    raises `ConfigError` for a component that cannot work.
    """

    def __init__(self, config: OracleConfig, *, store: ResultStore | None = None) -> None:
        self._config, self._store = config, store
        self._groups = component_groups(config.components)
        stored = () if store is None else (c for c in config.components if c.engines)
        self._keys = {c.name: component_key(c.model_dump(mode="json")) for c in stored}
        self._workers = _make_workers(config, self._groups)
        self._waiting: queue.PriorityQueue[tuple[int, int, int, str, Future[Evaluation] | None]]
        self._waiting = queue.PriorityQueue()
        self._batches, self._numbers = itertools.count(), itertools.count()
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in self._workers
        ]
        self._lock = threading.Lock()
        self._is_open = False
        self._since = time.perf_counter()
        self._busy = dict.fromkeys((_label(group) for group in self._groups), 0.0)

    def __enter__(self) -> "ComponentOracle":
        try:
            # All at once: a docking worker takes seconds to compute its maps.
            with ThreadPoolExecutor(len(self._workers)) as executor:
                list(executor.map(lambda worker: worker.start(), self._workers))
        except BaseException:
            self._stop()
            raise
        self._since = time.perf_counter()
        for thread in self._threads:
            thread.start()
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        for _ in self._threads:  # before all that waits
            self._waiting.put((_FIRST, 0, next(self._numbers), "", None))
        while any(thread.is_alive() for thread in self._threads):
            for worker in self._workers:  # again and again: a process that ended may just have been replaced
                worker.kill()
            for thread in self._threads:
                thread.join(_LOOK)
        self._stop()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def store_keys(self) -> dict[str, str]:
        """By name, the keys of the components whose results the store keeps."""
        return dict(self._keys)

    def probe(self) -> None:
        """Ask each user's program about ethanol. Raises `ConfigError` if it gives no valid answer."""
        for worker in self._workers:
            worker.probe()

    def notes(self) -> list[str]:
        """What a user should know of the files that the components have read, a line each."""
        return self._workers[0].notes()

    def submit(self, smiles: Sequence[str]) -> list[Future[Evaluation]]:
        """One future for each SMILES, first come, first served.

        With several workers the longest molecules of one call go first: they take longest, and the call is
        done soonest when they are not the last. Raises RuntimeError outside of the `with` block, where no
        worker runs.
        """
        if not self._is_open:
            raise RuntimeError("an oracle answers inside its `with` block alone")
        batch = next(self._batches)
        futures = []
        for line in smiles:
            future: Future[Evaluation] = Future()
            rank = -len(line) if len(self._workers) > 1 else 0
            self._waiting.put((batch, rank, next(self._numbers), line, future))
            futures.append(future)
        return futures

    def evaluate(self, smiles: Sequence[str]) -> Iterator[Evaluation]:
        """One evaluation for each SMILES, one after the other."""
        for line in smiles:
            (future,) = self.submit([line])
            yield future.result()

    def busy_times(self) -> dict[str, Any]:
        """Seconds since the workers were ready, and those that they have spent on each component, as a sum.

        RDKit's components count as one.
        """
        with self._lock:
            return {"seconds": time.perf_counter() - self._since, "busy": dict(self._busy)}

    def busy_share(self) -> float:
        """The share of the workers' time so far that they spent on components."""
        times = self.busy_times()
        return sum(times["busy"].values()) / (len(self._workers) * times["seconds"])

    def finish(self) -> None:
        """Wait for all that was submitted and end the programs; to be called when no more will be asked.

        Raises `StrayLineError` if a program without ids has said more than it was asked. Nothing happens
        where there is no such program.
        """
        if not has_plain_program(self._config.components):
            return
        for _ in self._threads:
            self._waiting.put((_LAST, 0, next(self._numbers), "", None))
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.finish()

    def _serve(self, worker: Worker) -> None:
        """Take molecules until there are no more.

        A worker gives the last result that it has of a batch when its programs have been silent for a while,
        so that no batch is complete before each of its answers is known to belong to its molecule.
        """
        batch, _, _, smiles, future = self._waiting.get()
        while future is not None:
            waiting = None
            if future.set_running_or_notify_cancel():
                try:
                    result = self._evaluate(worker, smiles)
                    waiting = self._next()
                    if waiting is None or waiting[0] != batch:
                        worker.settle()
                    future.set_result(result)
                except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
                    future.set_exception(error)
            batch, _, _, smiles, future = self._waiting.get() if waiting is None else waiting

    def _next(self) -> tuple[int, int, int, str, Future[Evaluation] | None] | None:
        """What waits for a worker now, if anything does."""
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None

    def _evaluate(self, worker: Worker, smiles: str) -> Evaluation:
        answers: dict[str, Answer] = {}
        for index, group in enumerate(self._groups):
            known = self._look_up(group, smiles)
            if known is None:
                started = time.perf_counter()
                known = worker.ask(index, smiles)
                with self._lock:
                    self._busy[_label(group)] += time.perf_counter() - started
                self._keep(group, smiles, known)
            answers.update(zip((c.name for c in group), known, strict=True))
        return assemble(self._config, smiles, answers)

    def _look_up(self, group: Sequence[ComponentConfig], smiles: str) -> list[Answer] | None:
        key = self._keys.get(group[0].name)  # a component that is stored is alone in its group
        found = None if key is None or self._store is None else self._store.get(key, smiles)
        return None if found is None else [found]

    def _keep(self, group: Sequence[ComponentConfig], smiles: str, answers: Sequence[Answer]) -> None:
        key = self._keys.get(group[0].name)
        if key is not None and self._store is not None:
            self._store.put(key, smiles, answers[0])


def _make_workers(config: OracleConfig, groups: Sequence[Sequence[ComponentConfig]]) -> list[Worker]:
    if config.ray is None:
        return [LocalWorker(groups) for _ in range(config.workers)]
    require("`oracle.ray` needs", "ray", extras="ray")
    from allmodes.chem.oracles.ray_worker import RayWorker, join_ray

    join_ray(config.ray)
    return [RayWorker(groups) for _ in range(config.workers)]


def _label(group: Sequence[ComponentConfig]) -> str:
    return group[0].name if group[0].own_process else "RDKit"


def assemble(config: OracleConfig, smiles: str, answers: Mapping[str, Answer]) -> Evaluation:
    """The evaluation of a molecule from the answers of its components, by name."""
    raw: dict[str, float] = {}
    shaped: dict[str, float] = {}
    details = {}
    failure = None
    for component in config.components:
        answer: Answer | float = answers[component.name]
        if isinstance(answer, Scored):
            raw[component.name] = answer.value
            if answer.details:
                details[component.name] = answer.details
            answer = component.shaping.score(answer.value)
        if isinstance(answer, Failure):
            failure = failure or f"{component.name}: {answer.kind}: {answer.message}"
        else:
            shaped[component.name] = answer
    weights = [component.weight for component in config.components]
    reward = None if failure else aggregate(list(shaped.values()), weights, config.aggregation)
    return Evaluation(smiles=smiles, raw=raw, shaped=shaped, reward=reward, failure=failure, details=details)
