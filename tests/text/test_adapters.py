"""LoRA in a recipe: what moves, what the reference is, resuming, merging, and what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl")
pytest.importorskip("peft")

from allmodes.errors import ConfigError
from allmodes.objectives import mara_rewards
from allmodes.runs.config import build_config
from allmodes.runs.folder import RunFolder
from allmodes.text.adapters import check_adapter, merged, peft_config, round_frozen
from allmodes.text.config import LoRA, TextConfig
from allmodes.text.models import autocast, load_model, load_tokenizer
from allmodes.text.reporting.results import Arm
from allmodes.text.training import make_trainer, train
from tiny_lm import LETTERS, TEMPLATE, save_tiny_lm

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class FirstLetter:
    """A reward for the first letter of a response: 1 for a to e, more or less for the others."""

    prompts = ("a b", "c d")

    def parse(self, text: str) -> str | None:
        return text[:1] or None

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return [1.0 if text[:1] in "abcde" else LETTERS.find(text[:1]) / 10 for text in responses]

    def known_answers(self, prompt: str) -> None:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_lm(folder, template=TEMPLATE)
    return folder


@pytest.fixture
def make(folder: Path) -> Callable[..., TextConfig]:
    def make(**changes: Any) -> TextConfig:
        values: dict[str, Any] = {
            "kind": "text", "task": "one_two", "model": str(folder), "trainer": ["rloo", "grpo", "flowrl"],
            "kl": ["reverse"], "method": ["mara"], "beta": [0.1], "steps": 4, "prompts_per_step": 2,
            "group_size": 4, "learning_rate": 0.05, "max_tokens": 5, "checkpoint_every": 2, "lora": {"r": 4},
        }  # fmt: skip
        return TextConfig.model_validate({**values, **changes})

    return make


def arm(trainer: str) -> Arm:
    return Arm(trainer=trainer, kl="reverse", method="mara", beta=0.1)


def run(config: TextConfig, trainer: str, out: Path, *, until: int | None = None) -> Any:
    """Train, or be interrupted after the step `until`."""

    def on_step(progress: Any) -> None:
        if progress.step == until:
            raise KeyboardInterrupt

    with RunFolder(out) as folder:
        return train(
            config, FirstLetter(), arm(trainer), seed=3, model=config.model, folder=folder, on_step=on_step
        )


def weights(model: Any, *, adapter: bool) -> dict[str, Tensor]:
    found = {name: value for name, value in model.state_dict().items() if ("lora_" in name) is adapter}
    return {name.replace("base_model.model.", "").replace(".base_layer", ""): v for name, v in found.items()}


@pytest.mark.parametrize("kind", ["rloo", "grpo", "flowrl"])
def test_adapters_alone_move_and_a_resumed_run_ends_as_if_nothing_had_happened(
    make: Callable[..., TextConfig], tmp_path: Path, kind: str
) -> None:
    config = make(lora={"r": 4, "dropout": 0.1})
    whole = run(config, kind, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, kind, tmp_path / "cut", until=3)
    resumed = run(config, kind, tmp_path / "cut")
    for name in ("metrics.jsonl", "samples.jsonl", "audit.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    trained, again = weights(whole.model, adapter=True), weights(resumed.model, adapter=True)
    assert trained.keys() == again.keys()
    assert all(torch.equal(trained[name], again[name]) for name in trained)
    assert all(bool(value.any()) for name, value in trained.items())  # lora_B began as zeros
    assert len(trained) == 2 * 7 * 2  # A and B of seven linear layers in each of two blocks
    own = load_model(config.model).state_dict()
    kept = weights(whole.model, adapter=False)
    assert all(torch.equal(kept[name], own[name]) for name in own)
    done = run(config, kind, tmp_path / "cut")  # killed between its last step and its result
    assert all(torch.equal(trained[name], value) for name, value in weights(done.model, adapter=True).items())


@pytest.mark.parametrize("kind", ["rloo", "grpo"])
def test_the_reference_is_the_base_and_mara_s_rewards_are_by_it(
    make: Callable[..., TextConfig], tmp_path: Path, kind: str
) -> None:
    config = make(methods={"mara": {"level": "strings", "threshold": 0.5}})
    trainer = make_trainer(
        config, FirstLetter(), arm(kind), seed=4, model=config.model,
        tokenizer=load_tokenizer(config.model), reward=rewards_of_texts, out=tmp_path,
        keep_checkpoints=False, callbacks=[],
    )  # fmt: skip
    batches: list[Any] = []
    transform = trainer._transform
    trainer._transform = lambda method, batch: batches.append(batch) or transform(method, batch)
    from trl_cases import score, sequence_logprobs

    prompts = [[{"role": "user", "content": text}] for text in FirstLetter.prompts for _ in range(4)]
    scored = score(trainer, [{"prompt": prompt} for prompt in prompts])
    assert trainer.ref_model is None
    [batch] = batches
    ref = sequence_logprobs(load_model(config.model), scored)
    policy = sequence_logprobs(trainer.model.eval(), scored)
    torch.testing.assert_close(batch.ref_logprobs.double(), ref, rtol=1e-4, atol=1e-4)
    if kind == "grpo":  # RLOO's own pass is not the method's
        torch.testing.assert_close(batch.logprobs.double(), policy, rtol=1e-4, atol=1e-4)
    assert (ref - policy).abs().min() > 1e-3  # the adapter has moved
    expected = mara_rewards(batch.rewards.double(), ref, beta=0.1, threshold=0.5, group_ids=batch.group_ids)
    assert expected.augmented.any()
    found = transform(trainer.transform, batch).rewards
    torch.testing.assert_close(found.double(), expected.rewards, rtol=1e-4, atol=1e-4)


def rewards_of_texts(prompts: Any, completions: Any, **_: Any) -> list[float]:
    return FirstLetter().rewards([], [completion[0]["content"] for completion in completions])


def test_a_merged_model_is_the_trained_policy(make: Callable[..., TextConfig], tmp_path: Path) -> None:
    config = make(trainer=["rloo"])
    trained = run(config, "rloo", tmp_path / "run")
    ids = torch.tensor([[3, 5, 6, 7, 4, 5, 8]])
    with torch.no_grad():
        before = trained.model.eval()(ids).logits
        base = load_model(config.model)(ids).logits
    model = merged(trained.model, source=config.model)
    model.save_pretrained(tmp_path / "model")
    trained.processing_class.save_pretrained(tmp_path / "model")
    again = load_model(str(tmp_path / "model"))
    assert again.state_dict().keys() == load_model(config.model).state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, before, rtol=1e-4, atol=1e-4)
    assert (before - base).abs().max() > 0.1
    assert not list((tmp_path / "model").glob("adapter*"))
    plain = load_model(config.model)
    assert merged(plain, source=config.model) is plain


@pytest.mark.parametrize("targets", ["all-linear", "q_proj", ["k_proj", "q_proj"]])
def test_frozen_weights_are_rounded_once_as_autocast_rounds_them(
    make: Callable[..., TextConfig], targets: Any
) -> None:
    import peft

    config = make()
    ids = torch.tensor([[3, 5, 6, 7, 4, 5, 8]])
    lora = LoRA.model_validate({"r": 4, "targets": targets})
    models, found = [], []
    for rounds in (False, True):
        torch.manual_seed(0)
        model = peft.get_peft_model(load_model(config.model), peft_config(lora))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_()
        if rounds:
            round_frozen(model)
        with autocast("bfloat16"):
            logits = model(ids).logits
        logits.float().square().mean().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
        models.append(model)
        found.append([logits, *gradients])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    kinds = {weight.dtype for name, weight in models[1].named_parameters() if "q_proj.base" in name}
    assert kinds == {torch.bfloat16}
    exact, rounded = (merged(model, source=config.model).state_dict() for model in models)
    assert all(torch.equal(exact[name], rounded[name]) for name in exact)


def test_the_scale_of_an_update_is_alpha_over_r(folder: Path) -> None:
    import peft

    lora = LoRA.model_validate({"r": 4, "alpha": 6.0, "targets": ["q_proj"]})
    model = peft.get_peft_model(load_model(str(folder)), peft_config(lora))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.copy_(torch.randn(b.shape))
        expected = layer.base_layer.weight + 6 / 4 * b @ a
    changed = [name for name, _ in model.named_modules() if name.endswith("lora_A")]
    assert len(changed) == 2
    torch.testing.assert_close(
        merged(model, source=str(folder)).model.layers[0].self_attn.q_proj.weight, expected
    )


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"r": 0}, "lora.r"),
        ({"alpha": 0}, "lora.alpha"),
        ({"dropout": 1.0}, "lora.dropout"),
        ({"targets": []}, "lora.targets"),
        ({"rank": 4}, "lora.rank"),
    ],
)
def test_settings_that_cannot_be(make: Callable[..., TextConfig], lora: Any, message: str) -> None:
    values = {**json.loads(make().model_dump_json()), "lora": lora}
    with pytest.raises(ConfigError, match=message) as caught:
        build_config(TextConfig, values, source="recipe")
    assert "\n" not in str(caught.value)


def test_layers_that_the_model_has_not(folder: Path) -> None:
    lora = LoRA.model_validate({"targets": ["query", "q_proj_"]})
    with pytest.raises(
        ConfigError, match=r"`lora.targets`: expected names of layers of the model; .*query"
    ) as e:
        check_adapter(load_model(str(folder)), lora)
    assert "\n" not in str(e.value)
