"""The frame of every experiment: a new folder with its configuration, or a folder that is resumed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from allmodes.errors import RunError
from allmodes.runs.config import ConfigT, build_config, read_config_file
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder
from allmodes.runs.provenance import PROVENANCE, file_sha256, provenance, utc_now
from allmodes.runs.seals import REMEDY, read_sealed_json, seal_json

Inputs = Mapping[str, Path]  # files by configuration key; with other content, it would be another run


# Files of every experiment. A new one must not overwrite a user's file or use those of another run.
_OUTPUTS = (PROVENANCE, "results.json", "report.html")


def refuse_old_folder(out: Path) -> None:
    """Raise RunError if `out` already holds a run, or a file that a run would overwrite."""
    if (out / "config.json").exists():
        raise RunError(f"{out} already holds a run: choose another folder, or `allmodes run --resume {out}`")
    found = [out / name for name in _OUTPUTS if (out / name).exists()]
    found += [lock.parent for lock in sorted(out.glob("*/.lock"))] if out.is_dir() else []
    if found:
        raise RunError(
            f"{out}: expected a folder without results of another run; got {found[0]}: choose another folder"
        )


def threads_of(threads: int | None, workers: int) -> int:
    """The threads of each worker: as configured, or its share of torch's.

    Results depend on the number of threads in the last bits, so a resumed run must use the same number.
    """
    return max(1, torch.get_num_threads() // workers) if threads is None else threads


def start_experiment(
    config: ConfigT, out: Path, *, inputs: Inputs, run: Callable[[ConfigT, RunFolder], Path]
) -> Path:
    """Write config.json and provenance.json into a new folder, then run.

    Raises RunError if a file cannot be written.
    """
    with RunFolder(out) as folder:
        settings = json.loads(config.model_dump_json())
        facts = {**provenance(), "config": settings, "inputs": _digests(inputs)}
        seal_json(out / PROVENANCE, facts)
        write_text(out / "config.json", json.dumps(settings, indent=2) + "\n")
        return run(config, folder)


def saved_config(model: type[ConfigT], path: Path) -> ConfigT:
    """The configuration of the run in a folder. Raises ConfigError if there is none."""
    file = path / "config.json"
    return build_config(model, read_config_file(file), source=str(file))


def refuse_other_settings(path: Path, *, then: Any, now: Any, ignored: Sequence[str] = ()) -> None:
    """Raise RunError with the first setting in which a folder's run differs from the current settings.

    then, now: settings as JSON values. ignored: dotted keys, including all keys below them, that do not
    affect results.
    """
    for key, (old, new) in _differences(then, now, ignored=ignored).items():
        raise RunError(
            f"{path} holds results of other settings: `{key}`: expected {json.dumps(old)}; "
            f"got {json.dumps(new)}; choose another folder"
        )


def _differences(then: Any, now: Any, *, ignored: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Old and new value of each setting that differs, by dotted key; None for a missing one."""
    old, new = dict(_leaves(then)), dict(_leaves(now))
    return {
        key: (old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not any(f"{key}.".startswith(f"{name}.") for name in ignored)
    }


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is neither a table nor a list, by dotted key."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def resume_experiment(
    config: ConfigT,
    path: Path,
    *,
    inputs: Inputs,
    run: Callable[[ConfigT, RunFolder], Path],
    free: Sequence[str] = (),
    accept_changes: bool | None = None,
) -> Path:
    """Resume the interrupted run in a folder.

    free: dotted keys of settings that may change. accept_changes: whether changes of other settings and of
    inputs are accepted and recorded in provenance.json; None if the user has no such option. Raises RunError
    with the first change that is not accepted.
    """
    with RunFolder(path) as folder:
        _check_same(path, inputs, free=free, accept_changes=accept_changes)
        return run(config, folder)


def _check_same(path: Path, inputs: Inputs, *, free: Sequence[str], accept_changes: bool | None) -> None:
    facts = read_sealed_json(path / PROVENANCE)
    then, now = facts.get("config"), read_config_file(path / "config.json")
    files = facts.get("inputs")
    if not isinstance(files, dict):
        raise RunError(f"{path / PROVENANCE} is damaged: expected `inputs`; got none; {REMEDY}")
    digests = _digests(inputs)
    if then is None:  # written by an older version, which recorded fewer inputs and no settings
        digests = {key: digest for key, digest in digests.items() if key in files}
    settings = {} if then is None else _differences(then, now, ignored=free)
    others = _differences(files, digests, ignored=())
    if not settings and not others:
        return
    if accept_changes:
        change = {
            "when": utc_now(),
            "settings": settings,
            "inputs": others,
        }
        known = {} if then is None else {"config": now}
        changes = [*facts.get("changes", ()), change]
        seal_json(path / PROVENANCE, {**facts, **known, "inputs": digests, "changes": changes})
        return
    hint = "" if accept_changes is None else "; --accept-changes resumes anyway and records the change"
    for key, (old, new) in settings.items():
        raise RunError(
            f"{path / 'config.json'} has changed since the run began: `{key}`: expected {json.dumps(old)}; "
            f"got {json.dumps(new)}{hint}"
        )
    key, (old, new) = next(iter(others.items()))
    if old is None or new is None:
        raise RunError(
            f"inputs have changed since the run began: `{key}`: expected {_file(old)}; got {_file(new)} "
            f"(files are looked for in the folder that the run is resumed from){hint}"
        )
    raise RunError(
        f"`{key}`: {inputs[key]} has changed since the run began: expected SHA-256 {old}; got {new}{hint}"
    )


def _file(digest: str | None) -> str:
    return "no file" if digest is None else f"a file with SHA-256 {digest}"


def _digests(inputs: Inputs) -> dict[str, str]:
    found = {}
    for key, path in inputs.items():
        try:
            found[key] = file_sha256(path)
        except OSError as error:
            raise RunError(f"`{key}`: cannot read {path}: {error.strerror or error}") from error
    return found
