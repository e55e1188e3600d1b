"""The judge's probability, by hand and by a direct pass; it plugs into `partition`."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from allmodes.errors import ConfigError, InputError
from allmodes.metrics.text import partition
from allmodes.tasks import Judge

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WORDS = ["<pad>", "<eos>", "<unk>", "<bos>", "user", "assistant", ":", *"abcdefghij"]
# Of three classes the last weighs the lowest bit of the last word's number: 1 for a, c, e, −1 for b, d, f.
HEAD = [[0.0] * 5, [0.0, 1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0, 0.0]]

Make = Callable[..., Path]
Direct = Callable[[Path, list[int]], torch.Tensor]


def test_the_probability_is_that_of_the_last_class(make_classifier: Make) -> None:
    judge = Judge(make_classifier(labels=3, head=HEAD), threshold=0.5, max_tokens=8, device="cpu")
    # Numbers of the last words: a 7 = 111, b 8 = 000 below, c 9 = 01
    for word, second, third in (("a", 1, 3), ("b", -1, -3), ("c", -1, 3)):
        expected = math.exp(third) / (1 + math.exp(second) + math.exp(third))
        assert judge.probability("d e", f"f {word}") == pytest.approx(expected, abs=1e-5)
        assert judge.same("d e", f"f {word}") is (expected > 0.5)


def test_the_threshold_is_one_of_probability(make_classifier: Make) -> None:
    folder = make_classifier(labels=3, head=HEAD)
    probability = Judge(folder, threshold=0.5, max_tokens=8, device="cpu").probability("a", "b")
    assert 0.01 < probability < 0.1
    for threshold in (0.0, probability - 1e-4, probability, probability + 1e-4, 1.0):
        judge = Judge(folder, threshold=threshold, max_tokens=8, device="cpu")
        assert judge.same("a", "b") is (probability > threshold)


def test_it_says_for_partition_what_is_the_same(make_classifier: Make) -> None:
    judge = Judge(make_classifier(labels=3, head=HEAD), threshold=0.5, max_tokens=8, device="cpu")
    # A response is like any before it where its own last word has an odd number.
    assert partition(["b", "a", "d", "c", "f"], judge.same) == [0, 0, 1, 0, 2]


def test_a_pair_is_read_in_order_and_each_response_cut_off(make_classifier: Make, direct: Direct) -> None:
    folder = make_classifier(labels=2)
    judge = Judge(folder, threshold=0.5, max_tokens=3, device="cpu")
    for first, second, read in (
        ("a b", "c", "a b c"),
        ("c", "a b", "c a b"),
        ("a b c d e f", "g h", "a b c g h"),
        ("a", "g h i j a", "a g h i"),
    ):
        exact = direct(folder, [WORDS.index(word) for word in read.split()]).softmax(-1)[-1]
        assert judge.probability(first, second) == pytest.approx(float(exact), abs=2e-6)


def test_separators_and_the_kinds_of_tokens_are_the_tokenizers(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=16, initializer_range=0.5, num_labels=2, **sizes
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "model")
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.BertProcessing(("<eos>", 1), ("<bos>", 3))
    words.enable_truncation(4)  # as some files have it; both ways of cutting would be one too many
    words.enable_padding(length=12)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")
    fast.save_pretrained(tmp_path / "words")
    with pytest.raises(ConfigError, match=r"must hold a tokenizer|cannot load the tokenizer"):
        Judge(tmp_path / "model", threshold=0.5, max_tokens=3, device="cpu")
    judge = Judge(tmp_path / "model", tokenizer=tmp_path / "words", threshold=0.5, max_tokens=3, device="cpu")
    ids = torch.tensor([[3, 7, 8, 9, 1, 10, 11, 1]])  # <bos> a b c <eos> d e <eos>
    types = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        exact = model(input_ids=ids, token_type_ids=types).logits[0].softmax(-1)[-1]
        untyped = model(input_ids=ids).logits[0].softmax(-1)[-1]
    assert judge.probability("a b c d e f", "d e") == pytest.approx(float(exact), abs=2e-6)
    assert abs(float(exact) - float(untyped)) > 1e-3
    with pytest.raises(ConfigError, match=r"room for two responses in the 16 tokens .* got 7"):
        Judge(tmp_path / "model", tokenizer=tmp_path / "words", threshold=0.5, max_tokens=7, device="cpu")


def test_any_text_is_judged(make_classifier: Make) -> None:
    judge = Judge(make_classifier(labels=2), threshold=0.5, max_tokens=8, device="cpu")
    for text in ("\ud800", "\x00", "<eos>", "é" * 10_000, "a " * 10_000):
        assert isinstance(judge.same(text, "a"), bool)
        assert isinstance(judge.same("a", text), bool)


def test_what_is_no_judge_is_named(make_classifier: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must have two outputs or more; got 1"):
        Judge(make_classifier(labels=1), threshold=0.5, max_tokens=8)
    with pytest.raises(ConfigError, match="cannot load the model"):
        Judge(tmp_path / "nowhere", threshold=0.5)
    with pytest.raises(InputError, match=r"`threshold` must lie between 0 and 1; got 1\.5"):
        Judge("anything", threshold=1.5)
    with pytest.raises(ConfigError, match="`max_tokens` must be at least 1; got 0"):
        Judge("anything", threshold=0.5, max_tokens=0)
