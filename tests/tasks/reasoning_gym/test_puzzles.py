"""Puzzles of reasoning-gym: from a file of ours, and against its own verifiers where it is installed."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from allmodes.errors import ConfigError, InputError
from allmodes.tasks.reasoning_gym import Countdown, GraphColoring, puzzles, reasoning_gym_task

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "reasoning_gym.jsonl").read_text().splitlines()
]
COUNTDOWNS = [row for row in ROWS if row["metadata"]["source_dataset"] == "countdown"]
GRAPHS = [row for row in ROWS if row["metadata"]["source_dataset"] == "graph_color"]
PACKAGE = importlib.util.find_spec("reasoning_gym") is not None
needs_package = pytest.mark.skipif(not PACKAGE, reason="reasoning-gym is not installed")
SMALL = {
    "countdown": {"min_numbers": 3, "max_numbers": 4, "max_value": 20, "min_target": 10, "max_target": 60},
    "graph_color": {"min_num_vertices": 4, "max_num_vertices": 6, "edge_probability": 0.5},
}


def test_a_countdown_is_solved_by_its_own_answer_in_any_form() -> None:
    task = Countdown(COUNTDOWNS)
    assert task.prompts == tuple(row["question"] for row in COUNTDOWNS)
    for row in COUNTDOWNS:
        prompt, answer = row["question"], row["answer"]
        known = task.known_answers(prompt)
        assert known is not None
        assert task.parse(answer) in known
        forms = [answer, f" ({answer})\n", f"Let me see ... <answer>{answer}</answer>.", f"({answer})*1"]
        assert task.rewards([prompt] * 4, forms) == [1, 1, 1, 0]
        wrong = [
            f"{answer} = {row['metadata']['target']}",
            f"<answer>{answer}",
            str(row["metadata"]["target"]),
        ]
        assert task.rewards([prompt] * 3, wrong) == [0, 0, 0]


def test_an_answer_of_another_puzzle_is_none_of_this_one() -> None:
    task = Countdown(COUNTDOWNS)
    one, other = COUNTDOWNS[:2]
    assert task.rewards([one["question"], other["question"]], [one["answer"]] * 2) == [1, 0]
    assert task.parse("3 + 4") == task.parse("(4 + 3)") == "4 + 3"
    assert task.parse("3 - 4*5") == "-(4*5 - 3)" or task.parse("3 - 4*5") == "-(5*4 - 3)"
    with pytest.raises(InputError, match="expected a prompt of countdown; got 'else'"):
        task.rewards(["else"], ["1"])
    with pytest.raises(InputError, match="expected a prompt of countdown; got 'else'"):
        task.known_answers("else")


def test_a_graph_is_coloured_by_its_own_answer() -> None:
    task = GraphColoring(GRAPHS)
    for row in GRAPHS:
        coloring = row["metadata"]["possible_answer"]
        prompt, known = row["question"], task.known_answers(row["question"])
        assert known is not None
        assert task.parse(json.dumps(coloring)) in known
        turned = {vertex: color % 3 + 1 for vertex, color in reversed(coloring.items())}
        assert task.parse(json.dumps(turned)) in known  # other names of colours: another answer
        texts = [json.dumps(each) for each in (coloring, turned, {**coloring, "9": 1})]
        assert task.rewards([prompt] * 3, texts) == [1, 1, 0]
        assert len(known) % 3 == 0


@pytest.mark.parametrize("task", [Countdown(COUNTDOWNS), GraphColoring(GRAPHS)])
def test_known_answers_are_written_and_near_misses_are_worth_nothing(task: Any) -> None:
    for prompt in task.prompts:
        known = task.known_answers(prompt)
        written = [task.write(prompt, answer) for answer in known]
        assert [task.parse(text) for text in written] == list(known)
        assert set(task.rewards([prompt] * len(written), written)) == {1.0}
        near = task.near_misses(prompt)
        assert len(set(near)) == len(near) >= 2
        assert set(task.rewards([prompt] * len(near), near)) == {0.0}


def test_repeated_questions_are_left_out_and_test_prompts_are_others() -> None:
    task = Countdown([*COUNTDOWNS, COUNTDOWNS[0]])
    assert (len(task.prompts), task.duplicates, task.test_prompts) == (len(COUNTDOWNS), 1, ())
    first, *others = [row["question"] for row in COUNTDOWNS]
    task = Countdown([COUNTDOWNS[0], *COUNTDOWNS], test=len(COUNTDOWNS))
    assert (task.prompts, task.test_prompts, task.duplicates) == ((first,), tuple(others), 1)


def test_more_answers_than_are_enumerated_are_not_known() -> None:
    numbers = {"question": "q", "metadata": {"numbers": list(range(1, 8)), "target": 28}}
    assert Countdown([numbers]).known_answers("q") is None
    puzzle = {"vertices": list(range(8)), "edges": [], "color_options": [1, 2, 3]}
    task = GraphColoring([{"question": "q", "metadata": {"puzzle": puzzle}}])
    assert task.known_answers("q") is None  # 6561
    assert task.rewards(["q"], [json.dumps({str(vertex): 1 for vertex in range(8)})]) == [1]


def test_without_the_package_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmodes.extras.is_installed", lambda module: False)
    with pytest.raises(ConfigError, match=r"needs `.*\[reasoning-gym\]'`; reasoning_gym is not installed"):
        reasoning_gym_task("countdown", size=1, seed=0, settings={})


@needs_package
@pytest.mark.parametrize("dataset", ["countdown", "graph_color"])
def test_every_known_answer_has_score_1_of_the_package(dataset: str) -> None:
    """Ours alone are given to it: its verifier of countdown evaluates what it is given."""
    import reasoning_gym

    entries = reasoning_gym.create_dataset(dataset, size=12, seed=5, **SMALL[dataset])
    task = reasoning_gym_task(dataset, size=12, seed=5, settings=SMALL[dataset])
    assert set(task.prompts) == {entry["question"] for entry in entries}
    counts = Counter[float]()
    for entry in entries:
        known = task.known_answers(entry["question"])
        assert known
        counts.update(entries.score_answer(answer, entry) for answer in known)
        for response in task.near_misses(entry["question"]):
            assert entries.score_answer(response, entry) < 1
    assert set(counts) == {1.0}


@needs_package
def test_the_package_accepts_no_other_colouring() -> None:
    """All 3^n maps of small graphs, by its verifier and by ours."""
    from itertools import product

    import reasoning_gym

    settings = {"min_num_vertices": 4, "max_num_vertices": 5, "edge_probability": 0.5}
    entries = reasoning_gym.create_dataset("graph_color", size=3, seed=7, **settings)
    task = reasoning_gym_task("graph_color", size=3, seed=7, settings=settings)
    for entry in entries:
        vertices = entry["metadata"]["puzzle"]["vertices"]
        every = [
            json.dumps(dict(zip(map(str, vertices), colors, strict=True)))
            for colors in product((1, 2, 3), repeat=len(vertices))
        ]
        right = [text for text in every if entries.score_answer(text, entry) == 1.0]
        assert sorted(right) == sorted(task.known_answers(entry["question"]) or ())


@needs_package
@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("graph_color", {"num_colors": 1, "edge_probability": 0.9}, "that a greedy colouring in 1 colours"),
        ("graph_color", {"none": 1}, "settings of graph_color of reasoning-gym; .* 'none'"),
        ("graph_color", {"edge_probability": 2}, "edge_probability must be less than 1"),
        ("graph_color", {"max_num_vertices": 1000}, "max_num_vertices`: expected at most 100; got 1000"),
        ("graph_color", {"min_num_vertices": 0}, "min_num_vertices`: expected at least 1; got 0"),
        ("graph_color", {"max_num_vertices": "a"}, "settings of graph_color of reasoning-gym; "),
        ("countdown", {"max_numbers": 1000}, "max_numbers`: expected at most 15; got 1000"),
        ("countdown", {"min_target": 9000, "max_target": 9001, "max_numbers": 4}, "Failed to generate"),
        ("countdown", {"operators": ["%"]}, "invalid operator specified"),
    ],
)
def test_settings_that_cannot_work_are_one_line(dataset: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"`task.settings.*{message}") as caught:
        reasoning_gym_task(dataset, size=3, seed=0, settings=settings)
    assert "\n" not in str(caught.value)


def test_limits_are_as_the_documentation_says() -> None:
    assert (puzzles.MOST_KNOWN, puzzles.MOST_NUMBERS) == (2000, 6)
