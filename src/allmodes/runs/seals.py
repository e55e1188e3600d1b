"""Checksums of what a run leaves: of documents, of the files beside them, and of files that grow.

Damage is one line that names the file. What an older version wrote has no checksums; it is read, and a line
says that it cannot be verified.
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
_OWN, _FILES = "sha256", "files"  # of a document's own content; of the files that it vouches for
_PIECE = 1 << 20  # bytes

Mark = dict[str, Any]  # {"bytes": how many, "sha256": of so many}


def seal_json(path: Path, document: Mapping[str, Any], *, files: Iterable[Path] = ()) -> None:
    """Write a JSON object with its checksum, and those of `files` in the same folder or below it.

    Raises RunError for what cannot be written or read.
    """
    marks = {str(file.relative_to(path.parent)): _mark(file) for file in files}
    content = {**document, _FILES: marks}
    write_text(path, json.dumps({**content, _OWN: _digest(content)}, indent=1, allow_nan=False) + "\n")


def read_sealed_json(path: Path) -> dict[str, Any]:
    """The object that `seal_json` wrote, once it and its files have the checksums that stand in it.

    Raises RunError for any damage. A document without checksums is read as it is, and that is said.
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
    """Raise RunError where `seal_last_line` has seen other lines; an older version's file says nothing."""
    with _reading(path):
        lines = path.read_bytes()
    before, _, last = lines.rstrip(b"\n").rpartition(b"\n")
    if last.startswith(b'{"sha256"') and last != json.dumps({_OWN: _hash(before + b"\n")}).encode():
        raise RunError(f"{path} is damaged: its content has another checksum than it says; {REMEDY}")


def say_unverified(path: Path) -> None:
    """Say that an older version wrote a file without checksums."""
    console.print(
        f"{path}: has no checksums, since an older version wrote it: damage would not be noticed",
        markup=False,
        soft_wrap=True,
    )


@contextmanager
def restoring(path: Path, *, remedy: str = REMEDY) -> Iterator[None]:
    """Raise RunError, which names the file, where its content is not what is expected of it."""
    try:
        yield
    except AllmodesError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise RunError(f"{path} is damaged: expected what this version writes; {what}; {remedy}") from error


@final
class GrowingFiles:
    """The files of a run to which lines are added, and their checksums so far.

    A mark costs the reading of what was added since the last one.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._digests = {name: hashlib.sha256() for name in names}
        self._sizes = dict.fromkeys(self._digests, 0)

    def existing(self) -> list[Path]:
        """The files that are there and not empty."""
        paths = [self._folder / name for name in self._digests]
        return [path for path in paths if path.exists() and path.stat().st_size > 0]

    def mark(self) -> dict[str, Mark]:
        """Force all files to disk; their sizes and checksums. A checkpoint that holds these vouches for them.

        Raises RunError where a file cannot be read or has become shorter.
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
        """Check that the files begin as they were when they were marked, and cut what was added since.

        A run that resumes adds that again. Raises RunError that names a file with another beginning.
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
    """The checksum of a file's beginning. Raises RunError where it is another than marked, or too short."""
    digest, left = hashlib.sha256(), mark["bytes"]
    with _reading(path), open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if size < left or (whole and size > left):
            raise RunError(f"{path} is damaged: expected {left} bytes; got {size}; {REMEDY}")
        while left and (piece := handle.read(min(_PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    if digest.hexdigest() != mark["sha256"]:
        raise RunError(
            f"{path} is damaged: its content has another checksum than when it was written; {REMEDY}"
        )
    return digest


def _mark(path: Path) -> Mark:
    with _reading(path), open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return {"bytes": handle.tell(), "sha256": digest}


def _digest(content: Mapping[str, Any]) -> str:
    return _hash(json.dumps(content, sort_keys=True).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
