"""α-DPG: distribution matching with α-divergences to the reference restricted to correct answers."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from allmodes.checks import check_positive
from allmodes.methods.correct import correct_answers
from allmodes.methods.method import KL, Batch, Method, Result, State, mean, setting, supplied
from allmodes.objectives.advantages import leave_one_out_advantages
from allmodes.objectives.groups import Groups, group_logsumexp, group_size, make_groups
from allmodes.targets import reverse_kl_target
from allmodes.targets.inputs import check_outcomes


@final
@dataclass(frozen=True, kw_only=True)
class AlphaDPG(Method):
    """Follow the gradient of an α-divergence from a target p* that keeps the reference's own ratios.

    p* ∝ π_ref where R ≥ threshold;   without a threshold p* ∝ π_ref exp(R/β)
    R̄ = L − its mean over the others of the group,   L = min((t^(α−1) − 1)/(1 − α), c),   t = π/p*

    α = 0: L = p*/π − 1, the forward KL(p* ‖ π); α = 1: L = −log t, the reverse KL(π ‖ p*); values in between
    trade coverage for precision. c: `clip`; −c is the lower limit, which only matters above α = 0.9: without
    it, α = 1 would give wrong answers −∞. p* is normalised by the group's own importance weights,
    Ẑ = mean of P/π with P = π_ref 1[R ≥ threshold] or π_ref exp(R/β). A group without a correct answer
    has advantages of 0; so has an empty response, which is left out of all sums.

    The advantages already include the pull to the reference; β has no effect with a threshold. No baseline
    may be subtracted from them, and division by σ is not part of the method. Source: Kruszewski et al. 2025,
    arXiv 2512.05962; Go et al. 2023.

    >>> AlphaDPG(threshold=1.0)(batch, beta=0.1).rewards
    tensor([ 0.7698,  0.7698,  0.7698, -2.3094])
    """

    name: ClassVar[str] = "alpha_dpg"
    label: ClassVar[str] = "α-DPG"
    color: ClassVar[str] = "#AA4499"
    law: ClassVar[str] = "π_ref where R ≥ τ; or π_ref exp(R/β)"
    source: ClassVar[str] = "α-DPG, arXiv 2512.05962"

    threshold: float | None = setting(
        "Smallest reward of a correct answer; without a threshold the target is π_ref exp(R/β).",
        default=None,
    )
    alpha: float = setting(
        "α: 0 is the forward KL to the target, 1 the reverse.", default=0.5, at_least=0, at_most=1
    )
    clip: float = setting("Largest gain of the policy from one sample.", default=10.0, above=0)

    @property
    def needs_reference(self) -> bool:
        """True: the target is computed from it."""
        return True

    @property
    def needs_policy(self) -> bool:
        """True: t is a ratio to it."""
        return True

    @property
    def contains_kl(self) -> bool:
        """True: the target contains the reference."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: the results are advantages."""
        return False

    @property
    def has_own_baseline(self) -> bool:
        """True: leave-one-out."""
        return True

    @property
    def min_group_size(self) -> int:
        """2, for the baseline."""
        return 2

    def describe(self) -> str:
        """α, the target and the clip."""
        target = "π_ref exp(R/β)" if self.threshold is None else f"π_ref where R ≥ {self.threshold:g}"
        return f"α = {self.alpha:g}; target {target}; clip {self.clip:g}"

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
        """p*, for every α and group size: there all t are 1, and all advantages are 0.

        None for groups of 1, if the reference never writes a correct answer, and, without a threshold, for β
        = 0.
        """
        del outcome_ids, kl
        check_outcomes(ref_logprobs, rewards)
        if group_size == 1:
            return None
        if self.threshold is None:
            return None if beta == 0 else reverse_kl_target(ref_logprobs, rewards, beta=beta)
        correct = ref_logprobs.masked_fill(rewards < self.threshold, -torch.inf)
        if bool(correct.isneginf().all(-1).any()):
            return None
        return torch.log_softmax(correct, -1)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Leave-one-out advantages of L. Raises InputError for β ≤ 0 without a threshold."""
        del state
        ref_logprobs = supplied("ref_logprobs", batch.ref_logprobs)
        logprobs = supplied("logprobs", batch.logprobs)
        dtype = torch.promote_types(batch.rewards.dtype, ref_logprobs.dtype)
        used = batch.is_scored if batch.lengths is None else batch.is_scored & (batch.lengths > 0)
        rows = used.nonzero().squeeze(1)
        log_weights = ref_logprobs[rows].to(dtype) - logprobs[rows].to(dtype)
        if self.threshold is None:
            check_positive("beta", beta)
            strength = beta[rows] if isinstance(beta, Tensor) and beta.ndim else beta
            log_weights = log_weights + batch.rewards[rows].to(dtype) / strength
        else:
            wrong = ~correct_answers(batch, self.threshold)[rows]
            log_weights = log_weights.masked_fill(wrong, -torch.inf)
        index = make_groups(batch.group_ids, batch.rewards)
        groups = Groups(index=index.index[rows], count=index.count)
        log_partition = group_logsumexp(log_weights, groups) - group_size(groups).to(dtype).log()
        known = ~log_partition.isneginf()
        gain = log_weights - torch.where(known, log_partition, 0)[groups.index]  # −log t
        if self.alpha < 1:
            gain = torch.expm1((1 - self.alpha) * gain) / (1 - self.alpha)
        limited = gain.clamp(min=-self.clip, max=self.clip)
        new = torch.where(batch.is_scored, torch.zeros_like(batch.rewards, dtype=dtype), torch.nan)
        new[rows] = leave_one_out_advantages(limited, groups.index)
        metrics = {}
        if batch.wants_metrics:
            sampled = group_size(groups) > 0
            metrics["log_partition"] = mean(log_partition[known])
            metrics["clipped"] = mean(gain > self.clip)
            metrics["groups_without_correct"] = mean(~known[sampled])
        return Result(rewards=new.to(batch.rewards.dtype), metrics=metrics)
