"""Sequence classifiers of a few thousand parameters, built at run time; one whose score is known by hand."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = ["<pad>", "<eos>", "<unk>", "<bos>", "user", "assistant", ":", *"abcdefghij"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
BITS = 5  # enough to tell the words apart


def bits(word: str) -> list[float]:
    """The word's number in binary, as −1 and 1: a vector whose root mean square is 1."""
    return [1.0 if WORDS.index(word) >> place & 1 else -1.0 for place in range(BITS)]


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Settings → folder of a two-layer GLM sequence classifier with its tokenizer.

    head: (labels, 5) of a model that reads the last word's bits and nothing else; without it everything is
    random, sharp, and depends on all words. pad: whether there is padding. start: whether tokenizer and
    template both write <bos>. length: what it can read.
    """
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import GlmConfig, GlmForSequenceClassification, PreTrainedTokenizerFast

    def make(
        *,
        labels: int = 1,
        head: list[list[float]] | None = None,
        pad: bool = True,
        start: bool = False,
        length: int = 64,
        template: str | None = TEMPLATE,
        tokenizer: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> Path:
        folder = tmp_path_factory.mktemp("classifier")
        torch.manual_seed(0)
        config = GlmConfig(  # transformers 5 would give Qwen2's models Qwen2's tokenizer in place of ours
            vocab_size=len(WORDS),
            hidden_size=32 if head is None else 4 * BITS,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            attention_bias=True,
            max_position_embeddings=length,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0 if pad else None,
            initializer_range=0.3,
            num_labels=labels,
        )
        model = GlmForSequenceClassification(config)
        if head is not None:
            with torch.no_grad():
                for layer in model.model.layers:
                    layer.self_attn.o_proj.weight.zero_()
                    layer.mlp.down_proj.weight.zero_()
                model.model.embed_tokens.weight.copy_(torch.tensor([4 * bits(word) for word in WORDS]))
                model.score.weight.copy_(torch.tensor([row + [0.0] * (3 * BITS) for row in head]))
        model.to(dtype).save_pretrained(folder)
        if tokenizer:
            words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
            words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
            if start:
                words.post_processor = processors.TemplateProcessing(
                    single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 3)]
                )
            special: dict[str, Any] = {"eos_token": "<eos>", "unk_token": "<unk>"}
            special |= {"pad_token": "<pad>"} if pad else {}
            special |= {"bos_token": "<bos>"} if start else {}
            fast = PreTrainedTokenizerFast(tokenizer_object=words, **special)
            fast.chat_template = ("<bos> " if start else "") + template if template else None
            fast.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def direct() -> Callable[..., torch.Tensor]:
    """(folder, ids) → the model's logits, (labels,), straight from its class, without padding or a mask."""
    from transformers import GlmForSequenceClassification

    def logits(folder: Path, ids: list[int]) -> torch.Tensor:
        model = GlmForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0]

    return logits
