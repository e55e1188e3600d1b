"""What the residues of a model belong to: polymers, or groups of their own as ligands, ions and waters."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import gemmi

# Metal ions that hold sites together and that Vina has a type for; Na, K and the like come from the buffer.
METALS = frozenset({"Mg", "Mn", "Zn", "Ca", "Fe", "Co", "Ni", "Cu"})
# What crystals are grown, frozen and sugared in: never the ligand unless it is named.
ADDITIVES = frozenset(
    {
        *("GOL", "EDO", "PEG", "PGE", "PG4", "1PE", "P6G", "PE4", "P33", "MPD", "DMS", "IPA", "EOH", "MOH"),
        *("ACT", "ACY", "FMT", "CIT", "FLC", "TLA", "MLI", "SO4", "PO4", "NO3", "TRS", "EPE", "MES", "BTB"),
        *("IMD", "BME", "DTT", "UNX", "NAG", "NDG", "MAN", "BMA", "FUC", "BOG", "LDA", "LMT", "OLC"),
    }
)
# What a protein works with: asked about, not chosen. So is every group with a metal, as haem.
COFACTORS = frozenset(
    {
        *("HEM", "HEC", "HEA", "HEB", "HDD", "SRM", "BCL", "BPH", "CLA", "PHO", "NAD", "NAI", "NAP", "NDP"),
        *("FAD", "FDA", "FMN", "FNR", "SAM", "SAH", "COA", "ACO", "PLP", "PMP", "LLP", "TPP", "TDP", "THG"),
        *("THF", "BTN", "B12", "H4B", "PQQ", "MTE", "MGD", "AMP", "ADP", "ATP", "GDP", "GTP", "UDP", "UTP"),
    }
)
# Names that force fields give to states of protonation: the residue, and OpenMM's name of the state.
STATES = {
    "HID": ("HIS", "HID"),
    "HSD": ("HIS", "HID"),
    "HIE": ("HIS", "HIE"),
    "HSE": ("HIS", "HIE"),
    "HIP": ("HIS", "HIP"),
    "HSP": ("HIS", "HIP"),
    "ASH": ("ASP", "ASH"),
    "GLH": ("GLU", "GLH"),
    "LYN": ("LYS", "LYN"),
    "CYX": ("CYS", "CYX"),
    "CYM": ("CYS", "CYX"),
}
BACKBONE = ("N", "CA", "C")
_LINKS = (("C", "N", 2.0), ("O3'", "P", 2.3), ("O3*", "P", 2.3))  # atoms of two neighbours, longest bond in Å


@final
@dataclass(frozen=True, eq=False)
class Group:
    """Residues that belong together, with the name of their chain: a polymer's, or one by itself."""

    chain: str
    residues: tuple[gemmi.Residue, ...]
    is_polymer: bool

    @property
    def name(self) -> str:
        """The residue's name; `peptide` for what is a polymer."""
        return "peptide" if self.is_polymer else self.residues[0].name

    @property
    def label(self) -> str:
        """Name, chain and (first) number: what it is called in messages and may be called in `--ligand`."""
        return f"{self.name} {named_chain(self.chain)} {self.residues[0].seqid}"

    @property
    def size(self) -> str:
        """How large it is."""
        if self.is_polymer:
            return f"{len(self.residues)} residues"
        return f"{len(self.residues[0])} atoms"

    @property
    def heavy(self) -> list[gemmi.Atom]:
        """Its atoms other than hydrogen."""
        return [atom for residue in self.residues for atom in residue if not atom.is_hydrogen()]

    @property
    def is_water(self) -> bool:
        """Whether it is a water under any name: an oxygen, with hydrogens or without."""
        if self.is_polymer:
            return False
        return self.residues[0].is_water() or [atom.element.name for atom in self.heavy] == ["O"]

    @property
    def is_metal(self) -> bool:
        """Whether it is an ion that stays in a receptor."""
        residue = self.residues[0]
        return not self.is_polymer and len(residue) == 1 and residue[0].element.name in METALS

    @property
    def is_cofactor(self) -> bool:
        """Whether the protein may need it."""
        return not self.is_polymer and (
            self.name in COFACTORS or any(atom.element.is_metal for atom in self.heavy)
        )

    @property
    def is_peptide(self) -> bool:
        """Whether it is a polymer of amino acids."""
        return self.is_polymer and 2 * sum(map(is_amino_acid, self.residues)) >= len(self.residues)


