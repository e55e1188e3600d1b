"""Evaluation of a file of generations against the metrics themselves, and what it does with bad files."""

import csv
import gzip
import io
import itertools
import json
import math
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from allmodes.audit.logs.reading import Reading
from allmodes.errors import InputError, RunError
from allmodes.metrics import (
    answer_entropy,
    bootstrap_sem,
    ead,
    max_at_k,
    novelty_utility,
    partition,
    pass_at_k,
    same_short_answer,
    semantic_diversity,
    vendi_score,
    welch_test,
)
from allmodes.metrics.text import words
from allmodes.text.evaluation import measures
from allmodes.text.evaluation.evaluate import evaluate_file
from allmodes.text.evaluation.generations import samples_of
from allmodes.text.evaluation.measures import load_tokeniser, short_answer_classes, stand_in_embeddings

Row = dict[str, Any]
PROPERTY = settings(deadline=None, max_examples=150)
FILES = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def evaluate(path: Path, **changed: Any) -> tuple[dict[str, Any], str]:
    """The result, and what was printed."""
    printed = io.StringIO()
    arguments: dict[str, Any] = {
        "out": None,
        "ks": None,
        "tokenizer": None,
        "embedder": None,
        "vocabulary_size": 1000,
        "console": Console(file=printed, width=100),
    }
    result = evaluate_file(path, **(arguments | changed))
    return result, printed.getvalue()


