"""The report: its numbers, its escaping, and what it says when there is little to say."""

import html
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.results import RunResult, find_hits
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.figures import circles_at, draw_molecule, hits_at, mean_reward_at
from allmodes.chem.reporting.report import write_report
from allmodes.errors import ConfigError
from allmodes.runs.provenance import provenance
from molecule_settings import molecule_config
from pages import without_origin

SMILES = (
    "CC(=O)Nc1ccc(O)cc1", "CC(=O)Nc1ccc(OC)cc1", "O=C(O)c1ccccc1", "Cc1ccccc1", "c1ccncc1", "C1CCNCC1",
    "CCOC(C)=O", "NS(=O)(=O)c1ccc(F)cc1", "Clc1ccc2[nH]ccc2c1", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "C1CCOCC1",
    "CCCCBr",
)  # fmt: skip
# Yield, OB100, IntDiv1, #Circles of three seeds each.
REINVENT = [(110, 900, 0.71, 9), (130, 850, 0.70, 11), (101, 990, 0.72, 10)]
MARA = [(310, 400, 0.70, 10), (290, 430, 0.72, 9), (305, 380, 0.70, 11)]
HOSTILE = "<script>alert('x')</script>"
NBSP = "\N{NO-BREAK SPACE}"

Ledgers = dict[tuple[str, int], list[LedgerRow]]


def settings(**changes: Any) -> MoleculesConfig:
    values = {
        "algorithm": ["reinvent", "mara"],
        "seeds": [0, 1, 2],
        "budget": 12,
        "prior": Path("/home/somebody/prior.safetensors"),
        **changes,
    }
    return molecule_config(**values)


def ledger(
    rewards: list[float | None], *, failure: str = "qed: raised: no", name: str = "qed"
) -> list[LedgerRow]:
    return [
        LedgerRow(
            call=index + 1,
            step=1,
            evaluation=Evaluation(
                smiles=SMILES[index % len(SMILES)],
                raw={} if reward is None else {name: reward},
                shaped={} if reward is None else {name: reward},
                reward=reward,
                failure=failure if reward is None else None,
            ),
            penalised_reward=reward,
        )
        for index, reward in enumerate(rewards)
    ]


def result(algorithm: str, seed: int, *figures: Any, **changes: Any) -> RunResult:
    values = dict(zip(("hits", "ob100", "intdiv1", "circles"), figures, strict=True))
    values |= {"stopped_by": "budget", "steps": 1, "calls": 12, "failures": {}, "collapsed_at_step": None}
    return RunResult(algorithm=algorithm, seed=seed, **{**values, **changes})


def three_seeds(reinvent: list[Any] = REINVENT, mara: list[Any] = MARA) -> list[RunResult]:
    groups = {"reinvent": reinvent, "mara": mara}
    return [result(name, seed, *row) for name, rows in groups.items() for seed, row in enumerate(rows)]


def ledgers_of(results: list[RunResult], rows: list[LedgerRow] | None = None) -> Ledgers:
    rows = ledger([index / 12 for index in range(12)]) if rows is None else rows
    return {(run.algorithm, run.seed): rows for run in results}


def written(folder: Path, config: MoleculesConfig, results: list[RunResult], ledgers: Ledgers) -> str:
    write_report(folder / "report.html", config, results, ledgers)
    return (folder / "report.html").read_text(encoding="utf-8")


def comparison(page: str) -> dict[str, list[str]]:
    """The cells of the first table as text, by the first word of the row."""
    table = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert table is not None
    rows = {}
    for row in re.findall(r"<tr>(.*?)</tr>", table.group(1), re.DOTALL):
        name = re.search(r"<th>([^<]+)", row)
        assert name is not None
        cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
        rows[name.group(1)] = [html.unescape(re.sub(r"<[^>]+>", " ", cell)).strip() for cell in cells]
    return rows


def verdict(page: str) -> str:
    found = re.search(r'<div class="verdict">\s*<p>(.*?)</p>', page, re.DOTALL)
    assert found is not None
    return html.unescape(found.group(1)).replace(NBSP, " ")


def test_numbers_are_those_of_the_results_by_another_route(tmp_path: Path) -> None:
    results = three_seeds()
    rows = comparison(written(tmp_path, settings(), results, ledgers_of(results)))
    sides = {"Yield": "greater", "OB100": "less", "IntDiv1": "greater", "#Circles": "greater"}
    assert list(rows) == list(sides)
    for column, (name, side) in enumerate(sides.items()):
        first, later = ([float(row[column]) for row in group] for group in (REINVENT, MARA))
        places = ".3f" if name == "IntDiv1" else ".1f"
        for cell, values in zip(rows[name], (first, later), strict=False):
            assert cell == f"{statistics.mean(values):{places}} ± {statistics.stdev(values):{places}}"
        p = stats.ttest_ind(later, first, equal_var=False, alternative=side).pvalue
        shown = rows[name][2].replace(NBSP, " ")
        assert shown == "< 0.001" if p < 0.001 else float(shown) == pytest.approx(p, abs=0.005)


