"""Recipes with a user's own task or reward function: the shipped examples, changed code, code that fails."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("matplotlib")

from rich.console import Console

from allmodes.errors import InputError, RunError
from allmodes.tasks.reasoning_gym import Countdown
from allmodes.text.experiment import new_training, resume_training
from allmodes.text.stand_ins.task_stand_in import make_task_stand_in

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Make = Callable[..., Any]
Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
DATA = Path(__file__).parents[1] / "data"
EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = ["--steps", "2", "--group_size", "6", "--samples", "20", "--method", "mara", "--threads", "1"]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No progress is shown, and a user's modules are forgotten afterwards."""
    monkeypatch.setattr("allmodes.reports.progress.console", Console(quiet=True))
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not (getattr(sys.modules[name], "__file__", None) or "site-packages").count("site-packages"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "files", "answers"),
    [
        ("own_task", ["task.module/own_task.py"], {"2", "3", "5", "7", "11", "13", "17", "19"}),
        (
            "own_reward",
            ["task.function/own_reward.py", "task.outcome/own_reward.py", "task.prompts"],
            {"1", "2", "3"},
        ),
    ],
)
def test_the_examples_run_from_another_folder(
    name: str,
    files: list[str],
    answers: set[str],
    command: Command,
    one_two_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for suffix in (".py", ".toml"):
        assert len((EXAMPLES / f"{name}{suffix}").read_text().splitlines()) < 40
    made = partial(make_task_stand_in, steps=60, least=0)
    monkeypatch.setattr("allmodes.text.experiment.make_task_stand_in", made)
    model = ["--model", str(one_two_model)] if name == "own_reward" else []
    code, out, err = command("run", EXAMPLES / f"{name}.toml", *model, *SHORT, "--out", tmp_path / "run")
    assert code == 0, err
    assert "MARA" in out
    inputs = json.loads((tmp_path / "run" / "provenance.json").read_text())["inputs"]
    assert [key for key in sorted(inputs) if key.startswith("task")] == files
    rows = [json.loads(line) for line in (tmp_path / "run/base/generations.jsonl").read_text().splitlines()]
    assert {row["answer"] for row in rows} & answers
    assert all(row["reward"] == float(row["answer"] in answers) for row in rows)
    assert f"{name}:" in (tmp_path / "run" / "report.html").read_text()


def test_a_reward_function_may_give_the_answer_with_the_reward(
    make_text_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "scored_by_object.py").write_text(
        "def score(prompts, responses):\n"
        "    return [{'reward': 0.5, 'first': text[:1] or None} for text in responses]\n"
    )
    task = {
        "kind": "reward", "prompts": "p.jsonl", "function": "scored_by_object:score", "outcome": "first"
    }  # fmt: skip
    new_training(make_text_config(task=task, steps=1), tmp_path / "run")
    inputs = json.loads((tmp_path / "run" / "provenance.json").read_text())["inputs"]
    assert {key for key in inputs if key.startswith("task")} == {
        "task.function/scored_by_object.py", "task.prompts"
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run/base/generations.jsonl").read_text().splitlines()]
    assert all(row["answer"] == (row["response"][:1] or None) for row in rows)
    task["outcome"] = "second"
    with pytest.raises(InputError, match="expected an object with `reward` and `second`"):
        new_training(make_text_config(task=task, steps=1), tmp_path / "other")


def test_code_that_has_changed_is_another_run(
    make_text_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "own_task.py", tmp_path / "changing_task.py")
    task = {"kind": "python", "module": "changing_task:Primes", "settings": {"below": 9}}
    new_training(make_text_config(task=task, steps=1), tmp_path / "run")
    resume_training(tmp_path / "run")
    with open(tmp_path / "changing_task.py", "a") as file:
        file.write("# another reward\n")
    changed = r"^`task\.module/changing_task\.py`: .*changing_task\.py has changed since the run began"
    with pytest.raises(RunError, match=changed):
        resume_training(tmp_path / "run")
    resume_training(tmp_path / "run", accept_changes=True)
    (change,) = json.loads((tmp_path / "run" / "provenance.json").read_text())["changes"]
    assert list(change["inputs"]) == ["task.module/changing_task.py"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sys.modules.pop("changing_task")
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]
    with pytest.raises(InputError, match=r"^`task\.module`: cannot import 'changing_task'"):
        resume_training(tmp_path / "run")


FAILING = """
from own_task_at_fault import Primes

class Late(Primes):
    calls = 0

    def __init__(self, part, at):
        super().__init__(9)
        self.part, self.at = part, at

    def parse(self, response):
        return response.no_such_part if self._is_at_fault("parse") else super().parse(response)

    def rewards(self, prompts, responses):
        return [float("1" in text) for text in responses][self._is_at_fault("rewards"):]

    def _is_at_fault(self, part):
        Late.calls += part == self.part
        return part == self.part and Late.calls >= self.at
"""


@pytest.mark.parametrize(
    ("part", "at", "message"),
    [
        ("rewards", 1, "`failing:Late`: `rewards`: expected 2 rewards, one for each response; got 1"),
        ("rewards", 7, "`failing:Late`: `rewards`: expected 6 rewards, one for each response; got 5"),
        ("parse", 60, "`failing:Late`: `parse` raised AttributeError: 'str' .* (failing.py, line 12), for "),
    ],
)
def test_code_that_fails_ends_the_run_with_one_line(
    part: str,
    at: int,
    message: str,
    make_text_config: Make,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, before a model is loaded, or in the middle of a training."""
    shutil.copy(EXAMPLES / "own_task.py", tmp_path / "own_task_at_fault.py")
    (tmp_path / "failing.py").write_text(FAILING)
    task = {"kind": "python", "module": "failing:Late", "settings": {"part": part, "at": at}}
    config = make_text_config(task=task, steps=30)
    (tmp_path / "recipe.json").write_text(config.model_dump_json())
    if at == 1:
        monkeypatch.setattr("allmodes.text.experiment.load_model", lambda *_: pytest.fail("loaded"))
    code, _, err = command("run", "recipe.json", "--out", "run")
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("allmodes: `failing")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert all(words in lines[0] for words in message.split(".*")), err


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "python", "module": "no_such_task:It"}, r"`task.module`: cannot import 'no_such_task'"),
        ({"kind": "python", "module": "math:nothing"}, r"`task.module`: expected 'nothing' in 'math'"),
        ({"kind": "python", "module": "math:pi"}, r"`math:pi`: expected a class or a function"),
        ({"kind": "python", "module": "math:gcd"}, r"`math:gcd`: expected a task with name, prompts"),
        (
            {"kind": "python", "module": "math:sqrt", "settings": {"x": 1}},
            r"`math:sqrt` raised TypeError: .*keyword arguments",
        ),
        (
            {"kind": "reward", "prompts": "p.jsonl", "function": "math:gcd", "outcome": "math:nothing"},
            r"`task.outcome`: expected 'nothing' in 'math'",
        ),
        (
            {"kind": "reward", "prompts": "p.jsonl", "function": "math:gcd"},
            r"`math:gcd` raised TypeError: 'list' object cannot be interpreted as an integer",
        ),
        (
            {"kind": "reward", "prompts": "none.jsonl", "function": "math:gcd"},
            r"cannot read none\.jsonl: No such file",
        ),
    ],
)
def test_what_cannot_work_is_said_before_a_model_is_loaded(
    task: dict[str, Any],
    message: str,
    make_text_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    monkeypatch.setattr("allmodes.text.experiment.load_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=message):
        new_training(make_text_config(task=task), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_puzzles_are_trained_on_and_their_answers_recovered(
    make_text_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a file, as reasoning-gym would have made them; the two last are to measure on."""
    rows = [json.loads(line) for line in (DATA / "reasoning_gym.jsonl").read_text().splitlines()]
    made = Countdown([row for row in rows if row["metadata"]["source_dataset"] == "countdown"], test=2)
    asked: list[Any] = []

    def make(dataset: str, **settings: Any) -> Countdown:
        asked.append((dataset, settings))
        return made

    monkeypatch.setattr("allmodes.text.task_kinds.puzzles.reasoning_gym_task", make)
    monkeypatch.setattr("allmodes.text.task_kinds.puzzles.require_reasoning_gym", lambda: None)
    task = {"kind": "reasoning_gym", "dataset": "countdown", "size": 2, "test": 2, "seed": 3}
    config = make_text_config(task={**task, "settings": {"max_numbers": 5}}, steps=1)
    page = new_training(config, tmp_path / "run").read_text(encoding="utf-8")
    assert asked[0] == ("countdown", {"size": 2, "test": 2, "seed": 3, "settings": {"max_numbers": 5}})
    assert "2 to train on, 2 others to measure on, seed 3" in page
    assert "max_numbers = 5" in page
    lines = (tmp_path / "run/base/generations.jsonl").read_text().splitlines()
    assert {json.loads(line)["prompt"] for line in lines} == set(made.test_prompts)
    result = json.loads((tmp_path / "run/base/result.json").read_text())
    assert "recovery_rate" in str(result)


def test_without_reasoning_gym_its_task_is_one_line(
    make_text_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allmodes.extras.is_installed", lambda module: module != "reasoning_gym")
    config = make_text_config(task={"kind": "reasoning_gym", "dataset": "countdown"})
    with pytest.raises(
        InputError, match=r"^task 'reasoning_gym' needs `.*reasoning-gym\]'`; reasoning_gym is"
    ):
        new_training(config, tmp_path / "run")
