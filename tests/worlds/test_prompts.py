"""A world of prompts, against sums by hand."""

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import IPS, OutcomeMatching, Plain
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.prompts import Prompts
from allmodes.worlds.sweep import Setting, train
from allmodes.worlds.training import training_of

REFERENCE = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], dtype=torch.float64).log()
OUTCOMES = torch.tensor([[0, 0, -1], [1, -1, 0]])
REWARDS = (OUTCOMES >= 0).double()


def small(**changes: object) -> Prompts:
    settings: dict[str, object] = {"samples_per_prompt": 4, "prompts_per_step": 2, **changes}
    return Prompts(REFERENCE, REWARDS, OUTCOMES, **settings)  # pyright: ignore[reportArgumentType]


def test_outcomes_add_up_their_strings() -> None:
    world = small()
    expected = torch.tensor([[0.8, 0.0, 0.2], [0.3, 0.1, 0.6]], dtype=torch.float64)
    torch.testing.assert_close(world.ref_outcome_logprobs.exp(), expected)
    logits = world.initial_logits(3).double()
    torch.testing.assert_close(world.outcome_logprobs(logits).exp(), expected.expand(3, 2, 3))
    assert world.rewards.tolist() == [[1, -torch.inf, 0], [1, 1, 0]]


def test_features_share_their_parameters() -> None:
    features = torch.zeros(2, 3, 2)
    features[0, 1, 0], features[1, 2, 0], features[1, 0, 1] = 1.0, 2.0, 1.0
    world = small(features=features)
    theta = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    moved = torch.tensor([[0.0, 0.5, 0.0], [-1.0, 0.0, 1.0]], dtype=torch.float64)
    expected = torch.log_softmax(REFERENCE + moved, -1)
    torch.testing.assert_close(world.string_logprobs(theta)[0], expected)


@pytest.mark.parametrize("has_features", [False, True])
def test_a_rollout_is_of_the_policy_and_tells_the_truth(*, has_features: bool) -> None:
    features = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1)) if has_features else None
    world = small(samples_per_prompt=20_000, prompts_per_step=1, features=features)
    generator = torch.Generator().manual_seed(0)
    logits = world.initial_logits(2) + 0.3
    seen = set[int]()
    for _ in range(4):
        rollout = world.rollout(logits, batch_size=20_000, generator=generator)
        assert rollout.prompts is not None
        prompt = int(rollout.prompts[0, 0])
        seen.add(prompt)
        assert bool((rollout.prompts == prompt).all())
        exact = world.outcome_logprobs(logits.double())[0, prompt].exp()
        shares = torch.tensor([float((rollout.outcomes[0] == o).double().mean()) for o in (0, 1, -1)])
        # Four standard deviations of 20,000 draws are at most 0.015; eight looks at three shares.
        torch.testing.assert_close(shares.double(), exact.double(), atol=0.015, rtol=0)
        assert torch.equal(rollout.rewards, (rollout.outcomes >= 0).float())
        reached = {round(float(value), 4) for value in rollout.logprobs[0].detach().unique()}
        strings = {round(float(value), 4) for value in world.string_logprobs(logits)[0, prompt].detach()}
        assert reached <= strings
    assert seen == {0, 1}


def test_verdicts_are_flipped_as_often_as_asked() -> None:
    world = small(samples_per_prompt=20_000, prompts_per_step=2, flipped=0.2)
    rollout = world.rollout(
        world.initial_logits(1), batch_size=40_000, generator=torch.Generator().manual_seed(0)
    )
    wrong = (rollout.rewards != (rollout.outcomes >= 0)).double().mean()
    assert float(wrong) == pytest.approx(0.2, abs=0.01)  # five standard deviations


def by_hand(logits: Tensor, world: Prompts) -> list[float]:
    found = []
    for prompt in range(2):
        p, q = logits[prompt].log_softmax(-1).exp(), REFERENCE[prompt].exp()
        total = mass = 0.0
        for outcome in (0, 1):
            own = OUTCOMES[prompt] == outcome
            if bool(own.any()):
                inside, before = p[own] / p[own].sum(), q[own] / q[own].sum()
                total += float(p[own].sum() * (inside * (inside / before).log()).sum())
                mass += float(p[own].sum())
        found.append(total / mass)
    return found


def test_the_kl_within_outcomes_is_that_of_their_strings() -> None:
    world = small()
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, -1.0, 0.5]], dtype=torch.float64)
    found = world.kl_within_outcomes(logits.unsqueeze(0))[0]
    assert found.tolist() == pytest.approx(by_hand(logits, world))
    at_reference = world.kl_within_outcomes(REFERENCE.unsqueeze(0))
    torch.testing.assert_close(at_reference, torch.zeros(1, 2).double(), atol=1e-12, rtol=0)


def test_each_prompt_of_each_setting_has_a_memory_of_its_own() -> None:
    """Two settings in one program learn what each learns alone, to the bit of their sampling."""
    world = small(samples_per_prompt=8, prompts_per_step=1)
    for method in (Plain(), IPS(), OutcomeMatching(threshold=0.5)):
        training = training_of(method)
        settings = [Setting(training=training, beta=0.01, seed=seed) for seed in (0, 1)]
        sweep = train(world, settings, steps=30, batch_size=8, learning_rate=0.05, seed=0)
        valid = sweep.logprobs[..., :-1].exp().sum(-1)  # (S, P)
        start = world.ref_outcome_logprobs[..., :-1].exp().sum(-1)
        assert bool((valid > start).all()), method.label


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts_per_step": 3}, "`prompts_per_step` must be between 1 and 2; got 3"),
        ({"flipped": 1.5}, "`flipped`"),
        ({"features": torch.zeros(2, 2, 4)}, "`features` must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)
    with pytest.raises(InputError, match="`batch_size` must be 8"):
        small().rollout(small().initial_logits(1), batch_size=4, generator=torch.Generator())


def test_a_rate_that_decays_ends_at_rest() -> None:
    """Half way a step is half as long, where gradients stay equal and Adam moves by the rate."""
    world = Categorical(torch.full((2,), 0.5).log(), torch.tensor([1.0, 0.0]))
    setting = Setting(training=training_of(Plain(), kl="none", advantages="none"), beta=0.0)
    moves = {}
    for decays in (False, True):
        sweep = train(
            world, [setting], steps=4, batch_size=4000, learning_rate=0.1, seed=0, record=4, decays=decays
        )
        gap = sweep.history[:, 0, 0] - sweep.history[:, 0, 1]
        moves[decays] = (gap[1:] - gap[:-1]).tolist()
    # Adam's first steps are as long as the rate in each of the two logits, whose gradients are opposite.
    assert moves[False] == pytest.approx([0.2] * 4, rel=0.05)
    assert moves[True] == pytest.approx([0.2, 0.15, 0.1, 0.05], rel=0.05)
