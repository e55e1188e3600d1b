"""Language models from folders: what they lack is said, and nothing is made up."""

import json
import pickle
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file

from allmodes.errors import ConfigError
from allmodes.tasks.classifiers import load_classifier
from allmodes.text.models import load_model, load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def folder(one_two_model: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", str(one_two_model), str(tmp_path / "model")], check=True)
    return tmp_path / "model"


def test_a_model_is_loaded_in_float32_and_in_eval_mode(folder: Path) -> None:
    model = load_model(str(folder)).to(torch.bfloat16)
    model.save_pretrained(folder)
    again = load_model(str(folder))
    assert again.dtype == torch.float32
    assert not again.training


def test_weights_that_the_files_lack_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if ".1.mlp" not in name},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ConfigError, match=r"`model`: expected a language model; the files of .* lack .*mlp"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "load", [load_model, partial(load_classifier, tokenizer=None, outputs=1, device="cpu")]
)
def test_pickled_weights_are_not_read(folder: Path, load: Callable[[str], Any]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opened(folder / "opened")))
    with pytest.raises(
        ConfigError, match=r"expected weights in \.safetensors; got pytorch_model\.bin.*convert it"
    ):
        load(str(folder))
    assert not (folder / "opened").exists()


def test_a_pickled_adapter_is_not_read(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"got adapter_model\.bin"):
        load_model(str(folder))


class Opened:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return open, (self._path, "w")


def test_a_tokenizer_without_a_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"`model`: expected a tokenizer with a chat template; got none"):
        load_tokenizer(str(folder))
    assert load_tokenizer(str(folder), needs_template=False).chat_template is None


def test_the_end_pads_where_nothing_else_does(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["pad_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.padding_side == "left"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_broken_file_is_one_error(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"{")
    with pytest.raises(
        ConfigError, match=r"`model`: expected a language model by .* name, folder or \.gguf file; got"
    ):
        load_model(str(folder))


def test_what_is_not_there_is_one_error(tmp_path: Path) -> None:
    for load in (load_model, load_tokenizer):
        with pytest.raises(
            ConfigError,
            match=r"^`model`: expected a .* by Hugging Face name, folder or \.gguf file; got '.*none'",
        ):
            load(str(tmp_path / "none"))
