"""Diversity and best-of-k metrics of one prompt against enumeration, closed forms and exact fractions."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.metrics import (
    answer_entropy,
    count_entropy,
    distinct_k,
    ead,
    max_at_k,
    novelty_utility,
    partition,
    pass_at_k,
    same_short_answer,
    semantic_diversity,
    vendi_score,
)

PROPERTY = settings(deadline=None, max_examples=150)
RESPONSES = st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=6)


# --- EAD ------------------------------------------------------------------------------------------------


def exact_ead(responses: Sequence[Sequence[object]], vocabulary_size: int, max_n: int) -> float:
    """The formula as printed, in exact fractions."""
    values = []
    for n in range(1, max_n + 1):
        grams = Counter(tuple(r[i : i + n]) for r in responses for i in range(max(0, len(r) - n + 1)))
        if grams:
            missed = Fraction(vocabulary_size - 1, vocabulary_size) ** grams.total()
            values.append(Fraction(len(grams)) / (vocabulary_size * (1 - missed)))
    return float(sum(values) / len(values)) if values else math.nan


@PROPERTY
@given(responses=RESPONSES, vocabulary_size=st.integers(2, 50_257), max_n=st.integers(1, 6))
def test_ead_is_the_formula_in_exact_fractions(
    responses: list[list[int]], vocabulary_size: int, max_n: int
) -> None:
    actual = ead(responses, vocabulary_size=vocabulary_size, max_n=max_n)
    assert actual == pytest.approx(exact_ead(responses, vocabulary_size, max_n), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(("vocabulary_size", "length"), [(2, 1), (2, 6), (3, 4), (5, 3)])
def test_ead_of_uniform_tokens_is_one_on_average(vocabulary_size: int, length: int) -> None:
    """The expectation that EAD adjusts for, over every string of so many uniform tokens."""
    strings = list(itertools.product(range(vocabulary_size), repeat=length))
    values = [ead([string], vocabulary_size=vocabulary_size, max_n=1) for string in strings]
    assert math.fsum(values) / len(values) == pytest.approx(1, abs=1e-12)


def test_ead_by_hand() -> None:
    """V = 4. Unigrams: 3 of 5 (a b a | b c). Bigrams ab, ba, bc: 3 of 3; they do not join two responses."""
    one = 3 / (4 * (1 - 0.75**5))
    two = 3 / (4 * (1 - 0.75**3))
    three = 1 / (4 * 0.25)
    responses = ["aba", "bc"]
    assert ead(responses, vocabulary_size=4, max_n=1) == pytest.approx(one, rel=1e-14)
    assert ead(responses, vocabulary_size=4, max_n=2) == pytest.approx((one + two) / 2, rel=1e-14)
    assert ead(responses, vocabulary_size=4) == pytest.approx((one + two + three) / 3, rel=1e-14)


def test_ead_of_a_huge_vocabulary_is_the_share_of_distinct_ngrams() -> None:
    """V → ∞, where 1 − ((V − 1)/V)^C has nothing left in 64 bits."""
    assert ead(["aabbc"], vocabulary_size=10**17, max_n=1) == pytest.approx(3 / 5, rel=1e-14)


def test_ead_of_endless_text_is_the_covered_share_of_the_vocabulary() -> None:
    """C → ∞."""
    assert ead(["abc" * 5000], vocabulary_size=12, max_n=1) == pytest.approx(3 / 12, rel=1e-14)


@PROPERTY
@given(responses=RESPONSES, data=st.data())
def test_ead_knows_no_order_of_responses_and_no_names_of_tokens(
    responses: list[list[int]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(responses))
    names = data.draw(st.permutations("vwxyz"))
    renamed = [[names[token] for token in response] for response in shuffled]
    expected = ead(responses, vocabulary_size=99)
    assert ead(renamed, vocabulary_size=99) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_ead_without_words_and_with_wrong_settings() -> None:
    assert math.isnan(ead([], vocabulary_size=10))
    assert math.isnan(ead([[], []], vocabulary_size=10))
    for vocabulary_size, max_n in ((1, 5), (0, 5), (10, 0)):
        with pytest.raises(InputError, match="`vocabulary_size` must be at least 2 and `max_n` at least 1"):
            ead(["ab"], vocabulary_size=vocabulary_size, max_n=max_n)


# --- semantic diversity ---------------------------------------------------------------------------------


def embed(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@PROPERTY
@given(count=st.integers(2, 12), size=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_semantic_diversity_is_the_mean_over_pairs(count: int, size: int, seed: int) -> None:
    embeddings = embed(count, size, seed)
    pairs = list(itertools.combinations(embeddings, 2))
    expected = sum(1 - float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairs) / len(pairs)
    assert semantic_diversity(embeddings) == pytest.approx(expected, abs=1e-12)
    lengths = torch.rand(count, 1, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert semantic_diversity((lengths * embeddings)[order]) == pytest.approx(expected, abs=1e-12)


def test_semantic_diversity_of_known_directions() -> None:
    assert semantic_diversity(torch.eye(5)) == pytest.approx(1, abs=1e-15)
    assert semantic_diversity(torch.ones(7, 3)) == pytest.approx(0, abs=1e-15)
    assert semantic_diversity(torch.tensor([[1.0, 0.0], [-4.0, 0.0]])) == pytest.approx(2, abs=1e-15)


def test_semantic_diversity_of_too_few_and_of_wrong_embeddings() -> None:
    assert math.isnan(semantic_diversity(torch.ones(1, 3)))
    assert math.isnan(semantic_diversity(torch.ones(0, 3)))
    with pytest.raises(InputError, match=r"must have shape \(N, D\); got \(3,\)"):
        semantic_diversity(torch.ones(3))
    with pytest.raises(InputError, match="must be finite"):
        semantic_diversity(torch.tensor([[1.0], [math.nan]]))
    with pytest.raises(InputError, match="zero vectors"):
        semantic_diversity(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


# --- NoveltyBench ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Paris", "paris", True),
        ("  the   Seine ", "The\tseine", True),
        ("New York", "York", True),  # 2 · 1 ≥ 2
        ("New York City", "York", False),  # 2 · 1 < 3
        ("New York City", "New York", True),
        ("a b c d", "c d e f", True),  # 2 · 2 ≥ 4
        ("a b c d e", "d e f", False),
        ("la la", "la", True),  # 2 · 1 ≥ 2
        ("la la la", "la", False),  # 2 · 1 < 3: a word that is repeated is shared once
        ("ha ha ha", "ha no", False),
        ("ha no ha", "no ha", True),  # 2 · 2 ≥ 3
        ("la la la", "La  la la", True),  # equal
        ("Paris", "Lyon", False),
        ("", "Paris", False),
        ("", " ", True),
    ],
)
def test_same_short_answer(one: str, other: str, same: bool) -> None:
    assert same_short_answer(one, other) is same
    assert same_short_answer(other, one) is same


def test_partition_compares_with_the_first_member_alone() -> None:
    """b joins a and c joins b, but c is not like a: it opens a class; d is like both and joins the first."""
    near = {frozenset("ab"), frozenset("bc"), frozenset("ad"), frozenset("cd")}

    def same(one: str, other: str) -> bool:
        return one == other or frozenset((one, other)) in near

    assert partition(["a", "b", "c", "d", "c", "a"], same) == [0, 0, 1, 0, 1, 0]
    assert partition([], same) == []


@PROPERTY
@given(responses=st.lists(st.sampled_from("abcdefg"), max_size=15))
def test_partition_by_equality_numbers_the_values_in_their_order(responses: list[str]) -> None:
    order = list(dict.fromkeys(responses))
    classes = partition(responses, str.__eq__)
    assert classes == [order.index(response) for response in responses]
    assert distinct_k(classes) == len(set(responses))


@PROPERTY
@given(responses=st.lists(st.lists(st.sampled_from("pqrst"), max_size=4).map(" ".join), max_size=12))
def test_every_response_is_like_the_first_of_its_class_and_of_no_class_before(responses: list[str]) -> None:
    classes = partition(responses, same_short_answer)
    firsts: dict[int, str] = {}
    for which, response in zip(classes, responses, strict=True):
        first = firsts.setdefault(which, response)
        assert same_short_answer(first, response)
        assert not any(same_short_answer(firsts[i], response) for i in range(which))
    assert sorted(firsts) == list(range(len(firsts)))


def test_novelty_utility_by_hand() -> None:
    """New at ranks 0, 1 and 3: (4 + .8 · 2 + .512 · 10)/(1 + .8 + .64 + .512); the repeat's 9 is nothing."""
    value = novelty_utility([0, 1, 0, 2], [4, 2, 9, 10])
    assert value == pytest.approx((4 + 1.6 + 5.12) / 2.952, rel=1e-14)
    assert novelty_utility("xyx", [1, 0.5, 1], patience=1) == pytest.approx(1.5 / 3, rel=1e-14)