def write(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def made_up(prompts: int, generations: int, *, seed: int, **fields: Any) -> list[Row]:
    """Rows with all that a row may have, in random order over the prompts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    rows = [
        {
            "prompt": f"p{prompt}" if prompt % 2 else prompt,
            "response": " ".join("abcdefgh"[draw(8)] for _ in range(1 + draw(9))),
            "reward": draw(5) / 4,
            "score": 1 + draw(10),
            "answer": [None, "red", "Red wine", "blue", "a very long answer of seven words"][draw(5)],
            "correct": draw(3) == 0,
            **fields,
        }
        for prompt in range(prompts)
        for _ in range(generations)
    ]
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def by_hand(rows: Sequence[Row], embed: Callable[[list[str]], torch.Tensor]) -> dict[str, list[float]]:
    """The metrics of rows without gaps, one value a prompt, each straight from its definition."""
    prompts: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        prompts[row["prompt"]].append(row)
    columns: dict[str, list[float]] = defaultdict(list)
    for own in prompts.values():
        responses, answers = [row["response"] for row in own], [row["answer"] for row in own]
        rewards, n = [row["reward"] for row in own], len(own)
        columns["reward"].append(sum(rewards) / n)
        columns["ead"].append(ead([r.split() for r in responses], vocabulary_size=1000))
        embeddings = embed(responses)
        columns["semantic_diversity"].append(semantic_diversity(embeddings))
        unit = embeddings / embeddings.norm(dim=1, keepdim=True)
        columns["vendi_score"].append(vendi_score(unit @ unit.T))
        # an invalid answer is like nothing, and worth nothing; others are exact
        classes = [a if a is not None else f"!{i}" for i, a in enumerate(answers)]
        columns["distinct_classes"].append(len({c for c, a in zip(classes, answers, strict=True) if a}))
        scores = [row["score"] if row["answer"] else 0 for row in own]
        columns["utility"].append(novelty_utility(classes, scores))
        columns["valid_answers"].append(sum(a is not None for a in answers) / n)
        columns["answer_entropy"].append(answer_entropy(answers))
        for k in (1, 2, 4, 8):
            if k <= n:
                columns[f"pass@{k}"].append(pass_at_k(n, sum(row["correct"] for row in own), k=k))
                columns[f"max@{k}"].append(max_at_k(rewards, k=k))
    return {name: [v for v in values if not math.isnan(v)] for name, values in columns.items()}


def alike(one: str, other: str) -> bool:
    if max(len(one.split()), len(other.split())) <= 5:
        return same_short_answer(one, other)
    return one.lower().split() == other.lower().split()


# --- numbers --------------------------------------------------------------------------------------------


def test_every_number_against_the_metrics_themselves(tmp_path: Path) -> None:
    """Two methods, shuffled over the file; means, errors over prompts, counts and Welch's tests."""
    one, other = made_up(12, 8, seed=0, method="one"), made_up(9, 6, seed=1, method="other")
    mixed = [row for pair in itertools.zip_longest(one, other) for row in pair if row is not None]
    result, _ = evaluate(write(tmp_path / "g.jsonl", mixed), embedder="stand-in")
    expected = {"one": by_hand(one, stand_in_embeddings), "other": by_hand(other, stand_in_embeddings)}
    assert [method["method"] for method in result["methods"]] == ["one", "other"]
    for method in result["methods"]:
        columns = expected[method["method"]]
        assert set(method["metrics"]) == set(columns)
        for name, cell in method["metrics"].items():
            assert cell["prompts"] == len(columns[name])
            assert cell["mean"] == pytest.approx(sum(columns[name]) / len(columns[name]), rel=1e-12), name
            assert cell["sem"] == pytest.approx(bootstrap_sem(columns[name]), rel=1e-9, abs=1e-15), name
    assert result["methods"][0]["prompts"] == 12
    assert result["methods"][0]["generations"] == 96
    assert result["methods"][1]["most_generations_of_a_prompt"] == 6
    assert (result["lines"], result["generations"], result["bad_lines"]) == (150, 150, {})
    assert result["skipped"] == {}
    shared = set(expected["one"]) & set(expected["other"])
    assert {row["metric"] for row in result["comparisons"]} == shared
    assert "pass@8" not in shared
    for row in result["comparisons"]:
        sides = expected["one"][row["metric"]], expected["other"][row["metric"]]
        p = welch_test(*sides)
        assert (row["first"], row["second"]) == ("one", "other")
        assert row["p_first_greater"] == pytest.approx(p, rel=1e-6)
        assert row["p_second_greater"] == pytest.approx(1 - p, rel=1e-6)


@FILES
@given(data=st.data())
def test_the_order_of_prompts_does_not_matter(data: st.DataObject, tmp_path: Path) -> None:
    """Only the order within a prompt does, to utility and classes."""
    rows = made_up(4, 3, seed=data.draw(st.integers(0, 100)))
    queues: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        queues[row["prompt"]].append(row)
    turns = data.draw(st.permutations([row["prompt"] for row in rows]))
    heads = {prompt: iter(own) for prompt, own in queues.items()}
    before, _ = evaluate(write(tmp_path / "g.jsonl", rows))
    after, _ = evaluate(write(tmp_path / "g.jsonl", [next(heads[prompt]) for prompt in turns]))
    for name, cell in before["methods"][0]["metrics"].items():
        again = after["methods"][0]["metrics"][name]
        assert again["mean"] == pytest.approx(cell["mean"], rel=1e-12)
        assert again["prompts"] == cell["prompts"]


def test_what_a_row_lacks_is_left_out_of_that_metric_alone(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": 1, "response": "x y", "reward": 1, "correct": True},
        {"prompt": 1, "response": "x y", "reward": None, "correct": None},
        {"prompt": 1, "response": "z", "reward": 0.5},
        {"prompt": 2, "response": "", "correct": False},
        {"prompt": "1", "response": "other"},
    ]
    result, printed = evaluate(write(tmp_path / "g.jsonl", rows))
    (method,) = result["methods"]
    metrics = method["metrics"]
    assert method["prompts"] == 3  # 1 and "1" are two prompts
    assert metrics["reward"] == {"mean": 0.75, "sem": None, "prompts": 1}
    assert metrics["pass@1"]["mean"] == 0.5
    assert metrics["max@2"]["mean"] == 1
    assert "pass@2" not in metrics
    assert metrics["ead"]["prompts"] == 2  # an empty response has no tokens
    assert metrics["distinct_classes"]["mean"] == pytest.approx((2 + 1 + 1) / 3)
    assert set(result["skipped"]) == {
        "semantic_diversity",
        "vendi_score",
        "utility",
        "valid_answers",
        "answer_entropy",
    }
    assert "utility (needs `score`)" in " ".join(printed.split())
    assert "Prompts have 1 to 3 generations" in printed


@pytest.mark.parametrize("ks", [(64,), (1, 64)])
def test_a_k_that_no_prompt_has_samples_for_is_named(ks: tuple[int, ...], tmp_path: Path) -> None:
    result, printed = evaluate(write(tmp_path / "g.jsonl", made_up(3, 16, seed=4)), ks=ks)
    assert [row["metric"] for row in result["not_computed"]] == ["pass@64", "max@64"]
    words_ = " ".join(printed.split())
    for name in ("pass@64", "max@64"):
        assert f"{name} not computed" in words_
        assert f"not computed: {name}: needs 64 generations of a prompt with" in words_
    assert "a prompt has at most 16" in words_
    assert evaluate(tmp_path / "g.jsonl")[0]["not_computed"] == []


def test_a_k_that_one_method_has_samples_for(tmp_path: Path) -> None:
    rows = made_up(3, 16, seed=4, method="many") + made_up(3, 4, seed=5, method="few")
    result, printed = evaluate(write(tmp_path / "g.jsonl", rows), ks=(8,))
    assert {(row["metric"], row["method"]) for row in result["not_computed"]} == {
        ("pass@8", "few"), ("max@8", "few"),
    }  # fmt: skip
    assert "not computed: pass@8, few: needs 8 generations" in " ".join(printed.split())


def test_ks_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", made_up(3, 6, seed=4))
    result, _ = evaluate(path, ks=(5, 3, 3, 7))
    assert [row["metric"] for row in result["not_computed"]] == ["pass@7", "max@7"]
    names = [name for name in result["methods"][0]["metrics"] if "@" in name]
    assert names == ["pass@3", "pass@5", "max@3", "max@5"]
    for ks in ((), (0,), (2, -1)):
        with pytest.raises(InputError, match="`ks` must be whole numbers from 1"):
            evaluate(path, ks=ks)
    with pytest.raises(InputError, match="`vocabulary_size` must be at least 2; got 1"):
        evaluate(path, vocabulary_size=1)


WORDS = st.lists(st.sampled_from(["a", "A", "b", "c", "d", "e", "f"]), max_size=7).map(" ".join)


@PROPERTY
@given(answers=st.lists(WORDS, max_size=30))
def test_the_classes_are_those_of_noveltybench_pair_by_pair(answers: list[str]) -> None:
    assert short_answer_classes(answers) == partition(answers, alike)


def classes_of(answers: list[Any], tmp_path: Path, *, column: str = "answer") -> float:
    rows = [{"prompt": "q", "response": f"text {i}", column: a} for i, a in enumerate(answers)]
    result, _ = evaluate(write(tmp_path / "g.jsonl", rows))
    return result["methods"][0]["metrics"]["distinct_classes"]["mean"]


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        (["x = 1", "x = 2", "x = 3"], 3),
        (["New York", "York", "new york"], 3),
        (["1/2", "1 / 2", "1/2"], 2),
        (["a b c", "c b a"], 2),
        (["3", "3", "03", None], 2),
        (["the same", "the same"], 1),
    ],
)
def test_answers_are_exact_and_free_text_is_not(answers: list[Any], count: int, tmp_path: Path) -> None:
    assert classes_of(answers, tmp_path) == count


