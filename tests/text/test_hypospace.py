"""HypoSpace in a recipe: its keys, and a run that trains on some prompts and is measured on others."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("matplotlib")

from rich.console import Console

from allmodes.errors import ConfigError
from allmodes.runs.config import build_config, read_config_file
from allmodes.runs.messages import last_text
from allmodes.tasks import Boolean, Causal, Voxels
from allmodes.tasks.hypospace.hypotheses import Hypotheses
from allmodes.text.config import TextConfig
from allmodes.text.experiment import check_training_files, new_training
from allmodes.text.reporting.results import load_result
from allmodes.text.reporting.summary import print_training

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Make = Callable[..., Any]
ROOT = Path(__file__).parents[2]
BOOLEAN = {"kind": "hypospace", "domain": "boolean", "train": 3, "test": 2}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmodes.reports.progress.console", Console(quiet=True))


@pytest.mark.parametrize(
    ("domain", "settings", "task"),
    [
        ("causal", {"nodes": 3, "max_edges": 2, "perturbations": 1}, Causal(3, 2, 1)),
        ("voxels", {"size": 2, "max_blocks": 4, "max_height": 2}, Voxels(2, 4, 2)),
        ("boolean", {"variables": ["p"], "operators": ["NOT"], "max_depth": 1}, Boolean(("p",), ("NOT",), 1)),
        ("causal", None, Causal()),
        ("voxels", None, Voxels()),
        ("boolean", None, Boolean()),
    ],
)
def test_the_settings_of_a_domain_make_it(
    make_text_config: Make, domain: str, settings: dict[str, Any] | None, task: Causal | Voxels | Boolean
) -> None:
    keys = {"kind": "hypospace", "domain": domain, "train": 2, "test": 1, "split_seed": 3, domain: settings}
    made = make_text_config(task=keys).task.make()
    assert made.instances == task.instances
    assert made.hypotheses == task.hypotheses
    assert (list(made.prompts), list(made.test_prompts)) == task.split(2, 1, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": 77}, r"together at most 78, the prompts of hypospace-boolean; got 77 and 2"),
        ({"causal": {"nodes": 3}}, r"expected no `task\.causal` with domain 'boolean'"),
        ({"boolean": {"variables": ["x", "x"]}}, r"`variables` must be one to three different names"),
        ({"boolean": {"max_depth": 1000}}, r"`max_depth` must lie between 0 and 3; got 1"),
        ({"domain": "proteins"}, r"task\.domain"),
        ({"train": 0}, r"task\.train"),
        ({"split_seed": -1}, r"task\.split_seed"),
        ({"nodes": 4}, r"task\.nodes"),
    ],
)
def test_settings_that_make_no_task_are_named(
    make_text_config: Make, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_config(
            TextConfig, {**make_text_config().model_dump(), "task": {**BOOLEAN, **changes}}, source="recipe"
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("domain", "size"), [("boolean", 39), ("causal", 50), ("voxels", 50)])
def test_the_shipped_recipes_are_those_of_the_paper(domain: str, size: int) -> None:
    recipe = ROOT / "recipes" / f"hypospace-{domain}.toml"
    config = build_config(TextConfig, read_config_file(recipe), source=str(recipe))
    check_training_files(config)
    task = config.task.make()
    assert isinstance(task, Hypotheses)
    assert task.name == f"hypospace-{domain}"
    assert (len(task.prompts), len(task.test_prompts)) == (size, size)
    assert config.method[0] == "vanilla"


def test_a_run_trains_on_some_prompts_and_is_measured_on_others(
    make_text_config: Make, tmp_path: Path
) -> None:
    config = make_text_config(
        task=BOOLEAN, method=["vanilla", "outcome_matching"], steps=2, prompts_per_step=2, group_size=4,
        samples=5, max_tokens=8,
    )  # fmt: skip
    page = new_training(config, tmp_path / "run").read_text(encoding="utf-8")
    task = config.task.make()
    for folder in (path.parent for path in (tmp_path / "run").glob("*/result.json")):
        rows = [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in rows] == [p for p in task.test_prompts for _ in range(5)]
        result = load_result(folder / "result.json")
        assert set(result.errors) >= {"valid_rate", "recovery_rate"}
        assert [k for k, _, _ in result.recovery] == [1, 2, 3, 4, 5]
        if folder.name != "base":
            samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
            assert {last_text(row["prompt"]) for row in samples} <= {*task.prompts}
            metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert all(0 <= row["good_answers"] <= 4 for row in metrics)
    assert (tmp_path / "run" / "recovery.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run" / "answers.png").exists()
    for expected in ("Recovery over samples", "2 test prompts, which no run was trained on", "Recovery rate"):
        assert expected in page
    assert "3 prompts to train on, 2 others to measure on" in page
    printed = io.StringIO()
    print_training(tmp_path / "run", Console(file=printed, width=120))
    assert "recovery rate" in printed.getvalue().splitlines()[0]
