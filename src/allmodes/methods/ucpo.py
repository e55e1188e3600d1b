"""UCPO: uniform-correct policy optimization."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods.correct import correct_answers, flat_or_tilted, grpo_advantages
from allmodes.methods.method import KL, Batch, Method, Result, State, mean, setting, supplied
from allmodes.objectives.groups import Groups, group_logsumexp, group_size, group_sum, make_groups
from allmodes.targets.inputs import check_outcomes


@final
@dataclass(frozen=True, kw_only=True)
class UCPO(Method):
    """Give a larger bonus to correct answers of a group that are less likely under the policy.

    additive (the paper; `divgrpo` in the authors' code):   R̄ = A + τ (−log q_S(y) − H(q_S))
    weighted (`iq`, the variant that the authors ship):     R̄ = A [(1 − τ) + τ n_S q_S(y)⁻¹ / Σ_S q_S⁻¹]

    for correct answers, and R̄ = A for the others. S: the n_S correct samples of the group, those with reward
    ≥ threshold; an empty response is not among them. q_S: softmax over S of log π, in the weighted form of
    log π per token. A: reward minus the group's mean; scale "group" divides it by the standard deviation, as
    GRPO does. The results are advantages: subtract no baseline and do not divide by σ. A sample without a
    reward is left out of all sums.

    The additive form makes all strings of S equally likely (strings, not outcomes). The weighted form does
    not: if all samples are correct, A is 0, and the final shares depend on the start. Per token its effect is
    small: answers of 500 tokens at −100, −120 and −150 nats have weights 0.991, 0.999 and 1.011 at τ = 0.2.
    Source: Lochab et al. 2026, arXiv 2605.00365.

    >>> UCPO(threshold=1.0)(batch, beta=0.1).rewards
    tensor([ 0.1648,  0.5648,  0.5648, -0.7500])
    """

    name: ClassVar[str] = "ucpo"
    label: ClassVar[str] = "UCPO"
    color: ClassVar[str] = "#332288"
    law: ClassVar[str] = "flat where R ≥ τ, over strings (additive form)"
    source: ClassVar[str] = "UCPO, arXiv 2605.00365"

    threshold: float = setting("Smallest reward of a correct answer.")
    form: Literal["additive", "weighted"] = setting(
        "A bonus for unlikely correct answers, or a weight on their advantage.", default="additive"
    )
    strength: float = setting(
        "τ of the paper: rewards per nat, or the share of the weighting (then at most 1).",
        default=0.2,
        at_least=0,
    )
    scale: Literal["none", "group"] = setting(
        "Divisor of the advantages: none, or the group's standard deviation.", default="none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "weighted" and self.strength > 1:
            raise InputError(f'`strength` must be at most 1 in the "weighted" form; got {self.strength:g}')

    @property
    def needs_policy(self) -> bool:
        """True: q_S is computed from the policy."""
        return True

    @property
    def needs_sequence_kl(self) -> bool:
        """True in the additive form, whose bonus is a log-probability of whole responses."""
        return self.form == "additive"

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: the results are advantages with their own `scale`."""
        return False

    @property
    def has_own_baseline(self) -> bool:
        """True: the mean of the group, before the bonus."""
        return True

    @property
    def min_group_size(self) -> int:
        """2: a single sample equals its own mean and its own S."""
        return 2

    def optimum(
        self,
        ref_logprobs: Tensor,
        rewards: Tensor,
        *,
        beta: float,
        kl: KL = "reverse",
        outcome_ids: Tensor | None = None,
        group_size: int | None = None,
    ) -> Tensor | None:
        """The optimum of the additive form. Without a KL, flat over S if rewards in S are equal.

        For many samples the gain of a string of S is R + τ (m − log p) with m = Σ_S p² log p / Σ_S p², so
        p ∝ exp(R/τ) in S; with a reverse KL outside the advantages, at full strength, p = P s in S and
        (1 − P) w outside:

            s ∝ (q^β e^R)^(1/(τ + β)),   w ∝ q e^(R/β)
            β log P/(1 − P) = (τ + β) log Σ_S (q^β e^R)^(1/(τ + β)) + τ m(s) − β log Σ_W q e^(R/β)

        None for the weighted form; with a KL, for groups of finite size, scaled advantages or a forward KL;
        for unequal rewards in S in these cases; for τ = 0 without a KL; and if nothing reaches the threshold.
        """
        del outcome_ids
        check_outcomes(ref_logprobs, rewards)
        exact = self.scale == "none" and group_size is None
        good = rewards >= self.threshold
        if beta > 0:
            good &= ~ref_logprobs.isneginf()
        if self.form == "weighted" or group_size == 1 or not bool(good.any(-1).all()):
            return None
        if beta == 0:
            if self.strength == 0:
                return None
            return flat_or_tilted(good, rewards, temperature=self.strength if exact else None)
        if kl == "forward" or not exact:
            return None
        joint = self.strength + beta
        best = rewards.amax(-1, keepdim=True)
        inside = ((beta * ref_logprobs + rewards - best) / joint).masked_fill(~good, -torch.inf)
        outside = (ref_logprobs + (rewards - best) / beta).masked_fill(good, -torch.inf)
        shares = torch.log_softmax(inside, -1)
        finite = torch.where(good, shares, 0)
        m = (torch.softmax(2 * shares, -1) * finite).sum(-1, keepdim=True)
        log_odds = (joint * inside.logsumexp(-1, keepdim=True) + self.strength * m) / beta
        mass_outside = outside.logsumexp(-1, keepdim=True)
        log_odds = log_odds - mass_outside
        rest = torch.where(mass_outside.isneginf(), -torch.inf, outside - mass_outside)
        return torch.where(
            good,
            torch.nn.functional.logsigmoid(log_odds) + finite,
            torch.nn.functional.logsigmoid(-log_odds) + rest,
        )

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Advantages with the bonus of correct answers; β has no effect."""
        del beta, state
        logprobs = supplied("logprobs", batch.logprobs)
        dtype = torch.promote_types(batch.rewards.dtype, logprobs.dtype)
        advantages = grpo_advantages(batch, scale=self.scale, dtype=dtype)
        correct = correct_answers(batch, self.threshold)
        groups = make_groups(batch.group_ids, batch.rewards)
        rows = correct.nonzero().squeeze(1)
        within = Groups(index=groups.index[rows], count=groups.count)
        new = advantages.clone()
        if self.form == "additive":
            gain = _surprise(logprobs[rows].to(dtype), within)
            new[rows] += self.strength * gain
        else:
            per_token = logprobs[rows].to(dtype)
            if batch.lengths is not None:
                per_token = per_token / batch.lengths[rows]
            gain = _weights(per_token, within)
            new[rows] *= (1 - self.strength) + self.strength * gain
        metrics = {}
        if batch.wants_metrics:
            metrics["correct"] = mean(correct[batch.is_scored])
            metrics["gain_max"] = float(gain.max()) if len(gain) else float("nan")
        return Result(rewards=new.to(batch.rewards.dtype), metrics=metrics)


def _surprise(logprobs: Tensor, groups: Groups) -> Tensor:
    """−log q − H(q), with q the softmax of log π over each group, (M,), nats."""
    log_q = logprobs - group_logsumexp(logprobs, groups)[groups.index]
    entropy = -group_sum(log_q.exp() * log_q, groups)
    return -log_q - entropy[groups.index]


def _weights(logprobs: Tensor, groups: Groups) -> Tensor:
    """1/q divided by its mean over the group, with q the softmax of log π in the group, (M,)."""
    size = group_size(groups).to(logprobs.dtype)
    total = group_logsumexp(-logprobs, groups)
    return torch.exp(-logprobs - total[groups.index]) * size[groups.index]
