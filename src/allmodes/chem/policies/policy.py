"""Make, save and load policies over SMILES tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from allmodes.chem.policies.autoregressive import Cell, Policy, Precision, Samples
from allmodes.chem.policies.mamba import MambaPolicy
from allmodes.chem.policies.recurrent import RecurrentPolicy
from allmodes.chem.policies.tokenizer import PAD, SmilesTokenizer
from allmodes.errors import ConfigError, InputError
from allmodes.runs.checkpoint import load_checkpoint, save_checkpoint

__all__ = [
    "Cell",
    "MambaPolicy",
    "Policy",
    "Precision",
    "RecurrentPolicy",
    "Samples",
    "load_policy",
    "make_policy",
    "pad_tokens",
    "save_policy",
]

FORMAT = "allmodes-policy-1"


def make_policy(
    vocabulary_size: int, *, cell: Cell, precision: Precision = "float32", **sizes: int
) -> Policy:
    """A policy with fresh weights from torch's global generator; `sizes` are those of its class.

    Raises `ConfigError` for a Mamba without transformers and `TypeError` for sizes that the class lacks.
    """
    if cell == "mamba":
        return MambaPolicy(vocabulary_size, precision=precision, **sizes)
    return RecurrentPolicy(vocabulary_size, cell=cell, precision=precision, **sizes)


def pad_tokens(sequences: Sequence[Sequence[int]], *, device: torch.device | str = "cpu") -> Tensor:
    """Token id lists as one padded tensor (N, T)."""
    width = max((len(ids) for ids in sequences), default=0)
    rows = [[*ids, *[PAD] * (width - len(ids))] for ids in sequences]
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(len(rows), width)


def save_policy(path: Path, policy: Policy, tokenizer: SmilesTokenizer, *, half: bool = False) -> None:
    """Write weights, vocabulary and architecture into one safetensors file; `half` stores float16."""
    tensors = {name: value.half() if half else value for name, value in policy.state_dict().items()}
    state = {"format": FORMAT, "architecture": policy.architecture(), "tokens": tokenizer.tokens}
    save_checkpoint(path, tensors, state)


def load_policy(path: Path, *, precision: Precision = "float32") -> tuple[Policy, SmilesTokenizer]:
    """Read a file of `save_policy`; weights are returned as float32.

    Raises `RunError` for a file that cannot be read, `InputError` for a file without a policy, and
    `ConfigError` for a Mamba without transformers.
    """
    tensors, state = load_checkpoint(path)
    if state.get("format") != FORMAT:
        raise InputError(f"{path}: expected a policy file of format {FORMAT!r}; got {state.get('format')!r}")
    try:
        tokenizer = SmilesTokenizer(state["tokens"])
        cell, sizes = _architecture(state["architecture"])
        policy = make_policy(len(tokenizer), cell=cell, precision=precision, **sizes)
        policy.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # missing, superfluous or misshapen
        if isinstance(error, ConfigError):
            raise
        raise InputError(
            f"{path}: expected the weights of a policy; {' '.join(str(error).split())}"
        ) from error
    return policy, tokenizer


def _architecture(found: dict[str, Any]) -> tuple[Cell, dict[str, int]]:
    cell = found["cell"]
    sizes = {name: size for name, size in found.items() if name != "cell"}
    if cell not in get_args(Cell):
        raise TypeError(f"`cell` must be one of {', '.join(get_args(Cell))}; got {cell!r}")
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise TypeError(f"`{name}` must be a whole number above 0; got {size!r}")
    return cell, sizes
