"""Hit pages: poses are drawn where they are and as they are, and every value is there, escaped."""

import base64
import html
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms
from rdkit.Geometry import Point3D

from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.results import Hit, RunResult, find_hits
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.hits import HitPage, render_hits, worth_a_page
from allmodes.chem.reporting.oracle_description import (
    describe_aggregation,
    describe_component,
    oracle_settings,
    short,
)
from allmodes.chem.reporting.pose_figures import common_frame, draw_pose, heavy_atoms, read_poses, views
from allmodes.chem.reporting.report import write_report
from allmodes.runs.config import build_config
from molecule_settings import molecule_config

HOSTILE = "<script>alert('x')</script>"
DOCKING = {
    "kind": "docking", "name": "dock", "receptor": "/home/somebody/clpp.pdbqt", "poses": 2,
    "box": {"center": [1, -2.5, 3], "size": [20, 18, 16]},
    "shaping": {"kind": "reverse_sigmoid", "low": -16, "high": 0, "k": 0.15},
}  # fmt: skip
SYNTHESIS = {"kind": "retrosynthesis", "name": "synthesis"}
DIFFERENT = (
    "CC(=O)Nc1ccc(O)cc1", "O=C(O)c1ccccc1", "C1CCNCC1", "NS(=O)(=O)c1ccc(F)cc1", "Clc1ccc2[nH]ccc2c1",
    "C1CCOCC1", "CCCCBr", "CCOC(C)=O", "N#Cc1ccncc1", "CC(C)(C)O", "C=CCS", "OCC(O)CO", "FC(F)F", "CN(C)C",
)  # fmt: skip


def posed(smiles: str, *, seed: int = 1, shift: tuple[float, float, float] = (0, 0, 0)) -> Chem.Mol:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(molecule, randomSeed=seed) == 0
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    rdMolTransforms.TransformConformer(molecule.GetConformer(), matrix)
    return molecule


def sdf(*molecules: Chem.Mol, scores: tuple[float, ...] = ()) -> str:
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for molecule, score in zip(molecules, scores, strict=True):
            molecule.SetProp("docking_score", f"{score:.3f}")
            writer.write(molecule)
    return text.getvalue()


def volume(points: np.ndarray) -> float:
    """Six times the signed volume of the tetrahedron of the first four points."""
    return float(np.linalg.det(points[1:4] - points[0]))


# Poses


def test_no_view_mirrors_or_stretches_a_pose() -> None:
    for seed in range(1, 9):
        pose = posed("C[C@](F)(Cl)Br", seed=seed, shift=(30, -70, 15))
        points = heavy_atoms(pose)
        lengths = np.linalg.norm(points[:, None] - points[None], axis=-1)
        for seen in views(common_frame([pose]).place(points)):
            np.testing.assert_allclose(
                np.linalg.norm(seen[:, None] - seen[None], axis=-1), lengths, atol=1e-9
            )
            assert volume(seen) == pytest.approx(volume(points))
            assert abs(volume(seen)) > 1


