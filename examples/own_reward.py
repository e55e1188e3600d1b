"""A reward function for a language model, and what counts as one answer. Recipe: own_reward.toml."""

import re

FORMAT = re.compile(r"<think>[^<]*</think><answer>(\d)</answer>")


def answer(response: str) -> str | None:
    """The digit, or None: responses with the same answer are the same outcome."""
    match = FORMAT.fullmatch(response.strip())
    return match[1] if match else None


def reward(prompts: list[str], responses: list[str]) -> list[float | None]:
    """1 for a digit from 1 to 3 in the format, else 0; None would be a response that cannot be scored."""
    return [float(answer(response) in ("1", "2", "3")) for response in responses]
