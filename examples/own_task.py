"""A task for a language model: a digit between tags, of which some are good. Recipe: own_task.toml."""

import re

from allmodes.tasks.one_two import (
    PROMPT,
)  # all that the stand-in model knows; ask your own model what you like

FORMAT = re.compile(r"<think>[^<]*</think><answer>(\d)</answer>")


class Digits:
    """Reward 1 for a good digit in the format, else 0."""

    name = "digits"
    prompts = (PROMPT,)

    def __init__(self, good: list[str]) -> None:
        self.good = tuple(good)

    def parse(self, response: str) -> str | None:
        """The digit, or None: responses with the same answer are the same outcome."""
        match = FORMAT.fullmatch(response.strip())
        return match[1] if match else None

    def rewards(self, prompts: list[str], responses: list[str]) -> list[float]:
        """What each response is worth; None would be one that cannot be scored."""
        return [float(self.parse(response) in self.good) for response in responses]

    def known_answers(self, prompt: str) -> tuple[str, ...]:
        """All answers of the highest reward; None where they are not known."""
        return self.good
