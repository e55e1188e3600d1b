"""Files as people have them: formats, encodings, line ends, models, and numbers that are none."""

import gzip
from pathlib import Path

import gemmi
import pytest

from allmodes.chem.docking.structure_file import missing_stretches, read_structure
from allmodes.errors import InputError
from structures import as_cif, atom_line, peptide, write

PLAIN = "\n".join(peptide("AGS")) + "\n"
ATOMS = PLAIN.count("ATOM")


def atoms(path: Path) -> list[tuple[str, str, list[float]]]:
    structure, _ = read_structure(path)
    return [
        (chain.name, atom.name, atom.pos.tolist())
        for chain in structure[0]
        for residue in chain
        for atom in residue
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        ("REMARK   1 Grün, 5 Å\nTITLE     CAFÉ\n" + PLAIN).encode("latin-1"),
        ("REMARK   1 Grün, 5 Å\n" + PLAIN).encode(),
        gzip.compress(PLAIN.encode()),
        # Before 1996, columns 73 to 80 held the entry and the line's number.
        "".join(f"{line[:72]}1ABC{n:4d}\n" for n, line in enumerate(PLAIN.splitlines(), 95)).encode(),
    ],
    ids=["BOM", "UTF-16", "UTF-16 bare", "CR", "CRLF", "Latin-1", "UTF-8", "gzip", "old columns"],
)
def test_every_encoding_gives_the_same_atoms(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "plain.pdb").write_text(PLAIN)
    (tmp_path / "other.ent").write_bytes(data)
    expected = atoms(tmp_path / "plain.pdb")
    assert len(expected) == ATOMS
    assert atoms(tmp_path / "other.ent") == expected


def test_the_content_says_which_format_a_file_is(tmp_path: Path) -> None:
    pdb = write(tmp_path / "a.pdb", peptide("AGS"))
    expected = atoms(pdb)
    cif = as_cif(pdb)
    assert atoms(cif) == expected
    (tmp_path / "named_wrong.pdb").write_bytes(gzip.compress(b"# a comment\n" + cif.read_bytes()))
    assert atoms(tmp_path / "named_wrong.pdb") == expected


@pytest.mark.parametrize("column", [12, 16, 17, 21, 26, 76])
def test_a_name_that_is_not_ascii_names_its_line(column: int, tmp_path: Path) -> None:
    lines = peptide("AGS")
    lines[1] = f"{lines[1][:column]}§{lines[1][column + 1 :]}"
    with pytest.raises(InputError, match="line 2: expected ASCII; got '§'"):
        read_structure(write(tmp_path / "a.pdb", lines))
    lines[1] = f"{peptide('AGS')[1]:<80}§ a note behind all columns"
    assert len(atoms(write(tmp_path / "a.pdb", lines))) == ATOMS


@pytest.mark.parametrize("field", ["     nan", "     inf", "    -inf", "********", "   1e999", "        "])
def test_a_coordinate_that_is_no_number_names_its_line(field: str, tmp_path: Path) -> None:
    lines = PLAIN.splitlines()
    lines[3] = lines[3][:38] + field + lines[3][46:]
    (tmp_path / "a.pdb").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"a\.pdb: line 4: expected three coordinates"):
        read_structure(tmp_path / "a.pdb")


@pytest.mark.parametrize("value", ["nan", "?", ".", "inf", "1e400", "abc", "123456.0"])
def test_a_coordinate_of_mmcif_that_is_no_number_names_its_atom(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdb").write_text(atom_line("CA", "ALA", "A", 7, (1.25, 2.0, 3.0), "C", record="ATOM"))
    cif = as_cif(tmp_path / "a.pdb")
    cif.write_text(cif.read_text().replace("1.25 ", f"{value} "))
    with pytest.raises(
        InputError, match=r"atom CA of ALA A 7: expected coordinates between .*; got "
    ) as caught:
        read_structure(cif)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "<html>404</html>", "data_x\n", "data_x\nloop_\n_atom_site.id\n1 2\n'", "C\nCC\n", "\0" * 99],
)
def test_what_is_no_structure_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdb").write_text(text)
    with pytest.raises(InputError, match="expected a PDB or mmCIF file; ") as caught:
        read_structure(tmp_path / "a.pdb")
    assert "\n" not in str(caught.value)


