"""The prior that is shipped: its size, and that its model card tells the truth."""

import re

import pytest

from allmodes.chem.policy import load_policy, pad_tokens
from allmodes.chem.pretrain import sample_quality
from allmodes.chem.prior import shipped_prior


def card_figure(name: str) -> float:
    card = shipped_prior().with_suffix(".md").read_text(encoding="utf-8")
    match = re.search(rf"\| {name} \| ([\d.]+)", card)
    assert match is not None
    return float(match[1])


def test_size_and_parameters() -> None:
    assert shipped_prior().stat().st_size <= 12_000_000
    policy, tokenizer = load_policy(shipped_prior())
    assert sum(parameter.numel() for parameter in policy.parameters()) == card_figure("parameters")
    assert len(tokenizer) == card_figure("vocabulary")


def test_samples_are_as_valid_as_the_card_says() -> None:
    """False alarm below 1e-4: .95 of 400 samples has a standard error of .011, and 4 are allowed."""
    policy, tokenizer = load_policy(shipped_prior())
    quality = sample_quality(policy, tokenizer, known=set(), count=400, max_length=128, seed=7)
    assert quality["validity"] == pytest.approx(card_figure("validity") / 100, abs=0.045)
    assert quality["uniqueness"] > 0.99


def test_known_medicines_are_likelier_than_their_reversed_spelling(molecules: list[str]) -> None:
    policy, tokenizer = load_policy(shipped_prior())
    plain = [
        text for text in molecules if all(token in tokenizer.tokens for token in text) and len(text) > 12
    ]
    assert len(plain) >= 10
    forward = policy.logprobs(pad_tokens([tokenizer.encode(text) for text in plain]))
    backward = policy.logprobs(pad_tokens([tokenizer.encode(text[::-1]) for text in plain]))
    assert (forward > backward).double().mean() > 0.9
