"""Tiny models with Qwen2's architecture, built at run time: what every stand-in is built from."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.text.supervised import minimise, response_loss

TINY_LIMIT = 256  # tokens of a prompt and a response
_PAD, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(texts: Iterable[str], *, vocabulary_size: int, tags: Sequence[str] = ()) -> Any:
    """A byte-level BPE tokenizer with a chat template, trained on texts. tags: tokens of their own."""
    from tokenizers import AddedToken, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    transformers: Any = importlib.import_module("transformers")
    # A folder with a Qwen2 model is loaded with Qwen2's way of cutting text, whatever it was saved with.
    tokenizer = transformers.Qwen2TokenizerFast().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[_PAD, _START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Tags are tokens of their own, but no special ones: what a model says must survive decoding.
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        pad_token=_PAD,
        padding_side="left",
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(tokenizer: Any, *, width: int = 128, spread: float = 0.02, **settings: Any) -> Any:
    """Two layers: at width 128 about half a million parameters. spread: of random weights."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=TINY_LIMIT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=spread,
        **settings,
    )


def tiny_language_model(tokenizer: Any, *, seed: int, **settings: Any) -> Any:
    """A language model with random weights. settings: as for `tiny_config`."""
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(seed)
    return Qwen2ForCausalLM(tiny_config(tokenizer, **settings))


def train_on_responses(
    model: Any,
    tokenizer: Any,
    draw: Callable[[], Sequence[tuple[list[int], str]]],
    *,
    steps: int,
    rate: float,
) -> None:
    """Maximum likelihood of responses, given their prompts' tokens; `draw` makes the batch of each step."""

    def loss() -> Tensor:
        pairs = [
            (prompt, [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id])
            for prompt, text in draw()
        ]
        return response_loss(model, pairs, pad=tokenizer.pad_token_id)

    minimise(model, loss, steps=steps, rate=rate)
