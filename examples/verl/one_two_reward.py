"""The reward of the 1-2 task, as verl calls it: 1 for "1" or "2" in the right format; and the answer."""

from typing import Any

from allmodes.tasks import OneTwo

_task = OneTwo()


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, **_: Any
) -> dict[str, Any]:
    """The score, and the answer that allmodes counts; an empty text is none."""
    answer = _task.parse(solution_str)
    return {"score": float(answer is not None), "answer": answer or ""}


def key(text: str) -> str | None:
    """The answer in the text of a response: `+allmodes.outcome.function=one_two_reward.py:key`."""
    return _task.parse(text)