def test_free_text_has_noveltybenchs_rule(tmp_path: Path) -> None:
    assert classes_of(["New York", "York", "Lyon"], tmp_path, column="response") == 2
    assert classes_of(["ha ha ha", "ha no"], tmp_path, column="response") == 2
    assert classes_of(["ha ha ha", "Ha ha  ha"], tmp_path, column="response") == 1


def test_words_are_runs_of_letters_and_single_marks() -> None:
    assert words("It's 3.5°, é_1\n(ok)") == ["It", "'", "s", "3", ".", "5", "°", ",", "é_1", "(", "ok", ")"]


# --- embedders and tokenizers ---------------------------------------------------------------------------


def test_the_stand_in_sees_spellings(tmp_path: Path) -> None:
    texts = ["", "a", "The cat sat.", "the CAT sat.", "the cat sat!", "12345", "\U0010ffff" * 5]
    embeddings = stand_in_embeddings(texts)
    assert embeddings.shape == (7, 1024)
    assert embeddings.sum(1).tolist() == [len(text) + 1 for text in texts]  # windows of three with the ends
    assert torch.equal(embeddings[2], embeddings[3])
    near, far = semantic_diversity(embeddings[[2, 4]]), semantic_diversity(embeddings[[2, 5]])
    assert 0 < near < 0.5 < far
    _, printed = evaluate(write(tmp_path / "g.jsonl", made_up(2, 2, seed=0)), embedder="stand-in")
    assert "The embedder is a stand-in" in printed


