"""GGUF files of a few kilobytes: converted once, read by every reader of `model =`, refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("gguf", reason="needs the package gguf")

from safetensors.torch import load_file

from allmodes.errors import ConfigError, RunError
from allmodes.text import gguf_models
from allmodes.text.backfill import _fingerprint
from allmodes.text.gguf_models import as_folder, convert_gguf
from allmodes.text.models import load_model, load_tokenizer, quieten
from tiny_gguf import TOKENS, write_gguf

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    quieten()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def llama(weights: dict[str, Any], ids: torch.Tensor) -> torch.Tensor:
    """Logits of a Llama of one layer with four heads, written out: rotary positions, SwiGLU, tied output."""
    w = {name: torch.from_numpy(value) for name, value in weights.items()}

    def norm(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale

    count, heads, size = len(ids), 4, 8
    x = w["token_embd"][ids]
    h = norm(x, w["blk.0.attn_norm"])
    q, k, v = (
        (h @ w[f"blk.0.attn_{part}"].T).view(count, heads, size).transpose(0, 1) for part in ("q", "k", "v")
    )
    angles = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)

    def turn(t: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(t.reshape(heads, count, size // 2, 2).contiguous())  # GGUF: neighbours
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(2)

    scores = turn(q) @ turn(k).transpose(1, 2) / size**0.5
    scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), -torch.inf)
    x = x + (scores.softmax(-1) @ v).transpose(0, 1).reshape(count, -1) @ w["blk.0.attn_output"].T
    h = norm(x, w["blk.0.ffn_norm"])
    gate = torch.nn.functional.silu(h @ w["blk.0.ffn_gate"].T)
    x = x + (gate * (h @ w["blk.0.ffn_up"].T)) @ w["blk.0.ffn_down"].T
    return norm(x, w["output_norm"]) @ w["token_embd"].T


def test_a_converted_model_computes_what_the_file_says(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "tiny.gguf"
    weights = write_gguf(path)
    model, tokenizer = load_model(str(path)), load_tokenizer(str(path))
    ids = torch.tensor([5, 40, 41, 98, 7])
    with torch.no_grad():
        torch.testing.assert_close(model(ids[None]).logits[0], llama(weights, ids), rtol=1e-4, atol=1e-4)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("ab c")) == ["ab", "Ġ", "c"]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert chat == "user:a"
    assert (tokenizer.eos_token, tokenizer.padding_side) == ("</s>", "left")
    [folder] = (cache / "allmodes" / "gguf").iterdir()
    assert model.config.vocab_size == len(TOKENS)
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= {
        one.name for one in folder.iterdir()
    }
    assert all(tensor.dtype == torch.float32 for tensor in load_file(folder / "model.safetensors").values())
    card = (folder / "README.md").read_text()
    assert "# Tiny" in card
    assert "Licence: mit" in card
    assert "F32, not quantised" in card


def test_a_file_is_converted_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[Path] = []

    def convert(path: Path, out: Path) -> None:
        converted.append(out)
        out.mkdir(parents=True)

    monkeypatch.setattr(gguf_models, "convert_gguf", convert)
    path = tmp_path / "tiny.GGUF"
    path.write_bytes(b"GGUF")
    first = as_folder(str(path))
    monkeypatch.chdir(tmp_path)
    assert as_folder("tiny.GGUF") == first
    path.write_bytes(b"GGUF, another one")
    assert as_folder(str(path)) != first
    assert len(converted) == 2
    assert as_folder(first) == first  # a folder is itself, and so is a name
    assert as_folder("some/model") == "some/model"


def test_a_process_that_comes_second_takes_what_the_first_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(path: Path, out: Path) -> None:
        out.mkdir(parents=True)
        raise RunError("`out` must be a new folder")

    monkeypatch.setattr(gguf_models, "convert_gguf", convert)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    assert Path(as_folder(str(tmp_path / "tiny.gguf"))).is_dir()


@pytest.mark.parametrize("kept", [0.0005, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off(tmp_path: Path, cache: Path, kept: float) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(
        ConfigError, match=r"expected .*tiny\.gguf to be a whole GGUF file; it is cut off or"
    ) as e:
        load_model(str(path))
    assert "\n" not in str(e.value)
    assert not list((cache / "allmodes" / "gguf").iterdir())


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"", "an empty file"), (b"PK\3\4...", "one that begins with"), (None, "No such file")],
)
def test_a_file_that_is_no_gguf(tmp_path: Path, content: bytes | None, got: str) -> None:
    path = tmp_path / "tiny.gguf"
    if content is not None:
        path.write_bytes(content)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ConfigError, match=got):
            load(str(path))


def test_an_architecture_that_transformers_does_not_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, architecture="strange")
    with pytest.raises(
        ConfigError, match=r"that transformers reads; .*tiny\.gguf has architecture 'strange'"
    ):
        load_model(str(path))


def test_a_tokenizer_without_a_chat_template(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, template=None)
    convert_gguf(path, tmp_path / "folder")
    with pytest.raises(
        ConfigError, match=r"got none with .*folder.*put a chat_template\.jinja into its folder"
    ):
        load_tokenizer(str(tmp_path / "folder"))
    (tmp_path / "folder" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert load_tokenizer(str(tmp_path / "folder")).chat_template == "{{ messages[0]['content'] }}"


def test_an_experiment_on_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked, measured, trained by TRL and sampled; the run names the file, wherever it is resumed."""
    pytest.importorskip("trl")
    pytest.importorskip("matplotlib")
    from allmodes.text.config import TextConfig
    from allmodes.text.experiment import new_training

    write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.chdir(tmp_path)
    values = {
        "kind": "text", "task": "one_two", "model": "tiny.gguf", "trainer": ["rloo"], "kl": ["reverse"],
        "method": ["mara"], "beta": [0.1], "steps": 1, "group_size": 4, "learning_rate": 1e-3,
        "max_tokens": 4, "samples": 4, "threads": 1,
    }  # fmt: skip
    new_training(TextConfig.model_validate(values), tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == str(tmp_path / "tiny.gguf")
    assert (tmp_path / "run" / "base" / "result.json").exists()
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF, cut off")
    with pytest.raises(ConfigError, match="it is cut off or damaged"):
        new_training(TextConfig.model_validate(values), tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_log_probabilities_of_another_file_are_not_taken_for_its_own(tmp_path: Path) -> None:
    first, second = tmp_path / "1.gguf", tmp_path / "2.gguf"
    write_gguf(first)
    second.write_bytes(first.read_bytes()[:-1] + b"\1")
    assert _fingerprint(first).split()[1] != _fingerprint(second).split()[1]
