"""Diversity of the generations of one prompt: words, meanings, classes, answers."""

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from allmodes.checks import check_finite
from allmodes.errors import InputError

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Split a text into runs of letters, digits and underscores, and single other visible characters."""
    return _WORD.findall(text)


def ead(responses: Sequence[Sequence[Hashable]], *, vocabulary_size: int, max_n: int = 5) -> float:
    """Expectation-adjusted distinct n-grams, averaged over n = 1 .. max_n.

    EAD_n = N / (V (1 − ((V − 1)/V)^C))

    responses: the tokens of each response; their n-grams are pooled. N: number of distinct n-grams, C: number
    of all n-grams, V: vocabulary size, the same for every n (Kirk et al. 2023 use 50257). An n longer than
    all responses is left out; NaN if none is left. Raises InputError for V < 2 or max_n < 1. Source: Liu et
    al. 2022.

    >>> round(ead([["a", "b"], ["a", "c"]], vocabulary_size=100, max_n=1), 4)
    0.7613
    """
    if vocabulary_size < 2 or max_n < 1:
        raise InputError(
            f"`vocabulary_size` must be at least 2 and `max_n` at least 1; got {vocabulary_size} and {max_n}"
        )
    values: list[float] = []
    for n in range(1, max_n + 1):
        distinct: set[tuple[Hashable, ...]] = set()
        for tokens in responses:
            distinct.update(zip(*(tokens[i:] for i in range(n)), strict=False))
        if distinct:
            total = sum(max(0, len(tokens) - n + 1) for tokens in responses)
            # V (1 − (1 − 1/V)^C), without the cancellation of 1 − (1 − tiny)
            expected = -vocabulary_size * math.expm1(total * math.log1p(-1 / vocabulary_size))
            values.append(len(distinct) / expected)
    return math.fsum(values) / len(values) if values else math.nan


def semantic_diversity(embeddings: Tensor) -> float:
    """Mean of 1 − cosine similarity over all pairs of different responses.

    embeddings: (N, D), from any embedder. NaN for fewer than two. Raises InputError for another shape, values
    that are not finite, or an embedding of length 0. Source: MARA, appendix C.3.

    >>> semantic_diversity(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    if embeddings.ndim != 2:
        raise InputError(f"`embeddings` must have shape (N, D); got {tuple(embeddings.shape)}")
    check_finite("embeddings", embeddings)
    count = len(embeddings)
    if count < 2:
        return math.nan
    lengths = embeddings.double().square().sum(1, keepdim=True).sqrt()
    if bool((lengths == 0).any()):
        raise InputError("`embeddings` must not be zero vectors: they have no direction")
    total = (embeddings.double() / lengths).sum(0)
    # The sum over ordered pairs is |Σ e|² − N for unit vectors e.
    return float(1 - (total.dot(total) - count) / (count * (count - 1)))


SHORT_ANSWER = 5  # words; NoveltyBench compares shorter or equal answers by their words only


def same_short_answer(one: str, other: str) -> bool:
    """NoveltyBench's rule for answers of at most five words: 2 · distinct words shared ≥ words of the longer.

    A repeated word counts once among the shared words but every time in the length, as in the benchmark's
    code: "ha ha ha" and "ha no" are two classes. Unlike in that code, equal texts are always the same, also
    "ha ha ha". Words are lower-cased and split at white space. Source: Zhang et al. 2025.

    >>> same_short_answer("a red fox", "red fox")
    True
    """
    words, others = one.lower().split(), other.lower().split()
    return words == others or 2 * len({*words} & {*others}) >= max(len(words), len(others))


def partition(responses: Sequence[str], same: Callable[[str, str], bool]) -> list[int]:
    """Class of each response, from 0: the first class whose *first* member is the same, or a new class.

    Greedy, in the order of the responses, as NoveltyBench does it. Source: Zhang et al. 2025.

    >>> partition(["yes", "no", "Yes"], lambda one, other: one.lower() == other.lower())
    [0, 1, 0]
    """
    firsts: list[str] = []
    classes: list[int] = []
    for response in responses:
        found = next((index for index, first in enumerate(firsts) if same(first, response)), len(firsts))
        if found == len(firsts):
            firsts.append(response)
        classes.append(found)
    return classes


def distinct_k(classes: Sequence[Hashable]) -> int:
    """Number of different classes among k responses. Source: NoveltyBench, Zhang et al. 2025.

    >>> distinct_k(["a", "b", "a"])
    2
    """
    return len(set(classes))


def novelty_utility(classes: Sequence[Hashable], scores: Sequence[float], *, patience: float = 0.8) -> float:
    """Utility of reading k responses in order if only new classes are useful.

    U = Σ pⁱ sᵢ / Σ pⁱ,   i = 0 .. k − 1,   sᵢ = 0 unless response i is the first of its class

    Raises InputError for lengths that disagree, no responses, or a patience outside (0, 1].
    Source: NoveltyBench, Zhang et al. 2025, p = 0.8.

    >>> round(novelty_utility(["a", "b", "a"], [1.0, 1.0, 1.0]), 4)
    0.7377
    """
    if len(classes) != len(scores) or not classes:
        raise InputError(
            f"expected as many scores as classes, at least one; got {len(scores)}, {len(classes)}"
        )
    if not 0 < patience <= 1:
        raise InputError(f"`patience` must lie in (0, 1]; got {patience}")
    seen: set[Hashable] = set()
    gained: list[float] = []
    total = math.fsum(patience**index for index in range(len(classes)))
    for index, (which, score) in enumerate(zip(classes, scores, strict=True)):
        gained.append(0.0 if which in seen else patience**index / total * score)  # no sum above the largest
        seen.add(which)
    return math.fsum(gained)


def answer_entropy(answers: Sequence[Hashable | None]) -> float:
    """Entropy of the empirical distribution of valid answers, nats; None marks an invalid answer.

    NaN if no answer is valid. Source: MARA, Figure 10 (of 1s and 2s).

    >>> round(answer_entropy(["1", "2", "2", "1", None]), 4)
    0.6931
    """
    return count_entropy(Counter(answer for answer in answers if answer is not None).values())


def count_entropy(counts: Iterable[int]) -> float:
    """Shannon entropy of the distribution of counts, nats; NaN if all are 0.

    >>> round(count_entropy([3, 1]), 4)
    0.5623
    """
    numbers = [count for count in counts if count > 0]
    total = sum(numbers)
    if total == 0:
        return math.nan
    return math.fsum(-n / total * math.log(n / total) for n in numbers) + 0.0


def vendi_score(similarities: Tensor) -> float:
    """Effective number of different items: exp of the entropy of the eigenvalues of K/n.

    similarities: (n, n), symmetric, positive semi-definite, 1 on the diagonal. Raises InputError for another
    shape, a matrix that is not symmetric, a diagonal that is not 1, or a negative eigenvalue.
    Source: Friedman & Dieng 2023.

    >>> round(vendi_score(torch.eye(3)), 4)
    3.0
    """
    if similarities.ndim != 2 or similarities.shape[0] != similarities.shape[1] or len(similarities) == 0:
        raise InputError(f"`similarities` must have shape (n, n); got {tuple(similarities.shape)}")
    kernel = similarities.double()
    check_finite("similarities", kernel)
    if float((kernel - kernel.T).abs().max()) > 1e-6 or float((kernel.diagonal() - 1).abs().max()) > 1e-6:
        raise InputError("`similarities` must be symmetric with 1 on the diagonal")
    shares = cast("Tensor", torch.linalg.eigvalsh(kernel / len(kernel)))  # pyright: ignore[reportUnknownMemberType]
    if float(shares.min()) < -1e-6:
        raise InputError(f"`similarities` must have no negative eigenvalue; got {float(shares.min()):.3g}")
    shares = shares.clamp(min=0)
    return float(torch.xlogy(shares, shares).sum().neg().exp())


def pass_at_k(samples: int, correct: int, *, k: int) -> float:
    """Probability that at least one of k samples, drawn without replacement, is correct.

    1 − C(n − c, k) / C(n, k)

    Raises InputError unless 0 ≤ c ≤ n and 1 ≤ k ≤ n. Source: Chen et al. 2021.

    >>> round(pass_at_k(10, 2, k=5), 4)
    0.7778
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise InputError(
            f"expected 0 <= correct <= samples and 1 <= k <= samples; got {correct}, {samples}, {k}"
        )
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def max_at_k(rewards: Sequence[float], *, k: int) -> float:
    """Expected largest reward of k samples drawn without replacement: Σ C(i−1, k−1)/C(n, k) r_(i).

    r_(i): the i-th smallest. Raises InputError unless 1 ≤ k ≤ n, or for rewards that are not finite.
    Source: Tang et al. 2025.

    >>> round(max_at_k([0.0, 0.5, 1.0], k=2), 4)
    0.8333
    """
    n = len(rewards)
    if not 1 <= k <= n:
        raise InputError(f"`k` must lie between 1 and the number of rewards, {n}; got {k}")
    bad = next((reward for reward in rewards if not math.isfinite(reward)), None)
    if bad is not None:
        raise InputError(f"`rewards` must be finite; got {bad}")
    ordered = sorted(rewards)
    weight, terms = k / n, [k / n * ordered[-1]]
    for i in range(n - 1, k - 1, -1):  # C(i−1, k−1) = C(i, k−1) (i − k + 1)/i, from the largest down
        weight *= (i - k + 1) / i
        terms.append(weight * ordered[i - 1])
    return math.fsum(terms)
