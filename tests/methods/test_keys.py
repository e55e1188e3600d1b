"""Ids of prompts and outcomes: equal for equal keys, in every batch, process and run."""

import os
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import stable_id, stable_ids

EQUAL: list[tuple[Any, ...]] = [
    (1, 1.0, True, Fraction(1), Decimal("1.00")),
    (0, 0.0, -0.0, False),
    (0.5, Fraction(1, 2), Decimal("0.5")),
    (2**80, float(2**80)),
    ("", ""),
    ("two", "t" + "wo"),
    ((1, "a"), (1.0, "a")),
    (frozenset({"a", "b", 3}), frozenset({3.0, "b", "a"})),
    ((frozenset({1, 2}), ("x",)), (frozenset({2.0, 1}), ("x",))),
    (float("inf"), Decimal("Infinity")),
    (b"ab", bytes([97, 98])),
]
DIFFERENT: list[Any] = [
    *(keys[0] for keys in EQUAL),
    "1",
    "1.0",
    (1,),
    ("1",),
    ((1, "a"),),
    (1, ("a",)),
    ("1, a",),
    ("a", "b"),
    ("a,b",),
    ("b", "a"),
    frozenset({"a", "b"}),
    frozenset(),
    (),
    "n1",
    "s1:1",
    float("-inf"),
    "inf",
    0.1,
    Fraction(1, 10),
    2**80 + 1,
    "b'ab'",
    "\ud800",
]


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Pair:
    left: float
    right: object


class Holder:
    """Its repr shows something else's place in memory."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Holder({self.inner!r})"


@pytest.mark.parametrize("keys", EQUAL)
def test_equal_keys_have_one_id(keys: tuple[Any, ...]) -> None:
    assert len({hash(key) for key in keys}) == 1, "the keys of this test are equal for Python"
    assert len({stable_id(key) for key in keys}) == 1


def test_different_keys_have_different_ids() -> None:
    ids = [stable_id(key) for key in [*DIFFERENT, Colour.RED]]
    assert len(set(ids)) == len(ids)
    assert all(0 <= found < 2**63 for found in ids)


def test_no_outcome_is_minus_one() -> None:
    ids = stable_ids(["a", None, "b", "a"])
    assert ids.dtype == torch.int64
    assert ids.tolist() == [stable_id("a"), -1, stable_id("b"), stable_id("a")]
    assert stable_ids([]).shape == (0,)


def test_ids_are_the_same_in_every_process() -> None:
    """Python's own hash of a text is not, which would merge and split outcomes between ranks and runs."""
    keys = ["two", (1, "a"), frozenset({"a", "b", "c", "d"}), 0.1, b"ab", (frozenset({"x", "y"}), None)]
    code = f"from allmodes.methods import stable_ids; print(stable_ids({keys!r}).tolist())"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert run.stdout.strip() == str(stable_ids(keys).tolist())


@pytest.mark.parametrize("key", [float("nan"), Decimal("NaN"), ("a", float("nan"))])
def test_what_differs_from_itself_is_refused(key: Any) -> None:
    with pytest.raises(InputError, match="a key must not be NaN, which does not equal itself; use None"):
        stable_ids(["a", key])


def _function() -> None:
    pass


@pytest.mark.parametrize(
    "key", [object(), _function, lambda: None, (1, object()), Pair(1, object()), Pair(1, Holder(_function))]
)
def test_what_has_no_value_is_refused(key: Any) -> None:
    with pytest.raises(InputError, match="only identified by its address in memory"):
        stable_ids([key])


@pytest.mark.parametrize("key", [["a"], {"a"}, {"a": 1}, ("a", ["b"]), Pair(1, {"a"})])
def test_what_can_change_is_refused(key: Any) -> None:
    with pytest.raises(InputError, match=r"tuples and frozensets of these; got (list|set|dict), which can"):
        stable_ids([key])


def test_records_are_known_by_their_fields() -> None:
    """Whose repr has the parts of a set in another order in another process."""
    one, two = Pair(1, frozenset({"a", "b"})), Pair(1.0, frozenset({"b", "a"}))
    assert one == two
    assert stable_id(one) == stable_id(two)
    assert stable_id(one) not in {stable_id((1, frozenset({"a", "b"}))), stable_id(Pair(1, frozenset("a")))}


def test_numbers_of_numpy_are_numbers() -> None:
    keys = [np.int64(3), np.float32(0.5), np.float64(0.1), np.bool_(True), np.str_("a")]
    assert stable_ids(keys).tolist() == [stable_id(key) for key in (3, 0.5, 0.1, 1, "a")]
