"""Language models in .gguf files, converted once to a folder that every reader of `model =` can load."""

import contextlib
import hashlib
import importlib
import importlib.metadata
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

import allmodes
from allmodes.errors import ConfigError, RunError, one_line
from allmodes.extras import require
from allmodes.reports.progress import show_notes
from allmodes.runs.files import new_folder, write_text
from allmodes.runs.provenance import file_sha256

_MAGIC = b"GGUF"
CARD = "README.md"


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model comes from, for its card. package: with its version; None for a user's own file."""

    name: str
    licence: str
    package: str | None = None
    home: str | None = None


def is_gguf(model: str | Path) -> bool:
    """Whether a `model =` names a GGUF file."""
    return str(model).lower().endswith(".gguf")


def as_folder(model: str) -> str:
    """What transformers and TRL load for a `model =`: for a GGUF file its converted folder, else `model`.

    A file is converted once, to a folder below $XDG_CACHE_HOME/allmodes (~/.cache/allmodes by default) whose
    name has a digest of path, size and time of the file. Raises ConfigError as `convert_gguf` does.
    """
    if not is_gguf(model) or Path(model).is_dir():
        return model
    path = Path(model).resolve()
    check_gguf(path)
    stat = path.stat()
    digest = hashlib.blake2b(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    out = cache / "allmodes" / "gguf" / f"{path.stem}-{digest}"
    if not out.exists():
        show_notes([f"converting {path.name} once, to {out}"])
        try:
            convert_gguf(path, out)
        except RunError:
            if not out.exists():  # else another process has converted it meanwhile
                raise
    return str(out)


def check_gguf(path: Path) -> None:
    """Raise ConfigError for a file that is missing, or does not begin as GGUF files do."""
    try:
        with open(path, "rb") as handle:
            start = handle.read(len(_MAGIC))
    except OSError as error:
        raise ConfigError(f"`model`: cannot read {path}: {error.strerror or error}") from error
    if start != _MAGIC:
        got = "an empty file" if not start else f"one that begins with {start!r}"
        raise ConfigError(f"`model`: expected {path} to be a GGUF file; got {got}")


def convert_gguf(path: Path, out: Path, *, source: Source | None = None) -> None:
    """Write a GGUF model to a new folder: float32 safetensors, tokenizer with chat template, model card.

    Weights that are quantised in the file keep its rounding. The folder is written whole or not at all.
    Memory: about 2.5 times the float32 weights, 1.3 GB for 135 million parameters.

    Raises ConfigError without the package `gguf`, and for a file that is damaged, cut off, or of an
    architecture that transformers does not read; RunError if `out` exists or cannot be written.
    """
    require("GGUF files need", "transformers", "gguf", extras="text")
    check_gguf(path)
    with new_folder(out) as folder, _quiet():
        about = _read_about(path)
        model = _dequantised(path, about)
        tokenizer = _tokenizer(path)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        parameters = sum(weight.numel() for weight in model.parameters())
        known = source or Source(name=about.name, licence=about.licence)
        write_text(folder / CARD, _card(path, about, known, parameters=parameters))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and no progress bars, which nothing else turns off."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
        yield


@final
@dataclass(frozen=True, kw_only=True)
class _About:
    """What a GGUF file says of itself."""

    name: str
    licence: str
    architecture: str
    quantisation: str


def _read_about(path: Path) -> _About:
    gguf: Any = importlib.import_module("gguf")
    try:
        reader = gguf.GGUFReader(path)  # fails where a tensor ends after the file does
        fields = {
            name: field.contents()
            for name in ("architecture", "name", "license", "file_type")
            if (field := reader.get_field(f"general.{name}")) is not None
        }
        kind = fields.get("file_type")
        quantisation = "unknown" if kind is None else gguf.LlamaFileType(kind).name.removeprefix("MOSTLY_")
    except Exception as error:  # the package checks nothing, so whatever Python and numpy raise
        raise ConfigError(
            f"`model`: expected {path} to be a whole GGUF file; it is cut off or damaged "
            f"({one_line(error)}): download it again"
        ) from error
    return _About(
        name=str(fields.get("name", path.stem)),
        licence=str(fields.get("license", "unknown")),
        architecture=str(fields.get("architecture", "none")),
        quantisation=quantisation.removeprefix("ALL_"),
    )


def _dequantised(path: Path, about: _About) -> Any:
    """The model, float32, as if it had never been quantised: what transformers loads refuses to be saved."""
    transformers: Any = importlib.import_module("transformers")
    try:
        loaded, found = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # whatever a file makes the libraries raise
        raise ConfigError(
            f"`model`: expected a GGUF file of a language model that transformers reads; {path} has "
            f"architecture {about.architecture!r} ({one_line(error)}): take the model's safetensors instead"
        ) from error
    if found["missing_keys"]:  # they would be random
        lacking = ", ".join(sorted(found["missing_keys"])[:3])
        raise ConfigError(f"`model`: expected a whole language model; {path} lacks {lacking}")
    config = type(loaded.config).from_dict(
        {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    )
    with torch.device("meta"):
        model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = loaded.generation_config
    return model


def _tokenizer(path: Path) -> Any:
    transformers: Any = importlib.import_module("transformers")
    try:
        return transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:  # as above
        raise ConfigError(
            f"`model`: expected a GGUF file with a tokenizer; {path} has none that transformers reads "
            f"({one_line(error)})"
        ) from error


def _card(path: Path, about: _About, source: Source, *, parameters: int) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "gguf"))
    origin = f"file {path.name}" if source.package is None else f"package {source.package}, file {path.name}"
    home = "" if source.home is None else f"- Home: {source.home}\n"
    return f"""---
license: {source.licence.lower()}
---

# {source.name}

- Licence: {source.licence}
- Source: {origin}, SHA-256 {file_sha256(path)}
{home}- Architecture: {about.architecture}, {parameters:,} parameters
- Conversion: from GGUF to float32 safetensors by allmodes {allmodes.__version__} with {versions}
- Tokenizer and chat template: those of the file
{_quantisation(about)}
"""


def _quantisation(about: _About) -> str:
    if about.quantisation in ("F32", "F16", "BF16"):
        return f"- Precision of the file: {about.quantisation}, not quantised"
    return (
        f"- Quantisation: {about.quantisation}. The weights are those of the quantised file, dequantised,\n"
        "  not the original ones: answers may differ from the original model's"
    )