def test_the_first_view_is_the_broadest_and_the_second_is_from_above() -> None:
    frame = common_frame([posed("CCCCCCCC=CC#N", seed=seed, shift=(seed, 0, 0)) for seed in (1, 2, 3)])
    points = np.concatenate(
        [heavy_atoms(posed("CCCCCCCC=CC#N", seed=seed, shift=(seed, 0, 0))) for seed in (1, 2, 3)]
    )
    placed = frame.place(points)
    spread = placed.var(0)
    assert spread[0] > spread[1] > spread[2]
    covariance = np.cov(placed.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    np.testing.assert_allclose(np.abs(placed).max(0), frame.reach)  # the centre is the middle
    np.testing.assert_allclose(placed.max(0), -placed.min(0))
    front, above = views(placed)
    np.testing.assert_array_equal(front, placed)
    # What lay up is now towards the viewer, and what was near is now below.
    np.testing.assert_array_equal(above, np.stack([placed[:, 0], -placed[:, 2], placed[:, 1]], 1))


def test_a_drawing_holds_each_atom_where_it_is() -> None:
    pose = posed("CCO", shift=(5, 5, 5))
    frame = common_frame([pose, posed("CCCCCCCC", shift=(5, 5, 5))])
    drawn = draw_pose(pose, frame)
    root = ElementTree.fromstring(drawn)
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    paths = [path.attrib for path in root.iter("path")]
    strokes = [path for path in paths if path.get("stroke", "#888888") not in ("#888888", "#f6f7f8")]
    assert len(strokes) == 2 * 2 * 2  # two bonds of two halves in two views
    (bar,) = [path.attrib["d"] for path in root.iter("path") if path.attrib.get("stroke") == "#888888"]
    start, _, end = (float(value) for value in re.findall(r"[\d.]+", bar))
    scale = (end - start) / 5
    ends = {tuple(float(v) for v in re.findall(r"-?[\d.]+", stroke["d"]))[:2] for stroke in strokes}
    assert len(ends) == 6
    for number, seen in enumerate(views(frame.place(heavy_atoms(pose)))):
        for x, y, _ in seen:
            middle = width / 4 - 4 + number * (width + 16) / 2
            expected = (middle + scale * x, (height - 22) / 2 - scale * y)
            nearest = min(ends, key=lambda end: (end[0] - expected[0]) ** 2 + (end[1] - expected[1]) ** 2)
            assert nearest == pytest.approx(expected, abs=0.6)
            assert 0 <= nearest[0] <= width
            assert 0 <= nearest[1] <= height
    reds = [stroke for stroke in strokes if _is_red(stroke["stroke"])]
    assert len(reds) == 2  # the oxygen's half, once in each view


def _is_red(colour: str) -> bool:
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return red > green + 40 and red > blue + 40


def test_near_bonds_are_thick_and_drawn_last() -> None:
    molecule = Chem.MolFromSmiles("CC.CC.CCCCCCCC")
    conformer = Chem.Conformer(12)
    places = [
        (0, 0, -1.5),
        (1, 0, -1.5),
        (0, 1, 1.5),
        (1, 1, 1.5),
        *((n, 0.5 * (n % 2) * 6, 0) for n in range(-4, 4)),
    ]
    for index, place in enumerate(places):
        conformer.SetAtomPosition(index, Point3D(*map(float, place)))
    molecule.AddConformer(conformer)
    frame = common_frame([molecule])
    depth = frame.place(heavy_atoms(molecule))[:, 2]
    drawn = draw_pose(molecule, frame).split("from the front")[0]
    widths = [
        float(w) for c, w in re.findall(r'stroke="(#\w+)" stroke-width="([\d.]+)"', drawn) if c != "#f6f7f8"
    ]
    assert widths == sorted(widths)
    # With a margin of 1.2 Å the extremes stand at (1 ∓ 1.5 / 2.7) / 2 of the way from 1.5 to 4.5.
    assert widths[0] == pytest.approx(1.5 + 3 * 0.222, abs=0.06)
    assert widths[-1] == pytest.approx(4.5 - 3 * 0.222, abs=0.06)
    assert len(widths) == 2 * 9
    assert abs(depth).max() == pytest.approx(1.5, abs=0.3)


def test_single_atoms_and_strange_elements_are_drawn() -> None:
    molecule = Chem.MolFromSmiles("[Na+].C[Si](C)(C)C")
    molecule = Chem.AddHs(molecule)
    rdDistGeom.EmbedMolecule(molecule, randomSeed=2)
    assert draw_pose(molecule, common_frame([molecule])).count("<circle") == 2
    methane = posed("C")
    assert draw_pose(methane, common_frame([methane])).count("<circle") == 2
    assert "nan" not in draw_pose(methane, common_frame([methane]))


def test_poses_are_read_with_hydrogens_and_without_what_is_broken() -> None:
    text = sdf(posed("CCO"), posed("CCO", seed=2), scores=(-1, -2))
    assert [molecule.GetNumAtoms() for molecule in read_poses(text)] == [9, 9]
    assert len(read_poses(text.replace(" O ", " Xx", 1))) == 1
    assert read_poses("rubbish") == []
    assert read_poses("") == []


# Pages


def oracle(*components: dict[str, Any], **rest: Any) -> OracleConfig:
    return build_config(OracleConfig, {"components": components, **rest}, source="test")


def node(smiles: str, reaction: str | None = None, *precursors: dict[str, Any]) -> dict[str, Any]:
    made = {"name": reaction, "class": "amide coupling", "precursors": list(precursors)}
    return {"smiles": smiles, "purchasable": reaction is None, "reaction": None if reaction is None else made}


def found(*, solved: bool = True, steps: int = 1, name: str = "amide from acid") -> dict[str, Any]:
    tree = node("CC(=O)NC", name, node("CC(=O)O"), node("CN")) if steps else node("CC(=O)NC")
    classes = ["amide coupling"] if steps else []
    return {"solved": solved, "steps": steps if solved else 0, "classes": classes if solved else [],
            "route": tree if solved else None}  # fmt: skip


def evaluation(smiles: str = "CC(=O)NC", reward: float = 0.7, **details: Any) -> Evaluation:
    values = {"dock": -7.25, "synthesis": 1.0}
    return Evaluation(
        smiles=smiles, raw=values, shaped={"dock": 0.461, "synthesis": 1.0}, reward=reward, failure=None,
        details=details,
    )  # fmt: skip


def page(result: Evaluation, config: OracleConfig | None = None) -> dict[str, Any]:
    shown = HitPage(anchor="hit-1", title="Hit 1", origin="line 1", evaluation=result)
    return render_hits(config or oracle(DOCKING, SYNTHESIS), [shown])[0]


def test_a_page_shows_every_value_its_poses_and_its_route() -> None:
    text = sdf(posed("CC(=O)NC"), posed("CC(=O)NC", seed=2), scores=(-7.25, -6.5))
    shown = page(evaluation(dock={"poses": text, "torsions": 0}, synthesis=found()))
    assert [(v["name"], v["raw"], v["score"], v["width"]) for v in shown["values"]] == [
        ("dock", "−7.25", "0.461", "46.1"),
        ("synthesis (stand-in stock)", "1", "1.000", "100.0"),
    ]
    assert shown["reward"] == "0.700"
    (pose,) = shown["poses"]
    assert (pose["caption"], pose["scores"]) == ("Best of 2 poses", "−7.25 and −6.50")
    kind, _, content = pose["link"].partition(",")
    assert kind == "data:chemical/x-mdl-sdfile;base64"
    assert base64.b64decode(content).decode() == text
    (route,) = shown["routes"]
    assert (route["name"], route["words"]) == ("synthesis", "1 step: amide coupling.")
    assert route["is_stand_in"]
    assert "<svg" in route["svg"]


def test_what_there_is_not_is_said_and_not_drawn(tmp_path: Path) -> None:
    missed = page(evaluation(dock={"torsions": 0}, synthesis=found(solved=False)))
    assert missed["poses"] == []
    assert missed["routes"][0]["words"] == "No route was found within the limits of the search."
    assert missed["routes"][0]["svg"] is None
    bought = page(evaluation(synthesis=found(steps=0)))
    assert bought["routes"][0]["words"] == "The stock holds the molecule itself: no step is needed."
    assert bought["routes"][0]["svg"] is None
    stocked = oracle({**SYNTHESIS, "stock": str(tmp_path / "stock.smi")}, DOCKING)
    mine = page(evaluation(synthesis=found(), dock={"poses": "rubbish"}), stocked)
    assert not mine["routes"][0]["is_stand_in"]
    assert mine["values"][0]["name"] == "synthesis"
    assert mine["poses"][0]["svg"] is None


def test_all_poses_of_a_component_are_seen_from_one_side_at_one_scale() -> None:
    near, far = posed("CC(=O)NC"), posed("CC(=O)NC", shift=(12, 0, 0))
    pages = [
        HitPage(
            anchor=f"hit-{n}",
            title="",
            origin="",
            evaluation=evaluation(dock={"poses": sdf(one, scores=(-1,))}),
        )
        for n, one in enumerate((near, far))
    ]
    drawings = [shown["poses"][0]["svg"] for shown in render_hits(oracle(DOCKING, SYNTHESIS), pages)]
    assert drawings[0] != drawings[1]  # the same pose, elsewhere in the pocket
    assert len({re.findall('viewBox="(.*?)"', drawing)[0] for drawing in drawings}) == 1
    assert len({re.findall(r'd="M([\d.]+) [\d.]+H', drawing)[0] for drawing in drawings}) == 1
    for drawing in drawings:  # and none leaves its view
        ends = re.findall(r'd="M(-?[\d.]+) (-?[\d.]+)L', drawing.split("from the front")[0])
        assert len(ends) == 3 * 4  # a margin and two halves for each bond
        assert all(0 < float(x) < 460 and float(y) > 0 for x, y in ends)


def row(call: int, smiles: str, reward: float, **details: Any) -> LedgerRow:
    return LedgerRow(
        call=call, step=1, evaluation=evaluation(smiles, reward, **details), penalised_reward=None
    )


def test_the_best_of_each_circle_comes_first() -> None:
    hits = [Hit(row=row(n, "C", 0.5), circle=circle) for n, circle in enumerate([0, None, 1, None, 2])]
    assert [one.call for one in worth_a_page(hits, most=9)] == [0, 2, 4, 1, 3]
    assert [one.call for one in worth_a_page(hits, most=4)] == [0, 2, 4, 1]
    assert [one.call for one in worth_a_page(hits, most=2)] == [0, 2]


# In the report of a run


def report(folder: Path, rows: list[LedgerRow], **changes: Any) -> str:
    oracle = {"components": [DOCKING, SYNTHESIS]}
    config = molecule_config(**{"algorithm": ["ips-grpo"], "budget": len(rows), "oracle": oracle, **changes})
    result = RunResult(
        algorithm="ips-grpo", seed=0, stopped_by="budget", steps=1, calls=len(rows), hits=0, ob100=None,
        intdiv1=None, circles=0, failures={}, collapsed_at_step=None,
    )  # fmt: skip
    write_report(folder / "report.html", config, [result], {("ips-grpo", 0): rows})
    return (folder / "report.html").read_text(encoding="utf-8")


def test_hits_with_details_have_pages_that_cards_lead_to(tmp_path: Path) -> None:
    rows = [
        row(call, smiles, 0.99 - 0.01 * call, synthesis=found())
        for call, smiles in enumerate(DIFFERENT, start=1)
    ]
    text = report(tmp_path, rows)
    circles = [
        hit.row.evaluation.smiles
        for hit in find_hits(rows, hit_threshold=0.5, circle_distance=0.75)
        if hit.circle is not None
    ]
    assert len(circles) > 12
    pages = re.findall(r'<section class="hit" id="([^"]+)">(.*?)</section>', text, re.DOTALL)
    assert [anchor for anchor, _ in pages] == [f"hit-ips-grpo-{n}" for n in range(1, 13)]
    shown = [html.unescape(re.findall(r'<p class="smiles">(.*?)</p>', body)[0]) for _, body in pages]
    assert shown == circles[:12]
    assert re.findall(r'<a href="#(hit-[^"]+)">', text) == [anchor for anchor, _ in pages]
    assert all('<a href="#molecules">' in body for _, body in pages)
    assert '<section id="molecules">' in text
    assert "12 of 14 (IPS-GRPO) have a page" in text
    ids = re.findall(r'\bid="([^"]+)"', re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))
    assert len(ids) == len(set(ids))


