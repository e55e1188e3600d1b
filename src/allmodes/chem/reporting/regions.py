"""Which regions each run keeps: a row of hits by region for each seed, and what each region looks like."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rdkit import Chem

from allmodes.chem.arms import label_of_arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.outcomes import regions_of
from allmodes.chem.design.results import RunResult
from allmodes.chem.oracles.components import Regions
from allmodes.chem.reporting.comparison import Groups
from allmodes.chem.reporting.figures import draw_molecule

_PALEST, _DARKEST = 0.18, 0.95  # opacity of a cell with the fewest hits that count as kept, and with the most
_READABLE = 0.55  # opacity from which on white text is read better than black
_EXAMPLES = 50  # molecules of a region whose common part is drawn
_SIZE = {"width": 120, "height": 90, "bond": 22}

Ledgers = Mapping[tuple[str, int], Sequence[LedgerRow]]


def regions_picture(
    config: MoleculesConfig, groups: Groups, ledgers: Ledgers, colours: Mapping[str, str]
) -> dict[str, Any] | None:
    """What the template regions.html draws; None if the recipe names no regions, or old results have none.

    colours: of each arm by its label.
    """
    regions = regions_of(config)
    if regions is None or any(run.regions is None for group in groups.values() for run in group):
        return None
    kept_from = config.outcomes.kept_from
    most = max((max((run.regions or {}).values()) for group in groups.values() for run in group), default=0)
    return {
        "kept_from": kept_from,
        "names": regions.names,
        "drawings": _drawings(regions, ledgers),
        "groups": [
            {
                "name": label_of_arm(name),
                "rows": [_row(run, colours[label_of_arm(name)], kept_from, most) for run in group],
            }
            for name, group in groups.items()
        ],
    }


def _row(run: RunResult, colour: str, kept_from: int, most: int) -> dict[str, Any]:
    hits = (run.regions or {}).values()
    return {
        "seed": run.seed,
        "cells": [{"hits": f"{count:,}", "style": _style(count, colour, kept_from, most)} for count in hits],
        "kept": run.regions_kept(kept_from=kept_from),
    }


def _style(hits: int, colour: str, kept_from: int, most: int) -> str:
    """The colour of a cell: none for a region that was not kept, else the stronger the more hits."""
    if hits < kept_from:
        return ""
    share = (hits - kept_from) / max(most - kept_from, 1)
    opacity = _PALEST + (_DARKEST - _PALEST) * share**0.5
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    text = "#fff" if opacity >= _READABLE else "#222"
    return f"background: rgba({red}, {green}, {blue}, {opacity:.2f}); color: {text}"


def _drawings(regions: Regions, ledgers: Ledgers) -> list[str]:
    """An SVG of each region: a target, or the part that most molecules of a pattern share; "" without any."""
    if not regions.is_smarts:
        return [draw_molecule(smiles, **_SIZE) for smiles in regions.pictures]
    parts = [Counter[str]() for _ in regions.names]
    for smiles in {row.evaluation.smiles: None for rows in ledgers.values() for row in rows}:
        number = regions.find(smiles)
        if number is not None and sum(parts[number].values()) < _EXAMPLES:
            parts[number][shared_part(smiles, regions.pictures[number])] += 1
    return [draw_molecule(found.most_common(1)[0][0], **_SIZE) if found else "" for found in parts]


def shared_part(smiles: str, pattern: str) -> str:
    """The part of a molecule that matches a SMARTS pattern, as SMILES with * where the rest is attached."""
    molecule = Chem.RWMol(Chem.MolFromSmiles(smiles))
    matched = set(molecule.GetSubstructMatch(Chem.MolFromSmarts(pattern)))
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    for bond in list(molecule.GetBonds()):
        ends = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        inside = [end for end in ends if end in matched]
        if len(inside) == 1:
            dummy = molecule.AddAtom(Chem.Atom(0))
            molecule.AddBond(inside[0], dummy, bond.GetBondType())
            matched.add(dummy)
    for index in sorted(set(range(molecule.GetNumAtoms())) - matched, reverse=True):
        molecule.RemoveAtom(index)
    return Chem.MolToSmiles(molecule)
