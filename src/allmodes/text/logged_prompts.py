"""Tokens of the prompts of a log, also of prompts decoded without special tokens."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, final

from jinja2 import TemplateError

from allmodes.errors import ConfigError
from allmodes.runs.lines import whole_text

Prompts = Literal["auto", "chat", "text", "decoded"]

_REMEMBERED = 4096  # prompts
_SHAPES = (("user",), ("system", "user"))
_MARK = "⁂"  # a content that no template has of itself


class PromptTokens(NamedTuple):
    """as_it_stands: the original of a decoded prompt was searched but not found."""

    ids: list[int]
    as_it_stands: bool = False


@final
class PromptReader:
    """Prompts of a log → tokens.

    Messages are formatted by the chat template, which begins the assistant's turn. A text depends on the
    mode:

    - chat: as the user's message.
    - text: unchanged, with the start of text that the tokenizer may add, as in TRL.
    - auto: as chat if the tokenizer has a template, else as text.
    - decoded: as a program logs it that decodes a prompt's tokens without special ones. A user's message,
      with a system's or without, is looked for whose tokens in the template decode to just this text. If
      there is none, the text is taken as it stands.

    No prompt is a start of text, or an end where the tokenizer has no start.

    Raises ConfigError if a template is needed and the tokenizer has none.
    """

    def __init__(self, tokenizer: Any, *, prompts: Prompts) -> None:
        self._tokenizer = tokenizer
        self._has_template = tokenizer.chat_template is not None
        if prompts == "chat":
            self._require_template()
        self._mode = "text" if prompts != "chat" and not self._has_template else prompts
        self._frames = _frames(tokenizer) if self._mode == "decoded" else []
        self._read = lru_cache(_REMEMBERED)(self._of_json)

    def __call__(self, prompt: Any) -> PromptTokens | None:
        """None for what is neither a text nor messages that the template takes."""
        if prompt is None or isinstance(prompt, str | list):
            return self._read(json.dumps(prompt, default=str))
        return None

    def _of_json(self, text: str) -> PromptTokens | None:
        prompt = json.loads(text)
        if isinstance(prompt, list):
            self._require_template()
            return self._chat(prompt)
        if prompt is None or self._mode == "text":
            return PromptTokens(self._plain(prompt or ""))
        if self._mode == "decoded":
            return self._decoded(prompt)
        return self._chat([{"role": "user", "content": prompt}])

    def _require_template(self) -> None:
        if not self._has_template:
            raise ConfigError(
                "`model`: expected a tokenizer with a chat template, for prompts that are messages; got none"
            )

    def _plain(self, text: str) -> list[int]:
        start, end = self._tokenizer.bos_token, self._tokenizer.eos_token_id
        has_start = start is not None and text.startswith(start)
        ids = self._tokenizer.encode(whole_text(text), add_special_tokens=not has_start)
        return ids or [end if start is None else self._tokenizer.bos_token_id]

    def _chat(self, messages: Sequence[Any]) -> PromptTokens | None:
        try:
            # Parquet gives every message all keys that any has, and transformers 4 hands them on.
            plain = [{key: value for key, value in one.items() if value is not None} for one in messages]
            return PromptTokens(_ids(self._tokenizer, _rendered(self._tokenizer, plain)))
        except (TemplateError, AttributeError, KeyError, IndexError, TypeError, ValueError):
            return None

    def _decoded(self, text: str) -> PromptTokens:
        for frame in self._frames:
            messages = frame.messages(text)
            found = None if messages is None else self._chat(messages)
            if found is not None and _decode(self._tokenizer, found.ids) == text:
                return found
        # A special token that can be seen was not left out: nothing was decoded.
        added = self._tokenizer.added_tokens_decoder.values()
        is_whole = any(token.special and token.content in text for token in added)
        return PromptTokens(self._plain(text), as_it_stands=not is_whole)


@final
@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The shape of a decoded prompt: texts before, between and behind the contents of its messages."""

    roles: tuple[str, ...]
    texts: tuple[str, ...]

    def messages(self, text: str) -> list[dict[str, str]] | None:
        """The messages in a text; None for one of another shape, or of several turns."""
        first, *inner, last = self.texts
        if not (text.startswith(first) and text.endswith(last) and len(text) >= len(first) + len(last)):
            return None
        contents, rest = [], text[len(first) : len(text) - len(last)]
        for between in inner:
            content, found, rest = rest.partition(between)
            if not found:
                return None
            contents.append(content)
        contents.append(rest)
        if last.strip() and any(last in content for content in contents):
            return None
        return [
            {"role": role, "content": content} for role, content in zip(self.roles, contents, strict=True)
        ]


def _frames(tokenizer: Any) -> list[_Frame]:
    found = []
    for roles in _SHAPES:
        try:
            whole = _rendered(tokenizer, [{"role": role, "content": _MARK} for role in roles])
        except TemplateError:  # it knows no such role
            continue
        texts = tuple(_decode(tokenizer, _ids(tokenizer, text)) for text in whole.split(_MARK))
        if len(texts) == len(roles) + 1:
            found.append(_Frame(roles=roles, texts=texts))
    return found


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    goes_on = messages[-1]["role"] == "assistant"
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=not goes_on, continue_final_message=goes_on
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(whole_text(text), add_special_tokens=False)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)