@PROPERTY
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.floats(0, 10)), min_size=1, max_size=10),
    patience=st.floats(0.01, 1),
)
def test_novelty_utility_lies_between_none_and_the_best(
    rows: list[tuple[int, float]], patience: float
) -> None:
    classes, scores = [which for which, _ in rows], [score for _, score in rows]
    value = novelty_utility(classes, scores, patience=patience)
    assert -1e-12 <= value <= max(scores) + 1e-9
    # all in one class: the first score over Σ pⁱ; all in their own: the weighted mean
    weights = [patience**i for i in range(len(rows))]
    first = novelty_utility([0] * len(rows), scores, patience=patience)
    assert first == pytest.approx(scores[0] / sum(weights), rel=1e-12)
    mean = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
    assert novelty_utility(range(len(rows)), scores, patience=patience) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("patience", [0.0, -0.5, 1.01, math.nan])
def test_novelty_utility_refuses_a_patience_outside_its_range(patience: float) -> None:
    with pytest.raises(InputError, match="`patience` must lie in"):
        novelty_utility([0], [1.0], patience=patience)


def test_novelty_utility_refuses_lengths_that_disagree() -> None:
    for classes, scores in (([], []), ([0], []), ([0, 1], [1.0])):
        with pytest.raises(InputError, match="expected as many scores as classes"):
            novelty_utility(classes, scores)


