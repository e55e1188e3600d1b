"""The 1-2 task: two equally good answers, one of them much likelier under a base model.

Source: MARA, section 6.1 and appendix C.2; the prompt is that of its Figure 9.
"""

import re
from collections.abc import Sequence
from typing import final

from allmodes.tasks.task import check_same_length

PROMPT = (
    "Uniformly randomly generate an integer that is either 1 or 2. Respond strictly in this format: "
    "<think>Your internal reasoning</think><answer>1 or 2</answer>"
)
_ANSWER = re.compile(r"<think>.*</think>\s*<answer>\s*([12])\s*</answer>\s*", re.DOTALL)


@final
class OneTwo:
    """Reward 1 for "1" or "2" in the format that the prompt asks for, else 0.

    Text before the thought is allowed, as in the paper's example; after the answer nothing may follow, and
    there is one thought and one answer.

    >>> task = OneTwo()
    >>> response = task.write(task.prompts[0], "2")
    >>> task.parse(response), task.rewards(task.prompts, [response])
    ('2', [1.0])
    """

    name = "one_two"
    prompts = (PROMPT,)

    def parse(self, response: str) -> str | None:
        """The digit, or None."""
        start = response.find("<think>")
        tags = ("<think>", "</think>", "<answer>", "</answer>")
        if start < 0 or any(response.count(tag) != 1 for tag in tags):
            return None
        match = _ANSWER.fullmatch(response, start)
        return match.group(1) if match else None

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """1 for a valid answer, else 0. Raises InputError for lengths that disagree."""
        check_same_length(prompts, responses)
        return [float(self.parse(response) is not None) for response in responses]

    def known_answers(self, prompt: str) -> tuple[str, ...]:
        """Both."""
        return ("1", "2")

    def write(self, prompt: str, answer: str) -> str:
        """A response with a short thought and the answer."""
        return f"<think>Pick one.</think><answer>{answer}</answer>"

    def near_misses(self, prompt: str) -> tuple[str, ...]:
        """A tag, the thought or the choice is missing, another digit, or text after the answer."""
        return (
            "<answer>1</answer>",
            "<answer>2</answer>",
            "<think>Pick one.</think>1",
            "<think>Pick one.</think>2",
            "<think>Pick one.<answer>1</answer>",
            "<think>Pick one.</think><answer>3</answer>",
            "<think>Pick one.</think><answer>1 or 2</answer>",
            "<think>Pick one.</think><answer>1</answer> I chose 1.",
        )
