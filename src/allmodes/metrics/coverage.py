"""How many good outcomes were found, and how soon."""

from torch import Tensor

from allmodes.checks import check_vector
from allmodes.errors import InputError


def count_hits(rewards: Tensor, *, threshold: float) -> int:
    """Yield: number of distinct outcomes whose raw reward reaches the threshold.

    rewards: (N,), one of each distinct outcome; NaN (a failed evaluation) is no hit. Source: MARA, C.5.
    """
    check_vector("rewards", rewards)
    return int((rewards >= threshold).sum())


def oracle_burden(rewards: Tensor, *, threshold: float, hits: int) -> int | None:
    """Oracle calls until the `hits`-th distinct outcome reached the threshold; OB100 has hits = 100.

    rewards: (N,) in the order of the calls, one of each distinct outcome; NaN is no hit. None when there are
    fewer hits: the figure is undefined then. Raises InputError for hits < 1. Source: MARA, C.5.
    """
    check_vector("rewards", rewards)
    if hits < 1:
        raise InputError(f"`hits` must be at least 1; got {hits}")
    calls = (rewards >= threshold).nonzero().squeeze(1)
    return int(calls[hits - 1]) + 1 if len(calls) >= hits else None
