"""The input of all checks: the log, the settings, and what follows from both, computed once."""

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
_REPEATS = 2  # mean number of samples per outcome from which shares are used as probabilities


@final
class Evidence:
    """A log with its settings. Properties raise MissingError if they cannot be computed.

    samples: the log's columns and groups. curves: its figures over training. reference: the samples used as
    samples of the reference.
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
        """Combine a log with settings.

        reference_rows, has_behavior_logprobs: as in `Reference`. longest, group_size: tokens of
        the longest response and samples of a prompt in an update, if another log provides them.
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
        """The objective, as far as the settings determine it."""
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
        """The β that items' rewards are computed for; None for plain means."""
        return self.objective.temperature(self.config.beta)

    @property
    def group_size(self) -> int:
        """Samples of a prompt in one update: as given, or the most common number in a step of the log."""
        if self.config.group_size is not None:
            return self.config.group_size
        return self.samples.commonest_group_size if self._group_size is None else self._group_size

    @cached_property
    def good_from(self) -> float:
        """The smallest reward of a good sample: as given, or MARA's τ."""
        return self.tau if self.config.good is None else self.config.good

    @cached_property
    def tau(self) -> float:
        """MARA's τ: as given, from the given quantile, from `good`, or suggested from the rewards."""
        config = self.config
        if config.threshold is not None:
            return config.threshold
        if config.threshold_quantile is not None:
            return self._quantile(config.threshold_quantile)
        return self._quantile(_SUGGESTED) if config.good is None else config.good

    def _quantile(self, q: float) -> float:
        """A quantile of the reference's rewards, computed as MARA's threshold does from a batch."""
        rewards = self.samples.rewards[self.reference.rows]
        if float(rewards.max()) == float(rewards.min()):
            raise MissingError("all samples have the same reward: none is better than another")
        return float(BatchQuantile(q)(rewards)[0])

    @cached_property
    def kind(self) -> Literal["outcome", "response"]:
        """Whether items are outcomes or responses.

        Items are outcomes if the log names outcomes and they repeat; their probabilities are then their
        shares of the reference's samples. Otherwise items are distinct responses, and the log must have their
        log-probabilities.
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
        raise MissingError(f"the log {lacks} and has no column `ref_logprob` (`--model` computes it)")

    @cached_property
    def _counts_strings(self) -> bool:
        """Whether the optimum depends on the number of strings of an outcome, and some have several."""
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
        """The samples that form items: the reference's for outcomes, all with log π_ref for responses."""
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
        """The items of some of the samples; all invalid outcomes together are one item, the last.

        beta: the β of the optimum that rewards are computed for; None for mean rewards.
        """
        groups, values = self.samples.prompts_of(rows), self.samples.rewards[rows]
        names = self._items(rows)
        if self.kind == "outcome":
            return outcome_support(groups, names, values, self.reference.weights[rows], beta=beta)
        return response_support(groups, names, values, present(self.log.ref_logprobs)[rows], beta=beta)

    def _items(self, rows: Tensor) -> Tensor:
        """A number for each of some samples, equal for samples of the same item."""
        if self.kind == "response":
            return present(self.log.responses)[rows]
        chosen = present(self.log.outcomes)[rows]
        return torch.where(chosen < 0, len(self.log.outcome_names), chosen)

    def support_at(self, beta: float) -> Support:
        """The items with their rewards at another β."""
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
        """Which of `support_rows` belong to one item."""
        return pair_groups(self._items(self.support_rows), self.samples.prompts_of(self.support_rows))

    def good(self, support: Support) -> Tensor:
        """Which items are good, (K,)."""
        return _at_least(support.rewards, self.good_from)

    def above_tau(self, support: Support) -> Tensor:
        """Which items MARA makes equal, (K,)."""
        return _at_least(support.rewards, self.tau)

    def optimum(self, support: Support) -> Tensor:
        """Log G of the training's optimum, (K,), normalised per prompt. Raises like `Objective.optimum`."""
        if self.kind == "outcome" and self._counts_strings:
            raise MissingError(
                f"{self.config.describe_transform()} counts strings, and outcomes of the log have several or "
                "an unknown number of strings; this needs `response` and `ref_logprob`"
            )
        return self.objective.optimum(support, self._threshold)

    def optimum_at(self, beta: float) -> Tensor:
        """The optimum at another β, over `support_at(beta)`, (K,). Raises as `optimum` does."""
        config = self.config.model_copy(update={"beta": beta})
        return replace(self.objective, config=config).optimum(self.support_at(beta), self._threshold)

    @cached_property
    def assumption(self) -> str:
        """What `optimum` assumes about the KL and groups: sentences, each with a leading space."""
        return self.objective.assumption + self.objective.describe_groups(self.support, self._threshold)

    def _threshold(self) -> float:
        return _but_for_rounding(self.tau)

    def at(self, rows: Tensor, *, good: float) -> "Evidence":
        """The same log with other samples, (N,) booleans, in place of the reference's; `good` is kept."""
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
    """R ≥ τ up to rounding: an item's reward is a mean, and many programs store float32."""
    return rewards >= _but_for_rounding(level)


def _but_for_rounding(level: float) -> float:
    return level - max(1e-9, 1e-6 * abs(level))
