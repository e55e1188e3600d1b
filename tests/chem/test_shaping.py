import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from allmodes.chem.oracles.results import Failure
from allmodes.chem.oracles.shaping import aggregate, shape
from allmodes.runs.oracle_config import Shaping

_SHAPING: TypeAdapter[Any] = TypeAdapter(Shaping)


def make(**values: Any) -> Any:
    return _SHAPING.validate_python(values)


def shaped(value: float, **shaping: Any) -> float:
    score = shape(value, make(**shaping))
    assert isinstance(score, float)
    return score


DOCKING = {"low": -16, "high": 0, "k": 0.15}


@pytest.mark.parametrize(("value", "score"), [(-10, 0.606), (-16, 0.849), (-8, 0.5), (0, 0.151)])
def test_reverse_sigmoid_has_the_published_numbers(value: float, score: float) -> None:
    assert shaped(value, kind="reverse_sigmoid", **DOCKING) == pytest.approx(score, abs=5e-4)
    assert shaped(value, kind="sigmoid", **DOCKING) == pytest.approx(1 - score, abs=5e-4)


def test_the_docking_scores_that_good_rewards_need() -> None:
    """Four components, two of them perfect, QED .9: .80 needs -7.20 kcal/mol, .85 needs -9.50."""
    for value, reward in ((-7.2, 0.80), (-9.5, 0.85), (0, 0.607)):
        scores = [0.9, 1.0, 1.0, shaped(value, kind="reverse_sigmoid", **DOCKING)]
        assert aggregate(scores, "geometric_mean") == pytest.approx(reward, abs=1e-3)


def test_sigmoid_equals_its_formula() -> None:
    for value in (-3.0, 0.4, 2.0, 7.5):
        expected = 1 / (1 + 10 ** (-10 * 0.25 * (value - 2) / 5))
        assert shaped(value, kind="sigmoid", low=-0.5, high=4.5, k=0.25) == pytest.approx(expected)


@given(value=st.floats(-1e308, 1e308), k=st.floats(1e-3, 1e3))
def test_sigmoids_stay_between_0_and_1_and_mirror_each_other(value: float, k: float) -> None:
    up = shaped(value, kind="sigmoid", low=0, high=1, k=k)
    down = shaped(value, kind="reverse_sigmoid", low=0, high=1, k=k)
    assert 0 <= up <= 1
    assert up + down == pytest.approx(1)


def test_sigmoids_at_extremes() -> None:
    assert shaped(1e308, kind="sigmoid", low=0, high=1, k=1) == 1
    assert shaped(-1e308, kind="sigmoid", low=0, high=1, k=1) < 1e-200
    assert shaped(1e308, kind="reverse_sigmoid", low=0, high=1, k=1) < 1e-200


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"low": 1, "high": 3}, (1, 2, 3), (0.999, 3.001)),
        ({"low": 1}, (1, 1e300), (0.999, -5)),
        ({"high": 3}, (3, -1e300), (3.001,)),
        ({"low": 2, "high": 2}, (2,), (1, 3)),
    ],
)
def test_step(bounds: dict[str, float], inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert {shaped(value, kind="step", **bounds) for value in inside} == {1.0}
    assert {shaped(value, kind="step", **bounds) for value in outside} == {0.0}


def test_no_shaping_requires_a_score() -> None:
    for value in (0.0, 0.3, 1.0):
        assert shape(value, make(kind="none")) == value
    for value in (-1e-9, 1.0000001, 47.0):
        failure = shape(value, make(kind="none"))
        assert isinstance(failure, Failure)
        assert failure.kind == "out_of_range"
        assert "between 0 and 1" in failure.message


def test_aggregation() -> None:
    scores = [0.9, 0.5, 0.2]
    assert aggregate(scores, "product") == pytest.approx(0.09)
    assert aggregate(scores, "geometric_mean") == pytest.approx(math.exp(sum(map(math.log, scores)) / 3))
    assert aggregate([0.25], "geometric_mean") == aggregate([0.25], "product") == 0.25
    for how in ("product", "geometric_mean"):
        assert aggregate([0.9, 0.0], how) == 0
        assert aggregate([1.0, 1.0, 1.0], how) == 1