def test_the_verdict_names_what_differs_and_in_whose_favour(tmp_path: Path) -> None:
    results = three_seeds()
    better = verdict(written(tmp_path, settings(), results, ledgers_of(results)))
    assert re.fullmatch(
        r"Compared with REINVENT, MARA found more hits \(p < 0\.001\) and reached 100 hits in fewer calls "
        r"\(p = 0\.002\)\. IntDiv1 \(p = 0\.\d+\) and #Circles \(p = 0\.\d+\) do not differ clearly\.",
        better,
    )
    turned = three_seeds(MARA, REINVENT)
    worse = verdict(written(tmp_path, settings(), turned, ledgers_of(turned)))
    assert "MARA found fewer hits (p > 0.999) and needed more calls for 100 hits (p = 0.998)" in worse


def test_the_first_algorithm_of_the_configuration_is_the_reference(tmp_path: Path) -> None:
    results = three_seeds()
    page = written(tmp_path, settings(algorithm=["mara", "reinvent"]), results, ledgers_of(results))
    assert verdict(page).startswith("Compared with MARA, REINVENT found fewer hits (p > 0.999)")
    assert comparison(page)["Yield"][0] == "301.7 ± 10.4"


def test_a_figure_that_some_seeds_lack_is_averaged_over_the_others_and_not_tested(tmp_path: Path) -> None:
    results = three_seeds(mara=[(310, 400, 0.70, 10), (290, 430, 0.72, 9), (60, None, 0.70, 11)])
    page = written(tmp_path, settings(), results, ledgers_of(results))
    cells = [" ".join(cell.split()) for cell in comparison(page)["OB100"]]
    assert cells[1:] == ["415.0 ± 21.2 undefined in 1 of 3 seeds", "– no test: undefined in some seeds"]
    assert "Not tested: OB100." in verdict(page)


def test_one_algorithm_with_one_seed_shows_values_without_spread(tmp_path: Path) -> None:
    results = [result("mara", 4, 60, None, 0.75, 7)]
    page = written(tmp_path, settings(algorithm="mara", seeds=4), results, ledgers_of(results))
    assert comparison(page) == {
        "Yield": ["60"],
        "OB100": ["–  undefined in 1 of 1 seed"],
        "IntDiv1": ["0.750"],
        "#Circles": ["7"],
    }
    assert verdict(page) == "MARA is the only arm: there is nothing to compare it with."
    assert "nan" not in re.sub(r"<style>.*?</style>", "", without_origin(page), flags=re.DOTALL).lower()


def test_two_algorithms_with_one_seed_each_are_not_tested(tmp_path: Path) -> None:
    results = [result("reinvent", 0, *REINVENT[0]), result("mara", 0, *MARA[0])]
    page = written(tmp_path, settings(seeds=0), results, ledgers_of(results))
    cells = {" ".join(row[2].split()) for row in comparison(page).values()}
    assert cells == {"– no test with fewer than two seeds"}
    assert "no test with fewer than two seeds" in verdict(page)


def test_without_hits_the_best_below_the_hit_threshold_are_drawn(tmp_path: Path) -> None:
    results = three_seeds([(0, None, None, 0)] * 3, [(0, None, None, 0)] * 3)
    page = written(tmp_path, settings(hit_threshold=1.0), results, ledgers_of(results))
    assert page.count("No molecule reached the hit threshold of 1.") == 2
    assert page.count('<div class="card"') == 12
    best = [f"{index / 12:.3f}" for index in (11, 10, 9, 8, 7, 6)]
    assert re.findall(r"reward <b>([\d.]+)", page) == best * 2
    assert verdict(page) == "No verdict on MARA and REINVENT: no figure could be tested."


def test_a_run_whose_calls_all_failed_still_gets_its_report(tmp_path: Path) -> None:
    results = [result("mara", 0, 0, None, None, 0, failures={"qed: raised": 12})]
    page = written(tmp_path, settings(algorithm="mara"), results, ledgers_of(results, ledger([None] * 12)))
    assert "No molecule was scored." in page


def test_molecules_are_the_best_of_each_circle_over_all_seeds(tmp_path: Path) -> None:
    early, late = ledger([0.9, 0.8, 0.1]), ledger([0.9, 0.8, 0.1, 0.7, 0.2, 0.95])
    results = [result("mara", 0, 2, None, 0.4, 1), result("mara", 1, 4, None, 0.7, 3)]
    page = written(tmp_path, settings(algorithm="mara"), results, {("mara", 0): early, ("mara", 1): late})
    hits = find_hits(late, hit_threshold=0.5, circle_distance=0.75)
    best = [hit.row.evaluation.smiles for hit in hits if hit.circle is not None]
    assert 1 < len(best) < len(hits)
    assert [html.unescape(line) for line in re.findall(r'<div class="smiles">(.*?)</div>', page)] == best
    assert f"{len(best)} of {len(best)} circles" in page
    assert f"{len(hits)} distinct hits of all 2 seeds" in page


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    results = three_seeds()
    (tmp_path / "provenance.json").write_text(json.dumps(provenance()))
    pages = [written(tmp_path, settings(), results, ledgers_of(results)) for _ in range(2)]
    assert pages[0] == pages[1]


