"""A complex made here: two peptides, with what a downloaded file holds besides."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from allmodes.chem.docking.box import ligand_center
from allmodes.chem.docking.receptor import PreparedReceptor, prepare_receptor
from allmodes.chem.docking.scorer import make_docking_scorer
from allmodes.errors import InputError
from allmodes.runs.oracle_config import DockingComponent

Lines = list[str]
LIGAND_CENTER = (6.0, 1.0, -2.0)


def _line(name: str, residue: str, chain: str, number: int, place: tuple[float, ...], element: str) -> str:
    x, y, z = place
    padded = f" {name:<3}" if len(element) == 1 else f"{name:<4}"
    return (
        f"HETATM    1 {padded} {residue:>3} {chain}{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"  1.00 20.00          {element:>2}"
    )


@pytest.fixture(scope="module")
def peptide() -> Lines:
    """Ala-His-Ser-Met-Asp-Lys without hydrogens, as ATOM lines of chain A."""
    molecule = Chem.AddHs(Chem.MolFromSequence("AHSMDK"))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = 1
    assert rdDistGeom.EmbedMolecule(molecule, parameters) == 0
    block = Chem.MolToPDBBlock(Chem.RemoveHs(molecule))
    return [line for line in block.splitlines() if line.startswith("ATOM")]


def _shifted(lines: Lines, chain: str, by: float) -> Lines:
    return [f"{line[:21]}{chain}{line[22:30]}{float(line[30:38]) + by:8.3f}{line[38:]}" for line in lines]


@pytest.fixture
def complex_lines(peptide: Lines) -> Lines:
    """Ser lacks OG, His has NE2 twice, Met is selenomethionine; ligand, glycerol, Zn, Na, water."""
    first: Lines = []
    for line in peptide:
        name, residue = line[12:16].strip(), line[17:20]
        if residue == "SER" and name == "OG":
            continue
        if residue == "MET":
            line = "HETATM" + line[6:17] + "MSE" + line[20:]
            line = line[:12] + "SE  " + line[16:76] + "SE" if name == "SD" else line
        if residue == "HIS" and name == "NE2":
            minor = line[:16] + "A" + line[17:30] + "  99.000" + line[38:54] + "  0.30" + line[60:]
            first += [minor, line[:16] + "B" + line[17:54] + "  0.70" + line[60:]]
            continue
        first.append(line)
    x, y, z = LIGAND_CENTER
    ring = [
        (x + dx, y + dy, z)
        for dx, dy in ((1.2, 0.7), (0, 1.4), (-1.2, 0.7), (-1.2, -0.7), (0, -1.4), (1.2, -0.7))
    ]
    ligand = [_line(f"C{i}", "XYZ", "A", 301, place, "C") for i, place in enumerate(ring, 1)]
    ligand += [_line("H1", "XYZ", "A", 301, (90.0, 90.0, 90.0), "H")]
    glycerol = [_line(f"C{i}", "GOL", "A", 302, (x, y, z + 9 + 1.5 * i), "C") for i in range(6)]
    waters = [_line("O", "HOH", "A", 400 + i, (20.0 + i, 0.0, 0.0), "O") for i in range(3)]
    ions = [
        _line("ZN", "ZN", "A", 303, (12.0, 8.0, 0.0), "ZN"),
        _line("NA", "NA", "A", 304, (15.0, 8.0, 0.0), "NA"),
    ]
    return [*first, "TER", *_shifted(peptide, "B", 30.0), "TER", *ligand, *glycerol, *ions, *waters, "END"]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., PreparedReceptor]:
    def make(lines: Lines, **options) -> PreparedReceptor:  # noqa: ANN003
        path = tmp_path / "complex.pdb"
        path.write_text("\n".join(lines) + "\n")
        return prepare_receptor(path, tmp_path / "out", **options)

    return make


def atoms(path: Path) -> dict[tuple[str, str, str], tuple[str, tuple[float, float, float]]]:
    """By chain, residue and atom name: AutoDock's type and the place."""
    return {
        (line[21], line[17:20].strip(), line[12:16].strip()): (
            line[77:79].strip(),
            (float(line[30:38]), float(line[38:46]), float(line[46:54])),
        )
        for line in path.read_text().splitlines()
        if line.startswith(("ATOM", "HETATM"))
    }


