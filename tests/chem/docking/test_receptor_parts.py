"""What of a file belongs to a receptor, what may be its ligand, and what is asked, left out or refused."""

from pathlib import Path
from typing import Any

import gemmi
import pytest

from allmodes.chem.docking.receptor_parts import Parts, split_structure
from allmodes.errors import InputError
from structures import Lines, as_cif, atom_line, peptide, place_of, ring, write

PROTEIN = peptide("GALVKSGALVKS")
OTHER = peptide("GALVKSGALVKS", "B", shift=60.0)
FAR = peptide("GALVKSGALVKS", "B", shift=25.0)


def beside(lines: Lines, number: int, away: float = 4.0) -> tuple[float, float, float]:
    """A place next to a residue's Cα."""
    x, y, z = place_of(lines, number, "CA")
    return x, y, z + away


def split(path: Path, ligand: str | None = None, chains: tuple[str, ...] = ()) -> Parts:
    return split_structure(path, ligand=ligand, chains=chains)


def zinc(chain: str, place: tuple[float, float, float], name: str = "ZN") -> Lines:
    return [atom_line(name, name, chain, 301, place, name)]


FORMATS = pytest.mark.parametrize("as_format", [lambda path: path, as_cif], ids=["PDB", "mmCIF"])


@FORMATS
@pytest.mark.parametrize("chain", ["A", "Z", "9"])
def test_groups_in_chains_of_their_own_belong_to_what_they_touch(
    as_format: Any, chain: str, tmp_path: Path
) -> None:
    ligand = ring("LIG", "A", 300, beside(PROTEIN, 3))
    path = as_format(write(tmp_path / "a.pdb", PROTEIN, ligand, zinc(chain, beside(PROTEIN, 6))))
    for chains in ((), ("A",)):
        parts = split(path, chains=chains)
        assert [group.label for group in parts.metals] == [f"ZN {chain} 301"]
        assert parts.ligand is not None
        assert parts.ligand.label == "LIG A 300"
        assert parts.removed == ()


def test_groups_in_a_blank_chain_are_reached(tmp_path: Path) -> None:
    ligand = ring("LIG", " ", 300, beside(PROTEIN, 3))
    path = write(tmp_path / "a.pdb", PROTEIN, [*ligand, *zinc(" ", beside(PROTEIN, 6))])
    for options in (
        {},
        {"ligand": "LIG"},
        {"ligand": "lig '' 300"},
        {"chains": ("A", "")},
        {"chains": ("A",)},
    ):
        parts = split(path, **options)
        assert parts.ligand is not None
        assert parts.ligand.label == "LIG '' 300"
        assert [group.label for group in parts.metals] == ["ZN '' 301"]
        assert parts.chains == ("A",)


def test_a_structure_without_chain_letters_is_taken_apart_at_ter(tmp_path: Path) -> None:
    """Two copies, numbered alike, with groups between them."""
    first, second = peptide("GALVKS", " "), peptide("GALVKS", " ", shift=40.0)
    path = write(tmp_path / "a.pdb", first, ring("LIG", " ", 300, beside(first, 3)), second)
    parts = split(path)
    assert parts.chains == ("''",)
    assert parts.ligand is not None
    assert len(parts.monomers) == 12
    assert parts.peptides == ()
    # No TER, either: numbers start again.
    path.write_text("\n".join([*first, *second]))
    assert len(split(path).monomers) == 12


@FORMATS
def test_ions_follow_the_chain_they_are_near(as_format: Any, tmp_path: Path) -> None:
    groups = zinc("A", beside(FAR, 6)), zinc("Z", beside(PROTEIN, 6), "MG")
    path = as_format(write(tmp_path / "a.pdb", PROTEIN, FAR, *groups))
    kept = {
        chains: [group.label for group in split(path, chains=chains).metals]
        for chains in ((), ("A",), ("B",), ("A", "B"))
    }
    assert sorted(kept[()]) == sorted(kept["A", "B"]) == ["MG Z 301", "ZN A 301"]
    assert kept["A",] == ["MG Z 301"]
    assert kept["B",] == ["ZN A 301"]
    assert set(split(path, chains=("A",)).removed) == {"ZN A 301", "chains B"}


def test_an_ion_far_from_everything_is_removed_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdb", PROTEIN, zinc("A", (500.0, 0.0, 0.0)))
    parts = split(path)
    assert parts.metals == ()
    assert parts.removed == ("ZN A 301",)


