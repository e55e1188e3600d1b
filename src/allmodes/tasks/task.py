"""The interface of a task. Every task passes the contract suite in the tests."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from allmodes.errors import InputError


class Task(Protocol):
    """Prompts and rewards of responses. A response is untrusted text of any kind and length."""

    @property
    def name(self) -> str:
        """Short name, for configurations and reports."""
        ...

    @property
    def prompts(self) -> Sequence[str]:
        """The user messages, one text per prompt."""
        ...

    def parse(self, response: str) -> str | None:
        """The answer in a response, in canonical form; None if there is none. Never raises."""
        ...

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """The reward of each response to its prompt: finite, or None if it could not be scored.

        The reward of a response does not depend on the others. Raises InputError for lengths that disagree.
        """
        ...

    def known_answers(self, prompt: str) -> tuple[str, ...] | None:
        """All answers of the highest reward, in the form of `parse`; None if they are not known.

        Two responses are the same outcome when `parse` gives the same answer for both.
        """
        ...


@runtime_checkable
class WritesExamples(Protocol):
    """Additional methods of a task with examples of its format, for a warm start or a stand-in."""

    def write(self, prompt: str, answer: str) -> str:
        """A response in the task's format, of which `parse` gives `answer`, one of the known ones."""
        ...

    def near_misses(self, prompt: str) -> Sequence[str]:
        """Responses in nearly the right format, at least one, that differ and are worth 0."""
        ...


@runtime_checkable
class HasTestPrompts(Protocol):
    """Additional attribute of a task with test prompts, which are not used for training."""

    @property
    def test_prompts(self) -> Sequence[str]:
        """Prompts for measurement; empty if policies are measured on `prompts`."""
        ...


def check_same_length(prompts: Sequence[str], responses: Sequence[str]) -> None:
    """Require a response for every prompt; a text in place of a list is refused too."""
    for name, texts in (("prompts", prompts), ("responses", responses)):
        if isinstance(texts, str):
            raise InputError(f"`{name}` must be a list of texts; got one text")
    if len(prompts) != len(responses):
        raise InputError(f"expected as many responses as prompts, {len(prompts)}; got {len(responses)}")