# --- answers --------------------------------------------------------------------------------------------


@PROPERTY
@given(answers=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20))
def test_answer_entropy_against_torch(answers: list[str | None]) -> None:
    counts = torch.tensor([float(answers.count(a)) for a in "abc"], dtype=torch.float64)
    value = answer_entropy(answers)
    if counts.sum() == 0:
        assert math.isnan(value)
    else:
        shares = counts / counts.sum()
        assert value == pytest.approx(float(-torch.xlogy(shares, shares).sum()), abs=1e-12)


def test_answer_entropy_by_hand() -> None:
    assert answer_entropy([1, 2, 1, 2, None]) == pytest.approx(math.log(2), rel=1e-14)
    assert answer_entropy([1, 1, 1, 2]) == pytest.approx(
        math.log(4) - 0.75 * math.log(3), rel=1e-14
    )  # ¾ log 4/3 + ¼ log 4
    alone = answer_entropy(["1"] * 3)
    assert alone == 0
    assert math.copysign(1, alone) == 1  # prints as 0, not as -0


# --- Vendi score ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_vendi_score_of_all_alike_and_of_all_different(n: int) -> None:
    assert vendi_score(torch.eye(n)) == pytest.approx(n, rel=1e-9)
    assert vendi_score(torch.ones(n, n)) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("sizes", [(3, 3, 3), (1, 5), (2, 3, 7, 1)])
def test_vendi_score_of_blocks_is_that_of_their_shares(sizes: tuple[int, ...]) -> None:
    """Copies within a block, nothing in common between blocks: exp of the entropy of the sizes."""
    kernel = torch.block_diag(*[torch.ones(size, size) for size in sizes])
    n = sum(sizes)
    expected = math.exp(-sum(size / n * math.log(size / n) for size in sizes))
    assert vendi_score(kernel) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("similarity", [0.0, 0.3, -0.25, 0.99])
def test_vendi_score_of_equally_similar_items(similarity: float) -> None:
    """(1 − s) I + s 11ᵀ: one eigenvalue (1 + (n − 1) s)/n and n − 1 of (1 − s)/n."""
    n = 4
    kernel = (1 - similarity) * torch.eye(n, dtype=torch.float64) + similarity
    shares = [(1 + (n - 1) * similarity) / n] + [(1 - similarity) / n] * (n - 1)
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert vendi_score(kernel) == pytest.approx(expected, rel=1e-9)


