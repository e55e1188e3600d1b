"""A damaged folder of a run: one line that names the file, or a result that is equal to the undamaged run's.

ALLMODES_FUZZ_CASES=N tries N kinds of damage instead of a few.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from allmodes.chem.design import design
from allmodes.chem.design.design import new_design, resume_design
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.loop import DesignLoop
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.policies.policy import RecurrentPolicy, save_policy
from allmodes.chem.policies.tokenizer import SPECIAL_TOKENS, SmilesTokenizer
from allmodes.errors import AllmodesError
from molecule_settings import training_config

CASES = int(os.environ.get("ALLMODES_FUZZ_CASES", "30"))
JOBS = ("reinvent-0", "reinvent-1")  # the first has ended, the second was interrupted


class Oracle:
    """Scores in this process, at once."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __enter__(self) -> "Oracle":
        return self

    def __exit__(self, *_: object) -> None: ...
    def probe(self) -> None: ...
    def finish(self) -> None: ...
    def notes(self) -> list[str]:
        return []

    def busy_share(self) -> float:
        return 0.5

    def busy_times(self) -> dict[str, Any]:
        return {"seconds": 1.0, "busy": {}}

    def submit(self, smiles: list[str]) -> list[Any]:
        futures = []
        for line in smiles:
            future: Future[Evaluation] = Future()
            value = {"qed": min(1.0, line.count("O") / 4)}
            future.set_result(
                Evaluation(smiles=line, raw=value, shaped=value, reward=value["qed"], failure=None)
            )
            futures.append(future)
        return futures


