"""A complex made here: two peptides, with what a downloaded file holds besides."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from allmodes.chem.docking.box import box_warning, ligand_center
from allmodes.chem.docking.receptor import PreparedReceptor, prepare_receptor
from allmodes.chem.docking.scorer import make_docking_scorer
from allmodes.chem.oracles.components import DockingComponent
from allmodes.errors import InputError
from structures import Lines, as_cif, atom_line, peptide, place_of, write

LIGAND_CENTER = (6.0, 1.0, -2.0)


@pytest.fixture
def complex_lines() -> Lines:
    """Ser lacks OG, His has NE2 twice, Met is selenomethionine; ligand, glycerol, Zn, Na, water."""
    first: Lines = []
    for line in peptide("AHSMDK"):
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
    ligand = [atom_line(f"C{i}", "XYZ", "A", 301, place, "C") for i, place in enumerate(ring, 1)]
    ligand += [atom_line("H1", "XYZ", "A", 301, (90.0, 90.0, 90.0), "H")]
    glycerol = [atom_line(f"C{i}", "GOL", "A", 302, (x, y, z + 9 + 1.5 * i), "C") for i in range(6)]
    waters = [atom_line("O", "HOH", "A", 400 + i, (20.0 + i, 0.0, 0.0), "O") for i in range(3)]
    ions = [
        atom_line("ZN", "ZN", "A", 303, (12.0, 8.0, 0.0), "ZN"),
        atom_line("NA", "NA", "A", 304, (15.0, 8.0, 0.0), "NA"),
    ]
    return [
        *first,
        "TER",
        *peptide("AHSMDK", "B", shift=30.0),
        "TER",
        *ligand,
        *glycerol,
        *ions,
        *waters,
        "END",
    ]


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
    other = [atom_line(f"C{i}", "QQQ", "B", 301, (40.0 + 1.5 * i, 0.0, 0.0), "C") for i in range(7)]
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
        (None, {}, r"expected a PDB or mmCIF file; got no .*complex\.pdb"),
        ("<html>404</html>\n", {}, "expected a PDB or mmCIF file"),
        (
            "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n",
            {},
            "expected a PDB or mmCIF file with a protein",
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


@pytest.mark.parametrize("ligand", ["XYZ", "A1LU6"])
def test_pdb_and_mmcif_give_the_same_receptor(ligand: str, complex_lines: Lines, tmp_path: Path) -> None:
    pdb = write(tmp_path / "a.pdb", complex_lines[:-1])
    first = prepare_receptor(pdb, tmp_path / "out")
    written = first.receptor.read_bytes(), first.reference_ligand
    cif = as_cif(pdb)
    cif.write_text(cif.read_text().replace("XYZ", ligand))
    second = prepare_receptor(cif, tmp_path / "other")
    assert second.receptor.read_bytes() == written[0]
    assert second.ligand == f"{ligand} A 301"
    assert (second.metals, second.removed) == (first.metals, first.removed)
    assert (second.completed, second.replaced) == (first.completed, first.replaced)
    assert first.reference_ligand is not None
    assert second.reference_ligand is not None
    centers = [ligand_center(path, where="") for path in (first.reference_ligand, second.reference_ligand)]
    assert centers[0] == pytest.approx(centers[1], abs=1e-3)


def hydrogens(path: Path, number: int) -> set[str]:
    """Names of the polar hydrogens of a residue's side chain."""
    return {
        line[12:16].strip()
        for line in path.read_text().splitlines()
        if line.startswith("ATOM") and int(line[22:26]) == number and line[77:79].strip() == "HD"
    } - {"H", "H2", "H3"}


def renamed(lines: Lines, names: dict[int, str]) -> Lines:
    """Residues under other names."""
    return [f"{line[:17]}{names.get(int(line[22:26]), line[17:20])}{line[20:]}" for line in lines]


