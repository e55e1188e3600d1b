"""A method's state as JSON, since trainers' checkpoints hold no tensors besides the weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from allmodes.methods.method import State

_TENSOR = "tensor of"


def state_to_json(state: State | None) -> Any:
    """The state as dicts, lists, numbers, strings and None; floats keep every bit.

    >>> saved = state_to_json({"counts": torch.tensor([1, 2])})
    >>> state_from_json(saved)
    {'counts': tensor([1, 2])}
    """
    return None if state is None else _to_json(state)


def state_from_json(saved: Any) -> State | None:
    """The state from the result of `state_to_json`.

    >>> state_from_json(state_to_json({"step": 3}))
    {'step': 3}
    """
    return None if saved is None else _from_json(saved)


def _to_json(value: Any) -> Any:
    if isinstance(value, Tensor):
        values = value.double() if value.is_floating_point() else value  # bfloat16 has no list of its own
        kind = str(value.dtype).removeprefix("torch.")
        return {_TENSOR: kind, "shape": list(value.shape), "values": values.flatten().tolist()}
    if isinstance(value, Mapping):
        return {str(key): _to_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            flat = torch.tensor(value["values"], dtype=getattr(torch, value[_TENSOR]))
            return flat.reshape(value["shape"])
        return {key: _from_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from_json(inner) for inner in value]
    return value
