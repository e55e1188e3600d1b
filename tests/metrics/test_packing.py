"""Diversity of fingerprints against double loops in exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.metrics import internal_diversity, mean_pair_distance, num_circles
from allmodes.metrics.packing import tanimoto

PROPERTY = settings(deadline=None, max_examples=100)
PRINTS = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=12)


def similarity(left: int, right: int) -> Fraction:
    """Tanimoto similarity of two bit strings held in Python's integers."""
    union = (left | right).bit_count()
    return Fraction((left & right).bit_count(), union) if union else Fraction(1)


def bit_strings(fingerprints: Tensor) -> list[int]:
    return [sum(1 << bit for bit, on in enumerate(row) if on) for row in fingerprints.tolist()]


def greedy(strings: list[int], order: list[int], distance: Fraction) -> list[int]:
    """#Circles by its definition, one row and one kept row at a time."""
    kept: list[int] = []
    for index in order:
        if all(1 - similarity(strings[index], strings[other]) > distance for other in kept):
            kept.append(index)
    return kept


def random_prints(count: int, bits: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, bits, generator=generator) < 0.5


@PROPERTY
@given(rows=PRINTS)
def test_tanimoto(rows: list[list[bool]]) -> None:
    fingerprints = torch.tensor(rows)
    strings = bit_strings(fingerprints)
    expected = torch.tensor([[float(similarity(left, right)) for right in strings] for left in strings])
    torch.testing.assert_close(tanimoto(fingerprints, fingerprints).float(), expected, rtol=0, atol=1e-7)


@PROPERTY
@given(rows=PRINTS)
def test_internal_diversity(rows: list[list[bool]]) -> None:
    """All ordered pairs, each row with itself included; two empty rows are alike."""
    fingerprints = torch.tensor(rows)
    strings = bit_strings(fingerprints)
    total = sum((similarity(left, right) for left in strings for right in strings), Fraction(0))
    expected = 1 - total / len(strings) ** 2
    assert internal_diversity(fingerprints) == pytest.approx(float(expected), abs=1e-7)  # float32 inside


def test_internal_diversity_by_hand() -> None:
    """Similarities 1, 1, 1/3 and 1/3 over 4 pairs; in any numeric type."""
    fingerprints = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]])
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64):
        assert internal_diversity(fingerprints.to(dtype)) == pytest.approx(1 / 3, abs=1e-7)
    assert internal_diversity(torch.ones(5, 3)) == 0
    assert math.isnan(internal_diversity(torch.empty(0, 8)))


def test_internal_diversity_of_more_rows_than_a_block_holds() -> None:
    """2,500 rows of 5 bits are 32 patterns: counted exactly, pattern by pattern."""
    fingerprints = random_prints(2500, 5, seed=1)
    strings = bit_strings(fingerprints)
    counts = {pattern: strings.count(pattern) for pattern in set(strings)}
    total = sum(
        (m * n * similarity(left, right) for left, m in counts.items() for right, n in counts.items()),
        Fraction(0),
    )
    assert internal_diversity(fingerprints) == pytest.approx(float(1 - total / 2500**2), abs=1e-7)


@PROPERTY
@given(rows=PRINTS, distance=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_num_circles_in_the_given_order(rows: list[list[bool]], distance: float) -> None:
    """Distances that binary fractions hold exactly: a pair at exactly `distance` is not farther."""
    fingerprints = torch.tensor(rows)
    expected = greedy(bit_strings(fingerprints), list(range(len(rows))), Fraction(distance))
    kept = num_circles(fingerprints, distance=distance)
    assert kept.dtype == torch.long
    assert kept.tolist() == expected


def test_num_circles_of_more_rows_than_a_block_holds() -> None:
    """The last rows have bits of their own, so that later blocks keep some and refuse others."""
    fingerprints = random_prints(2500, 12, seed=2)
    fingerprints[:2200, 9:] = False
    for distance in (0.5, 0.75):
        expected = greedy(bit_strings(fingerprints), list(range(2500)), Fraction(distance))
        kept = num_circles(fingerprints, distance=distance).tolist()
        assert kept == expected
        assert sum(index >= 2048 for index in kept) > 1


@pytest.mark.parametrize("block", [1, 3, 64])
def test_num_circles_does_not_depend_on_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = random_prints(64, 10, seed=3)
    expected = num_circles(fingerprints, distance=0.5)
    monkeypatch.setattr("allmodes.metrics.packing._CHUNK", block)
    assert torch.equal(num_circles(fingerprints, distance=0.5), expected)


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(13, 20), (7, 10), (2, 3), (7, 20), (1, 10), (1, 6), (21, 25), (12, 25)]
)
def test_a_pair_at_exactly_the_distance_is_not_farther(numerator: int, denominator: int) -> None:
    """Two rows 7/20 apart are kept apart by .34 and not by .35, though .35 has no exact float."""
    fingerprints = torch.zeros(2, denominator)
    fingerprints[0] = 1
    fingerprints[1, numerator:] = 1
    distance = numerator / denominator
    assert num_circles(fingerprints, distance=distance - 0.01).tolist() == [0, 1]
    assert num_circles(fingerprints, distance=distance).tolist() == [0]


def test_num_circles_shuffled_by_a_generator() -> None:
    """The same seed gives the same rows; the order decides which, and even how many."""
    fingerprints = random_prints(200, 10, seed=4)
    strings = bit_strings(fingerprints)
    sizes = set()
    for seed in range(8):
        kept = num_circles(fingerprints, distance=0.5, generator=torch.Generator().manual_seed(seed))
        again = num_circles(fingerprints, distance=0.5, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(kept, again)
        order = torch.randperm(200, generator=torch.Generator().manual_seed(seed)).tolist()
        assert kept.tolist() == greedy(strings, order, Fraction(1, 2))
        sizes.add(len(kept))
    assert len(sizes) > 1


def test_order_dependence_by_hand() -> None:
    """The middle row is within 1/2 of both others, which are 1 apart: first come, first kept."""
    left, middle, right = [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]
    assert num_circles(torch.tensor([left, middle, right]), distance=0.5).tolist() == [0, 2]
    assert num_circles(torch.tensor([middle, left, right]), distance=0.5).tolist() == [0]


def test_no_rows_and_empty_rows() -> None:
    assert num_circles(torch.empty(0, 8), distance=0.5).shape == (0,)
    assert num_circles(torch.zeros(3, 8), distance=0.5).tolist() == [0]  # two empty rows are alike


def test_errors() -> None:
    for shape in ((4,), (2, 2, 2)):
        with pytest.raises(InputError, match=r"`fingerprints` must have shape \(N, B\)"):
            internal_diversity(torch.ones(shape))
        with pytest.raises(InputError, match=r"`fingerprints` must have shape \(N, B\)"):
            num_circles(torch.ones(shape), distance=0.5)
    for distance in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="`distance` must lie between 0 and 1"):
            num_circles(torch.ones(2, 2), distance=distance)


@PROPERTY
@given(rows=PRINTS)
def test_mean_distance_of_pairs_is_over_different_rows(rows: list[list[bool]]) -> None:
    bits = bit_strings(torch.tensor(rows).to(torch.uint8))
    pairs = [1 - similarity(a, b) for i, a in enumerate(bits) for b in bits[i + 1 :]]
    found = mean_pair_distance(torch.tensor(rows).to(torch.uint8))
    if pairs:
        assert found == pytest.approx(float(sum(pairs) / len(pairs)), abs=1e-6)
    else:
        assert math.isnan(found)
