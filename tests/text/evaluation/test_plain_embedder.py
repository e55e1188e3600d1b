"""The mean over tokens, by hand, of a tiny encoder; which folders need nothing but transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from allmodes.errors import InputError
from allmodes.text.evaluation.measures import load_embedder
from allmodes.text.evaluation.plain_embedder import is_plain, load_plain_embedder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "sat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    describe(tmp_path)
    return tmp_path


def describe(
    folder: Path, *, modules: tuple[str, ...] = ("Transformer", "Pooling", "Normalize"), **modes: bool
) -> None:
    paths = ("", "1_Pooling", "2_Normalize")
    entries = [
        {"idx": number, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(zip(paths, modules, strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling: dict[str, Any] = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, **modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def by_hand(folder: Path, ids: list[int]) -> torch.Tensor:
    """The mean over the states of one text, which nothing pads."""
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0].mean(0)


def test_the_mean_over_tokens_whatever_stands_beside_a_text(folder: Path) -> None:
    texts = ["a cat sat", "cat", "", "a dog sat a cat sat"]
    rows = [[2, 4, 5, 7, 3], [2, 5, 3], [2, 3], [2, 4, 6, 7, 3]]  # the last is cut off at five tokens
    embed = load_embedder(str(folder))
    assert callable(embed)
    means = torch.stack([by_hand(folder, ids) for ids in rows])
    torch.testing.assert_close(embed(texts), means / means.norm(dim=1, keepdim=True))
    describe(folder, modules=("Transformer", "Pooling"))
    torch.testing.assert_close(load_plain_embedder(folder)(texts), means)
    assert load_plain_embedder(folder)([]).shape == (0, 16)


def test_other_models_need_sentence_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_plain(folder)
    describe(folder, pooling_mode_cls_token=True)
    assert not is_plain(folder)
    describe(folder, modules=("Transformer", "Pooling", "Dense"))
    assert not is_plain(folder)
    for damaged in ("{", "[1]", "[]", '{"a": 1}', '[{"type": 3}, {"type": null}]'):
        (folder / "modules.json").write_text(damaged)
        assert not is_plain(folder)
    assert not is_plain(folder / "nowhere")


def test_weights_that_the_files_lack_are_not_made_up(folder: Path) -> None:
    config = transformers.BertConfig.from_pretrained(folder)
    config.num_hidden_layers = 2
    config.save_pretrained(folder)
    with pytest.raises(InputError, match=r"cannot load the embedder .*: its files lack encoder\.layer\.1"):
        load_plain_embedder(folder)
