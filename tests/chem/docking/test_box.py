import gzip
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.docking.box import Box, box_warning, ligand_center, make_box
from allmodes.errors import ConfigError

DATA = Path(__file__).parents[4] / "shared" / "data"
# Three heavy atoms whose mean is (2, 3, 4) and whose bounding box has its middle elsewhere; far hydrogens.
ATOMS = [("C", (0.0, 0.0, 0.0)), ("N", (0.0, 0.0, 3.0)), ("CL", (6.0, 9.0, 9.0)), ("H", (50.0, 50.0, 50.0))]


Atoms = list[tuple[str, tuple[float, float, float]]]


def pdb(atoms: Atoms = ATOMS) -> str:
    return "".join(
        f"HETATM{i:5d} {element + str(i):<4} LIG A   1    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}\n"
        for i, (element, (x, y, z)) in enumerate(atoms, start=1)
    )


def pdbqt() -> str:
    kinds = {"C": "A", "N": "NA", "CL": "Cl", "H": "HD"}
    return (
        "MODEL 1\nROOT\n"
        + "".join(
            f"ATOM  {i:5d}  {element:<3} UNL     1    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00    {0:+6.3f} {kinds[element]:<2}\n"
            for i, (element, (x, y, z)) in enumerate(ATOMS, start=1)
        )
        + "ENDROOT\nTORSDOF 0\nENDMDL\nMODEL 2\n"
        "ATOM      1  C   UNL     1      99.000  99.000  99.000  1.00  0.00     0.000 C \nENDMDL\n"
    )


def sdf() -> str:
    rows = "".join(f"{x:10.4f}{y:10.4f}{z:10.4f} {e.title():<3} 0  0\n" for e, (x, y, z) in ATOMS)
    return f"ligand\n  made up           3D\n\n  4  0  0  0  0  0  0  0  0  0999 V2000\n{rows}M  END\n$$$$\n"


def sdf_v3000() -> str:
    rows = "".join(
        f"M  V30 {i} {e.title()} {x} {y} {z} 0\n" for i, (e, (x, y, z)) in enumerate(ATOMS, start=1)
    )
    return (
        "ligand\n  made up           3D\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\n"
        f"M  V30 COUNTS 4 0 0 0 0\nM  V30 BEGIN ATOM\n{rows}M  V30 END ATOM\nM  V30 END CTAB\nM  END\n"
    )


def mol2() -> str:
    kinds = {"C": "C.3", "N": "N.ar", "CL": "Cl", "H": "H"}
    rows = "".join(
        f"{i} {e}{i} {x} {y} {z} {kinds[e]} 1 LIG 0.0\n" for i, (e, (x, y, z)) in enumerate(ATOMS, 1)
    )
    return f"@<TRIPOS>MOLECULE\nligand\n 4 0\n@<TRIPOS>ATOM\n{rows}@<TRIPOS>BOND\n1 1 2 1\n"


FILES = {"a.pdb": pdb(), "a.pdbqt": pdbqt(), "a.sdf": sdf(), "b.sdf": sdf_v3000(), "a.mol2": mol2()}


@pytest.mark.parametrize("name", FILES)
def test_the_centre_is_the_mean_of_the_heavy_atoms_in_every_format(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert ligand_center(tmp_path / name, where="here") == pytest.approx((2.0, 3.0, 4.0), abs=1e-9)


def test_of_alternate_locations_the_first_counts(tmp_path: Path) -> None:
    lines = pdb().splitlines()
    lines[1] = lines[1][:16] + "A" + lines[1][17:]
    lines.insert(2, lines[1][:16] + "B" + lines[1][17:30] + "  90.000" + lines[1][38:])
    (tmp_path / "a.pdb").write_text("\n".join(lines))
    assert ligand_center(tmp_path / "a.pdb", where="here") == pytest.approx((2.0, 3.0, 4.0))


@pytest.mark.skipif(not DATA.is_dir(), reason="the structure is not part of the project")
def test_the_box_of_7uvu_is_where_others_put_it() -> None:
    center = ligand_center(DATA / "clpp_7uvu_reference_ligand.pdb", where="here")
    assert center == pytest.approx((-29.497, 72.553, 15.125), abs=5e-4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "", "expected a file that ends with .pdb, .sdf, .mol2 or .pdbqt"),
        ("a.pdb", pdb().replace("   9.000", "   nine ", 1), "line 3: expected three coordinates; got"),
        ("a.pdb", pdb().replace("   9.000", "     nan", 1), "line 3: expected three coordinates; got"),
        ("a.pdb", "END\n", "got no heavy atom"),
        ("a.pdb", pdb(ATOMS[:1] * 251), "at most 250 heavy atoms; got 251"),
        ("a.sdf", "ligand\n", "line 1: expected a molecule"),
        ("a.sdf", sdf().replace("3D", "2D"), "line 2: expected a structure in space"),
        ("a.sdf", sdf().replace("  4  0", " no  0"), "line 4: expected the number of atoms"),
        ("a.sdf", "\n".join(sdf().splitlines()[:6]), "line 7: expected 4 atoms; got the end of the file"),
        ("a.sdf", sdf().replace("9.0000", "x.0000", 1), "line 7: expected three coordinates"),
        ("b.sdf", sdf_v3000().replace("9.0 9.0 0", "9.0", 1), "line 10: expected three coordinates"),
        ("a.mol2", mol2().replace("6.0 9.0", "6.0 ,", 1), "line 7: expected three coordinates"),
    ],
)
def test_a_bad_reference_names_its_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    box = {"reference_ligand": str(tmp_path / name), "center": None, "size": 20.0}
    with pytest.raises(ConfigError) as caught:
        make_box(box, where="component 'docking': `box")
    assert message in str(caught.value)
    assert str(caught.value).startswith("component 'docking': `box.reference_ligand`: ")
    assert "\n" not in str(caught.value)


