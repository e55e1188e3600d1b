"""Text to molecule and back: limits, one spelling a molecule, scaffolds, fingerprints, other spellings.

Two texts are one molecule here, and so in the ledger, the store, stocks, routes, replay and filters, when
their canonical isomeric SMILES agree. Atom maps and the way of writing do not count; isotopes, charges and
the other parts of a salt do. A stereocentre in a group of type "and" (a racemate) or "or" is left open.
"""

import re
from functools import lru_cache

from rdkit import Chem, rdBase
from rdkit.Chem.Scaffolds import MurckoScaffold

from allmodes.chem.trials import Trial, passes

# Every invalid SMILES would otherwise print several lines; callers count and name them instead.
rdBase.DisableLog("rdApp.*")

# Above these RDKit may end the process (20,000 carbons: its canonicalisation recurses) or take seconds. A
# chain of 500 carbons takes 0.1 s with its scaffold. docs/guide/scoring.md states them.
MAX_SMILES = 4_000  # characters
MAX_ATOMS = 500  # heavy ones; with hydrogens, four times as many
MAX_DRAWN_ATOMS = 200
# Rings above which RDKit is tried in another process: 24 small rings in one large one are 2^24 large ones.
_SAFE_RINGS = 8
NO_SMILES = "no SMILES"  # the reason of an empty text
_SHORT = 60  # characters; no molecule that is shorter has rings enough
_LONGEST_BLOCK = 1_000_000  # characters of a record of an SDF

_EXTENSION = re.compile(r"\S+\s+\|(.*?)\|")  # of CXSMILES
_EXTENSION_TEXTS = re.compile(r"\$[^$]*\$|\([^)]*\)")  # labels and coordinates
_RELATIVE = re.compile(r"(?:^|,)r(?=[:,]|$)")


class MoleculeError(ValueError):
    """Why a text is no molecule that can be worked with, in a few words."""


class TooLargeError(MoleculeError):
    """A molecule that may be right, and would end or stall RDKit."""


def canonical_smiles(smiles: str) -> str | None:
    """The canonical isomeric SMILES, or None for what is no molecule (an empty string included).

    None, too, for text that is not printable ASCII, of which RDKit would drop characters, for what is too
    large (see `parse_smiles`), and for the rare molecule whose canonical SMILES RDKit itself cannot read
    back: no scorer could.
    """
    try:
        return spelling(parse_smiles(smiles))
    except MoleculeError:
        return None


def parse_smiles(text: str) -> Chem.Mol:
    """The molecule of a SMILES or CXSMILES, without atom maps and with racemic centres left open.

    Raises `MoleculeError` for what RDKit cannot read, for more than `MAX_SMILES` characters or `MAX_ATOMS`
    heavy atoms, and for ring systems at which RDKit crashes or takes more than some seconds.
    """
    text = text.strip()
    if not text:
        raise MoleculeError(NO_SMILES)
    if len(text) > MAX_SMILES:
        raise TooLargeError(f"{len(text):,} characters, more than {MAX_SMILES:,}")
    if not (text.isascii() and text.isprintable()):
        raise MoleculeError("it holds a character that is not printable ASCII")
    if len(text) > _SHORT:
        _check_size(Chem.MolFromSmiles(text, sanitize=False), text, is_block=False)
    molecule = Chem.MolFromSmiles(text)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise MoleculeError("RDKit cannot read it as SMILES")
    if ":" not in text and "|" not in text:  # neither atom maps nor an extension: nothing to do, in 1 µs
        return molecule
    return _comparable(molecule, is_relative=_is_relative(text))


def parse_block(block: str) -> Chem.Mol:
    """The molecule of a record of an SDF, V2000 or V3000, as `parse_smiles` gives it; the same errors."""
    if len(block) > _LONGEST_BLOCK:
        raise TooLargeError(f"a record of {len(block):,} characters, more than {_LONGEST_BLOCK:,}")
    _check_size(Chem.MolFromMolBlock(block, sanitize=False, removeHs=False), block, is_block=True)
    molecule = Chem.MolFromMolBlock(block)
    if molecule is None:
        raise MoleculeError("RDKit cannot read it as a molfile")
    if molecule.GetNumAtoms() == 0:
        raise MoleculeError("a record without atoms")
    return _comparable(molecule, is_relative=False)


