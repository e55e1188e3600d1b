"""Regions kept: the picture, its numbers, and what the report and the terminal say of them."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rdkit import Chem
from rich.console import Console

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.outcomes import regions_of
from allmodes.chem.design.results import RunResult, find_hits, result_of
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.comparison import compare_arms, verdicts
from allmodes.chem.reporting.export import write_hits
from allmodes.chem.reporting.regions import regions_picture, shared_part
from allmodes.chem.reporting.report import write_report
from allmodes.chem.reporting.summary import print_design
from molecule_settings import molecule_config

NBSP = "\N{NO-BREAK SPACE}"
COLOURS = {"REINVENT": "#102030", "OMM-REINVENT": "#aa0000"}
# Hits of each run by region, urea and <thiazole>; a third molecule is a hit of neither.
HITS = {("reinvent", 0): (3, 0), ("reinvent", 1): (4, 1), ("outcome_matching-reinvent", 0): (2, 2),
        ("outcome_matching-reinvent", 1): (3, 2)}  # fmt: skip


def settings() -> MoleculesConfig:
    component = {"kind": "smarts", "name": "ring", "patterns": ["[NX3]C(=O)[NX3]", "c1cscn1"],
                 "names": ["urea", "<thiazole>"]}  # fmt: skip
    return molecule_config(
        algorithm=["reinvent", "outcome_matching-reinvent"],
        seeds=[0, 1],
        methods={"outcome_matching": {"threshold": 0.5}},
        oracle={"components": [component]},
        outcomes={"outcome": "region", "regions": "ring", "kept_from": 2},
    )


def ledger(urea: int, thiazole: int) -> list[LedgerRow]:
    molecules = [("C" * (n + 1) + "NC(=O)N", 0.9) for n in range(urea)]
    molecules += [("C" * (n + 1) + "c1cscn1", 0.8) for n in range(thiazole)]
    molecules += [("CCC(C)c1cscn1", 0.1), ("CCO", 0.7)]
    return [
        LedgerRow(
            call=number,
            step=1,
            evaluation=Evaluation(smiles=smiles, raw={}, shaped={}, reward=reward, failure=None),
            penalised_reward=reward,
        )
        for number, (smiles, reward) in enumerate(molecules, start=1)
    ]


def runs() -> tuple[MoleculesConfig, list[RunResult], dict[tuple[str, int], list[LedgerRow]]]:
    config = settings()
    ledgers = {key: ledger(*counts) for key, counts in HITS.items()}
    results = [
        result_of(
            rows,
            find_hits(rows, hit_threshold=0.5, circle_distance=0.75),
            algorithm=name,
            seed=seed,
            stopped_by="budget",
            steps=1,
            collapsed_at_step=None,
            hit_threshold=0.5,
            regions=regions_of(config),
        )
        for (name, seed), rows in ledgers.items()
    ]
    return config, results, ledgers


def groups_of(results: list[RunResult]) -> dict[str, list[RunResult]]:
    return {name: [run for run in results if run.algorithm == name] for name, _ in HITS}


def test_hits_are_counted_by_region_and_regions_with_enough_of_them_are_kept() -> None:
    _, results, _ = runs()
    assert [run.regions for run in results] == [
        {"urea": urea, "<thiazole>": thiazole} for urea, thiazole in HITS.values()
    ]
    assert [run.hits for run in results] == [urea + thiazole + 1 for urea, thiazole in HITS.values()]
    assert [run.regions_kept(kept_from=2) for run in results] == [1, 1, 2, 2]
    assert [run.regions_kept(kept_from=1) for run in results] == [1, 2, 2, 2]
    assert RunResult(**json.loads(json.dumps(results[0].as_json()))) == results[0]


def test_the_picture_colours_what_was_kept_the_darker_the_more_hits() -> None:
    config, results, ledgers = runs()
    picture = regions_picture(config, groups_of(results), ledgers, COLOURS)
    assert picture is not None
    assert (picture["names"], picture["kept_from"]) == (("urea", "<thiazole>"), 2)
    assert [group["name"] for group in picture["groups"]] == list(COLOURS)
    rows = [row for group in picture["groups"] for row in group["rows"]]
    assert [[cell["hits"] for cell in row["cells"]] for row in rows] == [
        [str(urea), str(thiazole)] for urea, thiazole in HITS.values()
    ]
    assert [row["kept"] for row in rows] == [1, 1, 2, 2]

    def opacity(style: str) -> float:
        found = re.match(r"background: rgba\((\d+, \d+, \d+), ([\d.]+)\); color: #(fff|222)$", style)
        assert found is not None
        assert (found[3] == "fff") == (float(found[2]) >= 0.55)
        return float(found[2])

    assert rows[1]["cells"][0]["style"].startswith("background: rgba(16, 32, 48, 0.95)")
    assert rows[2]["cells"][0]["style"].startswith("background: rgba(170, 0, 0, 0.18)")
    assert opacity(rows[2]["cells"][0]["style"]) < opacity(rows[3]["cells"][0]["style"]) < 0.95
    assert [cell["style"] for row in rows[:2] for cell in row["cells"][1:]] == ["", ""]
    assert all(drawing.startswith("<svg") for drawing in picture["drawings"])


def test_a_region_without_molecules_has_a_name_and_no_drawing() -> None:
    config, results, _ = runs()
    picture = regions_picture(config, groups_of(results), {("reinvent", 0): ledger(1, 0)[:1]}, COLOURS)
    assert picture is not None
    assert [bool(drawing) for drawing in picture["drawings"]] == [True, False]


@pytest.mark.parametrize(
    ("smiles", "pattern", "expected"),
    [
        ("CCn1cc(C(=O)NC)nn1", "c1cnnn1", "*n1cc(*)nn1"),
        ("Cn1nnc2ccccc21", "c1cnnn1", "*=C1N=NN(*)C1=*"),  # of a fused ring no more than the pattern
        ("CNC(=O)Nc1nccs1", "c1cscn1", "*c1nccs1"),
        ("CCNC(N)=O", "[NX3]C(=O)[NX3]", "*NC(N)=O"),
        ("C1CC1", "C1CC1", "C1CC1"),
    ],
)
def test_the_shared_part_is_the_pattern_with_open_places(smiles: str, pattern: str, expected: str) -> None:
    found = shared_part(smiles, pattern)
    canonical = [Chem.MolToSmiles(Chem.MolFromSmiles(one)) for one in (found, expected)]
    assert canonical[0] == canonical[1]


def test_the_report_shows_the_picture_escaped_and_tests_the_regions(tmp_path: Path) -> None:
    config, results, ledgers = runs()
    write_report(tmp_path / "report.html", config, results, ledgers)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    table = re.search(r'<table class="regions">.*?</table>', page, re.DOTALL)
    assert table is not None
    assert "&lt;thiazole&gt;" in table[0]
    assert "<thiazole>" not in page
    assert table[0].count("<b>2</b> of 2") == 2
    assert table[0].count("<b>1</b> of 2") == 2
    rest = page[page.index("<h2>Results</h2>") :]
    assert page.index(table[0]) < page.index(rest)
    assert rest.index(">Regions<") < rest.index(">Yield<")
    assert "regions of “ring”; their frequency" in page


def test_regions_are_tested_first_and_left_out_of_old_results() -> None:
    config, results, _ = runs()
    rows = compare_arms(groups_of(results), config.outcomes)
    assert [row.metric.name for row in rows] == ["Regions", "Yield", "OB100", "IntDiv1", "#Circles"]
    assert list(rows[0].values.values()) == [[1, 1], [2, 2]]
    assert "OMM-REINVENT kept more regions (p < 0.001)" in verdicts(rows)[0].replace(NBSP, " ")
    old = [RunResult(**{**run.as_json(), "regions": None}) for run in results]
    names = [row.metric.name for row in compare_arms(groups_of(old), config.outcomes)]
    assert names == ["Yield", "OB100", "IntDiv1", "#Circles"]


def test_the_terminal_says_what_was_kept(tmp_path: Path) -> None:
    config, results, _ = runs()
    (tmp_path / "config.json").write_text(config.model_dump_json())
    (tmp_path / "results.json").write_text(json.dumps([run.as_json() for run in results]))
    printed = io.StringIO()
    print_design(tmp_path, Console(file=printed, width=120))
    text = printed.getvalue()
    assert text.splitlines()[0].split()[:3] == ["algorithm", "Regions", "Yield"]
    assert "Regions: of 2, those with at least 2 hits. Mean hits of each:" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["region", "REINVENT", "OMM-REINVENT"] in lines
    assert ["urea", "4", "2"] in lines  # 3.5 and 2.5, to even
    assert ["<thiazole>", "0", "2"] in lines
    assert "Compared with REINVENT, OMM-REINVENT kept more regions (p < 0.001)" in text.replace(NBSP, " ")


def test_each_exported_hit_has_its_region(tmp_path: Path) -> None:
    config, results, ledgers = runs()
    write_hits(tmp_path, config, results[:1], ledgers)
    with open(tmp_path / "hits.csv", newline="", encoding="utf-8") as handle:
        found = [(row["smiles"], row["region"]) for row in csv.DictReader(handle)]
    assert found == [("CNC(=O)N", "urea"), ("CCNC(=O)N", "urea"), ("CCCNC(=O)N", "urea"), ("CCO", "")]
