"""A task for a language model: any prime below a limit is a good answer. Recipe: own_task.toml."""

import re

ANSWER = re.compile(r"Answer: ([0-9]{1,4})")


class Primes:
    """Reward 1 for a prime, in one line such as "Answer: 7", else 0."""

    name = "primes"

    def __init__(self, below: int) -> None:
        self.primes = tuple(str(n) for n in range(2, below) if all(n % d for d in range(2, n)))
        self.prompts = (f"Name a prime number below {below}. Respond with one line, Answer: <number>",)

    def parse(self, response: str) -> str | None:
        """The number, or None: responses with the same answer are the same outcome."""
        match = ANSWER.fullmatch(response.strip())
        return match[1] if match else None

    def rewards(self, prompts: list[str], responses: list[str]) -> list[float]:
        """What each response is worth; None would be one that cannot be scored."""
        return [float(self.parse(response) in self.primes) for response in responses]

    def known_answers(self, prompt: str) -> tuple[str, ...]:
        """All answers of the highest reward; None where they are not known."""
        return self.primes

    def write(self, prompt: str, answer: str) -> str:
        """A response with an answer: with near misses, all that a stand-in or a warm start learns from."""
        return f"Answer: {answer}"

    def near_misses(self, prompt: str) -> list[str]:
        """Responses in nearly the right format, or with another number, worth 0."""
        return ["Answer: 4", "Answer: 9", "Answer: seven", "The answer is 7."]
