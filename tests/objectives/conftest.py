"""Small categorical policies softmax(θ), and expectations over all of their outcomes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

ExpectedGradient = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(params=[5, 6, 8], ids=lambda count: f"{count} outcomes")
def logits(request: pytest.FixtureRequest) -> Tensor:
    """θ of a policy over K outcomes, (K,), a leaf that gradients reach."""
    generator = torch.Generator().manual_seed(request.param)
    return torch.randn(request.param, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.fixture
def ref_logprobs(logits: Tensor) -> Tensor:
    """log π_ref of every outcome, (K,), far from the policy."""
    generator = torch.Generator().manual_seed(100 + len(logits))
    return (1.5 * torch.randn(len(logits), generator=generator, dtype=torch.float64)).log_softmax(0)


@pytest.fixture
def rewards(logits: Tensor) -> Tensor:
    """R of every outcome, (K,), some of them negative."""
    generator = torch.Generator().manual_seed(200 + len(logits))
    return torch.randn(len(logits), generator=generator, dtype=torch.float64)


@pytest.fixture
def expected_gradient() -> ExpectedGradient:
    """(one loss an outcome (K,), θ) → Σ_y p(y) ∇ loss(y): what on-policy samples average to."""

    def enumerate_outcomes(losses: Tensor, logits: Tensor) -> Tensor:
        probabilities = logits.detach().softmax(0)
        return torch.autograd.grad((probabilities * losses).sum(), logits)[0]

    return enumerate_outcomes