@PROPERTY
@given(count=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_vendi_score_knows_no_order_and_no_copies(count: int, seed: int) -> None:
    """Every item twice changes no share; the score lies between 1 and n."""
    unit = torch.nn.functional.normalize(embed(count, 4, seed), dim=1)
    kernel = unit @ unit.T
    score = vendi_score(kernel)
    assert 1 - 1e-9 <= score <= min(count, 4) + 1e-6
    twice = torch.randperm(2 * count, generator=torch.Generator().manual_seed(seed)) % count
    assert vendi_score(kernel[twice][:, twice]) == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (torch.ones(2, 3), r"must have shape \(n, n\)"),
        (torch.ones(3), r"must have shape \(n, n\)"),
        (torch.ones(0, 0), r"must have shape \(n, n\)"),
        (torch.tensor([[1.0, 0.5], [0.2, 1.0]]), "symmetric"),
        (2 * torch.eye(2), "1 on the diagonal"),
        (torch.tensor([[1.0, math.nan], [math.nan, 1.0]]), "must be finite"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "no negative eigenvalue; got -0.5"),
    ],
)
def test_vendi_score_refuses_what_is_no_kernel(kernel: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vendi_score(kernel)


# --- pass@k and max@k -----------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(samples: int) -> None:
    for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
        subsets = list(itertools.combinations([i < correct for i in range(samples)], k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(samples, correct, k=k) == pytest.approx(expected, abs=1e-15)


def test_pass_at_k_of_many_samples() -> None:
    """C(n, k) is beyond floats; 1 − Π (1 − k/(n − j)) over the c correct ones is not."""
    expected = 1 - math.prod(1 - 500 / (10_000 - j) for j in range(7))
    assert pass_at_k(10_000, 7, k=500) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("samples", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4), (0, 0, 1)]
)
def test_pass_at_k_refuses_counts_that_cannot_be(samples: int, correct: int, k: int) -> None:
    with pytest.raises(InputError, match="expected 0 <= correct <= samples"):
        pass_at_k(samples, correct, k=k)


REWARDS = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(-10, 10), min_size=1, max_size=7)


@PROPERTY
@given(rewards=REWARDS, data=st.data())
def test_max_at_k_is_the_mean_maximum_over_subsets(rewards: list[float], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rewards))
    for k in range(1, len(rewards) + 1):
        maxima = [max(subset) for subset in itertools.combinations(rewards, k)]
        assert max_at_k(shuffled, k=k) == pytest.approx(math.fsum(maxima) / len(maxima), abs=1e-12)


@PROPERTY
@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=30))
def test_max_at_k_of_correctness_is_pass_at_k(outcomes: list[bool]) -> None:
    for k in range(1, len(outcomes) + 1):
        expected = pass_at_k(len(outcomes), sum(outcomes), k=k)
        assert max_at_k([float(o) for o in outcomes], k=k) == pytest.approx(expected, abs=1e-12)


def test_max_at_k_of_many_samples() -> None:
    """The weights are those of binomial coefficients, which are beyond floats; seconds would be too long."""
    rewards = [float((7 * i) % 3000) for i in range(3000)]
    ways = math.comb(3000, 700)
    ordered = enumerate(sorted(rewards), start=1)
    expected = float(sum(Fraction(math.comb(i - 1, 699), ways) * int(reward) for i, reward in ordered))
    assert max_at_k(rewards, k=700) == pytest.approx(expected, rel=1e-12)


def test_max_at_k_refuses_wrong_input() -> None:
    for k in (0, 3):
        with pytest.raises(InputError, match="`k` must lie between 1 and the number of rewards, 2; got"):
            max_at_k([1.0, 2.0], k=k)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(InputError, match="`rewards` must be finite"):
            max_at_k([1.0, bad], k=2)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_entropy_of_counts_is_that_of_the_answers(counts: list[int]) -> None:
    answers = [str(which) for which, count in enumerate(counts) for _ in range(count)]
    assert count_entropy(counts) == pytest.approx(answer_entropy(answers), abs=1e-12, nan_ok=True)
    if sum(counts):
        shares = [count / sum(counts) for count in counts]
        assert count_entropy(counts) == pytest.approx(-sum(p * math.log(p) for p in shares if p), abs=1e-12)
