"""Checksums of a run's files: documents, files next to them, and files that grow.

Damage is reported in one line that names the file. Files of older versions have no checksums; they are read,
and a warning says that they cannot be verified.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from allmodes.errors import AllmodesError, RunError, one_line
from allmodes.runs.files import sync, write_text
from allmodes.runs.terminal import console

REMEDY = "restore it from a copy, or run again in another folder"
_OWN, _FILES = "sha256", "files"  # checksums of the document's own content, and of the files that it lists
_PIECE = 1 << 20  # bytes

Mark = dict[str, Any]  # {"bytes": size, "sha256": checksum of these bytes}


def seal_json(path: Path, document: Mapping[str, Any], *, files: Iterable[Path] = ()) -> None:
    """Write a JSON object with its checksum, and those of `files` in the same folder or below it.

    Raises RunError if a file cannot be written or read.
    """
    marks = {str(file.relative_to(path.parent)): _mark(file) for file in files}
    content = {**document, _FILES: marks}
    write_text(path, json.dumps({**content, _OWN: _digest(content)}, indent=1, allow_nan=False) + "\n")


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Read an object written by `seal_json`, and verify its checksum and those of its files.

    Raises RunError for any damage. A document without checksums is read with a warning.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}; {REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: expected JSON; {one_line(error)}; {REMEDY}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged: expected an object; got {type(found).__name__}; {REMEDY}")
    own = found.pop(_OWN, None)
    if own is None and _FILES not in found:
        say_unverified(path)
        return found
    if own != _digest(found):
        raise RunError(f"{path} is damaged: its content has another checksum than it says; {REMEDY}")
    for name, mark in found.pop(_FILES).items():
        _check(path.parent / name, mark, whole=True)
    return found


def seal_last_line(path: Path) -> None:
    """Add a line with the checksum of all lines before it."""
    with _reading(path), open(path, "ab") as handle:
        handle.write(json.dumps({_OWN: _mark(path)["sha256"]}).encode() + b"\n")


def check_last_line(path: Path) -> None:
    """Raise RunError if lines changed since `seal_last_line`; files of older versions have no checksum."""
    with _reading(path):
        lines = path.read_bytes()
    before, _, last = lines.rstrip(b"\n").rpartition(b"\n")
    if last.startswith(b'{"sha256"') and last != json.dumps({_OWN: _hash(before + b"\n")}).encode():
        raise RunError(f"{path} is damaged: its content has another checksum than it says; {REMEDY}")


def say_unverified(path: Path) -> None:
    """Warn that a file has no checksums, because an older version wrote it."""
    console.print(
        f"{path}: written by an older version without checksums, so damage cannot be detected",
        markup=False,
        soft_wrap=True,
    )


@contextmanager
def restoring(path: Path, *, remedy: str = REMEDY) -> Iterator[None]:
    """Turn errors of unexpected content into a RunError that names the file."""
    try:
        yield
    except AllmodesError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise RunError(f"{path} is damaged: expected the format of this version; {what}; {remedy}") from error


@final
class GrowingFiles:
    """The files of a run that grow by lines, and their checksums so far.

    A mark reads only the lines added since the last mark.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._digests = {name: hashlib.sha256() for name in names}
        self._sizes = dict.fromkeys(self._digests, 0)

    def existing(self) -> list[Path]:
        """The files that exist and are not empty."""
        paths = [self._folder / name for name in self._digests]
        return [path for path in paths if path.exists() and path.stat().st_size > 0]

    def mark(self) -> dict[str, Mark]:
        """Force all files to disk, and return their sizes and checksums for a checkpoint.

        Raises RunError if a file cannot be read or has become shorter.
        """
        return {name: self._mark(name) for name in self._digests if (self._folder / name).exists()}

    def _mark(self, name: str) -> Mark:
        path = self._folder / name
        try:
            sync(path)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}") from error
        with _reading(path), open(path, "rb") as handle:
            if os.fstat(handle.fileno()).st_size < self._sizes[name]:
                raise RunError(f"{path} is damaged: it was {self._sizes[name]} bytes long; {REMEDY}")
            handle.seek(self._sizes[name])
            while piece := handle.read(_PIECE):
                self._digests[name].update(piece)
                self._sizes[name] += len(piece)
        return {"bytes": self._sizes[name], "sha256": self._digests[name].hexdigest()}

    def restore(self, marks: Mapping[str, Mark]) -> None:
        """Check that the files begin as they were when marked, and cut off lines added since.

        A resumed run adds these lines again. Raises RunError for a file with another beginning.
        """
        for name in self._digests:
            path, mark = self._folder / name, marks.get(name, {"bytes": 0, "sha256": _hash(b"")})
            if not path.exists() and mark["bytes"] == 0:
                continue
            self._digests[name] = _check(path, mark, whole=False)
            self._sizes[name] = mark["bytes"]
            with _reading(path):
                os.truncate(path, mark["bytes"])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}; {REMEDY}") from error


def _check(path: Path, mark: Mark, *, whole: bool) -> Any:
    """The checksum of a file's beginning. Raises RunError if it differs from the mark, or is too short."""
    digest, left = hashlib.sha256(), mark["bytes"]
    with _reading(path), open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if size < left or (whole and size > left):
            raise RunError(f"{path} is damaged: expected {left} bytes; got {size}; {REMEDY}")
        while left and (piece := handle.read(min(_PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    if digest.hexdigest() != mark["sha256"]:
        raise RunError(f"{path} is damaged: its content has changed since it was written; {REMEDY}")
    return digest


def _mark(path: Path) -> Mark:
    with _reading(path), open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return {"bytes": handle.tell(), "sha256": digest}


def _digest(content: Mapping[str, Any]) -> str:
    return _hash(json.dumps(content, sort_keys=True).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
