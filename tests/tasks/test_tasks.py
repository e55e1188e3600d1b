"""The contract that every task passes, and each task's own reading of answers."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.tasks import (
    Boolean,
    Causal,
    Creative,
    OneTwo,
    RewardFunction,
    RewardModel,
    Task,
    Voxels,
    WritesExamples,
    own_task,
)
from allmodes.tasks.reasoning_gym import Countdown, GraphColoring

DATA = Path(__file__).parents[1] / "data"
PROMPTS = DATA / "creative_prompts.jsonl"
KINDS = [
    "one_two",
    "creative",
    "creative with a reward model",
    "causal",
    "voxels",
    "boolean",
    "reward",
    "python",
    "countdown",
    "graph_color",
]
HYPOSPACE: dict[str, Callable[[], Task]] = {"causal": Causal, "voxels": Voxels, "boolean": Boolean}
PUZZLES = {"countdown": Countdown, "graph_color": GraphColoring}
PIECES = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "1", "2", " ", "\n", "x", "<", "é"])


class ByLength:
    """The more characters, the better; none for none."""

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        return [len(r) + len(p) / 100 if r else None for p, r in zip(prompts, responses, strict=True)]


@pytest.fixture(scope="module", params=KINDS)
def task(request: pytest.FixtureRequest) -> Task:
    if request.param == "one_two":
        return OneTwo()
    if request.param == "python":
        return own_task(OneTwo, name="mine:OneTwo", settings={})
    if request.param == "reward":
        return RewardFunction(PROMPTS, function=ByLength().scores, function_name="mine:reward")
    if request.param in PUZZLES:
        rows = map(json.loads, (DATA / "reasoning_gym.jsonl").read_text(encoding="utf-8").splitlines())
        own = [row for row in rows if row["metadata"]["source_dataset"] == request.param]
        return PUZZLES[request.param](own)
    if request.param in HYPOSPACE:
        return HYPOSPACE[request.param]()
    if request.param == "creative":
        return Creative(PROMPTS, reward_model=ByLength())
    make: Callable[..., Path] = request.getfixturevalue("make_classifier")
    return Creative(PROMPTS, reward_model=RewardModel(make(), batch_size=3, device="cpu"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
class TestContract:
    def test_it_has_prompts_that_differ(self, task: Task) -> None:
        assert task.prompts
        assert len(set(task.prompts)) == len(task.prompts)
        assert all(prompt.strip() for prompt in task.prompts)

    @settings(max_examples=100, deadline=None)
    @given(responses=st.lists(st.one_of(st.text(), st.lists(PIECES).map("".join)), max_size=6))
    def test_any_texts_are_read_and_worth_what_each_is_alone(self, task: Task, responses: list[str]) -> None:
        prompts = [task.prompts[index % len(task.prompts)] for index in range(len(responses))]
        rewards = task.rewards(prompts, responses)
        assert len(rewards) == len(responses)
        for prompt, response, reward in zip(prompts, responses, rewards, strict=True):
            answer = task.parse(response)
            assert answer is None or isinstance(answer, str)
            assert reward is None or (isinstance(reward, float) and math.isfinite(reward))
            alone = task.rewards([prompt], [response])[0]
            assert alone == (None if reward is None else pytest.approx(reward, abs=1e-5))

    def test_half_a_surrogate_pair_is_read(self, task: Task) -> None:
        task.parse("\ud800 a")
        assert len(task.rewards([task.prompts[0]], ["\ud800 a"])) == 1

    @pytest.mark.parametrize("responses", [[], ["a"], ["a", "b", "c"], "ab"])
    def test_lengths_that_disagree_are_refused(self, task: Task, responses: Sequence[str]) -> None:
        with pytest.raises(InputError, match=r"as many responses as prompts|must be a list of texts"):
            task.rewards([task.prompts[0]] * 2, responses)

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

    def test_written_examples_have_their_answer_and_near_misses_are_worth_nothing(self, task: Task) -> None:
        """For every prompt and every known answer, in tasks that write examples."""
        if not isinstance(task, WritesExamples):
            pytest.skip(f"{task.name} writes no examples")
        for prompt in task.prompts:
            answers = task.known_answers(prompt)
            assert answers is not None
            written = [task.write(prompt, answer) for answer in answers]
            assert [task.parse(response) for response in written] == list(answers)
            assert task.rewards([prompt] * len(written), written) == [1] * len(written)
            misses = task.near_misses(prompt)
            assert misses
            assert len(set(misses)) == len(misses)
            assert task.rewards([prompt] * len(misses), list(misses)) == [0] * len(misses)


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
    assert task.rewards(task.prompts, [response]) == [float(answer is not None)]


def test_one_two_knows_both_answers() -> None:
    task = OneTwo()
    assert task.known_answers(task.prompts[0]) == ("1", "2")
    for answer in task.known_answers(task.prompts[0]):
        response = f"<think></think><answer>{answer}</answer>"
        assert task.parse(response) == answer
        assert task.rewards(task.prompts, [response]) == [1]


def test_which_tasks_write_examples() -> None:
    assert isinstance(OneTwo(), WritesExamples)
    assert not isinstance(Creative(PROMPTS, reward_model=ByLength()), WritesExamples)
