"""The made-up world of open questions, and the tiny models that are trained on it."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from allmodes.errors import RunError
from allmodes.tasks import Creative, RewardModel
from allmodes.text.stand_ins import creative_stand_in, made_up_answers
from allmodes.text.stand_ins.made_up_answers import (
    HELD_OUT,
    KINDS,
    TRAINING,
    Answer,
    SameItem,
    best_answers,
    draw_answer,
    named,
    quality,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def answer(text: str, item: str, **changes: bool) -> Answer:
    flags = {"is_on_topic": True, "is_complete": True, "is_repetitive": False, "has_reason": False}
    return Answer(text=text, item=item, **{**flags, **changes})


def test_questions_are_different_and_no_held_out_one_is_trained_on() -> None:
    assert len(set(TRAINING)) == len(TRAINING) == 24
    assert len(set(HELD_OUT)) == len(HELD_OUT) == 16
    assert not set(TRAINING) & set(HELD_OUT)
    items = [item for kind in KINDS for item in kind.answers]
    assert len(set(items)) == len(items) == 8 * 12
    assert all(set(best_answers(kind.held_out[0])) < set(kind.answers) for kind in KINDS)


def test_quality_by_hand() -> None:
    question = "Name a fruit."
    assert best_answers(question) == ("banana", "mango", "kiwi", "lychee")
    assert quality(question, answer("Mango, why not.", "mango", has_reason=True)) == pytest.approx(4.0)
    assert quality(question, answer("Mango.", "mango")) == pytest.approx(3.6)
    assert quality(question, answer("Apple.", "apple")) == pytest.approx(2.6)
    assert quality(question, answer("Apple", "apple", is_complete=False)) == pytest.approx(2.3)
    bad = answer("Dog dog dog", "dog", is_on_topic=False, is_complete=False, is_repetitive=True)
    assert quality(question, bad) == 0


def test_drawn_answers_have_their_statistics() -> None:
    """6000 draws: a share is off by more than five of its standard errors once in a million."""
    draws = random.Random(1)
    question = "Name a city."
    answers = [draw_answer(question, draws) for _ in range(6000)]
    on_topic = [drawn for drawn in answers if drawn.is_on_topic]
    assert len(on_topic) / 6000 == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 6000) ** 0.5)
    first = 1 / sum(1 / rank for rank in range(1, 13))  # Zipf's law over twelve
    share = sum(drawn.item == "Paris" for drawn in on_topic) / len(on_topic)
    assert share == pytest.approx(first, abs=5 * (first * (1 - first) / len(on_topic)) ** 0.5)
    cut = sum(not drawn.is_complete for drawn in answers) / 6000
    assert cut == pytest.approx(0.06, abs=5 * (0.06 * 0.94 / 6000) ** 0.5)
    assert all(named(drawn.text) == drawn.item for drawn in answers)
    assert all(drawn.text.endswith(".") == drawn.is_complete for drawn in answers)
    even = [draw_answer(question, draws, is_even=True) for _ in range(6000)]
    rare = sum(drawn.item == "Tbilisi" for drawn in even) / 6000
    assert rare == pytest.approx(0.05, abs=5 * (0.05 * 0.95 / 6000) ** 0.5)  # 60 % over twelve


def test_what_an_answer_names() -> None:
    assert named("How about bake bread, why not.") == "bake bread"
    assert named("I suggest PAPAYA") == "papaya"
    assert named("Maybe newt or dog.") == "newt"  # the first of all
    assert named("") is None
    assert named("Well, hm.") is None
    same = SameItem().same
    assert same("Plum.", "Surely plum, I like it.")
    assert not same("Plum.", "Pear.")
    assert not same("Plum.", "hm")
    assert not same("hm", "well")
    assert same("hm", "hm")


def test_the_models_are_made_saved_and_loaded_by_the_code_that_uses_them(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert creative_stand_in.load_creative_stand_ins(tmp_path) is None
    made = creative_stand_in.make_creative_stand_ins(tmp_path)
    again = creative_stand_in.load_creative_stand_ins(tmp_path)
    assert again == made
    statistics = made.statistics
    assert all(low <= statistics[name] <= high for name, (low, high) in creative_stand_in.RANGES.items())
    tokenizer = AutoTokenizer.from_pretrained(made.base)
    model = AutoModelForCausalLM.from_pretrained(made.base)
    measured = creative_stand_in.measure_base(model, tokenizer, samples=10, seed=5)
    # 160 samples of about 68 %: five standard errors are 18 %.
    assert measured["on_topic"] == pytest.approx(statistics["on_topic"], abs=0.18)
    for folder in (made.base, made.reward_model, made.other_reward_model):
        assert "stand-in" in (folder / "README.md").read_text(encoding="utf-8")
        assert (folder / "model.safetensors").exists()
    task = Creative(made.training_prompts, reward_model=RewardModel(made.reward_model))
    assert task.prompts == TRAINING
    assert Creative(made.held_out_prompts, reward_model=RewardModel(made.reward_model)).prompts == HELD_OUT
    for judge in (made.reward_model, made.other_reward_model):
        model = RewardModel(judge)
        good, fair, bad = (
            sum(model.scores([kind.training[0] for kind in KINDS], texts))  # pyright: ignore
            for texts in (
                [f"Maybe {best_answers(kind.training[0])[0]}, I like it." for kind in KINDS],
                [f"Maybe {kind.answers[0]}." for kind in KINDS],
                [f"Maybe {KINDS[(place + 1) % 8].answers[0]}." for place in range(8)],
            )
        )
        assert good > fair + 8 * 0.7  # 1.4 better each, by the made-up quality
        assert fair > bad + 8 * 1.0  # 2 better each
    first, second = (
        RewardModel(judge).scores([HELD_OUT[0]] * 3, ["Mango.", "Pear.", "Fig."])
        for judge in (made.reward_model, made.other_reward_model)
    )
    assert first != second


def test_statistics_out_of_range_are_refused() -> None:
    fine = {name: (low + high) / 2 for name, (low, high) in creative_stand_in.RANGES.items()}
    creative_stand_in._check(fine)
    for name in fine:
        with pytest.raises(RunError, match=f"`{name}` should lie between"):
            creative_stand_in._check({**fine, name: creative_stand_in.RANGES[name][1] + 0.01})


def test_little_training_leaves_models_that_load(tmp_path: Path) -> None:
    made = creative_stand_in.make_creative_stand_ins(tmp_path, share=0.004)
    assert RewardModel(made.reward_model).scores(["Name a fruit."], ["Fig."])[0] is not None
    lines = made.training_prompts.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == list(TRAINING)
    assert made_up_answers.named("Fig.") == "fig"
