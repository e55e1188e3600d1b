"""The learner of molecules: what it remembers of a threshold."""

import json
from pathlib import Path

import pytest
import torch

from allmodes.chem.arms import parse_arm
from allmodes.chem.design.learner import Learner
from allmodes.chem.design.outcomes import OutcomeFrequencies
from allmodes.chem.policies.policy import pad_tokens
from allmodes.errors import AllmodesWarning
from molecule_settings import training_config


def test_a_quantile_is_remembered_when_every_molecule_is_good(tiny_prior: Path) -> None:
    config = training_config(tiny_prior, algorithm="mara", mara={"threshold": {"batch_quantile": 0.9}})
    learner = Learner(config, parse_arm("mara"), OutcomeFrequencies(config.outcomes))
    tokens = learner.agent.sample(8, max_length=24, generator=torch.Generator().manual_seed(0)).tokens
    smiles = ["C" * (1 + row) for row in range(8)]

    def augmented(learner: Learner, rewards: list[float]) -> float | None:
        return learner.update(tokens, torch.tensor(rewards), smiles, step=1)[0]["augmented"]

    with pytest.warns(AllmodesWarning, match="gives no threshold"):
        assert augmented(learner, [0.5] * 8) == 0  # better or worse than what?
    assert augmented(learner, [0.0] * 6 + [0.5] * 2) == 0.25
    assert augmented(learner, [0.5] * 8) == 1
    restored = Learner(config, parse_arm("mara"), OutcomeFrequencies(config.outcomes))
    restored.restore(learner.tensors(), json.loads(json.dumps(learner.state())))
    assert augmented(restored, [0.5] * 8) == 1
    older = Learner(config, parse_arm("mara"), OutcomeFrequencies(config.outcomes))
    older.restore(learner.tensors(), None)  # a checkpoint of an earlier version
    with pytest.warns(AllmodesWarning, match="gives no threshold"):
        assert augmented(older, [0.5] * 8) == 0


@pytest.mark.parametrize("algorithm", ["reinvent", "grpo"])
def test_an_update_on_what_the_sampler_kept_is_that_of_a_pass_of_its_own(
    algorithm: str, tiny_lstm_prior: Path
) -> None:
    config = training_config(tiny_lstm_prior, algorithm=algorithm)
    weights = []
    for is_kept in (True, False):
        learner = Learner(config, parse_arm(algorithm), OutcomeFrequencies(config.outcomes))
        samples = learner.sample(torch.Generator().manual_seed(0))
        assert samples.logprobs.requires_grad
        count = len(samples.tokens)
        tokens = torch.cat([samples.tokens, samples.tokens[:2]])  # the last two are replayed
        rewards = torch.linspace(0, 1, count + 2)
        rewards[1] = torch.nan
        drawn = samples.logprobs if is_kept else samples.logprobs.detach()
        figures, reference = learner.update(tokens, rewards, ["C"] * (count + 2), step=1, drawn=drawn)
        assert reference.isnan().tolist() == rewards.isnan().tolist()
        weights.append((figures["loss"], {k: v.clone() for k, v in learner.agent.state_dict().items()}))
    (one, of_one), (other, of_other) = weights
    assert one == pytest.approx(other, rel=1e-5)
    started = Learner(config, parse_arm(algorithm), OutcomeFrequencies(config.outcomes)).agent.state_dict()
    for name, value in of_one.items():
        assert float((value - started[name]).abs().max()) > 1e-5
        # Adam's first step is the sign of a gradient: entries whose gradient is about zero may differ.
        assert float(((value - of_other[name]).abs() > 1e-6).float().mean()) < 0.01


def test_the_prior_is_asked_once_about_a_replayed_molecule(
    tiny_lstm_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training_config(tiny_lstm_prior, algorithm="reinvent")
    learner = Learner(config, parse_arm("reinvent"), OutcomeFrequencies(config.outcomes))
    prior = learner._prior
    asked: list[int] = []
    exact = prior.logprobs

    def counted(tokens: torch.Tensor) -> torch.Tensor:
        asked.append(len(tokens))
        return exact(tokens)

    def update(learner: Learner, replayed: list[str]) -> torch.Tensor:
        samples = learner.sample(torch.Generator().manual_seed(0))
        drawn, count = samples.logprobs, len(samples.tokens)
        lines = [learner.tokenizer.encode(line) for line in replayed]
        tokens = pad_tokens([*(ids for ids in samples.tokens.tolist()), *lines])
        rewards = torch.ones(len(tokens))
        _, reference = learner.update(tokens, rewards, [*["C"] * count, *replayed], step=1, drawn=drawn)
        with torch.no_grad():
            torch.testing.assert_close(reference, exact(tokens), rtol=1e-6, atol=1e-6)
        return reference[count:]

    monkeypatch.setattr(prior, "logprobs", counted)
    batch = config.batch_size
    first = update(learner, ["CCN", "CO"])
    assert torch.equal(update(learner, ["CO", "OCC", "CCN"])[[2, 0]], first)
    assert asked == [batch + 2, batch + 1]

    resumed = Learner(config, parse_arm("reinvent"), OutcomeFrequencies(config.outcomes))
    resumed.restore(learner.tensors(), json.loads(json.dumps(learner.state())))
    assert torch.equal(update(resumed, ["CCN", "CO"]), first)
    assert list(resumed.state()["replayed"]) == ["OCC", "CCN", "CO"]
