"""What a model wrote in a conversation, and what it answered."""

from typing import Any

import pytest

from allmodes.runs.messages import answer_text, completion_text, last_text, trajectory_text


def say(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(arguments: str, number: str = "call-1") -> dict[str, Any]:
    function = {"name": "calculator", "arguments": arguments}
    return say("", tool_calls=[{"id": number, "type": "function", "function": function}])


TOOL = {"role": "tool", "content": "42", "tool_call_id": "call-1"}
USER = {"role": "user", "content": "Are you sure?"}


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("a b", "a b"),
        ("", ""),
        ([say("a")], "a"),
        ([say("a"), TOOL, say("b")], "b"),
        ([say("a"), USER], "a"),
        ([say(None)], ""),
        ([say([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}])], "ab"),
        ([{"content": "no role"}], "no role"),
        ([call("6*7"), TOOL], None),
        ([call("6*7")], None),
        ([say("I compute.", tool_calls=call("6*7")["tool_calls"]), TOOL], None),
        ([say("", function_call={"name": "f"}), {"role": "function", "content": "42"}], None),
        ([TOOL], None),
        ([USER], None),
        ([], None),
    ],
)  # fmt: skip
def test_only_the_model_answers_and_a_call_of_a_tool_is_no_answer(
    completion: Any, answer: str | None
) -> None:
    assert answer_text(completion) == answer
    assert completion_text(completion) == (answer or "")


def test_trajectories_that_end_alike_are_different() -> None:
    turns = [[say(f"I try {i}."), USER, say("done")] for i in range(40)]
    assert len({trajectory_text(turn) for turn in turns}) == 40
    calls = [[call(f"6*{i}"), TOOL, say("done")] for i in range(40)]
    assert len({trajectory_text(turn) for turn in calls}) == 40
    thoughts = [[say("done", reasoning_content=f"step {i}")] for i in range(40)]
    assert len({trajectory_text(turn) for turn in thoughts}) == 40


def test_what_the_model_did_not_write_is_not_in_its_trajectory() -> None:
    one = [call("6*7", "call-1"), TOOL, say("done")]
    other = [call("6*7", "call-99"), {**TOOL, "content": "error", "tool_call_id": "call-99"}, say("done")]
    assert trajectory_text(one) == trajectory_text(other)


def test_messages_are_not_run_together() -> None:
    assert trajectory_text([say("a"), USER, say("b")]) != trajectory_text([say("a\nb")])
    assert trajectory_text([say("ab"), USER, say("c")]) != trajectory_text([say("a"), USER, say("bc")])


def test_one_message_is_its_text() -> None:
    assert trajectory_text([say("a b")]) == trajectory_text("a b") == "a b"
    assert trajectory_text([say(None), say("a b")]) == "a b"  # as Parquet fills what a message lacks


def test_a_question_is_the_last_message_whoever_wrote_it() -> None:
    assert last_text([{"role": "system", "content": "s"}, USER]) == "Are you sure?"
    assert last_text("q") == "q"
    assert last_text([]) == ""


@pytest.mark.parametrize("value", [[1, 2], ["a"], [say(5)]])
def test_what_is_no_conversation(value: Any) -> None:
    with pytest.raises(TypeError):
        trajectory_text(value)
