"""The scalars of TensorBoard's event files, read with TensorBoard's own reader."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allmodes.audit.logs.files import Advance
from allmodes.audit.scalars.log import NamedRow
from allmodes.errors import InputError, one_line
from allmodes.extras import require
from allmodes.runs.lines import BadLineError

_SIGN = "tfevents"
_FRAME = 16  # bytes of a record besides its event: its length and two checksums


def is_event_file(path: Path) -> bool:
    """Whether a file is one of TensorBoard's, by its name."""
    return _SIGN in path.name


def read_events(paths: list[Path], advance: Advance) -> Iterator[NamedRow]:
    """The scalars of event files in the order of the files, one row per event, and where a file breaks off.

    Raises ConfigError without TensorBoard, InputError for a file that cannot be read.
    """
    require(f"{paths[0].name}: reading event files needs", "tensorboard", extras="tensorboard")
    loader: Any = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
    event_pb2: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
    for path in paths:
        size, read, number = path.stat().st_size, 0, 0
        try:
            for data in loader.RawEventFileLoader(str(path)).Load():
                number += 1
                read += len(data) + _FRAME
                advance(len(data) + _FRAME)
                found = _scalars(event_pb2.Event.FromString(data))
                if len(found) > 1:
                    yield f"{path.name}, event {number}", found
        except Exception as error:
            raise InputError(f"cannot read {path}: expected an event file; {one_line(error)}") from error
        if read < size:  # the reader stopped silently at this point
            advance(size - read)
            kind = "not an event file" if number == 0 else "cut off or damaged, and not read from here"
            yield f"{path.name}, after event {number}", BadLineError(kind, is_broken=True)


def _scalars(event: Any) -> dict[str, Any]:
    """The scalars of an event by tag, with its step; TensorFlow writes them as tensors."""
    found: dict[str, Any] = {}
    for value in event.summary.value:
        plugin = value.metadata.plugin_data.plugin_name
        if value.HasField("simple_value"):
            found[value.tag] = value.simple_value
        elif plugin == "scalars" and value.HasField("tensor"):
            util: Any = importlib.import_module("tensorboard.util.tensor_util")
            found[value.tag] = float(util.make_ndarray(value.tensor).reshape(-1)[0])
    return {**found, "step": event.step}
