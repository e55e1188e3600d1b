"""Reaction templates, run backwards on a molecule."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import final

import numpy as np
from rdkit import Chem, DataStructs
from rdkit.Chem import rdChemReactions

from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.stereo import TemplateStereo, carry_geometry, gives_stereo, has_stereo

UNCLASSIFIED = "unclassified"  # the class of a reaction that no template makes
# Precursors and reactions that are kept as RDKit's objects: bounded, and never changes an answer. A reaction
# takes some 50 kB, so that those of a published set would not fit into a worker.
_REMEMBERED, _COMPILED = 5_000, 2_000
_PATTERN_BITS = 1024


@final
@dataclass(frozen=True, kw_only=True)
class Template:
    """One reaction backwards: product >> precursors. `make_template` makes one.

    cost: ≥ 0, of one such step in Retro*'s search. unless: a precursor that matches it rules the reaction
    out. new_atoms: how many more heavy atoms the precursors have than the product. pattern: bits that every
    molecule has on which the template can be run. product and precursors: an example, standard SMILES.
    """

    name: str
    reaction_class: str
    cost: float
    smarts: str
    new_atoms: int
    pattern: bytes
    unless: Chem.Mol | None = None
    product: str | None = None
    precursors: tuple[str, ...] = ()

    def at_cost(self, cost: float) -> "Template":
        """The same at another cost."""
        return replace(self, cost=cost)

    def named(self, name: str) -> "Template":
        """The same under another name."""
        return replace(self, name=name)


def read_reaction(smarts: str) -> rdChemReactions.ChemicalReaction:
    """A reaction that can be run. Raises `ValueError` for what RDKit cannot read or makes no sense to it."""
    try:
        reaction = rdChemReactions.ReactionFromSmarts(smarts)
        reaction.Initialize()
    except RuntimeError as error:
        raise ValueError(smarts) from error
    return reaction


def make_template(
    reaction: rdChemReactions.ChemicalReaction,
    *,
    name: str,
    reaction_class: str,
    cost: float,
    smarts: str,
    unless: Chem.Mol | None = None,
) -> Template:
    """A template without an example. Raises `ValueError` for what has not one product and a precursor.

    reaction: that of its `smarts`, product>>precursors, by `read_reaction`.
    """
    if reaction.GetNumReactantTemplates() != 1 or reaction.GetNumProductTemplates() == 0:
        raise ValueError(smarts)
    (query,) = reaction.GetReactants()
    after = sum(part.GetNumAtoms() for part in reaction.GetProducts())
    return Template(
        name=name,
        reaction_class=reaction_class,
        cost=cost,
        smarts=smarts,
        new_atoms=after - query.GetNumAtoms(),
        pattern=_pattern(query),
        unless=unless,
    )


def _pattern(molecule: Chem.Mol) -> bytes:
    return DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(molecule, fpSize=_PATTERN_BITS))


@lru_cache(maxsize=_COMPILED)
def _compiled(smarts: str) -> tuple[rdChemReactions.ChemicalReaction, TemplateStereo]:
    reaction = read_reaction(smarts)
    return reaction, TemplateStereo.of(reaction)


@final
@dataclass(frozen=True, kw_only=True)
class Disconnection:
    """Precursors of a molecule by a template: sorted standard SMILES, with repeats."""

    template: Template
    precursors: tuple[str, ...]


@final
class TemplateSet:
    """Templates in the order of their cost, and what no precursor may contain.

    notes: what a user should know of the file that they come from, a line each.
    """

    def __init__(
        self,
        templates: Sequence[Template],
        *,
        forbidden: Sequence[Chem.Mol] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.templates = tuple(sorted(templates, key=lambda template: template.cost))
        self.notes = tuple(notes)
        patterns = np.frombuffer(b"".join(template.pattern for template in self.templates), dtype=np.uint64)
        self._patterns = patterns.reshape(len(self.templates), -1 if self.templates else 0)
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
        """All sets of precursors of a molecule by the templates, cheapest first, each set once.

        Left out: precursors that RDKit does not accept, that hold a forbidden group, or that contain the
        molecule itself; matches where an atom beyond the template would be lost; and reactions that do not
        give this stereoisomer (`gives_stereo`).
        """
        molecule = Chem.MolFromSmiles(smiles)
        found: dict[tuple[str, ...], Disconnection] = {}
        for template in self._candidates(molecule):
            for precursors in self._apply(template, molecule):
                if precursors not in found and smiles not in precursors:
                    found[precursors] = Disconnection(template=template, precursors=precursors)
        return list(found.values())

    def making(self, product: str, precursors: Sequence[str]) -> Template | None:
        """The cheapest template that makes the product of exactly these precursors (standard SMILES)."""
        wanted = tuple(sorted(precursors))
        molecule = Chem.MolFromSmiles(product)
        for template in self._candidates(molecule):
            if wanted in self._apply(template, molecule):
                return template
        return None

    def _candidates(self, molecule: Chem.Mol) -> list[Template]:
        """The templates that may match a molecule, found without RDKit's much slower search."""
        bits = np.frombuffer(_pattern(molecule), dtype=np.uint64)
        lacking = (self._patterns & ~bits).any(axis=1)
        return [self.templates[index] for index in np.flatnonzero(~lacking)]

    def _apply(self, template: Template, molecule: Chem.Mol) -> list[tuple[str, ...]]:
        reaction, stereo = _compiled(template.smarts)
        atoms = molecule.GetNumAtoms() + template.new_atoms
        specified = has_stereo(molecule)
        results: dict[tuple[str, ...], None] = {}
        for products in reaction.RunReactants((molecule,)):
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
                not specified or gives_stereo(molecule, stereo, products, [part for _, part in whole])
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
