"""Responses that share the pass over their prompt: the same values and gradients, fewer tokens."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

trl = pytest.importorskip("trl")
# ruff: noqa: E402

from peft import LoraConfig
from transformers import AutoTokenizer, DynamicCache, GPT2Config, GPT2LMHeadModel

from allmodes.integrations.trl import GRPOTrainer
from allmodes.methods import MARA
from tiny_lm import save_tiny_lm
from trl_cases import OURS, Inputs, outcome, parameters, score

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:log-probabilities of generation differ:UserWarning"
    ),  # GPT-2, by padding
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

Make = Callable[..., Any]
LORA = {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.0)}


def gpt2(folder: Path, tiny_model: Path) -> dict[str, Any]:
    """A model with absolute positions."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=16, n_positions=64, n_embd=32, n_layer=2, n_head=2, eos_token_id=1, bos_token_id=1,
        pad_token_id=0, initializer_range=0.5, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        summary_first_dropout=0.0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return {"model": str(folder), "processing_class": AutoTokenizer.from_pretrained(tiny_model)}


def pass_and_gradient(trainer: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Per-token log π of the completions, and the gradient of a random combination of them."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    kept = batch["completion_ids"].shape[1]
    output = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept)
    logps = (output[0] if isinstance(output, tuple) else output) * batch["completion_mask"]
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(3))
    trainer.model.zero_grad()
    (logps * weights).sum().backward()
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    return logps.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each pass through the tiny model's layers."""
    from transformers import Qwen2Model

    seen: list[int] = []
    own = Qwen2Model.forward

    def forward(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
        seen.append(int(input_ids.numel()))
        return own(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(Qwen2Model, "forward", forward)
    return seen


@pytest.mark.parametrize("model", ["tiny", "lora", "gpt2"])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7}], ids=["", "temperature"])
def test_values_and_gradients_are_those_of_whole_sequences(
    kind: str,
    model: str,
    settings: dict[str, Any],
    build: Make,
    inputs: Inputs,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    """Prompts of one, two and three words, so padded, with four responses each."""
    arguments = {"tiny": {}, "lora": LORA, "gpt2": {}}[model]
    if model == "gpt2":
        arguments = gpt2(tmp_path / "gpt2", tiny_model)
    trainer = build(OURS[kind], settings, transform=MARA(threshold=0.5), **arguments)
    batch = score(trainer, inputs)
    assert len(batch["prompt_mask"].sum(1).unique()) == 3
    logps, gradient = pass_and_gradient(trainer, batch)
    assert float(gradient.norm()) > 0
    trainer.share_prompts = True
    shared, shared_gradient = pass_and_gradient(trainer, batch)
    assert trainer._cache_is_exact
    torch.testing.assert_close(shared, logps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shared_gradient, gradient, atol=1e-4, rtol=1e-4)


def test_each_prompt_is_read_once(build: Make, inputs: Inputs, tokens: list[int]) -> None:
    """Three prompts of up to P tokens, twelve responses: all but the last token of a prompt is shared."""
    trainer = build(GRPOTrainer, share_prompts=True)
    batch = score(trainer, inputs)
    width, kept = batch["prompt_ids"].shape[1], batch["completion_ids"].shape[1]
    tokens.clear()
    pass_and_gradient(trainer, batch)
    assert tokens == [3 * (width - 1), 12 * (kept + 1)]
    tokens.clear()
    trainer._generate_and_score_completions(inputs)
    assert tokens[:2] == [3 * (width - 1), 12]  # generation: the prompts, then the last token of each


@pytest.mark.parametrize("model", ["tiny", "gpt2"])
def test_training_is_the_same(kind: str, model: str, build: Make, tiny_model: Path, tmp_path: Path) -> None:
    """Three steps from the same seed: the same completions, and weights that differ by rounding alone."""
    ends = []
    for share in (False, True):
        arguments = {} if model == "tiny" else gpt2(tmp_path / "gpt2", tiny_model)
        method = MARA(threshold=0.25, outcome_key=outcome)
        trainer = build(OURS[kind], {"optim": "sgd"}, transform=method, share_prompts=share, **arguments)
        trainer.train()
        ends.append(
            (parameters(trainer), [row["reward"] for row in trainer.state.log_history if "reward" in row])
        )
    (plain, rewards), (shared, shared_rewards) = ends
    assert shared_rewards == rewards
    for name, value in plain.items():
        torch.testing.assert_close(shared[name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"gradient_checkpointing": True}, {}),
        ({}, {"peft_config": LoraConfig(target_modules=["q_proj"], lora_dropout=0.3)}),
    ],
    ids=["checkpointing", "dropout"],
)
def test_passes_of_training_that_cannot_share_do_not(
    settings: dict[str, Any], arguments: dict[str, Any], build: Make, inputs: Inputs, tokens: list[int]
) -> None:
    trainer = build(GRPOTrainer, settings, share_prompts=True, **arguments)
    batch = score(trainer, inputs)
    whole = 12 * (batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1])
    tokens.clear()
    pass_and_gradient(trainer, batch)
    assert tokens[0] == whole


def test_a_model_whose_cache_is_not_its_past_warns_once_and_is_not_shared(
    build: Make, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tokens: list[int]
) -> None:
    trainer = build(GRPOTrainer, share_prompts=True)
    batch = score(trainer, inputs)
    expected, _ = pass_and_gradient(trainer, batch)
    own = DynamicCache.reorder_cache

    def wrong(cache: Any, rows: Tensor) -> None:
        own(cache, rows)
        for layer in cache.layers:
            layer.values = layer.values * 0.5

    monkeypatch.setattr(DynamicCache, "reorder_cache", wrong)
    trainer._cache_is_exact = None
    with pytest.warns(UserWarning, match="nats per token if responses share the pass over their prompt"):
        found, _ = pass_and_gradient(trainer, batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pass_and_gradient(trainer, batch)


def test_without_it_nothing_is_shared(build: Make, inputs: Inputs, tokens: list[int]) -> None:
    trainer = build(GRPOTrainer)
    batch = score(trainer, inputs)
    tokens.clear()
    pass_and_gradient(trainer, batch)
    assert tokens == [12 * (batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1])]


def test_a_model_of_one_layer_and_one_word_prompts_has_nothing_to_share(
    build: Make, tmp_path: Path, tokens: list[int]
) -> None:
    save_tiny_lm(tmp_path / "model", layers=1)
    trainer = build(GRPOTrainer, model=str(tmp_path / "model"), share_prompts=True)
    batch = score(trainer, [{"prompt": "a"}] * 4)
    tokens.clear()
    pass_and_gradient(trainer, batch)
    assert tokens == [4 * (1 + batch["completion_ids"].shape[1])]
