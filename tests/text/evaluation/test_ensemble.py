"""The mean of two checkpoints, tensor by tensor; adapters are merged first; nothing half written is left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from allmodes.errors import InputError, RunError
from allmodes.runs.files import new_folder, temporary_path
from allmodes.text.evaluation import ensemble
from allmodes.text.evaluation.ensemble import ensemble_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WORDS = ["<pad>", "<eos>", "<unk>", *"abcdefghij"]
IDS = torch.tensor([[3, 4, 5, 6, 7, 3]])
PROJECTIONS = ["q_proj", "v_proj", "down_proj"]

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Seed and settings → folder of a two-layer GLM over 13 words, with a tokenizer that knows its seed."""
    from transformers import GlmConfig, GlmForCausalLM

    def build(
        seed: int,
        *,
        dtype: torch.dtype = torch.float32,
        tied: bool = False,
        shard: str = "1GB",
        **settings: Any,
    ) -> Path:
        folder = tmp_path_factory.mktemp("model")
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}
        sizes |= {"vocab_size": len(WORDS), "eos_token_id": 1, "pad_token_id": 0}
        model = GlmForCausalLM(GlmConfig(**{**sizes, "tie_word_embeddings": tied, **settings}))
        with torch.no_grad():
            for parameter in model.parameters():  # norms, too, differ from seed to seed
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        save_tokenizer(folder, f"<{seed}>")
        return folder

    return build


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Base and seed → folder of a LoRA adapter of rank 2, with a tokenizer if asked for."""
    peft = pytest.importorskip("peft")

    def build(
        base: Path, seed: int, *, targets: list[str] = PROJECTIONS, tokenizer: bool = True, rank: int = 2
    ) -> Path:
        folder = tmp_path_factory.mktemp("adapter")
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=rank, lora_alpha=3, target_modules=targets, init_lora_weights=False)
        peft.get_peft_model(load(base, torch.float32), config).save_pretrained(
            folder, save_embedding_layers=False
        )
        if tokenizer:
            save_tokenizer(folder, f"<{seed}>")
        return folder

    return build


def save_tokenizer(folder: Path, name: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*WORDS, name])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)


def load(folder: Path, dtype: torch.dtype | str = "auto") -> Any:
    from transformers import GlmForCausalLM

    return GlmForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor in the files of a folder, in the precision of the files."""
    from safetensors.torch import load_file

    return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS).logits


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_every_tensor_is_the_weighted_mean(make: Make, tmp_path: Path, weight: float) -> None:
    early, late, out = make(1), make(2, shard="3KB"), tmp_path / "out"
    assert len(list(late.glob("*.safetensors"))) > 1
    ensemble_weights(early, late, out, weight=weight)
    one, other, mean = weights(early), weights(late), weights(out)
    assert one.keys() == other.keys() == mean.keys()
    for name, tensor in mean.items():
        expected = (1 - weight) * one[name].double() + weight * other[name].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=1e-7)
        if weight in (0, 1):
            assert torch.equal(tensor, other[name] if weight else one[name])
    assert names_of(tmp_path) == {"out"}


def test_half_is_the_papers_and_the_default(make: Make, tmp_path: Path) -> None:
    early, late = make(1), make(2)
    ensemble_weights(early, late, tmp_path / "default")
    ensemble_weights(early, late, tmp_path / "half", weight=0.5)
    half = weights(tmp_path / "half")
    assert all(torch.equal(tensor, half[name]) for name, tensor in weights(tmp_path / "default").items())


