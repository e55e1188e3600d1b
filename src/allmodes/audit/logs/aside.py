"""Find rows of a log that are not training samples: copies of a generation, and rows of evaluations."""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import final

import torch
from torch import Tensor

from allmodes.objectives.groups import Groups, group_size, pair_groups

_CHANCE = 1e-3  # largest probability of a repeated block by chance, over the whole log


def mixed(digest: Tensor, bits: Tensor) -> Tensor:
    """Mix one more number into 64-bit digests, which wrap around."""
    product = (digest ^ bits) * 0x9E3779B97F4A7C15  # odd: no two products are the same
    return product ^ (product >> 29)


def mixed_columns(columns: list[Tensor | None], count: int) -> Tensor:
    """A number for each row, (N,), equal for rows that are equal in all given columns."""
    digest = torch.zeros(count, dtype=torch.long)
    for column in columns:
        if column is not None:
            digest = mixed(
                digest, column.view(torch.long) if column.dtype == torch.float64 else column.long()
            )
    return digest


@final
@dataclass(frozen=True)
class Blocks:
    """The rows of each step, in the order of the log. rows: (M,). starts: B + 1, of blocks in `rows`."""

    rows: Tensor
    starts: list[int]
    steps: list[int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, block: int) -> Tensor:
        """The rows of a block."""
        return self.rows[self.starts[block] : self.starts[block + 1]]


def blocks_of(steps: Tensor, chosen: Tensor) -> Blocks:
    """Blocks of the chosen rows that have a step, in the order of the steps. Arguments are (N,)."""
    rows = torch.argsort(steps, stable=True)
    rows = rows[(steps[rows] >= 0) & chosen[rows]]
    own, counts = torch.unique_consecutive(steps[rows], return_counts=True)
    return Blocks(rows, [0, *counts.cumsum(0).tolist()], own.tolist())


def copies(blocks: Blocks, digests: Tensor, prompts: Tensor, *, rolling: bool) -> Tensor:
    """Which rows repeat an earlier step in the same order, (N,): one generation may serve several updates.

    A block is a copy if it equals an earlier block row by row and chance does not explain it: B Π f < 0.001,
    with B blocks and f the share of each row among the rows of its prompt. rolling: whether a block may also
    begin with the last rows of the block before, as in TRL's window over generations.

    digests: (N,), of all columns but the step. prompts: (N,).
    """
    is_copy = torch.zeros(len(digests), dtype=torch.bool)
    if len(blocks) < 2:
        return is_copy
    surprise = _surprise(digests, prompts)
    enough = math.log(len(blocks)) - math.log(_CHANCE)
    seen: dict[tuple[int, int], int] = {}
    ordered, sums = (
        digests[blocks.rows],
        torch.cat([torch.zeros(1).double(), surprise[blocks.rows].cumsum(0)]),
    )
    keys = _block_keys(blocks, ordered)
    for block in range(len(blocks)):
        start, end = blocks.starts[block], blocks.starts[block + 1]
        first = seen.setdefault((keys[block], end - start), block)
        count = end - start if first < block else 0
        if not count and rolling and block > 0:
            count = _overlap(ordered[blocks.starts[block - 1] : start], ordered[start:end])
        if count and float(sums[start + count] - sums[start]) > enough:
            is_copy[blocks.rows[start : start + count]] = True
    return is_copy


def _surprise(digests: Tensor, prompts: Tensor) -> Tensor:
    """−log of the share of each row among those of its prompt, (N,)."""
    _, index = torch.unique(digests, return_inverse=True)
    groups = Groups(index=prompts, count=int(prompts.max()) + 1)
    same = pair_groups(index, groups)
    return -(group_size(same)[same.index].double() / group_size(groups)[prompts]).log()


