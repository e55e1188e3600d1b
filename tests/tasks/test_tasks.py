"""The contract that every task passes, and each task's own reading of answers."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.tasks import OneTwo, Task

TASKS: list[Task] = [OneTwo()]
PIECES = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "1", "2", " ", "\n", "x", "<", "é"])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
class TestContract:
    def test_it_has_prompts_that_differ(self, task: Task) -> None:
        assert task.prompts
        assert len(set(task.prompts)) == len(task.prompts)
        assert all(prompt.strip() for prompt in task.prompts)

    @settings(max_examples=200, deadline=None)
    @given(response=st.one_of(st.text(), st.lists(PIECES).map("".join)))
    def test_any_text_is_read_without_error(self, task: Task, response: str) -> None:
        answer = task.parse(response)
        assert answer is None or isinstance(answer, str)
        assert math.isfinite(task.reward(task.prompts[0], response))

    def test_the_empty_response_has_no_answer(self, task: Task) -> None:
        assert task.parse("") is None

    def test_a_long_response_is_read_in_time(self, task: Task) -> None:
        hostile = "<think>" + "</think><answer>" * 20_000 + "<think>" * 20_000 + " " * 100_000
        start = time.perf_counter()
        task.parse(hostile)
        assert time.perf_counter() - start < 2

    def test_known_answers_differ_and_one_of_them_is_worth_the_most(self, task: Task) -> None:
        for prompt in task.prompts:
            answers = task.known_answers(prompt)
            assert answers is None or (answers and len(set(answers)) == len(answers))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<think>why not</think><answer>1</answer>", "1"),
        ("<think></think><answer> 2 </answer>", "2"),
        ("Let me decide randomly. <think></think>\n<answer>1 </answer>\n", "1"),
        ("<think>a\nb</think> <answer>2</answer>", "2"),
        ("<answer>1</answer>", None),
        ("<think></think><answer>3</answer>", None),
        ("<think></think><answer>12</answer>", None),
        ("<think></think><answer>1 or 2</answer>", None),
        ("<think></think><answer>1</answer> I chose 1.", None),
        ("<think></think><answer>1</answer><answer>2</answer>", None),
        ("<think><think></think><answer>1</answer>", None),
        ("<think></think><answer>1", None),
        ("<answer>1</answer><think></think>", None),
        ("<THINK></THINK><ANSWER>1</ANSWER>", None),
        ("<think></think><answer>\uff11</answer>", None),
        ("1", None),
    ],
)
def test_one_two_reads_the_format_and_nothing_else(response: str, answer: str | None) -> None:
    task = OneTwo()
    assert task.parse(response) == answer
    assert task.reward(task.prompts[0], response) == float(answer is not None)


def test_one_two_knows_both_answers() -> None:
    task = OneTwo()
    assert task.known_answers(task.prompts[0]) == ("1", "2")
    for answer in task.known_answers(task.prompts[0]):
        response = f"<think></think><answer>{answer}</answer>"
        assert task.parse(response) == answer
        assert task.reward(task.prompts[0], response) == 1
