"""Wright's omega against SciPy's, its defining identity and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import wrightomega
from torch import Tensor

from allmodes.targets.wright_omega import wright_omega

# Both sides of each seam (−40, 1, 1e9), the whole range between, and the ends of float64.
GRID = np.concatenate(
    [
        np.linspace(-100, 100, 20001),
        np.logspace(2, 300, 2000),
        np.nextafter([-40.0, -40.0, 1.0, 1.0, 1e9, 1e9], [-50.0, 0.0, 0.0, 2.0, 0.0, 1e300]),
        [-40.0, 1.0, 1e9, 0.0, -0.0, 1e-300, -1e-300],
    ]
)


def omega_of(value: float, *, dtype: torch.dtype = torch.float64) -> tuple[float, float]:
    """ω and dω/da at one point."""
    a = torch.tensor(value, dtype=dtype, requires_grad=True)
    omega = wright_omega(a)
    (slope,) = torch.autograd.grad(omega, a)
    return float(omega.detach()), float(slope)


def test_it_agrees_with_scipy_in_float64() -> None:
    expected = wrightomega(GRID)
    np.testing.assert_allclose(wright_omega(torch.tensor(GRID)).numpy(), expected, rtol=1e-13, atol=0)


def test_it_agrees_with_scipy_in_float32() -> None:
    """Where e^a is a normal number; the rounding of a alone is worth |a| eps = 5e-6 at a = −80."""
    a = torch.tensor(GRID[(GRID > -80) & (GRID < 3e38)], dtype=torch.float32)
    omega = wright_omega(a)
    assert omega.dtype == torch.float32
    expected = wrightomega(a.double().numpy())
    np.testing.assert_allclose(omega.double().numpy(), expected, rtol=3e-6, atol=0)
    positive = a >= 0
    np.testing.assert_allclose(
        omega[positive].double().numpy(), expected[positive.numpy()], rtol=4e-7, atol=0
    )


@given(a=st.floats(-700, 1e15))
@settings(max_examples=300, deadline=None)
def test_omega_plus_its_logarithm_is_the_argument(a: float) -> None:
    omega, slope = omega_of(a)
    assert omega + math.log(omega) == pytest.approx(a, rel=1e-14, abs=1e-13)
    assert slope == pytest.approx(omega / (1 + omega), rel=1e-14)


@given(a=st.floats(-745, 1e300), b=st.floats(-745, 1e300))
@settings(max_examples=300, deadline=None)
def test_it_rises(a: float, b: float) -> None:
    low, high = (float(wright_omega(torch.tensor(x, dtype=torch.float64))) for x in sorted((a, b)))
    assert low <= high * (1 + 1e-14)


def test_known_values() -> None:
    """ω(1) = 1, ω(0) = 0.5671... (the omega constant), ω(1 + e) = e."""
    assert omega_of(1.0)[0] == pytest.approx(1, rel=1e-15)
    assert omega_of(0.0)[0] == pytest.approx(0.56714329040978387300, rel=1e-15)
    assert omega_of(1 + math.e)[0] == pytest.approx(math.e, rel=1e-15)


def test_far_below_it_is_the_exponential_and_never_negative() -> None:
    assert omega_of(-700.0)[0] == math.exp(-700)
    assert omega_of(-1e308)[0] == 0
    deep = torch.tensor([-103.0, -90.0, -1e38], dtype=torch.float32)
    assert (wright_omega(deep) == deep.exp()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_overflows_and_infinities_are_its_limits(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    for value in (largest, largest / 4, 1e30, 1e10):
        omega, slope = omega_of(value, dtype=dtype)
        assert omega == pytest.approx(value, rel=1e-6)
        assert slope == pytest.approx(1, rel=1e-6)
    omega, slope = omega_of(-math.inf, dtype=dtype)
    assert (omega, slope) == (0, 0)
    omega, slope = omega_of(math.inf, dtype=dtype)
    assert omega == math.inf
    assert math.isfinite(slope)


def test_an_infinite_neighbour_leaves_the_others_their_gradients() -> None:
    a = torch.tensor([-torch.inf, 0.3, torch.inf, -50.0, 7.0], dtype=torch.float64, requires_grad=True)
    omega = wright_omega(a)
    (gradient,) = torch.autograd.grad(omega[[0, 1, 3, 4]].sum(), a)
    expected = torch.where(omega.isinf(), 0, omega / (1 + omega)).detach()
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=0)


def test_nan_stays_nan() -> None:
    assert math.isnan(float(wright_omega(torch.tensor(math.nan, dtype=torch.float64))))


def test_the_gradient_by_finite_differences() -> None:
    points = [-60.0, -41.0, -39.0, -5.0, -1.0, 0.0, 0.5, 1.0, 1.5, 3.0, 30.0, 1e3]
    a = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(wright_omega, a, eps=1e-6, atol=1e-9)


@pytest.mark.parametrize("beyond", [2e9, 1e12])
def test_the_gradient_where_finite_differences_drown(beyond: float) -> None:
    assert omega_of(beyond)[1] == pytest.approx(1 / (1 + 1 / beyond), abs=1e-9)


def test_the_value_does_not_depend_on_whether_gradients_are_wanted_nor_on_the_shape() -> None:
    a = torch.tensor(GRID[:60]).reshape(3, 4, 5)
    wanted: Tensor = wright_omega(a.clone().requires_grad_()).detach()
    assert (wanted == wright_omega(a)).all()
    assert (wanted.flatten() == wright_omega(a.flatten())).all()
    with torch.no_grad():
        assert (wright_omega(a.clone().requires_grad_()) == wanted).all()
