"""Scores of a reward model, by hand and by a direct pass; what is refused; nothing is made up."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from allmodes.errors import ConfigError, InputError
from allmodes.tasks import RewardModel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WORDS = ["<pad>", "<eos>", "<unk>", "<bos>", "user", "assistant", ":", *"abcdefghij"]
HEAD = [8.0, 4.0, 2.0, 1.0, 0.5]
LONG = "a b c d e f g h i j a b c d e f"

Make = Callable[..., Path]
Direct = Callable[[Path, list[int]], torch.Tensor]


def by_hand(word: str) -> float:
    """Σ of 8, 4, 2, 1, ½ with the signs of the bits of the word's number."""
    number = WORDS.index(word)
    return sum(weight * (1 if number >> place & 1 else -1) for place, weight in enumerate(HEAD))


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("pad", [True, False])
def test_the_score_is_that_of_the_responses_last_word(
    make_classifier: Make, batch_size: int, pad: bool
) -> None:
    model = RewardModel(make_classifier(head=[HEAD], pad=pad), batch_size=batch_size, device="cpu")
    responses = [LONG, "a", "b c", "c d e", "j i h g", "f", "a a a a a a a a b", ""]
    expected = [by_hand(word) for word in "facegfb"]
    scores = model.scores(["i j"] * len(responses), responses)
    assert scores == [*(pytest.approx(value, abs=1e-5) for value in expected), None]


def test_padding_changes_no_score(make_classifier: Make, direct: Direct) -> None:
    folder = make_classifier()
    model = RewardModel(folder, device="cpu")
    prompts = ["a", "b b b", "c", "d e", "a"]
    responses = ["a", LONG, "j", "a b", "b"]
    together = model.scores(prompts, responses)
    for prompt, response, score in zip(prompts, responses, together, strict=True):
        alone = model.scores([prompt], [response])[0]
        exact = float(direct(folder, ids(f"user : {prompt} assistant : {response}"))[0])
        assert score == pytest.approx(alone, abs=2e-6)
        assert score == pytest.approx(exact, abs=2e-6)
    assert max(x for x in together if x is not None) - min(x for x in together if x is not None) > 0.1


def test_without_padding_the_end_of_text_is_still_read(make_classifier: Make, direct: Direct) -> None:
    """As chat templates end in it: padded with the end of text itself, a head would read the word before."""
    ends = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}<eos>"
    folder = make_classifier(pad=False, template=ends)
    scores = RewardModel(folder, device="cpu").scores(["a", "a"], ["b", LONG])
    for response, score in zip(["b", LONG], scores, strict=True):
        whole = ids(f"user : a assistant : {response} <eos>")
        assert score == pytest.approx(float(direct(folder, whole)[0]), abs=2e-6)
        assert score != pytest.approx(float(direct(folder, whole[:-1])[0]), abs=1e-2)


def test_a_doubled_start_is_read_once(make_classifier: Make, direct: Direct) -> None:
    folder = make_classifier(start=True)
    score = RewardModel(folder, device="cpu").scores(["a"], ["b c"])[0]
    once = ids("<bos> user : a assistant : b c")
    assert score == pytest.approx(float(direct(folder, once)[0]), abs=2e-6)
    assert score != pytest.approx(float(direct(folder, [3, *once])[0]), abs=1e-3)
    assert score != pytest.approx(float(direct(folder, once[1:])[0]), abs=1e-3)


