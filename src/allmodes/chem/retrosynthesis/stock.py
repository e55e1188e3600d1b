"""Purchasable molecules: a file of molecules, checked and standardised."""

import gzip
import hashlib
import io
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import final

from rdkit import Chem, rdBase
from syntheseus.interface.molecule import Molecule
from syntheseus.search.mol_inventory import BaseMolInventory

from allmodes.chem.molecule_records import MoleculeRecord, read_records
from allmodes.chem.molecules import MoleculeError, TooLargeError
from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.errors import ConfigError, InputError
from allmodes.runs.files import read_text, replacing

# Elements whose valences RDKit knows without doubt: what it refuses of them is misspelt.
_COMMON = frozenset({1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35})


@final
class Stock(BaseMolInventory):
    """Purchasable molecules.

    entries: standard SMILES, each with that of the molecule without its stereochemistry, None for one that
    has none. A molecule is in stock when it is an entry, or when it leaves its stereochemistry open and an
    entry is one of its stereoisomers. An entry that leaves it open, such as a racemate, is no substitute for
    one isomer.
    left_out: how many entries are well-formed, but too large, or no molecule to RDKit. first_left_out: the
    line of the first of them and why.
    """

    def __init__(
        self, entries: Mapping[str, str | None], *, left_out: int = 0, first_left_out: str = ""
    ) -> None:
        self.entries = entries
        self.left_out, self.first_left_out = left_out, first_left_out
        self._open = frozenset(flat for flat in entries.values() if flat is not None)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, smiles: str) -> bool:
        return smiles in self.entries or smiles in self._open

    def is_purchasable(self, mol: Molecule) -> bool:
        """Whether a molecule with standard SMILES is in stock."""
        return mol.smiles in self


def shipped_stock() -> Path:
    """Path of the stock that comes with the package: enumerated, a stand-in for a catalogue."""
    return Path(str(files("allmodes.chem.retrosynthesis") / "stock.smi.gz"))


def stock_of(smiles: Iterable[str]) -> Stock:
    """The stock of these SMILES. Raises `ValueError` with the one that is none."""
    return _stock_of(MoleculeRecord(line=0, name="", text=text) for text in smiles)


def _stock_of(records: Iterable[MoleculeRecord]) -> Stock:
    entries: dict[str, str | None] = {}
    left_out, first = 0, ""
    for record in records:
        try:
            molecule = record.molecule()
        except MoleculeError as error:
            if not isinstance(error, TooLargeError) and not _is_exotic(record):
                raise _NoMoleculeError(record, str(error)) from error
            left_out += 1
            reason = str(error) if isinstance(error, TooLargeError) else "a valence that RDKit does not know"
            first = first or f"line {record.line}: {reason}"
            continue
        spelling = standard_smiles(_sold(molecule))
        if spelling not in entries:
            entries[spelling] = _without_stereo(spelling)
    return Stock(entries, left_out=left_out, first_left_out=first)


class _NoMoleculeError(ValueError):
    def __init__(self, record: MoleculeRecord, reason: str) -> None:
        super().__init__(record.shown())
        self.record, self.reason = record, reason


def load_stock(path: Path) -> Stock:
    """Read a stock: SMILES, a table with a column of SMILES, or an SDF, as `read_records` reads them.

    Each is made canonical; acids, amines and their ions are one; an entry of several fragments, such as a
    salt, stands for its largest fragment with carbon. A racemate, as CXSMILES, as an SDF with stereo groups
    or as both enantiomers in one entry, leaves its stereochemistry open. Empty lines do not count. Raises
    `ConfigError` that names the file, the line and its text when one is no molecule, and when there is no
    molecule at all. Only a valence that RDKit does not know, of elements beyond the organic ones, or a size
    that it cannot stand, costs the entry and not the file: no route can ask for it. A file that `write_stock`
    wrote under the same RDKit is taken as it is, if it has not changed since.
    """
    try:
        entries = _prepared(read_text(path).split("\n"))
        if entries is not None:
            return Stock(entries)
        stock = _stock_of(record for record in read_records(path) if record.text.strip())
    except InputError as error:
        raise ConfigError(f"`stock`: {error}") from error
    except _NoMoleculeError as error:
        got = f"got {error.record.shown()[:100]!r}: {error.reason}"
        raise ConfigError(f"`stock`: {path}: line {error.record.line}: expected a molecule; {got}") from error
    if not stock:
        raise ConfigError(f"`stock`: {path}: expected at least one molecule; got none")
    return stock


def write_stock(stock: Stock, path: Path) -> None:
    """Write a stock as gzipped SMILES that load at once; the bytes depend on molecules and RDKit alone."""
    rows = sorted((smiles, flat) for smiles, flat in stock.entries.items())
    body = "".join(smiles + "\n" if flat is None else f"{smiles}\t{flat}\n" for smiles, flat in rows)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as handle:
        handle.write((_header(body) + "\n" + body).encode())
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _header(body: str) -> str:
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"# allmodes stock, canonical under RDKit {rdBase.rdkitVersion}, SHA-256 {digest}"


def _prepared(lines: list[str]) -> dict[str, str | None] | None:
    """The entries of a file that `write_stock` wrote, None for any other and for one that was changed."""
    if not lines[0].startswith("# allmodes stock") or lines[0] != _header("\n".join(lines[1:])):
        return None
    rows = (line.partition("\t") for line in lines[1:] if line)
    return {smiles: flat or None for smiles, _, flat in rows}


def _without_stereo(smiles: str) -> str | None:
    if not any(mark in smiles for mark in "@/\\"):
        return None
    molecule = Chem.MolFromSmiles(smiles)
    Chem.RemoveStereochemistry(molecule)
    return Chem.MolToSmiles(molecule)


def _is_exotic(record: MoleculeRecord) -> bool:
    """Whether all that RDKit minds is the valence of elements beyond the organic ones."""
    read = Chem.MolFromMolBlock if record.is_block else Chem.MolFromSmiles
    molecule = read(record.text, sanitize=False)
    if molecule is None:
        return False
    problems = Chem.DetectChemistryProblems(molecule)
    return bool(problems) and all(
        problem.GetType() == "AtomValenceException"
        and molecule.GetAtomWithIdx(problem.GetAtomIdx()).GetAtomicNum() not in _COMMON
        for problem in problems
    )


def _sold(molecule: Chem.Mol) -> Chem.Mol:
    """The fragment with the most heavy atoms; one with carbon goes before one without; ties by SMILES.

    Without its stereochemistry where a stereoisomer of it is another fragment: that is a mixture.
    """
    fragments = Chem.GetMolFrags(molecule, asMols=True)
    if len(fragments) == 1:
        return molecule

    def rank(fragment: Chem.Mol) -> tuple[bool, int, str]:
        has_carbon = any(atom.GetAtomicNum() == 6 for atom in fragment.GetAtoms())
        return has_carbon, fragment.GetNumHeavyAtoms(), Chem.MolToSmiles(fragment)

    best = max(fragments, key=rank)
    whole, flat = standard_smiles(best), _flat(best)
    if any(_flat(other) == flat and standard_smiles(other) != whole for other in fragments):
        Chem.RemoveStereochemistry(best)
    return best


def _flat(molecule: Chem.Mol) -> str:
    spelling = standard_smiles(molecule)
    return _without_stereo(spelling) or spelling
