"""The frame of every experiment: a new folder with its configuration, or an old one that is gone on with."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from allmodes.errors import RunError
from allmodes.runs.config import ConfigT, build_config, read_config_file
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder
from allmodes.runs.provenance import file_sha256, provenance

Inputs = Mapping[str, Path]  # files by the key that they came from; another content would be another run


# What every experiment writes; a new one neither overwrites a user's file nor takes up another run's rest.
_OUTPUTS = ("provenance.json", "results.json", "report.html")


def refuse_old_folder(out: Path) -> None:
    """Raise RunError where `out` holds a run already, or a file that a run would overwrite."""
    if (out / "config.json").exists():
        raise RunError(f"{out} holds a run already: choose another folder, or `allmodes run --resume {out}`")
    found = [out / name for name in _OUTPUTS if (out / name).exists()]
    found += [lock.parent for lock in sorted(out.glob("*/.lock"))] if out.is_dir() else []
    if found:
        raise RunError(
            f"{out}: expected a folder without results of another run; got {found[0]}: choose another folder"
        )


def threads_of(threads: int | None, workers: int) -> int:
    """The threads of each worker: as configured, or its share of torch's.

    Results depend on the number of threads in the last bits, so a resumed run must use the same.
    """
    return max(1, torch.get_num_threads() // workers) if threads is None else threads


def start_experiment(
    config: ConfigT, out: Path, *, inputs: Inputs, run: Callable[[ConfigT, RunFolder], Path]
) -> Path:
    """Write config.json and provenance.json into a new folder, then run.

    Raises RunError for what cannot be written.
    """
    with RunFolder(out) as folder:
        facts = {**provenance(), "inputs": {key: file_sha256(path) for key, path in inputs.items()}}
        write_text(out / "provenance.json", json.dumps(facts, indent=2) + "\n")
        write_text(out / "config.json", config.model_dump_json(indent=2) + "\n")
        return run(config, folder)


def saved_config(model: type[ConfigT], path: Path) -> ConfigT:
    """The configuration of the run in a folder. Raises ConfigError where there is none."""
    file = path / "config.json"
    return build_config(model, read_config_file(file), source=str(file))


def refuse_other_settings(path: Path, *, then: Any, now: Any, ignored: Sequence[str] = ()) -> None:
    """Raise RunError that names the first setting in which a folder's run differs from what is wanted now.

    then, now: settings as JSON has them. ignored: dotted keys, with all that is below them, that no result
    depends on.
    """
    old, new = dict(_leaves(then)), dict(_leaves(now))
    for key in [*old, *new]:
        if any(f"{key}.".startswith(f"{name}.") for name in ignored):
            continue
        if old.get(key) != new.get(key):
            raise RunError(
                f"{path} holds results of other settings: `{key}`: expected {json.dumps(old.get(key))}; "
                f"got {json.dumps(new.get(key))}; choose another folder"
            )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no table and no list, under its dotted key."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def resume_experiment(
    config: ConfigT, path: Path, *, inputs: Inputs, run: Callable[[ConfigT, RunFolder], Path]
) -> Path:
    """Run on in the folder of an interrupted run.

    Raises RunError where an input has changed since it began.
    """
    with RunFolder(path) as folder:
        _check_same(inputs, path / "provenance.json")
        return run(config, folder)


def _check_same(inputs: Inputs, provenance_path: Path) -> None:
    try:
        expected = json.loads(provenance_path.read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot read {provenance_path}: expected `inputs`; {error}") from error
    if set(expected) != set(inputs):
        raise RunError(
            f"inputs have changed since the run began: expected {', '.join(sorted(expected)) or 'none'}; "
            f"got {', '.join(sorted(inputs)) or 'none'}"
        )
    for key, path in inputs.items():
        if (got := file_sha256(path)) != expected[key]:
            raise RunError(
                f"`{key}`: {path} has changed since the run began: expected SHA-256 {expected[key]}; "
                f"got {got}"
            )