def test_without_details_or_hits_there_are_no_pages(tmp_path: Path) -> None:
    assert '<section class="hit"' not in report(tmp_path, [row(1, "CCO", 0.9)])
    assert "have a page" not in report(tmp_path, [row(1, "CCO", 0.9)])
    assert '<section class="hit"' not in report(tmp_path, [row(1, "CCO", 0.4, synthesis=found())])


def test_what_programs_and_people_wrote_is_escaped(tmp_path: Path) -> None:
    details = {
        f"{HOSTILE}d": {"poses": sdf(posed("CCO"), scores=(-1,))},
        f"{HOSTILE}s": {**found(name=HOSTILE), "classes": [HOSTILE]},
    }
    result = Evaluation(
        smiles="CCO", raw=dict.fromkeys(details, 1.0), shaped=dict.fromkeys(details, 1.0), reward=0.9,
        failure=None, details=details,
    )  # fmt: skip
    components = [
        {**DOCKING, "name": f"{HOSTILE}d"},
        {**SYNTHESIS, "name": f"{HOSTILE}s", "reactions": [HOSTILE]},
    ]
    rows = [LedgerRow(call=1, step=1, evaluation=result, penalised_reward=None)]
    text = report(tmp_path, rows, oracle={"components": components})
    assert '<section class="hit"' in text
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 5


