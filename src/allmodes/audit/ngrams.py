"""Expectation-adjusted distinct n-grams over training; the texts are read from the log again."""

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from allmodes.metrics import ead
from allmodes.metrics.text import words
from allmodes.objectives.groups import Groups, group_common, group_first, sort_within_groups

_MOST_GROUPS, _MOST_OF_A_GROUP = 500, 256  # groups whose texts are read again, and samples of each
_VOCABULARY = 50257  # Kirk et al. 2023

Texts = Callable[[Sequence[int]], list[str]]
"""Indices of samples, ascending → their responses, read again, since a log in memory has no texts."""


def ead_of_groups(updates: Groups, steps: Tensor, texts: Texts) -> tuple[Tensor, Tensor]:
    """Steps and values of at most 500 groups, spread evenly over training, in the order of their steps.

    n-grams are of words, with V = 50257, of a group's first 256 samples. updates: the group of each sample.
    steps: (N,), −1 for a sample that is left out. Source: `allmodes.metrics.ead`.
    """
    order = torch.argsort(steps, stable=True)
    known = order[steps[order] >= 0]
    groups = updates.index[known]
    found = _in_order(groups)
    chosen = found[torch.linspace(0, len(found) - 1, min(len(found), _MOST_GROUPS)).round().long()]
    rows = known[torch.isin(groups, chosen)]
    order, rank = sort_within_groups(rows, Groups(index=updates.index[rows], count=updates.count))
    rows = rows[order[rank < _MOST_OF_A_GROUP]].sort().values
    tokens: dict[int, list[list[str]]] = {}
    for row, text in zip(rows.tolist(), texts(rows.tolist()), strict=True):
        # One string per distinct word: all words of 500 groups of long responses would take gigabytes.
        tokens.setdefault(int(updates.index[row]), []).append([*map(sys.intern, words(text))])
    values = [ead(tokens[group], vocabulary_size=_VOCABULARY) for group in chosen.tolist()]
    step_of = group_common(steps[known], Groups(index=groups, count=updates.count))
    return step_of[chosen], torch.tensor(values, dtype=torch.float64)


def _in_order(groups: Tensor) -> Tensor:
    """Each group once, in the order of the first samples."""
    distinct, index = torch.unique(groups, return_inverse=True)
    return distinct[group_first(Groups(index=index, count=len(distinct))).argsort()]