def describe(chain: str, residue: gemmi.Residue) -> str:
    """A residue in a message: name, chain, number."""
    return f"{residue.name} {named_chain(chain)} {residue.seqid}"


def named_chain(chain: str) -> str:
    """A chain's name; `''`, as a shell wants it, where the file leaves it blank."""
    return chain or "''"


def number_of(residue: gemmi.Residue) -> int:
    """A residue's number without its insertion code; 0 where the file has none."""
    return residue.seqid.num or 0


def is_amino_acid(residue: gemmi.Residue) -> bool:
    """Whether it is an amino acid, standard or not, by its name or its backbone."""
    return (
        residue.name in STATES
        or gemmi.find_tabulated_residue(residue.name).is_amino_acid()
        or all(_atom(residue, name) is not None for name in BACKBONE)
    )


def groups_of(model: gemmi.Model) -> list[Group]:
    """All groups of a model in the order of the file: polymers, single residues, waters.

    A residue is part of a polymer when it is bonded to its neighbour as monomers are; or when it is a known
    amino acid or nucleotide that is written as ATOM, or whose number lies between those of such. Chain
    letters, TER and HETATM alone decide nothing, since programs write them as they please. Sets each
    residue's `entity_type`.
    """
    found: list[Group] = []
    for chain, residues in _chains(model):
        run: list[gemmi.Residue] = []
        for residue, part in zip(residues, _parts_of_polymers(residues), strict=True):
            residue.entity_type = gemmi.EntityType.Polymer if part else gemmi.EntityType.NonPolymer
            if not part and len(residue):
                found.append(Group(chain, (residue,), is_polymer=False))
            if not part:
                continue
            # Numbers start again where another copy does; within one chain a fusion may do that, too.
            if run and number_of(residue) < number_of(run[-1]) and not _are_linked(run[-1], residue):
                found.append(Group(chain, tuple(run), is_polymer=True))
                run = []
            run.append(residue)
        if run:
            found.append(Group(chain, tuple(run), is_polymer=True))
    return found


def _chains(model: gemmi.Model) -> list[tuple[str, list[gemmi.Residue]]]:
    """Name and residues of each chain; where the name is blank, TER alone says what a chain is."""
    chains: dict[str, list[gemmi.Residue]] = {}
    for index, chain in enumerate(model):
        chains.setdefault(chain.name or f"\0{index}", []).extend(chain)
    return [("" if name.startswith("\0") else name, residues) for name, residues in chains.items()]


def distance(atoms: Iterable[gemmi.Atom], search: gemmi.NeighborSearch | None) -> float:
    """Shortest distance in Å between atoms and those of a search; infinite beyond its radius."""
    if search is None:
        return math.inf
    nearest = math.inf
    for atom in atoms:
        mark = search.find_nearest_atom(atom.pos)
        if mark is not None:
            nearest = min(nearest, atom.pos.dist(mark.pos))
    return nearest


def _atom(residue: gemmi.Residue, name: str) -> gemmi.Atom | None:
    return next((atom for atom in residue if atom.name == name), None)


def _is_known(residue: gemmi.Residue) -> bool:
    known = gemmi.find_tabulated_residue(residue.name)
    return known.is_amino_acid() or known.is_nucleic_acid() or residue.name in STATES


def _are_linked(one: gemmi.Residue, other: gemmi.Residue) -> bool:
    for first, second, longest in _LINKS:
        ends = _atom(one, first), _atom(other, second)
        if ends[0] is not None and ends[1] is not None and ends[0].pos.dist(ends[1].pos) < longest:
            return True
    return False


def _parts_of_polymers(residues: list[gemmi.Residue]) -> list[bool]:
    parts = [not r.is_water() and _is_known(r) and r.het_flag != "H" for r in residues]
    for index in range(len(residues) - 1):
        if _are_linked(residues[index], residues[index + 1]):
            parts[index] = parts[index + 1] = True
    sure = [index for index, part in enumerate(parts) if part]
    for before, after in itertools.pairwise(sure):
        numbers = number_of(residues[before]), number_of(residues[after])
        for index in range(before + 1, after):
            residue = residues[index]
            # A modified residue between gaps.
            if _is_known(residue) and numbers[0] <= number_of(residue) <= numbers[1]:
                parts[index] = True
    return parts
