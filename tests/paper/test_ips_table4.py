"""Group size and clipping on a language model: which cells are one run, made-up verdicts, resuming."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch

from allmodes.errors import ConfigError
from allmodes.paper import hypospace_runs, ips_table4, ips_table4_runs, text_runs
from allmodes.paper.ips_table4_runs import Cell, Grid, Runs, configuration, grid_of, representative
from allmodes.paper.reproduction import PAPER, QUICK, REAL, Scale
from allmodes.text.reporting.results import Arm, TextResult
from allmodes.text.training import arms

TINY = Scale(name="test", seeds=1, steps=0.004, grid_steps=1)
GRID = Grid(groups=(4, 16, 32), clips=(0.0, 0.1, 0.5), batch=32)


def result(recovery: float, *, seed: int = 0, error: float = 0.03) -> TextResult:
    return TextResult(
        arm=None, seed=seed, samples=256, unscored=0, reward=0.5, answers={},
        metrics={"recovery_rate": recovery, "valid_rate": 0.9}, errors={"recovery_rate": error},
    )  # fmt: skip


def made_up(
    recoveries: Mapping[Cell, float], *, rewards: Mapping[Cell, Sequence[float]] | None = None
) -> Runs:
    cells = GRID.cells()
    return Runs(
        grid=GRID,
        config=configuration(QUICK, (16, 0.0)),
        base=result(0.4),
        before=None,
        results={cell: [result(recoveries.get(cell, recoveries[cell[0], 0.0]))] for cell in cells},
        rewards={cell: [(rewards or {}).get(cell, [0.5, 0.5, 0.2, 0.8])] for cell in cells},
    )


PAPERS: dict[Cell, float] = {
    (4, 0.0): 0.5, (4, 0.5): 0.3, (4, None): 0.2,
    (16, 0.0): 0.6, (16, 0.1): 0.8, (16, 0.5): 0.5, (16, None): 0.2,
    (32, 0.0): 0.7, (32, 0.1): 0.75, (32, 0.5): 0.6, (32, None): 0.3,
}  # fmt: skip
STEADY: dict[Cell, Sequence[float]] = {(32, 0.1): [0.1, 0.9, 0.5, 0.5]}


def judged(changes: Mapping[Cell, float], rewards: Mapping[Cell, Sequence[float]] | None = None) -> list[str]:
    return [
        entry.holds for entry in ips_table4.judge(made_up({**PAPERS, **changes}, rewards=rewards), whose="x")
    ]


def test_the_papers_claims_hold_where_the_numbers_have_them() -> None:
    assert judged({}, STEADY) == ["yes"] * 6
    said = [entry.measured for entry in ips_table4.judge(made_up(PAPERS, rewards=STEADY), whose="x")]
    assert said[0] == ("x: 0.50 ± 0.03 (G = 4), 0.60 ± 0.03 (G = 16), 0.70 ± 0.03 (G = 32); base 0.40")
    # Over the second half alone: 0.2 and 0.8 are 0.6/√2 apart, 0.5 and 0.5 not at all.
    assert said[1].endswith("G = 32: 0.424 (p_min 0), 0.000 (p_min 0.1), 0.424 (p_min 0.5)")
    assert said[3].endswith("0.20 (G = 4), 0.10 (G = 16), 0.10 (G = 32)")
    assert said[4] == "x: best G = 16, p_min = 0.1, 0.80 ± 0.03"
    assert said[5].endswith("worst cell of IPS-GRPO 0.30")


@pytest.mark.parametrize(
    ("place", "changes", "holds"),
    [
        (0, {(16, 0.0): 0.45}, "partly"),
        (0, {(4, 0.0): 0.9, (16, 0.0): 0.85}, "no"),
        (1, {}, "no"),  # as unsteady as without clipping
        (2, {(16, 0.5): 0.6}, "partly"),
        (2, {(4, 0.5): 0.6, (16, 0.5): 0.6, (32, 0.5): 0.7}, "no"),
        (3, {(4, 0.5): 0.45}, "no"),
        (3, {(4, 0.5): 0.5, (16, 0.5): 0.7, (32, 0.5): 0.7}, "no"),  # nothing is lost
        (4, {(32, 0.1): 0.9}, "partly"),
        (4, {(32, 0.5): 0.9}, "no"),
        (5, {(4, None): 0.4}, "partly"),
        (5, {(4, None): 0.9, (16, None): 0.9, (32, None): 0.9}, "no"),
    ],
)
def test_verdicts_come_from_the_numbers(place: int, changes: Any, holds: str) -> None:
    assert judged(changes)[place] == holds


def test_a_clipping_below_the_lowest_frequency_is_the_same_run_and_no_clipping() -> None:
    assert [representative((4, clip)) for clip in (0.0, 0.1, 0.25, 0.5)] == [(4, 0.0)] * 3 + [(4, 0.5)]
    assert representative((16, 0.1)) == (16, 0.1)
    assert representative((16, None)) == (16, None)
    found = ips_table4.judge(made_up({**PAPERS, (4, 0.0): 0.9}), whose="x")
    assert "best G = 4, p_min = 0," in found[4].measured
    assert found[4].holds == "no"


def test_all_cells_have_equal_samples_and_each_its_method() -> None:
    for scale, groups in ((QUICK, (4, 16, 64)), (REAL, (4, 8, 16)), (PAPER, (4, 8, 16, 32, 64))):
        grid = grid_of(scale)
        assert grid.groups == groups
        for group, clip in grid.cells():
            config = configuration(scale, (group, clip))
            assert config.group_size == group
            assert config.prompts_per_step * group == grid.batch
            assert config.method == (("vanilla",) if clip is None else ("ips",))
            assert clip is None or config.methods.make("ips").min_probability == clip  # pyright: ignore
            assert not config.scale_rewards
            assert (config.lora is not None) == (scale is not QUICK)
            assert (config.warm_start is not None) == (scale is REAL)
    assert configuration(PAPER, (4, 0.0)).task.domain == "causal"  # pyright: ignore


def test_a_mean_over_seeds_and_its_error_by_hand() -> None:
    cell: Cell = (4, 0.0)
    runs = Runs(
        grid=GRID, config=configuration(QUICK, cell), base=result(0.1), before=None,
        results={cell: [result(0.2, error=0.03), result(0.4, seed=1, error=0.04)]},
        rewards={cell: [[9.0, 0.0, 2.0], [9.0, 9.0, 1.0, 1.0]]},
    )  # fmt: skip
    assert runs.mean(cell) == pytest.approx(0.3)
    assert runs.error(cell) == pytest.approx(0.05 / 2)
    assert runs.unsteadiness(cell) == pytest.approx(2**0.5 / 2)  # √2 and 0


def test_cells_that_are_one_run_are_one_and_each_has_its_own_results(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Cell] = []

    def fake(subject: Any, configs: Sequence[Any], *_: Any, **__: Any) -> text_runs.Runs:
        done = []
        for config in configs:
            clip = config.methods.make("ips").min_probability if config.method == ("ips",) else None
            trained.append((config.group_size, clip))
            arm = Arm(trainer="grpo", kl="reverse", method=config.method[0], beta=0.01)
            own = result(config.group_size / 100 + (clip or 0) / 1000)
            done.append(text_runs.Run(config=config, arm=arm, seed=0, path=tmp, result=own))
        return text_runs.Runs(base=result(0.4), before=None, done=done)

    tmp = Path("nowhere")
    monkeypatch.setattr(text_runs, "run", fake)
    monkeypatch.setattr(text_runs.Run, "rows", lambda _: [{"reward": 0.5}, {"reward": None}])
    runs = ips_table4_runs.run(QUICK, lambda _: None, item="x")
    assert trained == [(4, 0.0), (4, 0.5), (4, None)] + [
        (group, clip) for group in (16, 64) for clip in (0.0, 0.1, 0.5, None)
    ]
    assert runs.results[4, 0.1] is runs.results[4, 0.0]
    assert runs.mean((64, 0.1)) == pytest.approx(0.6401)
    assert runs.rewards[16, None] == [[0.5]]


def test_table_2_and_table_4_share_the_runs_of_one_group_size() -> None:
    for scale, group in ((QUICK, 16), (REAL, 8)):
        table2 = hypospace_runs.configuration(scale, "boolean")
        for clip in (0.0, None):
            config = configuration(scale, (group, clip))
            (arm,) = arms(config)
            assert arm in arms(table2)
            one, two = (text_runs._narrowed(found, arm, 0) for found in (table2, config))
            assert one.model_copy(update={"flowrl": two.flowrl}) == two  # which GRPO does not read
            assert text_runs._name(one, arm, 0) == text_runs._name(two, arm, 0)
        (clipped,) = arms(configuration(scale, (group, 0.5)))
        names = {text_runs._name(configuration(scale, (group, clip)), clipped, 0) for clip in (0.0, 0.5)}
        assert len(names) == 2


def test_scales_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(text_runs.WORK, str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"expected google/gemma-3-4b-it .*; got no accelerator"):
        ips_table4.reproduce(PAPER, lambda _: None)

    def missing(name: str, out: Path) -> bool:
        raise ConfigError(f"{name} needs `pip install x`; x is not installed")

    monkeypatch.setattr("allmodes.text.packaged_models.prepare_model", missing)
    with pytest.raises(ConfigError, match=r"ips-table4 at --scale real: smollm2 needs `pip install x`"):
        ips_table4.reproduce(REAL, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_the_table_has_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(ips_table4_runs, "run", lambda *_, **__: made_up(PAPERS))
    done = ips_table4.reproduce(QUICK, lambda _: None)
    assert "| 16 | 0.60 ± 0.03 | 0.80 ± 0.03 | 0.50 ± 0.03 | 0.20 ± 0.03 |" in done.tables[0]
    assert len(done.numbers["cells"]) == 12
    assert len(done.figure.axes) == 2
    assert "stand-in" in " ".join(done.notes)
    assert all(entry.measured.startswith("stand-in: ") for entry in done.verdicts)
