"""The comparison of all methods: figures by hand, every method in it, finished worlds are not run again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from allmodes.methods import METHODS
from allmodes.paper import beyond
from allmodes.paper.beyond_training import DRAWS, Measured, arms, measure, run_cell, run_cells
from allmodes.paper.beyond_worlds import Cell, cells
from allmodes.paper.reproduction import Scale

SCALE = Scale(name="test", seeds=2, steps=0.004, grid_steps=4)
CELLS = {cell.name: cell for cell in cells()}


def test_figures_by_hand() -> None:
    good = torch.tensor([[True, True, False], [True, False, False]])
    cell = replace(
        CELLS["strings"], good=good, weights=torch.tensor([[1.0, 3.0, 9.0], [1.0, 1.0, 1.0]]).double()
    )
    policy = torch.tensor([[[0.6, 0.02, 0.38], [0.5, 0.25, 0.25]]]).double()
    found = {name: float(value) for name, value in measure(policy, cell).items()}
    assert found["valid"] == pytest.approx((0.62 + 0.5) / 2)
    share = 0.6 / 0.62  # of the first of two, where a quarter is wanted
    assert found["tv"] == pytest.approx((share - 0.25) / 2)
    assert found["lost"] == pytest.approx(0.5)  # 0.032 of 0.75 is less than a tenth
    draws = [1 - (1 - p) ** DRAWS for p in (0.6, 0.02, 0.5)]
    assert found["recovery"] == pytest.approx(((draws[0] + draws[1]) / 2 + draws[2]) / 2)
    assert found["l1"] == pytest.approx((0.35 + 0.73 + 0.38 + 1.0) / 2)


def test_every_method_takes_part_with_the_threshold_of_the_world() -> None:
    found = list(arms(0.7, {"target": "reward"}))
    assert {type(arm.method) for arm in found} == set(METHODS.values())
    assert len({arm.label for arm in found}) == len(found)
    assert {arm.method.threshold for arm in found if hasattr(arm.method, "threshold")} >= {0.7}  # pyright: ignore[reportAttributeAccessIssue]
    assert {arm.method.target for arm in found if arm.method.name == "outcome_matching"} == {"reward"}  # pyright: ignore[reportAttributeAccessIssue]


def test_a_world_that_is_done_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [CELLS["two-paths"]]
    first = run_cells(chosen, SCALE, tmp_path, seeds=2, progress=lambda _: None)
    assert json.loads((tmp_path / "two-paths.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("allmodes.paper.beyond_training.run_cell", lambda *_, **__: pytest.fail("run again"))
    assert run_cells(chosen, SCALE, tmp_path, seeds=2, progress=lambda _: None) == first


def test_all_that_are_trained_have_each_figure_of_each_seed() -> None:
    found = run_cell(CELLS["discovery-rare"], SCALE, seeds=2, progress=lambda _: None)
    assert len(found) == len(list(arms(0.5, {})))
    for one in found:
        if one.refused is None:
            assert {"valid", "tv", "lost", "recovery", "within"} <= one.values.keys()
            assert all(len(values) == 2 for values in one.values.values())


def worlds() -> tuple[Cell, list[Measured]]:
    values = {"valid": [1.0, 0.9], "recovery": [0.5, 0.6], "tv": [0.2, 0.2], "lost": [1.0, 0.0]}
    best = {**values, "recovery": [0.8, 0.9], "tv": [0.3, 0.3]}
    return CELLS["strings"], [
        Measured(arm="vanilla", color="#000000", values=values),
        Measured(arm=beyond.OURS, color="#111111", values=best),
        Measured(arm="three", color="#222222", refused="no reason"),
    ]


def test_a_table_shows_the_best_and_each_seed() -> None:
    cell, found = worlds()
    table = beyond._table(cell, found)
    assert "| vanilla | **0.950 ± 0.071** | 0.550 ± 0.071 | **0.200 ± 0.000** |" in table
    assert f"| {beyond.OURS} | **0.950 ± 0.071** | **0.850 ± 0.071** | 0.300 ± 0.000 |" in table
    assert "three was not trained: no reason." in table
    assert "vanilla 0.500 0.600" in table


def test_verdicts_come_from_the_figures() -> None:
    cell, found = worlds()
    wins, pays = beyond._verdicts([cell], {cell.name: found})
    assert wins.holds == "yes"
    assert wins.measured.startswith("0.850 ± 0.071 against vanilla, 0.550 ± 0.071 (p = 0.0")
    assert pays == beyond._verdicts([cell], {cell.name: found})[1]
    swapped = [replace(found[0], arm=beyond.OURS), replace(found[1], arm="other")]
    assert beyond._verdicts([cell], {cell.name: swapped})[0].holds == "no"