def test_an_occupancy_that_is_no_number_is_one(tmp_path: Path) -> None:
    lines = [line[:54] + "   nan" + line[60:] for line in PLAIN.splitlines()]
    (tmp_path / "a.pdb").write_text("\n".join(lines))
    assert {atom.occ for residue in read_structure(tmp_path / "a.pdb")[0][0][0] for atom in residue} == {1.0}


def test_two_copies_under_one_letter_are_two_and_a_residue_in_two_parts_is_one(tmp_path: Path) -> None:
    lines = PLAIN.splitlines()
    (tmp_path / "a.pdb").write_text("\n".join([*lines, *lines]))
    assert len(atoms(tmp_path / "a.pdb")) == 2 * ATOMS
    other = atom_line("C1", "LIG", "A", 9, (0.0, 0.0, 0.0), "C")
    (tmp_path / "a.pdb").write_text("\n".join([*lines[:6], other, *lines[6:]]))
    residues = [r for chain in read_structure(tmp_path / "a.pdb")[0][0] for r in chain]
    assert [residue.name for residue in residues] == ["ALA", "GLY", "LIG", "SER"]


def test_of_several_models_the_first_counts(tmp_path: Path) -> None:
    models = [f"MODEL {n:8d}\n" + "\n".join(peptide("AG", shift=n)) + "\nENDMDL\n" for n in (1, 2, 3)]
    (tmp_path / "a.pdb").write_text("".join(models))
    structure, further = read_structure(tmp_path / "a.pdb")
    assert (len(structure), further) == (1, 2)
    first = float(peptide("AG", shift=1)[0][30:38])
    assert structure[0][0][0][0].pos.x == pytest.approx(first, abs=1e-3)


def test_mmcif_without_the_numbers_of_authors_is_read_by_its_own(tmp_path: Path) -> None:
    sequence = "SEQRES   1 A    4  ALA GLY ALA GLY"
    cif = as_cif(write(tmp_path / "a.pdb", [sequence, *peptide("AGAG", first=11)]))
    document = gemmi.cif.read(str(cif))
    loop = document.sole_block().find_loop("_atom_site.id").get_loop()
    loop.remove_column("_atom_site.auth_seq_id")
    loop.remove_column("_atom_site.auth_asym_id")
    document.write_file(str(cif))
    residues = [residue for chain in read_structure(cif)[0][0] for residue in chain]
    assert [(residue.name, str(residue.seqid)) for residue in residues] == [
        ("ALA", "1"),
        ("GLY", "2"),
        ("ALA", "3"),
        ("GLY", "4"),
    ]


def test_deuterium_is_hydrogen(tmp_path: Path) -> None:
    lines = [
        atom_line("CB", "ALA", "A", 1, (0.0, 0.0, 0.0), "C"),
        atom_line("DB1", "ALA", "A", 1, (1.0, 0.0, 0.0), "D"),
    ]
    (tmp_path / "a.pdb").write_text("\n".join(lines))
    residue = read_structure(tmp_path / "a.pdb")[0][0][0][0]
    assert [(atom.name, atom.element.name) for atom in residue] == [("CB", "C"), ("HB1", "H")]


@pytest.mark.parametrize("as_format", [lambda path: path, as_cif], ids=["PDB", "mmCIF"])
def test_stretches_of_the_sequence_without_coordinates_are_counted(as_format, tmp_path: Path) -> None:  # noqa: ANN001
    whole = peptide("AGSVLKTAE")
    lines = [line for line in whole if int(line[22:26]) not in (1, 4, 5)]
    sequence = "SEQRES   1 A    9  ALA GLY SER VAL LEU LYS THR ALA GLU"
    path = as_format(write(tmp_path / "a.pdb", [sequence, *lines]))
    assert missing_stretches(read_structure(path)[0]) == [("A", 1), ("A", 2)]