def test_an_embedder_that_is_not_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures.importlib.util, "find_spec", lambda name: None)
    path = write(tmp_path / "g.jsonl", made_up(2, 2, seed=0))
    with pytest.raises(InputError, match="for 'some/model'; sentence-transformers is not installed"):
        evaluate(path, embedder="some/model")
    assert evaluate(path)[0]["skipped"]["vendi_score"] == "needs an embedder"


def test_a_sentence_transformers_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SentenceTransformer:
        def __init__(self, name: str, *, trust_remote_code: bool, model_kwargs: dict[str, Any]) -> None:
            assert not trust_remote_code
            assert model_kwargs == {"use_safetensors": True}
            if name != "some/model":
                raise OSError(f"{name} is no model")

        def encode(
            self, texts: list[str], *, convert_to_tensor: bool, show_progress_bar: bool
        ) -> torch.Tensor:
            assert convert_to_tensor
            assert not show_progress_bar
            return torch.tensor([[float(len(text)), 1.0] for text in texts])

    library = ModuleType("sentence_transformers")
    library.__spec__ = ModuleSpec("sentence_transformers", None)
    library.__dict__["SentenceTransformer"] = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    rows = made_up(5, 4, seed=3)
    path = write(tmp_path / "g.jsonl", rows)
    result, _ = evaluate(path, embedder="some/model")
    expected = by_hand(rows, lambda texts: torch.tensor([[len(text), 1.0] for text in texts]).double())
    for name in ("semantic_diversity", "vendi_score"):
        mean = result["methods"][0]["metrics"][name]["mean"]
        assert mean == pytest.approx(sum(expected[name]) / 5, rel=1e-6)
    with pytest.raises(InputError, match="cannot load the embedder 'other': other is no model"):
        evaluate(path, embedder="other")


def test_a_tokenizer_needs_its_package_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "g.jsonl", made_up(2, 2, seed=0))
    with monkeypatch.context() as without:
        without.setattr(measures.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError, match="tokenizers is not installed"):
            evaluate(path, tokenizer=tmp_path)
    pytest.importorskip("tokenizers")
    with pytest.raises(InputError, match=r"expected a tokenizer\.json of Hugging Face's"):
        evaluate(path, tokenizer=tmp_path)


def test_a_tokenizer_of_hugging_face(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2, "[CLS]": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 3)]
    )
    made.enable_truncation(2)
    made.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert list(load_tokeniser(path)("a b c a")) == [1, 2, 0, 1]
    rows = [{"prompt": 0, "response": "a b c d"}]  # c and d are both unknown
    result, _ = evaluate(write(tmp_path / "g.jsonl", rows), tokenizer=tmp_path)
    expected = ead([[1, 2, 0, 0]], vocabulary_size=1000)
    assert result["methods"][0]["metrics"]["ead"]["mean"] == pytest.approx(expected, rel=1e-12)


# --- files ----------------------------------------------------------------------------------------------

GOOD = '{"prompt": "p", "response": "r"}'


