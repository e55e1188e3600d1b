"""Log-probabilities of SMILES under policies by file and by name, against each string alone."""

from pathlib import Path

import pytest
import torch

from allmodes.chem.policies import smiles_logprobs as module
from allmodes.chem.policies.policy import Policy, load_policy
from allmodes.chem.policies.prior import shipped_prior
from allmodes.chem.policies.smiles_logprobs import named_policy, smiles_logprobs
from allmodes.chem.policies.tokenizer import SmilesTokenizer
from allmodes.errors import ConfigError


@torch.no_grad()
def alone(policy: Policy, ids: list[int]) -> float:
    """Token by token, each after all before it, in a forward pass of its own."""
    total = 0.0
    for end in range(1, len(ids) + 1):
        total += float(policy.token_logprobs(torch.tensor([ids[:end]]))[0, -1])
    return total


@pytest.mark.parametrize("fixture", ["tiny_prior", "tiny_lstm_prior"])
@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_strings_of_all_lengths(
    fixture: str, batch: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", batch)
    policy, tokenizer = load_policy(request.getfixturevalue(fixture))
    smiles = ["CCO", "", "C" * 70, "NO", "CCO", "S", "OCCN" * 5]
    found = smiles_logprobs(policy, tokenizer, smiles, is_whole=[True] * len(smiles))
    for text, one in zip(smiles, found, strict=True):
        ids = tokenizer.encode(text)
        assert one is not None
        assert one[0] == pytest.approx(alone(policy, ids), abs=1e-4)
        assert one[1] == len(ids) == len(text) + 1
    assert found[0] is not None
    assert found[4] is not None
    assert found[0][0] == pytest.approx(found[4][0], abs=1e-5)
    assert not any(p.grad is not None for p in policy.parameters())


def test_unknown_tokens_and_beginnings(tiny_prior: Path) -> None:
    policy, tokenizer = load_policy(tiny_prior)
    smiles = ["CO", "CO", "C[nH]", "not a molecule", "", "CBr"]
    found = smiles_logprobs(policy, tokenizer, smiles, is_whole=[True, False, True, True, False, False])
    assert [one is None for one in found] == [False, False, True, True, True, True]
    whole, cut = found[0], found[1]
    assert whole is not None
    assert cut is not None
    assert (whole[1], cut[1]) == (3, 2)
    ids = tokenizer.encode("CO")
    assert cut[0] == pytest.approx(alone(policy, ids[:-1]), abs=1e-5)
    assert whole[0] < cut[0]
    assert smiles_logprobs(policy, tokenizer, [], is_whole=[]) == []


def test_probabilities_of_all_short_strings_and_beginnings_sum_to_one(tiny_prior: Path) -> None:
    policy, tokenizer = load_policy(tiny_prior)
    letters = "CNOS"
    whole = ["", *letters]
    begun = [a + b for a in letters for b in letters]
    found = smiles_logprobs(
        policy, tokenizer, [*whole, *begun], is_whole=[True] * len(whole) + [False] * len(begun)
    )
    values = torch.tensor([one[0] for one in found if one is not None], dtype=torch.float64)
    assert len(values) == 21
    assert float(values.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, cell in (("lstm", "lstm"), ("zinc250k-lstm", "lstm"), ("mamba", "mamba")):
        assert named_policy(name) == shipped_prior("mamba" if cell == "mamba" else "lstm")
    assert named_policy("zinc250k-mamba") == shipped_prior("mamba")
    (tmp_path / "own.safetensors").touch()
    (tmp_path / "folder.safetensors").mkdir()
    assert named_policy("own.safetensors") == Path("own.safetensors")
    for other in ("folder.safetensors", "Qwen/Qwen3-0.6B", "gru", str(tmp_path)):
        assert named_policy(other) is None
    with pytest.raises(
        ConfigError, match=r"^`model`: expected a policy file; got no\.safetensors, which does not exist$"
    ):
        named_policy("no.safetensors")


def test_the_shipped_prior_knows_molecules(molecules: list[str]) -> None:
    path = named_policy("lstm")
    assert path is not None
    if not path.exists():
        pytest.skip("no LSTM is shipped")
    policy, tokenizer = load_policy(path)
    assert isinstance(tokenizer, SmilesTokenizer)
    found = smiles_logprobs(policy, tokenizer, molecules, is_whole=[True] * len(molecules))
    known = [(text, one) for text, one in zip(molecules, found, strict=True) if one is not None]
    assert len(known) > len(molecules) / 2
    for text, (logprob, _) in known[::10]:
        assert logprob == pytest.approx(alone(policy, tokenizer.encode(text)), abs=1e-3)
