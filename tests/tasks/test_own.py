"""A user's own task or reward function: what it gives is taken as it is, or refused in one line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allmodes.errors import InputError
from allmodes.tasks import RewardFunction, WritesExamples, own_task

PROMPTS = Path(__file__).parents[1] / "data" / "creative_prompts.jsonl"


class Good:
    """Even digits, of which two are known to be the best."""

    name = "even"

    def __init__(self, best: int = 4) -> None:
        self.best = best
        self.prompts: Any = ["Name an even digit.", "Another one?"]

    def parse(self, response: str) -> Any:
        return response if response in ("0", "2", "4", "6", "8") else None

    def rewards(self, prompts: Any, responses: Any) -> Any:
        return [None if not text else 1 if self.parse(text) else 0.0 for text in responses]

    def known_answers(self, prompt: str) -> Any:
        return ["2", str(self.best)]


class Writing(Good):
    def write(self, prompt: str, answer: str) -> Any:
        return answer

    def near_misses(self, prompt: str) -> Any:
        return ["3", "two"]


def make(kind: Callable[..., Any] = Good, **settings: Any) -> Any:
    return own_task(kind, name="mine:It", settings=settings)


def changed(**parts: Any) -> Any:
    """A class like Good with other parts."""
    return type("Changed", (Good,), parts)


def test_a_users_task_says_what_the_user_says() -> None:
    task = make(best=8)
    assert (task.name, task.prompts) == ("even", ("Name an even digit.", "Another one?"))
    assert [task.parse(text) for text in ("2", "3")] == ["2", None]
    rewards = task.rewards(["Another one?"] * 3, ["6", "7", ""])
    assert rewards == [1.0, 0.0, None]
    assert all(type(reward) is float for reward in rewards[:2])
    assert task.known_answers("Another one?") == ("2", "8")
    assert not isinstance(task, WritesExamples)
    writing = make(Writing)
    assert isinstance(writing, WritesExamples)
    assert (writing.write("", "2"), tuple(writing.near_misses(""))) == ("2", ("3", "two"))
    assert make(lambda: Good(6)).known_answers("") == ("2", "6")  # a function that makes one


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (3, "expected a class or a function that makes a task; got 3"),
        (lambda: None, "expected a task with name, prompts, parse, .*; got NoneType without name, prompts, "),
        (changed(parse="x"), "expected a task with name, .*; got Changed without parse$"),
        (changed(name=3), "`name`: expected a text; got 3 of type int"),
        (lambda missing: Good(), "raised TypeError: .*missing"),
        (changed(__init__=lambda self: 1 / 0), r"raised ZeroDivisionError.*\(test_own\.py, line \d+\)"),
    ],
)
def test_what_is_no_task_is_refused(kind: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^`mine:It`:? {message}") as caught:
        make(kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], r"expected a list of texts, at least one; got \[\]"),
        ("one", "expected a list of texts, at least one; got 'one'"),
        (None, "expected a list of texts, at least one; got None"),
        (["a", "b", "a"], "expected each text once; got 'a' twice"),
        (["a", " \n"], "expected texts; got one that is empty"),
        (["a", 3], "expected a text; got 3 of type int"),
        (["\ud800"], "expected a text; got half a surrogate pair"),
    ],
)
def test_prompts_that_are_none_are_refused(prompts: Any, message: str) -> None:
    def start(self: Any) -> None:
        self.prompts = prompts

    with pytest.raises(InputError, match=f"^`mine:It`: `prompts`: {message}"):
        make(changed(__init__=start))


def test_prompts_to_measure_on_are_others() -> None:
    assert make().test_prompts == ()
    assert make(changed(test_prompts=["And here?"])).test_prompts == ("And here?",)
    with pytest.raises(InputError, match=r"`test_prompts`: expected other prompts; got 'Another one\?' in"):
        make(changed(test_prompts=["Another one?"]))
    with pytest.raises(InputError, match="`test_prompts`: expected a list of texts"):
        make(changed(test_prompts="And here?"))


def always(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def fail(*_: Any) -> None:
    raise KeyError("no such")


@pytest.mark.parametrize(
    ("part", "given", "message"),
    [
        ("parse", fail, r"raised KeyError: 'no such' \(test_own\.py, line \d+\), for the response ''"),
        ("parse", always(3), "expected a text or None; got 3 of type int, for the response ''"),
        ("rewards", fail, "raised KeyError"),
        ("rewards", always(None), "expected a list of 2 rewards; got None"),
        ("rewards", always(1.0), "expected a list of 2 rewards; got 1.0"),
        ("rewards", always([1.0]), "expected 2 rewards, one for each response; got 1"),
        ("rewards", always([1.0] * 3), "expected 2 rewards, one for each response; got 3"),
        (
            "rewards",
            always([0.5, float("nan")]),
            "expected finite numbers or None; got nan of type float at 1",
        ),
        (
            "rewards",
            always([float("-inf"), 0]),
            "expected finite numbers or None; got -inf of type float at 0",
        ),
        ("rewards", always(["1", 0]), "expected finite numbers or None; got '1' of type str at 0"),
        ("rewards", always([0, [1]]), r"expected finite numbers or None; got \[1\] of type list at 1"),
        ("rewards", always([10**400, 0]), "expected finite numbers or None; got 10{10}.* of type int at 0"),
        ("rewards", always(torch.ones(2, 1)), r"expected finite numbers or None; got \[1\.0\] of type list"),
        ("known_answers", fail, "raised KeyError"),
        ("known_answers", always([]), "expected a list of texts, at least one"),
        ("known_answers", always("24"), "expected a list of texts, at least one; got '24'"),
        ("known_answers", always({"2": 1}), "expected a list of texts, at least one"),
        ("known_answers", always([2]), "expected a text; got 2 of type int"),
        ("known_answers", always(["2", "2"]), "expected each text once; got '2' twice"),
        ("write", always(None), "expected a text; got None of type NoneType"),
        ("near_misses", always(("a", None)), "expected a text; got None of type NoneType"),
    ],
)
def test_what_a_task_gives_is_checked_before_any_model_is_loaded(part: str, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^`mine:It`: `{part}`:? {message}") as caught:
        make(type("Changed", (Writing,), {part: given}))
    assert "\n" not in str(caught.value)


def test_what_goes_wrong_later_is_said_then() -> None:
    task = make(changed(parse=lambda self, text: int(text) if text else None))
    with pytest.raises(InputError, match=r"`parse`: expected a text or None; got 7 of type int, for .* '7'$"):
        task.parse("7")
    with pytest.raises(InputError, match=r"raised ValueError: invalid literal.* for the response 'x+\.\.\. "):
        task.parse("x" * 1_000_000)


def reward_function(
    function: Any, outcome: Any = None, path: Path = PROMPTS, *, answer_key: str | None = None
) -> RewardFunction:
    return RewardFunction(
        path, function=function, function_name="mine:reward", outcome=outcome, outcome_name="mine:answer",
        answer_key=answer_key,
    )  # fmt: skip


def by_length(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    return [len(response) - len(prompt) for prompt, response in zip(prompts, responses, strict=True)]


def test_a_reward_function_gets_its_prompts_and_responses(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "ab"}\n{"prompt": "c"}\n{"prompt": "ab"}\n')
    task = reward_function(by_length, path=tmp_path / "p.jsonl")
    assert (task.prompts, task.duplicates, task.known_answers("ab")) == (("ab", "c"), 1, None)
    assert task.rewards(["ab", "c"], ["abcd", ""]) == [2.0, -1.0]
    assert [task.parse(text) for text in ("  a b\n", " \n")] == ["a b", None]
    task = reward_function(by_length, lambda text: text[:1] or None)
    assert [task.parse(text) for text in ("xyz", "")] == ["x", None]


@pytest.mark.parametrize("given", [np.array([1, 0]), torch.tensor([1.0, 0]), (True, np.float32(0)), [1, 0.0]])
def test_any_list_of_numbers_is_one_of_rewards(given: Any) -> None:
    task = reward_function(always(given))
    assert task.rewards(["a", "b"], ["c", "d"]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("function", "outcome", "message"),
    [
        (3, None, "^`mine:reward`: expected a function; got 3$"),
        (by_length, "x", "^`mine:answer`: expected a function; got 'x'$"),
        (fail, None, "^`mine:reward` raised KeyError"),
        (lambda responses: [0.0], None, "^`mine:reward` raised TypeError: .* takes 1 positional argument"),
        (always([None]), None, "^`mine:reward`: expected 2 rewards, one for each response; got 1$"),
        (by_length, always(1), "^`mine:answer`: expected a text or None; got 1 of type int, for"),
        (by_length, fail, "^`mine:answer` raised KeyError: 'no such' .*, for the response ''$"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused(function: Any, outcome: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reward_function(function, outcome)


def by_object(prompts: Sequence[str], responses: Sequence[str]) -> list[dict[str, Any]]:
    return [{"reward": float(len(text)), "answer": text[:1] or None, "more": 1} for text in responses]


def test_an_outcome_may_be_a_key_of_what_the_function_gives() -> None:
    calls = []

    def counted(prompts: Sequence[str], responses: Sequence[str]) -> Any:
        calls.append(len(responses))
        return by_object(prompts, responses)

    task = reward_function(counted, answer_key="answer")
    calls.clear()
    assert task.rewards(["a", "b", "a"], ["xy", "", "xy"]) == [2.0, 0.0, 2.0]
    assert [task.parse(text) for text in ("xy", "")] == ["x", None]
    assert calls == [3]  # what was scored is not scored again
    assert task.parse("zz") == "z"
    assert calls == [3, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, 0.0], "expected an object with `reward` and `answer` for each response, .*; got 1.0$"),
        ([{"reward": 1.0}] * 2, r"expected an object with `reward` and `answer` .*; got {'reward': 1.0}$"),
        ([{"reward": 1, "answer": 7}] * 2, "`answer`: expected a text or None; got 7 of type int$"),
        ([{"reward": "x", "answer": None}] * 2, "expected finite numbers or None; got 'x' of type str at 0"),
        ([{"reward": 1, "answer": "a"}], "expected 2 rewards, one for each response; got 1$"),
        ({"reward": 1, "answer": "a"}, "expected a list of 2 rewards; got {"),
        (
            [{"reward": 1, "answer": "a"}, {"reward": 1, "answer": "b"}],
            "expected one `answer` of a response, whatever its prompt; got 'a' and 'b' for ''$",
        ),
    ],
)
def test_objects_without_reward_or_answer_are_refused(given: Any, message: str) -> None:
    task = reward_function(by_object, answer_key="answer")
    task._function = always(given)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(InputError, match=f"^`mine:reward`: {message}"):
        task.rewards(["a", "b"], ["", ""])
