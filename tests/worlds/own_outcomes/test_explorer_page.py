"""The explorer's file: what is written, what is refused, and what it offers to paste."""

import ast
import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allmodes.cli.samples import SAMPLES
from allmodes.integrations.trl_settings import check_grpo_settings, check_rloo_settings, check_settings
from allmodes.integrations.verl.settings import make_plan
from allmodes.methods import MARA, METHODS, Method, make_method, recipe_fields
from allmodes.worlds.own_outcomes.explorer.page import explorer_page, method_records
from allmodes.worlds.own_outcomes.explorer.snippets import trl_snippet, verl_snippet
from allmodes.worlds.own_outcomes.table import read_outcomes

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
HOSTILE = "</script><script>document.title = 'hacked'</script>"
DEFAULTS = {  # TRL's own
    "reward_clip_range": None, "importance_sampling_level": "token", "multi_objective_aggregation":
    "sum_then_normalize", "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None, "use_vllm": False,
    "use_bias_correction_kl": False, "steps_per_generation": 1, "num_iterations": 1,
    "gradient_accumulation_steps": 1, "max_completion_length": 256,
}  # fmt: skip


def instance(name: str) -> Method:
    settings = {"threshold": 0.8} if "threshold" in recipe_fields(METHODS[name]) else {}
    return make_method(name, {name: settings})


def embedded(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_the_command_writes_a_page_and_replaces_no_other_file(command: Command, tmp_path: Path) -> None:
    code, printed, error = command("explore")
    assert (code, error) == (0, "")
    page = tmp_path / "outcomes.html"
    assert page.as_uri() in printed
    assert embedded(page.read_text())["names"][2] == "rare proof"
    assert command("explore", "--threshold", "0.5", "--kl", "forward", "--beta", "2")[0] == 0
    assert embedded(page.read_text())["choice"] == {"beta": 2.0, "tau": 0.5, "kl": "forward"}
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    code, _, error = command("explore", "--out", "mine.html")
    assert code == 1
    assert error == (
        "allmodes: mine.html: expected a new file, or a page of `allmodes explore`; choose another --out\n"
    )
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>"


def test_the_guide_s_commands_run(command: Command, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs/guide/explorer.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    shutil.copy(SAMPLES / "outcomes.csv", tmp_path)
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "allmodes"
        assert command(*arguments)[0] == 0
    assert (tmp_path / "outcomes.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.csv"], "missing.csv"),
        (["half.csv"], "sum of 0.5"),
        (["half.csv", "--normalise", "--beta", "0"], "`beta` must be a finite number above 0; got 0.0"),
        (["half.csv", "--normalise", "--threshold", "nan"], "`threshold` must be a finite number; got nan"),
        (["many.csv", "--normalise"], "expected at most 100,000 outcomes for a page; got 100,001"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "half.csv").write_text("reward,probability\n1,0.5\n")
    (tmp_path / "many.csv").write_text("reward,probability\n" + "1,1\n" * 100_001)
    code, _, error = command("explore", *arguments)
    assert code == 2
    assert error.count("\n") == 1
    assert words in error
    assert not list(tmp_path.glob("*.html"))


def test_names_stay_data_whatever_they_hold(tmp_path: Path) -> None:
    names = [HOSTILE, "<!--", "[[engine]]", 'a "b" & c', "\u2028", "{beta}"]
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps([{"outcome": n, "reward": 1, "probability": 1 / len(names)} for n in names]))
    table = read_outcomes(path)
    page = explorer_page(
        table, name=HOSTILE, normalise=False, choice={"beta": 1, "tau": None, "kl": "reverse"}
    )
    assert embedded(page)["names"] == names
    assert embedded(page)["file"] == HOSTILE
    assert HOSTILE not in page
    assert page.count("<script") == page.count("</script>") == 3
    for address in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page):
        pytest.fail(f"the page knows an address: {address}")


def test_every_method_is_offered_from_the_registry(toy_method: type) -> None:
    records = {record["name"]: record for record in method_records()}
    assert set(records) == {*METHODS, "corrected"}
    assert records["mara"]["color"] == MARA.color
    assert records["toy"]["label"] == toy_method.label  # type: ignore[attr-defined]
    assert records["ips"]["groupWarnings"][2] == METHODS["ips"]().group_warning(2)
    assert len({record["color"] for record in records.values()}) == len(records)


@pytest.mark.parametrize("kl", ["reverse", "forward"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_offered_for_trl_keeps_the_method_s_meaning(name: str, kl: Any) -> None:
    """The trainer's own checks accept it, or the snippet says why there is none."""
    method = instance(name)
    text = trl_snippet(method, kl).format(beta=0.05, tau=0.8, group=16)
    tree = ast.parse(text)
    calls = {
        node.func.id: {keyword.arg: keyword.value for keyword in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if not calls:
        assert kl == "forward"
        assert method.needs_sequence_kl or method.contains_kl
        assert "choose the reverse KL" in text
        return
    trainer = "RLOOTrainer" if kl == "reverse" else "GRPOTrainer"
    own = {key: ast.literal_eval(value) for key, value in calls[f"{trainer[:4]}Config"].items()}
    assert own["per_device_train_batch_size"] % own["num_generations"] == 0
    config = SimpleNamespace(**{**DEFAULTS, **own})
    transform = calls[trainer].get("transform")
    if transform is None:
        assert name == "vanilla"
    else:
        assert isinstance(transform, ast.Call)
        assert isinstance(transform.func, ast.Name)
        assert transform.func.id == type(method).__name__
        assert {k.arg: ast.literal_eval(k.value) for k in transform.keywords} == (
            {"threshold": 0.8} if "threshold" in recipe_fields(type(method)) else {}
        )
    key = len if "outcome_key" in calls[trainer] else None
    asked = ast.literal_eval(calls[trainer]["kl"]) if "kl" in calls[trainer] else None
    given = None if transform is None else method
    check_settings(config, transform=given, kl=asked, outcome_key=key)
    (check_rloo_settings if kl == "reverse" else check_grpo_settings)(config, transform=given, kl=asked)


@pytest.mark.parametrize("kl", ["reverse", "forward"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_offered_for_verl_keeps_the_method_s_meaning(name: str, kl: Any) -> None:
    method = instance(name)
    text = verl_snippet(method, kl).format(beta=0.05, tau=0.8, group=16)
    words = shlex.split(text, comments=True)
    if not words:
        assert kl == "forward"
        assert method.needs_sequence_kl or method.contains_kl
        assert "choose the reverse KL" in text
        return
    config: dict[str, Any] = {}
    for word in words[3:]:  # behind python -m verl.trainer.main_ppo
        key, _, value = word.removeprefix("+").partition("=")
        *path, last = key.split(".")
        table = config
        for part in path:
            table = table.setdefault(part, {})
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
        table[last] = value
    if name == "vanilla":
        assert "allmodes" not in text
        return
    plan = make_plan(config)
    assert plan.method == method
    assert plan.kl_in_reward is (kl == "reverse")
    assert plan.kl_in_loss is (kl == "forward")
    assert (
        plan.beta({"actor/reward_kl_penalty_coeff": config["algorithm"].get("kl_ctrl", {}).get("kl_coef")})
        == 0.05
    )
