"""Every item runs from the command line, writes what it promises, and judges by what it measured."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import allmodes
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.paper.catalogue import ITEMS, Item, find
from allmodes.paper.reproduction import Reproduction, Scale, verdict
from allmodes.paper.runner import plain, print_items, reproduce_items

pytest.importorskip("matplotlib")

TINY = Scale(name="test", seeds=2, steps=0.004, grid_steps=4)
SVG, PNG = b"<?xml", b"\x89PNG"


def run(item: Item, out: Path) -> Any:
    reproduce_items([item], scale=TINY, out=out, console=Console(quiet=True))
    return json.loads((out / f"{item.name}.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmodes.reports.progress.console", Console(quiet=True))


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_an_item_writes_figure_numbers_and_verdicts(
    item: Item, tmp_path: Path, small_study: None, small_table1: None, small_hypospace: None
) -> None:
    document = run(item, tmp_path)
    assert document["source"] == item.source
    assert document["scale"]["name"] == "test"
    assert document["provenance"]["allmodes"]
    assert document["verdicts"]
    for row in document["verdicts"]:
        assert row["holds"] in ("yes", "no", "partly")
        assert all(row[key].strip() and "nan" not in row[key] for key in ("claim", "paper", "measured"))
    assert (tmp_path / f"{item.name}.png").read_bytes().startswith(PNG)
    assert (tmp_path / f"{item.name}.svg").read_bytes().startswith(SVG)
    page = (tmp_path / f"{item.name}.md").read_text(encoding="utf-8")
    assert all(row["measured"] in page for row in document["verdicts"])
    assert f"Made by allmodes {allmodes.__version__}" in page.splitlines()[-1]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{item.name}{suffix}" for suffix in (".png", ".svg", ".json", ".md")}


def test_names_are_unique_and_each_module_belongs_to_one_item() -> None:
    assert len({item.name for item in ITEMS}) == len({item.module for item in ITEMS}) == len(ITEMS) == 28
    assert find("all") == ITEMS
    assert find("fig2") == (ITEMS[1],)
    with pytest.raises(InputError, match=r"expected list, all or one of fig1, .*; got 'fig6'"):
        find("fig6")


def test_several_items_are_summed_up(tmp_path: Path) -> None:
    console = Console(quiet=True)
    reproduce_items([*find("fig7"), *find("fig1")], scale=TINY, out=tmp_path, console=console)
    text = (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert text.count("| claim | paper says | measured | holds? |") == 2
    assert "## fig7: " in text
    assert "## fig1: " in text


def test_an_item_that_needs_what_is_not_there_is_skipped_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allmodes.paper import mara_fig7

    def refuse(scale: Scale, progress: object) -> Reproduction:
        raise ConfigError("needs [an accelerator]")

    monkeypatch.setattr(mara_fig7, "reproduce", refuse)
    console = Console(record=True, width=200, quiet=False, file=io.StringIO())
    reproduce_items([*find("fig7"), *find("fig1")], scale=TINY, out=tmp_path, console=console)
    assert "skipped fig7: needs [an accelerator]" in console.export_text()
    text = (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert text.count("| claim | paper says | measured | holds? |") == 1
    assert "Skipped: needs [an accelerator]" in text
    assert not (tmp_path / "fig7.png").exists()
    with pytest.raises(ConfigError, match="needs"):
        reproduce_items(find("fig7"), scale=TINY, out=tmp_path, console=console)


def test_a_folder_that_cannot_be_made_is_one_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*file"):
        reproduce_items(find("fig7"), scale=TINY, out=tmp_path / "file", console=Console(quiet=True))


def test_a_refused_item_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allmodes.paper import mara_fig7

    def refused(*_: object) -> None:
        raise ConfigError("fig7 needs an accelerator")

    monkeypatch.setattr(mara_fig7, "reproduce", refused)
    with pytest.raises(ConfigError):
        reproduce_items(find("fig7"), scale=TINY, out=tmp_path / "a" / "b", console=Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_an_item_that_fails_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allmodes.paper import mara_fig7

    real = mara_fig7.reproduce

    def broken(scale: Scale, progress: object) -> Reproduction:
        result = real(scale, lambda _: None)
        return Reproduction(figure=result.figure, numbers={"x": object()}, verdicts=result.verdicts)

    monkeypatch.setattr(mara_fig7, "reproduce", broken)
    with pytest.raises(TypeError):
        reproduce_items(find("fig7"), scale=TINY, out=tmp_path, console=Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_says_what_was_measured() -> None:
    said = [verdict("c", paper="p", measured="m", holds=holds).holds for holds in (True, False, "partly")]
    assert said == ["yes", "no", "partly"]


def test_numbers_become_json() -> None:
    numbers = {1.5: torch.tensor([1.0, math.inf]), "b": (math.nan, 1 / 3, 7, "x"), "c": {2: [True]}}
    assert plain(numbers) == {"1.5": [1.0, "inf"], "b": ["nan", 0.333333, 7, "x"], "c": {"2": [True]}}


def test_the_list_names_every_item(tmp_path: Path) -> None:
    with open(tmp_path / "list", "w", encoding="utf-8") as file:
        print_items(Console(file=file, width=200))
    text = (tmp_path / "list").read_text(encoding="utf-8")
    assert all(item.name in text and item.title in text for item in ITEMS)


def test_exact_numbers_do_not_depend_on_the_scale(tmp_path: Path) -> None:
    numbers = run(find("fig2")[0], tmp_path)["numbers"]
    assert numbers["flip_beta"] == pytest.approx(0.25 / 1.9, abs=1e-6)
    exact = {(row["method"], row["beta"]): row for row in numbers["settings"]}
    row = exact["reverse KL", 0.1]
    ratio = math.exp(1.9 - 0.25 / 0.1)  # π_ref(left)/π_ref(right) · exp(−ΔR/β), by hand
    assert row["exact_left"] / row["exact_right"] == pytest.approx(ratio, rel=1e-4)
    examples = run(find("fig5")[0], tmp_path)["numbers"]["counter_examples"]
    assert examples["forward_mara"] == pytest.approx([0.028431, 0.9706, 0.000969324], rel=1e-4)
    assert examples["bound"] == pytest.approx([0.052711], abs=1e-6)


def test_the_command_runs_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allmodes import cli

    monkeypatch.setattr(sys, "argv", ["allmodes", "paper", "fig7", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert (tmp_path / "new" / "fig7.png").stat().st_size > 10_000
    monkeypatch.setattr(sys, "argv", ["allmodes", "paper", "fig99"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2


def test_the_command_explains_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allmodes import cli
    from allmodes.cli.samples import SAMPLES

    sample = SAMPLES / "outcomes.csv"
    options = ["--beta", "0.01", "0.1", "--threshold", "0.8", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["allmodes", "target", str(sample), *options])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    written = json.loads((tmp_path / "out" / "target.json").read_text(encoding="utf-8"))
    assert len(written["optima"]) >= 4
