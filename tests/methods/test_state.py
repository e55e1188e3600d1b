"""What a method remembers, through the JSON of a checkpoint."""

import json
from typing import Any

import pytest
import torch

from allmodes.methods import State, state_from_json, state_to_json


def through_a_checkpoint(state: State | None) -> Any:
    """As a trainer saves it: with its keys in order."""
    return state_from_json(json.loads(json.dumps(state_to_json(state), sort_keys=True)))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([0.1, 1 / 3, 1e-300, -0.0, 2**60 + 0.0], dtype=torch.float64),
        torch.tensor([0.1, 1 / 3, 1e-38, 3.4e38]),
        torch.tensor([0.1, 1 / 3], dtype=torch.bfloat16),
        torch.tensor([2**63 - 1, -(2**63), 2**53 + 1]),
        torch.tensor([True, False]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor(0.1),
        torch.tensor([float("inf"), float("-inf")]),
        torch.zeros(0),
        torch.zeros(0, 3),
        torch.zeros(2, 0, dtype=torch.long),
    ],
)
def test_a_tensor_keeps_every_bit(tensor: torch.Tensor) -> None:
    back = through_a_checkpoint({"values": [tensor]})["values"][0]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor)
    assert torch.equal(torch.signbit(back), torch.signbit(tensor))


def test_the_rest_keeps_its_values() -> None:
    state = {"prompt": {"a": 0.1, "b": None}, "names": ["x", 1, 2.5, True], "empty": {}}
    assert through_a_checkpoint(state) == state
    assert through_a_checkpoint(None) is None
