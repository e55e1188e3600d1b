"""Alternate locations and microheterogeneity: one conformation, the same for all that are bonded."""

from pathlib import Path

import gemmi
import pytest

from allmodes.chem.docking.groups import describe
from allmodes.chem.docking.locations import keep_one_location
from structures import Lines, atom_line, peptide, ring

BACKBONE = ("N", "CA", "C", "O")


def split(lines: Lines, number: int, occupancy: dict[str, float], *, names: tuple[str, ...] = ()) -> Lines:
    """The residue with each atom (or those named) once for each letter, z = 100 times the letter's place."""
    out: Lines = []
    for line in lines:
        if int(line[22:26]) != number or (names and line[12:16].strip() not in names):
            out.append(line)
            continue
        # Bonds are found by distance: each conformation lies .1 Å beside the last.
        for index, (letter, occ) in enumerate(occupancy.items()):
            z = float(line[46:54]) + 0.1 * index
            out.append(f"{line[:16]}{letter}{line[17:46]}{z:8.3f}{occ:6.2f}{line[60:]}")
    return out


def chosen(lines: Lines) -> tuple[list[dict[str, float]], list[str]]:
    """By residue, the height of each kept atom above where `peptide` has it; and the removed residues."""
    structure = gemmi.read_pdb_string("\n".join(lines))
    removed = keep_one_location(structure[0])
    residues = [residue for chain in structure[0] for residue in chain]
    assert all(atom.altloc == "\0" for residue in residues for atom in residue)
    return [{atom.name: atom.pos.z for atom in residue} for residue in residues], [
        describe(*item) for item in removed
    ]


def letter_of(lines: Lines, plain: Lines, number: int) -> set[str]:
    """Which letters the atoms of a residue were taken from."""
    kept = chosen(lines)[0][number - 1]
    before = {line[12:16].strip(): float(line[46:54]) for line in plain if int(line[22:26]) == number}
    return {"ABC"[round((z - before[name]) / 0.1)] for name, z in kept.items()}


PLAIN = peptide("GALVK")


@pytest.mark.parametrize(
    ("occupancy", "expected"),
    [
        ({"A": 0.4, "B": 0.6}, "B"),
        ({"A": 0.6, "B": 0.4}, "A"),
        ({"A": 0.5, "B": 0.5}, "A"),
        ({"B": 0.5, "A": 0.5}, "B"),  # the first in the alphabet, which lies second here
        ({"A": 0.0, "B": 0.0}, "A"),
        ({"A": 0.2, "B": 0.3, "C": 0.5}, "C"),
    ],
)
@pytest.mark.parametrize("names", [(), ("CB", "CG", "CD1", "CD2")], ids=["residue", "side chain"])
def test_the_most_occupied_location_is_kept(
    occupancy: dict[str, float], expected: str, names: tuple[str, ...]
) -> None:
    lines = split(PLAIN, 3, occupancy, names=names)
    kept = letter_of(lines, PLAIN, 3)
    assert kept == ({expected} | ({"A"} if names else set()))
    assert len(chosen(lines)[0][2]) == 8


def test_one_letter_holds_for_a_whole_residue() -> None:
    """Atom by atom, B wins at CB and A at CG: a side chain of both would be torn."""
    lines = split(
        split(PLAIN, 3, {"A": 0.2, "B": 0.8}, names=("CB",)), 3, {"A": 0.7, "B": 0.3}, names=("CG",)
    )
    kept = chosen(lines)[0][2]
    place = {line[12:16].strip(): float(line[46:54]) for line in PLAIN if int(line[22:26]) == 3}
    assert kept["CB"] == pytest.approx(place["CB"] + 0.1)
    assert kept["CG"] == pytest.approx(place["CG"] + 0.1)


def test_bonded_residues_take_the_same_letter() -> None:
    """Residue 3 alone would take A (0.6), 4 would take B (0.7): together B has 1.1 of 2."""
    lines = split(split(PLAIN, 3, {"A": 0.6, "B": 0.4}), 4, {"A": 0.3, "B": 0.7})
    assert letter_of(lines, PLAIN, 3) == letter_of(lines, PLAIN, 4) == {"B"}
    # Residues without a bond between them decide for themselves.
    apart = split(split(PLAIN, 2, {"A": 0.6, "B": 0.4}), 4, {"A": 0.3, "B": 0.7})
    assert letter_of(apart, PLAIN, 2) == {"A"}
    assert letter_of(apart, PLAIN, 4) == {"B"}


def test_a_chain_of_bonds_hands_the_letter_on_to_residues_that_have_it() -> None:
    lines = split(PLAIN, 2, {"A": 0.9, "B": 0.1})
    lines = split(lines, 3, {"A": 0.6, "B": 0.4})
    lines = split(lines, 4, {"B": 0.4, "C": 0.6})  # has no A
    assert [letter_of(lines, PLAIN, 2), letter_of(lines, PLAIN, 3)] == [{"A"}, {"A"}]
    heights = chosen(lines)[0][3]
    place = {line[12:16].strip(): float(line[46:54]) for line in PLAIN if int(line[22:26]) == 4}
    assert heights["CA"] - place["CA"] == pytest.approx(0.0)  # B, which ranks before C with 0.9 of 3


