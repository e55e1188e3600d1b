"""The docking box, in which poses are searched, in ångström."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from allmodes.errors import ConfigError, InputError
from allmodes.runs.files import read_text

Vector = tuple[float, float, float]
_Atom = tuple[str, Vector]  # element, coordinates

# Vina's own warning comes at 30 Å; beyond this the maps alone would take gigabytes.
MAX_SIDE = 60.0
# Å around a reference ligand in a box that is offered, so that it can move and turn.
PADDING = 4.0
# A reference ligand larger than this is a protein, most likely the whole complex.
MAX_REFERENCE_ATOMS = 250


@final
@dataclass(frozen=True)
class Box:
    """A cuboid along the axes: its centre and its sides, in Å."""

    center: Vector
    size: Vector

    def distance(self, point: Vector) -> float:
        """Distance of a point from the box in Å; 0 inside."""
        beyond = (max(abs(x - c) - s / 2, 0.0) for x, c, s in zip(point, self.center, self.size, strict=True))
        return math.hypot(*beyond)


def make_box(box: dict[str, Any], *, where: str) -> Box:
    """The box of a dumped `BoxConfig`; `where` opens the messages, as in "component 'docking': `box".

    Raises `ConfigError` for a reference ligand that is missing or malformed, naming the line, and for a
    side above 60 Å.
    """
    size = box["size"]
    width, depth, height = [size] * 3 if isinstance(size, int | float) else size
    if max(width, depth, height) > MAX_SIDE:
        raise ConfigError(f"{where}.size`: expected sides of at most {MAX_SIDE:g} Å; got {size}")
    if box["reference_ligand"] is not None:
        center = ligand_center(Path(box["reference_ligand"]), where=f"{where}.reference_ligand`")
    else:
        x, y, z = box["center"]
        center = (float(x), float(y), float(z))
    return Box(center, (float(width), float(depth), float(height)))


def box_warning(box: dict[str, Any], *, where: str) -> str | None:
    """What is wrong with a box that cannot hold its own reference ligand, and a size that can; None if fine.

    Arguments and errors as for `make_box`.
    """
    made = make_box(box, where=where)
    if box["reference_ligand"] is None:
        return None
    ligand = _heavy(Path(box["reference_ligand"]), where=f"{where}.reference_ligand`")
    beyond = max(map(made.distance, ligand))
    if beyond == 0:
        return None
    sides = size_for(ligand, made)
    offer = (
        f"[{', '.join(f'{side:g}' for side in sides)}] holds it"
        if max(sides) <= MAX_SIDE
        else f"no box of at most {MAX_SIDE:g} Å around its centre holds it"
    )
    return (
        f"{where}.size`: the reference ligand {box['reference_ligand']} extends beyond its box "
        f"by {beyond:.1f} Å; {offer}"
    )


def size_for(atoms: Iterable[Vector], box: Box) -> Vector:
    """Sides of a box around the same centre that holds atoms and 4 Å around them, none below those it has."""
    x, y, z = (
        max(side, math.ceil(2 * (max(abs(place - middle) for place in axis) + PADDING)))
        for axis, middle, side in zip(zip(*atoms, strict=True), box.center, box.size, strict=True)
    )
    return x, y, z


def ligand_center(path: Path, *, where: str) -> Vector:
    """Centroid of a ligand's heavy atoms, in Å: the mean of their coordinates, each atom counted once.

    path: PDB, SDF, MOL2 or PDBQT, by its suffix. Of several models or molecules the first counts, of
    alternate locations the first. Raises `ConfigError` for a file that is missing, malformed (with the
    line), flat, without heavy atoms, or far too large for a ligand.
    """
    heavy = _heavy(path, where=where)
    x, y, z = (math.fsum(axis) / len(heavy) for axis in zip(*heavy, strict=True))
    return x, y, z


def _heavy(path: Path, *, where: str) -> list[Vector]:
    heavy = [xyz for element, xyz in _read(path, where) if element not in ("H", "D")]
    if not heavy:
        raise ConfigError(f"{where}: {path}: expected the atoms of a ligand; got no heavy atom")
    if len(heavy) > MAX_REFERENCE_ATOMS:
        raise ConfigError(
            f"{where}: {path}: expected a ligand alone, of at most {MAX_REFERENCE_ATOMS} heavy atoms; "
            f"got {len(heavy)}"
        )
    return heavy


def _read(path: Path, where: str) -> list[_Atom]:
    packed = path.suffix.lower() in (".gz", ".bz2", ".xz")
    reader = _READERS.get(path.with_suffix("").suffix.lower() if packed else path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{where}: expected a file that ends with .pdb, .sdf, .mol2 or .pdbqt; got {path}")
    return list(reader(read_lines(path, where=where), f"{where}: {path}"))


def read_lines(path: Path, *, where: str) -> list[str]:
    """The lines of a text file in any encoding; raises `ConfigError` if it is missing or no text."""
    if not path.exists():
        raise ConfigError(f"{where}: expected a file; got no {path}")
    try:
        return read_text(path).removesuffix("\n").split("\n")
    except InputError as error:
        raise ConfigError(f"{where}: {error}") from error


def coordinates(fields: tuple[str, str, str], *, where: str, line: int) -> Vector:
    """Three finite numbers from a file's fields; raises `ConfigError` naming the line."""
    try:
        x, y, z = map(float, fields)
    except ValueError:
        x = y = z = math.nan
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        raise ConfigError(f"{where}: line {line}: expected three coordinates; got {' '.join(fields)!r}")
    return x, y, z


