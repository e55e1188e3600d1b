"""PDB and mmCIF files, read into the first model of a gemmi structure."""

import math
import re
from itertools import groupby
from pathlib import Path

import gemmi

from allmodes.chem.docking.box import coordinates
from allmodes.errors import InputError, one_line, shown
from allmodes.runs.files import read_text

# Columns of PDB that are read: charges beyond them are not used and may be malformed.
_COLUMNS = 78
# Columns 73 to 80 of files from before 1996 hold the entry's name and the line's number.
_OLD_COLUMNS = 72
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def read_structure(path: Path) -> tuple[gemmi.Structure, int]:
    """The first model of a PDB or mmCIF file, packed or not, and the number of further models.

    Its content tells which of both it is. Chains and numbers are the authors' in both; deuterium is hydrogen.
    Raises `InputError` for a file that is missing or neither, and for a coordinate that is no number.
    """
    if not path.is_file():
        raise InputError(f"expected a PDB or mmCIF file; got no {path}")
    text = read_text(path)
    try:
        structure = _from_cif(text) if _is_cif(text) else _from_pdb(text, path)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected a PDB or mmCIF file; {one_line(error)}") from error
    if len(structure) == 0 or not any(len(residue) for chain in structure[0] for residue in chain):
        raise InputError(f"{path}: expected a PDB or mmCIF file; got no atom")
    further = len(structure) - 1
    while len(structure) > 1:
        del structure[1]
    for chain in structure[0]:
        for residue in chain:
            for atom in residue:
                _check_place(atom, residue, chain.name, path)
                atom.occ = atom.occ if math.isfinite(atom.occ) else 1.0
                if atom.element.name == "D":
                    atom.element = gemmi.Element("H")
                    atom.name = "H" + atom.name[1:] if atom.name.startswith("D") else atom.name
    return structure, further


def missing_stretches(structure: gemmi.Structure) -> list[tuple[str, int]]:
    """Chain and length of each stretch of the sequence, as the file states it, that has no coordinates.

    Which residues are parts of polymers, their `entity_type` says.
    """
    copy = structure.clone()
    copy.merge_chain_parts()
    copy.setup_entities()
    copy.assign_label_seq_id()
    stretches = []
    for chain in copy[0]:
        polymer = chain.get_polymer()
        entity = copy.get_entity_of(polymer) if len(polymer) else None
        if entity is None:
            continue
        seen = {residue.label_seq for residue in polymer}
        places = range(1, len(entity.full_sequence) + 1)
        runs = groupby(places, key=lambda place, seen=seen: place in seen)
        stretches += [(chain.name, sum(1 for _ in run)) for is_seen, run in runs if not is_seen]
    return stretches


def _is_cif(text: str) -> bool:
    lines = (line.strip() for line in text.split("\n"))
    return next((line for line in lines if line and not line.startswith("#")), "").lower().startswith("data_")


def _from_cif(text: str) -> gemmi.Structure:
    document = gemmi.cif.read_string(_NOT_ASCII.sub("?", text))  # names of authors
    block = next((block for block in document if block.find_loop("_atom_site.Cartn_x")), None)
    if block is None:
        return gemmi.Structure()
    if not block.find_loop("_atom_site.auth_seq_id"):  # gemmi would make one residue of all of one name
        own = list(block.find_loop("_atom_site.label_seq_id"))
        block.find_loop("_atom_site.Cartn_x").get_loop().add_columns(["_atom_site.auth_seq_id"], "1")
        numbers = block.find_loop("_atom_site.auth_seq_id")
        for index, number in enumerate(own):
            numbers[index] = number if number not in (".", "?") else "1"
    return gemmi.make_structure_from_block(block)


def _from_pdb(text: str, path: Path) -> gemmi.Structure:
    columns, lines = _COLUMNS, []
    chain, place = None, ""
    seen: set[str] = set()
    in_first = True
    for number, line in enumerate(text.split("\n"), start=1):
        in_first = in_first and not line.startswith("ENDMDL")
        if not line.isascii():  # columns are bytes to gemmi; remarks may say what they like
            if line.startswith(("ATOM  ", "HETATM", "TER")) and not line[:_COLUMNS].isascii():
                raise InputError(
                    f"{path}: line {number}: expected ASCII; got {shown(_NOT_ASCII.findall(line)[0])}"
                )
            line = _NOT_ASCII.sub("?", line)
        if in_first and line.startswith(("ATOM  ", "HETATM")):
            # gemmi takes what is no number for 0.
            coordinates((line[30:38], line[38:46], line[46:54]), where=str(path), line=number)
            element = line[76:78].strip()
            if element and not element.isalpha():
                columns = _OLD_COLUMNS
            if line[20:22] != chain:
                chain, place, seen = line[20:22], "", set()
            # gemmi would make one residue of those with one number in two copies.
            if line[22:27] != place and line[16] == " " and line[12:27] in seen:
                lines.append("TER")
                seen = set()
            place = line[22:27]
            seen.add(line[12:27])
        elif line.startswith("TER"):
            seen = set()
        lines.append(line)
    # Copies of a chain under one letter are apart in what TER ends.
    return gemmi.read_pdb_string("\n".join(lines), max_line_length=columns, split_chain_on_ter=True)


def _check_place(atom: gemmi.Atom, residue: gemmi.Residue, chain: str, path: Path) -> None:
    # PDB, which the next programs read, has 8 columns for each.
    if not all(-1000 < x < 10_000 for x in atom.pos.tolist()):
        place = " ".join(f"{x:g}" for x in atom.pos.tolist())
        raise InputError(
            f"{path}: atom {atom.name} of {residue.name} {chain} {residue.seqid}: "
            f"expected coordinates between -1000 and 10000; got {place}"
        )