def test_the_tokenizer_is_the_late_ones(make: Make, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    ensemble_weights(make(1), make(2), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("a <2> <1>")["input_ids"] == [3, 13, 2]


def test_the_mean_is_taken_in_float32_and_saved_in_the_checkpoints_precision(
    make: Make, tmp_path: Path
) -> None:
    early, late = make(1, dtype=torch.bfloat16), make(2, dtype=torch.bfloat16)
    ensemble_weights(early, late, tmp_path / "out", weight=0.3)
    one, other = weights(early), weights(late)
    coarse = 0
    for name, tensor in weights(tmp_path / "out").items():
        assert tensor.dtype == torch.bfloat16
        exact = (0.7 * one[name].float() + 0.3 * other[name].float()).bfloat16()
        assert torch.equal(tensor, exact)
        coarse += int((0.7 * one[name] + 0.3 * other[name] != exact).sum())
    assert coarse > 0
    assert load(tmp_path / "out").dtype == torch.bfloat16
    ensemble_weights(make(1), late, tmp_path / "mixed")  # the late one's
    assert {tensor.dtype for tensor in weights(tmp_path / "mixed").values()} == {torch.bfloat16}


def test_tied_weights_are_averaged_once_and_stay_tied(make: Make, tmp_path: Path) -> None:
    early, late = make(1, tied=True), make(2, tied=True)
    ensemble_weights(early, late, tmp_path / "out", weight=0.25)
    mean, name = load(tmp_path / "out"), "model.embed_tokens.weight"
    expected = 0.75 * weights(early)[name] + 0.25 * weights(late)[name]
    torch.testing.assert_close(mean.model.embed_tokens.weight, expected, rtol=0, atol=1e-7)
    assert mean.lm_head.weight is mean.model.embed_tokens.weight
    assert "lm_head.weight" not in weights(tmp_path / "out")


def test_whole_numbers_have_no_mean_and_must_be_equal() -> None:
    early = {"w": torch.tensor([1.0]), "steps": torch.tensor([3]), "mask": torch.tensor([True])}
    late = {"w": torch.tensor([2.0]), "steps": torch.tensor([3]), "mask": torch.tensor([True])}
    ensemble._average(early, late, 0.5)
    assert late["w"].tolist() == [1.5]
    assert late["steps"].tolist() == [3]
    assert late["steps"].dtype == torch.int64
    for name in ("steps", "mask"):
        other = {**early, name: ~early[name]}
        with pytest.raises(
            InputError, match=rf"^{name} holds torch\.\w+, which has no mean, and must be equal"
        ):
            ensemble._average(other, late, 0.5)


def test_an_adapter_is_merged_into_its_base(make: Make, make_adapter: Make, tmp_path: Path) -> None:
    """With d = 0 or 1 the result has the logits of the adapter's own model."""
    peft = pytest.importorskip("peft")
    base = make(1)
    adapter = make_adapter(base, 5)
    adapted = logits(peft.PeftModel.from_pretrained(load(base), adapter).eval())
    assert (adapted - logits(load(base))).abs().max() > 0.1
    for weight, (early, late) in ((0.0, (adapter, base)), (1.0, (base, adapter))):
        ensemble_weights(early, late, tmp_path / str(weight), weight=weight)
        torch.testing.assert_close(logits(load(tmp_path / str(weight))), adapted, rtol=0, atol=1e-4)
        assert "adapter_config.json" not in names_of(tmp_path / str(weight))


def test_adapters_are_merged_before_the_mean_not_after(
    make: Make, make_adapter: Make, tmp_path: Path
) -> None:
    """½(B₁A₁ + B₂A₂), and not ½(B₁ + B₂) · ½(A₁ + A₂)."""
    base = make(1)
    early, late = make_adapter(base, 5), make_adapter(base, 6)
    ensemble_weights(early, late, tmp_path / "out")
    plain, mean, one, two = (weights(folder) for folder in (base, tmp_path / "out", early, late))
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        (a1, b1), (a2, b2) = (
            [lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB"] for lora in (one, two)
        )
        change, scale = mean[f"{name}.weight"] - plain[f"{name}.weight"], 3 / 2  # alpha / rank
        torch.testing.assert_close(change, scale * (b1 @ a1 + b2 @ a2) / 2, rtol=0, atol=1e-5)
        assert (change - scale * (b1 + b2) @ (a1 + a2) / 4).abs().max() > 0.05
    untouched = "model.layers.0.mlp.gate_up_proj.weight"
    assert torch.equal(mean[untouched], plain[untouched])


def test_an_adapter_of_a_coarse_base_is_merged_in_float32(
    make: Make, make_adapter: Make, tmp_path: Path
) -> None:
    base, name = make(1, dtype=torch.bfloat16), "model.layers.0.self_attn.q_proj"
    adapter = make_adapter(base, 5)
    ensemble_weights(base, adapter, tmp_path / "out", weight=0.5)
    lora, before, after = weights(adapter), weights(base)[f"{name}.weight"], weights(tmp_path / "out")
    a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    exact = before.float() + 0.5 * 1.5 * b @ a
    error = (after[f"{name}.weight"].float() - exact).abs() / exact.abs().clamp(min=1e-3)
    assert error.max() <= 2**-8  # rounded once: half a unit in the last of 8 bits


def test_an_adapter_without_a_tokenizer_has_its_bases(make: Make, make_adapter: Make, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = make(1)
    ensemble_weights(base, make_adapter(base, 5, tokenizer=False), tmp_path / "base")
    ensemble_weights(base, make_adapter(base, 5), tmp_path / "own")
    read = [
        AutoTokenizer.from_pretrained(tmp_path / name)("<1> <5>")["input_ids"] for name in ("base", "own")
    ]
    assert read == [[13, 2], [2, 13]]


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_an_adapter_of_tied_embeddings_is_refused(make: Make, make_adapter: Make, tmp_path: Path) -> None:
    tied = make(1, tied=True)
    ensemble_weights(tied, make_adapter(tied, 5), tmp_path / "fine")
    for target in ("embed_tokens", "lm_head"):
        with pytest.raises(InputError, match="must not change embeddings that are tied in its base"):
            ensemble_weights(tied, make_adapter(tied, 5, targets=[target]), tmp_path / "out")
    untied = make(1)
    ensemble_weights(untied, make_adapter(untied, 5, targets=["embed_tokens"]), tmp_path / "untied")
    assert names_of(tmp_path) == {"fine", "untied"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 32, "head_dim": 16}, "`head_dim` must be the same in both; got 8 and 16"),
        ({"num_hidden_layers": 3}, "`num_hidden_layers` must be the same in both; got 2 and 3"),
        ({"num_key_value_heads": 1}, "`num_key_value_heads` must be the same in both; got 2 and 1"),
        ({"rms_norm_eps": 1e-3}, "`rms_norm_eps` must be the same in both; got .* and 0.001"),
        ({"tied": True}, "`tie_word_embeddings` must be the same in both; got False and True"),
    ],
)
def test_checkpoints_of_different_models_are_refused(
    make: Make, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """Also where all shapes agree, and the same weights would compute something else."""
    with pytest.raises(InputError, match=message):
        ensemble_weights(make(1), make(2, **settings), tmp_path / "out")
    assert not names_of(tmp_path)


def test_other_architectures_and_shapes_are_refused(make: Make, tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    other = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(WORDS), num_key_value_heads=2, **sizes))
    other.save_pretrained(tmp_path / "qwen")
    save_tokenizer(tmp_path / "qwen", "<q>")
    with pytest.raises(
        InputError, match="two checkpoints of one model; got GlmForCausalLM and Qwen2ForCausalLM"
    ):
        ensemble_weights(make(1), tmp_path / "qwen", tmp_path / "out")
    one, two = load(make(1)), load(make(2))
    two.lm_head = torch.nn.Linear(16, len(WORDS) + 1, bias=False)
    with pytest.raises(
        InputError, match=r"lm_head\.weight must have one shape in both; got \(13, 16\) and \(14, 16\)"
    ):
        ensemble._check_same_model(one, two)
    two.lm_head = torch.nn.Identity()
    with pytest.raises(
        InputError, match=r"lm_head\.weight must have one shape in both; got \(13, 16\) and None"
    ):
        ensemble._check_same_model(one, two)
    one.config.use_cache, one.config.pad_token_id, one.lm_head = False, None, torch.nn.Identity()
    ensemble._check_same_model(one, two)


def test_files_that_lack_weights_are_refused(make: Make, tmp_path: Path) -> None:
    """They would be drawn at random."""
    from safetensors.torch import save_file

    good, lacking = make(1), tmp_path / "lacking"
    shutil.copytree(good, lacking)
    kept = {k: v for k, v in weights(good).items() if k != "lm_head.weight"}
    save_file(kept, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        RunError, match=r"lacking must hold the weights of a GlmForCausalLM; at fault: \['lm_head"
    ):
        ensemble_weights(good, lacking, tmp_path / "out")
    save_file(
        {**weights(good), "score.weight": torch.ones(1)},
        lacking / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(RunError, match=r"at fault: \['score\.weight'\]"):
        ensemble_weights(lacking, good, tmp_path / "out")
    (lacking / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RunError, match=r"^cannot load the checkpoint .*lacking: ") as caught:
        ensemble_weights(good, lacking, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(make: Make, make_adapter: Make, tmp_path: Path) -> None:
    good = make(1)
    adapter, full = make_adapter(good, 5), tmp_path / "full"
    shutil.copytree(good, full)
    for folder, name, old in (
        (full, "model", "pytorch_model.bin"),
        (adapter, "adapter_model", "adapter_model.bin"),
    ):
        torch.save(weights(folder), folder / old)
        (folder / f"{name}.safetensors").unlink()
    with pytest.raises(RunError, match="cannot load the checkpoint"):
        ensemble_weights(good, full, tmp_path / "out")
    with pytest.raises(RunError, match=r"expected adapter_model\.safetensors; it has none"):
        ensemble_weights(good, adapter, tmp_path / "out")


def test_wrong_arguments_are_named(make: Make, make_adapter: Make, tmp_path: Path) -> None:
    good = make(1)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=f"`weight` must lie between 0 and 1; got {weight}"):
            ensemble_weights(good, good, tmp_path / "out", weight=weight)
    with pytest.raises(InputError, match=r"`early` must be a folder; got .*nowhere"):
        ensemble_weights(tmp_path / "nowhere", good, tmp_path / "out")
    with pytest.raises(InputError, match=r"`late` must be a folder; got .*nowhere"):
        ensemble_weights(good, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match=r"`out` must be a new folder; .*there exists"):
        ensemble_weights(good, good, tmp_path / "there")
    bare = tmp_path / "bare"
    shutil.copytree(good, bare)
    (bare / "tokenizer_config.json").unlink()
    with pytest.raises(
        RunError, match=r"expected a tokenizer beside the model; it has no tokenizer_config\.json"
    ):
        ensemble_weights(good, bare, tmp_path / "out")
    adapter = make_adapter(good, 5)
    config = json.loads((adapter / "adapter_config.json").read_text())
    for change, error, message in (
        ({"peft_type": "IA3"}, InputError, "`peft_type` must be 'LORA'; got 'IA3'"),
        (
            {"base_model_name_or_path": None},
            RunError,
            "expected `base_model_name_or_path` of the adapter; got None",
        ),
        (
            {"base_model_name_or_path": str(tmp_path / "nowhere")},
            RunError,
            "cannot load the checkpoint .*nowhere",
        ),
        ({"base_model_name_or_path": str(make(1, hidden_size=32))}, RunError, "cannot merge the adapter"),
    ):
        (adapter / "adapter_config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(error, match=message):
            ensemble_weights(good, adapter, tmp_path / "out")
    for text in ("[]", "{", "nonsense"):
        (adapter / "adapter_config.json").write_text(text)
        with pytest.raises(RunError, match=r"adapter_config\.json: "):
            ensemble_weights(good, adapter, tmp_path / "out")
    assert names_of(tmp_path) == {"there", "bare"}


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("odd")]
)
def test_a_write_that_is_cut_off_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """After the weights are written, before the tokenizer is."""
    from transformers import PreTrainedTokenizerBase

    early, late = make(1), make(2)
    seen: list[set[str]] = []

    def cut_off(self: Any, folder: Path, **_: Any) -> None:
        seen.append(names_of(Path(folder)))
        raise failure

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", cut_off)
    expected = RunError if isinstance(failure, Exception) else KeyboardInterrupt
    with pytest.raises(expected, match=None if expected is KeyboardInterrupt else r"^cannot write .*out: "):
        ensemble_weights(early, late, tmp_path / "out")
    assert "model.safetensors" in seen[0]
    assert not names_of(tmp_path)


def test_a_folder_that_appears_meanwhile_is_left_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, average = tmp_path / "out", ensemble._average

    def slow(*arguments: Any) -> None:
        average(*arguments)
        out.mkdir()

    monkeypatch.setattr(ensemble, "_average", slow)
    with pytest.raises(RunError, match="`out` must be a new folder"):
        ensemble_weights(make(1), make(2), out)
    assert names_of(tmp_path) == {"out"}
    assert not names_of(out)


def test_a_folder_that_is_in_the_way_of_the_temporary_one_stays(tmp_path: Path) -> None:
    theirs = temporary_path(tmp_path / "out")
    theirs.mkdir()
    (theirs / "notes").write_text("mine")
    with pytest.raises(RunError, match="cannot write"), new_folder(tmp_path / "out"):
        pytest.fail("entered")
    assert (theirs / "notes").read_text() == "mine"