def test_a_downloaded_complex_becomes_a_receptor(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    done = prepare(complex_lines, chains=["A"])
    assert done.chains == ("A",)
    assert done.residues == 6
    assert done.ligand == "XYZ A 301"
    assert [name.split()[0] for name in done.completed] == ["SER"]
    assert "OG" in done.completed[0]
    assert done.replaced == ("MSE A 4 by MET",)
    assert done.metals == ("ZN A 303",)
    assert done.removed == ("GOL A 302", "NA A 304", "water (3)", "chains B")
    assert done.left_out == ()
    assert done.missing == ()
    found = atoms(done.receptor)
    assert {key[1] for key in found} == {"ALA", "HIS", "SER", "MET", "ASP", "LYS", "ZN"}
    assert found["A", "ZN", "ZN"] == ("Zn", (12.0, 8.0, 0.0))
    sulfur = next(line for line in complex_lines if line[12:16] == "SE  ")
    assert found["A", "MET", "SD"] == ("SA", tuple(float(sulfur[i : i + 8]) for i in (30, 38, 46)))
    assert found["A", "SER", "OG"][0] == "OA"
    assert found["A", "HIS", "NE2"][1][0] != 99.0
    # Nothing that was in the file has moved.
    given = {(line[17:20], line[12:16].strip()): line for line in complex_lines if line[21:22] == "A"}
    for name in ("N", "CA", "CB", "CG", "OD1", "OD2"):
        line = given["ASP", name]
        place = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
        assert found["A", "ASP", name][1] == pytest.approx(place, abs=1e-3)


def test_hydrogens_follow_the_ph(prepare: Callable[..., PreparedReceptor], complex_lines: Lines) -> None:
    """Asp has pKa 4, Lys 10.4: polar hydrogens on OD2 below, three on NZ below, two above."""
    acid = atoms(prepare(complex_lines, chains=["A"], ph=2.0).receptor)
    neutral = atoms(prepare(complex_lines, chains=["A"]).receptor)
    base = atoms(prepare(complex_lines, chains=["A"], ph=12.5).receptor)
    aspartic = [
        sum(key[1] == "ASP" and key[2].startswith("HD") for key in found) for found in (acid, neutral, base)
    ]
    lysine = [
        sum(key[1] == "LYS" and key[2].startswith("HZ") for key in found) for found in (acid, neutral, base)
    ]
    assert aspartic == [1, 0, 0]
    assert lysine == [3, 3, 2]
    hydrogen, nitrogen = neutral["A", "LYS", "HZ1"], neutral["A", "LYS", "NZ"]
    assert hydrogen[0] == "HD"
    length = sum((a - b) ** 2 for a, b in zip(hydrogen[1], nitrogen[1], strict=True)) ** 0.5
    assert length == pytest.approx(1.01, abs=5e-3)


def test_the_component_it_writes_docks(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    done = prepare(complex_lines, chains=["A"])
    assert done.reference_ligand is not None
    assert ligand_center(done.reference_ligand, where="here") == pytest.approx(LIGAND_CENTER, abs=1e-3)
    (values,) = tomllib.loads(done.component.read_text())["oracle"]["components"]
    component = DockingComponent(**{**values, "exhaustiveness": 1})
    assert component.box.reference_ligand == done.reference_ligand
    assert make_docking_scorer(component.model_dump(mode="json"))("CO").value < 0
    lines = done.lines()
    assert lines[0] == f"receptor: {done.receptor}, chains A, 6 residues"
    assert "removed: GOL A 302, NA A 304, water (3), chains B" in lines
    assert not any(line.startswith("left out") for line in lines)


def test_the_same_file_gives_the_same_receptor(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    first = prepare(complex_lines, chains=["A"]).receptor.read_bytes()
    assert prepare(complex_lines, chains=["A"]).receptor.read_bytes() == first


def test_all_chains_are_kept_and_stretches_without_coordinates_are_said(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    gap = [line for line in complex_lines if not (line[21:22] == "B" and line[17:20] in ("SER", "MET"))]
    sequence = [
        f"SEQRES   1 {chain}    6  ALA HIS SER {met} ASP LYS" for chain, met in (("A", "MSE"), ("B", "MET"))
    ]
    done = prepare([*sequence, *gap])
    assert done.chains == ("A", "B")
    assert done.missing == ("2 residues of chain B",)
    assert ("B", "SER", "CA") not in atoms(done.receptor)


def test_the_ligand_is_named_where_there_are_several(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    other = [_line(f"C{i}", "QQQ", "B", 301, (40.0 + 1.5 * i, 0.0, 0.0), "C") for i in range(7)]
    lines = [*complex_lines[:-1], *other, "END"]
    with pytest.raises(InputError, match=r"there are XYZ A 301 \(7 atoms\), QQQ B 301 \(7 atoms\)"):
        prepare(lines)
    assert prepare(lines, ligand="qqq").ligand == "QQQ B 301"
    assert prepare(lines, ligand="GOL").ligand == "GOL A 302"
    assert prepare(lines, chains=["B"]).ligand == "QQQ B 301"
    with pytest.raises(
        InputError, match=r"`--ligand`: expected a group of the kept chains; got 'ABC', not XYZ A 301"
    ):
        prepare(lines, ligand="ABC")


def test_without_a_ligand_the_component_asks_for_a_centre(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    done = prepare([line for line in complex_lines if line[17:20] != "XYZ"], chains=["A"])
    assert done.reference_ligand is None
    assert done.ligand is None
    assert "# box.center = [x, y, z]" in done.component.read_text()
    assert "reference ligand: none in the file; give the box a centre" in done.lines()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, {}, r"expected a PDB file; got no .*complex\.pdb"),
        ("<html>404</html>\n", {}, "expected a PDB file"),
        (
            "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n",
            {},
            "expected a PDB file with a protein",
        ),
        ("", {"ph": 15.0}, "`ph`: expected a pH from 0 to 14; got 15"),
    ],
)
def test_a_wrong_file_is_refused(
    text: str | None, options: dict[str, float], message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "complex.pdb").write_text(text)
    with pytest.raises(InputError, match=message):
        prepare_receptor(tmp_path / "complex.pdb", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_chains_that_are_not_there_are_refused(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    with pytest.raises(InputError, match="`--chains`: expected some of A, B; got C"):
        prepare(complex_lines, chains=["A", "C"])