def test_a_missing_reference_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a file; got no .*gone\.pdb"):
        ligand_center(tmp_path / "gone.pdb", where="here")
    (tmp_path / "a.pdb").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected UTF-16-LE"):
        ligand_center(tmp_path / "a.pdb", where="here")
    (tmp_path / "b.pdb").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*b\.pdb"):
        ligand_center(tmp_path / "b.pdb", where="here")


@pytest.mark.parametrize("name", FILES)
def test_the_reference_may_be_in_any_encoding_and_packed(name: str, tmp_path: Path) -> None:
    text = FILES[name].replace("ligand", "Müller")
    path = tmp_path / name
    for data in (
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("latin-1"),
        text.encode("utf-16"),
        text.replace("\n", "\r").encode(),
        text.replace("\n", "\r\n").encode(),
        gzip.compress(text.encode()),
    ):
        path.write_bytes(data)
        assert ligand_center(path, where="here") == pytest.approx((2.0, 3.0, 4.0), abs=1e-9)
    packed = path.with_name(name + ".gz")
    packed.write_bytes(gzip.compress(text.encode()))
    assert ligand_center(packed, where="here") == pytest.approx((2.0, 3.0, 4.0), abs=1e-9)


def _rod(path: Path, length: float) -> dict[str, Any]:
    """A box of 20 Å around two atoms, `length` apart along y."""
    ends = [("C", (1.0, 2.0 - length / 2, 3.0)), ("N", (1.0, 2.0 + length / 2, 3.0)), ("H", (99.0, 2.0, 3.0))]
    path.write_text(pdb(ends))
    return {"reference_ligand": str(path), "center": None, "size": 20.0}


def test_a_box_that_cannot_hold_its_own_ligand_is_warned_of(tmp_path: Path) -> None:
    assert box_warning(_rod(tmp_path / "a.pdb", 20.0), where="`box") is None
    warning = box_warning(_rod(tmp_path / "a.pdb", 25.0), where="component 'docking': `box")
    assert warning is not None
    assert warning.startswith("component 'docking': `box.size`: the reference ligand ")
    assert warning.endswith("extends beyond its box by 2.5 Å; [20, 33, 20] holds it")
    offered = {**_rod(tmp_path / "a.pdb", 25.0), "size": [20, 33, 20]}
    assert box_warning(offered, where="`box") is None
    narrow = {**_rod(tmp_path / "a.pdb", 8.0), "size": [20, 7.5, 30]}
    assert str(box_warning(narrow, where="`box")).endswith("by 0.2 Å; [20, 16, 30] holds it")
    longest = str(box_warning(_rod(tmp_path / "a.pdb", 80.0), where="`box"))
    assert longest.endswith("no box of at most 60 Å around its centre holds it")
    assert box_warning({"reference_ligand": None, "center": [1, 2, 3], "size": 1.0}, where="`box") is None


def test_a_box_has_three_sides_and_a_distance() -> None:
    cube = make_box({"reference_ligand": None, "center": [1, 2, 3], "size": 20}, where="`box")
    assert cube == Box((1.0, 2.0, 3.0), (20.0, 20.0, 20.0))
    box = make_box({"reference_ligand": None, "center": [0, 0, 0], "size": [2.0, 4.0, 6.0]}, where="`box")
    assert box.size == (2.0, 4.0, 6.0)
    assert box.distance((0.9, -1.9, 2.9)) == 0
    assert box.distance((4.0, 6.0, 0.0)) == pytest.approx(5.0)  # 3 beyond in x, 4 in y
    with pytest.raises(ConfigError, match="at most 60 Å"):
        make_box({"reference_ligand": None, "center": [0, 0, 0], "size": [2.0, 4.0, 200.0]}, where="`box")