def test_a_chain_of_groups_can_be_named(tmp_path: Path) -> None:
    """The ion in Z is nearer to B, which is not kept, and out of touch of A."""
    path = write(tmp_path / "a.pdb", PROTEIN, peptide("GALVKSGALVKS", "B", shift=20.0))
    place = next(
        place
        for step in range(60)
        if (place := (beside(PROTEIN, 6)[0] + step * 0.5, *beside(PROTEIN, 6, 9.0)[1:]))
        and split(
            write(
                path,
                PROTEIN,
                peptide("GALVKSGALVKS", "B", shift=20.0),
                zinc("Z", place),
            ),
            chains=("A",),
        ).metals
        == ()
    )
    assert place is not None
    parts = split(path, chains=("A", "Z"))
    assert [group.label for group in parts.metals] == ["ZN Z 301"]
    assert parts.chains == ("A",)
    with pytest.raises(
        InputError, match=r"`--chains`: expected a protein or nucleic acid, .* A, B hold; got Z"
    ):
        split(path, chains=("Z",))
    with pytest.raises(InputError, match="`--chains`: expected some of A, B, Z; got C"):
        split(path, chains=("C",))


def test_what_is_removed_is_named_whatever_its_chain(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.pdb",
        PROTEIN,
        OTHER,
        ring("LIG", "L", 1, beside(PROTEIN, 3)),
        ring("LIG", "M", 1, beside(OTHER, 3)),
        ring("GOL", "S", 1, beside(PROTEIN, 9)),
        [atom_line("O", "HOH", "W", n, (n * 3.0, 30.0, 0.0), "O") for n in range(4)],
    )
    parts = split(path)
    assert parts.ligand is not None
    assert parts.ligand.label == "LIG L 1"
    assert parts.removed == ("LIG M 1", "GOL S 1", "water (4)")
    parts = split(path, chains=("B",))
    assert parts.ligand is not None
    assert parts.ligand.label == "LIG M 1"
    assert parts.removed == ("LIG L 1", "GOL S 1", "water (4)", "chains A")
    with pytest.raises(InputError, match=r"expected a group near the kept chains B; GOL S 1 is not"):
        split(path, ligand="GOL", chains=("B",))


def test_one_copy_of_a_ligand_is_named_in_full(tmp_path: Path) -> None:
    copies = ring("LIG", "A", 401, beside(PROTEIN, 3)), ring("LIG", "A", 402, beside(PROTEIN, 9))
    path = write(tmp_path / "a.pdb", PROTEIN, *copies)
    assert split(path).ligand_pdb.count("HETATM") == 6
    for name, label in (("LIG", "LIG A 401"), ("lig a 402", "LIG A 402")):
        chosen = split(path, ligand=name).ligand
        assert chosen is not None
        assert chosen.label == label


# The least that makes a haem: its iron decides, not its name.
def haem(name: str, chain: str) -> Lines:
    x, y, z = beside(PROTEIN, 3)
    return [*ring(name, chain, 154, (x, y, z)), atom_line("FE", name, chain, 154, (x, y, z), "FE")]


@FORMATS
@pytest.mark.parametrize("name", ["HEM", "HEC", "XQX", "NAD", "ATP"])
def test_a_cofactor_is_not_taken_for_the_ligand(as_format: Any, name: str, tmp_path: Path) -> None:
    group = ring(name, "A", 154, beside(PROTEIN, 3)) if name in ("NAD", "ATP") else haem(name, "A")
    path = as_format(write(tmp_path / "a.pdb", PROTEIN, group))
    with pytest.raises(
        InputError, match=rf"`--ligand`: expected .* or `none`; there are {name} A 154 \([67] atoms\)$"
    ) as caught:
        split(path)
    assert "\n" not in str(caught.value)
    parts = split(path, ligand=name)
    assert parts.ligand is not None
    assert split(path, ligand="none").ligand is None
    assert split(path, ligand="none").removed == (f"{name} A 154",)


def test_a_cofactor_beside_an_inhibitor_is_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdb", PROTEIN, haem("HEM", "A"), ring("LIG", "A", 400, beside(PROTEIN, 9)))
    with pytest.raises(InputError, match=r"there are HEM A 154 \(7 atoms\), LIG A 400 \(6 atoms\)"):
        split(path)
    parts = split(path, ligand="LIG")
    assert parts.removed == ("HEM A 154",)


