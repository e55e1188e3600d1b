"""Prompts from a file, nothing skipped in silence; answers in one spelling; rewards and judges plugged in."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import ConfigError, InputError
from allmodes.metrics.text import partition
from allmodes.tasks import Creative

DATA = Path(__file__).parents[1] / "data" / "creative_prompts.jsonl"
NOVELTY_BENCH = Path(__file__).parents[3] / "shared" / "data" / "noveltybench_curated.jsonl"


class Fixed:
    """A reward model that gives what it was made with, whatever it is asked."""

    def __init__(self, *given: float | None) -> None:
        self.given = given
        self.asked: list[tuple[str, str]] = []

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[float | None, ...]:
        self.asked += zip(prompts, responses, strict=True)
        return self.given


class FirstLetter:
    """A judge for whom the first letter is all."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def same(self, first: str, second: str) -> bool:
        self.asked.append((first, second))
        return first[0] == second[0]


def creative(path: Path, text: str | bytes, **settings: int) -> Creative:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Creative(path, reward_model=Fixed(), **settings)


TASK = Creative(DATA, reward_model=Fixed())


def test_the_shipped_prompts() -> None:
    assert len(TASK.prompts) == 12
    assert TASK.prompts[8] == "What would a snail write on a postcard?"
    assert TASK.duplicates == 0
    assert TASK.name == "creative"


@pytest.mark.skipif(not NOVELTY_BENCH.exists(), reason="NoveltyBench's prompts are not beside the repository")
def test_novelty_benchs_prompts() -> None:
    task = Creative(NOVELTY_BENCH, reward_model=Fixed(), max_prompts=3)
    assert task.prompts[0] == "Tell me a story in five sentences about a girl and her dog."
    assert len(task.prompts) == 3
    assert len(Creative(NOVELTY_BENCH, reward_model=Fixed()).prompts) == 100


def test_what_is_read_of_a_file(tmp_path: Path) -> None:
    """A byte-order mark, Windows' line ends, blank lines, line separators inside a text, other keys."""
    rows = [
        '{"id": "x-0", "category": "C", "prompt": " a\u2028b ", "prompt_paraphrases": ["c"]}\r\n',
        "\r\n",
        '{"prompt": "\\u00e9\\ud83d\\ude00"}\n  \n{"prompt":\r"last"}',
    ]
    task = creative(tmp_path / "p.jsonl", "\ufeff" + "".join(rows))
    assert task.prompts == (" a\u2028b ", "é😀", "last")


def test_lines_may_end_with_cr_alone(tmp_path: Path) -> None:
    task = creative(tmp_path / "p.jsonl", '{"prompt": "a"}\r{"prompt": "b"}\r')
    assert task.prompts == ("a", "b")


def test_repeated_prompts_are_left_out_and_counted(tmp_path: Path) -> None:
    text = "".join(json.dumps({"prompt": p}) + "\n" for p in "abacba")
    task = creative(tmp_path / "p.jsonl", text, max_prompts=2)
    assert (task.prompts, task.duplicates) == (("a", "b"), 3)
    assert creative(tmp_path / "p.jsonl", text, max_prompts=9).prompts == ("a", "b", "c")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"', "expected a JSON object in UTF-8; Expecting ',' delimiter"),
        (b'{"prompt": "\xff"}', "expected a JSON object in UTF-8; 'utf-8' codec"),
        ("[" * 100_000, "expected a JSON object in UTF-8; "),
        ('["a"]', "expected a JSON object; got list"),
        ("null", "expected a JSON object; got NoneType"),
        ('{"text": "a", "id": 1}', r"expected the key `prompt`; got \['id', 'text'\]"),
        ('{"prompt": ""}', '`prompt` must be text that is not empty; got ""'),
        ('{"prompt": " \\n"}', "`prompt` must be text that is not empty"),
        ('{"prompt": null}', "`prompt` must be text that is not empty; got null"),
        ('{"prompt": 5}', "`prompt` must be text that is not empty; got 5"),
        ('{"prompt": "\\ud800"}', "`prompt` must be text; got half a surrogate pair"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str | bytes, message: str) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    good = b'{"prompt": "a"}\n'
    with pytest.raises(ConfigError, match=rf"^\S*p\.jsonl, line 3: {message}") as caught:
        creative(tmp_path / "p.jsonl", good + b"\n" + bad + b"\n" + good, max_prompts=1)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_or_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.jsonl: No such file"):
        Creative(tmp_path / "nowhere.jsonl", reward_model=Fixed())
    with pytest.raises(ConfigError, match="expected at least one line with `prompt`; got none"):
        creative(tmp_path / "p.jsonl", "\n \n")
    with pytest.raises(ConfigError, match="`max_prompts` must be at least 1; got 0"):
        creative(tmp_path / "p.jsonl", '{"prompt": "a"}', max_prompts=0)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Blue.", "blue"),
        ('  **"Blue,\n\tsky!"**  ', "blue, sky"),
        ("ＢＬＵＥ", "blue"),
        ("Straße", "strasse"),
        ("ﬁne…", "fine"),
        ("\u200bblue\ufeff", "blue"),
        ("¡Qué azul!", "qué azul"),
        ("-5 °C", "5 °c"),
        ("\u0399\u0308\u0301", "\u0390"),  # case folding alone would leave it in three parts
        ("😀", "😀"),
        ("$5", "$5"),
        ("?! …", None),
        ("\u200b \n", None),
        ("", None),
    ],
)
def test_answers_in_one_spelling(response: str, answer: str | None) -> None:
    assert TASK.parse(response) == answer


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_a_canonical_answer_is_its_own(response: str) -> None:
    answer = TASK.parse(response)
    if answer is not None:
        assert TASK.parse(answer) == answer
        assert TASK.parse(f" “{response}”!\n") == answer


