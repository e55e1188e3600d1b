"""The effect of MARA on the samples of a log."""

import math

import torch
from torch import Tensor

from allmodes.audit.checks.findings import Answer, MissingError, NotApplicableError, State
from allmodes.audit.estimates import estimate, factor
from allmodes.audit.evidence import Evidence
from allmodes.audit.support import (
    Support,
    anchor_bias,
    beta_bounds,
    evenness,
    mara_logprobs,
    optimum_logprobs,
)
from allmodes.audit.trainer_options import option
from allmodes.objectives.groups import Groups, group_max, group_size, group_sum
from allmodes.reports.formatting import plural

_FEWEST, _SURE = 4, 1 - 1e-9  # responses in a correlation, and its largest value that differs from 1
_FEW = 0.5  # above this share of prompts with fewer than two good samples, MARA has little effect
_LARGE = 1.0  # largest bonus, in units of the range of the rewards
_LONG = 0.5  # correlation of bonus and length
_MANY = 0.1  # above this share of prompts, a β above the bound is an issue
_BIASED = math.log(1.5)  # nats


def target_of_mara(evidence: Evidence) -> Answer:
    """MARA's optimum at τ: which samples it makes equal, and how much mass they have."""
    tau, beta = evidence.tau, evidence.beta
    _check_regularizer(evidence)

    def statistics(support: Support) -> list[Tensor]:
        good = evidence.above_tau(support)
        plain, mara = _optima(evidence, support, good)
        seen = group_size(support.prompts) > 0
        return [
            torch.where(seen, group_size(support.prompts, good).double(), torch.nan),
            _mass(support, plain, good),
            _mass(support, mara, good),
            evenness(support, plain, good).spread,
            evenness(support, mara, good).spread,
        ]

    count, plain, mara, ratio_without, ratio = estimate(evidence, statistics)
    if math.isnan(ratio.value):
        raise NotApplicableError(f"no {evidence.kind} has a reward of {tau:g} or more")
    good = evidence.above_tau(evidence.support)
    several = group_size(evidence.support.prompts, good)
    seen = group_size(evidence.support.prompts) > 0
    few = float((several[seen] < 2).double().mean())
    is_idle = few > _FEW
    return Answer(
        state=_if_used(evidence, "tip" if is_idle else "passed"),
        summary=(
            f"At τ = {tau:g}{_if_suggested(evidence)}, a prompt has {count} good {evidence.kind}s. At "
            f"MARA's optimum the likeliest of them is {factor(ratio)} times as likely as the least likely "
            f"(without MARA: {factor(ratio_without)} times). Together they have {mara} of the mass at β = "
            f"{beta:g} (without MARA: {plain}). {few:.0%} of the prompts have fewer than "
            f"two.{_kl_of(evidence)}"
        ),
        remedy="Lower τ: a prompt needs at least two good samples for MARA to have an effect."
        if is_idle
        else "",
        numbers={
            "tau": tau,
            "good": count,
            "log_ratio": ratio,
            "log_ratio_without": ratio_without,
            "mass": mara,
            "mass_without": plain,
            "prompts_without_two": few,
        },
    )


def size_of_the_bonus(evidence: Evidence) -> Answer:
    """The size of MARA's bonus β(log π_ref(z) − log π_ref(y)), compared with the range of the rewards."""
    support, beta = evidence.support, evidence.beta
    bonus = bonuses(evidence, support)
    rewards = evidence.samples.rewards[evidence.support_rows]
    extent = float(rewards.max() - rewards.min())
    middle, high, most = (float(bonus.quantile(q)) for q in (0.5, 0.95, 1.0))
    is_large = high > _LARGE * extent
    return Answer(
        state=_if_used(evidence, "tip" if is_large else "passed"),
        summary=(
            f"At β = {beta:g} the bonus of good {evidence.kind}s has a median of {middle:.3g}, a 95th "
            f"percentile of {high:.3g} and a maximum of {most:.3g}; the range of the rewards is {extent:.3g}."
        ),
        remedy=(
            "The bonus dominates single updates: cap it (`max_gap_bonus`), or lower "
            f"{option('beta', evidence.config.trainer)}."
            if is_large
            else ""
        ),
        numbers={"median": middle, "percentile_95": high, "largest": most, "extent_of_rewards": extent},
    )


def length_of_what_is_raised(evidence: Evidence) -> Answer:
    """Whether the bonus favours long responses, since log π_ref is a sum over tokens."""
    lengths, bonus = lengths_and_bonuses(evidence)
    if len(lengths) < _FEWEST or float(lengths.std()) == 0 or float(bonus.std()) == 0:
        raise NotApplicableError("all good responses have the same length, or there are fewer than four")
    correlation = float(torch.corrcoef(torch.stack([lengths, bonus]))[0, 1])
    slope = correlation * float(bonus.std() / lengths.std())
    # Fisher's transform of a correlation is about normal, with a variance of 1/(n − 3).
    certain = math.atanh(max(-_SURE, min(correlation, _SURE))) - 2 / math.sqrt(len(lengths) - 3) > 0
    is_long = correlation > _LONG and certain
    return Answer(
        state=_if_used(evidence, "tip" if is_long else "passed"),
        summary=(
            f"The bonus of good responses and their length have a correlation of {correlation:.2f}: "
            f"{slope:.3g} of reward per additional token."
        ),
        remedy=(
            "A uniform distribution over strings favours long responses: name outcomes "
            f"(`outcome_key`), or watch {option('length', evidence.config.trainer)}."
            if is_long
            else ""
        ),
        numbers={"correlation": correlation, "reward_per_token": slope},
    )


