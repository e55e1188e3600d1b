"""MaxRL: by hand, by enumeration; the start decides, or a KL."""

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, Batch, EntropyBonus, MaxRL, Plain, Then
from allmodes.targets import integrate_flow
from enumerated_groups import expected_gradient, gains_of_many, gradient_of, logits_of, relative_gains
from sequence_worlds import sequence_logprobs
from tensors import tensor


def test_by_hand() -> None:
    batch = Batch(
        rewards=torch.tensor([1.0, 0.0, 0.0, torch.nan, 0.0, 0.0, 2.0, 1.0]),
        group_ids=torch.tensor([0, 0, 0, 0, 5, 5, 7, 7]),
    )
    result = MaxRL()(batch, beta=0.0)
    wanted = torch.tensor([2, -1, -1, torch.nan, 0, 0, 1 / 3, -1 / 3])
    assert result.rewards.dtype == torch.float32
    assert torch.allclose(result.rewards, wanted, equal_nan=True)
    assert result.metrics == {"groups_without_reward": pytest.approx(1 / 3)}
    order = torch.tensor([7, 2, 5, 0, 3, 1, 6, 4])
    turned = MaxRL()(Batch(rewards=batch.rewards[order], group_ids=batch.group_ids[order]), beta=0.0).rewards
    assert torch.equal(turned.nan_to_num(9), result.rewards[order].nan_to_num(9))


def test_what_it_cannot_take_is_refused() -> None:
    ids = torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match=r"must not be negative for MaxRL.*got -1"):
        MaxRL()(Batch(rewards=tensor(1, -1), group_ids=ids), beta=0.0)
    with pytest.raises(InputError, match="MaxRL returns advantages, so it must come last"):
        Then(MaxRL(), EntropyBonus(0.1))


def weight(rate: Tensor, size: int) -> Tensor:
    """Σ_k (1 − ρ)^(k−1) over k = 1 .. G − 1: of the gradients of (1/k) pass@k."""
    return sum(((1 - rate) ** k for k in range(size - 1)), torch.zeros_like(rate))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_expected_update_in_small_groups_is_of_truncated_likelihood(size: int) -> None:
    rewards, tables = tensor(1, 1, 0), logits_of(0.2, 0.1, 0.7)
    rate = tensor(0.3)[0]
    (wanted,) = gradient_of(tables, weight(rate, size) * rewards)
    (found,) = expected_gradient(MaxRL(), tables, rewards, size=size)
    assert torch.allclose(found, wanted, atol=1e-15, rtol=0)
    assert torch.allclose(weight(rate, size), (1 - (1 - rate) ** (size - 1)) / rate, atol=1e-15)
    (doubled,) = expected_gradient(MaxRL(), tables, 2 * rewards, size=size)
    assert torch.allclose(doubled, wanted, atol=1e-15, rtol=0)
    two = [tensor(0.3, -0.2).view(1, 2), tensor(0.5, 0, -0.7, 0.2).view(2, 2)]
    solved = tensor(0, 1, 1, 0)
    p = sequence_logprobs(two).exp()
    both = gradient_of(two, weight((p * solved).sum(), size) * solved)
    enumerated = expected_gradient(MaxRL(), two, solved, size=size, outcome_ids=torch.tensor([0, 1, 1, -1]))
    assert all(torch.allclose(a, b, atol=1e-15, rtol=0) for a, b in zip(enumerated, both, strict=True))


def test_expected_update_of_many_samples_is_that_of_the_logarithm() -> None:
    rewards, p = tensor(1, 0.7, 0.2), tensor(0.5, 0.3, 0.2)
    logits = p.log().requires_grad_()
    (wanted,) = torch.autograd.grad((logits.softmax(0) * rewards).sum().log(), logits)
    found = p * gains_of_many(MaxRL(), (5, 3, 2), rewards)
    assert torch.allclose(found, wanted, atol=1e-15)


