"""What all checks look at: the log, the settings, and what follows from both, worked out once."""

import math
from dataclasses import replace
from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.config import AuditConfig
from allmodes.audit.logs.log import Log
from allmodes.audit.ngrams import Texts, ead_of_groups
from allmodes.audit.objective import Objective
from allmodes.audit.reference import reference_samples
from allmodes.audit.units import (
    Units,
    outcome_units,
    response_units,
    unit_rewards,
)
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
from allmodes.objectives.groups import Groups, pair_groups
from allmodes.objectives.thresholds import BatchQuantile

_SUGGESTED = 0.9  # quantile of the rewards, as MARA takes for question answering
_REPEATS = 2  # samples an outcome, on the mean, from which on shares stand for probabilities


@final
class Evidence:
    """A log with its settings. Properties raise MissingError where they cannot be had."""

    def __init__(
        self,
        log: Log,
        config: AuditConfig,
        *,
        texts: Texts | None = None,
        reference_rows: Tensor | None = None,
        knows_sampler: bool = True,
        longest: int | None = None,
    ) -> None:
        """What a log and settings say.

        reference_rows: the samples that stand for the reference; None for the log's own choice.
        knows_sampler: whether `policy_logprob` is of the policy that drew the samples, and not of another.
        longest: tokens of the longest response of the training where another log knows them.
        """
        self.log, self.config, self._texts, self._reference_rows = log, config, texts, reference_rows
        self._knows_sampler = knows_sampler
        self._courses: dict[Series, Course | None] = {}
        self._longest = longest

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
    def _steps_or_one(self) -> Tensor:
        """(N,), all 0 for a log without steps: one window."""
        return torch.zeros(len(self.log), dtype=torch.long) if self.log.steps is None else self.log.steps

    @property
    def has_step(self) -> Tensor:
        """Which samples have a step, (N,); all of a log without steps."""
        return self._steps_or_one >= 0

    @property
    def beta(self) -> float:
        """Strength of the KL, above 0."""
        return self.objective.beta

    @cached_property
    def objective(self) -> Objective:
        """What is trained, as far as the settings say."""
        known = [1] if self.config.max_tokens == 1 else []
        tokens = self.log.num_tokens
        # Some lengths show that a response has several tokens, but not that none has.
        if tokens is not None and (int(tokens.max()) > 1 or bool((tokens >= 0).all())):
            known.append(int(tokens.max()))
        if self._longest is not None:
            known.append(self._longest)
        return Objective(self.config, max(known, default=None))

    @property
    def beta_of_rewards(self) -> float | None:
        """The β that units' rewards are worked out for; None for plain means."""
        return self.objective.temperature(self.config.beta)

    @cached_property
    def first_rows(self) -> Tensor:
        """Samples with a reward of the first step, of all without steps; at least one."""
        rows = ~self.rewards.isnan()
        steps = self.log.steps
        if steps is not None:
            known = steps[steps >= 0]
            rows &= steps == known.min()
        if not bool(rows.any()):
            raise MissingError("no sample of the first step has a reward")
        return rows.nonzero().squeeze(1)

    @property
    def reference_rows(self) -> Tensor:
        """Samples with a reward that stand, with their weights, for the reference's; at least one."""
        return self._reference[0]

    @property
    def weights(self) -> Tensor:
        """What each sample counts, (N,), above 0: 1 but for those that are weighted to the reference.

        These count π_ref(y)/π(y), up to a factor of their prompt that makes their mean 1.
        """
        return self._reference[1]

    @property
    def gaps(self) -> Tensor | None:
        """Log π(y) − log π_ref(y) under the policy that drew each sample, (N,); None where not known."""
        log = self.log
        if not self._knows_sampler or log.ref_logprobs is None or log.policy_logprobs is None:
            return None
        return log.policy_logprobs - log.ref_logprobs

    @cached_property
    def _reference(self) -> tuple[Tensor, Tensor]:
        if self._reference_rows is not None:
            return self._reference_rows, torch.ones(len(self.log), dtype=torch.float64)
        prompts = self.groups_of(torch.arange(len(self.log)))
        return reference_samples(self.rewards, self._steps_or_one, self.gaps, self.first_rows, prompts)

    @cached_property
    def good_from(self) -> float:
        """The reward from which on a sample is good: as given, or MARA's τ."""
        return self.tau if self.config.good is None else self.config.good

    @cached_property
    def tau(self) -> float:
        """MARA's τ: as given, as the quantile that is given, as what is good, or suggested."""
        config = self.config
        if config.threshold is not None:
            return config.threshold
        if config.threshold_quantile is not None:
            return self._quantile(config.threshold_quantile)
        return self._quantile(_SUGGESTED) if config.good is None else config.good

    def _quantile(self, q: float) -> float:
        """A quantile of the reference's rewards, as MARA's threshold takes it from a batch."""
        rewards = self.rewards[self.reference_rows]
        if float(rewards.max()) == float(rewards.min()):
            raise MissingError("all samples have the same reward: none is better than another")
        return float(BatchQuantile(q)(rewards)[0])

    @cached_property
    def kind(self) -> Literal["outcome", "response"]:
        """What is told apart.

        Outcomes, whose probabilities are their shares of the reference's samples, where the log names them
        and they come again and again; else different responses, whose log-probabilities the log has to give.
        """
        log = self.log
        if self._counts_strings and log.responses is not None and log.ref_logprobs is not None:
            return "response"
        if log.outcomes is not None:
            found = log.outcomes[self.reference_rows]
            different = pair_groups(found, self.groups_of(self.reference_rows)).count
            if len(found) >= _REPEATS * different:
                return "outcome"
        if log.responses is not None and log.ref_logprobs is not None:
            return "response"
        lacks = "has no column `outcome`" if log.outcomes is None else "has outcomes that rarely repeat"
        raise MissingError(f"the log {lacks}, and no column `ref_logprob`, which `--model` computes")

    @cached_property
    def _counts_strings(self) -> bool:
        """Whether the optimum depends on how many strings an outcome has, and some have several."""
        log = self.log
        method = self.objective.method()
        if method is None or not method.needs_policy or method.needs_reference:
            return False
        if log.outcomes is None or log.responses is None:
            return True
        rows = self.reference_rows
        outcomes = pair_groups(log.outcomes[rows], self.groups_of(rows))
        return pair_groups(log.responses[rows], outcomes).count > outcomes.count

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
        return self.units_of(self.unit_rows, beta=self.beta_of_rewards)

    def units_of(self, rows: Tensor, *, beta: float | None) -> Units:
        """The units of some of the samples; for outcomes, what is invalid is one of its own, the last.

        beta: of the optimum that their rewards are for; None for their mean rewards.
        """
        groups, values, names = self.groups_of(rows), self.rewards[rows], self._told_apart(rows)
        if self.kind == "outcome":
            return outcome_units(groups, names, values, self.weights[rows], beta=beta)
        return response_units(groups, names, values, _present(self.log.ref_logprobs)[rows], beta=beta)

    def _told_apart(self, rows: Tensor) -> Tensor:
        """A number for what each of some samples is, equal within a unit."""
        if self.kind == "response":
            return _present(self.log.responses)[rows]
        chosen = _present(self.log.outcomes)[rows]
        return torch.where(chosen < 0, len(self.log.outcome_names), chosen)

    def units_at(self, beta: float) -> Units:
        """The units with the rewards that they have at another β."""
        rows = self.unit_rows
        weights = self.weights[rows] if self.kind == "outcome" else torch.ones(len(rows)).double()
        rewards = unit_rewards(
            self.rewards[rows].double(), self._unit_pairs, weights, beta=self.objective.temperature(beta)
        )
        return replace(self.units, rewards=rewards)

    @cached_property
    def _unit_pairs(self) -> Groups:
        """Which of `unit_rows` are of one unit."""
        return pair_groups(self._told_apart(self.unit_rows), self.groups_of(self.unit_rows))

    @cached_property
    def ead_of_groups(self) -> tuple[Tensor, Tensor]:
        """Expectation-adjusted distinct n-grams of at most 500 groups, evenly over training: steps, values.

        Of words, V = 50257; of a group's first 256 samples. Source: `allmodes.metrics.ead`.
        """
        if self._texts is None or self.log.responses is None:
            raise MissingError("the log has no column `response`")
        return ead_of_groups(self.updates, self._steps_or_one, self._texts)

    @cached_property
    def group_figures(self) -> GroupFigures:
        """Diversity and reward of each group of an update; without outcomes, of responses as outcomes."""
        log, steps = self.log, self._steps_or_one
        has_any = log.outcomes is not None or log.responses is not None
        outcomes = self._outcomes if has_any else torch.full((len(log),), -1)
        known = (steps >= 0).nonzero().squeeze(1)
        rewards = torch.full((len(log),), math.nan) if log.rewards is None else log.rewards
        return group_figures(
            Groups(index=self.updates.index[known], count=self.updates.count),
            steps[known],
            outcomes=outcomes[known],
            responses=None if log.responses is None else log.responses[known],
            rewards=rewards[known],
        )

    def series(self, name: Series) -> tuple[Tensor, Tensor]:
        """A figure of every group of an update, in the order of their steps: steps and values, (U,)."""
        if name == "ead":
            return self.ead_of_groups
        if name == "reward":
            _ = self.rewards  # which the log may lack
        elif name != "repeated":
            _ = self._outcomes
        found = self.group_figures
        return found.steps, getattr(found, name)

    def course(self, name: Series) -> Course:
        """A figure over training."""
        _ = self.steps  # which the log may lack
        found = self._courses.get(name)
        if found is None:
            found = self._courses[name] = course_of(*self.series(name))
        if found is None:
            raise MissingError("the log has too few groups or steps to compare the first with the last")
        return found

    def last_window(self, name: Series) -> Window:
        """A figure's last window that has one; of a log without steps, all of it.

        The error of reward and entropy is over samples where the window is a single group.
        """
        known = [window for window in windows(*self.series(name)) if not math.isnan(window.mean)]
        if not known:
            raise MissingError(f"no group has a value for the {name}")
        last = known[-1]
        if len(last.values) > 1 or name not in ("reward", "entropy"):
            return last
        steps = self._steps_or_one
        rows = (steps >= last.first_step) & (steps <= last.last_step)
        return replace(last, error=self._error_over_samples(name, rows))

    def _error_over_samples(self, name: Series, rows: Tensor) -> float:
        """Of the reward or the entropy of outcomes of one group, by the bootstrap."""
        if name == "reward":
            rewards = self.rewards[rows]
            return error_of_mean(rewards[~rewards.isnan()])
        outcomes = self._outcomes[rows]
        return error_of_entropy(torch.unique(outcomes[outcomes >= 0], return_counts=True)[1])

    @property
    def _outcomes(self) -> Tensor:
        """(N,), −1 where invalid; without outcomes the responses."""
        log = self.log
        if log.outcomes is not None:
            return log.outcomes
        if log.responses is None:
            raise MissingError("the log has no column `outcome` and no column `response`")
        return log.responses & torch.iinfo(torch.long).max  # digests have a sign, outcomes have none

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
        return _at_least(units.rewards, self.good_from)

    def above_tau(self, units: Units) -> Tensor:
        """Which units MARA makes equal, (U,)."""
        return _at_least(units.rewards, self.tau)

    def optimum(self, units: Units) -> Tensor:
        """Log G of the training's optimum, (U,), normalised a prompt. Raises as `Objective.optimum` does."""
        if self.kind == "outcome" and self._counts_strings:
            raise MissingError(
                "an entropy bonus counts strings, and outcomes of the log have several or unknown ones; this "
                "needs `response` and `ref_logprob`"
            )
        return self.objective.optimum(units, lambda: _but_for_rounding(self.tau))

    def at(self, rows: Tensor, *, good: float) -> "Evidence":
        """The same log with other samples, (N,) of booleans, in the place of the reference's; and its τ."""
        config = self.config.model_copy(update={"good": good})
        chosen = rows.nonzero().squeeze(1)
        return Evidence(self.log, config, texts=self._texts, reference_rows=chosen)

    def under(self, config: AuditConfig, *, longest: int | None) -> "Evidence":
        """The same log under the settings of another training, whose longest response has so many tokens."""
        return Evidence(
            self.log, config, texts=self._texts, knows_sampler=self._knows_sampler, longest=longest
        )

    def groups_of(self, rows: Tensor) -> Groups:
        """The prompts of some samples."""
        return Groups(index=self.log.prompts[rows], count=len(self.log.prompt_names))

    @cached_property
    def updates(self) -> Groups:
        """Which samples belong to one group of one update: those of a prompt in a step."""
        prompts = Groups(index=self.log.prompts, count=len(self.log.prompt_names))
        return prompts if self.log.steps is None else pair_groups(self.log.steps, prompts)


def _at_least(rewards: Tensor, level: float) -> Tensor:
    """R ≥ τ, but for rounding: a unit's reward is a mean, and many programs keep float32."""
    return rewards >= _but_for_rounding(level)


def _but_for_rounding(level: float) -> float:
    return level - max(1e-9, 1e-6 * abs(level))


def _present(column: Tensor | None) -> Tensor:
    if column is None:
        raise MissingError("a column is missing")
    return column
