"""Components for the number of atoms of each element in a molecule."""

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import AfterValidator

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer
from allmodes.chem.oracles.components.properties import read_molecule
from allmodes.errors import ConfigError

if TYPE_CHECKING:
    from rdkit import Chem

_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


def parse_formula(formula: str) -> dict[str, int]:
    """Atoms by element of a formula such as "C9H10N2O2PF2Cl". Raises ValueError for what is none."""
    parts = _PART.findall(formula)
    counts = {element: int(count or 1) for element, count in parts}
    if not counts or len(counts) != len(parts) or "".join(e + n for e, n in parts) != formula:
        raise ValueError(f"a molecular formula with each element once, such as C7H8N2O2; it is {formula!r}")
    return counts


def _known_formula(formula: str) -> str:
    parse_formula(formula)
    return formula


def _check_elements(name: str, key: str, symbols: Iterable[str]) -> None:
    """Raise ConfigError for a symbol that no element has."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    known = {table.GetElementSymbol(number) for number in range(1, 119)}
    for symbol in symbols:
        if symbol not in known:
            raise ConfigError(
                f"component {name!r}: `{key}`: expected symbols of elements, such as F; got {symbol!r}"
            )


@final
class ElementCountComponent(ComponentConfig):
    """The number of atoms of an element, hydrogens included."""

    kind: Literal["atoms"]
    """Atoms of an element."""
    element: str
    """Symbol of the element, such as F."""

    def describe(self) -> str:
        """The element."""
        return f"atoms of {self.element}"

    def check_files(self) -> None:
        """Look at the elements as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """The count. Raises `ConfigError` for what is no element."""
        _check_elements(self.name, "element", [self.element])
        return lambda smiles: float(_counts(read_molecule(smiles)).get(self.element, 0))


@final
class IsomerComponent(ComponentConfig):
    """How near a molecule's composition is to a molecular formula, from 0 to 1; 1 for an isomer.

    The geometric mean of exp(−(n_e − m_e)²/2) of each element e of the formula, and of exp(−(n − m)²/8) of
    all atoms, with n atoms in the molecule and m in the formula. Source: GuacaMol, Brown et al. 2019.
    """

    kind: Literal["isomer"]
    """Nearness to a molecular formula."""
    formula: Annotated[str, AfterValidator(_known_formula)]
    """Molecular formula, such as C7H8N2O2."""

    def describe(self) -> str:
        """The formula."""
        return f"nearness of the molecular formula to {self.formula}, from 0 to 1"

    def check_files(self) -> None:
        """Look at the elements as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """The nearness. Raises `ConfigError` for what is no element."""
        wanted = parse_formula(self.formula)
        _check_elements(self.name, "formula", wanted)
        total = sum(wanted.values())

        def score(smiles: str) -> float:
            found = _counts(read_molecule(smiles))
            squares = sum((found.get(element, 0) - count) ** 2 / 2 for element, count in wanted.items())
            squares += (sum(found.values()) - total) ** 2 / 8
            return math.exp(-squares / (len(wanted) + 1))

        return score


def _counts(molecule: "Chem.Mol") -> dict[str, int]:
    """Atoms by element, with implicit hydrogens."""
    counts: dict[str, int] = {}
    for atom in molecule.GetAtoms():
        counts[atom.GetSymbol()] = counts.get(atom.GetSymbol(), 0) + 1
        hydrogens = atom.GetTotalNumHs()
        if hydrogens:
            counts["H"] = counts.get("H", 0) + hydrogens
    return counts
