"""What a task is. Every task passes the contract suite in the tests."""

from collections.abc import Sequence
from typing import Protocol


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

    def reward(self, prompt: str, response: str) -> float:
        """How good a response is; finite."""
        ...

    def known_answers(self, prompt: str) -> tuple[str, ...] | None:
        """All answers of the highest reward, in the spelling of `parse`; None where they are not known.

        Two responses are the same outcome when `parse` gives the same answer for both.
        """
        ...
