import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.results import Failure
from allmodes.chem.oracles.shaping import Shaping, aggregate
from allmodes.errors import ConfigError
from allmodes.runs.config import build_config

_SHAPING: TypeAdapter[Any] = TypeAdapter(Shaping)


def make(**values: Any) -> Any:
    return _SHAPING.validate_python(values)


def shaped(value: float, **shaping: Any) -> float:
    score = make(**shaping).score(value)
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
        assert aggregate(scores, [1.0] * 4, "geometric_mean") == pytest.approx(reward, abs=1e-3)


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
        assert make(kind="none").score(value) == value
    for value in (-1e-9, 1.0000001, 47.0):
        failure = make(kind="none").score(value)
        assert isinstance(failure, Failure)
        assert failure.kind == "out_of_range"
        assert "between 0 and 1" in failure.message


def mapped(value: float, **mapping: float) -> float | Failure:
    return make(kind="value_mapping", mapping=mapping).score(value)


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (200.0, 0.5),  # at the bounds
        (500.0, 0.5),
        (201.0, 10**1.5 / (1 + 10**1.5)),  # REINVENT 4's steepness of 150 / 100
        (199.0, 1 / (1 + 10**1.5)),
        (499.0, 10**1.5 / (1 + 10**1.5)),
        (501.0, 1 / (1 + 10**1.5)),
        (350.0, 1.0),
        (0.0, 0.0),
        (1e300, 0.0),
        (-1e300, 0.0),
    ],
)
def test_double_sigmoid_equals_its_formula(value: float, score: float) -> None:
    got = shaped(value, kind="double_sigmoid", low=200, high=500)
    assert got == pytest.approx(score, rel=1e-12, abs=1e-250)


def test_double_sigmoid_rises_and_falls_with_a_steepness_of_its_own() -> None:
    """Against its inverse: the value at which a side has a given score."""
    sides = {"low": -2, "high": 6, "coef_div": 4, "coef_si": 10, "coef_se": 2}
    for score in (0.1, 0.3, 0.7, 0.9):
        logit = math.log10(score / (1 - score))
        assert shaped(-2 + logit * 4 / 10, kind="double_sigmoid", **sides) == pytest.approx(score)
        assert shaped(6 - logit * 4 / 2, kind="double_sigmoid", **sides) == pytest.approx(score)


@given(
    value=st.floats(-1e308, 1e308),
    si=st.floats(1e-3, 1e3),
    se=st.floats(1e-3, 1e3),
    high=st.floats(1e-3, 1e6),
)
def test_double_sigmoid_stays_between_0_and_1(value: float, si: float, se: float, high: float) -> None:
    assert 0 <= shaped(value, kind="double_sigmoid", low=0, high=high, coef_si=si, coef_se=se) <= 1


def test_value_mapping_gives_each_number_its_score_however_it_is_written() -> None:
    for value, score in ((0, 0.2), (1, 1.0), (2.5, 0.0), (-3, 0.7), (1000, 0.4)):
        assert mapped(value, **{"0": 0.2, "1.0": 1.0, "2.50": 0.0, "-3": 0.7, "1e3": 0.4}) == score


def test_a_value_that_is_not_in_the_mapping_is_a_failure_and_no_score() -> None:
    failure = mapped(3.0, **{"0": 0.2, "1": 1.0})
    assert isinstance(failure, Failure)
    assert failure.kind == "out_of_range"
    assert failure.message == "expected a value of `shaping.mapping`, one of 0, 1; got 3"


@pytest.mark.parametrize(
    ("shaping", "key", "said"),
    [
        ({"kind": "double_sigmoid", "low": 3, "high": 3}, "shaping", "low < high"),
        ({"kind": "double_sigmoid", "low": 3}, "shaping.high", "a value; got none"),
        ({"kind": "double_sigmoid", "low": 1, "high": 3, "coef_div": 0}, "shaping.coef_div", "than 0; got 0"),
        ({"kind": "value_mapping", "mapping": {"1": 1.5}}, "shaping.mapping.1", "or equal to 1; got 1.5"),
        ({"kind": "value_mapping", "mapping": {}}, "shaping.mapping", "at least 1 item"),
        ({"kind": "value_mapping", "mapping": {"many": 1}}, "shaping.mapping", "one key is 'many'"),
        ({"kind": "value_mapping", "mapping": {"nan": 1}}, "shaping.mapping", "one key is 'nan'"),
        ({"kind": "value_mapping", "mapping": {"1": 1, "1.0": 0}}, "shaping.mapping", "'1' and '1.0'"),
        ({"kind": "value_map", "mapping": {"1": 1}}, "shaping.kind", "got 'value_map'"),
    ],
)
def test_a_wrong_shaping_names_its_key(shaping: dict[str, Any], key: str, said: str) -> None:
    values = {"components": [{"kind": "rings", "shaping": shaping}]}
    with pytest.raises(ConfigError) as caught:
        build_config(OracleConfig, values, source="o.toml")
    assert str(caught.value).startswith(f"o.toml: `components.0.{key}`: expected ")
    assert said in str(caught.value)


