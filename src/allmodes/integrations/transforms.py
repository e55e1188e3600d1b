"""Rewards in, rewards out: what stands between the reward functions and the advantages of a trainer."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.checks import check_choice, check_fraction, check_not_negative, check_positive
from allmodes.errors import InputError
from allmodes.integrations.answers import OutcomeKey
from allmodes.objectives.best_of_n import best_of_n_rewards
from allmodes.objectives.entropy import entropy_rewards
from allmodes.objectives.groups import group_max, group_size, make_groups
from allmodes.objectives.ips import ips_rewards
from allmodes.objectives.mara import Anchor, mara_rewards
from allmodes.objectives.outcomes import outcome_ref_logprobs
from allmodes.objectives.thresholds import (
    Constant,
    GroupQuantile,
    Threshold,
    ThresholdState,
    is_quantile,
    remembered_threshold,
)
from allmodes.objectives.unlikeliness import unlikeliness_rewards


@final
@dataclass(frozen=True, kw_only=True)
class TransformBatch:
    """All samples of one generation, gathered from every process; all tensors of shape (N,).

    rewards: weighted sum of the reward functions, NaN where none gave one. group_ids: samples with one id
    share a prompt. lengths: tokens that the model wrote and that count; 0 is an empty completion.
    ref_logprobs, logprobs: log π_ref(y) and log π_θ(y) of those tokens, nats, float64; None unless the
    transform needs them. outcome_ids: samples with one id are the same outcome, −1 where the outcome key gave
    None; None for a transform without a key. prompts: a name of each sample's prompt, the same in every batch
    (`group_ids` may mean other prompts in another); None unless the transform needs them.
    """

    rewards: Tensor
    group_ids: Tensor
    lengths: Tensor
    ref_logprobs: Tensor | None = None
    logprobs: Tensor | None = None
    outcome_ids: Tensor | None = None
    prompts: Sequence[str] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class TransformResult:
    """The new rewards, (N,), NaN where the old ones are and nowhere else; and figures to log.

    A figure that has no meaning in this batch, such as the mean over no samples, is NaN. state: what the
    transform has to be handed with the next batch, plain data for a checkpoint; None if it remembers nothing.
    """

    rewards: Tensor
    metrics: dict[str, float]
    state: dict[str, Any] | None = None


class RewardTransform(ABC):
    """Rewards in, rewards out; what a trainer must supply is said by the properties."""

    @property
    def needs_reference(self) -> bool:
        """Whether log π_ref is needed, and with it β > 0."""
        return False

    @property
    def needs_policy(self) -> bool:
        """Whether log π_θ of the samples is needed."""
        return False

    @property
    def needs_sequence_kl(self) -> bool:
        """Whether its optimum needs the KL of whole responses: one per token, states held fixed, is another.

        Such a transform adds log-probabilities of whole responses to the rewards. The gradient of a per-token
        KL lacks what a token does to the KL of those after it, so that the two do not cancel at any β.
        """
        return False

    @property
    def survives_scaling(self) -> bool:
        """Whether dividing the new rewards by their standard deviation leaves the optimum in place."""
        return True

    @property
    def is_advantage(self) -> bool:
        """Whether the new rewards have their own baseline, so that none must be subtracted after."""
        return False

    @property
    def min_group_size(self) -> int:
        """Fewest samples of a prompt that the transform can use."""
        return 1

    @property
    def key(self) -> OutcomeKey | None:
        """What turns the text of a completion into its outcome."""
        return None

    @property
    def has_state(self) -> bool:
        """Whether a call takes `state=`, what the result of the batch before had; evaluation leaves it."""
        return False

    @property
    def needs_prompts(self) -> bool:
        """Whether prompts must be known again in later batches."""
        return False

    @abstractmethod
    def __call__(self, batch: TransformBatch, *, beta: float) -> TransformResult:
        """The new rewards of a batch, under a KL penalty of strength β."""


@final
@dataclass(frozen=True, kw_only=True)
class MARA(RewardTransform):
    """Mode-anchored reward augmentation: above the threshold all samples become equally likely.

    threshold: what counts as good; a number is the same τ for all, and the right choice where rewards are 0
    and 1. A quantile is remembered from batch to batch (`remembered_threshold`). anchor, max_gap_bonus: as in
    `mara_rewards`; under a trainer's baseline "group", the paper's, is the better anchor. outcome_key: with
    one, all good *outcomes* become equally likely, not all good strings; a completion with key None is
    neither anchor nor augmented.

    An empty completion is neither anchor nor augmented. Where no sample of a group reaches τ, its rewards
    stay, and `groups_without_anchor` counts it; `groups_without_threshold` counts those for which a quantile
    names no τ yet, all rewards so far being equal, and one warning says when that left all samples alone.
    Source: MARA, Algorithm 1.
    """

    threshold: Threshold | float
    anchor: Anchor = "group"
    max_gap_bonus: float | None = None
    outcome_key: OutcomeKey | None = None

    def __post_init__(self) -> None:
        check_choice("anchor", self.anchor, ("group", "leave_one_out"))
        if self.max_gap_bonus is not None:
            check_positive("max_gap_bonus", self.max_gap_bonus)
        if not callable(self.threshold) and self.threshold != self.threshold:
            raise InputError("`threshold` must not be NaN")

    @property
    def needs_reference(self) -> bool:
        """Always: the bonus is a difference of log π_ref."""
        return True

    @property
    def needs_policy(self) -> bool:
        """For outcomes, whose log π_ref is estimated with importance weights."""
        return self.outcome_key is not None

    @property
    def needs_sequence_kl(self) -> bool:
        """Yes: the bonus is a log-ratio of whole responses, and so must the KL be that it balances."""
        return True

    @property
    def survives_scaling(self) -> bool:
        """No: the bonus would be divided and the KL penalty beside it would not."""
        return False

    @property
    def key(self) -> OutcomeKey | None:
        """Outcomes, where they are not the strings themselves."""
        return self.outcome_key

    @property
    def has_state(self) -> bool:
        """For a quantile, which one batch may not tell."""
        return is_quantile(self.threshold)

    @property
    def needs_prompts(self) -> bool:
        """For the quantile of each prompt."""
        return isinstance(self.threshold, GroupQuantile)

    def __call__(
        self, batch: TransformBatch, *, beta: float, state: ThresholdState | None = None
    ) -> TransformResult:
        """The augmented rewards r̄. Raises InputError for β ≤ 0, or log π_ref not finite at a good sample."""
        rewards = batch.rewards
        ref_logprobs = _supplied("ref_logprobs", batch.ref_logprobs)
        eligible = batch.lengths > 0
        if self.outcome_key is not None:
            # Nothing is known of an empty completion's outcome: its weight of 1 belongs to none.
            outcome_ids = _supplied("outcome_ids", batch.outcome_ids).masked_fill(~eligible, -1)
            eligible = outcome_ids >= 0
            ref_logprobs = outcome_ref_logprobs(
                ref_logprobs,
                _supplied("logprobs", batch.logprobs),
                outcome_ids,
                group_ids=batch.group_ids,
            )
        threshold = self.threshold if callable(self.threshold) else Constant(self.threshold)
        # τ in the precision of the rewards: as a float64, .9 is above the float32 that a reward of .9 became.
        tau, state = remembered_threshold(
            threshold, rewards, batch.group_ids, keys=batch.prompts, state=state
        )
        result = mara_rewards(
            rewards.double(),
            ref_logprobs.double(),
            beta=beta,
            threshold=tau.double(),
            group_ids=batch.group_ids,
            anchor=self.anchor,
            mask=eligible,
            max_gap_bonus=self.max_gap_bonus,
        )
        augmented, bonus = result.augmented, result.bonus[result.augmented]
        groups = make_groups(batch.group_ids, rewards)
        anchored = group_max(augmented.float(), groups)[group_size(groups) > 0] > 0
        gap = (result.ref_logprobs - ref_logprobs)[augmented]
        has_tau = group_max(tau.isfinite().float(), groups)[group_size(groups) > 0] > 0
        scored = rewards[~rewards.isnan()]
        if is_quantile(self.threshold) and len(scored) and not bool(has_tau.any()):
            warnings.warn(
                f"MARA left this batch as it was: all rewards so far are equal ({float(scored[0]):g}), and "
                f"{self.threshold} names no threshold. Where the range of rewards is known, give a number",
                stacklevel=2,
            )
        return TransformResult(
            rewards=(rewards + result.bonus).to(rewards.dtype),
            metrics={
                "augmented": _mean(augmented),
                "bonus_mean": _mean(bonus),
                "bonus_max": _max(bonus),
                "gap_bonus_max": _max(beta * gap),
                "anchor_ref_logprob": _mean(ref_logprobs[result.anchor_index[augmented]]),
                "groups_without_anchor": _mean(~anchored),
                "groups_without_threshold": _mean(~has_tau),
                "threshold": _mean(tau[tau.isfinite()]),
            },
            state=dict(state) if self.has_state else None,
        )


@final
@dataclass(frozen=True, kw_only=True)
class IPS(RewardTransform):
    """Inverse probability scaling: each reward divided by how often its outcome came up in its group.

    outcome_key: the outcome of a completion; those with None count as one outcome of their own.
    min_probability: smallest frequency to divide by; 0 is no clipping. Rewards must not be negative: the
    division would punish rare outcomes most, until none is left. Source: IPS, equation 9.
    """

    outcome_key: OutcomeKey
    min_probability: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("min_probability", self.min_probability)

    @property
    def key(self) -> OutcomeKey | None:
        """What is counted."""
        return self.outcome_key

    def __call__(self, batch: TransformBatch, *, beta: float) -> TransformResult:
        """Each reward over p̂ of its outcome; β plays no part. Raises InputError for a negative reward."""
        del beta
        if bool((batch.rewards < 0).any()):
            lowest = float(batch.rewards[batch.rewards < 0].min())
            raise InputError(
                f"rewards must not be negative for IPS, which would punish rare outcomes most; got "
                f"{lowest:g}. Clip them at 0, or take their exponential: a shift would change the optimum"
            )
        outcome_ids = _supplied("outcome_ids", batch.outcome_ids)
        result = ips_rewards(
            batch.rewards,
            outcome_ids,
            min_probability=self.min_probability,
            group_ids=batch.group_ids,
        )
        groups = make_groups(batch.group_ids, batch.rewards)
        # Each sample's 1/(n of its outcome) sums to the number of distinct outcomes.
        distinct = (1 / (result.frequencies * group_size(groups)[groups.index])).sum()
        return TransformResult(
            rewards=result.rewards,
            metrics={
                "outcome_frequency": _mean(result.frequencies),
                "distinct_outcomes": float(distinct) / max(int((group_size(groups) > 0).sum()), 1),
                "clipped": _mean(result.clipped),
                "without_outcome": _mean(outcome_ids < 0),
            },
        )


@final
@dataclass(frozen=True)
class BestOfN(RewardTransform):
    """Train for the best of k samples: the policy gradient becomes that of E[max of k].

    r̄ = k · (what the sample adds to the maximum of k of its group), see `best_of_n_rewards`. These are
    advantages already, and the trainer's baseline is taken back. k None is the whole group. Unscorable
    samples are left out; a group with fewer than k others teaches nothing, all its rewards are 0, and
    `groups_too_small` counts it. Source: Tang et al. 2025.
    """

    k: int | None = None

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise InputError(f"`k` must be at least 1; got {self.k}")

    @property
    def survives_scaling(self) -> bool:
        """No: with its own baseline there is nothing to centre or to scale."""
        return False

    @property
    def is_advantage(self) -> bool:
        """Yes: the maximum without the sample is its baseline."""
        return True

    @property
    def min_group_size(self) -> int:
        """The k samples of which the maximum is taken."""
        return self.k or 1

    def __call__(self, batch: TransformBatch, *, beta: float) -> TransformResult:
        """What each sample adds to the maximum, times k; β plays no part."""
        del beta
        rewards = batch.rewards
        groups = make_groups(batch.group_ids, rewards)
        scored = ~rewards.isnan()
        size = group_size(groups, scored)
        fits = (size >= self.min_group_size)[groups.index]
        new = torch.where(scored, 0, rewards)
        rows = (scored & fits).nonzero().squeeze(1)
        added = best_of_n_rewards(rewards[rows], k=self.k, group_ids=groups.index[rows])
        new[rows] = added * (self.k if self.k is not None else size[groups.index[rows]])
        return TransformResult(
            rewards=new,
            metrics={
                "rewarded": _mean(new[scored] > 0),
                "groups_too_small": _mean((size < self.min_group_size)[group_size(groups) > 0]),
            },
        )


@final
@dataclass(frozen=True)
class Unlikeliness(RewardTransform):
    """Of equally rewarded samples of a group those that the policy finds less likely count for more.

    strength: b from 0 to 1, .25 in the paper. Rewards must not be negative. Source: He et al. 2025.
    """

    strength: float

    def __post_init__(self) -> None:
        check_fraction("strength", self.strength)

    @property
    def needs_policy(self) -> bool:
        """Always: samples are ranked by it."""
        return True

    def __call__(self, batch: TransformBatch, *, beta: float) -> TransformResult:
        """Each reward times 1 − b rank/G; β plays no part. Raises InputError for a negative reward."""
        del beta
        # An empty completion has no token to average over, and 0 ranks it as the likeliest.
        mean_logprobs = _supplied("logprobs", batch.logprobs) / batch.lengths.clamp(min=1)
        new = unlikeliness_rewards(
            batch.rewards, mean_logprobs, strength=self.strength, group_ids=batch.group_ids
        )
        taken = (batch.rewards - new)[~batch.rewards.isnan()]
        return TransformResult(
            rewards=new,
            metrics={"taken_mean": _mean(taken), "mean_logprob": _mean(mean_logprobs)},
        )


@final
@dataclass(frozen=True)
class EntropyBonus(RewardTransform):
    """The entropy of the policy over whole completions as part of the reward: r̄ = R − η log π_θ(y).

    With the reverse KL of whole responses (RLOOTrainer, or our GRPOTrainer) the optimum is
    `reverse_kl_target(..., beta=β, entropy=η)`. Not the `entropy_coef` of
    TRL's GRPOConfig: that adds each token's entropy to the loss with the states held fixed, whose gradient
    lacks what a token does to the entropy of those after it. entropy: η, in rewards per nat; the bonus grows
    with length, and an empty completion gets none. Source: `entropy_rewards`.
    """

    entropy: float

    def __post_init__(self) -> None:
        check_not_negative("entropy", self.entropy)

    @property
    def needs_policy(self) -> bool:
        """Always: the bonus is −η log π_θ."""
        return True

    @property
    def needs_sequence_kl(self) -> bool:
        """Yes: the bonus is a log-probability of whole responses."""
        return True

    @property
    def survives_scaling(self) -> bool:
        """No: with a KL outside the rewards the optimum would be that of R/σ, η/σ, and β as it was."""
        return False

    def __call__(self, batch: TransformBatch, *, beta: float) -> TransformResult:
        """Each reward less η log π_θ; β plays no part."""
        del beta
        logprobs = _supplied("logprobs", batch.logprobs).double()
        new = entropy_rewards(batch.rewards.double(), logprobs, entropy=self.entropy)
        scored = ~batch.rewards.isnan()
        return TransformResult(
            rewards=new.to(batch.rewards.dtype),
            metrics={
                # On-policy an unbiased estimate of H(π_θ), mean over prompts.
                "sequence_entropy": _mean(-logprobs),
                "bonus_mean": _mean(-self.entropy * logprobs[scored]),
                "bonus_max": _max(-self.entropy * logprobs[scored]),
            },
        )


def _supplied(name: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise InputError(f"`{name}` is needed for this transform; got None")
    return value


def _mean(values: Tensor) -> float:
    return float(values.double().mean())  # NaN for none


def _max(values: Tensor) -> float:
    return float(values.max()) if len(values) else float("nan")
