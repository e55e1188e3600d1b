"""Texts and conversations of trainers: extract what the model wrote, and what it answered."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Roles of the model; messages without a role, as in some completions, are also the model's.
_MODEL = (None, "assistant", "model")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# Separator between the parts of a trajectory; no text contains it, so different trajectories stay different.
_BETWEEN = "\n\x1e\n"


def answer_text(value: Any) -> str | None:
    """The answer in a completion: the text itself, or the content of the model's last message.

    None for a conversation without an answer: the model wrote no message, or its last message calls a tool.
    Text of tools and environments is never an answer. Raises TypeError if the completion is neither a text
    nor a conversation.
    """
    if isinstance(value, str):
        return value
    last: Mapping[str, Any] | None = None
    for message in _messages(value):
        if _is_models(message):
            last = message
    if last is None or _calls(last):
        return None
    return content_text(last.get("content"))


def completion_text(value: Any) -> str:
    """`answer_text`, or an empty text if there is no answer.

    >>> completion_text([{"role": "assistant", "content": "2"}])
    '2'
    """
    return answer_text(value) or ""


def trajectory_text(value: Any) -> str:
    """Everything that the model wrote in a completion: its messages, reasoning and tool calls.

    Different trajectories have different texts; ids that programs give to tool calls are ignored. A single
    message without tool calls gives its content. Raises TypeError if the completion is neither a text nor a
    conversation.
    """
    if isinstance(value, str):
        return value
    return _BETWEEN.join(
        part for message in _messages(value) if _is_models(message) for part in _parts(message)
    )


def last_text(value: Any) -> str:
    """The question of a prompt: the text, or the content of the last message, whatever its role."""
    if isinstance(value, str):
        return value
    return content_text(value[-1].get("content")) if value else ""


def content_text(content: Any) -> str:
    """The text of a message's content: the text itself, or that of its parts; images have none."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TypeError(f"expected a message's content as a text or parts; got {type(content).__name__}")
    return "".join(part if isinstance(part, str) else part.get("text") or "" for part in content)


def _messages(value: Any) -> Iterator[Mapping[str, Any]]:
    for message in value:
        if not isinstance(message, Mapping):
            raise TypeError(f"expected messages; got {type(message).__name__}")
        yield message


def _is_models(message: Mapping[str, Any]) -> bool:
    return message.get("role") in _MODEL


def _parts(message: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a message of the model."""
    for name in _THOUGHTS:
        if message.get(name):
            yield f"<think>{content_text(message[name])}</think>"
    content = content_text(message.get("content"))
    if content:
        yield content
    for call in _calls(message):
        text = json.dumps(_without_number(call), sort_keys=True, ensure_ascii=False, default=str)
        yield f"<tool_call>{text}</tool_call>"


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls") or []
    old = message.get("function_call")
    return [*calls, old] if old else list(calls)


def _without_number(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    return {key: value for key, value in call.items() if key not in ("id", "index") and value is not None}