def test_bad_lines_are_counted_by_kind_with_the_first_of_each(tmp_path: Path) -> None:
    bad = [
        ("not JSON", b"{'prompt': 1}"),
        ("not JSON", b"[" * 100_000),
        ("not JSON", b'{"prompt": ' + b"9" * 5000 + b"}"),
        ("not an object", b"[1, 2]"),
        ("not UTF-8", b'{"prompt": "\xff"}'),
        ("`prompt` is NaN", b'{"prompt": NaN, "response": "r"}'),
        (
            "`prompt` is neither a text nor a number",
            b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b', "response": "r"}',
        ),
        ("`response` is missing", b'{"prompt": 1}'),
        ("`response` is neither a text nor a conversation", b'{"prompt": 1, "response": 3}'),
        ("`reward` is NaN or infinite", b'{"prompt": 1, "response": "r", "reward": NaN}'),
        ("`reward` is NaN or infinite", b'{"prompt": 1, "response": "r", "reward": -Infinity}'),
        (
            "`reward` is NaN or infinite",
            b'{"prompt": 1, "response": "r", "reward": 1' + b"0" * 400 + b"}",
        ),
        ("`reward` is not a number", b'{"prompt": 1, "response": "r", "reward": "high"}'),
        ("`score` is not a number", b'{"prompt": 1, "response": "r", "score": []}'),
        ("`correct` is neither true nor false", b'{"prompt": 1, "response": "r", "correct": 0.5}'),
        ("`prompt` is missing", b'{"response": "r"}'),
        ("`prompt` is missing", b'{"prompt": null, "response": "r"}'),
    ]
    lines = [GOOD.encode(), b"", *[line for _, line in bad], b"  ", GOOD.encode()]
    path = tmp_path / "g.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\n")
    result, printed = evaluate(path)
    expected: dict[str, dict[str, int]] = {}
    for number, (kind, _) in enumerate(bad, start=3):
        expected.setdefault(kind, {"count": 0, "first_line": number})["count"] += 1
    assert result["bad_lines"] == expected
    assert result["generations"] == 2
    assert result["lines"] == len(bad) + 2
    assert f"{len(bad)} samples left out: not JSON: 3, first at line 3; not an object: 1, first" in printed


def test_what_used_to_be_left_out_is_read(tmp_path: Path) -> None:
    """Truth values as rewards, whole numbers as answers and methods, 1.0 for true, and messages."""
    rows: list[Row] = [
        {"prompt": [{"role": "user", "content": "q"}], "response": "a", "reward": True, "outcome": 4,
         "correct": 1.0, "method": 1},
        {"prompt": "q", "completion": [{"role": "assistant", "content": "b"}], "reward": False, "outcome": 5,
         "correct": 0, "method": 1},
    ]  # fmt: skip
    result, _ = evaluate(write(tmp_path / "g.jsonl", rows[:1]))
    assert (result["generations"], result["bad_lines"]) == (1, {})
    rows[1]["response"] = rows[1].pop("completion")
    result, _ = evaluate(write(tmp_path / "g.jsonl", rows))
    (method,) = result["methods"]
    assert (method["method"], method["prompts"], method["generations"]) == ("1", 1, 2)
    means = {name: cell["mean"] for name, cell in method["metrics"].items()}
    assert (means["reward"], means["pass@1"], means["distinct_classes"]) == (0.5, 0.5, 2)
    assert means["answer_entropy"] == pytest.approx(math.log(2))


NOVELTYBENCH: list[Row] = [
    {"id": "curated-1", "prompt": "Name a colour.", "model": "some/model",
     "generations": ["red", "blue", "Red.", "green"], "partition": [0, 1, 0, 2], "distinct": 3,
     "generation_scores": [9, 6, 0, 7], "partition_scores": [9, 6, 7], "utility": 6.70},
    {"id": "curated-2", "prompt": "Name a tree.", "model": "some/model",
     "generations": ["oak", "oak tree", "an oak", "elm"], "partition": [0, 0, 0, 1], "distinct": 2,
     "generation_scores": [8, 0, 0, 5], "partition_scores": [8, 5], "utility": 3.58},
]  # fmt: skip