def test_the_page_loads_nothing_and_names_no_folder(tmp_path: Path) -> None:
    poses = sdf(posed("CCO"), scores=(-1,))
    text = report(tmp_path, [row(1, "CCO", 0.9, dock={"poses": poses}, synthesis=found())])
    links = re.findall(r'(?:href="|src="|url\()([^"]*)', text)
    assert links
    assert all(link.startswith(("#", "data:chemical/x-mdl-sdfile;base64,")) for link in links)
    assert "/home" not in text


def test_stand_ins_are_called_so_wherever_results_appear(tmp_path: Path) -> None:
    rows = [row(1, "CCO", 0.9, synthesis=found())]
    text = report(tmp_path, rows)
    assert "“synthesis”: routes end in the stock that comes with allmodes, which replaces" in text
    assert "“dock”: docking scores, a stand-in for measured affinity." in text
    card = re.findall(r'<div class="card".*?<div class="smiles">', text, re.DOTALL)[0]
    assert "synthesis (stand-in stock) 1" in card
    assert "The stock is a stand-in for a supplier" in text
    stock = {**SYNTHESIS, "stock": str(tmp_path / "bought.smi")}
    mine = report(tmp_path, rows, oracle={"components": [stock]})
    assert "stand-in" not in mine.replace("stand-in for measured affinity", "")
    assert "stock: bought.smi" in mine


