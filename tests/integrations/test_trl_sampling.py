"""Log-probabilities of generation are those of one more pass of the policy; else that pass is made."""

import math
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
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel

from allmodes.integrations.trl import GRPOTrainer
from allmodes.integrations.trl_passes import Generation
from allmodes.integrations.trl_sampling import Sampled, recorded_generation
from allmodes.methods import MARA, EntropyBonus
from tiny_lm import save_tiny_lm
from trl_cases import Inputs, outcome, score, sequence_logprobs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

Make = Callable[..., Any]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What further passes of the policy gave."""
    made: list[Tensor] = []
    own = Generation.policy_pass

    def keep(generation: Generation) -> Tensor:
        made.append(own(generation))
        return made[-1]

    monkeypatch.setattr(Generation, "policy_pass", keep)
    return made


def used(trainer: Any, inputs: Inputs, *, drift: float = 0.3) -> tuple[Tensor, Tensor]:
    """Per-token log π_θ that the method got, and which tokens count."""
    found: list[tuple[Tensor, Tensor]] = []
    own = type(trainer)._policy_logps

    def keep(generation: Generation, completion_ids: Any, counted: Tensor) -> Tensor:
        logps = own(trainer, generation, completion_ids, counted)
        found.append((logps, counted))
        return logps

    trainer._policy_logps = keep
    score(trainer, inputs, drift=drift)
    return found[-1]


ON_OUTCOMES = MARA(threshold=0.25, outcome_key=outcome)
LORA = {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.0)}


@pytest.mark.parametrize(
    "transform", [ON_OUTCOMES, MARA(threshold=0.5), EntropyBonus()], ids=lambda m: m.name
)
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {}),
        ({"temperature": 0.7, "max_completion_length": 3}, {}),
        ({"temperature": 1.5, "top_k": 4}, {}),
        ({"top_p": 0.7, "min_p": 0.05}, {}),
        ({"gradient_checkpointing": True}, {}),
        ({"pad_to_multiple_of": 8}, {}),
        ({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2, "steps_per_generation": 2}, {}),
        ({"mask_truncated_completions": True, "max_completion_length": 4}, {}),
        ({}, LORA),
    ],
    ids=lambda value: ",".join(map(str, value)) or "plain",
)
def test_generation_knows_what_a_further_pass_would_say(
    settings: dict[str, Any],
    arguments: dict[str, Any],
    transform: Any,
    build: Make,
    inputs: Inputs,
    passes: list[Tensor],
) -> None:
    trainer = build(GRPOTrainer, settings, transform=transform, **arguments)
    sampled, counted = used(trainer, inputs)
    assert len(passes) == 1  # to compare, once
    assert sampled is not passes[0]
    if "temperature" not in settings and "top_p" not in settings:
        assert len(counted.sum(1).unique()) > 1  # some end before others
    torch.testing.assert_close(sampled[counted], passes[0][counted], atol=1e-5, rtol=1e-5)
    again, counted = used(trainer, inputs)
    assert len(passes) == 1
    with torch.no_grad():
        batch = trainer._generate_and_score_completions(inputs)
    assert len(passes) == 1
    assert again.shape == counted.shape
    assert bool(batch["advantages"].isfinite().all())


def test_they_are_those_of_the_policy_at_the_temperature_row_by_row(
    build: Make, inputs: Inputs, passes: list[Tensor]
) -> None:
    """Another route than TRL's: each completion by itself, without padding, in float64."""
    trainer = build(GRPOTrainer, {"temperature": 0.6, "top_k": 5}, transform=ON_OUTCOMES)
    found: list[Tensor] = []
    own = trainer._batch
    trainer._batch = lambda *arguments: found.append(own(*arguments)) or found[-1]
    batch = score(trainer, inputs)
    expected = sequence_logprobs(trainer.model, batch, temperature=0.6)
    torch.testing.assert_close(found[0].logprobs, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"repetition_penalty": 1.3}, {}),
        ({"generation_kwargs": {"no_repeat_ngram_size": 1}}, {}),
        ({}, {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.3)}),
    ],
    ids=["repetitions", "n-grams", "dropout"],
)
def test_where_generation_knows_another_distribution_one_more_pass_is_made(
    settings: dict[str, Any], arguments: dict[str, Any], build: Make, inputs: Inputs, passes: list[Tensor]
) -> None:
    trainer = build(GRPOTrainer, settings, transform=ON_OUTCOMES, **arguments)
    for count in (1, 2):
        logps, _ = used(trainer, inputs)
        assert len(passes) == count
        assert logps is passes[-1]


def test_dropout_of_attention_counts_in_training_alone(
    build: Make, inputs: Inputs, passes: list[Tensor], tmp_path: Path
) -> None:
    save_tiny_lm(tmp_path / "model", attention_dropout=0.2)
    trainer = build(GRPOTrainer, model=str(tmp_path / "model"), transform=ON_OUTCOMES)
    used(trainer, inputs)
    assert len(passes) == 1
    trainer.model.eval()
    trainer._generate_and_score_completions(inputs)
    trainer._generate_and_score_completions(inputs)
    assert len(passes) == 2  # the first is compared


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func':UserWarning")
def test_samples_of_a_user_s_own_get_one_more_pass(build: Make, inputs: Inputs, passes: list[Tensor]) -> None:
    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        ids = trainer.processing_class(prompts)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": [[6, 7, 1]] * len(prompts), "logprobs": None}

    trainer = build(GRPOTrainer, transform=ON_OUTCOMES, rollout_func=rollout)
    logps, _ = used(trainer, inputs)
    assert logps is passes[-1]


