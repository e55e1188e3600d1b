"""Diversity from binary fingerprints: internal diversity and sphere packing."""

import math
from typing import cast

import torch
from torch import Tensor

from allmodes.checks import check_fraction
from allmodes.errors import InputError

_CHUNK = 2048  # rows and columns of the similarity matrix held in memory at a time


def tanimoto(left: Tensor, right: Tensor) -> Tensor:
    """|a ∧ b| / |a ∨ b| of all pairs of binary rows: (N, B), (M, B) → (N, M). Two empty rows have 1."""
    common, union = _overlap(left, right)
    return torch.where(union > 0, common / union, 1.0)


def tanimoto_distance(left: Tensor, right: Tensor) -> Tensor:
    """1 − Tanimoto similarity of all pairs, (N, M); the float32 that is closest to the exact fraction."""
    common, union = _overlap(left, right)
    return torch.where(union > 0, (union - common) / union, 0.0)


def _overlap(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """|a ∧ b| and |a ∨ b|: integers, exact in float32."""
    left, right = left.float(), right.float()
    common = left @ right.T
    return common, left.sum(1)[:, None] + right.sum(1) - common


def internal_diversity(fingerprints: Tensor) -> float:
    """IntDiv1: 1 − mean Tanimoto similarity over all ordered pairs, including pairs of a row with itself.

    fingerprints: (N, B) zeros and ones. NaN for no rows. Source: Polykovskiy et al. 2020 (MOSES), p = 1.

    >>> fingerprints = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]])
    >>> round(internal_diversity(fingerprints), 4)
    0.463
    """
    _check_fingerprints(fingerprints)
    count = len(fingerprints)
    if count == 0:
        return math.nan
    parts = torch.split(fingerprints, _CHUNK)
    total = 0.0
    for index, part in enumerate(parts):
        total += float(tanimoto_distance(part, part).sum(dtype=torch.float64))
        for other in parts[index + 1 :]:
            total += 2 * float(tanimoto_distance(part, other).sum(dtype=torch.float64))
    return total / count**2


def mean_pair_distance(fingerprints: Tensor) -> float:
    """Mean Tanimoto distance over all pairs of two different rows: IntDiv1 · N/(N − 1).

    fingerprints: (N, B) zeros and ones. NaN for fewer than two rows. Source: PMO, Gao et al. 2022.

    >>> fingerprints = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]])
    >>> round(mean_pair_distance(fingerprints), 4)
    0.6944
    """
    count = len(fingerprints)
    return internal_diversity(fingerprints) * count / (count - 1) if count > 1 else math.nan


def num_circles(fingerprints: Tensor, *, distance: float, generator: torch.Generator | None = None) -> Tensor:
    """#Circles: indices of rows whose pairwise Tanimoto distances all exceed `distance`, chosen greedily.

    Goes through the rows in the given order (shuffled if a `generator` is given) and keeps a row if it is
    farther than `distance` from all kept rows. The result is a lower bound that depends on the order, so fix
    the order. fingerprints: (N, B) zeros and ones. Returns (C,) indices in the order kept; #Circles is C.

    Raises InputError for a shape that is not (N, B) or a distance outside [0, 1]. Source: Xie et al. 2023.

    >>> fingerprints = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]])
    >>> num_circles(fingerprints, distance=0.75)  # the first two are alike
    tensor([0, 2])
    """
    _check_fingerprints(fingerprints)
    check_fraction("distance", distance)
    count = len(fingerprints)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    rows = fingerprints.cpu()  # the greedy pass is sequential
    kept: list[int] = []
    for block in torch.split(order, _CHUNK):
        far = _farther(rows[block], rows[kept], distance).all(1)
        block = block[far]  # farther than `distance` from all that earlier blocks kept
        close = ~_farther(rows[block], rows[block], distance)
        open_ = torch.ones(len(block), dtype=torch.bool)
        indices = cast("list[int]", block.tolist())  # pyright: ignore[reportUnknownMemberType]
        for position, index in enumerate(indices):
            if open_[position]:
                kept.append(index)
                open_ &= ~close[position]
    return torch.tensor(kept, dtype=torch.long)


def _farther(left: Tensor, right: Tensor, distance: float) -> Tensor:
    """Which pairs are farther apart than `distance`; distances that are equal as fractions compare equal."""
    limit = torch.tensor(distance, dtype=torch.float32, device=left.device)
    return tanimoto_distance(left, right) > limit


def _check_fingerprints(fingerprints: Tensor) -> None:
    if fingerprints.ndim != 2:
        raise InputError(f"`fingerprints` must have shape (N, B); got {tuple(fingerprints.shape)}")
