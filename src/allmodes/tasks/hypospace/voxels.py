"""3D reconstruction: which stacks of blocks look like this from above?

The prompt is that of the IPS paper, appendix C.
"""

from collections.abc import Sequence
from itertools import combinations, product
from math import comb
from typing import final

from allmodes.checks import check_count
from allmodes.errors import InputError
from allmodes.tasks.hypospace.hypotheses import MOST_PAIRS, Hypotheses

_BEGIN, _END = "BEGIN_STRUCTURE", "END_STRUCTURE"


@final
class Voxels(Hypotheses):
    """All structures of stacked blocks over a grid of `size` × `size` cells, 1 to `max_blocks` of them taken.

    A block needs one directly below it, so that a structure is a height from 0 to `max_height` for each cell.
    Its top view, the OR of its layers, is the observation. A response answers with its last
    BEGIN_STRUCTURE ... END_STRUCTURE: the line `Structure:`, which may be missing, then the layers from the
    bottom, each as `Layer 1:` and its cells row by row; in any case, with any spaces and line breaks. Empty
    layers on top count for nothing. The key is the heights, row by row, as in 010/000/031. Blocks in the air,
    missing cells and layers out of order or above `max_height` are no hypothesis.

    Raises InputError for a size outside 1 to 9, max_blocks outside 1 to size², max_height outside 1 to 9, or
    more than a million structures.

    >>> task = Voxels(size=2, max_blocks=2, max_height=2)
    >>> len(task.prompts), task.known_answers(task.prompts[0])
    (10, ('10/00', '20/00'))
    """

    name = "hypospace-voxels"

    def __init__(self, size: int = 3, max_blocks: int = 3, max_height: int = 3) -> None:
        check_count("size", size, most=9)
        cells = size * size
        check_count("max_blocks", max_blocks, most=cells)
        check_count("max_height", max_height, most=9)
        count = sum(comb(cells, taken) * max_height**taken for taken in range(1, max_blocks + 1))
        if count > MOST_PAIRS:
            raise InputError(
                f"`size`, `max_blocks` and `max_height` must give at most {MOST_PAIRS:,} structures; got "
                f"{count:,}"
            )
        self._max_height = max_height
        self._layers: dict[str, list[str]] = {}
        instances: dict[str, list[str]] = {}
        sizes: dict[str, int] = {}
        for number in range(1, max_blocks + 1):
            for taken in combinations(range(cells), number):
                keys = instances.setdefault(_prompt(size, max_height, taken), [])
                for heights in product(range(1, max_height + 1), repeat=number):
                    height_of = dict(zip(taken, heights, strict=True))
                    grid = "".join(str(height_of.get(cell, 0)) for cell in range(cells))
                    key = "/".join(_rows(grid, size))
                    self._layers[key] = [
                        "".join("1" if int(height) > level else "0" for height in grid)
                        for level in range(max(heights))
                    ]
                    sizes[key] = sum(heights)
                    keys.append(key)
        self._keys = {"".join(layers): key for key, layers in self._layers.items()}
        self._cells, self._empty = cells, "0" * cells
        super().__init__(instances, sizes=sizes)

    def parse(self, response: str) -> str | None:
        """The key of the last structure."""
        _, begun, rest = response.lower().rpartition("begin_structure")
        body, ended, _ = rest.partition("end_structure")
        if not (begun and ended):
            return None
        before, *layers = "".join(body.split()).split("layer", self._max_height + 1)
        if before not in ("", "structure:") or not 1 <= len(layers) <= self._max_height:
            return None
        found = ""
        for number, layer in enumerate(layers, 1):
            label, cells = layer[:2], layer[2:]
            if label != f"{number}:" or len(cells) != self._cells:
                return None
            found += cells
        while found.endswith(self._empty):
            found = found[: -self._cells]
        return self._keys.get(found)

    def _response(self, key: str) -> str:
        return _structure(self._layers[key], len(key.partition("/")[0]))

    def _broken(self, key: str) -> Sequence[str]:
        layers, size = self._layers[key], len(key.partition("/")[0])
        text = _structure(layers, size)
        return [
            text.removeprefix(f"{_BEGIN}\n"),
            text.removesuffix(f"\n{_END}"),
            text.replace("Layer 1:\n", ""),
            text.replace("Layer 1", "Layer 0"),
            "\n".join(line for line in text.split("\n") if not line.startswith("Layer")),
            _structure([self._empty, *layers], size),  # in the air
            _structure([*layers, layers[-1][:-size]], size),  # a row is missing
            _structure([layer.replace("1", "2") for layer in layers], size),
        ]


def _rows(grid: str, size: int) -> list[str]:
    return [grid[start : start + size] for start in range(0, len(grid), size)]


def _structure(layers: Sequence[str], size: int) -> str:
    lines = [_BEGIN, "Structure:"]
    for number, layer in enumerate(layers, 1):
        lines += [f"Layer {number}:", *(" ".join(row) for row in _rows(layer, size))]
    return "\n".join((*lines, _END))


def _prompt(size: int, max_height: int, taken: Sequence[int]) -> str:
    cells = size * size
    view = "".join("1" if cell in taken else "0" for cell in range(cells))
    middle = "".join("1" if cell == cells // 2 else "0" for cell in range(cells))
    return "\n".join(
        (
            "### TASK DESCRIPTION",
            f"You are an expert 3D reconstruction engine. You are given a Top View (2D projection) of a "
            f"{size}x{size} grid. Your goal is to reconstruct the 3D voxel structure (layers of blocks) that "
            "matches this view.",
            f"Maximum allowed height: {max_height} layers.",
            "### OBSERVATION",
            "Top View (1=block visible, 0=empty):",
            *(" ".join(row) for row in _rows(view, size)),
            "### REQUIRED OUTPUT FORMAT",
            "You must output the structure layer by layer, starting from the bottom (Layer 1). Every layer "
            "must be explicitly labeled. Do not output raw numbers without 'Layer X:' labels. Use exactly "
            "this format:",
            _structure([middle] * min(2, max_height), size),
            "### CONSTRAINTS",
            "1. Physics: A block at Layer N must have a block directly below it at Layer N-1.",
            "2. Consistency: The 'OR' operation of all layers must exactly match the Top View.",
            "3. Format: You must write 'Layer X:' before each grid.",
            "Generate the structure now:",
        )
    )