STATES = peptide("GHGDGEGKGCG")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("HID", "ASH", "GLH", "LYN", "CYX"), ({"HD1"}, {"HD2"}, {"HE2"}, {"HZ2", "HZ3"}, set())),
        (("HIE", "ASP", "GLH", "LYS", "CYM"), ({"HE2"}, set(), {"HE2"}, {"HZ1", "HZ2", "HZ3"}, set())),
        (("HIP", "ASH", "GLU", "LYN", "CYS"), ({"HD1", "HE2"}, {"HD2"}, set(), {"HZ2", "HZ3"}, {"HG"})),
        (("HSP", "ASP", "GLU", "LYS", "CYS"), ({"HD1", "HE2"}, set(), set(), {"HZ1", "HZ2", "HZ3"}, {"HG"})),
    ],
)
@pytest.mark.parametrize("ph", [2.0, 7.4])
def test_names_of_protonation_states_are_kept_at_any_ph(
    names: tuple[str, ...], expected: tuple[set[str], ...], ph: float, tmp_path: Path
) -> None:
    lines = renamed(STATES, dict(zip((2, 4, 6, 8, 10), names, strict=True)))
    done = prepare_receptor(write(tmp_path / "a.pdb", lines), tmp_path / "out", ph=ph)
    assert done.residues == 11
    found = [hydrogens(done.receptor, number) for number in (2, 4, 6, 8, 10)]
    plain = {"ASP": {"HD2"} if ph == 2.0 else set(), "GLU": {"HE2"} if ph == 2.0 else set()}
    assert found == [plain.get(name, state) for name, state in zip(names, expected, strict=True)]


def test_a_phosphate_under_the_name_of_a_state_is_no_state(tmp_path: Path) -> None:
    """HIP is phosphohistidine in the PDB: it becomes histidine, with a word."""
    lines = renamed(STATES, {2: "HIP"})
    x, y, z = place_of(lines, 2, "ND1")
    lines.insert(8, atom_line("P", "HIP", "A", 2, (x, y + 1.7, z), "P"))
    done = prepare_receptor(write(tmp_path / "a.pdb", lines), tmp_path / "out")
    assert done.replaced == ("HIP A 2 by HIS",)
    assert len(hydrogens(done.receptor, 2)) == 1


def test_a_residue_that_nobody_knows_is_left_out_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("something was looked up")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    lines = renamed(peptide("GALVKSG"), {3: "22Q", 5: "UNK"})
    done = prepare_receptor(write(tmp_path / "a.pdb", lines), tmp_path / "out")
    assert done.left_out == ("22Q A 3", "UNK A 5")
    assert done.residues == 5
    assert any(line.startswith("left out") and line.endswith("22Q A 3, UNK A 5") for line in done.lines())


def test_incomplete_residues_are_completed_or_left_out(tmp_path: Path) -> None:
    kept = {3: {"CA"}, 5: {"N", "CA", "C", "O"}, 9: {"N", "CA", "C", "O", "CB"}}
    lines = [
        line
        for line in peptide("GALVKSGALVKS")
        if line[12:16].strip() in kept.get(int(line[22:26]), {line[12:16].strip()})
    ]
    done = prepare_receptor(write(tmp_path / "a.pdb", lines), tmp_path / "out")
    assert done.left_out == ("LEU A 3 (no N C)",)
    assert [name.split(" (")[0] for name in done.completed] == ["LYS A 5", "LEU A 9"]
    assert done.residues == 11


def test_a_residue_whose_atoms_make_no_molecule_is_left_out(tmp_path: Path) -> None:
    """Of one, all atoms lie at the origin; of the other, two carbons lie within each other's bonds."""
    lines = peptide("GALVKSGALVKS")
    x, y, z = place_of(lines, 9, "CB")
    for number, name, place in ((5, None, (0.0, 0.0, 0.0)), (9, "CD1", (x + 0.6, y, z))):
        torn = "".join(f"{value:8.3f}" for value in place)
        lines = [
            line[:30] + torn + line[54:]
            if int(line[22:26]) == number and name in (None, line[12:16].strip())
            else line
            for line in lines
        ]
    done = prepare_receptor(write(tmp_path / "a.pdb", lines), tmp_path / "out")
    assert done.left_out == ("LYS A 5 (atoms at one place)", "LEU A 9")
    assert done.residues == 10


