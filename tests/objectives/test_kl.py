"""Every KL estimator against exact enumeration, as a value and as a gradient."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import (
    forward_kl_loss,
    k1_value,
    k2_value,
    k3_value,
    kl_in_rewards,
    reverse_kl_loss,
    reverse_kl_weighted_loss,
)
from tensors import close

Surrogate = Callable[[Tensor, Tensor], Tensor]
ExpectedGradient = Callable[[Tensor, Tensor], Tensor]
VALUES: list[Surrogate] = [k1_value, k2_value, k3_value]
REVERSE: list[Surrogate] = [reverse_kl_loss, reverse_kl_weighted_loss]
ALL: list[Surrogate] = [*VALUES, *REVERSE, forward_kl_loss]


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of log-probabilities (..., K), written out."""
    return (p.exp() * (p - q)).sum(-1)


@pytest.mark.parametrize("estimator", [k1_value, k3_value])
def test_k1_and_k3_are_unbiased(estimator: Surrogate, logits: Tensor, ref_logprobs: Tensor) -> None:
    logprobs = logits.log_softmax(0).detach()
    close((logprobs.exp() * estimator(logprobs, ref_logprobs)).sum(), kl(logprobs, ref_logprobs))


def test_k2_is_biased_by_a_third_order_term(ref_logprobs: Tensor, rewards: Tensor) -> None:
    """E[k2] − KL shrinks as the cube of the distance, while KL itself shrinks as the square."""

    def bias_and_kl(distance: float) -> tuple[float, float]:
        logprobs = (ref_logprobs + distance * rewards).log_softmax(0)
        exact = kl(logprobs, ref_logprobs)
        return float((logprobs.exp() * k2_value(logprobs, ref_logprobs)).sum() - exact), float(exact)

    (far_bias, far_kl), (near_bias, near_kl) = bias_and_kl(1e-2), bias_and_kl(1e-3)
    assert abs(far_bias) > 1e-9  # biased: the enumeration itself is exact to 1e-16
    assert far_bias / near_bias == pytest.approx(1000, rel=0.2)
    assert far_kl / near_kl == pytest.approx(100, rel=0.1)


def test_values_of_one_sample() -> None:
    """π_θ = .5, π_ref = .25, so that the ratio is 2 and its inverse ½."""
    logprobs, ref_logprobs = torch.tensor([0.5, 0.25], dtype=torch.float64).log()
    close(k1_value(logprobs, ref_logprobs), torch.tensor(math.log(2), dtype=torch.float64))
    close(k2_value(logprobs, ref_logprobs), torch.tensor(math.log(2) ** 2 / 2, dtype=torch.float64))
    close(k3_value(logprobs, ref_logprobs), torch.tensor(0.5 - 1 + math.log(2), dtype=torch.float64))


