"""Published sets of templates: a CSV table with a column `retro_template`, as AiZynthFinder reads it.

Columns that are read: `retro_template`; if present, `template_hash` or `template_code` (for names),
`classification` (the class) and `library_occurence`, also spelled `library_occurrence` (for costs). There are
no examples, so each template is checked by itself.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import rdChemReactions

from allmodes.chem.retrosynthesis.templates import (
    UNCLASSIFIED,
    Template,
    TemplateSet,
    make_template,
    read_reaction,
)
from allmodes.errors import ConfigError, InputError
from allmodes.reports.formatting import plural
from allmodes.runs.files import read_text

_TEMPLATE = "retro_template"
_NAMES = ("template_hash", "template_code")
_CLASS = "classification"
_COUNTS = ("library_occurence", "library_occurrence")
_DELIMITERS = ("\t", ",", ";")
_NAMED_LINES = 3  # of those that are left out for one reason
_HASH = 12  # characters of a hash that are shown


def is_table(path: Path) -> bool:
    """Whether a file is one of these tables, by its name."""
    return any(suffix in ("csv", "tsv") for suffix in path.name.lower().split(".")[-2:])


def load_template_table(path: Path) -> TemplateSet:
    """Read a table of templates, packed or not, separated by tabs, commas or semicolons.

    A template is left out, and counted and named in the set's `notes`, when it has not one product and at
    least one precursor, when RDKit cannot read it, when its atom maps are inconsistent, when an atom has an
    impossible valence, when it changes nothing, or when it repeats another. The cost of a step is
    1 + log₁₀(most frequent / its own count), or 1 without counts. Raises `ConfigError` for a file that is no
    such table, or of whose templates none can be used.
    """
    try:
        text = read_text(path)
    except InputError as error:
        raise ConfigError(f"`templates`: expected a table of templates; {error}") from error
    templates: dict[str, tuple[Template, float]] = {}
    left_out: dict[str, list[int]] = {}
    for line, row in _rows(text, path):
        smarts, count = row.get(_TEMPLATE, "").strip(), _count(row)
        reaction = None
        if smarts in templates:
            problem = "repeated"
        elif count is None:
            problem = "without a count"
        else:
            reaction, problem = _read(smarts)
        if reaction is None or count is None or problem:
            left_out.setdefault(problem, []).append(line)
            continue
        reaction_class = row.get(_CLASS, "").strip() or UNCLASSIFIED
        template = make_template(
            reaction, name=_name(row, line), reaction_class=reaction_class, cost=1.0, smarts=smarts
        )
        templates[smarts] = template, count
    total = len(templates) + sum(map(len, left_out.values()))
    if not templates:
        raise ConfigError(
            f"`templates`: {path}: expected at least one template that can be used; "
            f"got {plural(total, 'template')}{_listed(left_out)}"
        )
    note = f"`templates`: {path}: {len(templates):,} of {plural(total, 'template')} used{_listed(left_out)}"
    most = max(count for _, count in templates.values())
    costed = [template.at_cost(1 + math.log10(most / count)) for template, count in templates.values()]
    return TemplateSet(_distinctly_named(costed), notes=(note,) if left_out else ())


def _rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows that are not empty, by column, each with the number of the line where it begins."""
    first = text.split("\n", 1)[0]
    for delimiter in _DELIMITERS:
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if _TEMPLATE in header:
            break
    else:
        raise ConfigError(
            f"`templates`: {path}: expected a column `{_TEMPLATE}` in line 1, between tabs or commas; "
            f"got {first[:100]!r}"
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ConfigError(f"`templates`: {path}: line {line}: expected CSV; {error}") from error
        if row is None:
            return
        if line > 1 and any(cell.strip() for cell in row):
            yield line, dict(zip(header, row, strict=False))


def _count(row: Mapping[str, str]) -> float | None:
    """How often a template was seen; 1 in a table without counts, None if the count is none."""
    name = next((name for name in _COUNTS if name in row), None)
    if name is None:
        return 1.0
    try:
        count = float(row[name])
    except ValueError:
        return None
    return count if math.isfinite(count) and count > 0 else None


def _name(row: Mapping[str, str], line: int) -> str:
    name = next((row[key].strip() for key in _NAMES if row.get(key, "").strip()), "")
    counted = next((row[key].strip() for key in _COUNTS if row.get(key, "").strip()), "")
    seen = f" (seen {counted} times)" if counted else ""
    return (f"template {name[:_HASH]}" if name else f"template of line {line}") + seen


def _distinctly_named(templates: Sequence[Template]) -> list[Template]:
    """The templates, with a number behind names that come again."""
    seen: dict[str, int] = {}
    named = []
    for template in templates:
        number = seen[template.name] = seen.get(template.name, 0) + 1
        named.append(template if number == 1 else template.named(f"{template.name}, {number}"))
    return named


def _read(smarts: str) -> tuple[rdChemReactions.ChemicalReaction | None, str]:
    """A template's reaction, and why it cannot be used, as text that fits behind a number of templates."""
    if not smarts:
        return None, "empty"
    try:
        reaction = read_reaction(smarts)
    except ValueError:
        return None, "unreadable"
    return reaction, _problem(reaction)


def _problem(reaction: rdChemReactions.ChemicalReaction) -> str:
    sides = list(reaction.GetReactants()), list(reaction.GetProducts())
    if len(sides[0]) != 1 or len(Chem.GetMolFrags(sides[0][0])) != 1:
        return "of several products or none"
    if not sides[1] or any(part.GetNumAtoms() == 0 for part in sides[1]):
        return "without precursors"
    before, after = ([atom for part in side for atom in part.GetAtoms()] for side in sides)
    maps = [{atom.GetAtomMapNum(): atom for atom in side if atom.GetAtomMapNum()} for side in (before, after)]
    if not maps[0].keys() & maps[1].keys():
        return "without atom maps"
    mapped = [sum(atom.GetAtomMapNum() != 0 for atom in side) for side in (before, after)]
    if (
        mapped != [len(maps[0]), len(maps[1])]  # a number twice
        or not maps[1].keys() <= maps[0].keys()
        or any(maps[0][number].GetAtomicNum() != atom.GetAtomicNum() for number, atom in maps[1].items())
    ):
        return "with inconsistent atom maps"
    if not all(_has_possible_valences(part) for side in sides for part in side):
        return "with an impossible valence"
    same_atoms = len(before) == len(after) == len(maps[0]) == len(maps[1])
    if same_atoms and not any(reaction.GetReactingAtoms()):
        return "of no effect"
    return ""


def _has_possible_valences(part: Chem.Mol) -> bool:
    """Whether the bonds that a pattern draws are not too many for any of its atoms, by RDKit's valences."""
    drawn = Chem.RWMol()
    for atom in part.GetAtoms():
        # Of lists and of charges in SMARTS, RDKit does not tell the valence.
        known = not any(mark in atom.GetSmarts().replace("+0", "") for mark in ",$!+-")
        plain = Chem.Atom(atom.GetAtomicNum() if known else 0)
        drawn.AddAtom(plain)
    for bond in part.GetBonds():
        order = bond.GetBondType()
        least = order if order in (Chem.BondType.DOUBLE, Chem.BondType.TRIPLE) else Chem.BondType.SINGLE
        drawn.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), least)
    try:
        drawn.UpdatePropertyCache(strict=True)
    except Chem.AtomValenceException:
        return False
    return True


def _listed(left_out: Mapping[str, Sequence[int]]) -> str:
    reasons = []
    for reason, lines in sorted(left_out.items(), key=lambda item: -len(item[1])):
        named = ", ".join(map(str, lines[:_NAMED_LINES])) + (" ..." if len(lines) > _NAMED_LINES else "")
        reasons.append(f"{len(lines):,} {reason} ({'line' if len(lines) == 1 else 'lines'} {named})")
    return f"; left out: {', '.join(reasons)}" if reasons else ""
