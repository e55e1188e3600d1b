"""The oracle of a run: components, shaping and aggregation behind one protocol."""

import json
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol, final

from allmodes.chem.oracles.process import Answer, ScorerProcess
from allmodes.chem.oracles.results import Evaluation, Failure
from allmodes.chem.oracles.shaping import aggregate, shape
from allmodes.errors import ConfigError
from allmodes.runs.oracle_config import Component, OracleConfig, ProcessComponent


class Oracle(Protocol):
    """SMILES in, one evaluation each out, in the same order and as soon as each is known."""

    def evaluate(self, smiles: Sequence[str]) -> Iterator[Evaluation]:
        """One evaluation for each SMILES, in order."""
        ...


_LEASH = (sys.executable, "-m", "allmodes.chem.oracles.leash")
# A program that cannot even be asked about this (ethanol) cannot run at all.
_PROBE = "CCO"


@final
class ComponentOracle:
    """Scores molecules with the components of a configuration; use it as a context manager.

    RDKit components share one worker process; each user function or program has its own. Entering raises
    `ConfigError` for a component that cannot work.
    """

    def __init__(self, config: OracleConfig) -> None:
        self._config = config
        self._groups = _groups(config.components)

    def __enter__(self) -> "ComponentOracle":
        try:
            for _, process in self._groups:
                process.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def probe(self) -> None:
        """Ask each user's program about ethanol; raises `ConfigError` when it ends, hangs or babbles.

        RDKit components and functions need none: they say when they start that they can work.
        """
        for components, process in self._groups:
            if not isinstance(components[0], ProcessComponent):
                continue
            (answer,) = process.ask(_PROBE)
            if isinstance(answer, Failure) and answer.kind in ("died", "timed_out", "malformed"):
                raise ConfigError(
                    f"component {components[0].name!r}: `command`: expected an answer to {_PROBE!r}; "
                    f"got {answer.kind}: {answer.message}"
                )

    def _stop(self) -> None:
        for _, process in self._groups:
            process.stop()

    def evaluate(self, smiles: Sequence[str]) -> Iterator[Evaluation]:
        """One evaluation for each SMILES, in order."""
        for line in smiles:
            answers: dict[str, Answer] = {}
            for components, process in self._groups:
                answers.update(zip((c.name for c in components), process.ask(line), strict=True))
            yield self._assemble(line, answers)

    def _assemble(self, smiles: str, answers: dict[str, Answer]) -> Evaluation:
        raw: dict[str, float] = {}
        shaped: dict[str, float] = {}
        failure = None
        for component in self._config.components:
            answer = answers[component.name]
            if not isinstance(answer, Failure):
                raw[component.name] = answer
                answer = shape(answer, component.shaping)
            if isinstance(answer, Failure):
                failure = failure or f"{component.name}: {answer.kind}: {answer.message}"
            else:
                shaped[component.name] = answer
        reward = None if failure else aggregate(list(shaped.values()), self._config.aggregation)
        return Evaluation(smiles=smiles, raw=raw, shaped=shaped, reward=reward, failure=failure)


def _groups(components: Sequence[Component]) -> list[tuple[list[Component], ScorerProcess]]:
    built_in = [c for c in components if c.kind not in ("function", "process")]
    own = [[c] for c in components if c.kind in ("function", "process")]
    return [(group, _scorer_process(group)) for group in ([built_in] if built_in else []) + own]


def _scorer_process(group: Sequence[Component]) -> ScorerProcess:
    first = group[0]
    if isinstance(first, ProcessComponent):
        command, prefix, handshake = list(first.command), _LEASH, False
    else:
        configs = json.dumps([component.model_dump() for component in group])
        command = [sys.executable, "-m", "allmodes.chem.oracles.worker", configs]
        prefix, handshake = (), True
    return ScorerProcess(
        command,
        prefix=prefix,
        name=first.name,
        components=len(group),
        time_limit=max(component.time_limit for component in group),
        start_limit=max(component.start_limit for component in group),
        handshake=handshake,
    )
