"""Log-probabilities of logged responses, against one forward pass a row without padding."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from allmodes.audit.logs.backfill import Request
from allmodes.errors import ConfigError
from allmodes.text import likelihood
from allmodes.text.likelihood import paired_logprobs
from allmodes.text.response_logprobs import ResponseScorer
from allmodes.text.stand_ins.tiny import tiny_language_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Pair = tuple[list[int], list[int]]


@pytest.fixture
def tokenizer() -> Any:
    return tiny_tokenizer(["user assistant hello banana band"] * 9, vocabulary_size=280)


@pytest.fixture
def model(tokenizer: Any) -> Any:
    return tiny_language_model(tokenizer, seed=1, width=16, spread=0.3).eval()


@torch.no_grad()
def plain(model: Any, prompt: Sequence[int], row: Sequence[int]) -> float:
    """One row, nothing padded, all logits, in float64 from there on."""
    logits = model(input_ids=torch.tensor([[*prompt, *row]])).logits[0].double()
    steps = range(len(prompt) - 1, len(prompt) + len(row) - 1)
    return math.fsum(float(logits[at].log_softmax(0)[token]) for at, token in zip(steps, row, strict=True))


def random_pairs(count: int, *, seed: int, vocabulary: int = 280) -> list[Pair]:
    """Prompts of 1 to 20 tokens, responses of 0 to 30."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (), generator=generator))
        return torch.randint(vocabulary, (length,), generator=generator).tolist()

    return [(tokens(1, 20), tokens(0, 30)) for _ in range(count)]


def of_pairs(model: Any, pairs: Sequence[Pair], batch_size: int) -> list[float]:
    prompts, rows = zip(*pairs, strict=True)
    return paired_logprobs(model, prompts, rows, batch_size=batch_size).tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("bound", [None, 100])