def test_a_report_says_how_values_become_scores_and_scores_the_reward(tmp_path: Path) -> None:
    components = [
        {"kind": "qed", "weight": 2.5},
        {"kind": "rings", "shaping": {"kind": "value_mapping", "mapping": {"0": 0, "1.0": 0.5, "2": 1}}},
        {"kind": "logp", "shaping": {"kind": "double_sigmoid", "low": -1, "high": 3, "coef_div": 50}},
    ]
    rows = [describe_component(component) for component in oracle(*components).components]
    assert [row["weight"] for row in rows] == ["2.5", "1", "1"]
    assert rows[1]["shaping"] == "value mapping: 0 to 0, 1 to 0.5, 2 to 1; any other value is a failure"
    assert rows[2]["shaping"] == "double sigmoid: high from −1 to 3, low beyond (steepness 3 and 3)"
    for how, words in (
        ("arithmetic_mean", "the weighted arithmetic mean of the scores"),
        ("product", "the product of the scores, each to the power of its weight"),
    ):
        assert describe_aggregation(oracle(*components, aggregation=how)) == f"The reward is {words}."
        unweighted = describe_aggregation(oracle(*components[1:], aggregation=how))
        assert unweighted == f"The reward is the {how.replace('_', ' ')} of the scores."
    text = report(tmp_path, [row(1, "CCO", 0.9)], oracle={"components": components})
    assert "The reward is the weighted geometric mean of the scores." in text
    assert "<td>2.5</td>" in text


