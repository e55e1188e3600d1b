"""Docked poses drawn as sticks: all poses of a report from the same two directions, at one scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from allmodes.chem.reporting.figures import ATOM_COLOURS

_WIDTH, _GAP, _TALLEST = 460, 16, 300  # pixels: of one view, between the two, and at most
_MARGIN = 1.2  # Å around the outermost atom
_MOST = 30.0  # pixels per Å: a fragment is not blown up
_THIN, _THICK = 1.5, 4.5
_BAR = 5  # Å
_GROUND = "#f6f7f8"

Points = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Frame:
    """Where poses are seen from, in the receptor's coordinates.

    axes: (3, 3), rows: right, up and towards the viewer of the first view, right-handed, so that no view
    shows a mirror image. centre, (3,): the middle of all poses. reach, (3,): half their extent along each
    axis, in Å.
    """

    centre: Points
    axes: Points
    reach: Points

    def place(self, points: Points) -> Points:
        """Points, (N, 3), along the axes from the centre, in Å."""
        return (points - self.centre) @ self.axes.T


def read_poses(text: str) -> list[Chem.Mol]:
    """The molecules of an SDF with hydrogens, in its order, without those that RDKit cannot read."""
    supplier = Chem.SDMolSupplier()
    supplier.SetData(text, removeHs=False)
    return [molecule for molecule in supplier if molecule is not None and molecule.GetNumConformers()]


def common_frame(poses: Sequence[Chem.Mol]) -> Frame:
    """The directions from which poses, at least one, taken together are broadest: their principal axes."""
    points = np.concatenate([heavy_atoms(pose) for pose in poses])
    _, vectors = np.linalg.eigh(np.cov(points.T) if len(points) > 1 else np.eye(3))
    right, up = vectors[:, 2], vectors[:, 1]  # the eigenvalues ascend
    # An eigenvector's sign means nothing; this one makes the drawing the same everywhere.
    right, up = (axis * np.sign(axis[np.abs(axis).argmax()]) for axis in (right, up))
    axes = np.stack([right, up, np.cross(right, up)])
    along = points @ axes.T
    low, high = along.min(0), along.max(0)
    return Frame(centre=((low + high) / 2) @ axes, axes=axes, reach=(high - low) / 2)


def heavy_atoms(pose: Chem.Mol) -> Points:
    """Coordinates of all atoms but hydrogens, (N, 3), in Å."""
    heavy = [atom.GetIdx() for atom in pose.GetAtoms() if atom.GetAtomicNum() > 1]
    return pose.GetConformer().GetPositions()[heavy]


def views(points: Points) -> tuple[Points, Points]:
    """Placed points, (N, 3), as (right, up, towards the viewer), seen from the front and from above."""
    return points, points[:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0])


def draw_pose(pose: Chem.Mol, frame: Frame) -> str:
    """A pose's heavy atoms as SVG, from the front and from above.

    Near bonds are thick, far ones thin and pale.
    """
    bare = Chem.RemoveAllHs(pose, sanitize=False)
    reach = frame.reach + _MARGIN
    tallest = max(reach[1], reach[2])
    scale = min(_WIDTH / (2 * reach[0]), _TALLEST / (2 * tallest), _MOST)
    height = 2 * tallest * scale
    parts = []
    for number, (title, points) in enumerate(
        zip(("from the front", "from above"), views(frame.place(heavy_atoms(bare))), strict=True)
    ):
        middle = (number * (_WIDTH + _GAP) + _WIDTH / 2, height / 2)
        depth = points[:, 2] / (reach[2] if number == 0 else reach[1])
        spots = np.stack([middle[0] + scale * points[:, 0], middle[1] - scale * points[:, 1]], 1)
        left = middle[0] - _WIDTH / 2
        parts.append(f'<path d="M{left:.1f} 0h{_WIDTH}v{height:.1f}h-{_WIDTH}z" fill="{_GROUND}"/>')
        parts += _sticks(bare, spots, np.clip((depth + 1) / 2, 0, 1))
        parts.append(f'<text x="{left:.1f}" y="{height + 16:.1f}">{title}</text>')
    end = 2 * _WIDTH + _GAP
    start = end - _BAR * scale
    parts.append(
        f'<path d="M{start:.1f} {height + 12:.1f}H{end:.1f}" stroke="#888888" stroke-width="1.5"/>'
        f'<text x="{start - 6:.1f}" y="{height + 16:.1f}" text-anchor="end">{_BAR} Å</text>'
    )
    return (
        f'<svg viewBox="0 0 {end} {height + 22:.0f}" role="img" aria-hidden="true" font-size="11.5" '
        f'fill="#666666" stroke-linecap="round">{"".join(parts)}</svg>'
    )


def _sticks(molecule: Chem.Mol, spots: Points, nearness: Points) -> list[str]:
    """Bonds as two halves in the colours of their atoms, far ones first; an atom without bonds is a dot."""
    drawn: list[tuple[float, str]] = []
    for bond in molecule.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        first, second = (atom.GetIdx() for atom in ends)
        near = float(nearness[first] + nearness[second]) / 2
        width = _THIN + (_THICK - _THIN) * near
        middle = (spots[first] + spots[second]) / 2
        # Where bonds cross, the nearer one leaves a margin; none at its ends, where its neighbours begin.
        shrunk = [middle + 0.6 * (spots[index] - middle) for index in (first, second)]
        text = _line(*shrunk, colour=_GROUND, width=width + 3)
        for atom in ends:
            text += _line(spots[atom.GetIdx()], middle, colour=_colour(atom, near), width=width)
        drawn.append((near, text))
    for atom in molecule.GetAtoms():
        if atom.GetDegree() == 0:
            near = float(nearness[atom.GetIdx()])
            x, y = spots[atom.GetIdx()]
            radius = _THIN + (_THICK - _THIN) * near
            dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_colour(atom, near)}"/>'
            drawn.append((near, dot))
    return [text for _, text in sorted(drawn, key=lambda item: item[0])]


def _line(start: Points, end: Points, *, colour: str, width: float) -> str:
    return (
        f'<path d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}" stroke="{colour}" '
        f'stroke-width="{width:.1f}"/>'
    )


def _colour(atom: Chem.Atom, near: float) -> str:
    """The element's colour, paler the farther the atom."""
    colour = np.array(ATOM_COLOURS.get(atom.GetAtomicNum(), (0.45, 0.45, 0.45)))
    if atom.GetAtomicNum() == 6:
        colour = np.array((0.42, 0.42, 0.42))  # a stick has no letters, so that carbon may recede
    pale = 1 - (1 - colour) * (0.45 + 0.55 * near)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in pale)
