"""Files of reaction templates: read, filled in, checked."""

import math
import re
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from rdkit import Chem

from allmodes.chem.molecules import MoleculeError, parse_smiles
from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.template_table import is_table, load_template_table
from allmodes.chem.retrosynthesis.templates import Template, TemplateSet, make_template, read_reaction
from allmodes.errors import ConfigError, one_line

_KEYS = {"name": str, "class": str, "cost": float, "smarts": str, "product": str, "precursors": list}
_OPTIONAL = {"unless": str}
_FORBIDDEN_KEYS = {"reason": str, "smarts": str}
_KINDS = {str: "text", float: "a number", list: "a list"}


def shipped_templates() -> Path:
    """Path of the templates that come with the package."""
    return Path(str(files("allmodes.chem.retrosynthesis") / "templates.toml"))


def load_templates(path: Path) -> TemplateSet:
    """Read and check a file of templates: our TOML, or a published table (.csv, .tsv, packed or not).

    Each test reaction of a TOML file is run: the template must take the product apart into the precursors.
    Raises `ConfigError` that names the file, the line where the entry begins, and the entry.
    """
    if is_table(path):
        return load_template_table(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"`templates`: expected a TOML file or a CSV table of templates; got {path}: {one_line(error)}"
        ) from error
    unknown = sorted(set(values) - {"patterns", "forbidden", "templates"})
    if unknown:
        raise ConfigError(
            f"`templates`: {path}: expected the tables patterns, forbidden, templates; got {unknown}"
        )
    patterns = _table(values, "patterns", path)
    forbidden = [
        _pattern(_entry(entry, _FORBIDDEN_KEYS, {}, where), "smarts", patterns, where)
        for where, entry in _entries(values, "forbidden", text, path)
    ]
    templates = [
        _template(_entry(entry, _KEYS, _OPTIONAL, where), patterns, where)
        for where, entry in _entries(values, "templates", text, path)
    ]
    if not templates:
        raise ConfigError(f"`templates`: {path}: expected at least one [[templates]]; got none")
    names = [template.name for template in templates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"`templates`: {path}: expected a name once; got {twice!r} twice")
    checked = TemplateSet(templates, forbidden=forbidden)
    for template, (where, _) in zip(templates, _entries(values, "templates", text, path), strict=True):
        _check(template, checked, where)
    return checked


def _table(values: dict[str, Any], key: str, path: Path) -> dict[str, str]:
    table = values.get(key, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ConfigError(f"`templates`: {path}: [{key}]: expected names and SMARTS; got {table!r}")
    return table


def _entries(values: dict[str, Any], key: str, text: str, path: Path) -> list[tuple[str, Any]]:
    """The entries of an array of tables, each with where it stands."""
    entries = values.get(key, [])
    if not isinstance(entries, list):
        raise ConfigError(f"`templates`: {path}: expected [[{key}]]; got {entries!r}")
    header = re.compile(rf"\s*\[\[\s*{key}\s*\]\]")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
    # An array written inline has no header lines; its entries are numbered instead.
    known = len(lines) == len(entries)
    return [
        (f"`templates`: {path}: {f'line {lines[index]}' if known else f'{key} {index + 1}'}", entry)
        for index, entry in enumerate(entries)
    ]


def _entry(entry: Any, needed: dict[str, type], optional: dict[str, type], where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected a table; got {entry!r}")
    named = _named(entry, where)
    for key in needed:
        if key not in entry:
            raise ConfigError(f"{named}: `{key}`: expected {_KINDS[needed[key]]}; got nothing")
    keys = needed | optional
    for key, value in entry.items():
        if key not in keys:
            raise ConfigError(f"{named}: expected the keys {', '.join(keys)}; got `{key}`")
        kinds = (int, float) if keys[key] is float else keys[key]
        if not isinstance(value, kinds) or isinstance(value, bool) or value == "":
            raise ConfigError(f"{named}: `{key}`: expected {_KINDS[keys[key]]}; got {value!r}")
    return entry


def _named(entry: dict[str, Any], where: str) -> str:
    """Where an entry stands and, as far as it says so, which it is."""
    name = entry.get("name", entry.get("reason"))
    return where if name is None else f"{where}: {name!r}"


def _filled(smarts: str, patterns: dict[str, str]) -> str:
    """SMARTS with its line breaks taken out and each {name} replaced by its pattern."""
    whole = "".join(smarts.split())
    for name, pattern in patterns.items():
        whole = whole.replace("{" + name + "}", "".join(pattern.split()))
    return whole


def _pattern(entry: dict[str, Any], key: str, patterns: dict[str, str], where: str) -> Chem.Mol:
    pattern = Chem.MolFromSmarts(_filled(entry[key], patterns))
    if pattern is None:
        raise ConfigError(f"{_named(entry, where)}: `{key}`: expected SMARTS; got {entry[key]!r}")
    return pattern


def _template(entry: dict[str, Any], patterns: dict[str, str], where: str) -> Template:
    named = _named(entry, where)
    smarts = _filled(entry["smarts"], patterns)
    cost = float(entry["cost"])
    if not (math.isfinite(cost) and cost >= 0):
        raise ConfigError(f"{named}: `cost`: expected a finite number ≥ 0; got {cost}")
    if not entry["precursors"]:
        raise ConfigError(f"{named}: `precursors`: expected at least one SMILES; got none")
    try:
        template = make_template(
            read_reaction(smarts),
            name=entry["name"],
            reaction_class=entry["class"],
            cost=cost,
            smarts=smarts,
            unless=_pattern(entry, "unless", patterns, where) if "unless" in entry else None,
        )
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{named}: `smarts`: expected product>>precursors as reaction SMARTS; got {smarts!r}"
        ) from error
    return replace(
        template,
        product=_read(entry["product"], "product", named),
        precursors=tuple(sorted(_read(smiles, "precursors", named) for smiles in entry["precursors"])),
    )


def _read(smiles: Any, key: str, named: str) -> str:
    try:
        return standard_smiles(parse_smiles(smiles if isinstance(smiles, str) else ""))
    except MoleculeError as error:
        raise ConfigError(f"{named}: `{key}`: expected SMILES; got {repr(smiles)[:100]}") from error


def _check(template: Template, templates: TemplateSet, where: str) -> None:
    """Raises `ConfigError` if a template does not make of its product what it says."""
    alone = templates.only([template])
    found = [disconnection.precursors for disconnection in alone.disconnect(str(template.product))]
    if template.precursors not in found:
        got = " or ".join(".".join(precursors) for precursors in found) or "nothing"
        raise ConfigError(
            f"{where}: {template.name!r}: expected {template.product} to come from "
            f"{'.'.join(template.precursors)}; the template makes {got}"
        )
