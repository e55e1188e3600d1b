"""From a SMILES to the input of a docking engine: protonated, in three dimensions, as PDBQT.

The steps: one canonical spelling; the likeliest state of acids and bases at pH 7.4; RDKit's ETKDGv3 with a
fixed seed; UFF; meeko's atom types, charges and torsions. The same molecule gives the same PDBQT, whatever
its spelling and whatever was prepared before. Macrocycles stay rigid: engines other than Vina do not know the
atom types of broken ones.
"""

from dataclasses import dataclass
from typing import Literal, final

import meeko
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from allmodes.chem.docking.protonation import protonated
from allmodes.chem.oracles.results import UnscorableError

# meeko sends RDKit's messages to Python's logging when it is imported; failures here are typed instead.
rdBase.DisableLog("rdApp.*")

EMBEDDING_SEED = 7
# Attempts of ETKDG, then with random starting coordinates. RDKit's default (10 an atom) can take minutes.
EMBEDDING_ATTEMPTS = (10, 20)
# The elements that both meeko and Vina have an atom type for.
ELEMENTS = frozenset({"H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"})

Protonation = Literal["ph7.4", "as_written"]


@final
@dataclass(frozen=True)
class Ligand:
    """A ligand ready to dock.

    smiles: as asked for. docked_as: the state that is docked, canonical. pdbqt: its text. torsions: how many
    bonds the engine turns. molecule: with hydrogens and one conformer, that which the PDBQT was made of.
    """

    smiles: str
    docked_as: str
    pdbqt: str
    torsions: int
    molecule: Chem.Mol


def prepare_ligand(smiles: str, *, protonation: Protonation, max_torsions: int) -> Ligand:
    """The ligand of a SMILES.

    Stereocentres that the SMILES leaves open take what the fixed seed gives. Raises `UnscorableError`:
    "unsuitable" for what is no single molecule of known elements, or turns around more than `max_torsions`
    bonds; "not_embedded" when no conformer is found in a fixed number of attempts.
    """
    molecule = _parse(smiles)
    _check(molecule, smiles)
    docked_as = _protonated(Chem.MolToSmiles(molecule), protonation)
    molecule = Chem.AddHs(_parse(docked_as))
    # Before the embedding, which takes longest for those that are too flexible; bonds alone decide.
    _, torsions = _pdbqt(_unfolded(molecule), docked_as)
    if torsions > max_torsions:
        raise UnscorableError(
            "unsuitable", f"expected at most {max_torsions} rotatable bonds; got {torsions} in {docked_as}"
        )
    _embed(molecule, docked_as)
    pdbqt, torsions = _pdbqt(molecule, docked_as)
    return Ligand(smiles, docked_as, pdbqt, torsions, molecule)


def _parse(smiles: str) -> Chem.Mol:
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise UnscorableError("unsuitable", f"expected a molecule; RDKit cannot read {smiles!r}")
    return molecule


def _check(molecule: Chem.Mol, smiles: str) -> None:
    fragments = len(Chem.GetMolFrags(molecule))
    # The score of a salt's larger part would be the score of another molecule.
    if fragments != 1:
        raise UnscorableError("unsuitable", f"expected one fragment; got {fragments} in {smiles!r}")
    elements = {atom.GetSymbol() for atom in molecule.GetAtoms()}
    if unknown := sorted(elements - ELEMENTS):
        raise UnscorableError("unsuitable", f"no Vina atom type for {', '.join(unknown)} in {smiles!r}")
    if elements <= {"H"}:
        raise UnscorableError("unsuitable", f"expected a heavy atom; got none in {smiles!r}")
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        raise UnscorableError("unsuitable", f"expected no radical; got one in {smiles!r}")


def _protonated(smiles: str, protonation: Protonation) -> str:
    if protonation == "as_written":
        return smiles
    return Chem.MolToSmiles(protonated(_parse(smiles)))


def _embed(molecule: Chem.Mol, smiles: str) -> None:
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = EMBEDDING_SEED
    parameters.numThreads = 1
    for attempts, random_start in zip(EMBEDDING_ATTEMPTS, (False, True), strict=True):
        parameters.maxIterations = attempts
        parameters.useRandomCoords = random_start
        if rdDistGeom.EmbedMolecule(molecule, parameters) == 0:
            break
    else:
        raise UnscorableError(
            "not_embedded", f"no conformer in {sum(EMBEDDING_ATTEMPTS)} attempts for {smiles}"
        )
    if not rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        raise UnscorableError("not_embedded", f"UFF has no parameters for an atom of {smiles}")
    # Not converging in RDKit's 200 iterations is no failure: the engine turns every bond anyway.
    rdForceFieldHelpers.UFFOptimizeMolecule(molecule)


def _unfolded(molecule: Chem.Mol) -> Chem.Mol:
    """A copy with a place for each atom, as meeko wants them, all the same."""
    copy = Chem.Mol(molecule)
    copy.AddConformer(Chem.Conformer(copy.GetNumAtoms()))
    return copy


def _pdbqt(molecule: Chem.Mol, smiles: str) -> tuple[str, int]:
    try:
        setup = _PREPARATION.prepare(molecule)[0]
        text, fine, message = meeko.PDBQTWriterLegacy.write_string(setup)
    except RecursionError:  # a chain of some hundred bonds that turn
        raise UnscorableError(
            "unsuitable", f"meeko cannot type {molecule.GetNumAtoms()} atoms; too large"
        ) from None
    if not fine:
        raise UnscorableError("unsuitable", f"meeko cannot type {smiles}: {' '.join(message.split())}")
    return text, int(text.rsplit("TORSDOF", 1)[1])


_PREPARATION = meeko.MoleculePreparation(rigid_macrocycles=True)
