"""Published sets of templates: which are read, what they make, and what of a file is left out and named."""

import csv
import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem

from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.retrosynthesis.template_file import load_templates
from allmodes.chem.retrosynthesis.templates import TemplateSet
from allmodes.errors import ConfigError
from allmodes.runs.config import build_config

SAMPLE = Path(__file__).parents[2] / "data" / "templates.csv"
LEFT_OUT = (
    "3 with inconsistent atom maps (lines 12, 13, 14)",
    "1 of several products or none (line 9)",
    "1 unreadable (line 10)",
    "1 without precursors (line 11)",
    "1 of no effect (line 15)",
    "1 without atom maps (line 16)",
    "1 with an impossible valence (line 17)",
    "1 repeated (line 18)",
    "1 without a count (line 19)",
)
NOTE = f"`templates`: {SAMPLE}: 7 of 18 templates used; left out: {', '.join(LEFT_OUT)}"
AMIDE = "[C:2]-[C:1](=[O:3])-[N:4]>>O-[C:1](-[C:2])=[O:3].[N:4]"


def rows() -> list[list[str]]:
    return list(csv.reader(io.StringIO(SAMPLE.read_text(encoding="utf-8"))))


def table(path: Path, lines: list[list[Any]], delimiter: str = ",") -> Path:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def made(templates: TemplateSet, smiles: str) -> dict[str, str]:
    """By the precursors: class."""
    return {
        ".".join(one.precursors): one.template.reaction_class
        for one in templates.disconnect(Chem.CanonSmiles(smiles))
    }


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_templates(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_templates_of_a_table_take_molecules_apart() -> None:
    templates = load_templates(SAMPLE)
    assert made(templates, "CCCNC(=O)CC") == {"CCC(=O)O.CCCN": "Carboxylic acid + amine condensation"}
    assert made(templates, "CN(C)C(=O)c1ccccc1") == {"CNC.O=C(Cl)c1ccccc1": "Acylation with an acid chloride"}
    assert made(templates, "Nc1ccccc1") == {"O=[N+]([O-])c1ccccc1": "Nitro to amino"}
    assert made(templates, "CNC(=O)c1ccccc1") == {"CN.COC(=O)c1ccccc1": "unclassified"}
    assert made(templates, "CC[C@H](C)Oc1ccccc1") == {
        "CC[C@@H](C)O.Oc1ccccc1": "Mitsunobu aryl ether synthesis"
    }


def test_what_is_seen_often_costs_less() -> None:
    templates = load_templates(SAMPLE)
    costs = {template.reaction_class: template.cost for template in templates.templates}
    assert costs["Carboxylic acid + amine condensation"] == 1
    assert costs["Williamson ether synthesis"] == pytest.approx(1 + math.log10(1200 / 505))
    assert costs["unclassified"] == pytest.approx(1 + math.log10(400))
    assert [template.cost for template in templates.templates] == sorted(costs.values())


def test_names_tell_templates_apart(tmp_path: Path) -> None:
    names = [template.name for template in load_templates(SAMPLE).templates]
    assert len(set(names)) == 7
    assert names[0] == f"template {rows()[1][2][:12]} (seen 1200 times)"
    lines = [
        ["retro_template", "template_code"],
        [AMIDE, "7"],
        [AMIDE.replace("O-", "Cl-"), "7"],
        ["[C:1]-[S:2]>>[C:1].[S:2]", ""],
    ]
    named = load_templates(table(tmp_path / "t.csv", lines)).templates
    assert [template.name for template in named] == ["template 7", "template 7, 2", "template of line 4"]


def test_what_cannot_be_used_is_counted_and_named() -> None:
    assert load_templates(SAMPLE).notes == (NOTE,)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "T.CSV"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table_may_be_packed_and_have_any_common_delimiter(
    tmp_path: Path, name: str, delimiter: str
) -> None:
    expected = load_templates(SAMPLE)
    got = load_templates(table(tmp_path / name, rows(), delimiter))
    assert [(one.smarts, one.cost, one.name) for one in got.templates] == [
        (one.smarts, one.cost, one.name) for one in expected.templates
    ]
    assert [note.split("; left out")[1] for note in got.notes] == [NOTE.split("; left out")[1]]


def test_columns_may_be_few_and_come_in_any_order(tmp_path: Path) -> None:
    alone = load_templates(table(tmp_path / "a.csv", [["retro_template"], [AMIDE]]))
    assert [(one.cost, one.reaction_class) for one in alone.templates] == [(1.0, "unclassified")]
    assert alone.notes == ()
    lines = [
        ["library_occurrence", "classification", "retro_template"],
        [5, "a", AMIDE],
        [50, "b", "[C:1]-[S:2]>>[C:1].[S:2]"],
    ]
    other = load_templates(table(tmp_path / "b.csv", lines))
    assert [(one.cost, one.reaction_class) for one in other.templates] == [(1.0, "b"), (2.0, "a")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "expected a column `retro_template` in line 1, between tabs or commas; got 'a,b'"),
        ("", "expected a column `retro_template` in line 1"),
        ("retro_template\n", "expected at least one template that can be used; got 0 templates"),
        ("retro_template\nCC\n", "got 1 template; left out: 1 unreadable (line 2)"),
        ("retro_template\n" + "[C:1]>>[C:1]\n" * 5, "left out: 5 of no effect (lines 2, 3, 4 ...)"),
    ],
)  # fmt: skip
def test_a_table_without_templates_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    message = error_of(path)
    assert message.startswith(f"`templates`: {path}: ")
    assert said in message


