"""From strings to outcomes, since an answer or a molecule can be written in many ways."""

import torch
from torch import Tensor

from allmodes.checks import check_finite, check_ids, check_same_shape, check_vector
from allmodes.objectives.groups import group_max, group_size, group_sum, make_groups, pair_groups


def outcome_ref_logprobs(
    ref_logprobs: Tensor, logprobs: Tensor, outcome_ids: Tensor, *, group_ids: Tensor | None = None
) -> Tensor:
    """Estimate the reference's log-probability of each sample's outcome, over all its strings.

    log q̂(o) = log (1/G) Σ_{j: o_j = o} π_ref(y_j) / π_θ(y_j)

    Importance weights make q̂ unbiased for samples of π_θ; its logarithm is biased in small groups. With
    these values instead of `ref_logprobs`, MARA makes all good *outcomes* equally likely, with the
    reference's shares of strings within each, instead of all good strings.

    ref_logprobs, logprobs: (N,), of whole sequences, nats. outcome_ids, group_ids: (N,) integers. Returns
    (N,), no gradient. Raises InputError for shapes that disagree or values that are not finite. Source: MARA,
    equation 11, with the outcome instead of the sample.

    >>> ref_logprobs, logprobs = torch.tensor([-2.0, -3.0, -1.0]), torch.tensor([-1.0, -1.0, -1.0])
    >>> outcome_ref_logprobs(ref_logprobs, logprobs, torch.tensor([0, 0, 1])).exp()
    tensor([0.1677, 0.1677, 0.3333])
    """
    check_vector("ref_logprobs", ref_logprobs)
    check_same_shape("logprobs", logprobs, "ref_logprobs", ref_logprobs)
    check_ids("outcome_ids", outcome_ids, "ref_logprobs", ref_logprobs)
    check_finite("ref_logprobs", ref_logprobs)
    check_finite("logprobs", logprobs)
    groups = make_groups(group_ids, ref_logprobs)
    pairs = pair_groups(outcome_ids, groups)
    log_weights = (ref_logprobs - logprobs).detach()
    top = group_max(log_weights, pairs)
    total = group_sum(torch.exp(log_weights - top[pairs.index]), pairs)
    log_size = group_size(groups)[groups.index].to(log_weights.dtype).log()
    return (top + total.log())[pairs.index] - log_size