def test_noveltybenchs_own_scores_come_out_again(tmp_path: Path) -> None:
    """Distinct classes and utility as its files have them, Σ .8^i u_i / Σ .8^i."""
    weights = [1, 0.8, 0.64, 0.512]
    utilities = [9 + 0.8 * 6 + 0.512 * 7, 8 + 0.512 * 5]
    result, _ = evaluate(write(tmp_path / "scores.jsonl", NOVELTYBENCH))
    (method,) = result["methods"]
    assert (method["method"], method["generations"], method["prompts"]) == ("some/model", 8, 2)
    assert method["metrics"]["distinct_classes"]["mean"] == 2.5
    expected = sum(utilities) / sum(weights) / 2
    assert method["metrics"]["utility"]["mean"] == pytest.approx(expected, rel=1e-12)
    assert method["metrics"]["reward"]["mean"] == pytest.approx((31 / 4 + 29 / 4) / 2)
    bare = [{key: row[key] for key in ("prompt", "generations")} for row in NOVELTYBENCH]
    result, _ = evaluate(write(tmp_path / "generations.jsonl", bare))
    assert result["generations"] == 8


def test_every_container_gives_the_same_figures(tmp_path: Path) -> None:
    rows = [{**row, "prompt": str(row["prompt"])} for row in made_up(4, 5, seed=2)]
    expected, _ = evaluate(write(tmp_path / "g.jsonl", rows))
    (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress((tmp_path / "g.jsonl").read_bytes()))
    (tmp_path / "g.json").write_text(json.dumps(rows))
    table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    (tmp_path / "g.table.json").write_text(json.dumps(table))
    with open(tmp_path / "g.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["", *rows[0]])
        writer.writeheader()
        writer.writerows({"": number, **row} for number, row in enumerate(rows))
    for name in ("g.jsonl.gz", "g.json", "g.table.json", "g.csv"):
        result, _ = evaluate(tmp_path / name)
        assert result["methods"] == expected["methods"], name
        assert result["bad_lines"] == {}


def test_columns_and_patterns_by_flags(tmp_path: Path) -> None:
    rows = [{"q": "p", "text": f"so it is {i}", "points": i} for i in (1, 2, 2)]
    path = write(tmp_path / "g.jsonl", rows)
    columns = {"prompt": "q", "response": "text", "reward": "points"}
    result, printed = evaluate(path, reading=Reading(columns=columns, outcome_pattern=r"is (\d)"))
    assert "reward = points." in " ".join(printed.split())
    metrics = result["methods"][0]["metrics"]
    assert (metrics["distinct_classes"]["mean"], metrics["max@2"]["mean"]) == (2, 2)
    result, _ = evaluate(path, reading=Reading(columns={"response": "text"}))
    assert "reward" not in result["methods"][0]["metrics"]  # not added up, and not needed
    assert any("columns of numbers: `points`" in remark for remark in result["remarks"])


def test_the_datasets_answer_is_not_the_models(tmp_path: Path) -> None:
    rows = [
        {"prompt": "6*7?", "response": str(i), "answer": "42", "reward": float(i == 42)}
        for i in (40, 41, 42, 43)
    ]
    result, printed = evaluate(write(tmp_path / "g.jsonl", rows))
    metrics = result["methods"][0]["metrics"]
    assert "answer_entropy" not in metrics
    assert metrics["distinct_classes"]["mean"] == 4
    assert "`answer` is the same for all samples of each prompt" in " ".join(printed.split())


def test_a_line_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    for end in range(1, len(GOOD)):
        path.write_text(f"{GOOD}\n{GOOD}\n{GOOD[:end]}")
        result, _ = evaluate(path)
        assert result["bad_lines"] == {"cut off at the end of the file": {"count": 1, "first_line": 3}}
        assert result["generations"] == 2
    path.write_text(f"{GOOD}\n{GOOD}")  # only the line's end is missing
    assert evaluate(path)[0]["bad_lines"] == {}
    path.write_bytes(GOOD.encode() + b'\n{"prompt": "\xc3')  # within a character
    assert list(evaluate(path)[0]["bad_lines"]) == ["cut off at the end of the file"]


def test_files_without_a_good_line(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    for empty in ("", "\n \n"):
        path.write_text(empty)
        with pytest.raises(InputError, match="expected at least one sample; got an empty log"):
            evaluate(path)
    path.write_text("x\n\n{}\ny\n")
    with pytest.raises(InputError) as caught:
        evaluate(path)
    assert str(caught.value) == (
        "expected samples; got none that can be used: not JSON: 2, first at line 1; "
        "`response` is missing: 1, first at line 3"
    )
    with pytest.raises(InputError, match=r"none\.jsonl does not exist"):
        evaluate(tmp_path / "none.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected files of one of the kinds"):
        evaluate(tmp_path / "empty")


def test_too_many_methods(tmp_path: Path) -> None:
    rows = [{"prompt": 1, "response": "r", "method": f"m{i}"} for i in range(101)]
    assert len(evaluate(write(tmp_path / "g.jsonl", rows[:100]))[0]["methods"]) == 100
    with pytest.raises(InputError, match="expected at most 100 methods; got another, 'm100'"):
        evaluate(write(tmp_path / "g.jsonl", rows))


def test_memory_holds_one_prompt_and_offsets(tmp_path: Path) -> None:
    """4,000 lines of 2 KB, prompts taking turns: 8 MB, of which a prompt is 40 KB."""
    path = tmp_path / "g.jsonl"
    with path.open("w") as file:
        for i in range(4000):
            file.write(json.dumps({"prompt": f"p{i % 200}" * 100, "response": f"{i}" + "x" * 1600}) + "\n")
    size = path.stat().st_size
    read: list[int] = []
    tracemalloc.start()
    with samples_of(path, Reading(), advance=read.append) as samples:
        assert sum(read) == size  # what the progress bars count
        for rows in samples.prompts(None, advance=read.append):
            assert len(rows) == 20
            del rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(read) == size + samples.index.good_bytes
    assert peak < size / 8


def test_names_cannot_paint_the_terminal(tmp_path: Path) -> None:
    names = ["[bold red]x[/]", "\x1b[31mred\nline", "\ud800", ""]
    rows = [
        {"prompt": i, "response": "\ud800 \x1b", "reward": i, "method": name}
        for name in names
        for i in range(3)
    ]
    result, printed = evaluate(write(tmp_path / "g.jsonl", rows), out=tmp_path / "out")
    assert "[bold red]x[/]" in printed
    assert "\x1b" not in printed
    assert "?[31mred line" in printed
    assert "(empty)" in printed
    read = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert read == json.loads(json.dumps(result, allow_nan=False))
    assert [method["method"] for method in read["methods"]] == [*names[:2], "?", ""]


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", made_up(2, 2, seed=0))
    with pytest.raises(RunError, match="cannot write"):
        evaluate(path, out=path)


# --- methods, p-values, extremes ------------------------------------------------------------------------


def steady(method: str, level: float, *, prompts: int = 12) -> list[Row]:
    """A reward for each prompt that hardly varies around a level."""
    return [
        {"prompt": i, "response": f"r{i}", "reward": level + 1e-9 * (i % 3), "method": method}
        for i in range(prompts)
    ]


def reward_rows(printed: str) -> dict[str, list[str]]:
    """Cells of the table's rows of `reward`, by method; a name without spaces."""
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith("reward ")]
    return {row[1]: row[2:] for row in rows}


def test_a_baseline_by_name(tmp_path: Path) -> None:
    rows = steady("first", 0.5) + steady("second", 0.7) + steady("third", 0.6)
    path = write(tmp_path / "g.jsonl", rows)
    result, printed = evaluate(path)
    assert result["settings"]["baseline"] == "first"
    assert "greater than that of first, the baseline" in " ".join(printed.split())
    assert len(reward_rows(printed)["first"]) == 3  # no p of its own
    result, printed = evaluate(path, baseline="third")
    assert result["settings"]["baseline"] == "third"
    assert "greater than that of third, the baseline" in " ".join(printed.split())
    cells = reward_rows(printed)
    assert len(cells["third"]) == 3
    assert float(cells["first"][-1]) == 1
    assert cells["second"][-2:] == ["<", "1e-16"]
    with pytest.raises(InputError, match="first, second, third; got 'fourth'"):
        evaluate(path, baseline="fourth")


def test_no_p_value_is_zero(tmp_path: Path) -> None:
    constant = [{**row, "reward": 1.0} for row in steady("constant", 1.0)]
    _, printed = evaluate(write(tmp_path / "g.jsonl", steady("a", 0.5) + steady("b", 0.9) + constant))
    for cells in list(reward_rows(printed).values())[1:]:
        assert cells[-2:] == ["<", "1e-16"]


def test_names_of_many_methods_stay_different(tmp_path: Path) -> None:
    names = [
        f"a-very-long-name-of-a-method-{i:02}-with-the-same-end-and-the-same-beginning" for i in range(24)
    ]
    rows = [row for name in names for row in steady(name, 0.5, prompts=2)]
    path = write(tmp_path / "g.jsonl", rows)
    for width in (80, 200):  # at 80 the table folds them
        evaluate(path, console=Console(file=(out := io.StringIO()), width=width))
        printed = out.getvalue()
        shown = {line.split(":")[0] for line in printed.splitlines() if ": 2 generations" in line}
        assert len(shown) == len(names)
        assert width == 80 or set(reward_rows(printed)) == shown
    short = [f"{method}-{temperature}" for method in ("vanilla", "mara", "ips") for temperature in range(8)]
    rows = [row for name in short for row in steady(name, 0.5, prompts=2)]
    evaluate(write(path, rows), console=Console(file=(out := io.StringIO()), width=80))
    assert set(reward_rows(out.getvalue())) == set(short)


def test_methods_of_one_name_on_the_screen_have_numbers(tmp_path: Path) -> None:
    _, printed = evaluate(write(tmp_path / "g.jsonl", steady("a b", 0.5) + steady("a  b", 0.6)))
    assert "a b [1]" in printed
    assert "a b [2]" in printed


@pytest.mark.parametrize("size", [1e155, 1e200, 1.7e308])
def test_huge_rewards_have_right_means_and_errors(size: float, tmp_path: Path) -> None:
    shares = [1.0, 0.5, 0.25, 0.75, -0.5, 1.0]
    rows = [
        {"prompt": i // 2, "response": str(i), "reward": share, "score": share, "method": method}
        for method, sign in (("a", 1), ("b", -1))
        for i, share in enumerate(sign * share for share in shares)
    ]
    small, _ = evaluate(write(tmp_path / "small.jsonl", rows))
    large, printed = evaluate(
        write(
            tmp_path / "large.jsonl",
            [{**row, "reward": row["reward"] * size, "score": row["score"] * size} for row in rows],
        )
    )
    for one, other in zip(small["methods"], large["methods"], strict=True):
        for name in ("reward", "utility", "max@2"):
            cell, huge = one["metrics"][name], other["metrics"][name]
            assert huge["mean"] == pytest.approx(cell["mean"] * size, rel=1e-12)
            assert huge["sem"] == pytest.approx(cell["sem"] * size, rel=1e-9)
    p = [
        next(c["p_second_greater"] for c in result["comparisons"] if c["metric"] == "reward")
        for result in (small, large)
    ]
    assert p[0] == pytest.approx(p[1])
    assert "nan" not in printed


def test_infinite_rewards_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    lines = [json.dumps(row) for row in steady("a", 0.5)]
    lines += [
        f'{{"prompt": 1, "response": "r", "reward": {text}}}' for text in ("Infinity", "-Infinity", "1e999")
    ]
    path.write_text("\n".join(lines))
    result, printed = evaluate(path)
    assert sum(seen["count"] for seen in result["bad_lines"].values()) == 3
    assert "3 samples left out" in printed
