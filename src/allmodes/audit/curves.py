"""Reward and diversity of a log's groups over training, window by window."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.ngrams import Texts, ead_of_groups
from allmodes.audit.samples import Samples, present
from allmodes.audit.windows import (
    Course,
    GroupFigures,
    Series,
    Window,
    course_of,
    error_of_entropy,
    error_of_mean,
    group_figures,
    windows,
)
from allmodes.objectives.groups import Groups, group_common, group_size, group_sum


@final
class Curves:
    """Figures of every group of an update, and of windows; MissingError if the log lacks a column."""

    def __init__(self, samples: Samples, texts: Texts | None, *, has_behavior_logprobs: bool) -> None:
        """texts: reads the responses again, for figures of their words.

        has_behavior_logprobs: whether `policy_logprob` is that of the policy that drew the samples.
        """
        self._samples, self._texts = samples, texts
        self._has_behavior_logprobs = has_behavior_logprobs
        self._courses: dict[Series, Course | None] = {}

    def series(self, name: Series) -> tuple[Tensor, Tensor]:
        """A figure of every group of an update, in the order of their steps: steps and values, (U,)."""
        if name == "ead":
            return self._ead_of_groups
        if name == "different":
            raise MissingError("samples have the share of different outcomes instead of their number")
        if name == "token_entropy":
            return self._token_entropy_of_groups
        if name == "kl":
            return self._kl_of_groups
        if name == "reward":
            _ = self._samples.rewards  # raises if the log has none
        elif name != "repeated":
            _ = self._samples.outcomes
        found = self._group_figures
        return found.steps, getattr(found, name)

    def course(self, name: Series) -> Course:
        """A figure over training."""
        _ = self._samples.steps  # raises if the log has none
        found = self._courses.get(name)
        if found is None:
            found = self._courses[name] = course_of(*self.series(name))
        if found is None:
            raise MissingError("the log has too few groups or steps to compare the first with the last")
        return found

    def last_window(self, name: Series) -> Window:
        """The last window that has a value of a figure; for a log without steps, all samples.

        If the window is a single group, the errors of reward and entropy are over samples.
        """
        known = [window for window in windows(*self.series(name)) if not math.isnan(window.mean)]
        if not known:
            raise MissingError(f"no group has a value for the {name}")
        last = known[-1]
        if len(last.values) > 1 or name not in ("reward", "entropy"):
            return last
        steps = self._samples.steps_or_one
        rows = (steps >= last.first_step) & (steps <= last.last_step)
        return replace(last, error=self._error_over_samples(name, rows))

    def _error_over_samples(self, name: Series, rows: Tensor) -> float:
        """Bootstrap error of the reward or the entropy of outcomes of one group."""
        if name == "reward":
            rewards = self._samples.rewards[rows]
            return error_of_mean(rewards[~rewards.isnan()])
        outcomes = self._samples.outcomes[rows]
        return error_of_entropy(torch.unique(outcomes[outcomes >= 0], return_counts=True)[1])

    @cached_property
    def _ead_of_groups(self) -> tuple[Tensor, Tensor]:
        """Expectation-adjusted distinct n-grams of at most 500 groups, evenly over training: steps, values.

        Of words, V = 50257; of a group's first 256 samples. Source: `allmodes.metrics.ead`.
        """
        if self._texts is None or self._samples.log.responses is None:
            raise MissingError("the log has no column `response`")
        return ead_of_groups(self._samples.updates, self._samples.steps_or_one, self._texts)

    @cached_property
    def _token_entropy_of_groups(self) -> tuple[Tensor, Tensor]:
        """−Σ log π over a group's samples, over the number of their tokens, nats: steps, values."""
        logprobs = self._policy_logprobs
        tokens = present(self._samples.log.num_tokens, "the log has no column `num_tokens`")
        rows = ~logprobs.isnan() & (tokens > 0)
        return self._by_step(rows, lambda at: -logprobs[at], lambda at: tokens[at].double())

    @cached_property
    def _kl_of_groups(self) -> tuple[Tensor, Tensor]:
        """Mean of log π − log π_ref over a group's samples, k1 of the KL, nats: steps, values."""
        logprobs = self._policy_logprobs
        gaps = logprobs - present(self._samples.log.ref_logprobs, "the log has no column `ref_logprob`")
        return self._by_step(~gaps.isnan(), lambda at: gaps[at], lambda at: torch.ones_like(gaps[at]))

    @property
    def _policy_logprobs(self) -> Tensor:
        missing = "the log has no column `policy_logprob` of the policy that drew the samples"
        if not self._has_behavior_logprobs:
            raise MissingError(missing)
        return present(self._samples.log.policy_logprobs, missing)

    def _by_step(
        self, rows: Tensor, values: Callable[[Tensor], Tensor], counts: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Sums of values over sums of counts of each group that has any, in the order of the steps."""
        steps, updates = self._samples.steps_or_one, self._samples.updates
        at = (rows & (steps >= 0)).nonzero().squeeze(1)
        groups = Groups(index=updates.index[at], count=updates.count)
        some = (group_size(groups) > 0).nonzero().squeeze(1)
        means = group_sum(values(at), groups)[some] / group_sum(counts(at), groups)[some]
        step = group_common(steps[at], groups)[some]
        order = torch.argsort(step, stable=True)
        return step[order], means[order]

    @cached_property
    def _group_figures(self) -> GroupFigures:
        """Diversity and reward of each group of an update; without outcomes, of responses as outcomes."""
        log, steps, updates = self._samples.log, self._samples.steps_or_one, self._samples.updates
        has_any = log.outcomes is not None or log.responses is not None
        outcomes = self._samples.outcomes if has_any else torch.full((len(log),), -1)
        known = (steps >= 0).nonzero().squeeze(1)
        rewards = torch.full((len(log),), math.nan) if log.rewards is None else log.rewards
        return group_figures(
            Groups(index=updates.index[known], count=updates.count),
            steps[known],
            outcomes=outcomes[known],
            responses=None if log.responses is None else log.responses[known],
            rewards=rewards[known],
        )