@pytest.mark.parametrize("name", ["UNL", "UNK", "LIG", "MOL", "INH", "DRG"])
@pytest.mark.parametrize("record", ["HETATM", "ATOM"])
def test_names_that_programs_give_to_ligands_are_ligands(name: str, record: str, tmp_path: Path) -> None:
    if (name, record) == ("UNK", "ATOM"):
        pytest.skip("an unknown residue of a protein")
    path = write(tmp_path / "a.pdb", PROTEIN, ring(name, "A", 400, beside(PROTEIN, 9), record=record))
    chosen = split(path).ligand
    assert chosen is not None
    assert chosen.label == f"{name} A 400"


@FORMATS
@pytest.mark.parametrize("sequence", ["GAL", "SGALKS"])
def test_a_short_peptide_is_asked_about(as_format: Any, sequence: str, tmp_path: Path) -> None:
    count = len(sequence)
    path = as_format(write(tmp_path / "a.pdb", PROTEIN, peptide(sequence, "P", shift=8.0, first=501)))
    with pytest.raises(
        InputError,
        match=rf"the chain of a peptide \(P\) or `none`; there are peptide P 501 \({count} residues\)$",
    ):
        split(path)
    for name in ("P", "peptide P 501"):
        parts = split(path, ligand=name)
        assert parts.ligand is not None
        assert parts.ligand.label == "peptide P 501"
        assert parts.chains == ("A",)
        assert parts.removed == ()
        structure = gemmi.read_pdb_string(parts.ligand_pdb)
        assert [residue.name for residue in structure[0][0]] == gemmi.expand_one_letter_sequence(
            sequence, gemmi.ResidueKind.AA
        )
        assert len(gemmi.read_pdb_string(parts.polymers)[0]) == 1
    # With a word, it stays, and that is said.
    for options in ({"ligand": "none"}, {"chains": ("A", "P")}):
        parts = split(path, **options)
        assert parts.chains == ("A", "P")
        assert parts.peptides == (f"peptide P 501 ({count} residues)",)
    assert split(path, chains=("A",)).removed == ("chains P",)
    chosen = split(path, chains=("A",), ligand="P").ligand
    assert chosen is not None


def test_a_peptide_beside_a_ligand_is_asked_about_and_may_stay(tmp_path: Path) -> None:
    ligand = ring("LIG", "A", 400, beside(PROTEIN, 9))
    path = write(tmp_path / "a.pdb", PROTEIN, peptide("GALK", "P", shift=8.0), ligand)
    with pytest.raises(InputError, match=r"there are LIG A 400 \(6 atoms\), peptide P 1 \(4 residues\)"):
        split(path)
    parts = split(path, ligand="LIG")
    assert parts.chains == ("A", "P")
    assert parts.peptides == ("peptide P 1 (4 residues)",)


def test_a_peptide_without_a_chain_letter_is_reached(tmp_path: Path) -> None:
    protein = peptide("GALVKSGALVKS", " ")
    path = write(tmp_path / "a.pdb", protein, peptide("GALK", " ", shift=8.0))
    with pytest.raises(InputError, match=r"the chain of a peptide \(''\) .*; there are peptide '' 1 \(4 res"):
        split(path)
    parts = split(path, ligand="''")
    assert parts.ligand is not None
    assert parts.ligand.size == "4 residues"
    assert len(parts.monomers) == 12


def test_very_many_groups_of_one_name_and_waters_of_any_name_are_counted(tmp_path: Path) -> None:
    ions = [atom_line("NA", "SOD", "I", n, (3.0 * n, 50.0, 0.0), "NA") for n in range(1, 31)]
    waters = [atom_line("OH2", "TIP", "W", n, (3.0 * n, 60.0, 0.0), "O") for n in range(1, 31)]
    parts = split(write(tmp_path / "a.pdb", PROTEIN, ions, waters))
    assert parts.removed == ("SOD (30)", "water (30)")


def test_chains_of_about_one_length_are_all_receptor(tmp_path: Path) -> None:
    """As insulin's two, of 21 and 30 residues."""
    path = write(tmp_path / "a.pdb", PROTEIN, peptide("GALVKSGA", "B", shift=8.0))
    parts = split(path)
    assert parts.chains == ("A", "B")
    assert parts.peptides == ()