@pytest.mark.parametrize("estimator", VALUES)
def test_values_carry_no_gradient(estimator: Surrogate, logits: Tensor, ref_logprobs: Tensor) -> None:
    assert not estimator(logits.log_softmax(0), ref_logprobs.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(deadline=None, max_examples=200)
@given(exponent=st.floats(-40, 3), sign=st.sampled_from([-1, 1]))
def test_k2_and_k3_are_never_negative(dtype: torch.dtype, exponent: float, sign: int) -> None:
    """Also where the two probabilities agree to the last bits."""
    ratio = torch.full((1,), sign * 2.0**exponent, dtype=dtype)
    for estimator in (k2_value, k3_value):
        assert float(estimator(ratio, torch.zeros_like(ratio))) >= 0


def test_k3_of_close_probabilities_keeps_its_digits() -> None:
    """k3 = x²/2 − x³/6 + …; the plain exp(−x) − 1 + x is wrong in every digit at x = 1e-9."""
    x = torch.tensor([1e-9, -1e-9], dtype=torch.float64)
    expected = x**2 / 2 - x**3 / 6
    torch.testing.assert_close(k3_value(x, torch.zeros_like(x)), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", REVERSE)
def test_reverse_kl_losses_have_the_gradient_of_the_reverse_kl(
    loss: Surrogate, logits: Tensor, ref_logprobs: Tensor, expected_gradient: ExpectedGradient
) -> None:
    surrogate = expected_gradient(loss(logits.log_softmax(0), ref_logprobs), logits)
    exact = torch.autograd.grad(kl(logits.log_softmax(0), ref_logprobs), logits)[0]
    close(surrogate, exact)


def test_forward_kl_loss_has_the_gradient_of_the_forward_kl_and_not_of_the_reverse(
    logits: Tensor, ref_logprobs: Tensor, expected_gradient: ExpectedGradient
) -> None:
    surrogate = expected_gradient(forward_kl_loss(logits.log_softmax(0), ref_logprobs), logits)
    exact = torch.autograd.grad(kl(ref_logprobs, logits.log_softmax(0)), logits)[0]
    reverse = torch.autograd.grad(kl(logits.log_softmax(0), ref_logprobs), logits)[0]
    close(surrogate, exact)
    assert float((exact - reverse).abs().max()) > 1e-2


def test_k1_as_a_loss_has_no_expected_gradient(
    logits: Tensor, ref_logprobs: Tensor, expected_gradient: ExpectedGradient
) -> None:
    surrogate = logits.log_softmax(0) - ref_logprobs  # k1 with its gradient left on
    close(surrogate.detach(), k1_value(logits.log_softmax(0), ref_logprobs))
    close(expected_gradient(surrogate, logits), torch.zeros_like(logits))


def test_weighted_loss_has_the_value_of_k3(logits: Tensor, ref_logprobs: Tensor) -> None:
    logprobs = logits.log_softmax(0)
    close(reverse_kl_weighted_loss(logprobs, ref_logprobs).detach(), k3_value(logprobs, ref_logprobs))


@pytest.mark.parametrize("beta", [0.05, 0.7])
def test_policy_gradient_on_kl_in_rewards_is_the_gradient_of_the_regularised_return(
    beta: float, logits: Tensor, ref_logprobs: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    logprobs = logits.log_softmax(0)
    inside = kl_in_rewards(rewards, logprobs, ref_logprobs, beta=beta)
    assert not inside.requires_grad
    objective = (logprobs.exp() * rewards).sum() - beta * kl(logprobs, ref_logprobs)
    exact = torch.autograd.grad(objective, logits)[0]
    close(expected_gradient(inside * logits.log_softmax(0), logits), exact)


def test_k3_in_the_reward_gives_neither_kl(
    logits: Tensor, ref_logprobs: Tensor, expected_gradient: ExpectedGradient
) -> None:
    """Why `kl_in_rewards` uses k1: the k3 value there is the gradient of no KL."""
    logprobs = logits.log_softmax(0)
    surrogate = expected_gradient(k3_value(logprobs, ref_logprobs) * logprobs, logits)
    for exact in (kl(logits.log_softmax(0), ref_logprobs), kl(ref_logprobs, logits.log_softmax(0))):
        assert float((surrogate - torch.autograd.grad(exact, logits)[0]).abs().max()) > 1e-2


@dataclass(frozen=True)
class TwoTokens:
    """All sequences (a, b) of an autoregressive policy: logits (3,) for a, (3, 4) for b after a.

    `logprobs` and `ref_logprobs` are of the tokens, (12, 2), one row a sequence.
    """

    first: Tensor
    second: Tensor
    ref_first: Tensor
    ref_second: Tensor

    @property
    def logprobs(self) -> Tensor:
        return self._tokens(self.first.log_softmax(0), self.second.log_softmax(1))

    @property
    def ref_logprobs(self) -> Tensor:
        return self._tokens(self.ref_first, self.ref_second)

    @staticmethod
    def _tokens(first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([first.repeat_interleave(second.shape[1]), second.flatten()], dim=1)

    def gradient(self, value: Tensor) -> Tensor:
        parts = torch.autograd.grad(value, [self.first, self.second])
        return torch.cat([part.flatten() for part in parts])

    def expected_gradient(self, losses: Tensor) -> Tensor:
        """Σ over sequences of p times the gradient of that sequence's loss, (15,)."""
        return self.gradient((self.logprobs.sum(1).exp().detach() * losses).sum())

    def token_kl(self, divergence: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Σ over states of their fixed probability times the divergence of the next token."""
        first, second = self.first.log_softmax(0), self.second.log_softmax(1)
        state = first.exp().detach()
        return divergence(first, self.ref_first) + (state * divergence(second, self.ref_second)).sum()


def reverse(p: Tensor, q: Tensor) -> Tensor:
    return kl(p, q)


def forward(p: Tensor, q: Tensor) -> Tensor:
    return kl(q, p)


@pytest.fixture
def two_tokens() -> TwoTokens:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return TwoTokens(
        first=draw(3).requires_grad_(),
        second=draw(3, 4).requires_grad_(),
        ref_first=draw(3).log_softmax(0),
        ref_second=draw(3, 4).log_softmax(1),
    )


EXACT = [(reverse_kl_loss, reverse), (reverse_kl_weighted_loss, reverse), (forward_kl_loss, forward)]


@pytest.mark.parametrize(("loss", "divergence"), EXACT)
def test_per_token_losses_have_the_gradient_of_the_token_kl_with_states_held_fixed(
    loss: Surrogate, divergence: Surrogate, two_tokens: TwoTokens
) -> None:
    losses = loss(two_tokens.logprobs, two_tokens.ref_logprobs).sum(1)
    exact = two_tokens.gradient(two_tokens.token_kl(divergence))
    close(two_tokens.expected_gradient(losses), exact)


@pytest.mark.parametrize(("loss", "divergence"), EXACT)
def test_losses_of_whole_sequences_have_the_gradient_of_the_sequence_kl(
    loss: Surrogate, divergence: Surrogate, two_tokens: TwoTokens
) -> None:
    losses = loss(two_tokens.logprobs.sum(1), two_tokens.ref_logprobs.sum(1))
    exact = two_tokens.gradient(divergence(two_tokens.logprobs.sum(1), two_tokens.ref_logprobs.sum(1)))
    close(two_tokens.expected_gradient(losses), exact)
    per_token = two_tokens.gradient(two_tokens.token_kl(divergence))
    assert float((exact - per_token).abs().max()) > 1e-2  # the two tests are not the same test


def test_per_token_k1_as_a_loss_has_no_expected_gradient(two_tokens: TwoTokens) -> None:
    losses = (two_tokens.logprobs - two_tokens.ref_logprobs).sum(1)
    close(two_tokens.expected_gradient(losses), torch.zeros(15, dtype=torch.float64))


def test_kl_in_rewards_of_sequences_is_exact_for_an_autoregressive_policy(two_tokens: TwoTokens) -> None:
    rewards = torch.linspace(-1, 2, 12, dtype=torch.float64)
    logprobs, ref_logprobs = two_tokens.logprobs.sum(1), two_tokens.ref_logprobs.sum(1)
    inside = kl_in_rewards(rewards, logprobs, ref_logprobs, beta=0.3)
    exact = two_tokens.gradient((logprobs.exp() * rewards).sum() - 0.3 * kl(logprobs, ref_logprobs))
    close(two_tokens.expected_gradient(inside * two_tokens.logprobs.sum(1)), exact)


@pytest.mark.parametrize("estimator", ALL)
def test_estimators_are_elementwise_in_any_shape(estimator: Surrogate) -> None:
    generator = torch.Generator().manual_seed(3)
    logprobs, ref_logprobs = torch.randn(2, 24, generator=generator, dtype=torch.float64)
    flat = estimator(logprobs, ref_logprobs)
    shaped = estimator(logprobs.view(2, 3, 4), ref_logprobs.view(2, 3, 4))
    assert torch.equal(shaped, flat.view(2, 3, 4))
    one_by_one = [estimator(p, q) for p, q in zip(logprobs, ref_logprobs, strict=True)]
    close(torch.stack(one_by_one), flat, 1e-15)


@pytest.mark.parametrize("estimator", ALL)
def test_shapes_that_would_broadcast_are_refused(estimator: Surrogate) -> None:
    with pytest.raises(InputError, match=r"`ref_logprobs` must have shape \(4, 3\).*got \(4, 1\)"):
        estimator(torch.zeros(4, 3), torch.zeros(4, 1))


def test_kl_in_rewards_refuses_shapes_that_disagree() -> None:
    with pytest.raises(InputError, match="`logprobs` must have shape"):
        kl_in_rewards(torch.zeros(4), torch.zeros(1), torch.zeros(1), beta=1)
    with pytest.raises(InputError, match="`ref_logprobs` must have shape"):
        kl_in_rewards(torch.zeros(4), torch.zeros(4), torch.zeros(1), beta=1)
