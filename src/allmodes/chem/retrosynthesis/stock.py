"""What can be bought: a file of SMILES, checked and brought to one spelling a molecule."""

import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import final

from rdkit import Chem, rdBase
from syntheseus.interface.molecule import Molecule
from syntheseus.search.mol_inventory import BaseMolInventory

from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.errors import ConfigError, InputError
from allmodes.runs.files import read_bytes, replacing

# Elements whose valences RDKit knows without doubt: what it refuses of them is misspelt.
_COMMON = frozenset({1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35})


@final
class Stock(BaseMolInventory):
    """Purchasable molecules.

    entries: standard SMILES, each with that of the molecule without its stereochemistry, None for one that
    has none. A molecule is in stock when it is an entry, or when it leaves its stereochemistry open and an
    entry is one of its stereoisomers. An entry that leaves it open, such as a racemate, is no substitute for
    one isomer.
    left_out: lines that are well-formed, but no molecule to RDKit.
    """

    def __init__(self, entries: Mapping[str, str | None], *, left_out: int = 0) -> None:
        self.entries = entries
        self.left_out = left_out
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
    entries: dict[str, str | None] = {}
    left_out = 0
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            if not _is_exotic(text):
                raise ValueError(text)
            left_out += 1
            continue
        if "." in text:
            molecule = _largest_fragment(molecule)
        spelling = standard_smiles(molecule)
        if spelling not in entries:
            entries[spelling] = _without_stereo(spelling)
    return Stock(entries, left_out=left_out)


def load_stock(path: Path) -> Stock:
    """Read a stock: SMILES in the first column of each line, plain or .gz; empty and # lines do not count.

    Each is made canonical; acids, amines and their ions are one; an entry of several fragments, such as a
    salt, stands for its largest fragment with carbon. Raises `ConfigError` that names the file, the line and
    its text when one is no SMILES, and when there is no molecule at all. Only a valence that RDKit does not
    know, of elements beyond the organic ones, costs the entry and not the file: no route can ask for it.
    A file that `write_stock` wrote under the same RDKit is taken as it is, if nobody changed it since.
    """
    lines = _lines(path)
    entries = _prepared(lines)
    if entries is not None:
        return Stock(entries)
    number = 0

    def columns() -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(lines, 1):  # noqa: B007 - for the message below
            parts = line.split(maxsplit=1)
            if parts and not parts[0].startswith("#"):
                yield parts[0]

    try:
        stock = stock_of(columns())
    except ValueError as error:
        raise ConfigError(
            f"`stock`: {path}: line {number}: expected SMILES; got {str(error)[:100]!r}"
        ) from error
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


def _lines(path: Path) -> list[str]:
    try:
        text = read_bytes(path).decode("utf-8", errors="replace")
    except InputError as error:
        raise ConfigError(f"`stock`: expected a file of SMILES; {error}") from error
    return text.replace("\r\n", "\n").split("\n")


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


def _is_exotic(text: str) -> bool:
    """Whether all that RDKit minds is the valence of elements beyond the organic ones."""
    molecule = Chem.MolFromSmiles(text, sanitize=False)
    if molecule is None:
        return False
    problems = Chem.DetectChemistryProblems(molecule)
    return bool(problems) and all(
        problem.GetType() == "AtomValenceException"
        and molecule.GetAtomWithIdx(problem.GetAtomIdx()).GetAtomicNum() not in _COMMON
        for problem in problems
    )


def _largest_fragment(molecule: Chem.Mol) -> Chem.Mol:
    """The fragment with the most heavy atoms; one with carbon goes before one without; ties by SMILES."""

    def rank(fragment: Chem.Mol) -> tuple[bool, int, str]:
        has_carbon = any(atom.GetAtomicNum() == 6 for atom in fragment.GetAtoms())
        return has_carbon, fragment.GetNumHeavyAtoms(), Chem.MolToSmiles(fragment)

    return max(Chem.GetMolFrags(molecule, asMols=True), key=rank)
