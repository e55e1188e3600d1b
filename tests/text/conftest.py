"""A base model for the 1-2 task that has seen a few steps, and configurations of small runs on it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def one_two_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the stand-in after 60 of its 300 steps: the format is there, now and then.

    It is trained once: whichever worker of pytest-xdist comes first makes it for all.
    """
    pytest.importorskip("trl")
    from allmodes.text.stand_ins.stand_in import make_stand_in

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose own folder lies in the session's
        shared = shared.parent
    folder = shared / "one-two" / "base"
    with (shared / "one-two.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "README.md").exists():  # which is written last
            make_stand_in(folder, seed=3, steps=60)
    return folder


@pytest.fixture
def make_text_config(one_two_model: Path) -> Callable[..., Any]:
    """Changes → a configuration of runs of three steps on that model."""
    from allmodes.text.config import TextConfig

    def make(**changes: Any) -> TextConfig:
        values: dict[str, Any] = {
            "kind": "text",
            "task": "one_two",
            "model": str(one_two_model),
            "trainer": ["rloo"],
            "kl": ["reverse"],
            "method": ["mara"],
            "beta": [0.1],
            "steps": 3,
            "group_size": 6,
            "learning_rate": 1e-3,
            "max_tokens": 20,
            "samples": 20,
            "checkpoint_every": 2,
            "bin": 2,
            "threads": 1,
        }
        return TextConfig.model_validate({**values, **changes})

    return make
