"""The stock that comes with the package: enumerated building blocks instead of a catalogue.

No vendor's list went into it. Ring systems, chains and cyclic amines are given the groups that building
blocks carry and small decorations, within a limit of size; default_stock.toml has the lists. A molecule in it
is one that a catalogue would plausibly hold; whether one does is not known.

Write it: python -m allmodes.chem.retrosynthesis.default_stock FILE
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from rdkit import Chem
from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers, StereoEnumerationOptions

from allmodes.chem.retrosynthesis.stock import Stock, stock_of, write_stock
from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates
from allmodes.chem.retrosynthesis.templates import TemplateSet

Lists = Mapping[str, tuple[str, ...]]

_MOST_ATOMS = 18  # heavy atoms of a building block ...
_MOST_WITH_TIN = 26  # ... and of a stannane, for three butyl groups do not make it rare
_MOST_CENTRES = 2  # open stereocentres up to which every stereoisomer is listed as well


def default_stock(*, every: int = 1) -> Stock:
    """All building blocks of the lists, or those of every 50th spelling (say), for a quick look."""
    templates = load_templates(shipped_templates())
    spellings = sorted(set(_spellings(_lists())))[::every]
    return stock_of(isomer for spelling in spellings for isomer in _isomers(spelling, templates))


def _lists() -> Lists:
    text = (files("allmodes.chem.retrosynthesis") / "default_stock.toml").read_text(encoding="utf-8")
    return {name: tuple(smiles.split()) for name, smiles in tomllib.loads(text).items()}


def _isomers(spelling: str, templates: TemplateSet) -> Iterator[str]:
    """A building block as it is and with each of its hands; nothing where it is too large or forbidden."""
    molecule = Chem.MolFromSmiles(spelling)
    most = _MOST_WITH_TIN if "[Sn]" in spelling else _MOST_ATOMS
    if molecule.GetNumAtoms() > most or not templates.allows(molecule):
        return
    yield spelling
    centres = Chem.FindMolChiralCenters(molecule, includeUnassigned=True, useLegacyImplementation=False)
    if 0 < sum(label == "?" for _, label in centres) <= _MOST_CENTRES:
        options = StereoEnumerationOptions(onlyUnassigned=True, unique=True)
        for isomer in EnumerateStereoisomers(molecule, options=options):
            yield Chem.MolToSmiles(isomer)


def _spellings(lists: Lists) -> Iterator[str]:
    yield from _aromatic(lists)
    for residue in lists["residues"]:
        yield from (handle + residue for handle in lists["residue_handles"])
    for core in lists["simple_amines"]:
        yield from _substituted(core, lists["amine_decorations"], ())
    yield from (*lists["simple_amines"], *lists["cyclic_amines"])
    for side_chain in lists["side_chains"]:
        yield from (amino_acid.format(side_chain) for amino_acid in lists["amino_acids"])
    yield from lists["as_they_are"]


def _aromatic(lists: Lists) -> Iterator[str]:
    decorations = (*lists["small"], *lists["decorations"])
    for benzene in lists["benzene"]:
        yield from _substituted(benzene, lists["handles"], decorations)
        yield from _substituted(benzene, lists["few_handles"], lists["more_decorations"])
        for core in _pairs(benzene, lists["small"]):
            yield from _substituted(core, lists["few_handles"], ())
    for core in lists["six_rings"]:
        yield from _substituted(core, lists["handles"], ())
        yield from _substituted(core, lists["few_handles"], lists["small"])
    for core in lists["azoles"]:
        yield from _substituted(core, lists["azole_handles"], (*decorations, *lists["aryl_decorations"]))
    for core in (*lists["azoles"], *lists["five_rings"]):
        yield core
        yield from _substituted(core, lists["few_handles"], ())
    for core in (*lists["benzene"], *lists["six_rings"], *lists["azoles"]):
        yield from _substituted(core, lists["metals"], lists["small"])
        yield from _substituted(core, lists["stannyl"], ())
    for core in lists["fused_rings"]:
        yield core
        yield from _substituted(core, lists["fused_handles"], ())


def _substituted(core: str, handles: Sequence[str], decorations: Sequence[str]) -> Iterator[str]:
    """The ring system with each handle at each place, alone and with each decoration at each other place."""
    for one in _marked(core, "[1*]"):
        for handle in handles:
            yield one.replace("[1*]", handle)
        for two in _marked(one, "[2*]") if decorations else ():
            for handle in handles:
                with_handle = two.replace("[1*]", handle)
                for decoration in decorations:
                    yield with_handle.replace("[2*]", decoration)


def _pairs(core: str, decorations: Sequence[str]) -> list[str]:
    """The ring system with two decorations, each molecule once."""
    pairs = _substituted(core, decorations, decorations)
    return sorted({Chem.MolToSmiles(Chem.MolFromSmiles(pair)) for pair in pairs})


@cache
def _marked(core: str, mark: str) -> tuple[str, ...]:
    """The molecule with a mark on a CH of a ring, each different place once; the mark never comes first."""
    molecule = Chem.MolFromSmiles(core)
    found: dict[str, None] = {}
    for atom in molecule.GetAtoms():
        if atom.GetAtomicNum() == 6 and atom.GetTotalNumHs() > 0 and atom.IsInRing():
            marked = Chem.RWMol(molecule)
            place = marked.AddAtom(Chem.AtomFromSmarts(mark))
            marked.AddBond(atom.GetIdx(), place, Chem.BondType.SINGLE)
            Chem.SanitizeMol(marked)
            root = next(a.GetIdx() for a in marked.GetAtoms() if a.GetAtomicNum() != 0)
            found[Chem.MolToSmiles(marked, rootedAtAtom=root)] = None
    return tuple(found)


def main(arguments: Iterable[str]) -> None:
    """Write the stock to the file that is named."""
    (path,) = arguments
    stock = default_stock()
    write_stock(stock, Path(path))
    print(f"{len(stock)} molecules")


if __name__ == "__main__":
    main(sys.argv[1:])
