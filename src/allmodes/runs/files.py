"""Write files completely or not at all, and read files of any compression and text encoding."""

import bz2
import codecs
import gzip
import lzma
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allmodes.errors import AllmodesError, InputError, RunError, one_line

# No other program uses such names, so a leftover temporary file of a killed process can be recognised.
_TEMPORARY = re.compile(r"\..+\.(\d+)\.allmodes-tmp", re.DOTALL)


def temporary_path(path: Path) -> Path:
    """The temporary file that is renamed to `path` when it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.allmodes-tmp")


def remove_temporary_files(folder: Path) -> None:
    """Remove leftover temporary files of killed processes; only files named by `temporary_path`."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


def sync(path: Path) -> None:
    """Force a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success force it to disk and rename it to `path`.

    A reader sees either the old file or the new one, even after a loss of power. Raises `RunError`
    if the disk is full or the folder cannot be written, and leaves no file behind.
    """
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # some network file systems cannot sync a folder
            sync(path.parent)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # missing: it was renamed, or could not be created
            temporary.unlink()


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; on success force its files to disk and rename it to `out`.

    Leftovers of an earlier attempt by a killed process are removed first. Raises `RunError` if `out` exists,
    at the beginning or at the end, and for any error in between.
    """
    if os.path.lexists(out):
        raise RunError(f"`out` must be a new folder; {out} exists")
    temporary = temporary_path(out)
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_folders(out)
        temporary.mkdir()
    except OSError as error:  # also if a folder of this name exists, which we must not remove
        raise RunError(f"cannot write {out}: {one_line(error)}") from error
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                sync(path)
        if os.path.lexists(out):  # renaming would silently replace an empty folder
            raise RunError(f"`out` must be a new folder; {out} exists")
        temporary.rename(out)
    except AllmodesError:
        raise
    except Exception as error:  # such as a full disk, for which every package has its own error
        raise RunError(f"cannot write {out}: {one_line(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # not there when it was renamed


def _remove_left_folders(out: Path) -> None:
    """Remove the temporary folders of `out` whose processes are gone."""
    for path in out.parent.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or path.name != f".{out.name}.{match[1]}.allmodes-tmp":
            continue
        if path.is_dir() and not path.is_symlink() and not _is_running(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # only tests whether it exists
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        return True
    return True


# The first bytes of a file, which tell its kind whatever its name.
_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"PK\x05\x06": "an empty zip archive",
    b"\xd0\xcf\x11\xe0": "a file of Microsoft Office: save it as CSV",
    b"\x28\xb5\x2f\xfd": "a file compressed with zstd: decompress it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"PAR1": "a Parquet table: save it as CSV",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
}
_MARKS = {  # longer marks come before their own prefixes
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed if its first bytes show gzip, bzip2 or xz.

    Raises `InputError` if it is missing, unreadable, cut off, an archive, or not compressed as its name says.
    """
    try:
        with open(path, "rb") as handle:
            start = handle.read(8)
            unpack = next((unpack for magic, unpack in _PACKED.items() if start.startswith(magic)), None)
            if unpack is None and path.suffix.lower() in (".gz", ".bz2", ".xz"):
                raise InputError(f"cannot read {path}: it is not compressed as its name says")
            handle.seek(0)
            if unpack is None:
                data = handle.read()
            else:
                with unpack(handle, "rb") as unpacked:
                    data = unpacked.read()
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"cannot read {path}: {reason}") from error
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise InputError(f"cannot read {path}: expected text; got {what}")
    return data


def read_text(path: Path) -> str:
    """The text of a file, compressed or not, in any common encoding; lines end with LF.

    A byte order mark selects UTF-8, UTF-16 or UTF-32 and is dropped. Without one, the encoding is UTF-16 if
    every other byte is 0, else UTF-8, else Windows' Latin-1. Lines may end with CR, LF or CRLF in the file;
    split the result at LF only, since `splitlines` also splits at characters of Latin-1.

    Raises `InputError` as `read_bytes` does, and for UTF-16 or UTF-32 that is damaged.
    """
    data = read_bytes(path)
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    encoding = _MARKS[mark] if mark else _encoding(data)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if encoding.startswith("utf-8"):
            text = data[len(mark) :].decode("cp1252", errors="replace")
        else:
            problem = f"byte {error.start + len(mark):,}: {error.reason}"
            raise InputError(f"cannot read {path}: expected {encoding.upper()}; {problem}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(data: bytes) -> str:
    """UTF-16 if nearly all bytes of one parity are 0, as in English text; else UTF-8."""
    sample = data[:4096]
    pairs = len(sample) // 2
    high, low = sample[::2].count(0), sample[1::2].count(0)
    if pairs > 3 and low > 0.7 * pairs and high < 0.1 * pairs:
        return "utf-16-le"
    if pairs > 3 and high > 0.7 * pairs and low < 0.1 * pairs:
        return "utf-16-be"
    return "utf-8"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
