"""The tiny base model of the 1-2 task: made in time, with the statistics that it is made for."""

import json
import random
from pathlib import Path

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


def test_the_model_is_made_saved_and_loaded_again(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    statistics = stand_in.make_stand_in(tmp_path / "base", seed=1)
    assert statistics["correct"] == pytest.approx(0.36, abs=0.06)
    assert 0.7 < statistics["ones"] < 0.9
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.config.model_type == "qwen2"
    text = "<think>I flip a coin.</think><answer>2</answer>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert sum(tokenizer.convert_ids_to_tokens(i) in ("<think>", "</answer>") for i in ids) == 2
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": OneTwo.prompts[0]}], add_generation_prompt=True, return_dict=False
    )
    # The very statistics of the model before it was saved: no other tokens, no other weights.
    again = stand_in.measure(model, tokenizer, prompt, samples=2000, seed=1)
    assert again == {name: statistics[name] for name in again}
    assert "stand-in" in (tmp_path / "base" / "README.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "base" / "config.json").read_text())["model_type"] == "qwen2"


def test_a_model_without_these_statistics_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "_STEPS", 2)
    with pytest.raises(RunError, match="should be 36% correct"):
        stand_in.make_stand_in(tmp_path / "base")
    assert not (tmp_path / "base").exists()