def bound_on_beta(evidence: Evidence) -> Answer:
    """Whether β is small enough that MARA's optimum puts every good sample above every other sample."""
    beta, support = evidence.beta, evidence.support
    _check_regularizer(evidence, only_reverse=True)
    bounds = beta_bounds(support, evidence.above_tau(support))
    bounds = bounds[~bounds.isnan()]
    if len(bounds) == 0:
        raise NotApplicableError(f"no {evidence.kind} has a reward of {evidence.tau:g} or more")
    above = int((bounds <= beta).sum())
    least = float(bounds.min())
    return Answer(
        state=_if_used(evidence, "issue" if above > _MANY * len(bounds) else "tip" if above else "passed"),
        summary=(
            f"β = {beta:g} is below the bound in {len(bounds) - above} of {plural(len(bounds), 'prompt')}. "
            f"The smallest bound is {least:.3g}.{_kl_of(evidence)}"
            if math.isfinite(least)
            else f"Any β works: no {evidence.kind} below τ is likelier than the anchor of its prompt."
        ),
        remedy=(
            f"Lower {option('beta', evidence.config.trainer)}: above the bound, a likely sample below "
            "τ keeps more mass than the good ones."
            if above
            else ""
        ),
        numbers={"smallest_bound": least, "prompts": len(bounds), "prompts_above": above},
    )


def bias_of_the_anchor(evidence: Evidence) -> Answer:
    """How far the anchor of a group of this size is from the anchor of all samples."""
    size = evidence.group_size
    _check_regularizer(evidence, only_reverse=True)
    (bias,) = estimate(
        evidence, lambda support: [anchor_bias(support, evidence.above_tau(support), group_size=size)]
    )
    if math.isnan(bias.value):
        return Answer(state="not applicable", summary=f"No prompt has two good {evidence.kind}s.")
    is_biased = bias.is_above(_BIASED)
    return Answer(
        state=_if_used(evidence, "tip" if is_biased else "passed"),
        summary=(
            f"In groups of {size} the anchor favours the likeliest good {evidence.kind} over the rarest by "
            f"{bias} nats, a factor of {factor(bias)}."
        ),
        remedy=f"Raise {option('group size', evidence.config.trainer)}." if is_biased else "",
        numbers={"bias": bias, "group_size": size},
    )


def _check_regularizer(evidence: Evidence, *, only_reverse: bool = False) -> None:
    """Raise MissingError if MARA is used with a KL for which these formulas do not hold."""
    if not evidence.objective.uses_mara:
        return  # without MARA in use, these checks describe it for the reverse KL of whole responses
    if evidence.objective.regularizer == "forward" and only_reverse:
        raise MissingError("this check holds for MARA with the reverse KL; yours is the forward KL (AM041)")


def _optima(evidence: Evidence, support: Support, good: Tensor) -> tuple[Tensor, Tensor]:
    """Log G without and with MARA, (K,): under the KL in use if MARA is in use, else the reverse KL."""
    beta = evidence.beta
    if evidence.objective.uses_mara:
        return evidence.objective.plain(support, beta=beta), evidence.objective.mara(support, good, beta=beta)
    return optimum_logprobs(support, beta=beta), mara_logprobs(support, good, beta=beta)


def _kl_of(evidence: Evidence) -> str:
    """The KL that this holds for, as a sentence; if no KL is given, the KL that is assumed."""
    if evidence.objective.uses_mara:
        return (
            evidence.objective.assumption or f" This holds for {evidence.objective.describe_regularizer()}."
        )
    return " This holds for a KL of whole responses, such as k1 in the reward."


def _if_suggested(evidence: Evidence) -> str:
    given = (evidence.config.threshold, evidence.config.threshold_quantile, evidence.config.good)
    return " (suggested)" if all(value is None for value in given) else ""


def _if_used(evidence: Evidence, state: State) -> State:
    """The state; "not applicable" for training without MARA, which these checks only describe."""
    return state if evidence.objective.uses_mara else "not applicable"


def _mass(support: Support, logprobs: Tensor, good: Tensor) -> Tensor:
    """Mass of the good items of each prompt that has an item."""
    mass = group_sum(torch.where(good, logprobs.exp(), 0), support.prompts)
    return torch.where(group_size(support.prompts) > 0, mass, torch.nan)


def lengths_and_bonuses(evidence: Evidence) -> tuple[Tensor, Tensor]:
    """Tokens and bonus of each good response whose length is known."""
    support, log = evidence.support, evidence.log
    if evidence.kind == "outcome":
        raise NotApplicableError("outcomes are counted, so the length of a text has no influence")
    if log.num_tokens is None:
        raise MissingError("the log has no column `num_tokens`")
    bonus = bonuses(evidence, support)
    lengths = log.num_tokens[evidence.support_rows][support.first][evidence.above_tau(support)].double()
    known = lengths >= 0
    return lengths[known], bonus[known]


def bonuses(evidence: Evidence, support: Support) -> Tensor:
    """β(log π_ref(z) − log π_ref(y)) of each good item y; z is the likeliest good item of its prompt."""
    rows = evidence.above_tau(support).nonzero().squeeze(1)
    if len(rows) == 0:
        raise NotApplicableError(f"no {evidence.kind} has a reward of {evidence.tau:g} or more")
    within = Groups(index=support.prompts.index[rows], count=support.prompts.count)
    logprobs = support.ref_logprobs[rows]
    return evidence.beta * (group_max(logprobs, within)[within.index] - logprobs)
