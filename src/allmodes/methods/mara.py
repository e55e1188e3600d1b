"""Mode-anchored reward augmentation."""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from allmodes.errors import AllmodesWarning, InputError
from allmodes.methods.method import (
    KL,
    Batch,
    Method,
    OutcomeKey,
    Result,
    State,
    largest,
    mean,
    setting,
    supplied,
)
from allmodes.methods.outcomes import over_outcomes
from allmodes.objectives.groups import group_max, group_size, make_groups
from allmodes.objectives.mara import Anchor, MaraResult, mara_rewards
from allmodes.objectives.outcomes import outcome_ref_logprobs
from allmodes.objectives.target import target_rewards
from allmodes.objectives.thresholds import (
    BatchQuantile,
    Constant,
    GroupQuantile,
    Threshold,
    is_quantile,
    remembered_threshold,
)
from allmodes.targets import forward_kl_target, mara_target
from allmodes.targets.exact import anchor_of

Level = Literal["strings", "outcomes"]


@final
@dataclass(frozen=True, kw_only=True)
class MARA(Method):
    """Mode-anchored reward augmentation: all samples with a reward of at least τ become equally likely.

    R̄ = R(z) + β (log π_ref(z) − log π_ref(y))  where R ≥ τ,   z the likeliest good sample of the group

    threshold: τ; a number is the same τ for all samples, and the right choice for rewards of 0 and 1. A
    quantile is remembered between batches (`remembered_threshold`). anchor, max_gap_bonus: as in
    `mara_rewards`; with a trainer's baseline, "group" (the paper's) is the better anchor. level: "outcomes"
    makes all good *outcomes* equally likely instead of all good strings; a response without an outcome is
    neither anchor nor augmented. outcome_key: maps the text of a response to its outcome, for trainers
    without outcomes; it implies level "outcomes". algorithm: 2 replaces reward and log π_ref by the
    anchor's (the KL must then be in the reward); the optimum is the same.

    An empty response is neither anchor nor augmented. If no sample of a group reaches τ, its rewards stay,
    and `groups_without_anchor` counts the group. `groups_without_threshold` counts groups for which a
    quantile gives no τ yet because all rewards so far are equal; a warning says so once if no sample was
    augmented. Source: MARA, Algorithms 1 and 2.

    >>> MARA(threshold=1.0)(batch, beta=0.1).rewards
    tensor([1.0000, 1.2000, 1.2000, 0.0000])
    """

    name: ClassVar[str] = "mara"
    label: ClassVar[str] = "MARA"
    color: ClassVar[str] = "#0072B2"
    law: ClassVar[str] = "flat where R ≥ τ, π_ref exp(R/β) below"
    source: ClassVar[str] = "MARA, Algorithm 1"

    threshold: Threshold | float = setting(
        "τ: all answers with at least this reward are made equally likely."
    )
    anchor: Anchor = setting(
        "The anchor is the likeliest good sample of the group (as in the paper), or of the other samples.",
        default="group",
    )
    max_gap_bonus: float | None = setting(
        "Largest bonus β (log π_ref(z) − log π_ref(y)); no limit if left out.", default=None, above=0
    )
    level: Level = setting(
        "What becomes equally likely: the good outcomes, or all their strings.",
        default="strings",
    )
    outcome_key: OutcomeKey | None = setting("Text → outcome.", default=None, in_recipes=False)
    algorithm: Literal[1, 2] = setting("1 or 2.", default=1, in_recipes=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outcome_key is not None and self.level == "strings":
            object.__setattr__(self, "level", "outcomes")
        if not callable(self.threshold) and self.threshold != self.threshold:
            raise InputError("`threshold` must not be NaN")

    @property
    def needs_reference(self) -> bool:
        """True: the bonus is a difference of log π_ref."""
        return True

    @property
    def needs_policy(self) -> bool:
        """True for outcomes, whose log π_ref is estimated with importance weights."""
        return self.needs_outcomes

    @property
    def needs_outcomes(self) -> bool:
        """True at the level of outcomes."""
        return self.level == "outcomes"

    @property
    def needs_sequence_kl(self) -> bool:
        """True: the bonus is a log-ratio of whole responses, so the KL that it balances must be one, too."""
        return True

    @property
    def changes_reference(self) -> bool:
        """True for Algorithm 2, which gives good samples the anchor's log π_ref."""
        return self.algorithm == 2

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: the bonus would be divided, but the KL penalty would not."""
        return False

    @property
    def key(self) -> OutcomeKey | None:
        """The outcome key, if the user gave one with the method."""
        return self.outcome_key

    @property
    def has_state(self) -> bool:
        """True for a quantile, which a single batch may not determine."""
        return is_quantile(self.threshold)

    @property
    def needs_prompts(self) -> bool:
        """True for the quantile of each prompt."""
        return isinstance(self.threshold, GroupQuantile)

    @property
    def couples_prompts(self) -> bool:
        """True for the quantile of a whole batch."""
        return isinstance(self.threshold, BatchQuantile)

    def describe(self) -> str:
        """τ, the anchor, the cap, the level."""
        tau = self.threshold.value if isinstance(self.threshold, Constant) else self.threshold
        shown = f"{tau:g}" if isinstance(tau, int | float) else str(tau)
        if isinstance(tau, BatchQuantile | GroupQuantile):
            shown = f"quantile {tau.q:g} of each {'batch' if isinstance(tau, BatchQuantile) else 'prompt'}"
        limit = "" if self.max_gap_bonus is None else f"; bonus at most {self.max_gap_bonus:g}"
        level = "; uniform over outcomes" if self.needs_outcomes else ""
        return f"threshold τ = {shown}; anchor: {self.anchor.replace('_', ' ')}{limit}{level}"

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
        """Flat above τ under a reverse KL, with a common anchor, as in large groups.

        None for a τ that depends on the batch, with a cap, without a KL, and for a forward KL in Algorithm 2,
        which has its KL in the reward. At the level of outcomes, strings keep the reference's shares within
        an outcome.
        """
        del group_size
        if self.changes_reference and kl == "forward":
            return None
        tau = self.threshold.value if isinstance(self.threshold, Constant) else self.threshold
        if not isinstance(tau, int | float) or self.max_gap_bonus is not None or beta == 0:
            return None

        def solve(ref_logprobs: Tensor, rewards: Tensor) -> Tensor:
            if kl == "reverse":
                return mara_target(ref_logprobs, rewards, beta=beta, threshold=tau)
            density = flattened_density(ref_logprobs, rewards, beta=beta, threshold=tau)
            return forward_optimum(density, ref_logprobs, rewards, beta=beta)

        return over_outcomes(solve, ref_logprobs, rewards, outcome_ids if self.needs_outcomes else None)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """The augmented rewards r̄. Raises InputError for β ≤ 0, or log π_ref not finite at a good sample."""
        rewards = batch.rewards
        ref_logprobs = supplied("ref_logprobs", batch.ref_logprobs)
        eligible = None if batch.lengths is None else batch.lengths > 0
        if self.needs_outcomes:
            outcome_ids = supplied("outcome_ids", batch.outcome_ids)
            if eligible is not None:
                # An empty response has no known outcome, so its weight of 1 belongs to none.
                outcome_ids = outcome_ids.masked_fill(~eligible, -1)
            eligible = outcome_ids >= 0
            ref_logprobs = outcome_ref_logprobs(
                ref_logprobs,
                supplied("logprobs", batch.logprobs),
                outcome_ids,
                group_ids=batch.group_ids,
            )
        threshold = self.threshold if callable(self.threshold) else Constant(self.threshold)
        # τ in the precision of the rewards, since a float64 of 0.9 exceeds a float32 of 0.9.
        keys = None
        if self.needs_prompts:
            keys = [str(prompt) for prompt in supplied("prompt_ids", batch.prompt_ids).tolist()]
        tau, known = remembered_threshold(threshold, rewards, batch.group_ids, keys=keys, state=state)
        dtype = torch.promote_types(rewards.dtype, ref_logprobs.dtype)
        result = mara_rewards(
            rewards.to(dtype),
            ref_logprobs.to(dtype),
            beta=beta,
            threshold=tau.to(dtype),
            group_ids=batch.group_ids,
            anchor=self.anchor,
            mask=eligible,
            max_gap_bonus=self.max_gap_bonus,
        )
        new = result.anchor_rewards if self.algorithm == 2 else rewards + result.bonus
        if self.algorithm == 1 and dtype == rewards.dtype:
            new = result.rewards
        return Result(
            rewards=new.to(rewards.dtype),
            metrics=self._metrics(batch, result, ref_logprobs, tau, beta) if batch.wants_metrics else {},
            state=dict(known) if self.has_state else None,
            ref_logprobs=result.ref_logprobs if self.changes_reference else None,
        )

    def _metrics(
        self, batch: Batch, result: MaraResult, ref_logprobs: Tensor, tau: Tensor, beta: float | Tensor
    ) -> dict[str, float]:
        augmented, bonus = result.augmented, result.bonus[result.augmented]
        groups = make_groups(batch.group_ids, batch.rewards)
        anchored = group_max(augmented.float(), groups)[group_size(groups) > 0] > 0
        gap = beta * (result.ref_logprobs - ref_logprobs)
        has_tau = group_max(tau.isfinite().float(), groups)[group_size(groups) > 0] > 0
        scored = batch.rewards[batch.is_scored]
        if is_quantile(self.threshold) and len(scored) and not bool(has_tau.any()):
            warnings.warn(
                f"MARA left this batch as it was: all rewards so far are equal ({float(scored[0]):g}), so "
                f"{self.threshold} gives no threshold. If the range of rewards is known, use a number",
                AllmodesWarning,
                stacklevel=3,
            )
        return {
            "augmented": mean(augmented),
            "bonus_mean": mean(bonus),
            "bonus_max": largest(bonus),
            "gap_bonus_max": largest(gap[augmented]),
            "anchor_ref_logprob": mean(ref_logprobs[result.anchor_index[augmented]]),
            "groups_without_anchor": mean(~anchored),
            "groups_without_threshold": mean(~has_tau),
            "threshold": mean(tau[tau.isfinite()]),
        }


def flattened_density(
    ref_logprobs: Tensor, rewards: Tensor, *, beta: float, threshold: float, flattening: float = 1.0
) -> Tensor:
    """Log-density up to a constant: log π_ref + R/β, and above τ moved by a share λ to the anchor's.

    (1 − λ) (log π_ref(y) + R(y)/β) + λ (log π_ref(z) + R(z)/β) where R ≥ τ; all of shape (..., K), nats.
    """
    good = (rewards >= threshold) & ~ref_logprobs.isneginf()
    anchor_logprob, anchor_reward = anchor_of(ref_logprobs, rewards, good)
    plain = ref_logprobs + rewards / beta
    flat = (anchor_logprob + anchor_reward / beta).expand_as(plain)
    return torch.where(good, torch.lerp(plain, flat, flattening), plain)


def forward_optimum(density: Tensor, ref_logprobs: Tensor, rewards: Tensor, *, beta: float) -> Tensor:
    """The forward-KL optimum of the rewards whose reverse-KL optimum is `density`, (..., K).

    Outcomes that the reference never writes keep their rewards, since they are never sampled.
    """
    reached = ~ref_logprobs.isneginf()
    augmented = target_rewards(
        torch.where(reached, density, 0), torch.where(reached, ref_logprobs, 0), beta=beta
    )
    return forward_kl_target(ref_logprobs, torch.where(reached, augmented, rewards), beta=beta).logprobs
