"""Reaction templates, run backwards on a molecule."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from rdkit import Chem
from rdkit.Chem import rdChemReactions

from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.stereo import TemplateStereo, carry_geometry, gives_stereo, has_stereo

UNCLASSIFIED = "unclassified"  # the class of a reaction that no template makes
_REMEMBERED = 5_000  # precursors that are kept as molecules: bounded, and never changes an answer


@final
@dataclass(frozen=True, kw_only=True)
class Template:
    """One reaction backwards: product >> precursors.

    cost: ≥ 0, of one such step in Retro*'s search. unless: a precursor that matches it rules the reaction
    out. product and precursors: an example, standard SMILES.
    """

    name: str
    reaction_class: str
    cost: float
    smarts: str
    product: str
    precursors: tuple[str, ...]
    reaction: rdChemReactions.ChemicalReaction
    unless: Chem.Mol | None

    def new_atoms(self) -> int:
        """How many more heavy atoms the precursors have than the product."""
        sides = self.reaction.GetProducts(), self.reaction.GetReactants()
        after, before = (sum(part.GetNumAtoms() for part in side) for side in sides)
        return after - before


@final
@dataclass(frozen=True, kw_only=True)
class Disconnection:
    """What a template makes of a molecule: standard SMILES of the precursors, sorted, repeats kept."""

    template: Template
    precursors: tuple[str, ...]


@final
class TemplateSet:
    """Templates in the order of their cost, and what no precursor may contain."""

    def __init__(self, templates: Sequence[Template], *, forbidden: Sequence[Chem.Mol] = ()) -> None:
        self.templates = tuple(sorted(templates, key=lambda template: template.cost))
        self._new_atoms = [template.new_atoms() for template in self.templates]
        self._stereo = [TemplateStereo.of(template.reaction) for template in self.templates]
        self._forbidden = tuple(forbidden)
        # By the spelling that a template gives: standard SMILES and molecule, None for what cannot be.
        self._known: OrderedDict[str, tuple[str, Chem.Mol] | None] = OrderedDict()

    @property
    def classes(self) -> tuple[str, ...]:
        """The reaction classes, each once, by name."""
        return tuple(sorted({template.reaction_class for template in self.templates}))

    def allows(self, molecule: Chem.Mol) -> bool:
        """Whether a molecule holds no forbidden group."""
        return not any(map(molecule.HasSubstructMatch, self._forbidden))

    def only(self, templates: Sequence[Template]) -> "TemplateSet":
        """These templates alone, with what this set forbids."""
        return TemplateSet(templates, forbidden=self._forbidden)

    def of_classes(self, classes: Sequence[str]) -> "TemplateSet":
        """The templates of these classes alone."""
        return self.only([template for template in self.templates if template.reaction_class in classes])

    def disconnect(self, smiles: str) -> list[Disconnection]:
        """Every way that a template takes a molecule apart, cheapest first, each set of precursors once.

        Left out: precursors that RDKit does not accept, that hold a forbidden group, or that contain the
        molecule itself; matches where an atom beyond the template would be lost; and reactions that do not
        give this stereoisomer (`gives_stereo`).
        """
        molecule = Chem.MolFromSmiles(smiles)
        found: dict[tuple[str, ...], Disconnection] = {}
        for index, template in enumerate(self.templates):
            for precursors in self._apply(index, molecule):
                if precursors not in found and smiles not in precursors:
                    found[precursors] = Disconnection(template=template, precursors=precursors)
        return list(found.values())

    def making(self, product: str, precursors: Sequence[str]) -> Template | None:
        """The cheapest template that makes the product of exactly these precursors (standard SMILES)."""
        wanted = tuple(sorted(precursors))
        molecule = Chem.MolFromSmiles(product)
        for index, template in enumerate(self.templates):
            if wanted in self._apply(index, molecule):
                return template
        return None

    def _apply(self, index: int, molecule: Chem.Mol) -> list[tuple[str, ...]]:
        template = self.templates[index]
        atoms = molecule.GetNumAtoms() + self._new_atoms[index]
        specified = has_stereo(molecule)
        results: dict[tuple[str, ...], None] = {}
        for products in template.reaction.RunReactants((molecule,)):
            if sum(product.GetNumAtoms() for product in products) != atoms:
                continue
            if specified:
                carry_geometry(molecule, products)
            precursors = [self._precursor(Chem.MolToSmiles(product)) for product in products]
            whole = [precursor for precursor in precursors if precursor is not None]
            if len(whole) < len(precursors):
                continue
            if template.unless is not None and any(m.HasSubstructMatch(template.unless) for _, m in whole):
                continue
            key = tuple(sorted(smiles for smiles, _ in whole))
            if key not in results and (
                not specified
                or gives_stereo(molecule, self._stereo[index], products, [part for _, part in whole])
            ):
                results[key] = None
        return list(results)

    def _precursor(self, spelling: str) -> tuple[str, Chem.Mol] | None:
        if spelling in self._known:
            self._known.move_to_end(spelling)
            return self._known[spelling]
        molecule = Chem.MolFromSmiles(spelling)
        answer = None
        if molecule is not None and self.allows(molecule):
            answer = standard_smiles(molecule), molecule
        self._known[spelling] = answer
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return answer
