"""The number of good outcomes found, and the number of oracle calls it took."""

import torch
from torch import Tensor

from allmodes.checks import check_vector
from allmodes.errors import InputError


def count_hits(rewards: Tensor, *, threshold: float) -> int:
    """Yield: number of distinct outcomes whose raw reward reaches the threshold.

    rewards: (N,), one per distinct outcome; NaN (a failed evaluation) is not a hit. Source: MARA, C.5.

    >>> count_hits(torch.tensor([0.9, 0.2, 0.8]), threshold=0.8)
    2
    """
    check_vector("rewards", rewards)
    return int((rewards >= threshold).sum())


def oracle_burden(rewards: Tensor, *, threshold: float, hits: int) -> int | None:
    """Oracle calls until the `hits`-th distinct outcome reached the threshold; OB100 has hits = 100.

    rewards: (N,) in the order of the calls, one per distinct outcome; NaN is not a hit. None if there are
    fewer hits: the figure is undefined then. Raises InputError for hits < 1. Source: MARA, C.5.

    >>> oracle_burden(torch.tensor([0.1, 0.9, 0.2, 0.8]), threshold=0.8, hits=2)
    4
    """
    check_vector("rewards", rewards)
    if hits < 1:
        raise InputError(f"`hits` must be at least 1; got {hits}")
    calls = (rewards >= threshold).nonzero().squeeze(1)
    return int(calls[hits - 1]) + 1 if len(calls) >= hits else None


def top_mean(rewards: Tensor, *, k: int) -> float:
    """Mean of the `k` largest rewards, or of all if there are fewer; NaN without any.

    rewards: (N,); NaN (a failed evaluation) is left out. Raises InputError for k < 1.

    >>> top_mean(torch.tensor([0.5, 1.0, 0.0]), k=2)
    0.75
    """
    check_vector("rewards", rewards)
    if k < 1:
        raise InputError(f"`k` must be at least 1; got {k}")
    known = rewards[~rewards.isnan()]
    return float(known.topk(min(k, len(known))).values.mean()) if len(known) else float("nan")


def top_k_auc(rewards: Tensor, *, k: int, budget: int, every: int = 100) -> float:
    """Area under the mean of the `k` best rewards so far against oracle calls, as a share of `budget`.

    1/B [Σ_j every (t_j + t_{j−1})/2 + (N − c)(t_N + t_c)/2 + (B − N) t_N],   t_0 = 0

    t_j: `top_mean` after j·every calls; c: the last multiple of `every` below N. A run that ended before its
    budget keeps its last value. rewards: (N,) in the order of the calls, one per distinct outcome; NaN is a
    call without a reward, and a mean over none is 0. Raises InputError for k, every or budget below 1,
    and for more rewards than the budget. Source: PMO, Gao et al. 2022.

    >>> top_k_auc(torch.tensor([0.5, 0.5, 1.0, 1.0]), k=1, budget=4, every=1)
    0.625
    """
    check_vector("rewards", rewards)
    for name, value in (("k", k), ("budget", budget), ("every", every)):
        if value < 1:
            raise InputError(f"`{name}` must be at least 1; got {value}")
    count = len(rewards)
    if count > budget:
        raise InputError(f"`rewards` must have at most `budget` = {budget} entries; got {count}")
    ends = [*range(every, count, every), count] if count else []
    area, last, start = 0.0, 0.0, 0
    best = rewards[:0]
    for end in ends:
        new = rewards[start:end]
        best = torch.cat([best, new[~new.isnan()]])
        best = best.topk(min(k, len(best))).values
        now = float(best.mean()) if len(best) else 0.0
        area += (end - start) * (now + last) / 2
        last, start = now, end
    return (area + (budget - count) * last) / budget
