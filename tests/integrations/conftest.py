"""A language model of a few thousand parameters, and trainers on it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = ["<pad>", "<eos>", "<unk>", "user", "assistant", ":", *"abcdefghij"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer Qwen2 over 16 words, with its tokenizer; sharp enough that samples differ."""
    pytest.importorskip("trl")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("tiny")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Any]:
    """(trainer class, settings of its config) → the config, for the processor, with nothing reported."""

    def make(trainer: type, **settings: Any) -> Any:
        import trl

        kind = trl.GRPOConfig if issubclass(trainer, trl.GRPOTrainer) else trl.RLOOConfig
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "per_device_train_batch_size": 12,
            "per_device_eval_batch_size": 12,
            "num_generations": 4,
            "max_completion_length": 8,
            "max_steps": 3,
            "logging_steps": 1,
            "learning_rate": 1e-2,
            "beta": 0.1,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        if kind is trl.GRPOConfig:
            defaults["scale_rewards"] = "none"
        return kind(**{**defaults, **settings})

    return make
