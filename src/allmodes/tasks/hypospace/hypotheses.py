"""Shared parts of HypoSpace's domains: observations, and the finite set of hypotheses that explain each.

Source: Chen et al. 2025 (HypoSpace); settings of the IPS paper, section 5.2 and appendix B.1.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import ClassVar, Self, TypeVar

from allmodes.errors import InputError, shown
from allmodes.tasks.task import check_same_length

MOST_PAIRS = 1_000_000  # of an instance and a hypothesis that explains it, which are all held in memory
_WRONG = 8  # wrong hypotheses among the near misses of a prompt

_Value = TypeVar("_Value")


class Hypotheses(ABC):
    """Prompts with observations; a response gets 1 if its hypothesis explains them, else 0.

    A subclass enumerates all instances, and reads and writes one format. A hypothesis is named by its key, a
    canonical text. `prompts` and `test_prompts` are those to train on and to measure on, `instances` all of
    them: wherever a prompt is taken, one that is not among these raises InputError.
    """

    name: ClassVar[str]

    def __init__(self, instances: Mapping[str, Iterable[str]], *, sizes: Mapping[str, int]) -> None:
        """instances: the admissible keys of each prompt. sizes: how complex each key of the space is."""

        def simplest_first(keys: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted(keys, key=lambda key: (sizes[key], key)))

        self._known = {prompt: simplest_first(keys) for prompt, keys in instances.items()}
        self._admissible = {prompt: frozenset(keys) for prompt, keys in self._known.items()}
        self._places = {prompt: place for place, prompt in enumerate(self._known)}
        self._space = frozenset(sizes)
        self.hypotheses = simplest_first(sizes)
        self.instances = tuple(self._known)
        self.prompts = self.instances
        self.test_prompts: tuple[str, ...] = ()

    @abstractmethod
    def parse(self, response: str) -> str | None:
        """The key of the response's last answer; None if that is no hypothesis of the space."""

    @abstractmethod
    def _response(self, key: str) -> str:
        """A response that answers with a hypothesis."""

    @abstractmethod
    def _broken(self, key: str) -> Sequence[str]:
        """Responses that nearly answer with a hypothesis, and from which `parse` reads none."""

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """1 where the answer explains the observations of its prompt, else 0.

        Raises InputError for lengths that disagree.
        """
        check_same_length(prompts, responses)
        return [
            float(self.parse(response) in self._of(self._admissible, prompt))
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    def known_answers(self, prompt: str) -> tuple[str, ...]:
        """The keys of all hypotheses that explain the observations.

        The simplest is first (fewest edges or blocks, shortest expression), then in lexicographic order.
        """
        return self._of(self._known, prompt)

    def split(self, train: int, test: int, seed: int) -> tuple[list[str], list[str]]:
        """Draw prompts for training, and others for testing, at random.

        Raises InputError for fewer than one of either, or for more than there are together.
        """
        count = len(self.instances)
        if train < 1 or test < 1 or train + test > count:
            raise InputError(
                f"`train` and `test` must be at least 1 each and together at most {count}, the prompts of "
                f"{self.name}; got {train} and {test}"
            )
        drawn = random.Random(seed).sample(self.instances, train + test)  # noqa: S311  # no secret
        return drawn[:train], drawn[train:]

    def divided(self, train: int, test: int, seed: int) -> Self:
        """The same with `prompts` and `test_prompts` as `split` draws them. Raises InputError as it does."""
        divided = copy(self)
        divided.prompts, divided.test_prompts = map(tuple, self.split(train, test, seed))
        return divided

    def write(self, prompt: str, answer: str) -> str:
        """A response that answers with the hypothesis of a key; `parse` reads the key from it.

        Raises InputError for a key that is not of the space.
        """
        self._of(self._places, prompt)
        if answer not in self._space:
            raise InputError(f"`answer` must be the key of a hypothesis of {self.name}; got {shown(answer)}")
        return self._response(answer)

    def near_misses(self, prompt: str) -> list[str]:
        """Responses with reward 0: hypotheses that do not explain the observations, and broken formats."""
        place, admissible = self._of(self._places, prompt), self._known[prompt]
        wrong = [key for key in self.hypotheses if key not in self._admissible[prompt]]
        stride = max(1, len(wrong) // _WRONG)
        # From another one on for each prompt, so that all kinds come up.
        taken = [wrong[(place + number * stride) % len(wrong)] for number in range(min(_WRONG, len(wrong)))]
        broken = self._broken(admissible[place % len(admissible)])
        return list(dict.fromkeys([*map(self._response, taken), *broken]))

    def _of(self, table: Mapping[str, _Value], prompt: str) -> _Value:
        try:
            return table[prompt]
        except KeyError:
            raise InputError(f"`prompt` must be one of {self.name}'s; got {shown(prompt)}") from None


def last_answer(response: str, label: str) -> str | None:
    """What follows the last label in its line, in lower case; None without a label.

    label: in lower case; responses may write it in any case.
    """
    _, found, rest = response.lower().rpartition(label)
    return rest.partition("\n")[0] if found else None