def test_rewards_are_the_reward_models() -> None:
    model = Fixed(1.5, None, -2)
    task = Creative(DATA, reward_model=model)
    assert task.rewards(["a", "b", "a"], ["x", "", "z"]) == [1.5, None, -2]
    assert model.asked == [("a", "x"), ("b", ""), ("a", "z")]
    assert task.known_answers(task.prompts[0]) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1.0,), "2 scores; got 1"),
        ((1.0, 2.0, 3.0), "2 scores; got 3"),
        ((1.0, float("nan")), "finite scores or None; got nan at 1"),
        ((float("-inf"), 1.0), "finite scores or None; got -inf at 0"),
    ],
)
def test_a_reward_model_that_breaks_its_word_is_refused(given: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"the reward model must give {message}"):
        Creative(DATA, reward_model=Fixed(*given)).rewards(["a", "b"], ["x", "y"])


def test_what_is_the_same_without_a_judge() -> None:
    """By words up to five of them (2 shared of 4 are enough), by the whole beyond."""
    assert TASK.same("Blue!", "blue")
    assert TASK.same("the blue sky above", "The blue sea below")
    assert not TASK.same("the blue sky above", "a red sea above")
    assert TASK.same("one two three four five", "one two three 4 5")
    six = "one two three four five six"
    assert TASK.same(six, f"“{six.title()}.”")
    assert not TASK.same(six, "one two three four five seven")
    assert not TASK.same("one two three four five", six)
    assert TASK.same("?!", "")
    assert not TASK.same("", "blue")
    assert not TASK.same("blue", "…")
    assert partition(["Blue", "red", "blue.", "", "Red!", "!"], TASK.same) == [0, 1, 0, 2, 1, 2]


def test_what_is_the_same_is_the_judges_business_where_there_is_one() -> None:
    judge = FirstLetter()
    task = Creative(DATA, reward_model=Fixed(), judge=judge)
    assert task.same("blue", "black and white and all that is between")
    assert not task.same("Black and white and all that is between", "blue")
    assert judge.asked[1] == ("Black and white and all that is between", "blue")
    long = "a b c d e f"
    assert partition([f"x {long}", f"y {long}", f"x{long} g", "", f"yy {long}"], task.same) == [0, 1, 0, 2, 1]


def test_short_answers_are_compared_by_their_words_even_with_a_judge() -> None:
    judge = FirstLetter()
    task = Creative(DATA, reward_model=Fixed(), judge=judge)
    assert task.same("Blue", "blue")
    assert not task.same("blue", "black")
    assert not judge.asked


def test_semantic_diversity_is_of_the_embeddings() -> None:
    """Unit vectors at 0°, 90° and 180°: cosines 0, −1, 0, so the mean of 1 − cos is 4/3."""

    def embed(texts: list[str]) -> Tensor:
        return torch.tensor([{"a": [1.0, 0.0], "b": [0.0, 3.0], "c": [-2.0, 0.0]}[text] for text in texts])

    task = Creative(DATA, reward_model=Fixed(), embedder=embed)
    assert task.semantic_diversity(("a", "b", "c")) == pytest.approx(4 / 3, abs=1e-12)
    assert TASK.semantic_diversity(["a", "b"]) is None
