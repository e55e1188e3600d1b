"""A warm start: its examples, the shares that it reaches, its folder, and what trains on it."""

import io
import json
import math
import random
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
pytest.importorskip("matplotlib")

from rich.console import Console

from allmodes.errors import ConfigError, RunError
from allmodes.tasks import OneTwo, WritesExamples
from allmodes.text.base_statistics import load_base_model
from allmodes.text.config import TextConfig, WarmStart
from allmodes.text.experiment import new_training, resume_training
from allmodes.text.likelihood import ids_logprobs
from allmodes.text.models import load_model, load_tokenizer
from allmodes.text.reporting.summary import print_training
from allmodes.text.sampling import chat_prompt
from allmodes.text.stand_ins.task_stand_in import check_task_stand_in
from allmodes.text.warm_start import Examples, check_warm_start, measure_base, warm_started
from tiny_lm import TEMPLATE, WORDS, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Make = Callable[..., Any]


class Letters:
    """A prompt's letters are its answers; the format is a "j" before the letter."""

    name = "letters"
    prompts = ("a b", "c d", "e f")

    def parse(self, response: str) -> str | None:
        parts = response.split()
        return parts[1] if len(parts) == 2 and parts[0] == "j" else None

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        pairs = zip(prompts, responses, strict=True)
        return [float(self.parse(response) in prompt.split()) for prompt, response in pairs]

    def known_answers(self, prompt: str) -> tuple[str, ...]:
        return tuple(prompt.split())

    def write(self, prompt: str, answer: str) -> str:
        return f"j {answer}"

    def near_misses(self, prompt: str) -> list[str]:
        return ["j j", prompt[0]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of one token a word; GLM, since transformers 5 gives Qwen2's models Qwen2's tokenizer."""
    from transformers import GlmConfig, GlmForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    settings = GlmConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=128, bos_token_id=None, eos_token_id=1,
        pad_token_id=0, initializer_range=0.1, tie_word_embeddings=True,
    )  # fmt: skip
    GlmForCausalLM(settings).save_pretrained(folder)
    make_tokenizer(template=TEMPLATE).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config(make_text_config: Make, base: str) -> TextConfig:
    return make_text_config(model=base, max_tokens=4)


def make(config: TextConfig, out: Path, task: Any = None, **settings: Any) -> Any:
    task = Letters() if task is None else task
    warm = WarmStart(**{"steps": 4, "batch_size": 4, "learning_rate": 1e-2, **settings})
    seen: list[int] = []
    prompts = list(task.prompts)
    found = warm_started(
        config, warm, task, prompts, measured=prompts, model=config.model, out=out, on_step=seen.append
    )
    return found, seen


def test_examples_have_the_stated_shares(base: str) -> None:
    """20,000 draws: each share is off by five standard errors once in a million."""
    tokenizer, task = load_tokenizer(base), Letters()
    examples = Examples(task, task.prompts, tokenizer, template={})
    draws = random.Random(0)
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(20_000):
        prompt, response = examples.draw(draws, valid=0.6, skew=3)
        assert response[-1] == tokenizer.eos_token_id
        asked = tokenizer.decode(prompt)
        text = tokenizer.decode(response, skip_special_tokens=True)
        place = next(place for place, one in enumerate(task.prompts) if one in asked)
        assert (
            tokenizer.encode(chat_prompt(tokenizer, task.prompts[place]), add_special_tokens=False) == prompt
        )
        seen[task.prompts[place], text] += 1
    for prompt in task.prompts:
        first, second = prompt.split()
        for text, share in (
            (f"j {first}", 0.6 * 0.75), (f"j {second}", 0.6 * 0.25), ("j j", 0.2), (first, 0.2)
        ):  # fmt: skip
            p = share / 3
            assert seen[prompt, text] / 20_000 == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 20_000))


def test_the_model_reaches_the_stated_shares(config: TextConfig, tmp_path: Path) -> None:
    """Before: nearly nothing is valid. After: 0.6, of which 0.75 and 0.25; learnt and measured to 0.1."""
    (model, before), steps = make(
        config, tmp_path / "warm", steps=120, batch_size=32, valid=0.6, skew=3.0, learning_rate=2e-2
    )
    assert steps == list(range(1, 121))
    assert before.valid.mean is not None
    assert before.valid.mean < 0.05
    assert before.samples == 255  # as many of 256 to each of three prompts
    task = Letters()
    after = measure_base(
        config, task, load_model(model), load_tokenizer(model), list(task.prompts), samples=900
    )
    assert after.valid.mean == pytest.approx(0.6, abs=0.1)
    assert after.answers["answer 1"].mean == pytest.approx(0.75, abs=0.1)
    assert after.answers["answer 2"].mean == pytest.approx(0.25, abs=0.1)
    record = json.loads((tmp_path / "warm" / "warm-start.json").read_text())
    assert len(record["losses"]) == record["steps"] == 120
    # −log of what is to be learnt: the loss cannot fall below the entropy of the examples.
    assert record["losses"][-1] < 0.5 * record["losses"][0]


def test_the_first_loss_is_that_of_the_examples_under_the_base_model(
    config: TextConfig, base: str, tmp_path: Path
) -> None:
    """Of the tokens of the responses with their ends alone, by the route that scores responses."""
    make(config, tmp_path / "warm", steps=1, seed=5)
    model, tokenizer, task = load_model(base), load_tokenizer(base), Letters()
    examples, draws = Examples(task, task.prompts, tokenizer, template={}), random.Random(5)
    batch = [examples.draw(draws, valid=0.5, skew=4) for _ in range(4)]
    total = sum(float(ids_logprobs(model, prompt, [row], batch_size=1)) for prompt, row in batch)
    record = json.loads((tmp_path / "warm" / "warm-start.json").read_text())
    assert record["losses"] == [pytest.approx(-total / sum(len(row) for _, row in batch), abs=1e-5)]


def test_it_is_the_same_to_the_bit_and_made_once(config: TextConfig, tmp_path: Path) -> None:
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    make(config, first)
    make(config, second)
    make(config, other, seed=1)
    names = sorted(path.name for path in first.iterdir())
    assert {"model.safetensors", "tokenizer.json", "config.json", "warm-start.json"} <= set(names)
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    weights = (first / "model.safetensors").read_bytes()
    assert weights != (other / "model.safetensors").read_bytes()
    assert make(config, first) == (((str(first), make(config, second)[0][1])), [])  # no step again
    assert (first / "model.safetensors").read_bytes() == weights


def test_a_killed_one_starts_over_and_a_damaged_one_is_refused(config: TextConfig, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    make(config, whole)
    shutil.copytree(whole, killed)
    (killed / "warm-start.json").unlink()
    (killed / "model.safetensors").write_bytes(b"half")
    assert make(config, killed)[1] == [1, 2, 3, 4]
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    (killed / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        make(config, killed)


def test_it_stops_at_its_target_or_says_what_it_reached(config: TextConfig, tmp_path: Path) -> None:
    settings = {"batch_size": 32, "learning_rate": 2e-2, "valid": 0.9}
    _, steps = make(config, tmp_path / "reached", steps=120, target=0.3, **settings)
    assert 0 < len(steps) < 120
    assert len(steps) % 8 == 0
    with pytest.raises(
        ConfigError,
        match=r"^`warm_start.target`: expected a share of 0\.9 of valid responses within 4 steps; got "
        r"0\.\d{3} ± 0\.\d{3}: raise `warm_start.steps`",
    ):
        make(config, tmp_path / "missed", steps=4, target=0.9)
    assert not (tmp_path / "missed" / "warm-start.json").exists()
    # A model that has the share already takes no step.
    again = config.model_copy(update={"model": str(tmp_path / "reached")})
    assert make(again, tmp_path / "again", target=0.2)[1] == []


class NoExamples:
    name = "no_examples"
    prompts = ("a b",)

    def known_answers(self, prompt: str) -> tuple[str, ...]:
        return ("a",)


class Unread(Letters):
    def write(self, prompt: str, answer: str) -> str:
        return answer


class NoMisses(Letters):
    def near_misses(self, prompt: str) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (NoExamples(), {}, r"`task`: expected one that writes examples .*; got 'no_examples'"),
        (Unread(), {}, r"expected an example of 'letters' that gives 'a'; got 'a', which gives None"),
        (NoMisses(), {}, r"at least one near miss of 'letters' for each prompt; got none for 'a b'"),
        (Letters(), {"max_tokens": 2}, r"`max_tokens`: expected at least 3, .*; got 2"),
        (
            Letters(),
            {"max_tokens": 60},
            r"of at most 64 tokens, .*; got \d+ of the longest prompt and .* = 60",
        ),
    ],
)
def test_what_cannot_be_learnt_is_one_line(
    task: Any, changes: dict[str, Any], message: str, config: TextConfig, base: str
) -> None:
    model = load_model(base)
    model.config.max_position_embeddings = 64
    with pytest.raises(ConfigError, match=message) as caught:
        check_warm_start(
            config.model_copy(update=changes), task, list(task.prompts), model, load_tokenizer(base)
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"kind": "creative", "prompts": "p", "reward_model": "m"}}, r"no `warm_start` with task"),
        ({"warm_start": {"skew": 0.5}}, r"(?s)skew.* greater than or equal to 1"),
        ({"warm_start": {"steps": 0}}, r"(?s)steps.* greater than 0"),
        ({"warm_start": {"target": 1.5}}, r"(?s)target.* less than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    changes: dict[str, Any], message: str, make_text_config: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        make_text_config(**{"warm_start": {}, **changes})


def test_all_runs_start_from_the_warm_started_model_and_are_held_to_it(
    make_text_config: Make, one_two_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """log π_ref, and log π before the first update, are those of the warm-started model."""
    monkeypatch.setattr("allmodes.reports.progress.console", Console(quiet=True))
    warm = {"steps": 6, "batch_size": 16, "learning_rate": 4e-3, "valid": 1.0, "skew": 3.0}
    config = make_text_config(method=["vanilla", "mara"], steps=2, warm_start=warm, samples=60)
    run = tmp_path / "run"
    page = new_training(config, run).read_text(encoding="utf-8")
    started, untouched = load_model(str(run / "warm-start")), load_model(str(one_two_model))
    tokenizer = load_tokenizer(str(one_two_model))
    start = tokenizer.encode(chat_prompt(tokenizer, OneTwo.prompts[0]), add_special_tokens=False)
    checked = 0
    for method in ("vanilla", "mara"):
        lines = (run / f"rloo-reverse-{method}-0.1-0" / "samples.jsonl").read_text().splitlines()
        for row in map(json.loads, lines):
            ids = tokenizer.encode(row["response"], add_special_tokens=False)
            ids += [] if row["truncated"] else [tokenizer.eos_token_id]
            if len(ids) != row["num_tokens"]:  # written with other tokens than it is read with
                continue
            expected = float(ids_logprobs(started, start, [ids], batch_size=1))
            assert row["ref_logprob"] == pytest.approx(expected, abs=1e-4)
            if row["step"] == 0:
                assert row["policy_logprob"] == pytest.approx(expected, abs=1e-4)
            assert abs(expected - float(ids_logprobs(untouched, start, [ids], batch_size=1))) > 1e-2
            checked += 1
    assert checked >= 8
    # The shares before and after: in a file, on the page, on the terminal.
    model = load_base_model(run / "base")
    assert model is not None
    assert model.before is not None
    assert model.base.valid.mean is not None
    assert (model.base.samples, model.before.samples) == (60, 256)
    assert model.base.valid.mean > (model.before.valid.mean or 0)
    printed = io.StringIO()
    print_training(run, Console(file=printed, width=200))
    for found, sign in ((model.before, "Before the warm start: "), (model.base, "Base model: ")):
        assert str(found.valid) in page
        assert str(found.answers["1"]) in page
        assert f"{sign}{found.describe()}." in printed.getvalue().replace("\n", " ")
    assert "warm-started: the base of all runs" in page
    assert "odds of 3 of each known answer against the next" in page
    # Going on with a run takes the same model.
    weights = (run / "warm-start" / "model.safetensors").stat()
    resume_training(run)
    assert (run / "warm-start" / "model.safetensors").stat() == weights


def test_a_stand_in_learns_its_own_task_and_can_be_warm_started(
    make_text_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All prompts are learnt; runs train on some, and the base model is measured on the others."""
    monkeypatch.setattr("allmodes.reports.progress.console", Console(quiet=True))
    monkeypatch.setattr("allmodes.text.stand_ins.task_stand_in._STEPS", 40)
    task = {"kind": "hypospace", "domain": "boolean", "train": 3, "test": 2}
    warm = {"steps": 2, "batch_size": 4}
    config = make_text_config(task=task, model="stand-in", warm_start=warm, steps=1, max_tokens=12)
    new_training(config, tmp_path / "run")
    model = load_base_model(tmp_path / "run" / "base")
    assert model is not None
    assert model.before is not None
    assert (model.before.prompts, model.base.prompts) == (2, 2)
    assert min(model.before.valid.mean or 0, model.base.valid.mean or 0) > 0.2
    assert "hypospace-boolean" in (tmp_path / "run" / "base" / "README.md").read_text()
    built = (tmp_path / "run" / "base" / "model.safetensors").stat()
    resume_training(tmp_path / "run")
    assert (tmp_path / "run" / "base" / "model.safetensors").stat() == built


def test_the_guides_task_writes_examples_and_its_settings_are_the_defaults() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "warm-start.md").read_text(encoding="utf-8")
    (recipe,), (code,) = (
        re.findall(rf"```{kind}\n(.*?)```", guide, re.DOTALL) for kind in ("toml", "python")
    )
    assert WarmStart(**tomllib.loads(recipe)["warm_start"]) == WarmStart()
    names: dict[str, Any] = {}
    exec(code, names)
    task = names["Colours"]()
    assert isinstance(task, WritesExamples)
    for prompt in task.prompts:
        for answer in task.known_answers(prompt):
            response = task.write(prompt, answer)
            assert task.parse(response) == answer
            assert task.rewards([prompt], [response]) == [1]
        misses = task.near_misses(prompt)
        assert task.rewards([prompt] * len(misses), misses) == [0] * len(misses)
    check_task_stand_in(task, max_tokens=8)
