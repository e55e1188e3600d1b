"""Outcome marginal matching: good outcomes get the shares that the user asks for."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from allmodes.checks import check_finite
from allmodes.errors import InputError
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
from allmodes.objectives.groups import Groups, group_max
from allmodes.objectives.pair_table import PromptRows, open_rows, write_rows
from allmodes.targets import outcome_matching_target

Target = Literal["uniform", "reward", "tempered"]

_COLUMNS = ("counts", "good", "seen", "reward_sums", "multipliers")
_LEAST_COUNT = 1e-300  # smallest count of an outcome once counted, so that it stays known
_MOST_MULTIPLIER = 2.0  # λ is kept within ±2 reward gaps


@final
@dataclass(frozen=True, kw_only=True)
class OutcomeMatching(Method):
    """Outcome marginal matching: the bonus of a good answer is the log of wanted over current share.

    R̄ = R + D (a log(g(o)/p̃(o)) + shift + λ(o))  where R ≥ τ,   R elsewhere

    g: the wanted share of outcome o among the known good outcomes of its prompt. p̃: its current share, over
    the batch without the sample itself and a short memory, smoothed by `pseudo_count` samples drawn from g.
    An outcome counts as good if more than `min_good_share` of its occurrences were judged good; a good answer
    of another outcome, or without one, keeps its reward. shift raises the mean bonus of a prompt's good
    answers to at least −k, so that a good answer always beats a wrong one. λ, with `dual_rate` > 0, sums up
    the missing share of each outcome, which removes the remaining pull of a KL.

    The optimum has s(o) ∝ (g^(aD) π_ref^β e^R)^(1/(aD + β)) among good outcomes, and the reference's shares
    within each outcome. For targets other than "uniform" all good answers get one reward, the larger of τ and
    D. Counts are per prompt, over all its groups of a batch. Division of advantages by a standard deviation
    is allowed; it costs up to a few percent of the good outcomes, or more if prompts share parameters.

    state: a table of pairs of prompt and outcome, sorted by both, on the CPU: remembered samples (`counts`),
    occurrences judged good (`good`) and all (`seen`), sums of good rewards, λ. One row for each pair seen.
    Source: ours; docs/guide/outcome-matching.md also says where it loses.

    >>> OutcomeMatching(threshold=1.0)(batch, beta=0.1).rewards
    tensor([1.0000, 1.0000, 2.0986, 0.0000])
    """

    name: ClassVar[str] = "outcome_matching"
    label: ClassVar[str] = "OMM"
    color: ClassVar[str] = "#EE3377"
    law: ClassVar[str] = "(g^a π_ref^β e^R)^(1/(a + β)) over good outcomes"
    source: ClassVar[str] = "ours"

    threshold: float = setting("τ, smallest reward of a good answer.")
    strength: float = setting("a, strength of the bonus, in reward gaps.", default=1.0, above=0)
    reward_gap: float = setting("D, reward of a good answer minus that of a wrong one.", default=1.0, above=0)
    pseudo_count: float = setting(
        "e, pseudo-samples from the target that smooth each share.", default=1.0, above=0
    )
    max_log_ratio: float = setting("Largest |log(g/p̃)| in the bonus.", default=3.0, above=0)
    max_penalty: float = setting(
        "k, the mean bonus of a prompt's good answers is at least −k reward gaps.", default=0.5, at_least=0
    )
    min_good_share: float = setting(
        "An outcome is good if more than this share of its occurrences is; 0 asks for one. 0.5 protects "
        "against verifier errors; coarse outcomes with good and wrong answers need 0.",
        default=0.5,
        at_least=0,
        at_most=1,
    )
    per_outcome: float = setting("Remembered samples of a prompt per known outcome.", default=4.0, at_least=0)
    target: Target = setting(
        "Wanted shares of good outcomes: equal, proportional to reward, or to exp(reward/temperature).",
        default="uniform",
    )
    temperature: float = setting('Of the target "tempered", in units of the reward.', default=1.0, above=0)
    dual_rate: float = setting(
        "η, rate of λ per batch, such as 0.002 to 0.005 with a strong KL; 0 is off.",
        default=0.0,
        at_least=0,
    )
    outcome_key: OutcomeKey | None = setting("Text → outcome.", default=None, in_recipes=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target == "reward" and self.threshold <= 0:
            raise InputError(
                f'`threshold` must be above 0 for the target "reward", whose shares are rewards; got '
                f"{self.threshold:g}"
            )

    @property
    def needs_outcomes(self) -> bool:
        """True: outcomes are counted."""
        return True

    @property
    def needs_prompts(self) -> bool:
        """True: outcomes and memory are kept per prompt."""
        return True

    @property
    def has_state(self) -> bool:
        """True: single groups are too small to estimate shares."""
        return True

    @property
    def key(self) -> OutcomeKey | None:
        """The outcome key, if the user gave one with the method."""
        return self.outcome_key

    def describe(self) -> str:
        """τ, a and D, and settings that differ from the defaults."""
        parts = [f"threshold τ = {self.threshold:g}; strength {self.strength:g}"]
        parts += [f"reward gap {self.reward_gap:g}"] if self.reward_gap != 1 else []
        if self.target != "uniform":
            tempered = f", temperature {self.temperature:g}" if self.target == "tempered" else ""
            parts.append(f"target: {self.target}{tempered}")
        parts += [f"dual rate {self.dual_rate:g}"] if self.dual_rate else []
        parts += ["every outcome once good is good"] if self.min_good_share == 0 else []
        return "; ".join(parts)

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
        """The optimum with exact shares of all good outcomes; see `outcome_matching_target`.

        With the memory, it also holds for small groups. None if an outcome has both good and wrong strings.
        """
        del group_size
        good = rewards >= self.threshold
        return outcome_matching_target(
            ref_logprobs,
            rewards if self.target == "uniform" else rewards.masked_fill(good, self._level),
            good=good,
            log_weights=self._log_weights(rewards),
            outcome_ids=outcome_ids,
            beta=beta,
            kl=kl,
            strength=self.strength * self.reward_gap,
            max_log_ratio=self.max_log_ratio,
            max_penalty=self.max_penalty * self.reward_gap,
            max_multiplier=_MOST_MULTIPLIER * self.reward_gap if self.dual_rate else 0.0,
        )

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Rewards from the counts of this and earlier batches; the state has the updated counts.

        Raises InputError for a good reward that is not finite if the target depends on rewards.
        """
        del beta
        rewards = batch.rewards.cpu()
        outcome_ids = supplied("outcome_ids", batch.outcome_ids).cpu().long()
        prompt_ids = supplied("prompt_ids", batch.prompt_ids).cpu().long()
        scored, good = ~rewards.isnan(), rewards >= self.threshold  # τ in the precision of the rewards
        if self.target != "uniform":
            check_finite("rewards (of good answers)", rewards[good])
        rows = open_rows(state, prompt_ids, outcome_ids.masked_fill(~scored, -1), columns=_COLUMNS)
        known = self._judged(rows, good, rewards.double())
        is_good, log_target = self._wanted(rows, known)
        paid = (good & (rows.row >= 0)).nonzero().squeeze(1)
        paid = paid[is_good[rows.row[paid]]]
        index, prompt = rows.row[paid], rows.prompt[paid]
        drawn = torch.bincount(index, minlength=len(is_good)).double()

        counts = torch.where(is_good, known["counts"], 0) + drawn
        totals = rows.per_prompt(counts)
        shares = self._smoothed(counts, totals[rows.row_prompt], log_target)
        multipliers = torch.where(is_good & (self.dual_rate > 0), known["multipliers"], 0)
        mean_bonus = rows.per_prompt(shares * (self._pull(log_target, shares) + multipliers))
        shift = (-mean_bonus - self.max_penalty).clamp(min=0)
        without = self._smoothed(counts[index] - 1, totals[prompt] - 1, log_target[index])
        bonus = self._pull(log_target[index], without) + multipliers[index] + shift[prompt]
        base = rewards[paid].double() if self.target == "uniform" else self._level
        new = rewards.clone()
        new[paid] = (base + self.reward_gap * bonus).to(rewards.dtype)

        known["counts"] = self._remembered(rows, known["counts"], drawn)
        if self.dual_rate:
            size = torch.bincount(rows.prompt[scored], minlength=len(rows.prompt_ids))
            known["multipliers"] = self._integrated(rows, multipliers, drawn, shares, log_target, size)
        metrics: dict[str, float] = {}
        if batch.wants_metrics:
            has_good = rows.per_prompt(is_good.double()) > 0
            missing = rows.per_prompt((log_target.exp() - shares).clamp(min=0))
            metrics = {
                "paid": mean(torch.isin(torch.arange(len(rewards)), paid)),
                "bonus_mean": mean(self.reward_gap * bonus),
                "bonus_max": largest(self.reward_gap * bonus),
                "known_outcomes": mean(rows.per_prompt(is_good.double())),
                "distance_to_target": mean(missing[has_good]),
                "prompts_guarded": mean(shift > 0),
                "overruled": mean(good[rows.row >= 0] & ~is_good[rows.row[rows.row >= 0]]),
                "without_outcome": mean(outcome_ids < 0),
            }
        return Result(
            rewards=new.to(batch.rewards.device), metrics=metrics, state=write_rows(state, rows, known)
        )

    @property
    def _level(self) -> float:
        """The common reward of good answers, so that their shares depend only on the target."""
        return max(self.threshold, self.reward_gap)

    def _log_weights(self, rewards: Tensor) -> Tensor:
        """Log g of an outcome from its reward, up to a constant; rewards in float64."""
        if self.target == "uniform":
            return torch.zeros_like(rewards)
        return rewards.log() if self.target == "reward" else rewards / self.temperature

    def _judged(self, rows: PromptRows, good: Tensor, rewards: Tensor) -> dict[str, Tensor]:
        """The table of pairs, updated with the verdicts of this batch."""
        known, seen = dict(rows.columns), rows.row >= 0
        agreed = seen & good
        known["seen"] = known["seen"] + torch.bincount(rows.row[seen], minlength=len(rows.is_new))
        known["good"] = known["good"] + torch.bincount(rows.row[agreed], minlength=len(rows.is_new))
        known["reward_sums"] = known["reward_sums"].index_add(0, rows.row[agreed], rewards[agreed])
        return known

    def _wanted(self, rows: PromptRows, known: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Which pairs are good outcomes, and log g of them, (V,); −inf for the others."""
        is_good = known["good"] > self.min_good_share * known["seen"]
        average = torch.where(is_good, known["reward_sums"] / known["good"], 1)
        log_weights = torch.where(is_good, self._log_weights(average), -torch.inf)
        groups = Groups(index=rows.row_prompt, count=len(rows.prompt_ids))
        top = torch.where(is_good, group_max(log_weights, groups)[rows.row_prompt], 0)
        total = rows.per_prompt((log_weights - top).exp())
        return is_good, torch.where(is_good, log_weights - top - total[rows.row_prompt].log(), -torch.inf)

    def _smoothed(self, counts: Tensor, totals: Tensor, log_target: Tensor) -> Tensor:
        return (counts + self.pseudo_count * log_target.exp()) / (totals + self.pseudo_count)

    def _pull(self, log_target: Tensor, shares: Tensor) -> Tensor:
        """The limited bonus a log(g/s), in reward gaps; 0 for outcomes that are not wanted."""
        ratio = torch.where(log_target.isneginf(), 0, log_target - shares.log())
        return self.strength * ratio.clamp(-self.max_log_ratio, self.max_log_ratio)

    def _remembered(self, rows: PromptRows, counts: Tensor, drawn: Tensor) -> Tensor:
        """Updated counts, at most `per_outcome` per prompt for each outcome ever counted.

        Without a good sample of the prompt they do not change. Outcomes later judged wrong decay with the
        others.
        """
        counted = (counts + drawn) > 0
        total = rows.per_prompt(counts + drawn)
        most = self.per_outcome * rows.per_prompt(counted.double())
        scale = torch.where(rows.per_prompt(drawn) > 0, (most / total).clamp(max=1), 1)
        new = (counts + drawn) * scale[rows.row_prompt]
        return torch.where(counted, new.clamp(min=_LEAST_COUNT), 0)

    def _integrated(
        self,
        rows: PromptRows,
        multipliers: Tensor,
        drawn: Tensor,
        shares: Tensor,
        log_target: Tensor,
        size: Tensor,
    ) -> Tensor:
        """λ + η/G (C − c/g) minus its mean, for prompts with a good sample."""
        total = rows.per_prompt(drawn)
        is_good = ~log_target.isneginf()
        lacked = total[rows.row_prompt] - torch.where(is_good, drawn / log_target.exp(), 0)
        raised = multipliers + self.dual_rate * lacked / size[rows.row_prompt]
        centred = raised - rows.per_prompt(shares * raised)[rows.row_prompt]
        moves = is_good & (total > 0)[rows.row_prompt]
        return torch.where(moves, centred.clamp(-_MOST_MULTIPLIER, _MOST_MULTIPLIER), multipliers)