def spelling(molecule: Chem.Mol) -> str:
    """The canonical isomeric SMILES of a parsed molecule.

    Raises `MoleculeError` if RDKit cannot read it back.
    """
    again = Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
    if again is None:
        raise MoleculeError("RDKit cannot read back its own spelling of it")
    return Chem.MolToSmiles(again)


def not_drawn(molecule: Chem.Mol) -> str | None:
    """Why there is no drawing of a molecule in two dimensions; None if it is legible and done soon."""
    if molecule.GetNumAtoms() > MAX_DRAWN_ATOMS:
        return f"not drawn: more than {MAX_DRAWN_ATOMS} atoms"
    if _num_rings(molecule) > _SAFE_RINGS and not _passes("draw", Chem.MolToSmiles(molecule)):
        return "not drawn: RDKit takes too long over its rings"
    return None


def _check_size(rough: Chem.Mol | None, text: str, *, is_block: bool) -> None:
    """Refuse what RDKit cannot stand, before it looks for rings. rough: not sanitised; None passes."""
    if rough is None:
        return
    heavy = rough.GetNumHeavyAtoms()
    if heavy > MAX_ATOMS or rough.GetNumAtoms() > 4 * MAX_ATOMS:
        count = f"{heavy:,} heavy atoms" if heavy > MAX_ATOMS else f"{rough.GetNumAtoms():,} atoms"
        raise TooLargeError(f"{count}, more than {MAX_ATOMS if heavy > MAX_ATOMS else 4 * MAX_ATOMS:,}")
    if _num_rings(rough) > _SAFE_RINGS and not _passes("block" if is_block else "smiles", text):
        raise TooLargeError("a ring system at which RDKit crashes or takes too long")


def _num_rings(molecule: Chem.Mol) -> int:
    return molecule.GetNumBonds() - molecule.GetNumAtoms() + len(Chem.GetMolFrags(molecule))


@lru_cache(maxsize=10_000)
def _passes(trial: Trial, text: str) -> bool:
    return passes(trial, text)


def _is_relative(text: str) -> bool:
    """Whether CXSMILES says `r`: all of the stereochemistry is relative. RDKit passes over it."""
    extension = _EXTENSION.match(text) if "|" in text else None
    return extension is not None and bool(_RELATIVE.search(_EXTENSION_TEXTS.sub("", extension[1])))


def _comparable(molecule: Chem.Mol, *, is_relative: bool) -> Chem.Mol:
    """Without atom maps, and without the stereochemistry that only some of the substance has."""
    mapped = [atom for atom in molecule.GetAtoms() if atom.GetAtomMapNum()]
    groups = molecule.GetStereoGroups()
    if not (mapped or groups or is_relative):
        return molecule
    for atom in mapped:
        atom.SetAtomMapNum(0)
    for atom in molecule.GetAtoms() if is_relative else ():
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for group in groups:
        if group.GetGroupType() != Chem.StereoGroupType.STEREO_ABSOLUTE:
            for atom in group.GetAtoms():
                atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
            for bond in group.GetBonds():
                bond.SetStereo(Chem.BondStereo.STEREONONE)
    # Read again: hydrogens and stereocentres that maps and groups alone had kept are gone then.
    again = Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
    if again is None:
        raise MoleculeError("RDKit cannot read back its own spelling of it")
    return again


def murcko_scaffold(smiles: str) -> str:
    """Canonical SMILES of the Murcko scaffold; empty for an acyclic molecule."""
    return MurckoScaffold.MurckoScaffoldSmiles(smiles)


def random_smiles(smiles: str, *, count: int, seed: int) -> list[str]:
    """`count` spellings of one molecule, drawn with RDKit's generator seeded by `seed` (≥ 1)."""
    return list(Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), count, randomSeed=seed))