def test_pairs_are_those_of_one_row_at_a_time(
    batch_size: int, bound: int | None, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound is not None:
        monkeypatch.setattr(likelihood, "_ON_CPU", (bound, bound * 50))
        monkeypatch.setattr(likelihood, "_AT_ONCE", 1000)
    pairs = random_pairs(60, seed=0)
    expected = [plain(model, *pair) for pair in pairs]
    assert of_pairs(model, pairs, batch_size) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bounds", [(300, 1 << 24, 64), (1 << 10, 50_000, 64), (1 << 20, 1 << 24, 5)])
def test_a_pass_stays_within_its_bounds(
    bounds: tuple[int, int, int], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tokens, logits and rows; each in turn is the one that binds."""
    sizes: list[tuple[int, int, int]] = []
    forward = model.forward

    def watched(*, logits_to_keep: int, **inputs: Any) -> Any:
        output = forward(logits_to_keep=logits_to_keep, **inputs)
        ids = inputs["input_ids"]
        sizes.append((ids.numel(), output.logits.numel(), len(ids)))
        return output

    monkeypatch.setattr(model, "forward", watched)
    monkeypatch.setattr(likelihood, "_ON_CPU", bounds[:2])
    pairs = random_pairs(80, seed=0)
    of_pairs(model, pairs, bounds[2])
    largest = [max(found) for found in zip(*sizes, strict=True)]
    shares = [found / bound for found, bound in zip(largest, bounds, strict=True)]
    assert 0.8 < max(shares) <= 1


def test_pairs_of_unlike_lengths_go_apart(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = model.forward

    def watched(*, input_ids: Any, **inputs: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(model, "forward", watched)
    of_pairs(model, [([1] * 4, [2] * length) for length in (30, 6, 7, 36, 8)], 64)
    assert shapes == [(3, 12), (2, 40)]


def test_models_that_cannot_leave_logits_out(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(20, seed=1)
    expected = of_pairs(model, pairs, 8)
    forward = model.forward

    def older(*, input_ids: Any, attention_mask: Any) -> Any:
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(model, "forward", older)
    assert of_pairs(model, pairs, 8) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "mamba"])
def test_other_architectures(kind: str) -> None:
    """Learned positions; scaled logits and windows of attention; no attention at all."""
    import transformers

    torch.manual_seed(0)
    settings: dict[str, Callable[[], Any]] = {
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3
            )
        ),
        "gemma2": lambda: transformers.Gemma2ForCausalLM(
            transformers.Gemma2Config(
                vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, head_dim=8,
                num_attention_heads=2, num_key_value_heads=1, sliding_window=8, initializer_range=0.3,
                final_logit_softcapping=3.0,
            )
        ),
        "mamba": lambda: transformers.MambaForCausalLM(
            transformers.MambaConfig(
                vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=2, initializer_range=0.3
            )
        ),
    }  # fmt: skip
    model = settings[kind]().eval()
    pairs = random_pairs(12, seed=2, vocabulary=50)
    expected = [plain(model, *pair) for pair in pairs]
    assert of_pairs(model, pairs, 5) == pytest.approx(expected, abs=1e-5)


def request(prompt: Any, response: str, *, truncated: bool | None = None) -> Request:
    return Request(prompt=prompt, response=response, truncated=truncated)


def prompt_ids(tokenizer: Any, content: str) -> list[int]:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
    )


def test_responses_with_and_without_their_end(model: Any, tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    short, long = "banana hello", "banana hello b"
    a, b = (tokenizer.encode(text, add_special_tokens=False) for text in (short, long))
    assert len(a) < len(b)
    scorer = ResponseScorer(model, tokenizer, prompts="auto", max_tokens=len(b))
    cases = [
        (request("hello", short), [*a, end]),
        (request("hello", long), b),
        (request("banana", long, truncated=False), [*b, end]),
        (request("hello", short, truncated=True), a),
        (request("hello", "", truncated=False), [end]),
        (request("hello", f"{short}<|im_end|>", truncated=False), [*a, end]),
    ]
    found = scorer([one for one, _ in cases])
    for one, (asked, row) in zip(found, cases, strict=True):
        assert one is not None
        assert one.num_tokens == len(row)
        expected = plain(model, prompt_ids(tokenizer, asked.prompt), row)
        assert one.logprob == pytest.approx(expected, abs=1e-5)
        assert not one.as_it_stands
    without_limit = ResponseScorer(model, tokenizer, prompts="auto", max_tokens=None)
    (whole,) = without_limit([request("hello", long)])
    assert whole is not None
    assert whole.num_tokens == len(b) + 1


def test_the_others_of_a_batch_change_nothing(model: Any, tokenizer: Any) -> None:
    scorer = ResponseScorer(model, tokenizer, prompts="decoded", max_tokens=None)
    texts = ["band", "hello hello hello hello band", "b", "banana " * 12]
    prompts = ["hello", "user\nhello\nassistant\n", None, [{"role": "user", "content": "band " * 9}]]
    requests = [request(prompt, text) for prompt in prompts for text in texts]
    together = scorer(requests)
    for asked, one in zip(requests, together, strict=True):
        (alone,) = scorer([asked])
        assert one is not None
        assert alone is not None
        assert one.logprob == pytest.approx(alone.logprob, abs=1e-5)
        assert one.as_it_stands == alone.as_it_stands == (asked.prompt == "hello")


def test_a_recovered_prompt_is_the_one_that_the_model_saw(model: Any, tokenizer: Any) -> None:
    row = [*tokenizer.encode("band", add_special_tokens=False), tokenizer.eos_token_id]
    saw = prompt_ids(tokenizer, "hello")
    logged = tokenizer.decode(saw, skip_special_tokens=True)
    (recovered,) = ResponseScorer(model, tokenizer, prompts="decoded", max_tokens=None)(
        [request(logged, "band")]
    )
    (as_text,) = ResponseScorer(model, tokenizer, prompts="text", max_tokens=None)([request(logged, "band")])
    assert recovered is not None
    assert as_text is not None
    assert recovered.logprob == pytest.approx(plain(model, saw, row), abs=1e-5)
    assert abs(recovered.logprob - as_text.logprob) > 0.1


def test_responses_without_a_result(model: Any, tokenizer: Any) -> None:
    scorer = ResponseScorer(model, tokenizer, prompts="auto", max_tokens=None)
    too_long = "banana " * model.config.max_position_embeddings
    prompts = [request(7, "band"), request([{}], "band")]
    assert scorer([request("hello", "", truncated=True), request("hello", too_long), *prompts]) == [None] * 4
    assert scorer([request("hello", "band")]) != [None]
    first = tokenizer.encode("band", add_special_tokens=False)[0]
    model.config.vocab_size = first
    assert scorer([request("hello", "band")]) == [None]
    model.config.vocab_size = len(tokenizer)
    tokenizer.unk_token = tokenizer.convert_ids_to_tokens(first)
    assert scorer([request("hello", "band")]) == [None]


def test_a_tokenizer_without_an_end(model: Any, tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(
        ConfigError, match=r"^`model`: expected a tokenizer with an end of text; got one without$"
    ):
        ResponseScorer(model, tokenizer, prompts="auto", max_tokens=None)
