"""A design run in trackers: every row, the best molecules, and results that do not depend on them."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from allmodes.chem.design.design import new_design
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.tracking import draw_best
from allmodes.errors import ConfigError
from molecule_settings import training_config


class Recorder(ModuleType):
    """In place of Trackio's package."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = SimpleNamespace(name="trackio")  # pyright: ignore[reportAttributeAccessIssue]
        self.rows: list[tuple[dict[str, Any], int]] = []
        self.config: dict[str, Any] = {}

    def init(self, *, config: dict[str, Any], **_: Any) -> "Recorder":
        self.config = config
        return self

    def Image(self, picture: Any) -> Any:
        return picture

    def log(self, values: dict[str, Any], *, step: int) -> None:
        self.rows.append((values, step))

    def finish(self) -> None:
        pass


def test_a_run_shows_every_row_and_its_best_molecules_and_is_the_same_run(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackio = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    for name, track in (("tracked", ["trackio"]), ("alone", [])):
        config = training_config(tiny_prior, budget=60, checkpoint_every=2, track=track, seeds=[3])
        new_design(config, tmp_path / name)
    lines = (tmp_path / "tracked/reinvent-3/metrics.jsonl").read_text()
    assert lines == (tmp_path / "alone/reinvent-3/metrics.jsonl").read_text()

    rows = [json.loads(line) for line in lines.splitlines()]
    curves = [(values, step) for values, step in trackio.rows if "best molecules" not in values]
    assert [(values["calls"], step) for values, step in curves] == [
        (row["calls"], row["step"]) for row in rows
    ]
    pictures = [step for values, step in trackio.rows if "best molecules" in values]
    assert pictures == [*range(2, len(rows) + 1, 2), len(rows)]
    assert trackio.config["run"] == "reinvent"
    assert trackio.config["seed"] == 3
    assert trackio.config["budget"] == 60


def test_the_picture_has_the_best_molecules_first(tiny_prior: Path, tmp_path: Path) -> None:
    new_design(training_config(tiny_prior, budget=40), tmp_path / "run")
    rows = read_ledger(tmp_path / "run/reinvent-0/ledger.sqlite")
    assert draw_best(rows).size == (1000, 600)  # 4 × 3 molecules of 250 × 200
    assert draw_best(rows[:3]).size[1] == 200
    assert draw_best([]) is None


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allmodes.runs.tracking.is_installed", lambda module: module != "wandb")
    with pytest.raises(ConfigError, match=r"`track`: 'wandb' needs `.* install wandb`"):
        new_design(training_config(tiny_prior, track="wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
