"""A language model of a few thousand parameters, and trainers on it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer Qwen2 over 16 words, with its tokenizer; sharp enough that samples differ."""
    pytest.importorskip("trl")
    from tiny_lm import TEMPLATE, save_tiny_lm

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_lm(folder, template=TEMPLATE)
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


@pytest.fixture(params=["grpo", "rloo"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def build(tiny_model: Path, make_config: Callable[..., Any]) -> Callable[..., Any]:
    """(trainer class, settings, **trainer's arguments) → trainer."""
    from datasets import Dataset

    from trl_cases import PROMPTS, even_share

    def make(trainer: type, settings: dict[str, Any] | None = None, **arguments: Any) -> Any:
        defaults: dict[str, Any] = {
            "model": str(tiny_model),
            "reward_funcs": even_share,
            "args": make_config(trainer, **(settings or {})),
            "train_dataset": Dataset.from_dict({"prompt": PROMPTS * 4}),
        }
        return trainer(**{**defaults, **arguments})

    return make


@pytest.fixture
def inputs() -> list[dict[str, Any]]:
    """One generation: three prompts, four rows each."""
    from trl_cases import PROMPTS

    return [{"prompt": prompt} for prompt in PROMPTS for _ in range(4)]
