"""Policies as model hubs take them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from allmodes.chem.policies.policy import load_policy
from allmodes.chem.policies.prior import prior_path
from allmodes.chem.policies.smiles_logprobs import smiles_logprobs
from allmodes.errors import ConfigError, InputError, RunError

pytest.importorskip("huggingface_hub")
from allmodes.chem.policies.smiles_model import SmilesModel

SMILES = ["CCO", "CNSO", "C", "Xx"]


def test_a_saved_model_is_read_back_and_is_a_prior(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    file = tmp_path / "one" / "agent.safetensors"
    file.write_bytes(tiny_prior.read_bytes())
    (tmp_path / "one" / "model_card.md").write_text("Trained on {{ nothing }}.\n")
    model = SmilesModel.load(file)
    model.save_pretrained(tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "Trained on {{ nothing }}." in card
    assert "library_name: allmodes" in card
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["architecture"] == model.policy.architecture()

    again = SmilesModel.from_pretrained(tmp_path / "folder")
    assert again.sample(5, seed=3) == model.sample(5, seed=3)
    assert torch.equal(again.logprobs(SMILES[:3]), model.logprobs(SMILES[:3]))
    policy, tokenizer = load_policy(prior_path(tmp_path / "folder"))
    assert tokenizer.tokens == model.tokenizer.tokens
    assert torch.equal(policy.head.weight, model.policy.head.weight)


def test_logprobs_are_those_of_whole_smiles(tiny_prior: Path) -> None:
    model = SmilesModel.load(tiny_prior)
    found = model.logprobs(SMILES)
    expected = smiles_logprobs(model.policy, model.tokenizer, SMILES[:3], is_whole=[True] * 3)
    assert found[:3].tolist() == [pytest.approx(one[0]) for one in expected if one is not None]
    assert found.isnan().tolist() == [False, False, False, True]


def test_what_is_no_model_is_one_line(tmp_path: Path, tiny_prior: Path) -> None:
    with pytest.raises(ConfigError, match=r"`path`: expected a policy file, 'lstm' or 'mamba'; got .*none"):
        SmilesModel.load(tmp_path / "none")
    folder = tmp_path / "pickled"  # other libraries would unpickle it
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match=r"got .*pickled/model.safetensors, which does not exist"):
        SmilesModel.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises((RunError, InputError), match=r"model\.safetensors"):
        SmilesModel.from_pretrained(folder)


def test_a_push_uploads_the_weights_the_configuration_and_the_card(
    tiny_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: dict[str, bytes] = {}

    class Hub:
        def __init__(self, **_: Any) -> None:
            pass

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repository", (), {"repo_id": repo_id})()

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> str:
            assert repo_id == "me/agent"
            uploaded.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return "address"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    assert SmilesModel.load(tiny_prior).push_to_hub("me/agent") == "address"
    assert set(uploaded) == {"README.md", "config.json", "model.safetensors"}
    assert b'SmilesModel.from_pretrained("me/agent")' in uploaded["README.md"]
