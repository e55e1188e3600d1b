"""Table 2 of MARA and Table 3 of IPS: verdicts from the numbers, tables, and runs that both share."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

pytest.importorskip("rdkit")
pytest.importorskip("matplotlib")

from allmodes.chem.design import grid
from allmodes.chem.design.results import RunResult
from allmodes.chem.surrogate import SurrogateCard
from allmodes.errors import ConfigError
from allmodes.paper import ips_table3, mara_table2, molecule_tables
from allmodes.paper.reproduction import PAPER as PAPER_SCALE
from allmodes.paper.reproduction import QUICK as QUICK_SCALE
from allmodes.paper.reproduction import Scale
from allmodes.paper.study import Row, Study
from allmodes.paper.study_settings import (
    IPS_ARMS,
    MARA_80,
    MARA_85,
    MARA_ARMS,
    PAPER,
    QUICK,
    REINVENT,
    Settings,
)
from allmodes.reports.plotting import figure_style

CARD = SurrogateCard(
    target="docking with Vina", molecules=900, penalty=10.0, rmse=0.61, mean_error=0.47, r2=0.65,
    rank_correlation=0.79, spread=1.04,
)  # fmt: skip
METRICS = ("hits", "ob100", "intdiv1", "circles")
Key = tuple[str, float, float, str]


def run(seed: int, values: tuple[float | None, ...]) -> RunResult:
    hits, ob100, intdiv1, circles = values
    any_values: Any = {"hits": hits, "ob100": ob100, "intdiv1": intdiv1, "circles": circles}
    return RunResult(
        algorithm="x", seed=seed, stopped_by="budget", steps=1, calls=100, failures={"a: died": 2},
        collapsed_at_step=None, **any_values,
    )  # fmt: skip


def made_up(
    settings: Settings, values: dict[Key, tuple[float, ...]], changes: dict[Key, dict[str, Any]] | None = None
) -> Study:
    """A study with five seeds of these means and standard deviations; changes: values of every seed."""
    changes, rows = changes or {}, []
    for screen in settings.screens:
        for task in settings.tasks:
            for sigma in settings.sigmas:
                for arm in settings.arms:
                    key = (task, screen, sigma, arm.name)
                    if key not in values:
                        continue
                    columns = [
                        changes.get(key, {}).get(
                            metric,
                            [values[key][2 * i] + values[key][2 * i + 1] * z for z in spread()],
                        )
                        for i, metric in enumerate(METRICS)
                    ]
                    runs = tuple(run(s, v) for s, v in enumerate(zip(*columns, strict=True)))
                    rows.append(Row(task=task, screen=screen, sigma=sigma, arm=arm.name, runs=runs))
    return Study(settings=settings, rows=tuple(rows), surrogate=CARD)


def spread() -> list[float]:
    """Five numbers with mean 0 and standard deviation 1."""
    return [step / 2.5**0.5 for step in (-2, -1, 0, 1, 2)]


def papers_own(**changes: Any) -> Study:
    return made_up(PAPER, mara_table2._FIGURES, **changes)


TABLE_2 = replace(PAPER, sigmas=(128.0,))


def holds(study: Study) -> list[str]:
    return [entry.holds for entry in mara_table2.judge(study)]


def test_the_papers_figures() -> None:
    figures = mara_table2._FIGURES
    assert len(figures) == 28
    assert figures["SYNTH", 0.85, 128, "MARA (τ = 0.85)"] == (2196, 394, 4010, 297, 0.703, 0.011, 7, 1)
    assert figures["ALL-AMIDE", 0.85, 512, "REINVENT"] == (1054, 152, 4620, 438, 0.739, 0.009, 8, 0)
    for (task, screen, sigma, arm), values in figures.items():
        lower = figures[task, 0.80, sigma, arm]
        assert screen == 0.80 or (values[0] < lower[0] and values[2] > lower[2] and values[6] < lower[6])
    row = papers_own().row("ALL-AMIDE", screen=0.8, sigma=128.0, arm=MARA_80)
    assert mara_table2.paper_figure(row, "ob100") == (1407, 123)
    assert mara_table2.paper_figure(row, "circles") == (36, 3)
    assert mara_table2.paper_figure(replace(row, sigma=64.0), "hits") is None


def test_the_papers_own_figures_bear_out_what_they_bear_out() -> None:
    # Three of the four gains in Yield are clear, Circles of SYNTH at .80 are clearly lower, and more Yields
    # differ clearly between σ than chance explains.
    assert holds(papers_own()) == ["yes", "partly", "yes", "yes", "partly", "partly", "yes"]
    found = mara_table2.judge(papers_own())
    p = stats.ttest_ind_from_stats(6834, 78, 5, 6569, 186, 5, equal_var=False, alternative="greater").pvalue
    assert f"SYNTH 0.80: 6834 ± 78 against 6569 ± 186 (p =\N{NO-BREAK SPACE}{p:.3f})" in found[0].paper
    # Made of the paper's figures, the measured ones are the paper's, their tests included.
    assert found[0].measured == "docking stand-in: " + found[0].paper
    assert found[2].measured == "docking stand-in: " + found[2].paper
    assert found[1].paper.startswith("3 of 4")
    assert found[1].measured == "docking stand-in: 3 of 4"
    clear = 0
    for (task, screen, sigma, arm), values in mara_table2._FIGURES.items():
        if sigma != 128:
            other = mara_table2._FIGURES[task, screen, 128, arm]
            p = stats.ttest_ind_from_stats(
                values[0], values[1], 5, other[0], other[1], 5, equal_var=False
            ).pvalue
            clear += p <= 0.1  # two-sided
    assert found[5].paper.startswith(f"no claim in the text; {clear} of 16 differ")
    assert f"{clear} of 16 differ clearly" in found[5].measured


@pytest.mark.parametrize(
    ("place", "key", "changes", "expected"),
    [
        (0, ("SYNTH", 0.80, 128, "REINVENT"), {"hits": [9000, 9001, 9002, 9003, 9004]}, "partly"),
        (1, ("SYNTH", 0.80, 128, "MARA (τ = 0.80)"), {"hits": [6569, 6570, 6571, 6572, 6573]}, "partly"),
        (2, ("ALL-AMIDE", 0.85, 128, "REINVENT"), {"ob100": [10, 11, 12, 13, 14]}, "partly"),
        (2, ("ALL-AMIDE", 0.85, 128, "REINVENT"), {"ob100": [4360, 4361, None, 4362, 4363]}, "partly"),
        (3, ("SYNTH", 0.85, 128, "MARA (τ = 0.80)"), {"hits": [9000, 9001, 9002, 9003, 9004]}, "partly"),
        (4, ("SYNTH", 0.80, 128, "MARA (τ = 0.80)"), {"circles": [67, 66, 65, 68, 69]}, "yes"),
        (4, ("SYNTH", 0.80, 128, "MARA (τ = 0.80)"), {"intdiv1": [0.1, 0.2, 0.1, 0.2, 0.3]}, "partly"),
    ],
)
def test_verdicts_come_from_the_numbers(place: int, key: Key, changes: Any, expected: str) -> None:
    study = made_up(TABLE_2, mara_table2._FIGURES, {key: changes})
    assert len(holds(study)) == 5  # other σ were not run, and are not judged
    assert holds(study)[place] == expected


def test_no_hits_are_no_evidence_for_anybody() -> None:
    nothing: dict[str, Any] = {
        "hits": [0] * 5,
        "ob100": [None] * 5,
        "intdiv1": [None] * 5,
        "circles": [0] * 5,
    }
    study = made_up(TABLE_2, mara_table2._FIGURES, dict.fromkeys(mara_table2._FIGURES, nothing))
    assert holds(study) == ["no", "no", "no", "no", "partly"]
    found = mara_table2.judge(study)
    assert "SYNTH 0.80: 0.0 ± 0.0 against 0.0 ± 0.0 (no test)" in found[0].measured
    assert "MARA (τ = 0.85) undefined in 5 of 5 seeds, cannot be judged" in found[2].measured
    assert "clearly lower in 0 of 4 that can be judged, of 8" in found[4].measured
    assert not any("nan" in entry.measured for entry in found)


def test_other_sigmas_are_judged_where_they_were_run() -> None:
    worse = {
        (task, screen, sigma, "MARA (τ = 0.80)"): {"hits": [1, 2, 3, 4, 5]}
        for task in ("SYNTH", "ALL-AMIDE")
        for screen in (0.80, 0.85)
        for sigma in (256, 512)
    }
    study = papers_own(changes=worse)
    assert holds(study)[5:] == ["no", "no"]
    across, against = (entry.measured for entry in mara_table2.judge(study)[5:])
    assert "MARA (τ = 0.80), σ = 512, ALL-AMIDE 0.85 (p >\N{NO-BREAK SPACE}0.999)" in across
    assert "clearly lower in 8: σ = 256, SYNTH 0.80: 3.0 ± 1.6 against 6618 ± 93" in against
    assert "σ = 128" not in against


def ips(**means: float) -> Study:
    settings = replace(PAPER, arms=IPS_ARMS, sigmas=(128.0,))
    values = {
        (task, screen, 128.0, arm.name): (
            means[arm.algorithm.replace("-", "_")],
            10.0,
            1000.0,
            50.0,
            0.7,
            0.1,
            9,
            1,
        )
        for task in settings.tasks
        for screen in settings.screens
        for arm in IPS_ARMS
    }
    return made_up(settings, values)


def test_ips_is_judged_by_order() -> None:
    def judged(study: Study) -> list[str]:
        return [entry.holds for entry in ips_table3.judge(study)]

    assert judged(ips(reinvent=500, grpo=300, ips_grpo=600)) == ["yes", "no", "yes"]
    assert judged(ips(reinvent=700, grpo=900, ips_grpo=800)) == ["yes", "no", "no"]
    assert judged(ips(reinvent=700, grpo=900, ips_grpo=600)) == ["no", "no", "no"]
    study = ips(reinvent=500, grpo=300, ips_grpo=600)
    assert "SYNTH 0.85: 600 ± 10 against 300 ± 10" in ips_table3.judge(study)[2].measured
    rows = [
        replace(row, runs=tuple(replace(run, ob100=10) for run in row.runs))
        if (row.arm, row.task) == ("IPS-GRPO", "SYNTH")
        else row
        for row in study.rows
    ]
    assert judged(replace(study, rows=tuple(rows))) == ["yes", "partly", "yes"]


def test_tables_show_ours_the_test_and_the_papers() -> None:
    study = papers_own(changes={("SYNTH", 0.80, 256, "REINVENT"): {"ob100": [900, 950, None, 1000, None]}})
    tables = molecule_tables.markdown(study, mara_table2.paper_figure, with_paper=True)
    assert [table.split(", mean")[0] for table in tables] == [
        f"{task}, screen {screen}" for task in ("SYNTH", "ALL-AMIDE") for screen in ("0.80", "0.85")
    ]
    head, rule, *lines = tables[0].split("\n\n")[1].splitlines()
    assert head == "| σ | Algorithm | Yield | paper | OB100 | paper | IntDiv1 | paper | Circles | paper |"
    assert rule.count("---") == 10
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| 128", "REINVENT"], ["| 128", "MARA (τ = 0.80)"], ["| 128", "MARA (τ = 0.85)"],
        ["| 256", "REINVENT"], ["| 256", "MARA (τ = 0.80)"],
        ["| 512", "REINVENT"], ["| 512", "MARA (τ = 0.80)"],
    ]  # fmt: skip
    assert "| 128 | REINVENT | 6569 ± 186 | 6569 ± 186 | 1042 ± 66 | 1042 ± 66 | 0.766 ± 0.011 |" in lines[0]
    p = stats.ttest_ind_from_stats(6834, 78, 5, 6569, 186, 5, equal_var=False, alternative="greater").pvalue
    assert f"| 6834 ± 78 (p =\N{NO-BREAK SPACE}{p:.3f}) | 6834 ± 78 |" in lines[1]
    assert "| 950 ± 50, undefined in 2 of 5 seeds | 1080 ± 89 |" in lines[3]
    assert "(no test) | 1068 ± 50 |" in lines[4]


def test_numbers_hold_every_seed_and_notes_what_stands_in() -> None:
    study = papers_own()
    numbers = molecule_tables.numbers(study, mara_table2.paper_figure)
    assert len(numbers["rows"]) == 28
    entry = numbers["rows"][1]
    assert (entry["arm"], entry["sigma"], entry["screen"]) == ("MARA (τ = 0.80)", 128.0, 0.8)
    assert entry["hits"]["seeds"] == tuple(run["hits"] for run in entry["runs"])
    assert (entry["hits"]["mean"], entry["hits"]["sd"]) == (pytest.approx(6834), pytest.approx(78))
    assert entry["hits"]["paper"] == (6834, 78)
    assert entry["ob100"]["p_better"] == study.rows[1].p_better(study.rows[0], "ob100")
    assert numbers["rows"][0]["hits"]["p_better"] is None
    assert numbers["surrogate"]["rmse"] == 0.61
    said = " ".join(molecule_tables.notes(study))
    assert "trained on 900 molecules" in said
    assert "RMSE 0.61, mean 0.47 kcal/mol, where the scores' standard deviation is 1.04" in said
    assert "280 of 14,000 calls" not in said
    assert "140 of 7,000" in said  # 14 rows of a screen, five runs of 100 calls each, two failures in each
    assert "too few" not in said
    short = replace(study.rows[0], runs=(replace(study.rows[0].runs[0], stopped_by="max_steps"),))
    quick = replace(study, rows=(short, *study.rows[1:]), settings=replace(PAPER, budget=32))
    said = " ".join(molecule_tables.notes(quick))
    assert "1 of 66 runs ended before their budget was spent: max steps." in said
    assert "32 calls are too few" in said


def test_the_figure_shows_every_seed() -> None:
    with figure_style():
        figure = molecule_tables.draw(papers_own())
        assert [axes.get_title(loc="left") for axes in figure.axes] == [
            f"{task}, screen {screen}" for task in ("SYNTH", "ALL-AMIDE") for screen in ("0.80", "0.85")
        ]
        dots = [len(points.get_offsets()) for points in figure.axes[0].collections if len(points.get_paths())]
        assert dots.count(5) == 7
        assert "docking stand-in" in figure.get_supxlabel()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "σ = 128",
            "σ = 256",
            "σ = 512",
        ]


def test_scales_choose_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert molecule_tables.settings_of(PAPER_SCALE, MARA_ARMS) == PAPER
    assert molecule_tables.settings_of(QUICK_SCALE, IPS_ARMS) == replace(QUICK, arms=IPS_ARMS)
    tiny = molecule_tables.settings_of(Scale(name="test", seeds=1, steps=0.25, grid_steps=1), MARA_ARMS)
    assert (tiny.seeds, tiny.budget) == ((0,), QUICK.budget // 4)
    monkeypatch.setenv("ALLMODES_RECEPTOR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"without receptor\.pdbqt"):
        mara_table2.reproduce(QUICK_SCALE, lambda _: None)
    for name in ("receptor.pdbqt", "reference_ligand.pdb"):
        (tmp_path / name).write_text("")
    settings = molecule_tables.settings_of(QUICK_SCALE, MARA_ARMS)
    assert settings.docking == "docking"
    assert molecule_tables.said_of(settings) == "Vina: "
    assert (
        "AutoDock Vina" in molecule_tables.notes(replace(papers_own(), settings=settings, surrogate=None))[0]
    )


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "syntheseus" else real(name)
    )
    with pytest.raises(
        ConfigError, match=r"table2 needs `.*pip install .*\[retrosynthesis,report\].*`; syntheseus is not"
    ):
        mara_table2.reproduce(QUICK_SCALE, lambda _: None)


def test_both_items_share_the_runs_of_reinvent(
    small_study: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = grid.run_job

    def spy(config: Any, job: Any, on_step: Any) -> None:
        done.append(job.path.parent.name)
        real(config, job, on_step)

    monkeypatch.setattr(grid, "run_job", spy)
    monkeypatch.setenv("ALLMODES_TABLE2_WORK", str(tmp_path / "work"))
    steps: list[int] = []
    with figure_style():
        first = mara_table2.reproduce(PAPER_SCALE, steps.append)
        # Two tasks, two seeds, and at σ = 128 and 256 REINVENT and MARA (τ = .80), at 128 MARA (τ = .85).
        assert len(done) == 2 * 2 * 5
        assert len(steps) >= len(done)
        assert len(first.verdicts) == 7
        done.clear()
        second = ips_table3.reproduce(PAPER_SCALE, steps.append)
    assert len(done) == 2 * 2 * 2
    assert all("grpo" in name for name in done)
    rows = {
        item: [
            row["runs"] for row in result.numbers["rows"] if row["arm"] == "REINVENT" and row["sigma"] == 128
        ]
        for item, result in (("mara", first), ("ips", second))
    }
    assert rows["mara"] == rows["ips"]
    assert len(rows["mara"]) == 4
    assert not math.isnan(first.numbers["rows"][0]["hits"]["mean"])
    assert MARA_85.name in first.notes[-1]
    assert REINVENT.name in second.notes[-1]
    assert "paper |" not in second.notes[-1]
