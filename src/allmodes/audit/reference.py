"""Which samples stand for the reference's, and what each of them counts."""

import torch
from torch import Tensor

from allmodes.objectives.groups import Groups, group_max, group_mean, group_size, group_sum

_WORTH = 0.8  # of their number that weighted samples must be worth
_LARGEST = 50.0  # nats between two weights


def reference_samples(
    rewards: Tensor, steps: Tensor, gaps: Tensor | None, first_rows: Tensor, prompts: Groups
) -> tuple[Tensor, Tensor]:
    """Rows of samples, and the weight of every sample of the log, (N,).

    The samples of the first step, and where it is known how likely they were under policy and reference, as
    many steps as will do: those of later ones are weighted with w = π_ref(y)/π(y), as long as all so far are
    worth at least .8 of their number, (Σw)²/Σw² ≥ .8 N. All other weights are 1.

    rewards: (N,), NaN where missing. steps: (N,), −1 where missing. gaps: (N,), log π(y) − log π_ref(y), NaN
    where missing, or None. first_rows: samples with a reward of the first step. Weights are above 0, with a
    mean of 1 over a prompt. Source: Kong 1992, effective sample size of importance weights.
    """
    weights = torch.ones(len(rewards), dtype=torch.float64)
    if gaps is None:
        return first_rows, weights
    known = (~rewards.isnan() & ~gaps.isnan() & (steps >= 0)).nonzero().squeeze(1)
    if len(known) == 0 or int(steps[known].min()) > int(steps[first_rows].min()):
        return first_rows, weights
    distinct, step = torch.unique(steps[known], return_inverse=True)
    log_ratios = -gaps[known]
    scale = log_ratios[step == 0].max()  # for which (Σw)²/Σw² does not care, but a float does
    ratios = (log_ratios - scale).clamp(-_LARGEST, _LARGEST).exp()
    by_step = Groups(index=step, count=len(distinct))
    sums, squares = (group_sum(values, by_step).cumsum(0) for values in (ratios, ratios.square()))
    is_worth = sums.square() >= _WORTH * squares * group_size(by_step).cumsum(0)
    last = int(is_worth.long().cumprod(0).sum().clamp(min=1)) - 1
    chosen = step <= last
    rows = known[chosen]
    weights[rows] = _weights(log_ratios[chosen], Groups(index=prompts.index[rows], count=prompts.count))
    return rows, weights


def _weights(log_ratios: Tensor, groups: Groups) -> Tensor:
    """Their exponentials over the mean of each group, (N,); none is 0."""
    largest = group_max(log_ratios, groups)[groups.index]
    ratios = (log_ratios - largest).clamp(min=-_LARGEST).exp()
    return ratios / group_mean(ratios, groups)[groups.index]