def test_the_receptor_itself_is_no_ligand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdb", PROTEIN)
    with pytest.raises(InputError, match=r"`--ligand`: expected a ligand of at most 250 heavy atoms beside"):
        split(path, ligand="A")


@FORMATS
def test_a_residue_without_a_backbone_is_left_out_and_named(as_format: Any, tmp_path: Path) -> None:
    lines = [line for line in PROTEIN if int(line[22:26]) != 4 or line[12:16] == " CA "]
    parts = split(as_format(write(tmp_path / "a.pdb", lines)))
    assert parts.incomplete == ("VAL A 4 (no N C)",)
    assert "VAL A 4" not in [str(monomer) for monomer in parts.monomers.values()]
    assert len(parts.monomers) == 11


@FORMATS
@pytest.mark.parametrize(
    ("names", "what"),
    [
        ({"CA"}, "12 of 12 residues lack a backbone"),
        ({"N", "CA", "C", "O"}, "10 of 12 residues lack side chains"),
    ],
    ids=["CA", "backbone"],
)
def test_a_trace_is_refused_at_once(as_format: Any, names: set[str], what: str, tmp_path: Path) -> None:
    path = as_format(write(tmp_path / "a.pdb", [line for line in PROTEIN if line[12:16].strip() in names]))
    with pytest.raises(InputError, match=f"expected a structure of all atoms; {what}") as caught:
        split(path)
    assert "\n" not in str(caught.value)


def test_modified_residues_belong_to_their_chain_wherever_they_stand(tmp_path: Path) -> None:
    """As HETATM in the middle, at the end, and between gaps; a free amino acid is a group of its own."""
    lines = [line for line in PROTEIN if int(line[22:26]) not in (4, 6)]
    names = {3: "MSE", 5: "SEP", 12: "XYZ"}
    lines = [
        f"HETATM{line[6:17]}{names[int(line[22:26])]}{line[20:]}" if int(line[22:26]) in names else line
        for line in lines
    ]
    shift = beside(PROTEIN, 1)[0] - 5.0
    free = [f"HETATM{line[6:17]}GLU{line[20:22]} 800{line[26:]}" for line in peptide("E", shift=shift)]
    parts = split(write(tmp_path / "a.pdb", lines, free))
    named = [str(monomer) for monomer in parts.monomers.values()]
    assert [name for name in named if name.split()[0] in ("MSE", "SEP", "XYZ")] == [
        "MSE A 3",
        "SEP A 5",
        "XYZ A 12",
    ]
    assert [str(m) for m in parts.monomers.values() if m.replaced_by == "MET"] == ["MSE A 3"]
    assert parts.ligand is not None
    assert parts.ligand.label == "GLU A 800"


def test_models_after_the_first_are_named(tmp_path: Path) -> None:
    models = [f"MODEL {n:8d}\n" + "\n".join(PROTEIN) + "\nENDMDL\n" for n in range(1, 21)]
    (tmp_path / "a.pdb").write_text("".join(models))
    parts = split(tmp_path / "a.pdb")
    assert len(parts.monomers) == 12
    assert parts.removed == ("models after the first (19)",)


def test_long_chain_names_and_codes_of_mmcif_are_those_of_the_authors(tmp_path: Path) -> None:
    path = as_cif(
        write(
            tmp_path / "a.pdb",
            PROTEIN,
            OTHER,
            ring("LIG", "A", 300, beside(PROTEIN, 3)),
            ring("LIH", "B", 300, beside(OTHER, 3)),
        )
    )
    structure = gemmi.read_structure(str(path))
    for old, new in (("A", "AAA"), ("B", "AAB")):
        structure.rename_chain(old, new)
    structure.rename_residues("LIG", "A1LU6")
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(path))
    with pytest.raises(InputError, match=r"there are A1LU6 AAA 300 \(6 atoms\), LIH AAB 300 \(6 atoms\)"):
        split(path)
    parts = split(path, ligand="a1lu6", chains=("AAA",))
    assert parts.chains == ("AAA",)
    assert parts.removed == ("LIH AAB 300", "chains AAB")
    columns = {(line[17:20], line[21]) for line in parts.ligand_pdb.splitlines() if line.startswith("HETATM")}
    assert columns == {("A1L", "A")}