def test_disulfides_are_bonds() -> None:
    sulfurs = [
        atom_line("SG", "CYS", "A", 1, (0, 0, 0), "S"),
        atom_line("SG", "CYS", "B", 9, (2.05, 0, 0), "S"),
    ]
    lines = split(split(sulfurs, 1, {"A": 0.6, "B": 0.4}), 9, {"A": 0.1, "B": 0.9})
    assert chosen(lines)[0] == [{"SG": 0.1}, {"SG": 0.1}]
    zinc = [sulfurs[0], atom_line("ZN", "ZN", "B", 9, (2.2, 0, 0), "ZN")]
    lines = split(split(zinc, 1, {"A": 0.6, "B": 0.4}), 9, {"A": 0.1, "B": 0.9})
    assert chosen(lines)[0] == [{"SG": 0.0}, {"ZN": 0.1}]


def test_a_ligand_has_one_location() -> None:
    lines = split(ring("LIG", "A", 301, (50, 50, 0)), 301, {"A": 0.3, "B": 0.7})
    assert chosen(lines)[0] == [dict.fromkeys(("C1", "C2", "C3", "C4", "C5", "C6"), 0.1)]


def test_an_atom_that_only_another_location_has_is_built_in_a_side_chain_and_kept_elsewhere() -> None:
    def without(lines: Lines, name: str) -> Lines:
        return [line for line in lines if not (line[16] == "B" and line[12:16].strip() == name)]

    side = without(split(PLAIN, 3, {"A": 0.4, "B": 0.6}), "CD1")
    assert "CD1" not in chosen(side)[0][2]
    back = without(split(PLAIN, 3, {"A": 0.4, "B": 0.6}), "O")
    assert "O" in chosen(back)[0][2]
    ligand = split(ring("LIG", "A", 301, (50, 50, 0)), 301, {"A": 0.4, "B": 0.6})
    assert len(chosen(without(ligand, "C3"))[0][0]) == 6


def _named(lines: Lines, number: int, names: dict[str, str]) -> Lines:
    """Locations of one residue renamed by their letters."""
    return [
        line[:17] + names[line[16]] + line[20:] if int(line[22:26]) == number and line[16] in names else line
        for line in lines
    ]


@pytest.mark.parametrize("sort", [False, True], ids=["atom by atom", "residue by residue"])
@pytest.mark.parametrize(
    ("occupancy", "expected", "gone"),
    [
        ({"A": 0.5, "B": 0.5}, "PRO", "ALA A 2"),
        ({"A": 0.4, "B": 0.6}, "ALA", "PRO A 2"),
        ({"A": 0.6, "B": 0.4}, "PRO", "ALA A 2"),
    ],
)
def test_of_residues_at_one_place_the_most_occupied_is_kept(
    occupancy: dict[str, float], expected: str, gone: str, sort: bool
) -> None:
    lines = _named(split(PLAIN, 2, occupancy), 2, {"A": "PRO", "B": "ALA"})
    if sort:
        lines.sort(key=lambda line: (int(line[22:26]), line[16]))
    structure = gemmi.read_pdb_string("\n".join(lines))
    removed = keep_one_location(structure[0])
    assert [describe(*item) for item in removed] == [gone]
    assert [residue.name for residue in structure[0][0]] == ["GLY", expected, "LEU", "VAL", "LYS"]


def test_neighbours_follow_the_residue_that_is_kept() -> None:
    lines = _named(split(PLAIN, 2, {"A": 0.6, "B": 0.4}), 2, {"A": "PRO", "B": "ALA"})
    lines = split(lines, 3, {"A": 0.1, "B": 0.9})
    structure = gemmi.read_pdb_string("\n".join(lines))
    keep_one_location(structure[0])
    assert structure[0][0][1].name == "PRO"
    assert letter_of(lines, PLAIN, 3) == {"A"}


def test_residues_at_one_place_without_letters_are_told_by_occupancy() -> None:
    lines = [line for line in PLAIN if int(line[22:26]) == 2]
    other = [f"{line[:17]}SER{line[20:54]}{0.6:6.2f}{line[60:]}" for line in lines]
    first = [f"{line[:54]}{0.4:6.2f}{line[60:]}" for line in lines]
    assert chosen([*first, *other])[1] == ["ALA A 2"]


def test_an_atom_that_is_written_twice_counts_once_but_names_of_a_ligand_may_repeat() -> None:
    lines = [line for line in PLAIN if int(line[22:26]) == 3]
    assert len(chosen([*lines, *lines])[0][0]) == 8
    ligand = [line[:12] + " C  " + line[16:] for line in ring("UNL", "A", 1, (0, 0, 0))]
    structure = gemmi.read_pdb_string("\n".join(ligand))
    keep_one_location(structure[0])
    assert len(structure[0][0][0]) == 6


def test_insertion_codes_and_groups_of_one_number_are_no_alternatives(tmp_path: Path) -> None:
    inserted = [line[:26] + "A" + line[27:] for line in PLAIN if int(line[22:26]) == 2]
    water = [atom_line("O", "HOH", "A", 2, (50, 50, 50), "O")]
    ion = [atom_line("NA", "NA", "A", 2, (60, 50, 50), "NA")]
    residues, removed = chosen([*PLAIN, *inserted, *water, *ion])
    assert len(residues) == 8
    assert removed == []