def test_hydrogens_and_deuteriums_of_the_file_say_the_state(tmp_path: Path) -> None:
    lines = peptide("GHGDG")
    x, y, z = place_of(lines, 2, "ND1")
    hydrogen = atom_line("HD1", "HIS", "A", 2, (x, y, z + 1.0), "H", record="ATOM")
    x, y, z = place_of(lines, 4, "OD2")
    deuterium = atom_line("DD2", "ASP", "A", 4, (x, y, z + 1.0), "D", record="ATOM")
    end = next(i for i, line in enumerate(lines) if int(line[22:26]) == 5)
    start = next(i for i, line in enumerate(lines) if int(line[22:26]) == 3)
    lines = [*lines[:start], hydrogen, *lines[start:end], deuterium, *lines[end:]]
    done = prepare_receptor(write(tmp_path / "a.pdb", lines), tmp_path / "out")
    assert hydrogens(done.receptor, 2) == {"HD1"}
    assert hydrogens(done.receptor, 4) == {"HD2"}


def test_numbers_letters_and_insertions_are_those_of_the_file(tmp_path: Path) -> None:
    lines = [*peptide("GALVKS", "7", first=-3), *peptide("GALVKS", "B", shift=40.0, first=9990)]
    lines = [line[:22] + "   0A" + line[27:] if line[21:26] == "7   1" else line for line in lines]
    done = prepare_receptor(write(tmp_path / "a.pdb", lines[:37], lines[37:]), tmp_path / "out")
    labels = [line[21:27] for line in done.receptor.read_text().splitlines() if line.startswith("ATOM")]
    assert list(dict.fromkeys(labels)) == [
        *("7  -3 ", "7  -2 ", "7  -1 ", "7   0 ", "7   0A", "7   2 "),
        *("B9990 ", "B9991 ", "B9992 ", "B9993 ", "B9994 ", "B9995 "),
    ]


def test_two_copies_under_one_letter_are_both_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdb", peptide("GALVKS", " "), peptide("GALVKS", " ", shift=40.0))
    done = prepare_receptor(path, tmp_path / "out", ligand="none")
    assert done.residues == 12
    assert done.lines()[0].endswith("chains '', 12 residues")


def test_a_peptide_can_be_what_the_box_goes_around(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdb", peptide("GALVKSGALVKS"), peptide("SGALKS", "P", shift=8.0))
    done = prepare_receptor(path, tmp_path / "out", ligand="P")
    assert done.reference_ligand is not None
    assert done.ligand == "peptide P 1"
    assert {line[21] for line in done.receptor.read_text().splitlines() if line.startswith("ATOM")} == {"A"}


def test_dna_and_protein_are_one_receptor(tmp_path: Path) -> None:
    nucleic = Chem.MolFromSequence("ACGT", flavor=6)
    assert rdDistGeom.EmbedMolecule(nucleic, randomSeed=1) == 0
    lines = [
        f"{line[:21]}D{line[22:30]}{float(line[30:38]) + 20:8.3f}{line[38:]}"
        for line in Chem.MolToPDBBlock(nucleic).splitlines()
        if line.startswith("ATOM")
    ]
    done = prepare_receptor(write(tmp_path / "a.pdb", peptide("GALVKS"), lines), tmp_path / "out")
    assert done.chains == ("A", "D")
    assert done.residues + len(done.left_out) == 10


def test_a_ligand_that_is_too_long_for_the_usual_box_gets_one_that_holds_it(
    prepare: Callable[..., PreparedReceptor], complex_lines: Lines
) -> None:
    usual = prepare(complex_lines, chains=["A"])
    assert usual.box_size == (20.0, 20.0, 20.0)
    assert not any(line.startswith("warning") for line in usual.lines())
    x, y, z = LIGAND_CENTER
    rod = [atom_line(f"C{i}", "ROD", "A", 301, (x, y, z + 1.5 * (i - 9)), "C") for i in range(19)]
    done = prepare([*(line for line in complex_lines[:-1] if line[17:20] != "XYZ"), *rod], chains=["A"])
    assert done.box_size == (20.0, 20.0, 35.0)  # 27 Å, and 4 Å on both sides
    assert (
        "warning: a box of 20 Å does not hold the reference ligand; box.size = [20, 20, 35] does, "
        "with 4 Å around it, and is in the component"
    ) in done.lines()
    (values,) = tomllib.loads(done.component.read_text())["oracle"]["components"]
    component = DockingComponent(**values)
    assert component.box.size == (20.0, 20.0, 35.0)
    box = component.box.model_dump(mode="json")
    assert box_warning(box, where="`box") is None
    assert box_warning({**box, "size": 20.0}, where="`box") is not None
