"""What all checks look at: the log, the settings, and what follows from both, worked out once."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.audit.findings import MissingError
from allmodes.audit.log import Log
from allmodes.audit.units import Units, mara_logprobs, optimum_logprobs, outcome_units, response_units
from allmodes.audit.windows import GroupFigures, group_figures
from allmodes.metrics import ead
from allmodes.metrics.text import words
from allmodes.objectives.groups import Groups, group_common, pair_groups
from allmodes.objectives.thresholds import BatchQuantile
from allmodes.runs.audit_config import AuditConfig

_SUGGESTED = 0.9  # quantile of the rewards, as MARA takes for question answering
_MOST_GROUPS, _VOCABULARY = 500, 50257  # whose texts are read again; Kirk et al. 2023
_REPEATS = 2  # samples an outcome, on the mean, from which on shares stand for probabilities


Texts = Callable[[Sequence[int]], list[str]]
"""Numbers of samples, rising → their responses, read again: a log keeps no texts."""


@final
class Evidence:
    """A log with its settings. Properties raise MissingError where they cannot be had."""

    def __init__(self, log: Log, config: AuditConfig, *, texts: Texts | None = None) -> None:
        self.log, self.config, self._texts = log, config, texts

    @cached_property
    def rewards(self) -> Tensor:
        """(N,), NaN where a sample has none."""
        if self.log.rewards is None:
            raise MissingError("the log has no column `reward`")
        return self.log.rewards

    @property
    def steps(self) -> Tensor:
        """(N,), −1 where a sample has none."""
        if self.log.steps is None:
            raise MissingError("the log has no column `step`")
        return self.log.steps

    @property
    def beta(self) -> float:
        """Strength of the KL."""
        if self.config.beta is None:
            raise MissingError("the strength of the KL is not known: give `--beta`")
        return self.config.beta

    @cached_property
    def reference_rows(self) -> Tensor:
        """Samples with a reward that were drawn before training: of the first step, all without steps."""
        rows = ~self.rewards.isnan()
        steps = self.log.steps
        if steps is not None:
            known = steps[steps >= 0]
            rows &= steps == known.min()
        return rows.nonzero().squeeze(1)

    @cached_property
    def good_from(self) -> float:
        """The reward from which on a sample is good: as given, or suggested from the first samples."""
        for given in (self.config.good, self.config.threshold):
            if given is not None:
                return given
        return self.suggested_threshold

    @cached_property
    def suggested_threshold(self) -> float:
        """The .9 quantile of the first samples' rewards, the largest where that is the smallest, too."""
        rewards = self.rewards[self.reference_rows]
        largest = float(rewards.max())
        if largest == float(rewards.min()):
            raise MissingError("all samples have the same reward: none is better than another")
        quantile = float(BatchQuantile(_SUGGESTED)(rewards)[0])
        return largest if math.isinf(quantile) else quantile

    @cached_property
    def kind(self) -> Literal["outcome", "response"]:
        """What is told apart.

        Outcomes, whose probabilities are their shares of the reference's samples, where the log names them
        and they come again and again; else different responses, whose log-probabilities the log has to give.
        """
        log = self.log
        if log.outcomes is not None:
            found = log.outcomes[self.reference_rows]
            different = len(pair_groups(found, self.groups_of(self.reference_rows)).index.unique())
            if len(found) >= _REPEATS * different:
                return "outcome"
        if log.responses is not None and log.ref_logprobs is not None:
            return "response"
        lacks = "no column `outcome`" if log.outcomes is None else "outcomes that hardly come twice"
        raise MissingError(f"the log has {lacks}, and no column `ref_logprob`, which `--model` computes")

    @cached_property
    def unit_rows(self) -> Tensor:
        """What units are made of: samples of the reference for outcomes, else all with log-probabilities."""
        if self.kind == "outcome":
            return self.reference_rows
        rows = (~self.rewards.isnan() & ~_present(self.log.ref_logprobs).isnan()).nonzero().squeeze(1)
        if len(rows) == 0:
            raise MissingError("no sample has both `reward` and `ref_logprob`")
        return rows

    @cached_property
    def units(self) -> Units:
        """What can be told apart, by prompt."""
        return self.units_of(self.unit_rows, beta=self.config.beta)

    def units_of(self, rows: Tensor, *, beta: float | None) -> Units:
        """The units of some of the samples; for outcomes, what is invalid is one of its own, the last.

        beta: of the optimum that their rewards are for; None for their mean rewards.
        """
        groups, rewards = self.groups_of(rows), self.rewards[rows]
        if self.kind == "outcome":
            chosen = _present(self.log.outcomes)[rows]
            named = torch.where(chosen < 0, len(self.log.outcome_names), chosen)
            return outcome_units(groups, named, rewards, beta=beta)
        ref_logprobs, responses = _present(self.log.ref_logprobs)[rows], _present(self.log.responses)[rows]
        return response_units(groups, responses, rewards, ref_logprobs, beta=beta)

    @cached_property
    def ead_of_groups(self) -> tuple[Tensor, Tensor]:
        """Expectation-adjusted distinct n-grams of at most 500 groups, evenly over training: steps, values.

        Of words, V = 50257. Source: `allmodes.metrics.ead`.
        """
        steps = self.steps
        if self._texts is None or self.log.responses is None:
            raise MissingError("the log has no column `response`")
        order = torch.argsort(steps, stable=True)
        known = order[steps[order] >= 0]
        groups = self.updates.index[known]
        found = _in_order(groups)
        chosen = found[torch.linspace(0, len(found) - 1, min(len(found), _MOST_GROUPS)).round().long()]
        rows = known[torch.isin(groups, chosen)].sort().values
        tokens: dict[int, list[list[str]]] = {}
        for row, text in zip(rows.tolist(), self._texts(rows.tolist()), strict=True):
            tokens.setdefault(int(self.updates.index[row]), []).append(words(text))
        values = [ead(tokens[group], vocabulary_size=_VOCABULARY) for group in chosen.tolist()]
        step_of = group_common(steps[known], Groups(index=groups, count=self.updates.count))
        return step_of[chosen], torch.tensor(values, dtype=torch.float64)

    @cached_property
    def group_figures(self) -> GroupFigures:
        """Diversity and reward of each group of an update; without outcomes, of responses as outcomes."""
        log, steps = self.log, self.steps
        outcomes = log.responses if log.outcomes is None else log.outcomes
        if outcomes is None:
            raise MissingError("the log has no column `outcome` and no column `response`")
        if log.outcomes is None:
            outcomes = outcomes & torch.iinfo(torch.long).max  # digests have a sign, outcomes have none
        known = (steps >= 0).nonzero().squeeze(1)
        rewards = torch.full((len(log),), math.nan) if log.rewards is None else log.rewards
        return group_figures(
            Groups(index=self.updates.index[known], count=self.updates.count),
            steps[known],
            outcomes=outcomes[known],
            responses=None if log.responses is None else log.responses[known],
            rewards=rewards[known],
        )

    @cached_property
    def group_size(self) -> int:
        """Samples of a prompt in one update: as given, or the commonest number in a step of the log."""
        if self.config.group_size is not None:
            return self.config.group_size
        if self.log.steps is None:
            raise MissingError("the group size is not known: give `--group-size`")
        sizes = torch.bincount(self.updates.index)
        commonest = int(sizes[sizes > 0].mode().values)
        if commonest < 2:
            raise MissingError("the log has one sample of a prompt in a step: give `--group-size`")
        return commonest

    def good(self, units: Units) -> Tensor:
        """Which units are good, (U,)."""
        return units.rewards >= self.good_from - 1e-9 * max(1.0, abs(self.good_from))

    def optimum(self, units: Units) -> Tensor:
        """Log G of the training's optimum under reverse KL, (U,), normalised a prompt.

        Raises MissingError for a transform whose optimum is not known here.
        """
        match self.config.transform:
            case None | "none":
                return optimum_logprobs(units, beta=self.beta)
            case "mara":
                return mara_logprobs(units, self.good(units), beta=self.beta)
            case other:
                raise MissingError(f"the optimum with the transform {other!r} is not known here")

    def groups_of(self, rows: Tensor) -> Groups:
        """The prompts of some samples."""
        return Groups(index=self.log.prompts[rows], count=len(self.log.prompt_names))

    @cached_property
    def updates(self) -> Groups:
        """Which samples belong to one group of one update: those of a prompt in a step."""
        prompts = Groups(index=self.log.prompts, count=len(self.log.prompt_names))
        return prompts if self.log.steps is None else pair_groups(self.log.steps, prompts)


def _in_order(groups: Tensor) -> Tensor:
    """Each group once, in the order of its first sample."""
    distinct, index = torch.unique(groups, return_inverse=True)
    first = torch.full((len(distinct),), len(groups), dtype=torch.long)
    first = first.scatter_reduce_(0, index, torch.arange(len(groups)), "amin")
    return distinct[first.argsort()]


def _present(column: Tensor | None) -> Tensor:
    if column is None:
        raise MissingError("a column is missing")
    return column