def test_what_models_and_users_wrote_is_escaped(tmp_path: Path) -> None:
    failure = f"{HOSTILE}: raised: <img src=x onerror=alert(1)>"
    rows = ledger([None, 0.9, 0.7], failure=failure, name=HOSTILE)
    results = three_seeds()
    results[0] = result("reinvent", 0, *REINVENT[0], failures={f"{HOSTILE}: raised": 1})
    config = settings(oracle={"components": [{"kind": "smarts", "name": HOSTILE, "patterns": ["</td><b>"]}]})
    page = written(tmp_path, config, results, ledgers_of(results, rows))
    for dangerous in ("<script", "<img", "</td><b>", "onerror=alert(1)>"):
        assert dangerous not in page
    assert html.escape(HOSTILE, quote=False) in page.replace("&#39;", "'")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_failures_are_counted_by_kind_and_the_first_is_quoted_without_its_folder(tmp_path: Path) -> None:
    rows = ledger([None, 0.9, 0.7], failure="qed: raised: OSError: no '/home/somebody/models/a.pt'")
    results = [
        result("reinvent", 0, *REINVENT[0], failures={"qed: raised": 3, "qed: died": 1}),
        result("mara", 0, *MARA[0], failures={"qed: raised": 1}),
    ]
    page = written(tmp_path, settings(seeds=0), results, ledgers_of(results, rows))
    kinds = re.findall(r'<td class="wrap">(qed: \w+)</td>\s*<td>(\d+)</td>\s*<td>(\d+)</td>', page)
    assert kinds == [("qed: raised", "3", "1"), ("qed: died", "1", "0")]
    assert "no &#39;…/a.pt&#39;" in page


def test_the_page_loads_nothing_and_names_no_folder(tmp_path: Path) -> None:
    process = {"kind": "process", "name": "dock", "command": ["/home/somebody/dock.py", "--fast"]}
    config = settings(oracle={"components": [process]})
    results = three_seeds()
    page = written(tmp_path, config, results, ledgers_of(results))
    assert "program dock.py --fast" in page
    assert "/home" not in page
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http" not in without_namespaces.replace("http-equiv", "")
    assert "src=" not in page
    assert {link[0] for link in re.findall(r'(?:href="|url\()(.)', page)} <= {"#"}


def test_runs_that_ended_early_are_pointed_out(tmp_path: Path) -> None:
    results = three_seeds()
    results[1] = result("reinvent", 1, *REINVENT[1], calls=5, stopped_by="collapse", collapsed_at_step=7)
    ledgers = ledgers_of(results)
    ledgers["reinvent", 1] = ledgers["reinvent", 1][:5]
    page = written(tmp_path, settings(stop_at_hits=50), results, ledgers)
    assert "1 of 6 runs ended before the budget was spent" in page
    assert "Runs stop at 50 hits" in page
    assert "<td>step 7</td>" in page


def test_every_drawing_is_well_formed(tmp_path: Path) -> None:
    results = three_seeds()
    page = written(tmp_path, settings(), results, ledgers_of(results))
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 1 + page.count('<div class="card"') > 2
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert draw_molecule("CCO") != draw_molecule("CCN")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"\[report\].*jinja2 is not installed"):
        write_report(tmp_path / "report.html", settings(), [], {})


def test_curves_are_those_of_the_ledger_cut_at_each_number_of_calls() -> None:
    generator = np.random.default_rng(0)
    rewards: list[float | None] = generator.uniform(size=330).tolist()
    for index in range(0, 330, 7):
        rewards[index] = None
    rows, calls = ledger(rewards), np.array([0, 1, 49, 50, 199, 200, 201, 330, 331])

    def mean(end: int) -> float:
        scored = [reward for reward in rewards[max(0, end - 200) : end] if reward is not None]
        return float("nan") if end < 50 or end > 330 else statistics.fmean(scored)

    np.testing.assert_allclose(mean_reward_at(rows, calls), [mean(end) for end in calls])
    hits = [sum(r is not None and r >= 0.5 for r in rewards[:end]) for end in calls]
    np.testing.assert_array_equal(hits_at(rows, calls, hit_threshold=0.5), [*hits[:-1], np.nan])


def test_circles_of_a_cut_ledger_are_those_of_the_curve() -> None:
    rows = ledger([0.9, 0.8, 0.1, 0.7, None, 0.95, 0.6, 0.99, 0.2, 0.55, 0.97, 0.5])
    counts = [
        sum(hit.circle is not None for hit in find_hits(rows[:end], hit_threshold=0.5, circle_distance=0.75))
        for end in range(13)
    ]
    curve = circles_at(rows, np.arange(14), hit_threshold=0.5, distance=0.75)
    np.testing.assert_array_equal(curve, [*counts, np.nan])
