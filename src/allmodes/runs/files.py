"""Files that are written whole or not at all, and files that may be packed."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allmodes.errors import InputError, RunError, one_line


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    A reader sees the old file or the new one, never a part. Raises `RunError` when the disk is full
    or the folder cannot be written, and leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # not there: it was renamed, or could not be made
            temporary.unlink()


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where its name ends in `.gz`.

    Raises `InputError` when it is missing, unreadable, not packed as its name says, or cut off.
    """
    try:
        opened = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # noqa: SIM115
        with opened as handle:
            return handle.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {one_line(error)}") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
