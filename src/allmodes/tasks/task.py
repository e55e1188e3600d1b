"""What a task is. Every task passes the contract suite in the tests."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from allmodes.errors import InputError


class Task(Protocol):
    """Prompts, and what responses to them are worth. A response is untrusted text of any kind and length."""

    @property
    def name(self) -> str:
        """Short name, for configurations and reports."""
        ...

    @property
    def prompts(self) -> Sequence[str]:
        """What the user says, one text a prompt."""
        ...

    def parse(self, response: str) -> str | None:
        """The answer in a response, in one canonical spelling; None where there is none. Never raises."""
        ...

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """How good each response to the prompt of its place is: finite, or None where it could not be scored.

        What a response is worth does not depend on the others. Raises InputError for lengths that disagree.
        """
        ...

    def known_answers(self, prompt: str) -> tuple[str, ...] | None:
        """All answers of the highest reward, in the spelling of `parse`; None where they are not known.

        Two responses are the same outcome when `parse` gives the same answer for both.
        """
        ...


@runtime_checkable
class WritesExamples(Protocol):
    """What a task has, beside all the rest, from whose examples a model can learn the format of responses."""

    def write(self, prompt: str, answer: str) -> str:
        """A response in the task's format, of which `parse` gives `answer`, one of the known ones."""
        ...

    def near_misses(self, prompt: str) -> Sequence[str]:
        """Responses in nearly the right format, at least one, that differ and are worth 0."""
        ...


@runtime_checkable
class HasTestPrompts(Protocol):
    """What a task can also have: prompts that nothing is trained on."""

    @property
    def test_prompts(self) -> Sequence[str]:
        """Policies are measured on these; none where they are measured on `prompts`, as they train on."""
        ...


def check_same_length(prompts: Sequence[str], responses: Sequence[str]) -> None:
    """Require a response for every prompt; a text in place of a list is refused too."""
    for name, texts in (("prompts", prompts), ("responses", responses)):
        if isinstance(texts, str):
            raise InputError(f"`{name}` must be a list of texts; got one text")
    if len(prompts) != len(responses):
        raise InputError(f"expected as many responses as prompts, {len(prompts)}; got {len(responses)}")
