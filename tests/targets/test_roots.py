"""Roots against closed forms, at both ends of the bracket, of functions that leap or are infinite."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from allmodes.targets.roots import find_root


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def evaluations(falling: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, int]:
    calls = 0

    def counted(at: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return falling(at)

    return find_root(counted, low, high), calls


@pytest.mark.parametrize(
    ("falling", "root"),
    [
        (lambda x: 2 - x, 2.0),
        (lambda x: 1e-3 - x**3, 0.1),
        (lambda x: math.e - torch.exp(x), 1.0),
        (lambda x: -torch.expm1(1e3 * (x - 0.3)), 0.3),
        (lambda x: -torch.tanh(1e4 * (x - 0.7)), 0.7),
        (lambda x: -x.sign() * x.abs().sqrt(), 0.0),
        (lambda x: -(x**5), 0.0),
    ],
)
def test_a_root_is_found_to_the_last_digits(falling: Callable[[Tensor], Tensor], root: float) -> None:
    found, calls = evaluations(falling, numbers(-100.0), numbers(100.0))
    assert float(found) == pytest.approx(root, rel=1e-15, abs=1e-12)
    assert calls < 90


def test_smooth_functions_take_few_steps() -> None:
    _, calls = evaluations(lambda x: 2 - torch.exp(x / 10), numbers(-100.0), numbers(100.0))
    assert calls <= 16


def test_each_element_has_its_own_bracket_and_root() -> None:
    roots = torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None]
    found = find_root(lambda x: torch.sigmoid(roots - x) - 0.5, roots - 4, roots.abs() + 5)
    assert float((found - roots).abs().max()) < 1e-14


def test_a_leap_is_found_though_no_value_is_0() -> None:
    found = find_root(lambda x: torch.where(x < 0.3, 1.0, -2.0), numbers(0.0), numbers(1.0))
    assert float(found) == pytest.approx(0.3, rel=1e-15)


def test_infinite_values_and_nan_are_halved_away() -> None:
    def falling(x: Tensor) -> Tensor:
        return torch.where(x > 0.5, torch.nan, torch.where(x < -0.5, torch.inf, 0.25 - x))

    assert float(find_root(falling, numbers(-1.0), numbers(1.0))) == pytest.approx(0.25, rel=1e-15)
    below = find_root(lambda x: torch.where(x > 0.5, -torch.inf, 0.25 - x), numbers(0.0), numbers(1.0))
    assert float(below) == pytest.approx(0.25, rel=1e-15)


def test_without_a_crossing_it_is_the_nearer_bound() -> None:
    low, high = numbers(-1.0, -1.0, 0.0), numbers(1.0, 1.0, 1.0)
    shift = numbers(-5.0, 5.0, 0.0)
    assert find_root(lambda x: shift - x, low, high).tolist() == [-1.0, 1.0, 0.0]


def test_equal_bounds_are_the_root() -> None:
    assert find_root(lambda x: 1 - x, numbers(0.5, 0.0), numbers(0.5, 2.0)).tolist() == [0.5, 1.0]