def test_components_are_told_without_folders(tmp_path: Path) -> None:
    ligand = {"reference_ligand": "/home/somebody/ligand.pdb"}
    words = [
        describe_component(component)["what"].replace("\N{NO-BREAK SPACE}", " ")
        for component in oracle(
            {**DOCKING, "exhaustiveness": 4, "seed": 7, "max_torsions": 1},
            {**DOCKING, "name": "b", "kind": "external_docking", "command": ["/opt/gnina", "{ligand}"],
             "box": ligand, "protonation": "as_written"},
            SYNTHESIS,
            {**SYNTHESIS, "name": "c", "reactions": ["amide coupling", "SNAr"], "max_steps": 1,
             "max_expansions": 9, "templates": "/home/somebody/t.toml", "stock": "/home/somebody/s.smi"},
            {**SYNTHESIS, "name": "d", "model": {"name": "MEGAN", "checkpoint": "/home/somebody/m"}},
        ).components
    ]  # fmt: skip
    route = "1 when Retro* finds a route to purchasable molecules, else 0; stock: "
    shipped = f"{route}shipped: a stand-in for a catalogue; "
    rest = "; reactions: any; at most 5 reactions in a row and 100 molecules expanded"
    assert words == [
        "best AutoDock Vina score in kcal/mol; receptor clpp.pdbqt; "
        "box of 20 × 18 × 16 Å around (1, −2.5, 3); "
        "exhaustiveness 4, seed 7; protonated as at pH 7.4; at most 1 torsion",
        "best score of gnina {ligand} in kcal/mol; receptor clpp.pdbqt; "
        "box of 20 × 20 × 20 Å around the centre of ligand.pdb; "
        "exhaustiveness 8, seed 1; protonated as written; at most 15 torsions",
        f"{shipped}templates: shipped with allmodes{rest}",
        f"{route}s.smi; templates: t.toml; reactions: amide coupling or SNAr; "
        "at most 1 reaction in a row and 9 molecules expanded",
        f"{shipped}model: MEGAN{rest}",
    ]


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (None, "only for this run"),
        ("/home/somebody/all.sqlite", "shared, all.sqlite"),
        ("sqlite:////home/somebody/all.sqlite", "shared, all.sqlite"),
        ("postgresql+psycopg://me:secret@host/db", "shared, a PostgreSQL database"),
    ],
)
def test_settings_of_the_oracle_tell_no_secret(store: str | None, said: str) -> None:
    told = dict(oracle_settings(oracle(SYNTHESIS, workers=3, store=store)))
    assert told == {"Oracle workers": "3 molecules scored at once", "Results store": said}
    assert list(dict(oracle_settings(oracle({"kind": "qed"}, ray="auto")))) == ["Oracle workers"]


def test_settings_of_grpo_and_ips_are_told(tmp_path: Path) -> None:
    ips = {"outcome": "cluster", "frequency": "history", "min_probability": 0.01, "cluster_distance": 0.5}
    text = report(tmp_path, [row(1, "CCO", 0.9)], ips=ips, lookahead=1)
    assert "p̂ at least 0.01<" in text
    assert (
        "clusters of radius 0.5 in Tanimoto distance; "
        "their frequency is counted over the whole run as sampled"
    ) in text
    assert "1 batch sampled and scored ahead of the update" in text
    assert "<h1>IPS-GRPO</h1>" in text
    plain = report(tmp_path, [row(1, "CCO", 0.9)])
    assert "optimum: proportional to R<" in plain
    assert "Murcko scaffolds; their frequency is counted in each batch as sampled<" in plain
    assert "Look-ahead" not in plain


def test_numbers_are_short() -> None:
    values = [-7.254, 0.5, 1.0, -3.0, 1234.5, 0.001234, 123.4]
    assert [short(value) for value in values] == ["−7.25", "0.500", "1", "−3", "1,234", "0.00123", "123"]
