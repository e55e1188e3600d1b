"""What all checks look at: the log, the settings, and what follows from both, worked out once."""

from dataclasses import replace
from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.config import AuditConfig
from allmodes.audit.curves import Curves
from allmodes.audit.logs.log import Log
from allmodes.audit.ngrams import Texts
from allmodes.audit.objective import Objective, objective_of
from allmodes.audit.reference import Reference
from allmodes.audit.samples import Samples, present
from allmodes.audit.support import Support, item_rewards, outcome_support, response_support
from allmodes.objectives.groups import Groups, pair_groups
from allmodes.objectives.thresholds import BatchQuantile

_SUGGESTED = 0.9  # quantile of the rewards, as MARA takes for question answering
_REPEATS = 2  # samples an outcome, on the mean, from which on shares stand for probabilities


@final
class Evidence:
    """A log with its settings. Properties raise MissingError where they cannot be had.

    samples: the log's columns and groups. curves: its figures over training. reference: which of its samples
    stand for the reference's.
    """

    def __init__(
        self,
        log: Log,
        config: AuditConfig,
        *,
        texts: Texts | None = None,
        reference_rows: Tensor | None = None,
        has_behavior_logprobs: bool = True,
        longest: int | None = None,
        group_size: int | None = None,
    ) -> None:
        """What a log and settings say.

        reference_rows, has_behavior_logprobs: as `Reference` has them. longest, group_size: tokens of
        the longest response and samples of a prompt in an update, where another log knows them.
        """
        self.log, self.config = log, config
        self._texts, self._has_behavior_logprobs = texts, has_behavior_logprobs
        self._longest, self._group_size = longest, group_size
        self.samples = Samples(log)
        self.curves = Curves(self.samples, texts, has_behavior_logprobs=has_behavior_logprobs)
        self.reference = Reference(
            self.samples, rows=reference_rows, has_behavior_logprobs=has_behavior_logprobs
        )

    @property
    def objective(self) -> Objective:
        """What is trained, as far as the settings say."""
        return self._objective

    @cached_property
    def _objective(self) -> Objective:
        try:
            size = self.group_size
        except MissingError:
            size = None
        return objective_of(self.log, self.config, longest=self._longest, group_size=size)

    @property
    def beta(self) -> float:
        """Strength of the KL, above 0."""
        return self.objective.beta

    @property
    def beta_of_rewards(self) -> float | None:
        """The β that items' rewards are worked out for; None for plain means."""
        return self.objective.temperature(self.config.beta)

    @property
    def group_size(self) -> int:
        """Samples of a prompt in one update: as given, or the commonest number in a step of the log."""
        if self.config.group_size is not None:
            return self.config.group_size
        return self.samples.commonest_group_size if self._group_size is None else self._group_size

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
        rewards = self.samples.rewards[self.reference.rows]
        if float(rewards.max()) == float(rewards.min()):
            raise MissingError("all samples have the same reward: none is better than another")
        return float(BatchQuantile(q)(rewards)[0])

    @cached_property
    def kind(self) -> Literal["outcome", "response"]:
        """Whether items are outcomes or responses.

        Outcomes, whose probabilities are their shares of the reference's samples, where the log names them
        and they come again and again; else different responses, whose log-probabilities the log has to give.
        """
        log = self.log
        if self._counts_strings and log.responses is not None and log.ref_logprobs is not None:
            return "response"
        if log.outcomes is not None:
            rows = self.reference.rows
            different = pair_groups(log.outcomes[rows], self.samples.prompts_of(rows)).count
            if len(rows) >= _REPEATS * different:
                return "outcome"
        if log.responses is not None and log.ref_logprobs is not None:
            return "response"
        lacks = "has no column `outcome`" if log.outcomes is None else "has outcomes that rarely repeat"
        raise MissingError(f"the log {lacks}, and no column `ref_logprob`, which `--model` computes")

    @cached_property
    def _counts_strings(self) -> bool:
        """Whether the optimum depends on how many strings an outcome has, and some have several."""
        log = self.log
        if not self.objective.counts_strings:
            return False
        if log.outcomes is None or log.responses is None:
            return True
        rows = self.reference.rows
        outcomes = pair_groups(log.outcomes[rows], self.samples.prompts_of(rows))
        return pair_groups(log.responses[rows], outcomes).count > outcomes.count

    @cached_property
    def support_rows(self) -> Tensor:
        """Samples that items are made of: the reference's for outcomes, else all with log-probabilities."""
        if self.kind == "outcome":
            return self.reference.rows
        known = ~self.samples.rewards.isnan() & ~present(self.log.ref_logprobs).isnan()
        rows = known.nonzero().squeeze(1)
        if len(rows) == 0:
            raise MissingError("no sample has both `reward` and `ref_logprob`")
        return rows

    @cached_property
    def support(self) -> Support:
        """The distinct items of each prompt."""
        return self.support_of(self.support_rows, beta=self.beta_of_rewards)

    def support_of(self, rows: Tensor, *, beta: float | None) -> Support:
        """The items of some of the samples; invalid outcomes are one item of their own, the last.

        beta: of the optimum that their rewards are for; None for their mean rewards.
        """
        groups, values = self.samples.prompts_of(rows), self.samples.rewards[rows]
        names = self._items(rows)
        if self.kind == "outcome":
            return outcome_support(groups, names, values, self.reference.weights[rows], beta=beta)
        return response_support(groups, names, values, present(self.log.ref_logprobs)[rows], beta=beta)

    def _items(self, rows: Tensor) -> Tensor:
        """A number for each of some samples, equal within an item."""
        if self.kind == "response":
            return present(self.log.responses)[rows]
        chosen = present(self.log.outcomes)[rows]
        return torch.where(chosen < 0, len(self.log.outcome_names), chosen)

    def support_at(self, beta: float) -> Support:
        """The items with the rewards that they have at another β."""
        rows = self.support_rows
        weights = self.reference.weights[rows] if self.kind == "outcome" else torch.ones(len(rows)).double()
        rewards = item_rewards(
            self.samples.rewards[rows].double(),
            self._item_pairs,
            weights,
            beta=self.objective.temperature(beta),
        )
        return replace(self.support, rewards=rewards)

    @cached_property
    def _item_pairs(self) -> Groups:
        """Which of `support_rows` are of one item."""
        return pair_groups(self._items(self.support_rows), self.samples.prompts_of(self.support_rows))

    def good(self, support: Support) -> Tensor:
        """Which items are good, (K,)."""
        return _at_least(support.rewards, self.good_from)

    def above_tau(self, support: Support) -> Tensor:
        """Which items MARA makes equal, (K,)."""
        return _at_least(support.rewards, self.tau)

    def optimum(self, support: Support) -> Tensor:
        """Log G of the training's optimum, (K,), normalised a prompt. Raises as `Objective.optimum` does."""
        if self.kind == "outcome" and self._counts_strings:
            raise MissingError(
                f"{self.config.describe_transform()} counts strings, and outcomes of the log have several or "
                "unknown ones; this needs `response` and `ref_logprob`"
            )
        return self.objective.optimum(support, self._threshold)

    def optimum_at(self, beta: float) -> Tensor:
        """The optimum over `support_at(beta)` were β another, (K,). Raises as `optimum` does."""
        config = self.config.model_copy(update={"beta": beta})
        return replace(self.objective, config=config).optimum(self.support_at(beta), self._threshold)

    @cached_property
    def assumption(self) -> str:
        """What `optimum` assumes of the KL and of groups, each a sentence with a space before it."""
        return self.objective.assumption + self.objective.describe_groups(self.support, self._threshold)

    def _threshold(self) -> float:
        return _but_for_rounding(self.tau)

    def at(self, rows: Tensor, *, good: float) -> "Evidence":
        """The same log with other samples, (N,) of booleans, instead of the reference's, and what is good."""
        config = self.config.model_copy(update={"good": good})
        chosen = rows.nonzero().squeeze(1)
        return Evidence(self.log, config, texts=self._texts, reference_rows=chosen)

    def under(self, objective: Objective) -> "Evidence":
        """The same log under the settings of another training."""
        return Evidence(
            self.log,
            objective.config,
            texts=self._texts,
            has_behavior_logprobs=self._has_behavior_logprobs,
            longest=objective.longest,
            group_size=objective.group_size,
        )


def _at_least(rewards: Tensor, level: float) -> Tensor:
    """R ≥ τ, but for rounding: an item's reward is a mean, and many programs keep float32."""
    return rewards >= _but_for_rounding(level)


def _but_for_rounding(level: float) -> float:
    return level - max(1e-9, 1e-6 * abs(level))
