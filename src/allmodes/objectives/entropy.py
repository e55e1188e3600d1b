"""The entropy of the policy as a reward."""

import torch
from torch import Tensor

from allmodes.checks import check_broadcasts, check_finite, check_same_shape
from allmodes.errors import InputError


def entropy_rewards(rewards: Tensor, logprobs: Tensor, *, entropy: float | Tensor) -> Tensor:
    """Rewards with the entropy bonus inside: R − η log π_θ, no gradient; of whole sequences.

    E[r̄] = E[R] + η H(π_θ),   and a policy gradient on r̄ is the exact gradient of that sum, with any baseline
    that does not depend on the sample itself:   ∇H = −E[log π_θ ∇ log π_θ], for E[∇ log π_θ] = 0

    rewards, logprobs: equal shapes; log-probabilities in nats. entropy: η, a number or of a shape that
    broadcasts to it. A NaN reward stays NaN. With an additional reverse KL of strength β the optimum is
    `reverse_kl_target(..., beta=β, entropy=η)`.

    Raises InputError for shapes that disagree, log-probabilities that are not finite, or η < 0 or not finite.
    Source: Williams & Peng 1991; the optimum is MARA's Remark 3.1.

    >>> entropy_rewards(torch.tensor([1.0, 1.0]), torch.tensor([-2.0, -7.0]), entropy=0.1)
    tensor([1.2000, 1.7000])
    """
    check_same_shape("logprobs", logprobs, "rewards", rewards)
    check_finite("logprobs", logprobs)
    check_broadcasts("entropy", entropy, "rewards", rewards)
    weight = torch.as_tensor(entropy)
    check_finite("entropy", weight)
    if bool((weight < 0).any()):
        raise InputError(f"`entropy` must not be negative; got {float(weight[weight < 0][0])}")
    return rewards - entropy * logprobs.detach()
