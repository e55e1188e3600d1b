"""Checkpoints: one safetensors file that holds tensors and a JSON state, replaced as a whole.

safetensors and JSON only: nothing is unpickled, so a checkpoint from elsewhere cannot run code.
"""

import hashlib
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

_OWN = "sha256"  # key in the state for the checksum of tensors and state; older versions wrote none
AFRESH = "remove it to start this run again; scores in its ledger are not computed again"


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-serialisable state into one file, atomically."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # One entry, since safetensors writes several in any order, and equal checkpoints must be equal files.
    text = json.dumps({**state, _OWN: _digest(contiguous, state)})
    with replacing(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={"state": text}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_checkpoint`. Raises `RunError` if it is missing, malformed or damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        state = json.loads(metadata["state"])
        if not isinstance(state, dict):
            raise ValueError(f"its state is a {type(state).__name__}, not a table")
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: expected a safetensors file of allmodes; {error}") from error
    own = state.pop(_OWN, None)
    if own is not None and own != _digest(tensors, state):
        raise RunError(f"{path} is damaged: its content does not match its checksum; {AFRESH}")
    return tensors, state


def _digest(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(state).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def adam_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and step counts as named tensors, one triple per parameter."""
    return {
        f"adam.{index}.{name}": tensor
        for index, entries in optimizer.state_dict()["state"].items()
        for name, tensor in entries.items()
    }


def restore_adam_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the result of `adam_state`; the optimiser must hold the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
