"""Which samples are used as samples of the reference, and their weights."""

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.samples import Samples
from allmodes.objectives.groups import Groups, group_max, group_mean, group_size, group_sum

_WORTH = 0.8  # smallest effective sample size, as a share of the number of samples
_LARGEST = 50.0  # largest difference of two log-weights, nats


@final
class Reference:
    """The samples of a log that are used as samples of the reference, with their weights."""

    def __init__(
        self, samples: Samples, *, rows: Tensor | None = None, has_behavior_logprobs: bool = True
    ) -> None:
        """rows: indices of the samples; None to choose them from the log.

        has_behavior_logprobs: whether `policy_logprob` is that of the policy that drew the samples, not of
        another.
        """
        self._samples, self._rows = samples, rows
        self._has_behavior_logprobs = has_behavior_logprobs

    @property
    def rows(self) -> Tensor:
        """Samples with a reward that are used, weighted, as samples of the reference; at least one."""
        return self._found[0]

    @property
    def weights(self) -> Tensor:
        """The weight of each sample, (N,), above 0; 1 except for samples reweighted to the reference.

        Their weights are π_ref(y)/π(y), scaled to a mean of 1 for each prompt.
        """
        return self._found[1]

    @property
    def gaps(self) -> Tensor | None:
        """Log π(y) − log π_ref(y) under the policy that drew each sample, (N,); None if not known."""
        log = self._samples.log
        if not self._has_behavior_logprobs or log.ref_logprobs is None or log.policy_logprobs is None:
            return None
        return log.policy_logprobs - log.ref_logprobs

    @cached_property
    def _found(self) -> tuple[Tensor, Tensor]:
        samples, count = self._samples, len(self._samples.log)
        if self._rows is not None:
            return self._rows, torch.ones(count, dtype=torch.float64)
        prompts = samples.prompts_of(torch.arange(count))
        return reference_samples(samples.rewards, samples.steps_or_one, self.gaps, self._first_rows, prompts)

    @property
    def _first_rows(self) -> Tensor:
        """Samples with a reward of the first step, or of the whole log without steps; at least one."""
        rows = ~self._samples.rewards.isnan()
        steps = self._samples.log.steps
        if steps is not None:
            known = steps[steps >= 0]
            rows &= steps == known.min()
        if not bool(rows.any()):
            raise MissingError("no sample of the first step has a reward")
        return rows.nonzero().squeeze(1)


def reference_samples(
    rewards: Tensor, steps: Tensor, gaps: Tensor | None, first_rows: Tensor, prompts: Groups
) -> tuple[Tensor, Tensor]:
    """Rows of the chosen samples, and the weight of every sample of the log, (N,).

    The samples of the first step are used. If log-probabilities under policy and reference are known, samples
    of later steps are added with the weights w = π_ref(y)/π(y), as long as the effective sample size stays at
    0.8 of their number, (Σw)²/Σw² ≥ 0.8 N. All other weights are 1.

    rewards: (N,), NaN if missing. steps: (N,), −1 if missing. gaps: (N,), log π(y) − log π_ref(y), NaN
    if missing, or None. first_rows: samples with a reward of the first step. Weights are above 0, with a
    mean of 1 over a prompt. Source: Kong 1992, effective sample size of importance weights.
    """
    weights = torch.ones(len(rewards), dtype=torch.float64)
    if gaps is None:
        return first_rows, weights
    known = (~rewards.isnan() & ~gaps.isnan() & (steps >= 0)).nonzero().squeeze(1)
    if len(known) == 0 or int(steps[known].min()) > int(steps[first_rows].min()):
        return first_rows, weights
    distinct, step = torch.unique(steps[known], return_inverse=True)
    log_ratios = -gaps[known]
    scale = log_ratios[step == 0].max()  # cancels in (Σw)²/Σw², but avoids overflow
    ratios = (log_ratios - scale).clamp(-_LARGEST, _LARGEST).exp()
    by_step = Groups(index=step, count=len(distinct))
    sums, squares = (group_sum(values, by_step).cumsum(0) for values in (ratios, ratios.square()))
    is_worth = sums.square() >= _WORTH * squares * group_size(by_step).cumsum(0)
    last = int(is_worth.long().cumprod(0).sum().clamp(min=1)) - 1
    chosen = step <= last
    rows = known[chosen]
    weights[rows] = _weights(log_ratios[chosen], Groups(index=prompts.index[rows], count=prompts.count))
    return rows, weights


def _weights(log_ratios: Tensor, groups: Groups) -> Tensor:
    """Exponentials divided by the mean of their group, (N,); none is 0."""
    largest = group_max(log_ratios, groups)[groups.index]
    ratios = (log_ratios - largest).clamp(min=-_LARGEST).exp()
    return ratios / group_mean(ratios, groups)[groups.index]
