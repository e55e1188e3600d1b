"""Table 1 on a real model: its stand-ins for preference models, and the whole way with two prompts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl")
pytest.importorskip("peft")

from allmodes.errors import ConfigError, InputError, RunError
from allmodes.metrics import ead
from allmodes.paper import mara_table1, table1_inputs
from allmodes.paper import table1 as module
from allmodes.paper.reproduction import REAL as REAL_SCALE
from allmodes.paper.table1 import Figure, Table, table1
from allmodes.paper.table1_rewards import AlikeEmbeddings, BaseLikelihood, Relevance
from allmodes.paper.table1_settings import NAMES, QUICK, REAL, TRAINED, text_config
from allmodes.text.evaluation.measures import stand_in_embeddings
from allmodes.text.models import load_model, load_tokenizer
from allmodes.text.stand_ins.tiny import tiny_language_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PROMPTS = ("Name a colour.", "Name a fruit that is sweet.")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer([*PROMPTS, "blue red fig plum\n"] * 4, vocabulary_size=300)
    model = tiny_language_model(tokenizer, seed=0, width=32, spread=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(vectors: dict[str, tuple[float, float]]) -> Any:
    def embed(texts: Any) -> Tensor:
        return torch.tensor([vectors[text] for text in texts])

    return embed


def test_relevance_is_a_cosine_and_falls_with_words_over_the_limit() -> None:
    vectors = {
        "ask": (1.0, 0.0), "near": (4.0, 3.0), "a b c d": (4.0, 3.0), "away": (-1.0, 0.0), "  ": (1.0, 0.0),
        "other": (0.0, 2.0),
    }  # fmt: skip
    scorer = Relevance(by_hand(vectors), most_words=3)
    found = scorer.scores(
        ["ask", "ask", "ask", "ask", "ask", "other"], ["near", "a b c d", "away", "  ", "ask", "near"]
    )
    assert found == pytest.approx([0.8, 0.8 * 3 / 4, 0.0, None, 1.0, 0.6])
    assert scorer.scores([], []) == []
    with pytest.raises(InputError):
        scorer.scores(["ask"], [])


def test_the_base_models_likelihood_is_the_mean_over_tokens_and_the_end(tiny: Path) -> None:
    model, tokenizer = load_model(str(tiny)), load_tokenizer(str(tiny))
    scorer = BaseLikelihood(model, tokenizer, chat_template={}, precision="float32", batch_size=2)
    responses = ["blue", "", "red fig plum"]
    found = scorer.scores([PROMPTS[0], PROMPTS[0], PROMPTS[1]], responses)
    assert found[1] is None
    for prompt, response, score in zip((*PROMPTS[:1], *PROMPTS), responses, found, strict=True):
        if score is None:
            continue
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        start = tokenizer.encode(text, add_special_tokens=False)
        row = [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
        with torch.no_grad():
            logprobs = model(torch.tensor([[*start, *row]])).logits[0].double().log_softmax(-1)
        steps = [float(logprobs[len(start) + place - 1, token]) for place, token in enumerate(row)]
        assert len(row) > 1
        assert score == pytest.approx(sum(steps) / len(row), abs=1e-4)
    assert scorer.scores([PROMPTS[0]], [" "]) == [None]


def test_responses_are_alike_from_a_cosine_on() -> None:
    judge = AlikeEmbeddings(by_hand({"a": (1.0, 0.0), "b": (4.0, 3.0), "c": (3.0, 4.0)}), least=0.79)
    assert judge.same("a", "b")
    assert not judge.same("a", "c")
    assert isinstance(table1_inputs.find_judge(REAL, stand_in_embeddings), AlikeEmbeddings)
    assert table1_inputs.find_judge(QUICK, stand_in_embeddings) is None


def test_the_real_scale_has_small_settings_and_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("allmodes.text.models.has_bfloat16", lambda has=has: has)
        assert mara_table1.settings_of(REAL_SCALE) == replace(REAL, precision=precision)
    for row in TRAINED:
        config = text_config(REAL, row, model="smollm2", prompts=Path("x"), reward_model=REAL.reward_model)
        assert config.lora is not None
        assert config.lora.r == 16
        assert config.max_prompt_tokens == 128
    assert not REAL.needs_accelerator
    assert not REAL.is_stand_in


def test_the_real_scale_says_which_package_or_prompts_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLMODES_TABLE1_WORK", str(tmp_path / "work"))

    def missing(name: str) -> Path:
        raise ConfigError(f"{name} needs `pip install x`; x is not installed")

    monkeypatch.setattr(table1_inputs, "packaged_file", missing)
    with pytest.raises(ConfigError, match=r"smollm2 needs `pip install x`"):
        mara_table1.reproduce(REAL_SCALE, lambda _: None)
    assert not (tmp_path / "work").exists()

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(table1_inputs, "packaged_file", lambda name: Path(name))
    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(
        ConfigError,
        match=r"novelty-bench from the hub, or .*work/training\.jsonl, JSON Lines with `prompt`: "
        r"data/wildchat-1k\.jsonl of github\.com/novelty-bench/novelty-bench; got no network",
    ):
        mara_table1.reproduce(REAL_SCALE, lambda _: None)
    (tmp_path / "work" / "training.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(ConfigError, match=r"test\.jsonl, JSON Lines with `prompt`: data/curated\.jsonl of"):
        mara_table1.reproduce(REAL_SCALE, lambda _: None)


def test_prompts_that_cannot_be_read_are_named_before_training(tiny: Path, tmp_path: Path) -> None:
    settings = replace(REAL, model=str(tiny), embedder="stand-in", test_prompts=tmp_path / "none.jsonl")
    (tmp_path / "training.jsonl").write_text('{"prompt": "a"}\n{"question": "b"}\n')
    with pytest.raises(ConfigError, match=r"training\.jsonl, line 2: expected the key `prompt`"):
        table1(settings, tmp_path)
    (tmp_path / "training.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(ConfigError, match=r"cannot read .*none\.jsonl"):
        table1(settings, tmp_path)


def test_two_prompts_and_two_steps_go_the_whole_way_and_resume(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(
        REAL, model=str(tiny), embedder="stand-in", prompts_per_step=1, group_size=4, generations=3, steps=2,
        sampled_prompts=2, max_tokens=5, max_test_tokens=5, max_prompt_tokens=64, vocabulary_size=300,
    )  # fmt: skip
    names = ("Base", "RLOO", "Ensemble", "MARA (fwd)")  # each trainer, and what is not trained
    monkeypatch.setattr(module, "NAMES", names)
    rows = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS)
    (tmp_path / "test.jsonl").write_text(rows)
    too_long = json.dumps({"prompt": "very " * 80}) + "\n"
    (tmp_path / "training.jsonl").write_text(too_long + rows)
    steps: list[int] = []
    table = table1(settings, tmp_path, advance=steps.append)
    assert sum(steps) == 2 * 2
    assert tuple(table.rows) == names

    tokenizer = load_tokenizer(str(tiny))
    base = BaseLikelihood(
        load_model(str(tiny)), tokenizer, chat_template={}, precision="float32", batch_size=4
    )
    relevance = Relevance(stand_in_embeddings)
    for name in ("Ensemble", "MARA-fwd"):
        samples = json.loads((tmp_path / f"{name}-0" / "samples.json").read_text(encoding="utf-8"))
        assert [row["prompt"] for row in samples["training"]] == list(PROMPTS)  # without the one too long
        said = samples["training"][0]["responses"]
        assert samples["rewards"][0] == pytest.approx(relevance.scores([PROMPTS[0]] * 3, said))
        means, eads = [], []
        for row in samples["test"]:
            scores = [s for s in base.scores([row["prompt"]] * 3, row["responses"]) if s is not None]
            means += [sum(scores) / len(scores)] if scores else []
            ids = [tokenizer.encode(text, add_special_tokens=False) for text in row["responses"]]
            eads.append(ead(ids, vocabulary_size=300))
        found = table.rows[name.replace("-fwd", " (fwd)")]
        assert found["out_dist_reward"].mean == pytest.approx(sum(means) / len(means), abs=1e-4)
        assert found["ead"].mean == pytest.approx(sum(eads) / 2)
        assert math.isnan(found["utility"].mean)
    checkpoint = tmp_path / "RLOO-0" / "trainer" / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").exists()
    assert not (checkpoint / "model.safetensors").exists()
    assert (tmp_path / "Ensemble-0" / "model" / "model.safetensors").exists()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train", never)
    assert repr(table1(settings, tmp_path)) == repr(table)
    (tmp_path / "test.jsonl").write_text(rows + json.dumps({"prompt": "Another."}) + "\n")
    with pytest.raises(RunError, match=r"other settings: `prompts\.test`: expected"):
        table1(settings, tmp_path)


def test_verdicts_and_notes_name_the_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figure = Figure(mean=-1.0, sem=0.1, prompts=(-1.0, -0.9), seeds=(-1.0,))
    none = Figure(mean=math.nan, sem=math.nan, prompts=(), seeds=(math.nan,))
    row = dict.fromkeys(module.METRICS, figure) | {"utility": none}
    table = Table(
        rows=dict.fromkeys(NAMES, row), unscored=dict.fromkeys(NAMES, 0.0), embedder="minilm", stand_ins={}
    )
    monkeypatch.setattr(module, "table1", lambda *_, **__: table)
    result = mara_table1.reproduce(REAL_SCALE, lambda _: None)
    start = "SmolLM2-135M-Instruct, stand-ins for preference models: "
    assert all(entry.measured.startswith(start) for entry in result.verdicts)
    notes = " ".join(result.notes)
    for part in (
        "cosine",
        "mean log-likelihood",
        "a stand-in for its judge",
        "trained for 10 steps of 2 × 5 responses",
        "the first 12 of its curated ones",
        "'minilm'",
    ):
        assert part in notes
    assert "built at run time" not in notes
    assert result.notes[-1].count("| – |") == len(NAMES)  # utility
    labels = [axes.get_xlabel() for axes in result.figure.axes]
    assert [label.endswith("(stand-in)") for label in labels] == [False, False, True]
