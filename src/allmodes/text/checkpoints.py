"""TRL's checkpoints with checksums, which also cover the logs of the run."""

import re
from pathlib import Path
from typing import Any, final

from transformers import TrainerCallback

from allmodes.errors import RunError
from allmodes.runs.files import sync
from allmodes.runs.folder import RunFolder
from allmodes.runs.seals import read_sealed_json, restoring, say_unverified, seal_json

_SEAL = "allmodes.json"
_WHOLE = "trainer_state.json"  # which TRL writes last
_NAME = re.compile(r"checkpoint-(\d+)")


@final
class CheckpointSeal(TrainerCallback):
    """Forces each complete checkpoint to disk, together with checksums of the run's logs."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the checksums of a checkpoint's files, and those of the logs up to its step, beside them."""
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != _SEAL]
        for file in files:
            sync(file)
        seal_json(path / _SEAL, {"logs": self._folder.mark_logs()}, files=files)
        sync(path.parent)


def last_checkpoint(out: Path) -> Path | None:
    """The last complete checkpoint, if there is one."""
    found = {
        int(match[1]): path
        for path in out.glob("checkpoint-*")
        if (match := _NAME.fullmatch(path.name)) and ((path / _SEAL).exists() or (path / _WHOLE).exists())
    }
    return found[max(found)] if found else None


def restore_logs(folder: RunFolder, checkpoint: Path | None, *, step: int) -> None:
    """Check a checkpoint's files, and cut the run's logs back to its step.

    step: the last step of the checkpoint. Raises RunError for damage to checkpoint or logs.
    """
    if checkpoint is None:
        folder.restore_logs({})
    elif (checkpoint / _SEAL).exists():
        try:
            marks = read_sealed_json(checkpoint / _SEAL)
        except RunError as error:
            raise RunError(
                f"{error}; or remove {checkpoint} to resume from the checkpoint before it"
            ) from error
        with restoring(checkpoint / _SEAL):
            folder.restore_logs(marks["logs"])
    else:  # of an older version, or written by a run that was killed just then
        say_unverified(checkpoint)
        folder.keep_metrics(lambda row: row["step"] <= step)