def _pdb(lines: list[str], where: str) -> Iterator[_Atom]:
    location = None
    for number, line in enumerate(lines, start=1):
        if line.startswith("ENDMDL"):
            return
        if not line.startswith(("ATOM", "HETATM")):
            continue
        xyz = coordinates((line[30:38], line[38:46], line[46:54]), where=where, line=number)
        if line[16] != " ":
            location = line[16] if location is None else location
            if line[16] != location:
                continue
        # Columns 77 and 78 hold the element in PDB and AutoDock's type in PDBQT, which starts with it.
        element = line[76:79].strip() or line[12:16].strip().lstrip("0123456789")
        yield ("H" if element.startswith("H") else element), xyz


def _sdf(lines: list[str], where: str) -> Iterator[_Atom]:
    if len(lines) < 4:
        raise ConfigError(f"{where}: line {len(lines)}: expected a molecule; got the end of the file")
    if lines[1][20:22] == "2D":
        raise ConfigError(f"{where}: line 2: expected a structure in space; got a drawing (2D)")
    if "V3000" in lines[3]:
        yield from _sdf_v3000(lines, where)
        return
    count = lines[3][:3].strip()
    if not count.isdigit():
        raise ConfigError(f"{where}: line 4: expected the number of atoms; got {lines[3]!r}")
    for number in range(5, 5 + int(count)):
        if number > len(lines):
            raise ConfigError(f"{where}: line {number}: expected {count} atoms; got the end of the file")
        line = lines[number - 1]
        xyz = coordinates((line[:10], line[10:20], line[20:30]), where=where, line=number)
        yield line[31:34].strip(), xyz


def _sdf_v3000(lines: list[str], where: str) -> Iterator[_Atom]:
    inside = False
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if fields[:4] == ["M", "V30", "BEGIN", "ATOM"]:
            inside = True
        elif fields[:4] == ["M", "V30", "END", "ATOM"]:
            return
        elif inside:
            fields += [""] * (7 - len(fields))
            yield fields[3], coordinates((fields[4], fields[5], fields[6]), where=where, line=number)


def _mol2(lines: list[str], where: str) -> Iterator[_Atom]:
    inside = False
    for number, line in enumerate(lines, start=1):
        if line.startswith("@<TRIPOS>"):
            if inside:
                return
            inside = line.strip() == "@<TRIPOS>ATOM"
        elif inside and line.strip():
            fields = line.split() + [""] * 6
            xyz = coordinates((fields[2], fields[3], fields[4]), where=where, line=number)
            yield fields[5].split(".")[0], xyz


_READERS: dict[str, Callable[[list[str], str], Iterator[_Atom]]] = {
    ".pdb": _pdb,
    ".ent": _pdb,
    ".pdbqt": _pdb,
    ".sdf": _sdf,
    ".mol": _sdf,
    ".mol2": _mol2,
}
