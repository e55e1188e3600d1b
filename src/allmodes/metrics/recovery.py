"""Share of a known set of good answers that samples of a prompt recover (HypoSpace, Chen et al. 2025).

`answers` are the samples' answers in any hashable form, None for none; `admissible` is the known set.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from allmodes.errors import InputError


def valid_rate(answers: Sequence[Hashable], admissible: Collection[Hashable]) -> float:
    """Share of the samples whose answer is admissible. Raises InputError for no samples or an empty set.

    >>> valid_rate(["a", "a", "b", "x"], {"a", "b", "c", "d"})
    0.75
    """
    return _counts(answers, admissible).total() / len(answers)


def uniqueness(answers: Sequence[Hashable], admissible: Collection[Hashable]) -> float:
    """Distinct admissible answers divided by samples with an admissible answer; NaN if there is none.

    It is at most |admissible| / valid samples, so compare it at equal numbers of samples. Raises InputError
    as `valid_rate` does.

    >>> round(uniqueness(["a", "a", "b", "x"], {"a", "b", "c", "d"}), 4)
    0.6667
    """
    counts = _counts(answers, admissible)
    return len(counts) / counts.total() if counts else math.nan


def recovery_rate(answers: Sequence[Hashable], admissible: Collection[Hashable]) -> float:
    """Share of the admissible answers that the samples contain. Raises InputError as `valid_rate` does.

    >>> recovery_rate(["a", "a", "b", "x"], {"a", "b", "c", "d"})
    0.5
    """
    return len(_counts(answers, admissible)) / len(set(admissible))


def cumulative_recovery(answers: Sequence[Hashable], admissible: Collection[Hashable]) -> list[float]:
    """Expected recovery rate of k of the n samples, drawn without replacement, for k = 1 .. n.

    R_k = 1/|S| · Σ_{o ∈ S} [1 − C(n − c_o, k) / C(n, k)],  c_o: samples with the answer o

    The mean over all orders of the samples; R_1 is the valid rate / |S|, R_n the recovery rate. Raises
    InputError as `valid_rate` does.

    >>> [round(rate, 4) for rate in cumulative_recovery(["a", "a", "b"], {"a", "b"})]
    [0.5, 0.8333, 1.0]
    """
    n, size = len(answers), len(set(admissible))
    times = Counter(_counts(answers, admissible).values())
    curve = [0.0] * n
    for count, outcomes in times.items():
        missed = 1.0  # C(n − c, k) / C(n, k), from k − 1 to k
        for k in range(1, n + 1):
            missed *= max(0, n - count - k + 1) / (n - k + 1)
            curve[k - 1] += outcomes * (1 - missed) / size
    return curve


def _counts(answers: Sequence[Hashable], admissible: Collection[Hashable]) -> Counter[Hashable]:
    """Number of samples of each admissible answer."""
    if len(answers) == 0 or len(admissible) == 0:
        name = "answers" if len(answers) == 0 else "admissible"
        raise InputError(f"`{name}` must hold at least one answer; got none")
    wanted = set(admissible)
    return Counter(answer for answer in answers if answer is not None and answer in wanted)