def _block_keys(blocks: Blocks, ordered: Tensor) -> list[int]:
    """A digest of each block, which depends on the order of its rows."""
    sizes = torch.tensor(blocks.starts).diff()
    index = torch.repeat_interleave(torch.arange(len(blocks)), sizes)
    place = torch.arange(len(ordered)) - torch.tensor(blocks.starts[:-1])[index]
    sums = torch.zeros(len(blocks), dtype=torch.long).index_add_(
        0, index, mixed(ordered, mixed(place, place))
    )
    return sums.tolist()


def _overlap(before: Tensor, block: Tensor) -> int:
    """The number of last rows of the previous block that a block begins with."""
    for start in (before == block[0]).nonzero().squeeze(1).tolist():
        count = len(before) - start
        if count <= len(block) and torch.equal(before[start:], block[:count]):
            return count
    return 0


def evaluations(blocks: Blocks, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows of TRL's log are of evaluations, and which may be, both (N,), from prompts and steps.

    An evaluation uses the same prompts in the same order at every d-th step, and TRL writes its rows at the
    end of a step's rows or instead of them. Two patterns mark evaluations: the steps k·d end with the same
    two or more prompts, which no other row has; or the last groups of a step differ in size from those of the
    training and have prompts that the training does not have. If several sets of steps end alike, as with
    epochs in a fixed order, the rows only may be of evaluations.
    """
    found, suspected = (torch.zeros(len(prompts), dtype=torch.bool) for _ in range(2))
    by_last: dict[int, list[int]] = {}
    for block in range(len(blocks)):
        by_last.setdefault(int(prompts[blocks.of(block)[-1]]), []).append(block)
    alike = [
        (which, tail)
        for which in by_last.values()
        if (tail := _common_tail(blocks, prompts, which)) is not None
    ]
    regular = [tail for which, tail in alike if _is_regular([blocks.steps[block] for block in which])]
    for rows in regular:
        (found if len(alike) == 1 else suspected)[rows] = True
    if not alike and len(blocks):
        for rows in _of_another_size(blocks, prompts):
            found[rows] = True
    return found, suspected


def _is_regular(steps: list[int]) -> bool:
    """Whether all are multiples of the smallest distance between two of them."""
    spacing = min(later - earlier for earlier, later in pairwise(steps))
    return not any(step % spacing for step in steps)


def _common_tail(blocks: Blocks, prompts: Tensor, which: list[int]) -> Tensor | None:
    """The last rows of some blocks whose prompts agree and occur in no other row; None if there are none."""
    if len(which) < 2:
        return None
    own = [prompts[blocks.of(block)].flip(0) for block in which]
    shortest = min(map(len, own))
    agree = torch.stack([values[:shortest] == own[0][:shortest] for values in own]).all(0)
    count = int(agree.long().cumprod(0).sum())
    if len(which) == len(blocks) and count == shortest:  # the whole training, with one batch
        return None
    asked = torch.unique(own[0][:count])
    rows = torch.cat([blocks.of(block)[-count:] for block in which])
    is_own = int(torch.isin(prompts, asked).sum()) == len(rows)
    return rows if len(asked) > 1 and is_own else None


def _of_another_size(blocks: Blocks, prompts: Tensor) -> list[Tensor]:
    """Rows of last groups of steps whose size differs from the training's and whose prompts are new."""
    runs = [_runs(prompts[blocks.of(block)]) for block in range(len(blocks))]
    sizes = Counter(size for own in runs for _, size in own)
    commonest = sizes.most_common(1)[0][0]
    trained = {prompt for own in runs for prompt, size in own if size == commonest}
    found = []
    for block, own in enumerate(runs):
        last = own[-1][1]
        tail = list(takewhile(lambda run, last=last: run[1] == last and run[0] not in trained, reversed(own)))
        if last != commonest and len({prompt for prompt, _ in tail}) > 1:
            found.append(blocks.of(block)[-last * len(tail) :])
    return found


def _runs(values: Tensor) -> list[tuple[int, int]]:
    """Runs of equal values: the values and the lengths of the runs."""
    names, sizes = torch.unique_consecutive(values, return_counts=True)
    return list(zip(names.tolist(), sizes.tolist(), strict=True))
