"""Verdicts on HypoSpace from made-up runs, how items share their runs, and what they leave behind."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import numpy as np
import torch

from allmodes.errors import ConfigError
from allmodes.metrics import cumulative_recovery
from allmodes.paper import hypospace_runs, ips_fig2, ips_fig4_5, ips_table2
from allmodes.paper.hypospace_runs import FLOWRL, GRPO, IPS, MARA, OMM
from allmodes.paper.ips_fig4_5 import Seen
from allmodes.paper.reproduction import PAPER, QUICK, REAL, Scale
from allmodes.text.reporting.results import TextResult

TINY = Scale(name="test", seeds=1, steps=0.004, grid_steps=1)
Figures = tuple[float, float]  # valid rate and recovery rate


def result(
    valid: float, recovery: float, *, seed: int = 0, curve: Sequence[tuple[int, float]] = ()
) -> TextResult:
    metrics = {"valid_rate": valid, "recovery_rate": recovery}
    if valid > 0:
        metrics["uniqueness"] = recovery
    return TextResult(
        arm=None, seed=seed, samples=64, unscored=0, reward=valid, answers={}, metrics=metrics,
        errors=dict.fromkeys(metrics, 0.25), recovery=tuple((k, value, 0.01) for k, value in curve),
    )  # fmt: skip


def runs(found: Mapping[str, Sequence[TextResult]], *, base: TextResult, domain: str = "boolean") -> Any:
    return hypospace_runs.Runs(
        config=hypospace_runs.configuration(QUICK, domain), before=None, base=base,
        results=found, folders={},
    )  # fmt: skip


def domain(base: Figures, **found: Figures) -> Any:
    names = {"grpo": GRPO, "flowrl": FLOWRL, "ips": IPS, "mara": MARA, "omm": OMM}
    rows = {name: [result(*found.get(key, found["grpo"]))] for key, name in names.items()}
    return runs(rows, base=result(*base))


def table2(found: Mapping[str, Any]) -> list[str]:
    return [entry.holds for entry in ips_table2.judge(found, whose="x")]


def test_table_2_holds_where_ips_keeps_what_grpo_loses() -> None:
    good = domain((0.6, 0.9), grpo=(0.9, 0.5), flowrl=(0.95, 0.5), ips=(0.89, 0.85))
    assert table2({"causal": good, "boolean": good}) == ["yes"] * 5
    measured = ips_table2.judge({"boolean": good}, whose="x")[0].measured
    assert measured == "x: boolean: IPS-GRPO 0.85, GRPO 0.50, FlowRL 0.50, base 0.90"


def test_table_2_says_partly_for_some_domains_and_no_for_none() -> None:
    good = domain((0.6, 0.9), grpo=(0.9, 0.5), ips=(0.89, 0.85))
    bad = domain((0.6, 0.9), grpo=(0.9, 0.85), ips=(0.8, 0.6), omm=(0.9, 0.9))
    assert table2({"causal": good, "boolean": bad}) == ["partly"] * 5
    assert table2({"boolean": bad}) == ["no"] * 5


def test_table_2_takes_no_method_that_finds_nothing_for_one_that_keeps_everything() -> None:
    lost = domain((0.0, 0.0), grpo=(0.0, 0.0), ips=(0.0, 0.0))
    verdicts = ips_table2.judge({"boolean": lost}, whose="x")
    assert [entry.holds for entry in verdicts[:4]] == ["no"] * 4
    assert all("nan" not in entry.measured for entry in verdicts)
    assert "| Boolean expressions | GRPO | 0.00 ± 0.25 | – | 0.00 ± 0.25 |" in ips_table2.markdown(
        {"boolean": lost}
    )


def test_table_2_has_the_spread_over_seeds_and_of_one_seed_the_error_over_prompts() -> None:
    two = runs(
        {GRPO: [result(0.5, 0.4), result(0.7, 0.4, seed=1)], IPS: [result(0.5, 0.75)]}, base=result(0.6, 0.9)
    )
    table = ips_table2.markdown({"voxels": two})
    assert "| 3D reconstruction | GRPO | 0.60 ± 0.14 | 0.40 ± 0.00 | 0.40 ± 0.00 |" in table
    assert "| 3D reconstruction | IPS-GRPO | 0.50 ± 0.25 | 0.75 ± 0.25 | 0.75 ± 0.25 |" in table
    assert table.splitlines()[2].startswith("| 3D reconstruction | base model | 0.60 ± 0.25 |")


def test_what_the_second_half_finds_is_a_share_of_what_was_missing() -> None:
    assert ips_fig2.found_late([(1, 0.1), (2, 0.2), (4, 0.6)]) == pytest.approx(0.5)
    assert ips_fig2.found_late([(1, 0.1), (2, 0.25), (3, 0.3), (5, 0.4)]) == pytest.approx(0.2)  # 2 of 5
    assert ips_fig2.found_late([(1, 0.5), (2, 1.0), (4, 1.0)]) == 1.0
    # One good answer of two, always: nothing new after the first sample.
    stuck = list(enumerate(cumulative_recovery(["a"] * 8, {"a", "b"}), 1))
    assert ips_fig2.found_late(stuck) == 0.0
    # Four different ones: the second half finds all that the first has missed.
    every = list(enumerate(cumulative_recovery(list("abcd"), set("abcd")), 1))
    assert ips_fig2.found_late(every) == pytest.approx(1.0)


def curves(**found: Sequence[tuple[int, float]]) -> Any:
    names = {"grpo": GRPO, "flowrl": FLOWRL, "ips": IPS}
    flat = found["grpo"]
    rows = {name: [result(0.9, 0.5, curve=found.get(key, flat))] for key, name in names.items()}
    return runs(rows, base=result(0.6, 0.9, curve=flat))


SATURATED, RISING = [(1, 0.1), (2, 0.4), (4, 0.4)], [(1, 0.1), (2, 0.3), (4, 0.8)]


def test_figure_2_holds_where_ips_rises_and_the_others_do_not() -> None:
    good = curves(grpo=SATURATED, ips=RISING)
    found = ips_fig2.judge({"boolean": good}, whose="x")
    assert [entry.holds for entry in found] == ["yes", "yes", "yes"]
    assert "of 4 samples finds at most 25% of what is missing in 2 of 2" in found[0].measured
    assert "IPS-GRPO ahead of both from 4 samples on" in found[2].measured


def test_figure_2_counts_each_domain_and_method() -> None:
    bad = curves(grpo=RISING, ips=SATURATED)
    assert [entry.holds for entry in ips_fig2.judge({"boolean": bad}, whose="x")] == ["no", "no", "no"]
    assert "IPS-GRPO not ahead of both" in ips_fig2.judge({"boolean": bad}, whose="x")[2].measured
    mixed = curves(grpo=RISING, flowrl=SATURATED, ips=[(1, 0.1), (2, 0.3), (4, 0.6)])
    assert [entry.holds for entry in ips_fig2.judge({"a": mixed}, whose="x")] == ["partly"] * 3
    lost = curves(grpo=[(1, 0.0), (2, 0.0), (4, 0.0)])
    assert ips_fig2.judge({"boolean": lost}, whose="x")[0].holds == "no"  # it never found any


def test_even_draws_find_so_many() -> None:
    seen = Seen(samples=4, counts=[{"a": 1, "b": 1}, {"a": 3}])
    # Two draws of two answers: both equal half of the time; three: all equal a quarter of the time.
    assert seen.even(2) == pytest.approx((1.5 + 1.75) / 2)
    assert (seen.different(), seen.largest()) == (1.5, 0.75)
    none = Seen(samples=4, counts=[{}])
    assert (none.even(2), none.different()) == (0, 0)
    assert math.isnan(none.share_of_even(2))
    assert math.isnan(none.largest())


def fig4_5(plain: Mapping[str, int], ours: Mapping[str, int], *, other: tuple[int, int]) -> list[str]:
    def method(here: Mapping[str, int], elsewhere: int) -> dict[str, Seen]:
        return {
            "p": Seen(samples=64, counts=[here]),
            "q": Seen(samples=64, counts=[dict.fromkeys("abcdefgh"[:elsewhere], 1)]),
        }

    seen = {GRPO: method(plain, other[0]), IPS: method(ours, other[1])}
    found = ips_fig4_5.judge(seen, prompt="p", known=4, whose="x")
    assert all("nan" not in entry.measured for entry in found)
    return [entry.holds for entry in found]


def test_figures_4_and_5_compare_with_even_draws_and_over_all_prompts() -> None:
    one, all_four = {"a": 60}, dict.fromkeys("abcd", 15)
    assert fig4_5(one, all_four, other=(1, 5)) == ["yes", "yes", "yes"]
    assert fig4_5(all_four, one, other=(5, 1)) == ["no", "no", "no"]
    assert fig4_5(one, {"a": 50, "b": 5, "c": 5}, other=(5, 1)) == ["yes", "yes", "partly"]  # 3 of 4.0
    assert fig4_5({}, {}, other=(1, 1)) == ["no", "no", "no"]
    assert fig4_5(one, {"a": 30, "b": 5}, other=(1, 2))[1] == "partly"  # 2 of nearly 4.0
    assert fig4_5(one, {"a": 35}, other=(1, 2)) == ["yes", "no", "no"]  # more on one prompt of two


def test_a_structure_is_drawn_as_it_stands() -> None:
    blocks = ips_fig4_5.filled("010/000/031")
    assert blocks.shape == (3, 3, 3)
    # Columns from the left, rows from the front, layers from the ground.
    assert np.argwhere(blocks).tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 2, 0], [2, 0, 0]]


def test_good_answers_are_read_by_seed_and_prompt(tmp_path: Path) -> None:
    rows = [
        [("p", "a", True), ("p", "a", True), ("p", "b", False), ("q", "c", True)],
        [("p", "b", True), ("q", None, False), ("q", None, False), ("p", "a", True)],
    ]
    folders = [tmp_path / str(seed) for seed in range(2)]
    for folder, found in zip(folders, rows, strict=True):
        folder.mkdir()
        lines = [
            json.dumps({"prompt": prompt, "answer": answer, "correct": good})
            for prompt, answer, good in found
        ]
        (folder / "generations.jsonl").write_text("".join(f"{line}\n" for line in lines))
    runs_of = hypospace_runs.Runs(
        config=hypospace_runs.configuration(QUICK, "voxels"), before=None,
        base=result(1, 1), results={}, folders={IPS: folders},
    )  # fmt: skip
    seen = ips_fig4_5.samples_of(runs_of, IPS, prompts=["p", "q"])
    assert [dict(counts) for counts in seen["p"].counts] == [{"a": 2}, {"b": 1, "a": 1}]
    assert [dict(counts) for counts in seen["q"].counts] == [{"c": 1}, {}]


@pytest.mark.parametrize("scale", [QUICK, REAL, PAPER], ids=lambda scale: scale.name)
def test_the_papers_top_view_is_a_test_prompt_at_every_scale(scale: Scale) -> None:
    task = hypospace_runs.task_of(hypospace_runs.configuration(scale, "voxels"))
    found = [prompt for prompt in task.test_prompts if f"empty):\n{ips_fig4_5.VIEW}\n" in prompt]
    assert [len(task.known_answers(prompt)) for prompt in found] == [27]


def test_the_real_scale_is_smollm2_after_a_warm_start_and_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str, out: Path) -> bool:
        raise ConfigError("SmolLM2-135M-Instruct needs `pip install x`; x is not installed")

    monkeypatch.setattr("allmodes.text.packaged_models.prepare_model", missing)
    monkeypatch.chdir(tmp_path)
    config = hypospace_runs.configuration(REAL, "causal")
    assert config.warm_start is not None
    assert config.lora is not None
    assert (config.max_tokens, config.learning_rate) == (64, 2e-4)
    for name, module in (("ips-table2", ips_table2), ("ips-fig2", ips_fig2), ("ips-fig4-5", ips_fig4_5)):
        with pytest.raises(ConfigError, match=rf"{name} at --scale real: .* needs `pip install x`"):
            module.reproduce(REAL, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_papers_scale_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for module in (ips_table2, ips_fig2, ips_fig4_5):
        with pytest.raises(ConfigError, match=r"expected google/gemma-3-4b-it .*; got no accelerator"):
            module.reproduce(PAPER, lambda _: None)
    config = hypospace_runs.configuration(PAPER, "boolean")
    assert config.lora is not None
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (16, 32.0, 0.05)
