"""Curves and images of a run for experiment trackers: TensorBoard, Trackio, W&B.

Trackers only show a run, so a failing tracker never ends it.
"""

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, final
from uuid import uuid4

from allmodes.errors import ConfigError
from allmodes.extras import how_to_install, is_installed, pip_install
from allmodes.runs.files import write_text
from allmodes.runs.terminal import console

TrackerName = Literal["tensorboard", "trackio", "wandb"]

_PROJECT = "allmodes"


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Raise ConfigError if the package of a tracker is not installed."""
    missing = next((name for name in names if not is_installed(name)), None)
    if missing is not None:
        command = how_to_install("tensorboard") if missing == "tensorboard" else pip_install(missing)
        raise ConfigError(f"`track`: {missing!r} needs `{command}`; {missing} is not installed")


class Tracker(Protocol):
    """A program that shows runs."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Add a point to each curve."""
        ...

    def image(self, name: str, picture: Any, *, step: int) -> None:
        """Show a PIL picture."""
        ...

    def close(self) -> None:
        """Write remaining data; nothing is added afterwards."""
        ...


@final
class Trackers:
    """The trackers of one run. A tracker that fails is reported once, with the reason, and not used again."""

    def __init__(
        self,
        names: Sequence[TrackerName],
        folder: Path,
        *,
        settings: Mapping[str, Any],
        first_step: int,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Start them.

        folder: the run's folder, in the folder of its experiment. settings: shown next to the curves,
        JSON-serialisable. first_step: the next step, above 1 in a resumed run. say: prints a line; by default
        on standard error.
        """
        self._say = say or _print
        self._open: dict[str, Tracker] = {}
        for name in names:
            self._try(name, lambda name=name: self._start(name, folder, settings, first_step))

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a point for each number in a row of metrics.jsonl, at its `step`."""
        values = {
            key: float(value)
            for key, value in row.items()
            if key != "step" and isinstance(value, bool | int | float)
        }
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.log(values, step=row["step"]))

    def image(self, title: str, draw: Callable[[], Any], *, step: int) -> None:
        """Show a PIL image, which is only drawn if there is a tracker; None shows nothing."""
        picture = draw() if self._open else None
        if picture is not None:
            for name, tracker in list(self._open.items()):
                self._try(name, lambda tracker=tracker: tracker.image(title, picture, step=step))

    def _start(self, name: str, folder: Path, settings: Mapping[str, Any], first_step: int) -> None:
        if name == "tensorboard":
            self._open[name] = _TensorBoard(folder, settings, first_step)
        else:
            self._open[name] = _Service(name, folder, settings)

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever another program or its server raises
            self._open.pop(name, None)
            why = " ".join(str(error).split()) or type(error).__name__
            offline = "; WANDB_MODE=offline writes to the run folder" if name == "wandb" else ""
            self._say(f"`track`: the run continues without {name}: {why[:300]}{offline}")


def _print(line: str) -> None:
    console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)


class _TensorBoard:
    """Event files in `tensorboard/RUN` of the experiment, so that one `--logdir` shows all its runs."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run repeats the steps after its checkpoint; TensorBoard drops their earlier points.
        self._writer = SummaryWriter(
            str(folder.parent / "tensorboard" / folder.name),
            purge_step=first_step if first_step > 1 else None,
        )
        lines = json.dumps(settings, indent=2, ensure_ascii=False).splitlines()
        self._writer.add_text("settings", "\n".join(f"    {line}" for line in lines), global_step=0)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, global_step=step)

    def image(self, name: str, picture: Any, *, step: int) -> None:
        import numpy

        self._writer.add_image(
            name, numpy.asarray(picture.convert("RGB")), global_step=step, dataformats="HWC"
        )
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Service:
    """Trackio and W&B, which share one API."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        own: dict[str, Any] = {}
        if name == "wandb":
            os.environ.setdefault("WANDB_SILENT", "true")
            # The experiment's folder; a run of the same name in another folder is another run.
            own = {"id": _run_id(folder), "dir": str(folder.parent), "group": folder.parent.name}
        self._module: Any = importlib.import_module(name)
        self._run = self._module.init(
            project=_PROJECT,
            name=f"{folder.parent.name}/{folder.name}",
            config=dict(settings),
            resume="allow",
            **own,
        )

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(values), step=step)

    def image(self, name: str, picture: Any, *, step: int) -> None:
        self._run.log({name: self._module.Image(picture)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _run_id(folder: Path) -> str:
    """The run's name in a tracking service, the same after a resume."""
    path = folder / "tracker_id.txt"
    if not path.exists():
        write_text(path, uuid4().hex)
    return path.read_text().strip()
