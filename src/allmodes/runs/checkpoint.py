"""Checkpoints: one safetensors file that holds tensors and a JSON state, replaced as a whole.

safetensors and JSON only: nothing is unpickled, so a checkpoint from elsewhere cannot run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from allmodes.errors import RunError
from allmodes.runs.files import replacing


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-serialisable state into one file, atomically."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={"state": json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote. Raises `RunError` when the file is missing or malformed."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        state = json.loads(metadata["state"])
        if not isinstance(state, dict):
            raise ValueError(f"its state is a {type(state).__name__}, no table")
        return tensors, state
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: expected a safetensors file of allmodes; {error}") from error


def adam_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and step counts as named tensors, one triple per parameter."""
    return {
        f"adam.{index}.{name}": tensor
        for index, entries in optimizer.state_dict()["state"].items()
        for name, tensor in entries.items()
    }


def restore_adam_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `adam_state` returned; the optimiser must hold the same parameters in order."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
