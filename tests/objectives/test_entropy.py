"""The entropy bonus as a reward, against enumeration and against the exact optimum."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import entropy_rewards, kl_in_rewards, leave_one_out_advantages
from allmodes.targets import reverse_kl_target
from tensors import close

ExpectedGradient = Callable[[Tensor, Tensor], Tensor]
ETA = 0.3


def objective(logits: Tensor, rewards: Tensor) -> Tensor:
    """E[R] + η H(π), written out."""
    logprobs = logits.log_softmax(0)
    return (logprobs.exp() * (rewards - ETA * logprobs)).sum()


def test_one_sample_by_hand() -> None:
    """R = 2, π = ¼, η = ½: 2 + ½ log 4."""
    new = entropy_rewards(torch.tensor([2.0]), torch.tensor([0.25]).log(), entropy=0.5)
    assert new.tolist() == pytest.approx([2 + 0.5 * math.log(4)], rel=1e-6)


def test_the_mean_is_the_expected_reward_and_the_entropy(logits: Tensor, rewards: Tensor) -> None:
    logprobs = logits.log_softmax(0)
    new = entropy_rewards(rewards, logprobs, entropy=ETA)
    assert not new.requires_grad
    close((logprobs.exp() * new).sum().detach(), objective(logits, rewards).detach())


def test_the_policy_gradient_is_that_of_the_expected_reward_and_the_entropy(
    logits: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    logprobs = logits.log_softmax(0)
    estimated = expected_gradient(entropy_rewards(rewards, logprobs, entropy=ETA) * logprobs, logits)
    exact = torch.autograd.grad(objective(logits, rewards), logits)[0]
    plain = expected_gradient(rewards * logits.log_softmax(0), logits)
    close(estimated, exact)
    assert float((exact - plain).abs().max()) > 1e-2  # the bonus is part of it


def test_with_the_others_as_baseline_the_gradient_is_the_same(logits: Tensor, rewards: Tensor) -> None:
    """All K³ groups of three samples, each as likely as it is."""
    logprobs = logits.log_softmax(0)
    groups = torch.tensor(list(itertools.product(range(len(logits)), repeat=3)))
    likely = logprobs.detach()[groups].sum(1).exp()
    sampled = logprobs[groups.flatten()]
    new = entropy_rewards(rewards[groups.flatten()], sampled, entropy=ETA)
    advantages = leave_one_out_advantages(new, torch.arange(len(groups)).repeat_interleave(3))
    surrogate = (likely * (advantages * sampled).view(-1, 3).mean(1)).sum()
    estimated = torch.autograd.grad(surrogate, logits)[0]
    close(estimated, torch.autograd.grad(objective(logits, rewards), logits)[0])


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_the_gradient_vanishes_at_the_exact_optimum_and_leads_to_it(
    beta: float, logits: Tensor, ref_logprobs: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    target = reverse_kl_target(ref_logprobs, rewards, beta=beta, entropy=ETA)

    def gradient(theta: Tensor) -> Tensor:
        logprobs = theta.log_softmax(0)
        new = entropy_rewards(rewards, logprobs, entropy=ETA)
        return expected_gradient(
            kl_in_rewards(new, logprobs, ref_logprobs, beta=beta).detach() * logprobs, theta
        )

    close(gradient(target.clone().requires_grad_()), torch.zeros_like(rewards))
    assert float(gradient(logits).abs().max()) > 1e-2
    theta = logits.detach().clone().requires_grad_()
    for _ in range(100):  # natural gradient: it does not slow down where outcomes are rare
        theta = (theta + gradient(theta) / theta.softmax(0)).detach().requires_grad_()
    close(theta.log_softmax(0).detach(), target, 1e-10)


def test_unscorable_samples_stay_so_and_a_strength_of_zero_changes_nothing() -> None:
    rewards, logprobs = torch.tensor([math.nan, 1.0]), torch.tensor([-1.0, -2.0])
    assert entropy_rewards(rewards, logprobs, entropy=0.5).isnan().tolist() == [True, False]
    assert torch.equal(entropy_rewards(rewards[1:], logprobs[1:], entropy=0.0), rewards[1:])


def test_each_row_may_have_its_own_strength() -> None:
    rewards, logprobs = torch.zeros(2, 3), -torch.arange(6.0).view(2, 3)
    new = entropy_rewards(rewards, logprobs, entropy=torch.tensor([[1.0], [2.0]]))
    assert new.tolist() == [[0, 1, 2], [6, 8, 10]]


@pytest.mark.parametrize(
    ("logprobs", "entropy", "message"),
    [
        ([-1.0], 0.1, r"`logprobs` must have shape \(2,\) like `rewards`; got \(1,\)"),
        ([-1.0, -math.inf], 0.1, r"`logprobs` must be finite; got -inf at index 1"),
        ([-1.0, -1.0], -0.1, r"`entropy` must not be negative; got -0\.1"),
        ([-1.0, -1.0], math.inf, r"`entropy` must be finite; got inf"),
        ([-1.0, -1.0], torch.ones(3), r"`entropy` must broadcast to the shape \(2,\)"),
    ],
)
def test_what_has_no_meaning_is_refused(logprobs: list[float], entropy: float | Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        entropy_rewards(torch.ones(2), torch.tensor(logprobs), entropy=entropy)
