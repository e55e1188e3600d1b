"""Which samples stand for the reference's, and what each of them counts."""

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.samples import Samples
from allmodes.objectives.groups import Groups, group_max, group_mean, group_size, group_sum

_WORTH = 0.8  # of their number that weighted samples must be worth
_LARGEST = 50.0  # nats between two weights


@final
class Reference:
    """The samples of a log that stand for the reference's, and what each of them counts."""

    def __init__(
        self, samples: Samples, *, rows: Tensor | None = None, has_behavior_logprobs: bool = True
    ) -> None:
        """rows: of the samples; None for the log's own choice.

        has_behavior_logprobs: whether `policy_logprob` is of the policy that drew the samples, and not of
        another.
        """
        self._samples, self._rows = samples, rows
        self._has_behavior_logprobs = has_behavior_logprobs

    @property
    def rows(self) -> Tensor:
        """Samples with a reward that stand, with their weights, for the reference's; at least one."""
        return self._found[0]

    @property
    def weights(self) -> Tensor:
        """What each sample counts, (N,), above 0: 1 but for those that are weighted to the reference.

        These count π_ref(y)/π(y), up to a factor of their prompt that makes their mean 1.
        """
        return self._found[1]

    @property
    def gaps(self) -> Tensor | None:
        """Log π(y) − log π_ref(y) under the policy that drew each sample, (N,); None where not known."""
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
        """Samples with a reward of the first step, of all without steps; at least one."""
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
    """Rows of samples, and the weight of every sample of the log, (N,).

    The samples of the first step, and where it is known how likely they were under policy and reference, as
    many steps as will do: those of later ones are weighted with w = π_ref(y)/π(y), as long as all so far are
    worth at least 0.8 of their number, (Σw)²/Σw² ≥ 0.8 N. All other weights are 1.

    rewards: (N,), NaN where missing. steps: (N,), −1 where missing. gaps: (N,), log π(y) − log π_ref(y), NaN
    where missing, or None. first_rows: samples with a reward of the first step. Weights are above 0, with a
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
    scale = log_ratios[step == 0].max()  # for which (Σw)²/Σw² does not care, but a float does
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
    """Their exponentials over the mean of each group, (N,); none is 0."""
    largest = group_max(log_ratios, groups)[groups.index]
    ratios = (log_ratios - largest).clamp(min=-_LARGEST).exp()
    return ratios / group_mean(ratios, groups)[groups.index]
