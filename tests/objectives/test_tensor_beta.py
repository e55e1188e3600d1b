"""β may differ from sample to sample: each then has what it would have under its own number."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import kl_in_rewards, mara_rewards, target_rewards, trajectory_balance_loss
from tensors import close

COUNT = 12
BETAS = torch.tensor([0.05, 0.3, 2.0], dtype=torch.float64).repeat_interleave(4)
GROUPS = torch.arange(3).repeat_interleave(4)

Function = Callable[[float | Tensor], Tensor]  # of β, (N,)


def random(seed: int) -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REWARDS, LOGPROBS, REFERENCE = random(0), random(1) - 3, 2 * random(2) - 6
FUNCTIONS: dict[str, Function] = {
    "mara_rewards": lambda beta: (
        mara_rewards(REWARDS, REFERENCE, beta=beta, threshold=-0.5, group_ids=GROUPS).rewards
    ),
    "mara_rewards, bonus": lambda beta: (
        mara_rewards(REWARDS, REFERENCE, beta=beta, threshold=-0.5, group_ids=GROUPS).bonus
    ),
    "mara_rewards, leave-one-out": lambda beta: (
        mara_rewards(
            REWARDS, REFERENCE, beta=beta, threshold=-0.5, group_ids=GROUPS, anchor="leave_one_out"
        ).rewards
    ),
    "mara_rewards, capped": lambda beta: (
        mara_rewards(
            REWARDS, REFERENCE, beta=beta, threshold=-0.5, group_ids=GROUPS, max_gap_bonus=0.1
        ).rewards
    ),
    "mara_rewards, capped, algorithm 2": lambda beta: (
        mara_rewards(
            REWARDS, REFERENCE, beta=beta, threshold=-0.5, group_ids=GROUPS, max_gap_bonus=0.1
        ).ref_logprobs
    ),
    "kl_in_rewards": lambda beta: kl_in_rewards(REWARDS, LOGPROBS, REFERENCE, beta=beta),
    "target_rewards": lambda beta: target_rewards(LOGPROBS, REFERENCE, beta=beta),
    "trajectory_balance_loss": lambda beta: trajectory_balance_loss(
        LOGPROBS, REFERENCE, REWARDS, random(3), beta=beta
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_sample_has_what_its_own_number_would_give_it(name: str) -> None:
    function = FUNCTIONS[name]
    together = function(BETAS)
    assert together.shape == (COUNT,)
    for group, beta in enumerate((0.05, 0.3, 2.0)):
        close(together[group == GROUPS], function(beta)[group == GROUPS])
    # Within a group, too: every sample with a β of its own.
    betas = torch.linspace(0.1, 2, COUNT, dtype=torch.float64)
    alone = torch.stack([function(float(beta))[index] for index, beta in enumerate(betas)])
    close(function(betas), alone)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_tensor_of_one_number_is_the_number(name: str) -> None:
    function = FUNCTIONS[name]
    close(function(torch.tensor(0.3, dtype=torch.float64)), function(0.3))
    close(function(torch.full((COUNT,), 0.3, dtype=torch.float64)), function(0.3))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_matters(name: str) -> None:
    """The samples are such that β shows in two groups at least, so that it would show if they swapped it."""
    apart = (FUNCTIONS[name](0.05) - FUNCTIONS[name](2.0)).abs() > 1e-3
    assert sum(bool(apart[group == GROUPS].any()) for group in range(3)) >= 2


def test_what_mara_tells_beside_the_rewards_does_not_depend_on_beta() -> None:
    """Anchors, who is augmented, and the pair of algorithm 2."""
    one = mara_rewards(REWARDS, REFERENCE, beta=0.3, threshold=-0.5, group_ids=GROUPS)
    many = mara_rewards(REWARDS, REFERENCE, beta=BETAS, threshold=-0.5, group_ids=GROUPS)
    assert torch.equal(one.anchor_index, many.anchor_index)
    assert torch.equal(one.augmented, many.augmented)
    close(one.anchor_rewards, many.anchor_rewards)
    close(one.ref_logprobs, many.ref_logprobs)
    close(many.rewards, many.anchor_rewards + BETAS * (many.ref_logprobs - REFERENCE))


def test_gradients_of_trajectory_balance_have_the_beta_of_their_sample() -> None:
    logprobs = LOGPROBS.clone().requires_grad_()
    losses = trajectory_balance_loss(logprobs, REFERENCE, REWARDS, torch.zeros_like(REWARDS), beta=BETAS)
    gradient = torch.autograd.grad(losses.sum(), logprobs)[0]
    close(gradient, 2 * (LOGPROBS - REFERENCE - REWARDS / BETAS))


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["mara_rewards", "target_rewards", "trajectory_balance_loss"])
def test_one_beta_that_is_not_above_zero_is_refused(name: str, value: float) -> None:
    betas = BETAS.clone()
    betas[7] = value
    with pytest.raises(InputError, match=f"`beta` must be finite and above 0; got {value}"):
        FUNCTIONS[name](betas)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_beta_that_is_not_finite_is_refused_by_kl_in_rewards(value: float) -> None:
    """Zero is a setting without a KL."""
    betas = BETAS.clone()
    betas[7] = 0
    close(FUNCTIONS["kl_in_rewards"](betas)[7], REWARDS[7])
    betas[7] = value
    with pytest.raises(InputError, match="`beta`"):
        FUNCTIONS["kl_in_rewards"](betas)


@pytest.mark.parametrize("name", ["mara_rewards", "trajectory_balance_loss"])
def test_a_beta_that_is_neither_a_number_nor_one_for_each_sample_is_refused(name: str) -> None:
    """Broadcast, it would make a table of N × N of what has to be N numbers."""
    for shape in ((1,), (3,), (COUNT, 1), (1, COUNT), (2, COUNT)):
        with pytest.raises(InputError, match=r"`beta` must .*shape"):
            FUNCTIONS[name](torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("name", ["kl_in_rewards", "target_rewards"])
def test_a_beta_that_does_not_broadcast_to_the_shape_of_the_samples_is_refused(name: str) -> None:
    """These take tensors of any shape, and what they return has to have that shape."""
    for shape in ((3,), (COUNT, 1), (1, COUNT), (2, COUNT)):
        with pytest.raises(InputError, match="`beta`"):
            FUNCTIONS[name](torch.ones(shape, dtype=torch.float64))