@pytest.mark.parametrize("weight", [0, -1.0, "2", math.inf])
def test_a_wrong_weight_names_its_key(weight: Any) -> None:
    with pytest.raises(ConfigError, match=r"^o\.toml: `components\.0\.weight`: expected .*; got "):
        build_config(OracleConfig, {"components": [{"kind": "qed", "weight": weight}]}, source="o.toml")


def test_without_weights_the_reward_is_the_same_to_the_bit() -> None:
    for scores in ([0.9, 0.5, 0.2], [0.1, 0.7], [0.3] * 7, [1e-300, 0.5]):
        for weight in (1.0, 0.3):
            weights = [weight] * len(scores)
            root = math.prod(scores) ** (1 / len(scores))
            assert aggregate(scores, weights, "geometric_mean") == root
        assert aggregate(scores, [1.0] * len(scores), "product") == math.prod(scores)


def test_aggregation_equals_its_formulas() -> None:
    scores, weights = [0.9, 0.5, 0.2], [1.0, 2.5, 0.5]
    logs = [weight * math.log(score) for weight, score in zip(weights, scores, strict=True)]
    assert aggregate(scores, weights, "product") == pytest.approx(math.exp(sum(logs)), rel=1e-12)
    assert aggregate(scores, weights, "geometric_mean") == pytest.approx(math.exp(sum(logs) / 4), rel=1e-12)
    assert aggregate(scores, weights, "arithmetic_mean") == pytest.approx((0.9 + 1.25 + 0.1) / 4, rel=1e-12)


def test_a_weight_of_three_counts_as_three_components() -> None:
    for how in ("geometric_mean", "arithmetic_mean", "product"):
        thrice = aggregate([0.3, 0.8, 0.8, 0.8], [1.0] * 4, how)
        assert aggregate([0.3, 0.8], [1.0, 3.0], how) == pytest.approx(thrice, rel=1e-12)


def test_means_do_not_depend_on_the_scale_of_the_weights() -> None:
    for how in ("geometric_mean", "arithmetic_mean"):
        expected = aggregate([0.3, 0.8], [1.0, 3.0], how)
        for scale in (1e-9, 1e9):
            assert aggregate([0.3, 0.8], [scale, 3 * scale], how) == pytest.approx(expected, rel=1e-12)


def test_aggregation_at_0_and_1() -> None:
    for how in ("product", "geometric_mean"):
        assert aggregate([0.9, 0.0], [1.0, 1e-3], how) == 0
    assert aggregate([0.9, 0.0], [1.0, 2.0], "arithmetic_mean") == pytest.approx(0.3)
    for how in ("product", "geometric_mean", "arithmetic_mean"):
        assert aggregate([1.0, 1.0, 1.0], [0.1, 0.2, 0.3], how) == 1
        assert aggregate([0.25], [1.0], how) == 0.25


@pytest.mark.parametrize(
    ("good", "values"),
    [("near", (1.0, math.exp(-0.5), math.exp(-2))), ("above", (1.0, math.exp(-0.5), 1.0)),
     ("below", (1.0, 1.0, math.exp(-2)))],
)  # fmt: skip
def test_gaussian_by_its_formula_and_each_flank_alone(good: str, values: tuple[float, ...]) -> None:
    """At the centre, one standard deviation below, and two above it."""
    keys = {"kind": "gaussian", "center": -3.0, "width": 2.0, "good": good}
    assert [shaped(value, **keys) for value in (-3.0, -5.0, 1.0)] == pytest.approx(values)
    assert shaped(-1e30 if good != "below" else 1e30, **keys) == 0.0
    assert ("above" in make(**keys).describe(), "below" in make(**keys).describe()) == (
        good == "above",
        good == "below",
    )


def test_linear_between_two_values_and_flat_beyond() -> None:
    for value, score in ((-1.0, 0.0), (0.0, 0.0), (0.3, 0.4), (0.75, 1.0), (9.0, 1.0)):
        assert shaped(value, kind="linear", high=0.75) == pytest.approx(score)
        assert shaped(value, kind="reverse_linear", high=0.75) == pytest.approx(1 - score)
    assert shaped(-2.5, kind="linear", low=-3, high=-1) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="low < high"):
        make(kind="linear", low=1, high=1)
