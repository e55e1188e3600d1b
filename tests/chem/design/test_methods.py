"""Every method of METHODS under both losses, on a tiny oracle."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from allmodes.chem.arms import LOSSES, Arm, Loss
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.learner import Learner
from allmodes.chem.design.outcomes import OutcomeFrequencies
from allmodes.errors import ConfigError
from allmodes.methods import METHODS
from molecule_settings import training_config

# Chains of the tiny prior: acyclic, so each molecule is its own scaffold; the last is replayed.
SMILES = ["CC", "CO", "CC", "CCO", "CN", None, "CCN", "CCC"]
REWARDS = [0.9, 0.8, 0.9, 0.3, 0.0, 0.0, math.nan, 1.0]
DRAWN = 7


def config_of(prior: Path, arm: Arm, **changes: Any) -> MoleculesConfig:
    return training_config(prior, **{"loss": arm.loss, "method": arm.method, "batch_size": 8, **changes})


def learner_of(config: MoleculesConfig) -> tuple[Learner, OutcomeFrequencies]:
    outcomes = OutcomeFrequencies(config.outcomes)
    return Learner(config, config.arms[0], outcomes), outcomes


def step(learner: Learner, outcomes: OutcomeFrequencies, number: int) -> dict[str, float | None]:
    """One update on the molecules above; other rewards in each step."""
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(learner.tokenizer.encode(line or "C")) for line in SMILES], batch_first=True
    )
    rewards = torch.tensor(REWARDS) * (0.99**number)
    if learner.counts_outcomes:
        outcomes.observe(SMILES[:DRAWN])
    drawn = torch.full((DRAWN,), -5.0)
    return learner.update(tokens, rewards, SMILES, step=number, drawn=drawn)[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_method_trains_and_resumes_bit_for_bit(loss: Loss, name: str, tiny_prior: Path) -> None:
    arm = Arm(loss, name)
    if loss == "reinvent" and name == "alpha_dpg":
        with pytest.raises(ConfigError, match="alpha_dpg-reinvent: its rewards contain the KL"):
            config_of(tiny_prior, arm)
        return
    config = config_of(tiny_prior, arm)
    learner, outcomes = learner_of(config)
    before = {key: value.clone() for key, value in learner.agent.state_dict().items()}
    figures = [step(learner, outcomes, number) for number in range(2)]
    assert all(math.isfinite(one["loss"] or 0.0) for one in figures)
    assert any(not torch.equal(before[key], value) for key, value in learner.agent.state_dict().items())
    resumed, counted = learner_of(config)
    resumed.restore(
        {key: value.clone() for key, value in learner.tensors().items()},
        json.loads(json.dumps(learner.state())),
    )
    counted.restore(json.loads(json.dumps(outcomes.state())))
    assert step(learner, outcomes, 2) == step(resumed, counted, 2)
    again = resumed.agent.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in learner.agent.state_dict().items())
    assert learner.state() == resumed.state()


def test_replayed_molecules_are_neither_counted_nor_paid(tiny_prior: Path) -> None:
    """The state of a method that counts outcomes knows those that were drawn, and no other."""
    config = config_of(tiny_prior, Arm("grpo", "outcome_matching"))
    learner, outcomes = learner_of(config)
    step(learner, outcomes, 0)
    before = learner.state()["method"]
    assert len(before["counts"]["values"]) == len({"CC", "CO", "CCO", "CN"})  # CCC, the best, was replayed
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(learner.tokenizer.encode(line)) for line in ("CCC", "CC")], batch_first=True
    )
    learner.update(tokens, torch.tensor([1.0, 0.9]), ["CCC", "CC"], step=2)
    assert learner.state()["method"] == before
