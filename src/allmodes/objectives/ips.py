"""Inverse probability scaling: rewards divided by the frequency of their outcome."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from allmodes.checks import check_fraction, check_ids, check_not_negative, check_vector
from allmodes.objectives.groups import make_groups, outcome_frequency


@final
@dataclass(frozen=True, kw_only=True)
class IpsResult:
    """The result of IPS for a batch; all of shape (N,).

    rewards: scaled. frequencies: p̂ = n/G of each sample's outcome, before clipping. clipped: whether the
    minimum probability replaced p̂.
    """

    rewards: Tensor
    frequencies: Tensor
    clipped: Tensor


def ips_rewards(
    rewards: Tensor,
    outcome_ids: Tensor,
    *,
    min_probability: float = 0.0,
    exponent: float = 1.0,
    group_ids: Tensor | None = None,
) -> IpsResult:
    """Divide each reward by the frequency of its outcome in its group.

    r̄_i = r_i / max(p̂(outcome of y_i), p_min)^α,   p̂ = n/G

    rewards: (N,); NaN stays NaN, but its sample still counts in n and G. outcome_ids,
    group_ids: (N,) integers; one outcome has one id across groups. min_probability: p_min, which bounds the
    scale; 0 is no clipping. exponent: α; 1 is IPS. With exact probabilities the optimum is p ∝ r^(1/α); with
    the frequencies of G samples and α = 1 it is p_i ∝ r_i (1 − (1 − p_i)^G). Never shift rewards before
    scaling: a constant changes the optimum. Outcomes with negative rewards go extinct, the rare ones first;
    `methods.IPS` refuses them.

    Raises InputError for shapes that disagree, p_min outside [0, 1] or α < 0. Source: IPS, equation 9; other
    exponents: UA-RL, arXiv 2601.08763, there on advantages.

    >>> outcome_ids = torch.tensor([0, 0, 0, 1])
    >>> ips_rewards(torch.ones(4), outcome_ids).rewards
    tensor([1.3333, 1.3333, 1.3333, 4.0000])
    """
    check_vector("rewards", rewards)
    check_ids("outcome_ids", outcome_ids, "rewards", rewards)
    check_fraction("min_probability", min_probability)
    check_not_negative("exponent", exponent)
    frequencies = outcome_frequency(outcome_ids, make_groups(group_ids, rewards)).to(rewards.dtype)
    probabilities = frequencies.clamp(min=min_probability)
    return IpsResult(
        rewards=rewards / (probabilities if exponent == 1 else probabilities**exponent),
        frequencies=frequencies,
        clipped=frequencies < min_probability,
    )
