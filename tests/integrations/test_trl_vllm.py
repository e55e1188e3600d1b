"""TRL with vLLM in its process (colocate): our hook works whoever draws the responses. See `.ci/vllm`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")
pytest.importorskip("trl")

import torch
import vllm._custom_ops
from datasets import Dataset

from allmodes.integrations.trl import GRPOTrainer
from allmodes.methods import MARA
from tiny_lm import TEMPLATE, save_tiny_lm
from trl_cases import PROMPTS, even_share, outcome

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without oneDNN vLLM keeps the weights that TRL is to replace; with it, it packs and drops them."""
    monkeypatch.setattr(vllm._custom_ops, "_supports_onednn", False)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def test_two_steps_with_mara(tmp_path: Path, make_config: Callable[..., Any]) -> None:
    """vLLM draws with the weights of the step: in the second one, too, it and the trainer agree."""
    save_tiny_lm(tmp_path / "model", template=TEMPLATE, hidden_size=128)
    config = make_config(
        GRPOTrainer,
        max_steps=2,
        learning_rate=0.1,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=64,
        model_init_kwargs={"dtype": "float32"},
    )
    trainer = GRPOTrainer(
        model=str(tmp_path / "model"),
        reward_funcs=even_share,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS * 4}),
        transform=MARA(threshold=0.5),
        outcome_key=outcome,
    )
    start = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.global_step == 2
    assert any(not torch.equal(value, start[name]) for name, value in trainer.model.named_parameters())
    steps = [line for line in trainer.state.log_history if "transform/augmented" in line]
    assert len(steps) == 2
    for line in steps:
        assert 0 < line["transform/augmented"] <= 1
        assert math.isfinite(line["answers/entropy"])
        # bfloat16 in vLLM. The rate above moves each weight by a third of their spread.
        assert line["sampling/sampling_logp_difference/mean"] < 0.1
        assert 0.9 < line["sampling/importance_sampling_ratio/mean"] < 1.1