def quick(patch: pytest.MonkeyPatch) -> None:
    """No processes and no pictures: what a page shows is not the point here."""
    patch.setattr(design, "ComponentOracle", Oracle)
    patch.setattr(design, "check_design", lambda config: None)
    patch.setattr(design, "write_report", lambda *_: None)
    patch.setattr(design, "write_hits", lambda *_: None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of an uninterrupted run, and of one that was interrupted in its second job."""
    folder = tmp_path_factory.mktemp("damage")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = RecurrentPolicy(7, cell="gru", hidden_size=16, num_layers=1, embedding_size=8)
    prior = folder / "prior.safetensors"
    save_policy(prior, policy, SmilesTokenizer((*SPECIAL_TOKENS, "C", "N", "O", "S")))
    config = training_config(
        prior,
        algorithm="reinvent",
        seeds=[0, 1],
        budget=48,
        batch_size=8,
        checkpoint_every=2,
        scaffold_filter={"min_reward": 0.4, "bucket_size": 2},
    )
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        new_design(config, folder / "whole")
        original, begun = DesignLoop._train_step, []

        def until(self: DesignLoop, batch: Any) -> Any:
            begun.append(self._step)
            if begun.count(1) == 2 and self._step == 4:  # step 3 is beyond the checkpoint
                raise KeyboardInterrupt
            return original(self, batch)

        patch.setattr(DesignLoop, "_train_step", until)
        with pytest.raises(KeyboardInterrupt):
            new_design(config, folder / "killed")
    return folder / "whole", folder / "killed"


def outcome(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"results": (run / "results.json").read_bytes()}
    for job in JOBS:
        for name in ("metrics.jsonl", "samples.jsonl", "result.json", "agent.safetensors"):
            found[f"{job}/{name}"] = (run / job / name).read_bytes()
        found[f"{job}/ledger"] = read_ledger(run / job / "ledger.sqlite")
    return found


def flip(data: bytes, rng: random.Random) -> bytes:
    index = rng.randrange(len(data))
    return data[:index] + bytes([data[index] ^ (1 << rng.randrange(8))]) + data[index + 1 :]


def change_digit(data: bytes, rng: random.Random) -> bytes:
    found = [match.start() for match in re.finditer(rb"\d", data)]
    index = rng.choice(found)
    return data[:index] + b"%d" % ((data[index] - 48 + 1) % 10) + data[index + 1 :]


def junk_line(data: bytes, rng: random.Random, junk: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines) + 1), junk + b"\n")
    return b"".join(lines)


def rename_key(data: bytes, rng: random.Random) -> bytes:
    keys = list(re.finditer(rb'"(\w+)": ', data)) or [re.match(rb"", data)]
    at = rng.choice(keys)
    assert at is not None
    return data[: at.start() + 1] + b"x" + data[at.start() + 1 :]


Damage = Callable[[bytes, random.Random], bytes | None]
DAMAGES: dict[str, Damage] = {
    "flipped bit": flip,
    "another digit": change_digit,
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "empty": lambda data, rng: b"",
    "deleted": lambda data, rng: None,
    "a line too much": lambda data, rng: junk_line(data, rng, b'{"step": 1, "reward": 1.0}'),
    "a line of junk": lambda data, rng: junk_line(data, rng, b"\xff\xfe junk"),
    "a list as a line": lambda data, rng: junk_line(data, rng, b"[1, 2]"),
    "a line lost": lambda data, rng: b"".join(data.splitlines(keepends=True)[1:]),
    "zeros": lambda data, rng: data[: (n := rng.randrange(len(data)))] + bytes(len(data) - n),
    "a renamed key": rename_key,
    "an empty object": lambda data, rng: b"{}\n",
    "an empty list": lambda data, rng: b"[]\n",
    "half an object": lambda data, rng: data[: len(data) // 2],
}
FILES = (
    "config.json",
    "provenance.json",
    *(f"{JOBS[0]}/{name}" for name in ("result.json", "metrics.jsonl", "samples.jsonl", "timing.jsonl")),
    *(f"{JOBS[0]}/{name}" for name in ("ledger.sqlite", "agent.safetensors", "audit.json")),
    *(f"{JOBS[1]}/{name}" for name in ("metrics.jsonl", "samples.jsonl", "timing.jsonl")),
    *(f"{JOBS[1]}/{name}" for name in ("ledger.sqlite", "checkpoint.safetensors")),
)
KINDS = [(file, kind) for file in FILES for kind in DAMAGES]
ORDER = random.Random(20260731).sample(range(len(KINDS)), len(KINDS))


@pytest.fixture
def resumed(runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Damage a copy of the interrupted run and resume it; returns the error, or the outcome."""
    quick(monkeypatch)

    def run(damage: Callable[[Path], object]) -> tuple[AllmodesError | None, dict[str, Any] | None]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(runs[1], copy)
        damage(copy)
        try:
            resume_design(copy)
        except AllmodesError as error:
            return error, None
        return None, outcome(copy)

    return run


def test_an_undamaged_run_is_resumed(runs: tuple[Path, Path], resumed: Callable[..., Any]) -> None:
    assert resumed(lambda _: None) == (None, outcome(runs[0]))


@pytest.mark.parametrize("number", range(CASES))
def test_damage_is_noticed_or_does_no_harm(
    number: int, runs: tuple[Path, Path], resumed: Callable[..., Any]
) -> None:
    file, kind = KINDS[ORDER[number % len(KINDS)]]

    def damage(run: Path) -> None:
        changed = DAMAGES[kind]((run / file).read_bytes(), random.Random(number))
        (run / file).unlink()
        if changed is not None:
            (run / file).write_bytes(changed)

    error, found = resumed(damage)
    where = f"{file}, {kind}, case {number}"
    if error is not None:
        assert "\n" not in str(error), where
        assert Path(file).name in str(error) or "SHA-256" in str(error), where
    else:
        assert found == outcome(runs[0]), where


def test_a_file_that_is_a_folder_is_one_line(resumed: Callable[..., Any]) -> None:
    """As one that may not be read, which root may."""
    for file in FILES[::3]:

        def damage(run: Path, file: str = file) -> None:
            (run / file).unlink()
            (run / file).mkdir()

        error, _ = resumed(damage)
        assert error is not None, file
        assert "\n" not in str(error)


def test_other_settings_are_refused(resumed: Callable[..., Any]) -> None:
    def damage(run: Path) -> None:
        config = json.loads((run / "config.json").read_text())
        config["budget"] = 64
        (run / "config.json").write_text(json.dumps(config))

    error, _ = resumed(damage)
    assert "`budget`: expected 48; got 64; --accept-changes" in str(error)


def test_a_folder_of_an_older_version_is_resumed_and_said_to_be_unverified(
    runs: tuple[Path, Path], resumed: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def strip(run: Path) -> None:
        for file in ("provenance.json", f"{JOBS[0]}/result.json"):
            values = json.loads((run / file).read_text())
            values = {key: value for key, value in values.items() if key not in ("sha256", "files", "config")}
            (run / file).write_text(json.dumps(values))

    error, found = resumed(strip)
    assert error is None
    expected = outcome(runs[0])
    del expected[f"{JOBS[0]}/result.json"], found[f"{JOBS[0]}/result.json"]
    assert found == expected
    said = capsys.readouterr().err
    assert said.count("without checksums") == 2
