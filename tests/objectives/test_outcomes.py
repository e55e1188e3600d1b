"""Estimates of whole outcomes' reference probabilities against enumeration of strings and of batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import mara_rewards, outcome_ref_logprobs
from tensors import close, doubles

PROPERTY = settings(deadline=None, max_examples=150)
GROUPS = [-7, 0, 3, 10**12]
Sample = tuple[int, int, float, float]  # group, outcome, log π_ref, log π_θ
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(GROUPS), st.sampled_from([-2, 0, 5, 10**9]), st.floats(-900, 0), st.floats(-900, 0)
    ),
    max_size=14,
)

# Six strings that spell three outcomes, 3, 2 and 1 ways.
OUTCOMES = torch.tensor([4, 4, 4, 9, 9, 1])
REF = torch.tensor([0.05, 0.2, 0.1, 0.3, 0.05, 0.3], dtype=torch.float64)
POLICY = torch.tensor([0.3, 0.1, 0.1, 0.05, 0.25, 0.2], dtype=torch.float64)


def call(samples: list[Sample]) -> Tensor:
    return outcome_ref_logprobs(
        doubles([sample[2] for sample in samples]),
        doubles([sample[3] for sample in samples]),
        torch.tensor([sample[1] for sample in samples], dtype=torch.long),
        group_ids=torch.tensor([sample[0] for sample in samples], dtype=torch.long),
    )


def class_masses(strings: Tensor) -> dict[int, float]:
    """What a distribution over the strings gives to each outcome."""
    return {o: float(strings[o == OUTCOMES].sum()) for o in OUTCOMES.unique().tolist()}


@PROPERTY
@given(samples=SAMPLES, data=st.data())
def test_the_formula_and_the_order(samples: list[Sample], data: st.DataObject) -> None:
    expected = []
    for group, outcome, _, _ in samples:
        same = [ref - own for g, o, ref, own in samples if (g, o) == (group, outcome)]
        size = sum(sample[0] == group for sample in samples)
        top = max(same)  # weights of up to e⁹⁰⁰ leave the range of floats
        expected.append(top + math.log(math.fsum(math.exp(w - top) for w in same)) - math.log(size))
    actual = call(samples)
    close(actual, doubles(expected), 1e-10)
    order = data.draw(st.permutations(range(len(samples))))
    close(call([samples[i] for i in order]), actual[torch.tensor(order, dtype=torch.long)], 1e-10)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_unbiased_over_all_batches(size: int) -> None:
    """E[q̂(o)] = Σ of π_ref over the spellings of o, where q̂(o) is 0 in batches without o."""
    batches = torch.cartesian_prod(*[torch.arange(6)] * size).view(-1, size)
    estimate = outcome_ref_logprobs(
        REF.log()[batches].flatten(),
        POLICY.log()[batches].flatten(),
        OUTCOMES[batches].flatten(),
        group_ids=torch.arange(len(batches)).repeat_interleave(size),
    ).view_as(batches)
    weights = POLICY[batches].prod(1)
    for outcome, mass in class_masses(REF).items():
        has = OUTCOMES[batches] == outcome
        estimates = torch.where(has, estimate.exp(), 0).amax(1)  # one value for all samples of an outcome
        assert torch.equal(torch.where(has, estimates[:, None], 0), torch.where(has, estimate.exp(), 0))
        assert float((weights * estimates).sum()) == pytest.approx(mass, rel=1e-12)


def test_every_string_once_from_the_uniform_policy_is_exact() -> None:
    """The weights are then K π_ref, and the estimate each outcome's own probability."""
    estimate = outcome_ref_logprobs(REF.log(), torch.full((6,), 1 / 6).double().log(), OUTCOMES)
    expected = doubles([class_masses(REF)[o] for o in OUTCOMES.tolist()]).log()
    close(estimate, expected, 1e-7)  # a sixth is rounded to float32 on the way


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_mara_on_outcomes_has_an_optimum_uniform_over_outcomes(beta: float) -> None:
    """π_ref(y) exp(r̄/β) adds up to the same for each outcome, spelled as the reference would."""
    rewards = torch.ones(6, dtype=torch.float64)
    uniform = torch.full((6,), -math.log(6), dtype=torch.float64)
    estimate = outcome_ref_logprobs(REF.log(), uniform, OUTCOMES)
    augmented = mara_rewards(rewards, estimate, beta=beta, threshold=0.5).rewards
    optimum = (REF.log() + augmented / beta).softmax(0)
    masses = class_masses(optimum)
    assert list(masses.values()) == pytest.approx([1 / 3] * 3, rel=1e-10)
    for outcome, mass in masses.items():
        spelled = outcome == OUTCOMES
        close(optimum[spelled] / mass, REF[spelled] / REF[spelled].sum())
    on_strings = mara_rewards(rewards, REF.log(), beta=beta, threshold=0.5).rewards
    plain = class_masses((REF.log() + on_strings / beta).softmax(0))
    assert list(plain.values()) == pytest.approx([1 / 6, 3 / 6, 2 / 6], rel=1e-10)  # strings are uniform


def test_a_string_an_outcome_and_a_policy_at_the_reference() -> None:
    """Weights of 1: the estimate is the outcome's share of the group."""
    logprobs = doubles([-3.0, -1.0, -2.0, -7.0])
    estimate = outcome_ref_logprobs(logprobs, logprobs, torch.tensor([8, 8, 2, 8]))
    close(estimate, doubles([0.75, 0.75, 0.25, 0.75]).log())


def test_no_gradient_flows() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    ref_logprobs = torch.tensor([-2.0, -2.0], requires_grad=True)
    assert not outcome_ref_logprobs(ref_logprobs, logprobs, torch.tensor([0, 0])).requires_grad


def test_empty_batch() -> None:
    empty, ids = torch.empty(0), torch.empty(0, dtype=torch.long)
    for group_ids in (None, ids):
        assert outcome_ref_logprobs(empty, empty, ids, group_ids=group_ids).shape == (0,)


@pytest.mark.parametrize(
    ("ref", "own", "ids", "message"),
    [
        ([-1.0, -math.inf], [-1.0, -1.0], [0, 1], "`ref_logprobs` must be finite"),
        ([-1.0, -1.0], [-1.0, math.nan], [0, 1], "`logprobs` must be finite"),
        ([-1.0, -1.0], [-1.0], [0, 1], r"`logprobs` must have shape \(2,\)"),
        ([-1.0, -1.0], [-1.0, -1.0], [0], r"`outcome_ids` must have shape \(2,\)"),
        ([-1.0, -1.0], [-1.0, -1.0], [0.0, 1.0], "`outcome_ids` must hold integers"),
    ],
)
def test_wrong_input(ref: list[float], own: list[float], ids: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        outcome_ref_logprobs(doubles(ref), doubles(own), torch.tensor(ids))
