"""Log-probabilities of SMILES strings under a policy over their tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch

from allmodes.chem.policies.policy import Policy, pad_tokens
from allmodes.chem.policies.prior import shipped_by_name
from allmodes.chem.policies.tokenizer import SmilesTokenizer
from allmodes.errors import ConfigError, UnknownTokenError

_BATCH = 240


def named_policy(name: str) -> Path | None:
    """The file of the policy that a name stands for: a shipped prior, or a path to a .safetensors file.

    Shipped are "lstm" and "mamba", or "zinc250k-lstm" and "zinc250k-mamba". None for anything else. Raises
    ConfigError for a file that is not there.
    """
    shipped = shipped_by_name(name)
    if shipped is not None:
        return shipped
    path = Path(name)
    if path.suffix != ".safetensors" or path.is_dir():
        return None
    if not path.is_file():
        raise ConfigError(f"`model`: expected a policy file; got {name}, which does not exist")
    return path


@torch.no_grad()
def smiles_logprobs(
    policy: Policy, tokenizer: SmilesTokenizer, smiles: Sequence[str], *, is_whole: Sequence[bool]
) -> list[tuple[float, int] | None]:
    """Σ_t log π(y_t | y_<t) of each SMILES in nats, and its number of tokens.

    is_whole: whether the end belongs to it, and was not cut off. None for a SMILES with a token that the
    policy does not know, or without any. Only this spelling of the molecule counts.
    """
    rows = [_tokens(tokenizer, *one) for one in zip(smiles, is_whole, strict=True)]
    results: list[tuple[float, int] | None] = [None] * len(rows)
    # Sorted, so that one long string does not pad them all.
    order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: len(rows[i]))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        found = policy.logprobs(pad_tokens([rows[i] for i in batch], device=policy.device))
        for i, logprob in zip(batch, found.tolist(), strict=True):
            results[i] = logprob, len(rows[i])
    return results


def _tokens(tokenizer: SmilesTokenizer, smiles: str, is_whole: bool) -> list[int]:
    try:
        ids = tokenizer.encode(smiles)
    except UnknownTokenError:
        return []
    return ids if is_whole else ids[:-1]
