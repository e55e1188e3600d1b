"""Optima of rewards that fall with an outcome's own probability."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.targets import crowding_target, forward_kl_target, integrate_flow, reverse_kl_target
from tensors import tensor

KLS = ("reverse", "forward")


def gains(p: Tensor, rewards: Tensor, penalty: Tensor, ref: Tensor, *, beta: float, kl: str) -> Tensor:
    pull = -beta * (p / ref).log() if kl == "reverse" else beta * ref / p
    return rewards - penalty * p + (pull if beta > 0 else 0)


def test_sparsemax_of_four_strengths() -> None:
    rewards = tensor(1, 0.9, 0.8, 0.2)
    # By hand: with k outcomes in use Λ = (Σ r − c)/k.
    expected = {
        0.25: (0.7, 0.3, 0, 0),
        0.5: (0.5333333333333333, 0.3333333333333333, 0.1333333333333333, 0),
        1.0: (0.4333333333333333, 0.3333333333333333, 0.2333333333333333, 0),
        6.0: (0.295833333333333333, 0.279166666666666667, 0.2625, 0.1625),
    }
    for penalty, wanted in expected.items():
        found = crowding_target(rewards, penalty=penalty).exp()
        assert torch.allclose(found, tensor(*wanted), atol=1e-15), penalty


def test_water_filling() -> None:
    rewards = tensor(1, 1, 1, 0.8, 0.4, 0)
    found = crowding_target(rewards, penalty=rewards).exp()
    level = 12 / 17  # of 4 outcomes in use: Σ(1 − Λ/r) = 1, so Λ (3 + 1.25) = 3
    assert torch.allclose(found, tensor(*[1 - level] * 3, 1 - level / 0.8, 0, 0), atol=1e-15)
    assert [round(float(p), 3) for p in found] == [0.294, 0.294, 0.294, 0.118, 0, 0]


@given(
    rewards=st.lists(st.floats(-3, 3), min_size=2, max_size=6),
    seed=st.integers(0, 1000),
    beta=st.sampled_from([0.0, 1e-3, 0.1, 1.0, 30.0]),
    kl=st.sampled_from(KLS),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_all_in_use_gain_the_same_and_others_less(
    rewards: list[float], seed: int, beta: float, kl: str, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    r = tensor(*rewards)
    ref = torch.randn(len(r), generator=generator, dtype=torch.float64).softmax(0)
    penalty = scale * (0.1 + torch.rand(len(r), generator=generator, dtype=torch.float64))
    found = crowding_target(r, penalty=penalty, ref_logprobs=ref.log(), beta=beta, kl=kl)  # pyright: ignore[reportArgumentType]
    p = found.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    at = gains(p, r, penalty, ref, beta=beta, kl=kl)
    if beta > 0:  # nobody is lost; log p, not p, keeps the digits of the rare ones
        at = r - penalty * p + (beta * (ref.log() - found) if kl == "reverse" else beta * ref / p)
    used = p > 0
    tolerance = 1e-10 * (1 + float(at[used].abs().max()) + scale)
    assert float(at[used].max() - at[used].min()) < tolerance
    if not bool(used.all()):
        assert float(at[~used].max()) <= float(at[used].max()) + tolerance


@pytest.mark.parametrize("kl", KLS)
def test_the_flow_of_the_gains_ends_there(kl: str) -> None:
    rewards, ref = tensor(1, 0.7, 0.4), tensor(0.1, 0.3, 0.6)
    penalty, beta = tensor(0.5, 1.0, 0), 0.2

    def flow(logprobs: Tensor) -> Tensor:
        p = logprobs.exp()
        at = gains(p, rewards, penalty, ref, beta=beta, kl=kl)
        return p * (at - (p * at).sum())

    end = integrate_flow(flow, tensor(0.2, 0.2, 0.6).log(), times=tensor(150), max_step=0.5)[-1]
    found = crowding_target(rewards, penalty=penalty, ref_logprobs=ref.log(), beta=beta, kl=kl)  # pyright: ignore[reportArgumentType]
    assert torch.allclose(end.exp(), found.exp(), atol=1e-9)


def test_without_a_penalty_it_is_plain() -> None:
    rewards, ref = tensor(1, 0.7, 0.4), tensor(0.1, 0.3, 0.6).log()
    options = {"penalty": 0.0, "ref_logprobs": ref, "beta": 0.2}
    assert torch.allclose(crowding_target(rewards, **options), reverse_kl_target(ref, rewards, beta=0.2))  # pyright: ignore[reportArgumentType]
    found = crowding_target(rewards, **options, kl="forward")  # pyright: ignore[reportArgumentType]
    assert torch.allclose(found, forward_kl_target(ref, rewards, beta=0.2).logprobs)


def test_rows_are_solved_by_themselves_and_the_reverse_kl_keeps_the_support() -> None:
    rewards = tensor(1, 0.5, 2, 3).view(2, 2)
    both = crowding_target(rewards, penalty=0.7)
    assert torch.equal(both, torch.stack([crowding_target(row, penalty=0.7) for row in rewards]))
    ref = tensor(0.5, 0.5, 0).log()
    found = crowding_target(tensor(0, 0.1, 9), penalty=1.0, ref_logprobs=ref, beta=0.1)
    assert found[2] == -torch.inf
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-14)


def test_bad_input_is_refused() -> None:
    rewards = tensor(1, 0.5)
    with pytest.raises(InputError, match="`penalty` must not be negative; got -1"):
        crowding_target(rewards, penalty=-1.0)
    with pytest.raises(InputError, match="`penalty` must be above 0 at the best reward"):
        crowding_target(rewards, penalty=0.0)
    with pytest.raises(InputError, match="`ref_logprobs` must be given"):
        crowding_target(rewards, penalty=1.0, beta=0.1)
