"""Prompts of a log as tokens: chat templates, plain texts, and texts decoded without special tokens."""

from typing import Any

import pytest

pytest.importorskip("transformers")

from allmodes.errors import ConfigError
from allmodes.text.logged_prompts import PromptReader, Prompts
from allmodes.text.stand_ins.tiny import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WORDS = ["user assistant system hello banana band Be brief. Be kind."] * 9
# As many models have it: a system's message of its own where none is given, contents without outer spaces.
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_with(template: str | None) -> Any:
    tokenizer = tiny_tokenizer(WORDS, vocabulary_size=300)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module", params=[DEFAULT_SYSTEM, NO_SYSTEM], ids=["default system", "no system"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return tokenizer_with(request.param)


def templated(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """By the library's own way."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def logged(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """As TRL, verl and OpenRLHF write a prompt."""
    return tokenizer.batch_decode([templated(tokenizer, messages)], skip_special_tokens=True)[0]


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def ids(tokenizer: Any, prompt: Any, mode: Prompts) -> list[int]:
    found = PromptReader(tokenizer, prompts=mode)(prompt)
    assert found is not None
    assert not found.as_it_stands
    return found.ids


@pytest.mark.parametrize("content", ["hello", "", "banana\nband", "ünïcödé 🐟", "what does user\nmean?", "⁂"])
def test_a_decoded_prompt_is_recovered(content: str, tokenizer: Any) -> None:
    expected = templated(tokenizer, user(content))
    assert len(set(expected)) > 3
    text = logged(tokenizer, user(content))
    assert "<|" not in text
    assert ids(tokenizer, text, "decoded") == expected


def test_a_systems_message_is_recovered_where_there_is_one() -> None:
    tokenizer = tokenizer_with(DEFAULT_SYSTEM)
    for system in ("Be brief.", "Be kind.", "Be\nbrief."):
        messages = [{"role": "system", "content": system}, *user("hello")]
        assert ids(tokenizer, logged(tokenizer, messages), "decoded") == templated(tokenizer, messages)


def test_what_no_template_gives_is_taken_as_it_stands_and_said(tokenizer: Any) -> None:
    turns = [*user("hello"), {"role": "assistant", "content": "band"}, *user("banana")]
    reader = PromptReader(tokenizer, prompts="decoded")
    for text in ("hello", "user\nhello", logged(tokenizer, turns), logged(tokenizer, user("hello"))[:-1]):
        found = reader(text)
        assert found is not None
        assert found.as_it_stands
        assert found.ids == tokenizer.encode(text)


def test_outer_spaces_that_a_template_drops_cannot_be_told_from_others() -> None:
    tokenizer = tokenizer_with(DEFAULT_SYSTEM)
    text = logged(tokenizer, user("hello")).replace("hello", " hello")
    found = PromptReader(tokenizer, prompts="decoded")(text)
    assert found is not None
    assert found.as_it_stands


def test_a_text_with_special_tokens_was_not_decoded(tokenizer: Any) -> None:
    whole = tokenizer.apply_chat_template(user("hello"), tokenize=False, add_generation_prompt=True)
    assert ids(tokenizer, whole, "decoded") == templated(tokenizer, user("hello"))


def test_modes(tokenizer: Any) -> None:
    chat, plain = templated(tokenizer, user("hello")), tokenizer.encode("hello")
    assert ids(tokenizer, "hello", "chat") == ids(tokenizer, "hello", "auto") == chat
    assert ids(tokenizer, "hello", "text") == plain != chat
    without = tokenizer_with(None)
    for mode in ("auto", "text", "decoded"):
        assert ids(without, "hello", mode) == plain
    with pytest.raises(
        ConfigError, match=r"^`model`: expected a tokenizer with a chat template, .*; got none"
    ):
        PromptReader(without, prompts="chat")
    with pytest.raises(ConfigError, match="chat template"):
        PromptReader(without, prompts="text")(user("hello"))


@pytest.mark.parametrize("mode", ["auto", "chat", "text", "decoded"])
def test_messages_go_through_the_template(mode: Prompts, tokenizer: Any) -> None:
    assert ids(tokenizer, user("hello"), mode) == templated(tokenizer, user("hello"))


def test_keys_without_a_value_are_left_out() -> None:
    """As Parquet has it, where other messages have them."""
    tokenizer = tokenizer_with(
        NO_SYSTEM.replace("{{ m['content'] }}", "{% if 'name' in m %}!{% endif %}{{ m['content'] }}")
    )
    padded = [{**user("hello")[0], "name": None}]
    assert ids(tokenizer, padded, "auto") == templated(tokenizer, user("hello"))


def test_an_assistants_message_at_the_end_is_gone_on_with(tokenizer: Any) -> None:
    begun = [*user("hello"), {"role": "assistant", "content": "band"}]
    end = tokenizer.encode("<|im_start|>assistant\nband")
    assert ids(tokenizer, begun, "auto")[-len(end) :] == end


@pytest.mark.parametrize("prompt", [7, 1.5, {"role": "user"}, [], ["hello"], [{"content": "hello"}], [None]])
def test_what_is_no_prompt(prompt: Any, tokenizer: Any) -> None:
    assert PromptReader(tokenizer, prompts="auto")(prompt) is None


def test_a_role_that_the_template_refuses() -> None:
    reader = PromptReader(tokenizer_with(NO_SYSTEM), prompts="auto")
    assert reader([{"role": "system", "content": "Be kind."}, *user("hello")]) is None


def test_no_prompt_is_a_start_or_an_end_of_text() -> None:
    tokenizer = tokenizer_with(None)
    for mode in ("auto", "text", "decoded"):
        assert ids(tokenizer, None, mode) == ids(tokenizer, "", mode) == [tokenizer.eos_token_id]
    assert ids(tokenizer_with(NO_SYSTEM), None, "chat") == [tokenizer.eos_token_id]
    tokenizer.bos_token = "<|im_start|>"
    assert ids(tokenizer, None, "text") == [tokenizer.bos_token_id]


def test_a_start_of_text_comes_before_a_plain_text_once() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_with(None)
    tokenizer.bos_token = "<|im_start|>"
    start = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    hello = tokenizer.encode("hello", add_special_tokens=False)
    assert ids(tokenizer, "hello", "text") == [start, *hello]
    assert ids(tokenizer, "<|im_start|>hello", "text") == [start, *hello]
    assert ids(tokenizer, None, "text") == [start]
    tokenizer.chat_template = NO_SYSTEM
    assert (
        ids(tokenizer, "hello", "chat")[:2]
        == tokenizer.encode("<|im_start|>user", add_special_tokens=False)[:2]
    )


def test_half_a_surrogate_pair(tokenizer: Any) -> None:
    for mode in ("chat", "text"):
        assert ids(tokenizer, "a\ud83d", mode) == ids(tokenizer, "a?", mode)
