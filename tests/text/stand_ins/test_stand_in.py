"""The tiny base model of the 1-2 task: made in time, with the statistics that it is made for."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from allmodes.errors import RunError
from allmodes.tasks import OneTwo
from allmodes.text.stand_ins import stand_in

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_made_up_responses_have_the_statistics_of_the_papers_base_model() -> None:
    """4000 draws: a share is off by more than five of its standard errors once in a million."""
    task, generator = OneTwo(), random.Random(1)
    answers = [task.parse(stand_in.response(generator)) for _ in range(4000)]
    valid = [answer for answer in answers if answer is not None]
    assert len(valid) / 4000 == pytest.approx(stand_in.CORRECT, abs=5 * (0.36 * 0.64 / 4000) ** 0.5)
    assert valid.count("1") / len(valid) == pytest.approx(stand_in.ONES, abs=5 * (0.16 / 1400) ** 0.5)


def test_the_shipped_training_reaches_its_statistics(tmp_path: Path) -> None:
    """All 300 steps and 2,000 samples: nothing less says that the shipped settings are right."""
    statistics = stand_in.make_stand_in(tmp_path / "base", seed=1)
    assert statistics["correct"] == pytest.approx(0.36, abs=0.06)
    assert 0.7 < statistics["ones"] < 0.9
    assert (tmp_path / "base" / "model.safetensors").exists()


def test_a_loaded_model_is_the_one_that_was_saved(one_two_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(one_two_model)
    model = AutoModelForCausalLM.from_pretrained(one_two_model)
    assert model.config.model_type == "qwen2"
    text = "<think>I flip a coin.</think><answer>2</answer>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert sum(tokenizer.convert_ids_to_tokens(i) in ("<think>", "</answer>") for i in ids) == 2
    # The very statistics of the model before it was saved: no other tokens, no other weights.
    again = stand_in.measure(model, tokenizer, prompt_of(tokenizer), samples=100, seed=3)
    assert 0.1 < again["correct"] < 0.9
    assert 0 < again["ones"] < 1
    readme = (one_two_model / "README.md").read_text(encoding="utf-8")
    assert "stand-in" in readme
    for name, value in again.items():
        assert f"- {name}: {value:.4g}\n" in readme
    assert json.loads((one_two_model / "config.json").read_text())["model_type"] == "qwen2"


def prompt_of(tokenizer: Any) -> list[int]:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": OneTwo.prompts[0]}], add_generation_prompt=True, return_dict=False
    )


def test_a_model_that_has_hardly_been_trained_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 samples instead of 2,000, which cost ten seconds and are all wrong."""
    measure = stand_in.measure
    monkeypatch.setattr(stand_in, "_STEPS", 2)
    monkeypatch.setattr(
        stand_in, "measure", lambda *given, samples, seed: measure(*given, samples=100, seed=seed)
    )
    with pytest.raises(RunError, match="should be 36% correct"):
        stand_in.make_stand_in(tmp_path / "base")
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("correct", "ones", "is_kept"),
    [(0.36, 0.8, True), (0.31, 0.89, True), (0.41, 0.71, True),
     (0.29, 0.8, False), (0.43, 0.8, False), (0.36, 0.69, False), (0.36, 0.91, False)],
)  # fmt: skip
def test_a_model_is_kept_within_the_limits_of_its_statistics_alone(
    correct: float, ones: float, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "_STEPS", 1)
    monkeypatch.setattr(stand_in, "measure", lambda *_, **__: {"correct": correct, "ones": ones})
    if is_kept:
        assert stand_in.make_stand_in(tmp_path / "base")["ones"] == ones
    else:
        with pytest.raises(RunError, match="should be 36% correct"):
            stand_in.make_stand_in(tmp_path / "base")
    assert (tmp_path / "base").exists() == is_kept
