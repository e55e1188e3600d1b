"""The priors that are shipped: how they are found, their size, and that their model cards tell the truth."""

import re
from pathlib import Path
from typing import get_args

import pytest

from allmodes.chem.policies import prior as prior_module
from allmodes.chem.policies.policy import load_policy, pad_tokens
from allmodes.chem.policies.pretrain import sample_quality
from allmodes.chem.policies.prior import ShippedPrior, prior_path, shipped_prior
from allmodes.errors import ConfigError

CELLS: tuple[ShippedPrior, ...] = get_args(ShippedPrior)


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> ShippedPrior:
    """A cell whose prior is there and whose packages are."""
    if request.param == "mamba":
        pytest.importorskip("transformers")
    if not shipped_prior(request.param).exists():
        pytest.skip(f"no {request.param} is shipped")
    return request.param


def card_figure(cell: ShippedPrior, name: str) -> float:
    card = shipped_prior(cell).with_suffix(".md").read_text(encoding="utf-8")
    match = re.search(rf"\| {name} \| ([\d.]+)", card)
    assert match is not None
    return float(match[1])


def test_none_is_the_lstm_and_a_path_is_itself(tmp_path: Path) -> None:
    assert prior_path(None) == shipped_prior("lstm") == shipped_prior()
    path = tmp_path / "own.safetensors"
    path.touch()
    assert prior_path(path) == path


def test_names_of_shipped_priors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that name in the current folder comes first, a folder does not count."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipped").mkdir()
    for name in CELLS:
        (tmp_path / "shipped" / name).touch()
    monkeypatch.setattr(prior_module, "shipped_prior", lambda cell="lstm": tmp_path / "shipped" / cell)
    for name in CELLS:
        assert prior_path(Path(name)) == tmp_path / "shipped" / name
    (tmp_path / "mamba").mkdir()
    assert prior_path(Path("mamba")) == tmp_path / "shipped" / "mamba"
    (tmp_path / "lstm").touch()
    assert prior_path(Path("lstm")) == Path("lstm")


@pytest.mark.parametrize("name", ["missing.safetensors", "gru", "folder/mamba"])
def test_a_missing_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        prior_path(Path(name))
    assert str(caught.value) == (
        f"`prior`: expected a policy file, 'lstm' or 'mamba'; got {name}, which does not exist"
    )


def test_a_shipped_prior_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prior_module, "shipped_prior", lambda cell="lstm": tmp_path / "no" / cell)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "no" / "mamba"))):
        prior_path(Path("mamba"))


def test_size_and_parameters(cell: ShippedPrior) -> None:
    assert shipped_prior(cell).stat().st_size <= 12_000_000
    policy, tokenizer = load_policy(shipped_prior(cell))
    assert policy.cell == cell
    assert sum(parameter.numel() for parameter in policy.parameters()) == card_figure(cell, "parameters")
    assert len(tokenizer) == card_figure(cell, "vocabulary")


def test_samples_are_as_valid_as_the_card_says(cell: ShippedPrior) -> None:
    """False alarm below 1e-4: .95 of 400 samples has a standard error of .011, and 4 are allowed."""
    policy, tokenizer = load_policy(shipped_prior(cell))
    quality = sample_quality(policy, tokenizer, known=set(), count=400, max_length=128, seed=7)
    assert quality["validity"] == pytest.approx(card_figure(cell, "validity") / 100, abs=0.045)
    assert quality["uniqueness"] > 0.99


def test_known_medicines_are_likelier_than_their_reversed_spelling(
    cell: ShippedPrior, molecules: list[str]
) -> None:
    policy, tokenizer = load_policy(shipped_prior(cell))
    plain = [
        text for text in molecules if all(token in tokenizer.tokens for token in text) and len(text) > 12
    ]
    assert len(plain) >= 10
    forward = policy.logprobs(pad_tokens([tokenizer.encode(text) for text in plain]))
    backward = policy.logprobs(pad_tokens([tokenizer.encode(text[::-1]) for text in plain]))
    assert (forward > backward).double().mean() > 0.9
