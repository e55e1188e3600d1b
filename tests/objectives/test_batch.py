"""The batch that a training step sees: what it refuses and what it selects."""

import dataclasses

import pytest
import torch

from allmodes.errors import AllmodesError, InputError
from allmodes.objectives import SampledBatch


def make(**changes: torch.Tensor | None) -> SampledBatch:
    tensors = {
        "rewards": torch.tensor([0.1, float("nan"), 0.3, 0.4]),
        "ref_logprobs": torch.tensor([-1.0, -2.0, -3.0, -4.0]),
        "logprobs": torch.tensor([-5.0, -6.0, -7.0, -8.0]),
        "group_ids": torch.tensor([0, 0, 1, 1]),
        "outcome_ids": torch.tensor([9, 8, 9, 7]),
    }
    return SampledBatch(**{**tensors, **changes})  # pyright: ignore[reportArgumentType]


def test_length_and_optional_ids() -> None:
    assert len(make()) == 4
    batch = make(group_ids=None, outcome_ids=None)
    assert batch.group_ids is None
    assert batch.outcome_ids is None


@pytest.mark.parametrize("name", ["ref_logprobs", "logprobs", "group_ids", "outcome_ids"])
def test_shapes_must_agree(name: str) -> None:
    whole = getattr(make(), name)
    with pytest.raises(InputError, match=rf"`{name}` must have shape \(4,\) like `rewards`; got \(3,\)"):
        make(**{name: whole[:3]})
    with pytest.raises(InputError, match=f"`{name}` must have shape"):
        make(**{name: whole[:, None]})


@pytest.mark.parametrize("name", ["rewards", "ref_logprobs", "logprobs"])
def test_numbers_must_be_floating_point(name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` must be floating point; got torch.int64"):
        make(**{name: torch.arange(4)})


@pytest.mark.parametrize("name", ["group_ids", "outcome_ids"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_ids_must_be_integers(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=f"`{name}` must hold integers; got {dtype}"):
        make(**{name: torch.zeros(4, dtype=dtype)})


def test_rewards_must_be_a_vector() -> None:
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\); got \(2, 2\)"):
        make(rewards=torch.zeros(2, 2))


def test_a_batch_is_frozen_and_takes_keywords_alone() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().rewards = torch.zeros(4)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        SampledBatch(torch.zeros(4), torch.zeros(4), torch.zeros(4))  # pyright: ignore[reportCallIssue]


def test_an_input_error_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, AllmodesError)
