"""Rewards for any target distribution; MARA is a special case."""

from torch import Tensor

from allmodes.checks import check_broadcasts, check_finite, check_positive, check_same_shape


def target_rewards(log_density: Tensor, ref_logprobs: Tensor, *, beta: float | Tensor) -> Tensor:
    """Rewards whose reverse-KL-regularised optimum is proportional to a given density g.

    r = β (log g − log π_ref),   so that   π_ref exp(r/β) = g

    log_density: log g up to a constant, in nats; ref_logprobs: log π_ref, in nats; equal shapes, and β a
    number or a tensor that broadcasts.
    log g = log π_ref + R/β gives back R; log g = log π_ref(z) + R(z)/β above τ is MARA.

    Raises InputError for shapes that disagree, β ≤ 0, or values that are not finite (use a low density for an
    unwanted sample, not zero). Source: MARA, equation 2 solved for R.

    >>> ref_logprobs = torch.tensor([0.9, 0.1]).log()
    >>> target_rewards(torch.tensor([0.5, 0.5]).log(), ref_logprobs, beta=0.1)  # uniform is wanted
    tensor([-0.0588,  0.1609])
    """
    check_same_shape("ref_logprobs", ref_logprobs, "log_density", log_density)
    check_positive("beta", beta)
    check_broadcasts("beta", beta, "log_density", log_density)
    check_finite("log_density", log_density)
    check_finite("ref_logprobs", ref_logprobs)
    return beta * (log_density - ref_logprobs)
