"""Puzzles of reasoning-gym with several right answers, each read by our own parsers.

reasoning-gym makes the puzzles. Its own verifier of countdown evaluates a response as Python code, so no
response is ever given to it: answers are read, checked and enumerated here, and tests compare both on answers
of our own. Source: Stojanovski et al. 2025.
"""

import importlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, final

from allmodes.errors import ConfigError, InputError, one_line, shown
from allmodes.extras import require
from allmodes.tasks.reasoning_gym.colorings import (
    Graph,
    coloring_text,
    colorings,
    greedily_colorable,
    is_proper,
    read_coloring,
)
from allmodes.tasks.reasoning_gym.expressions import read_expression, signed_text, solutions
from allmodes.tasks.task import check_same_length

MOST_KNOWN = 2_000  # answers of a prompt that are enumerated; with more they are not known
MOST_NUMBERS = 6  # of a countdown whose answers are enumerated
_MOST = {"countdown": ("max_numbers", 15), "graph_color": ("max_num_vertices", 100)}  # the package's largest
_TRIES = 200  # random graphs, of which one must be colourable before the package looks for one without end
_REMEMBERED = 1024  # prompts whose answers are kept


class Puzzles(ABC):
    """What both kinds have.

    entries: the question and metadata of each, as reasoning-gym gives them. test: how many of the last ones
    are `test_prompts`, except for those that are also among the others.

    The answer is the text between the last <answer> and the </answer> after it, or else the whole response.
    The reward is 1 for a right answer, else 0. A repeated question is left out and counted in `duplicates`.
    """

    name: str

    def __init__(self, entries: Sequence[Mapping[str, Any]], *, test: int = 0) -> None:
        self._puzzles = {entry["question"]: self._puzzle(entry["metadata"]) for entry in entries}
        self.duplicates = len(entries) - len(self._puzzles)
        of_training = dict.fromkeys(entry["question"] for entry in entries[: len(entries) - test])
        self.prompts = tuple(of_training)
        self.test_prompts = tuple(prompt for prompt in self._puzzles if prompt not in of_training)

    def parse(self, response: str) -> str | None:
        """The answer in its canonical spelling; None if there is none."""
        start = response.rfind("<answer>")
        if start >= 0:
            response, tag, _ = response[start + len("<answer>") :].partition("</answer>")
            if not tag:
                return None
        return self._canonical(response)

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """1 for a right answer, else 0. Raises InputError for lengths that disagree, or an unknown prompt."""
        check_same_length(prompts, responses)
        return [
            float(self._is_right(self._find(prompt), response))
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    def known_answers(self, prompt: str) -> tuple[str, ...] | None:
        """All right answers; None if there are too many to enumerate."""
        return self._answers(self._find(prompt))

    def write(self, prompt: str, answer: str) -> str:
        """The answer alone, as the prompt asks for it."""
        return answer

    def near_misses(self, prompt: str) -> tuple[str, ...]:
        """Responses like those that models give, worth 0."""
        puzzle = self._find(prompt)
        near = dict.fromkeys(self._near(puzzle))
        return tuple(response for response in near if not self._is_right(puzzle, response))

    def _find(self, prompt: str) -> Any:
        try:
            return self._puzzles[prompt]
        except KeyError:
            raise InputError(f"expected a prompt of {self.name}; got {shown(prompt)}") from None

    def _is_right(self, puzzle: Any, response: str) -> bool:
        answer = self.parse(response)
        return answer is not None and self._solves(puzzle, answer)

    @staticmethod
    @abstractmethod
    def _puzzle(metadata: Mapping[str, Any]) -> Any: ...

    @staticmethod
    @abstractmethod
    def _canonical(answer: str) -> str | None: ...

    @staticmethod
    @abstractmethod
    def _solves(puzzle: Any, answer: str) -> bool: ...

    @staticmethod
    @abstractmethod
    def _answers(puzzle: Any) -> tuple[str, ...] | None: ...

    @staticmethod
    @abstractmethod
    def _near(puzzle: Any) -> Iterable[str]: ...


class Numbers(NamedTuple):
    """Numbers to use, each once, and what they must make."""

    numbers: tuple[int, ...]
    target: int


@final
class Countdown(Puzzles):
    """Expressions of given numbers, each used once, that are exactly a target.

    An answer is an expression of numbers, + - * / and parentheses. Its key is its canonical form: equal for
    expressions that commutativity, associativity and signs turn into each other. The package's verifier
    accepts a relative error of 1e-5; here the value is exact.
    """

    name = "countdown"

    @staticmethod
    def _puzzle(metadata: Mapping[str, Any]) -> Numbers:
        return Numbers(tuple(sorted(metadata["numbers"], reverse=True)), metadata["target"])

    @staticmethod
    def _canonical(answer: str) -> str | None:
        read = read_expression(answer)
        return None if read is None else signed_text(read[0])

    @staticmethod
    def _solves(puzzle: Numbers, answer: str) -> bool:
        read = read_expression(answer)
        if read is None:
            return False
        (sign, expression), numbers = read
        is_target = sign * expression.value == puzzle.target
        return is_target and tuple(sorted(numbers, reverse=True)) == puzzle.numbers

    @staticmethod
    def _answers(puzzle: Numbers) -> tuple[str, ...] | None:
        return _all_expressions(puzzle)

    @staticmethod
    def _near(puzzle: Numbers) -> Iterable[str]:
        numbers = [str(number) for number in puzzle.numbers]
        yield f"{' + '.join(numbers)} = {puzzle.target}"
        yield f"The answer is {numbers[0]}*{numbers[-1]}."
        yield " + ".join(numbers)
        yield "*".join(numbers)
        yield " - ".join(numbers)
        yield " + ".join(numbers[:-1])


@final
class GraphColoring(Puzzles):
    """Colourings of a graph in which no two neighbours have the same colour.

    An answer is a JSON map of all vertices to colours. Its key is the map by vertex: colourings that differ
    in the names of colours alone are two. A map with vertices that the graph has not is wrong here; the
    package's verifier does not look at them.
    """

    name = "graph_color"

    @staticmethod
    def _puzzle(metadata: Mapping[str, Any]) -> Graph:
        puzzle = metadata["puzzle"]
        edges = tuple((one, other) for one, other in puzzle["edges"])
        return Graph(tuple(puzzle["vertices"]), edges, tuple(puzzle["color_options"]))

    @staticmethod
    def _canonical(answer: str) -> str | None:
        coloring = read_coloring(answer)
        return None if coloring is None else coloring_text(coloring)

    @staticmethod
    def _solves(puzzle: Graph, answer: str) -> bool:
        coloring = read_coloring(answer)
        return coloring is not None and is_proper(puzzle, coloring)

    @staticmethod
    def _answers(puzzle: Graph) -> tuple[str, ...] | None:
        return _all_colorings(puzzle)

    @staticmethod
    def _near(puzzle: Graph) -> Iterable[str]:
        first = next(colorings(puzzle), {})
        yield coloring_text(dict.fromkeys(puzzle.vertices, puzzle.colors[0]))
        yield coloring_text(dict(list(first.items())[:-1]))
        yield str(first)  # as Python writes it, which is no JSON
        yield str(list(first.values()))


@lru_cache(maxsize=_REMEMBERED)
def _all_expressions(puzzle: Numbers) -> tuple[str, ...] | None:
    if len(puzzle.numbers) > MOST_NUMBERS:
        return None
    found = solutions(puzzle.numbers, puzzle.target)
    return found if 0 < len(found) <= MOST_KNOWN else None


@lru_cache(maxsize=_REMEMBERED)
def _all_colorings(puzzle: Graph) -> tuple[str, ...] | None:
    found = tuple(map(coloring_text, islice(colorings(puzzle), MOST_KNOWN + 1)))
    return found if 0 < len(found) <= MOST_KNOWN else None


_DATASETS = {"countdown": Countdown, "graph_color": GraphColoring}


def reasoning_gym_task(
    dataset: str, *, size: int, seed: int, settings: Mapping[str, Any], test: int = 0
) -> Puzzles:
    """`size` puzzles of a dataset of reasoning-gym, made from a seed, and `test` more to measure on.

    settings: of the dataset.

    Raises ConfigError if the package is not installed or refuses the settings, for more than 15 numbers or
    100 vertices, and for settings that give no graph that a greedy colouring colours: the package would look
    for one without end.
    """
    require_reasoning_gym()
    reasoning_gym: Any = importlib.import_module("reasoning_gym")
    try:
        puzzles: Any = reasoning_gym.create_dataset(
            dataset, **{**settings, "size": size + test, "seed": seed}
        )
        _check_limits(dataset, puzzles.config)
        entries = [puzzles[place] for place in range(size + test)]
    except ConfigError:
        raise
    except Exception as error:  # whatever the package makes of settings that it does not know
        raise ConfigError(
            f"`task.settings`: expected settings of {dataset} of reasoning-gym; {one_line(error)}"
        ) from error
    return _DATASETS[dataset](entries, test=test)


def require_reasoning_gym() -> None:
    """Raises ConfigError if the package is not installed."""
    require("task 'reasoning_gym' needs", "reasoning_gym", extras="reasoning-gym")


def _check_limits(dataset: str, config: Any) -> None:
    key, most = _MOST[dataset]
    if getattr(config, key) > most:
        raise ConfigError(f"`task.settings.{key}`: expected at most {most}; got {getattr(config, key)}")
    if dataset == "graph_color":
        fewest, colors = config.min_num_vertices, config.num_colors
        if fewest < 1:
            raise ConfigError(f"`task.settings.min_num_vertices`: expected at least 1; got {fewest}")
        generator = random.Random(0)  # noqa: S311  # no secret
        for _ in range(_TRIES):
            size = generator.randint(fewest, config.max_num_vertices)
            edges = [
                (one, other)
                for one in range(size)
                for other in range(one + 1, size)
                if generator.random() < config.edge_probability
            ]
            if greedily_colorable(size, edges, colors=colors):
                return
        raise ConfigError(
            f"`task.settings`: expected graphs that a greedy colouring in {colors} colours can colour; got "
            f"none among {_TRIES} random ones"
        )
