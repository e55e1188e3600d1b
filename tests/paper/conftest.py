"""Studies that take seconds: a tiny prior and rewards by a program, and few answers to few prompts."""

import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from allmodes.chem.policies.policy import RecurrentPolicy, save_policy
from allmodes.chem.policies.tokenizer import SPECIAL_TOKENS, SmilesTokenizer
from allmodes.paper import study_settings

ORACLE = """
import sys
for line in sys.stdin:
    print(min(1.0, 0.7 + 0.05 * line.count("O")), flush=True)
"""


@pytest.fixture(autouse=True)
def frozen_again() -> Iterator[None]:
    """Items that train unfreeze at their end what imports have left, which tests/conftest.py has frozen."""
    yield
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def small_components(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A policy of random weights over chains, and a program that likes oxygen."""
    folder = tmp_path_factory.mktemp("study")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = RecurrentPolicy(7, cell="gru", hidden_size=16, num_layers=1, embedding_size=8)
    save_policy(folder / "tiny.safetensors", policy, SmilesTokenizer((*SPECIAL_TOKENS, "C", "N", "O", "S")))
    (folder / "oracle.py").write_text(ORACLE)
    return folder / "tiny.safetensors", folder / "oracle.py"


@pytest.fixture
def small_study(small_components: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both scales' settings of molecular design, but for what takes long."""
    prior, program = small_components
    entry = {"name": "program", "kind": "process", "command": [sys.executable, str(program)]}
    for name in ("QUICK", "PAPER"):
        settings = replace(
            getattr(study_settings, name),
            components={"SYNTH": (entry,), "ALL-AMIDE": (entry,)},
            seeds=(0,) if name == "QUICK" else (0, 1),
            sigmas=(128.0,) if name == "QUICK" else (128.0, 256.0),
            budget=12,
            batch_size=8,
            prior=prior,
            precision="float32",
            workers=1,
        )
        monkeypatch.setattr(study_settings, name, settings)


@pytest.fixture
def small_table1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 1's quick settings with every row and both seeds, but few prompts and answers."""
    from allmodes.paper import mara_table1

    small = replace(mara_table1.QUICK, prompts_per_step=2, group_size=3, generations=3, sampled_prompts=2)
    monkeypatch.setattr(mara_table1, "QUICK", small)


@pytest.fixture
def small_hypospace(monkeypatch: pytest.MonkeyPatch) -> None:
    """HypoSpace in the one domain that all of its items have."""
    from allmodes.paper import hypospace_runs

    monkeypatch.setattr(hypospace_runs, "DOMAINS", {"voxels": hypospace_runs.DOMAINS["voxels"]})
