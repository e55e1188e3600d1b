"""Language models of a few thousand parameters, built at run time: a Qwen2 with one token a word."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

LETTERS = "abcdefghij"
WORDS = ["<pad>", "<eos>", "<unk>", "user", "assistant", ":", *LETTERS]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def make_tokenizer(words: Sequence[str] = WORDS, *, template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a word. The first two are the padding and the end of text, "<unk>" is any other word."""
    unknown = "<unk>" if "<unk>" in words else words[0]
    model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": words[0], "eos_token": words[1]}
    special |= {"unk_token": unknown} if unknown in words[2:] else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, padding_side="left", **special)
    tokenizer.chat_template = template
    return tokenizer


def save_tiny_lm(
    folder: Path,
    words: Sequence[str] = WORDS,
    *,
    template: str | None = None,
    hidden_size: int = 32,
    layers: int = 2,
    heads: int = 2,
    **settings: Any,
) -> Qwen2ForCausalLM:
    """A model over `words` with random weights and its tokenizer, saved in a folder.

    settings: of Qwen2Config. Weights are wide enough (`initializer_range`) that samples differ.
    """
    torch.manual_seed(0)
    own: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**{**own, **settings}))
    model.save_pretrained(folder)
    make_tokenizer(words, template=template).save_pretrained(folder)
    return model
