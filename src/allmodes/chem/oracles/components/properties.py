"""Properties that RDKit computes."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer

if TYPE_CHECKING:
    from rdkit import Chem

_DESCRIPTIONS = {
    "qed": "QED, drug-likeness from 0 to 1",
    "sa_score": "synthetic accessibility, from 1 (easy) to 10 (hard)",
    "logp": "logP after Wildman and Crippen",
    "weight": "molecular weight",
    "tpsa": "topological polar surface area",
    "hbd": "hydrogen-bond donors",
    "rings": "rings",
    "aromatic_rings": "aromatic rings",
    "rotatable_bonds": "rotatable bonds",
    "hba": "hydrogen-bond acceptors",
    "bertz": "complexity after Bertz",
}


@final
class PropertyComponent(ComponentConfig):
    """An RDKit property."""

    kind: Literal[
        "qed", "hbd", "sa_score", "logp", "weight", "tpsa", "rings",
        "aromatic_rings", "rotatable_bonds", "hba", "bertz",
    ]  # fmt: skip
    """Drug-likeness, H-bond donors, synthetic accessibility, Crippen logP, mass, polar surface, rings;
    aromatic rings, rotatable bonds, H-bond acceptors, Bertz's complexity."""

    def describe(self) -> str:
        """The property."""
        return _DESCRIPTIONS[self.kind]

    def make_scorer(self) -> Scorer:
        """The property of a molecule."""
        compute = _properties()[self.kind]
        return lambda smiles: float(compute(read_molecule(smiles)))


def read_molecule(smiles: str) -> "Chem.Mol":
    """A molecule that the oracle is asked about. Raises ValueError if RDKit cannot read it."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"RDKit cannot read {smiles!r}")
    return molecule


def _properties() -> "dict[str, Callable[[Chem.Mol], float]]":
    from rdkit import RDConfig
    from rdkit.Chem import QED, Descriptors, GraphDescriptors, rdMolDescriptors

    # RDKit ships the SA score as a contributed script, outside its package.
    sys.path.append(str(Path(RDConfig.RDContribDir) / "SA_Score"))
    sa_score = importlib.import_module("sascorer")
    return {
        "qed": QED.qed,
        "hbd": rdMolDescriptors.CalcNumHBD,
        "sa_score": sa_score.calculateScore,
        "logp": lambda molecule: rdMolDescriptors.CalcCrippenDescriptors(molecule)[0],
        "weight": Descriptors.MolWt,  # pyright: ignore[reportAttributeAccessIssue]
        "tpsa": rdMolDescriptors.CalcTPSA,
        "rings": rdMolDescriptors.CalcNumRings,
        "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
        "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
        "hba": rdMolDescriptors.CalcNumHBA,
        "bertz": GraphDescriptors.BertzCT,
    }
