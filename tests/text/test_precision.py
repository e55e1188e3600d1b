"""bfloat16 on a processor: training, sampling and likelihood, and one precision for both sides of a ratio."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
pytest.importorskip("peft")

from allmodes.errors import AllmodesWarning
from allmodes.text import experiment, models
from allmodes.text.config import TextConfig
from allmodes.text.likelihood import ids_logprobs
from allmodes.text.models import autocast, has_bfloat16, load_model, load_tokenizer
from allmodes.text.reporting.results import Arm
from allmodes.text.sampling import sample_responses
from allmodes.text.training import make_trainer
from tiny_lm import TEMPLATE, save_tiny_lm

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_lm(folder, template=TEMPLATE)
    return folder


def config_of(folder: Path, **changes: Any) -> TextConfig:
    values: dict[str, Any] = {
        "kind": "text", "task": "one_two", "model": str(folder), "trainer": ["grpo"], "kl": ["reverse"],
        "method": ["mara"], "beta": [0.1], "steps": 1, "group_size": 8, "learning_rate": 0.01,
        "max_tokens": 5, "precision": "bfloat16", "methods": {"mara": {"level": "strings", "threshold": 0.5}},
    }  # fmt: skip
    return TextConfig.model_validate({**values, **changes})


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["all weights", "lora"])
@pytest.mark.parametrize("share", [True, False])
def test_both_sides_of_the_ratio_have_one_precision(
    folder: Path, tmp_path: Path, lora: Any, share: bool
) -> None:
    """Before the first step policy and reference are one model: what is left of their ratio is rounding."""
    config = config_of(folder, lora=lora, share_prompts=share)
    trainer = make_trainer(
        config, config.task.make(), Arm(trainer="grpo", kl="reverse", method="mara", beta=0.1), seed=4,
        model=config.model, tokenizer=load_tokenizer(config.model),
        reward=lambda prompts, completions, **_: [float(n % 2) for n in range(len(completions))],
        out=tmp_path, keep_checkpoints=False, callbacks=[],
    )  # fmt: skip
    batches: list[Any] = []
    transform, seen = trainer._transform, set()
    trainer._transform = lambda method, batch: batches.append(batch) or transform(method, batch)
    layer = next(m for name, m in trainer.model.named_modules() if name.endswith("layers.1.mlp.up_proj"))
    layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trainer.train()
    assert seen == {torch.bfloat16}  # of every pass, with and without a gradient, and of generation
    [batch] = batches
    assert (batch.logprobs - batch.ref_logprobs).abs().max() < 5 * 0.05
    assert batch.logprobs.abs().min() > 1  # so that the bound says something
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_sampling_and_likelihood(folder: Path) -> None:
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    seen = set()
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda m, i, output: seen.add(output.dtype))
    rows = [[5, 6, 7, 1], [8, 9, 1], [10, 11, 12, 13, 1]]
    exact = ids_logprobs(model, [3, 5], rows, batch_size=2)
    assert seen == {torch.float32}
    seen.clear()
    with autocast("bfloat16"):
        rounded = ids_logprobs(model, [3, 5], rows, batch_size=2)
        [texts] = sample_responses(model, tokenizer, ["a b"], count=3, max_tokens=4, temperature=1.0, seed=0)
    assert seen == {torch.bfloat16}
    assert rounded.dtype == torch.float64
    assert (rounded - exact).abs().max() < 5 * 0.05
    assert not torch.equal(rounded, exact)
    assert len(texts) == 3


def test_a_processor_without_it_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "has_bfloat16", lambda: False)
    with pytest.warns(AllmodesWarning, match="`precision`: this processor has no bfloat16; it is emulated"):
        experiment.check_training_files(config_of(folder))
    experiment.check_training_files(config_of(folder, precision="float32"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16 amx_int8", True), ("fpu avx512f avx2", False), ("fp asimd bf16", True)],
)
def test_what_the_processor_says(monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr(models, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(models.Path, "read_text", lambda self, **_: f"model name : x\nflags\t: {flags}\n")
    assert has_bfloat16() is expected
