"""The guide's commands and its reward function, without verl."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from allmodes.integrations.verl.settings import make_plan, refuse_unused
from allmodes.methods import MARA, METHODS, OutcomeMatching
from verl_cases import DEFAULTS, options

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "guide" / "verl.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def given(command: str) -> dict[str, Any]:
    """The options of a command of verl's, by their names, numbers as numbers."""
    found: dict[str, Any] = {}
    for word in shlex.split(command, comments=True):
        name, is_option, value = word.partition("=")
        if is_option and "." in name:
            try:
                found[name] = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                found[name] = value
    return found


def plan_of(command: str) -> Any:
    """What the options of a command ask for, on top of verl's own defaults."""
    found = given(command)
    own = {name.removeprefix("+allmodes."): value for name, value in found.items() if name[0] == "+"}
    allmodes: dict[str, Any] = {}
    for name, value in own.items():
        table, _, key = name.rpartition(".")
        (allmodes.setdefault(table, {}) if table else allmodes)[key] = value
    config = options(
        {**DEFAULTS, **{n: v for n, v in found.items() if n in DEFAULTS or "kl" in n}}, **allmodes
    )
    refuse_unused(config)
    return make_plan(config)


def test_the_complete_run_is_accepted() -> None:
    (command,) = [block for block in blocks("sh") if "verl.trainer.main_ppo" in block]
    plan = plan_of(command)
    assert plan.method == MARA(threshold=1.0)
    assert plan.outcome_field == "answer"
    assert given(command)["trainer.v1.trainer_mode"] == "allmodes_sync"


@pytest.mark.parametrize(
    ("text", "truth", "score", "answer"),
    [
        ("It is 2.\n#### 1,234", "1234", 1.0, "1234"),
        ("#### 7\nno, #### 8.", "8", 1.0, "8"),
        ("#### -3.5", "4", 0.0, "-3.5"),
        ("8", "8", 0.0, ""),
    ],
)
def test_the_reward_function_returns_score_and_answer(
    text: str, truth: str, score: float, answer: str
) -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    assert names["compute_score"]("gsm8k", text, truth) == {"score": score, "answer": answer}


def test_the_methods_that_the_guide_names_are_there() -> None:
    named = set(re.findall(r"`(mara|ips|outcome_matching|vanilla|mara\+entropy)`", GUIDE))
    assert {part for name in named for part in name.split("+")} <= METHODS.keys()
    assert OutcomeMatching.name in named


def test_the_example_s_options_are_accepted() -> None:
    """Of the run on processors that README has."""
    script = (ROOT / "examples" / "verl" / "one_two.sh").read_text(encoding="utf-8")
    lines = "\n".join(line for line in script.splitlines() if not line.strip().startswith("#"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (added,) = re.findall(r"one_two\.sh runs/verl mara( (?:.*\\\n)*.*)", readme)
    assert given(added)["trainer.v1.trainer_mode"] == "allmodes_sync"
    found = {name: value for name, value in given(lines + added).items() if "fsdp_config" not in name}
    assert found["algorithm.adv_estimator"] == "rloo"
    wanted = {**found, "actor_rollout_ref.rollout.n": 8}
    text = " ".join(
        f"{n}={v}" for n, v in wanted.items() if n in DEFAULTS or n.startswith("+allmodes") or "kl" in n
    )
    assert plan_of(text).method == MARA(threshold=1.0)
