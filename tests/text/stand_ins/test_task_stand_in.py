"""Stand-ins of tasks that write examples: short sequences, learnt shares, and what they cannot learn."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from allmodes.errors import ConfigError, RunError
from allmodes.tasks import Boolean, Causal, Creative, OneTwo, Voxels
from allmodes.text.base_statistics import base_statistics
from allmodes.text.models import load_model, load_tokenizer
from allmodes.text.sampling import chat_prompt, sample_responses
from allmodes.text.stand_ins.task_stand_in import check_task_stand_in, make_task_stand_in, task_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TASKS = [
    (OneTwo(), 20),
    (Causal(), 8),
    (Causal(3, 2, 1), 8),
    (Voxels(), 16),
    (Voxels(2, 2, 2), 12),
    (Boolean(), 12),
]


@pytest.mark.parametrize(("task", "longest"), TASKS)
def test_prompts_and_responses_are_few_tokens_and_any_text_is_read(
    task: Any, longest: int, tmp_path: Path
) -> None:
    """Also by the tokenizer as it is loaded again."""
    made = task_tokenizer(task, task.prompts)
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    loaded = load_tokenizer(str(tmp_path))
    responses = [
        task.write(prompt, answer) for prompt in task.prompts for answer in task.known_answers(prompt)
    ]
    for text in (
        *set(responses),
        *task.near_misses(task.prompts[0]),
        *task.prompts[:20],
        "½ of\n\n it: Ж",
        "",
    ):
        ids = made.encode(text, add_special_tokens=False)
        assert loaded.encode(text, add_special_tokens=False) == ids
        assert loaded.decode(ids, skip_special_tokens=True) == text
    assert max(len(made.encode(text, add_special_tokens=False)) for text in set(responses)) < longest
    asked = [made.encode(chat_prompt(made, prompt), add_special_tokens=False) for prompt in task.prompts]
    assert max(map(len, asked)) <= 32
    assert len(set(map(tuple, asked))) == len(asked)


def test_it_answers_each_prompt_the_first_answers_far_more_often(tmp_path: Path) -> None:
    """Trained to the end on a small domain; the shares of 0.65 and of odds of 1.25 are learnt to 0.15."""
    task = Boolean(("x", "y"), ("AND", "NOT"), 1)
    found = make_task_stand_in(task, tmp_path / "base", seed=1, steps=60)
    assert found.valid.mean == pytest.approx(0.65, abs=0.15)
    expected = []  # each prompt's first answer, if shares are 1.25 to 1
    for prompt in task.prompts:
        weights = [1.25**-place for place in range(len(task.known_answers(prompt)))]
        expected.append(weights[0] / sum(weights))
    assert found.answers["answer 1"].mean == pytest.approx(sum(expected) / len(expected), abs=0.15)
    # The model and its tokenizer as they are loaded again are those that were measured.
    model, tokenizer = load_model(str(tmp_path / "base")), load_tokenizer(str(tmp_path / "base"))
    count = found.samples // found.prompts
    responses = sample_responses(
        model, tokenizer, task.prompts, count=count, max_tokens=20, temperature=1.0, seed=1
    )
    again = base_statistics(task, task.prompts, responses)
    assert again is not None
    assert again.valid.mean == pytest.approx(found.valid.mean, abs=0.02)  # longer responses are no longer cut
    assert found.describe() in (tmp_path / "base" / "README.md").read_text(encoding="utf-8")


def test_it_learns_test_prompts_too_and_is_the_same_to_the_bit(tmp_path: Path) -> None:
    task = Boolean().divided(2, 1, 0)
    for name in ("one", "two"):
        found = make_task_stand_in(task, tmp_path / name, steps=2, least=0.0)
        assert found.prompts == 3
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tokens_are_in_the_order_of_the_prompts_and_not_of_a_hash() -> None:
    """Hashes of texts differ from one process to the next, and so would the model."""
    task = Causal().divided(40, 1, 0)
    lines = [line for prompt in task.prompts for line in prompt.splitlines(keepends=True) if " -> " in line]
    tokens = task_tokenizer(task, task.prompts).get_added_vocab()
    found = sorted((token for token in tokens if token in lines), key=tokens.__getitem__)
    assert found == [line for line in dict.fromkeys(lines) if lines.count(line) > 1]
    assert len(found) > 10


def test_what_it_cannot_learn_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"stand-in for hypospace-boolean should give at least 10% .*; got 0\.0"
    ):
        make_task_stand_in(Boolean(), tmp_path / "base", steps=1)
    assert not (tmp_path / "base").exists()
    with pytest.raises(ConfigError, match=r"`max_tokens`: expected at least \d+, .*; got 4"):
        check_task_stand_in(Boolean(), max_tokens=4)
    check_task_stand_in(Boolean(), max_tokens=12)


def test_a_task_without_examples_has_none(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n')
    task = Creative(tmp_path / "prompts.jsonl", reward_model=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"`task`: expected one that writes examples .*; got 'creative'"):
        check_task_stand_in(task, max_tokens=12)
