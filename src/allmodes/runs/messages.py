"""Texts and conversations, as trainers hand them around."""

from typing import Any


def completion_text(value: Any) -> str:
    """The text of a completion: itself, or the content of the last message of a conversation."""
    if isinstance(value, str):
        return value
    content = value[-1].get("content") if value else None
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""