def test_a_model_that_reads_both_ways_does_not_read_its_padding(tmp_path: Path) -> None:
    """And the tokens that a tokenizer puts around a text are there, where the template has none."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(WORDS), initializer_range=0.5, num_labels=1, **sizes)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.BertProcessing(("<eos>", 1), ("<bos>", 3))
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    fast.save_pretrained(tmp_path)
    responses = ["b", LONG, "c d"]
    scores = RewardModel(tmp_path, device="cpu").scores(["a"] * 3, responses)
    for response, score in zip(responses, scores, strict=True):
        read = torch.tensor([ids(f"<bos> user : a assistant : {response} <eos>")])
        with torch.no_grad():
            assert score == pytest.approx(float(model(input_ids=read).logits[0, 0]), abs=2e-6)


def test_what_the_model_cannot_read_is_cut_off_at_the_end(make_classifier: Make) -> None:
    model = RewardModel(make_classifier(head=[HEAD], length=8), device="cpu")
    # user : a assistant : b c d | e f
    assert model.scores(["a"], ["b c d e f"])[0] == pytest.approx(by_hand("d"), abs=1e-5)


def test_a_score_that_is_not_finite_is_none(make_classifier: Make) -> None:
    model = RewardModel(make_classifier(head=[[float("inf"), *HEAD[1:]]]), device="cpu")
    assert model.scores(["a", "a"], ["a", "b"]) == [None, None]


def test_any_text_is_scored(make_classifier: Make) -> None:
    model = RewardModel(make_classifier(), device="cpu")
    texts = ["\ud800", "\x00", "<eos>", "<pad> <pad>", "é" * 10_000, "{{ 1/0 }}", " \n\t", "\u200b"]
    scores = model.scores(texts, texts)
    assert [score is None for score in scores] == [text.isspace() for text in texts]
    assert model.scores([], []) == []


def test_weights_are_computed_with_in_float32_on_a_processor(make_classifier: Make, direct: Direct) -> None:
    folder = make_classifier(dtype=torch.bfloat16)
    score = RewardModel(folder, device="cpu").scores(["a"], ["b"])[0]
    assert score == pytest.approx(float(direct(folder, ids("user : a assistant : b"))[0]), abs=2e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_taken_where_there_is_one_in_bfloat16(make_classifier: Make) -> None:
    folder = make_classifier(head=[HEAD])
    scores = RewardModel(folder).scores(["a", "a"], ["b", LONG])
    assert scores == [pytest.approx(by_hand(word), abs=0.1) for word in "bf"]


def test_wrong_arguments_are_named(make_classifier: Make) -> None:
    model = RewardModel(make_classifier(), device="cpu")
    with pytest.raises(InputError, match="expected as many responses as prompts, 2; got 1"):
        model.scores(["a", "b"], ["a"])
    with pytest.raises(InputError, match="`responses` must be a list of texts; got one text"):
        model.scores(["a", "b"], "ab")
    with pytest.raises(ConfigError, match="`batch_size` must be at least 1; got 0"):
        RewardModel("anything", batch_size=0)


def test_what_cannot_be_loaded_is_named(make_classifier: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot load the model '.*nowhere': .+$") as caught:
        RewardModel(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"must have one output; got score\.weight of shape \(3, 32\)"):
        RewardModel(make_classifier(labels=3))
    with pytest.raises(ConfigError, match="must have a chat template; got none"):
        RewardModel(make_classifier(template=None))
    with pytest.raises(ConfigError, match=r"must hold a tokenizer|cannot load the tokenizer"):
        RewardModel(make_classifier(tokenizer=False))
    with pytest.raises(ConfigError, match="cannot load the model"):
        RewardModel(make_classifier(), device="nonsense")


def test_a_language_model_without_a_head_is_refused(make_classifier: Make, tmp_path: Path) -> None:
    from transformers import GlmConfig, GlmForCausalLM

    shutil.copytree(make_classifier(), tmp_path / "lm")
    config = GlmConfig.from_pretrained(tmp_path / "lm")
    GlmForCausalLM(config).save_pretrained(tmp_path / "lm")
    with pytest.raises(ConfigError, match=r"must be a sequence classifier; its files lack score\.weight"):
        RewardModel(tmp_path / "lm")


def test_nothing_is_unpickled_or_executed(make_classifier: Make, tmp_path: Path) -> None:
    pickled, coded = tmp_path / "pickled", tmp_path / "coded"
    shutil.copytree(make_classifier(), pickled)
    from safetensors.torch import load_file

    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"expected weights in \.safetensors"):
        RewardModel(pickled)
    shutil.copytree(make_classifier(), coded)
    config = json.loads((coded / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForSequenceClassification": "own.M"},
    }
    (coded / "config.json").write_text(json.dumps(config))
    (coded / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError, match="cannot load the model"):
        RewardModel(coded)
    assert not (tmp_path / "ran").exists()


def test_without_transformers_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"the model 'anything' needs `.*pip install .*\[text\].*`"):
        RewardModel("anything")