def test_of_three_tied_winners_the_first_at_the_start_takes_all() -> None:
    def flow(logprobs: Tensor) -> Tensor:
        # The softmax flow p (R − ρ)/ρ with ρ = 1 − p₃, over p₃: the same path, of which the end is slow.
        p = logprobs.exp()
        rate = p[:3].sum()
        return torch.cat([p[:3] / rate, -torch.ones_like(p[3:])])

    start = tensor(0.3, 0.25, 0.2, 0.25).log()
    end = integrate_flow(flow, start, times=tensor(30), max_step=0.05)[-1].exp()
    assert torch.allclose(end, tensor(1, 0, 0, 0), atol=1e-3)
    assert MaxRL().optimum(start, tensor(1, 1, 1, 0), beta=0.0) is None


@pytest.mark.parametrize("kl", ["reverse", "forward"])
@pytest.mark.parametrize("beta", [0.02, 0.5, 20.0])
@pytest.mark.parametrize("rewards", [(1, 0.7, 0.2, 0), (0, 0, 0, 3), (1, 1, 0, 0)])
def test_with_a_kl_all_gain_the_same(rewards: tuple[float, ...], beta: float, kl: str) -> None:
    r, ref = tensor(*rewards), tensor(0.1, 0.2, 0.3, 0.4)
    found = MaxRL().optimum(ref.log(), r, beta=beta, kl=kl)  # pyright: ignore[reportArgumentType]
    assert found is not None
    p = found.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    pull = ref.log() - found if kl == "reverse" else ref / p
    at = r / (p * r).sum() + beta * pull
    assert float(at.max() - at.min()) < 1e-11 * (1 + beta)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_with_a_kl_the_enumerated_update_vanishes(size: int) -> None:
    rewards, ref, beta = tensor(2, 0, 2), tensor(0.1, 0.6, 0.3).log(), 0.7
    found = MaxRL().optimum(ref, rewards, beta=beta, group_size=size)
    assert found is not None
    at = relative_gains(MaxRL(), [found.view(1, 3)], rewards, size=size, ref=ref, beta=beta)
    assert float(at.abs().max()) < 1e-14
    assert float(found[2] - found[0]) == pytest.approx(float(ref[2] - ref[0]))  # winners keep their ratio


def test_the_flow_with_a_kl_ends_there() -> None:
    rewards, ref, beta = tensor(1, 0.5, 0), tensor(0.05, 0.15, 0.8).log(), 0.3

    def flow(logprobs: Tensor) -> Tensor:
        return rewards / (logprobs.exp() * rewards).sum() - beta * (logprobs - ref)

    end = integrate_flow(flow, tensor(0.3, 0.3, 0.4).log(), times=tensor(100), max_step=0.2)[-1]
    found = MaxRL().optimum(ref, rewards, beta=beta)
    assert found is not None
    assert torch.allclose(end.exp(), found.exp(), atol=1e-9)


def test_rows_are_solved_by_themselves() -> None:
    ref, rewards = tensor(0.1, 0.9, 0.5, 0.5).log().view(2, 2), tensor(1, 0, 0.2, 1).view(2, 2)
    both = MaxRL().optimum(ref, rewards, beta=0.2)
    one = MaxRL().optimum(ref[1], rewards[1], beta=0.2)
    assert both is not None
    assert one is not None
    assert torch.allclose(both[1], one, atol=1e-15)


def test_what_is_not_known() -> None:
    ref = tensor(0.1, 0.9, 0).log()
    assert MaxRL().optimum(ref, tensor(1, 0.5, 0), beta=0.1, group_size=4) is None  # rewards between 0 and 1
    assert MaxRL().optimum(ref, tensor(0, 0, 1), beta=0.1) is None  # never rewarded
    assert MaxRL().optimum(ref, tensor(0, 0, 0), beta=0.1) is None
    assert Plain().optimum(ref, tensor(1, 0.5, 0), beta=0.1) is not None


def test_it_is_registered() -> None:
    assert METHODS["max_rl"] is MaxRL
