"""Log-probabilities of responses by enumeration, and the skew of an optimum by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")

from allmodes.errors import ConfigError, InputError
from allmodes.paper import mara_fig11, mara_table1, table1_inputs, text_runs
from allmodes.paper.reproduction import PAPER, Scale
from allmodes.text.likelihood import (
    ids_logprobs,
    sample_with_logprobs,
    sequence_logprobs,
    skew_of_samples,
)
from allmodes.text.stand_ins.tiny import tiny_language_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def model_and_tokenizer() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(["user assistant hello banana band"] * 9, vocabulary_size=280)
    return tiny_language_model(tokenizer, seed=1, width=16, spread=0.3).eval(), tokenizer


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
    )


@torch.no_grad()
def by_hand(model: Any, prompt: list[int], row: list[int]) -> float:
    """One token after the other, each with a forward pass of its own."""
    total = 0.0
    for place, token in enumerate(row):
        logits = model(input_ids=torch.tensor([prompt + row[:place]])).logits[0, -1].double()
        total += float(logits[token] - torch.logsumexp(logits, 0))
    return total


def test_log_probabilities_are_those_of_one_token_after_the_other(
    model_and_tokenizer: tuple[Any, Any],
) -> None:
    model, tokenizer = model_and_tokenizer
    prompt = prompt_ids(tokenizer, "hello")
    rows = [[5, 9, 2], [7], [20, 30, 40, 50, 2]]
    expected = [by_hand(model, prompt, row) for row in rows]
    for batch_size in (1, 2, 3):
        found = ids_logprobs(model, prompt, rows, batch_size=batch_size)
        assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_probabilities_sum_over_the_next_token(model_and_tokenizer: tuple[Any, Any]) -> None:
    model, tokenizer = model_and_tokenizer
    prompt = prompt_ids(tokenizer, "hello")
    every = range(model.config.vocab_size)
    first = ids_logprobs(model, prompt, [[token] for token in every], batch_size=512)
    assert float(torch.logsumexp(first, 0)) == pytest.approx(0, abs=1e-4)
    for token in (3, 77):
        rows = [[token, second] for second in every]
        second = ids_logprobs(model, prompt, rows, batch_size=512)
        assert float(torch.logsumexp(second, 0)) == pytest.approx(float(first[token]), abs=1e-4)


def test_a_text_ends_with_the_end_of_text(model_and_tokenizer: tuple[Any, Any]) -> None:
    model, tokenizer = model_and_tokenizer
    prompt = prompt_ids(tokenizer, "hello")
    texts = ["banana", "", "band hello"]
    rows = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    found = sequence_logprobs(model, tokenizer, "hello", texts, batch_size=2)
    assert found.tolist() == pytest.approx([by_hand(model, prompt, row) for row in rows], abs=1e-4)
    with pytest.raises(InputError, match="`responses`"):
        sequence_logprobs(model, tokenizer, "hello", [])


def test_samples_keep_the_tokens_that_were_drawn(
    model_and_tokenizer: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = model_and_tokenizer
    # As some chat models have it, a response may end with more than one token.
    ends = {tokenizer.eos_token_id, *range(200, 240)}
    monkeypatch.setattr(model.generation_config, "eos_token_id", sorted(ends))
    state = torch.random.get_rng_state()
    samples = sample_with_logprobs(model, tokenizer, "hello", count=150, max_tokens=5, seed=3, batch_size=64)
    assert torch.equal(state, torch.random.get_rng_state())
    prompt = prompt_ids(tokenizer, "hello")
    assert len(samples.texts) == len(samples.ids) == 150
    assert all(not ends & set(ids[:-1]) for ids in samples.ids)
    assert samples.is_finished.tolist() == [ids[-1] in ends for ids in samples.ids]
    assert 0 < int(samples.is_finished.sum()) < 150
    assert all(len(ids) == 5 for ids in samples.ids if ids[-1] not in ends)
    for place in range(0, 150, 13):
        expected = by_hand(model, prompt, samples.ids[place])
        assert float(samples.logprobs[place]) == pytest.approx(expected, abs=1e-4)
    # A text is not always read as it was written: the reason for keeping ids.
    again = [tokenizer.encode(text, add_special_tokens=False) for text in samples.texts]
    assert any(ids != other for ids, other in zip(samples.ids, again, strict=True))


def test_skew_by_hand() -> None:
    logprobs = torch.tensor([-3.0, -1.0, -9.0, -2.0, -4.0, -5.0], dtype=torch.float64)
    rewards = torch.tensor([1.0, 0.0, 1.0, 0.5, 0.9, 1.0], dtype=torch.float64)
    skew = skew_of_samples(logprobs, rewards, beta=0.1, quantile=0.5, top=3)
    # Sorted rewards 0 .5 .9 1 1 1: the median is .95, from which on are 0, 2 and 5.
    assert skew.threshold == pytest.approx(0.95)
    assert skew.good_logprobs.tolist() == [-3.0, -9.0, -5.0]
    assert skew.largest_gap == pytest.approx(6)
    # log π + 10 R: 7, −1, 1, 3, 5, 5; ties in order.
    assert skew.indices.tolist() == [0, 4, 5]
    assert skew.log_ratios.tolist() == pytest.approx([2, 0, 0])
    with pytest.raises(InputError, match="quantile"):
        skew_of_samples(logprobs, rewards, beta=0.1, quantile=1.5, top=3)


def test_the_papers_figures_follow_from_its_numbers() -> None:
    gap, ratio = mara_fig11._recomputed()
    assert (gap.holds, ratio.holds) == ("yes", "yes")
    assert "2344.9" in gap.measured
    # ((18.375 − 17.25)/.01 + 7.09 − 5.91)/ln 10 by hand; with the printed rewards ten times less.
    assert f"10^{(112.5 + 1.18) / math.log(10):.2f}" in ratio.measured
    assert f"10^{(110 + 1.18) / math.log(10):.2f}" in ratio.measured


def seen(**changes: Any) -> mara_fig11.Seen:
    fields: dict[str, Any] = {
        "counts": {"1": 80, "2": 20},
        "drawn": 300,
        "prompt": "p",
        "logprobs": torch.tensor([-1.0, -5.0, -2.0], dtype=torch.float64),
        "rewards": torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64),
        "responses": ["a", "b", "c"],
        "left_out": {},
    }
    return mara_fig11.Seen(**{**fields, **changes})


def judged(given: mara_fig11.Seen) -> list[str]:
    skew = skew_of_samples(given.logprobs, given.rewards, beta=0.01, quantile=0.5, top=3)
    return [entry.holds for entry in mara_fig11._measured(given, skew, stand_in=True)]


def test_verdicts_come_from_the_numbers() -> None:
    assert judged(seen()) == ["yes", "yes", "yes"]
    assert judged(seen(counts={"1": 52, "2": 48}))[0] == "no"
    assert judged(seen(counts={"1": 0, "2": 0}))[0] == "no"
    even = seen(logprobs=torch.full((3,), -1.0, dtype=torch.float64), rewards=torch.ones(3).double())
    assert judged(even) == ["yes", "no", "no"]


def test_the_papers_scale_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"fig11: expected .*Qwen/Qwen2.5-3B .*; got no accelerator"):
        mara_fig11.reproduce(PAPER, lambda _: None)
    assert (mara_fig11.PAPER.one_two_samples, mara_fig11.PAPER.samples) == (8192, 1024)


def test_the_papers_prompt_is_table_1s_first(
    model_and_tokenizer: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the hub, or of the file that Table 1 takes in its place."""
    chat = {"language": "English", "conversation": [{"role": "user", "content": "hello"}]}
    monkeypatch.setenv(mara_table1.WORK, str(tmp_path))
    monkeypatch.setattr(table1_inputs, "check_models", lambda *_, **__: None)
    monkeypatch.setattr(table1_inputs, "load_tokenizer", lambda _: model_and_tokenizer[1])
    monkeypatch.setattr(table1_inputs, "_from_hub", lambda *_, **__: [chat])
    assert mara_fig11._models(mara_fig11.PAPER, tmp_path, PAPER)[3] == "hello"
    (tmp_path / "training.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-8")
    assert mara_fig11._models(mara_fig11.PAPER, tmp_path, PAPER)[3] == "a"


def test_the_item_leaves_no_files_but_the_model_that_it_shares(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    shared = tmp_path_factory.mktemp("shared")
    monkeypatch.setenv(text_runs.WORK, str(shared))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = mara_fig11.reproduce(Scale(name="test", seeds=1, steps=0.004, grid_steps=1), lambda _: None)
    assert list(tmp_path.iterdir()) == []
    assert [path.parent.name for path in shared.rglob("model.safetensors")] == ["stand-in"]
    assert len(result.verdicts) == 5
    assert any("Stand-ins" in note for note in result.notes)
    assert result.numbers["top"][-1]["powers_of_ten"] == 0
