"""Small policies with known behaviour, and a file of real molecules."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from allmodes.chem.policy import Cell, Precision, RecurrentPolicy, save_policy
from allmodes.chem.tokenizer import SPECIAL_TOKENS, SmilesTokenizer

MakePolicy = Callable[..., RecurrentPolicy]

# Any chain of these is a molecule.
CHAIN_TOKENS = ("C", "N", "O", "S")
# Chance of an end after each token; so a sequence has (1 - p) / p = 6 tokens on average before EOS.
END_PROBABILITY = 1 / 7


@pytest.fixture
def make_policy() -> MakePolicy:
    """A policy with seeded weights, `scale` times as large as torch makes them."""

    def make(
        vocabulary_size: int,
        *,
        cell: Cell,
        seed: int,
        num_layers: int = 2,
        hidden_size: int = 8,
        scale: float = 1.0,
        precision: Precision = "float32",
    ) -> RecurrentPolicy:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = RecurrentPolicy(
                vocabulary_size,
                cell=cell,
                hidden_size=hidden_size,
                num_layers=num_layers,
                embedding_size=5,
                precision=precision,
            )
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.mul_(scale)
        return policy

    return make


def _chain_prior(path: Path, policy: RecurrentPolicy) -> Path:
    with torch.no_grad():
        policy.head.bias.zero_()
        odds = END_PROBABILITY / (1 - END_PROBABILITY)
        policy.head.bias[0] = math.log(len(CHAIN_TOKENS) * odds)  # the head's first output is EOS
    save_policy(path, policy, SmilesTokenizer((*SPECIAL_TOKENS, *CHAIN_TOKENS)))
    return path


@pytest.fixture
def tiny_prior(tmp_path: Path, make_policy: MakePolicy) -> Path:
    """A GRU over chains of C, N, O and S, about 6 tokens long."""
    policy = make_policy(3 + len(CHAIN_TOKENS), cell="gru", seed=0, num_layers=1, hidden_size=16)
    return _chain_prior(tmp_path / "tiny_gru.safetensors", policy)


@pytest.fixture
def tiny_lstm_prior(tmp_path: Path, make_policy: MakePolicy) -> Path:
    """An LSTM over chains of C, N, O and S, about 6 tokens long."""
    policy = make_policy(3 + len(CHAIN_TOKENS), cell="lstm", seed=0, num_layers=2, hidden_size=16)
    return _chain_prior(tmp_path / "tiny_lstm.safetensors", policy)


@pytest.fixture(scope="session")
def molecules_file() -> Path:
    """62 medicines and common compounds, one SMILES and one name a line."""
    return Path(__file__).parents[1] / "data" / "molecules.smi"


@pytest.fixture(scope="session")
def molecules(molecules_file: Path) -> list[str]:
    """The SMILES of `molecules_file` as they are written there."""
    return [line.split()[0] for line in molecules_file.read_text(encoding="utf-8").splitlines()]