def test_another_kind_of_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "uspto.hdf5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    assert "expected a TOML file or a CSV table of templates; got" in error_of(path)
    assert "expected a table of templates; cannot read" in error_of(tmp_path / "none.csv")


def test_a_run_says_what_was_left_out(tmp_path: Path) -> None:
    stock = tmp_path / "stock.smi"
    stock.write_text("CCC(=O)O\nCCCN\n[Te](C)(C)(C)C(C)C\n")
    component = {"kind": "retrosynthesis", "templates": str(SAMPLE), "stock": str(stock)}
    config = build_config(OracleConfig, {"components": [component, {"kind": "qed"}]}, source="test")
    with ComponentOracle(config) as oracle:
        notes = oracle.notes()
        (amide,) = oracle.evaluate(["CCCNC(=O)CC"])
    assert notes[0] == f"component 'retrosynthesis': {NOTE}"
    assert amide.raw["retrosynthesis"] == 1
    route = amide.details["retrosynthesis"]["route"]["reaction"]
    assert route["class"] == "Carboxylic acid + amine condensation"
    assert route["name"].startswith("template ")
    json.dumps(amide.details)


def test_no_template_is_missed_by_the_search_for_those_that_may_match(templates: TemplateSet) -> None:
    """The screen by bits against RDKit's own search, for every template and many molecules."""
    published = load_templates(SAMPLE)
    targets = [str(one.product) for one in templates.templates] + [
        "Cc1nc(C(=O)N2CCN(c3ccc(F)cc3)CC2)c(COc2ccc(Cl)cc2)o1",
        "COc1ccc(Cn2cc(CNC(=O)OC(C)(C)C)nn2)cc1OCc1ccccc1",
        "CC[C@H](C)Oc1ccccc1", "CN(C)C(=O)c1ccccc1", "O=C(N/N=C/c1ccccc1)c1ccncc1",
    ]  # fmt: skip
    matched = 0
    for target in map(Chem.MolFromSmiles, targets):
        for chosen in (templates, published):
            candidates = {one.name for one in chosen._candidates(target)}
            for template in chosen.templates:
                query = Chem.MolFromSmarts(template.smarts.split(">>")[0])
                if target.HasSubstructMatch(query):
                    matched += 1
                    assert template.name in candidates
    assert matched > 200
