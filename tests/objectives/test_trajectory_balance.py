"""Trajectory balance: value by hand, its rest, and its expected gradient by enumeration."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import reinvent_loss, trajectory_balance_loss
from tensors import close

ExpectedGradient = Callable[[Tensor, Tensor], Tensor]


def log_target(ref_logprobs: Tensor, rewards: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Log of π_ref exp(R/β)/Z, and log Z."""
    heights = ref_logprobs + rewards / beta
    log_partition = heights.exp().sum().log()
    return heights - log_partition, log_partition


def reverse_kl(logits: Tensor, log_other: Tensor) -> Tensor:
    logprobs = logits.log_softmax(0)
    return (logprobs.exp() * (logprobs - log_other)).sum()


def test_the_loss_of_each_sample_by_hand() -> None:
    losses = trajectory_balance_loss(
        torch.tensor([-3.0, -1.0], dtype=torch.float64),
        torch.tensor([-5.0, -2.0], dtype=torch.float64),
        torch.tensor([0.5, -1.0], dtype=torch.float64),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        beta=0.25,
    )
    close(losses, torch.tensor([1.0, 25.0], dtype=torch.float64))  # (1 − 3 + 5 − 2)², (0 − 1 + 2 + 4)²


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
def test_the_loss_and_its_gradients_are_zero_at_the_target(
    beta: float, ref_logprobs: Tensor, rewards: Tensor
) -> None:
    """For every sample by itself, whoever drew it."""
    target, log_partition = log_target(ref_logprobs, rewards, beta)
    logits = (target + 3).requires_grad_()  # a constant of the logits is no part of the policy
    partitions = log_partition.expand_as(rewards).clone().requires_grad_()
    losses = trajectory_balance_loss(logits.log_softmax(0), ref_logprobs, rewards, partitions, beta=beta)
    zero = torch.zeros_like(rewards)
    close(losses.detach(), zero)
    for index in range(len(rewards)):
        gradients = torch.autograd.grad(losses[index], [logits, partitions], retain_graph=True)
        for gradient in gradients:
            close(gradient, zero, 1e-11)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_loss_is_zero_nowhere_else(beta: float, ref_logprobs: Tensor, rewards: Tensor) -> None:
    """Not at another β, another partition function or another policy."""
    target, log_partition = log_target(ref_logprobs, rewards, beta)
    partitions = log_partition.expand_as(rewards)
    for logprobs, log_z, at in (
        (target, partitions, 2 * beta),
        (target, partitions + 0.1, beta),
        (ref_logprobs, partitions, beta),
    ):
        losses = trajectory_balance_loss(logprobs, ref_logprobs, rewards, log_z, beta=at)
        assert float(losses.mean()) > 1e-3


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
def test_with_the_mean_as_log_partition_the_gradient_is_that_of_the_reverse_kl(
    beta: float, logits: Tensor, ref_logprobs: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    """VarGrad: log Z = E[R/β + log π_ref − log π_θ], detached, and then E[∇L] = 2 ∇KL(π_θ ‖ target)."""
    target, _ = log_target(ref_logprobs, rewards, beta)
    logprobs = logits.log_softmax(0)
    with torch.no_grad():
        log_z = (logprobs.exp() * (rewards / beta + ref_logprobs - logprobs)).sum()
    losses = trajectory_balance_loss(logprobs, ref_logprobs, rewards, log_z.expand_as(rewards), beta=beta)
    exact = 2 * torch.autograd.grad(reverse_kl(logits, target), logits)[0]
    close(expected_gradient(losses, logits), exact, 1e-10)
    # With that log Z the expected loss is the variance of the log-ratio, the least there is.
    probabilities = logits.detach().softmax(0)
    ratio = (logprobs - target).detach()
    variance = (probabilities * ratio**2).sum() - (probabilities * ratio).sum() ** 2
    close((probabilities * losses).sum().detach(), variance, 1e-9)


def test_any_log_partition_has_that_expected_gradient_on_policy(
    logits: Tensor, ref_logprobs: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    """It is a baseline."""
    target, _ = log_target(ref_logprobs, rewards, 0.7)
    exact = 2 * torch.autograd.grad(reverse_kl(logits, target), logits)[0]
    for log_z in (-2.0, 0.0, 5.0):
        losses = trajectory_balance_loss(
            logits.log_softmax(0), ref_logprobs, rewards, torch.full_like(rewards, log_z), beta=0.7
        )
        close(expected_gradient(losses, logits), exact, 1e-10)


def test_the_log_partition_is_pulled_to_the_mean_of_what_balances_each_sample(
    logits: Tensor, ref_logprobs: Tensor, rewards: Tensor
) -> None:
    """∂L/∂log Z = 2 (log Z − (R/β + log π_ref − log π_θ)), each by itself."""
    partitions = torch.linspace(-1, 1, len(rewards), dtype=torch.float64).requires_grad_()
    logprobs = logits.log_softmax(0)
    losses = trajectory_balance_loss(logprobs, ref_logprobs, rewards, partitions, beta=0.7)
    gradient = torch.autograd.grad(losses.sum(), partitions)[0]
    balance = rewards / 0.7 + ref_logprobs - logprobs
    close(gradient, 2 * (partitions - balance).detach())


def test_descent_on_samples_from_elsewhere_ends_at_the_target_and_its_partition_function(
    logits: Tensor, ref_logprobs: Tensor, rewards: Tensor
) -> None:
    """Off-policy: every outcome weighs the same, whatever the policy."""
    target, log_partition = log_target(ref_logprobs, rewards, 2.0)
    policy = logits.detach().clone().requires_grad_()
    log_z = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([policy, log_z], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> Tensor:
        search.zero_grad()
        loss = trajectory_balance_loss(
            policy.log_softmax(0), ref_logprobs, rewards, log_z.expand_as(rewards), beta=2.0
        ).mean()
        loss.backward()
        return loss

    search.step(closure)
    close(policy.detach().log_softmax(0), target, 1e-6)
    close(log_z.detach(), log_partition, 1e-6)


def test_without_a_partition_function_it_is_reinvents_loss(ref_logprobs: Tensor, rewards: Tensor) -> None:
    """σ = 1/β."""
    logprobs = rewards.log_softmax(0)
    zero = torch.zeros_like(rewards)
    losses = trajectory_balance_loss(logprobs, ref_logprobs, rewards, zero, beta=0.125)
    close(losses, reinvent_loss(logprobs, ref_logprobs, rewards, sigma=8))


def test_the_policy_and_the_partition_function_alone_are_moved() -> None:
    tensors = [torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True) for _ in range(4)]
    beta = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    logprobs, ref_logprobs, rewards, log_partition = tensors
    trajectory_balance_loss(logprobs, ref_logprobs, rewards, log_partition, beta=beta).sum().backward()
    gap = 2 * (log_partition + logprobs - ref_logprobs - rewards / beta).detach()
    assert logprobs.grad is not None
    assert log_partition.grad is not None
    close(logprobs.grad, gap)
    close(log_partition.grad, gap)
    assert ref_logprobs.grad is None
    assert rewards.grad is None
    assert beta.grad is None


def test_bad_input_is_refused() -> None:
    good = torch.zeros(4)
    with pytest.raises(InputError, match="`logprobs` must have shape"):
        trajectory_balance_loss(*[torch.zeros(4, 2)] * 4, beta=1)
    with pytest.raises(InputError, match="`logprobs` must be floating point"):
        trajectory_balance_loss(*[torch.zeros(4, dtype=torch.long)] * 4, beta=1)
    for place, name in ((1, "ref_logprobs"), (2, "rewards"), (3, "log_partition")):
        for shape in ((1,), (), (4, 1)):
            tensors = [good] * 4
            tensors[place] = torch.zeros(shape)
            with pytest.raises(InputError, match=rf"`{name}` must have shape \(4,\) like `logprobs`"):
                trajectory_balance_loss(*tensors, beta=1)
    for beta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="`beta` must be a finite number above 0"):
            trajectory_balance_loss(good, good, good, good, beta=beta)