def test_a_model_with_absolute_positions_has_those_of_trl_s_passes(
    build: Make, inputs: Inputs, passes: list[Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    """Generation counts positions from the first token on, and so must a pass over padded prompts."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=16, n_positions=64, n_embd=32, n_layer=2, n_head=2, eos_token_id=1, bos_token_id=1,
        pad_token_id=0, initializer_range=0.5, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    processing = AutoTokenizer.from_pretrained(tiny_model)
    arguments = {"model": str(tmp_path / "gpt2"), "processing_class": processing}
    trainer = build(GRPOTrainer, transform=ON_OUTCOMES, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of older TRL's, which take the pass
        logps, counted = used(trainer, inputs)
    torch.testing.assert_close(logps[counted], passes[-1][counted], atol=1e-5, rtol=1e-5)


def test_where_the_two_differ_the_pass_is_used_and_one_warning_says_so(
    build: Make, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, made = Generation.policy_pass, []
    monkeypatch.setattr(Generation, "policy_pass", lambda self: made.append(own(self) - 0.1) or made[-1])
    trainer = build(GRPOTrainer, transform=ON_OUTCOMES)
    with pytest.warns(UserWarning, match=r"generation differ by 0\.1 nats per token"):
        first, _ = used(trainer, inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*generation differ")
        second, _ = used(trainer, inputs)
    assert [first is made[0], second is made[1], len(made)] == [True, True, 2]


def test_a_resumed_run_uses_what_the_uninterrupted_one_did(build: Make, tmp_path: Path) -> None:
    """It compares with a pass once more, and must not train on that."""
    settings = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps"}
    ends = []
    for name in ("whole", "rest"):
        trainer = build(GRPOTrainer, {**settings, "output_dir": str(tmp_path / name)}, transform=ON_OUTCOMES)
        resumed = {} if name == "whole" else {"resume_from_checkpoint": str(tmp_path / "whole/checkpoint-2")}
        trainer.train(**resumed)
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("settings", "change", "is_used"),
    [
        ({}, None, True),
        ({"top_k": 5}, None, False),  # vLLM's are after it
        ({}, "short", False),
        ({}, "unknown", False),
    ],
)
def test_log_probabilities_of_vllm(
    settings: dict[str, Any],
    change: str | None,
    is_used: bool,
    build: Make,
    inputs: Inputs,
    passes: list[Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [[6 + (row + i) % 10 for i in range(2 + row % 4)] + [1] for row in range(12)]
    trainer = build(
        GRPOTrainer, {"vllm_importance_sampling_correction": False, **settings}, transform=ON_OUTCOMES
    )
    trainer.use_vllm, trainer._trusts_generation = True, True
    logps: Any = [[-0.1 * (i + 1) for i in range(len(row))] for row in rows]
    if change == "short":
        logps[3] = logps[3][1:]
    if change == "unknown":
        logps[3][1] = math.nan
    monkeypatch.setattr(trl.GRPOTrainer, "_generate_single_turn", lambda *_, **__: (rows, logps))
    found, counted = used(trainer, inputs)
    assert (found is not passes[-1] if passes else True) == is_used
    if is_used:
        expected = -0.1 * (torch.arange(counted.shape[1]) + 1).expand(counted.shape)
        torch.testing.assert_close(found[counted], expected[counted])


# --- The recorder itself ---


@pytest.fixture
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


PROMPT = {
    "input_ids": torch.tensor([[0, 6, 7], [8, 9, 6]]),
    "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
}


def draw(model: Any, **settings: Any) -> Tensor:
    plain = {"do_sample": True, "max_new_tokens": 5, "top_k": 0, "pad_token_id": 0, "eos_token_id": 1}
    return model.generate(**PROMPT, generation_config=GenerationConfig(**{**plain, **settings}))[:, 3:]


def test_recording_changes_no_sample_and_leaves_the_model_as_it_was(model: Any) -> None:
    torch.manual_seed(1)
    alone = draw(model)
    torch.manual_seed(1)
    with recorded_generation(model, temperature=1.0) as calls:
        assert torch.equal(draw(model), alone)
        draw(model, max_new_tokens=1)
    assert "generate" not in vars(model)
    assert [call.logps.shape for call in calls if call] == [alone.shape, (2, 1)]
    model.generate = own = lambda **_: alone  # as packages do that patch models
    with pytest.raises(ZeroDivisionError), recorded_generation(model, temperature=1.0):
        raise ZeroDivisionError
    assert model.generate is own


@pytest.mark.parametrize("setting", [{"num_beams": 2}, {"min_new_tokens": 3}, {"suppress_tokens": [7]}])
def test_nothing_is_recorded_where_others_see_the_logits_first(model: Any, setting: dict[str, Any]) -> None:
    with recorded_generation(model, temperature=1.0) as calls:
        draw(model, **setting)
    assert calls == [None]


def test_only_the_same_completions_are_aligned() -> None:
    call = Sampled(
        ids=torch.tensor([[5, 1, 0], [6, 7, 8]]), logps=torch.tensor([[-1.0, -2, -9], [-3, -4, -5]])
    )
    found = call.aligned([[5, 1], [6, 7, 8]], 4)
    assert found is not None
    assert found.tolist() == [[-1, -2, 0, 0], [-3, -4, -5, 0]]
    for other in ([[5, 1]], [[5, 1], [6, 7, 9]], [[5, 1], [6, 7, 8, 9]], [[6, 7, 8], [5, 1]]):
        assert call.aligned(other, 4) is None
    assert call.aligned([[5, 1], [6, 7, 8]], 2) is None
