"""One spelling a molecule for looking things up: canonical, neutral where a proton makes the difference."""

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

# What RDKit refuses is dropped or named by the caller; it would print several lines each time.
rdBase.DisableLog("rdApp.*")

_UNCHARGER = rdMolStandardize.Uncharger()


def standard_smiles(molecule: Chem.Mol) -> str:
    """Canonical isomeric SMILES of a molecule without the charges that protonation alone explains.

    Ammonium and carboxylate become amine and acid; nitro groups, quaternary nitrogen and azides stay.
    """
    smiles = Chem.MolToSmiles(molecule)
    if "+" in smiles or "-]" in smiles:
        neutral = _UNCHARGER.uncharge(molecule)
        # Read again: taking a proton away can leave a spelling that is not canonical.
        again = Chem.MolFromSmiles(Chem.MolToSmiles(neutral))
        return smiles if again is None else Chem.MolToSmiles(again)
    return smiles
