"""Divergences against plain arithmetic."""

import math

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.targets import effective_modes, entropy, kl_divergence, total_variation

P, Q = [0.5, 0.25, 0.25, 0.0], [0.1, 0.2, 0.3, 0.4]


def logs(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


def test_values() -> None:
    expected = sum(p * math.log(p / q) for p, q in zip(P, Q, strict=True) if p > 0)
    assert float(kl_divergence(logs(P), logs(Q))) == pytest.approx(expected, rel=1e-14)
    assert float(kl_divergence(logs(Q), logs(P))) == math.inf
    assert float(total_variation(logs(P), logs(Q))) == pytest.approx(0.45, rel=1e-14)
    assert float(entropy(logs(P))) == pytest.approx(1.5 * math.log(2), rel=1e-14)
    assert float(effective_modes(logs([0.2] * 5))) == pytest.approx(5, rel=1e-14)
    assert float(effective_modes(logs([0.0, 1.0, 0.0]))) == 1


def test_zero_probability_has_finite_gradients() -> None:
    logits = torch.tensor([0.0, 1.0, -torch.inf], dtype=torch.float64, requires_grad=True)
    kl_divergence(torch.log_softmax(logits, 0), logs([0.2, 0.3, 0.5])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("function", [kl_divergence, total_variation])
def test_bad_input_is_named(function: object) -> None:
    with pytest.raises(InputError, match="sum to 1; got a sum of 2"):
        function(logs([1.0, 1.0]), logs([0.5, 0.5]))  # type: ignore[operator]
    with pytest.raises(InputError, match="shape"):
        function(logs([1.0]), logs([0.5, 0.5]))  # type: ignore[operator]
    with pytest.raises(InputError, match="in row 1"):
        both = torch.stack([logs([0.5, 0.5]), logs([0.5, 0.6])])
        function(both, both)  # type: ignore[operator]
