"""Checks of the optimum itself, computed from samples of the reference before any training."""

import math

import torch
from torch import Tensor

from allmodes.audit.checks.findings import Answer, MissingError, NotApplicableError
from allmodes.audit.estimates import Estimate, estimate, factor, shown
from allmodes.audit.evidence import Evidence
from allmodes.audit.support import Evenness, Support, evenness
from allmodes.audit.trainer_options import option
from allmodes.methods import EntropyBonus
from allmodes.objectives.groups import (
    Groups,
    group_argmax,
    group_common,
    group_max,
    group_mean,
    group_min,
    group_size,
    group_sum,
    pair_groups,
)
from allmodes.reports.formatting import plural
from allmodes.targets import flip_beta

_UNEVEN = 0.5  # uneven: an effective number below 1 + this × (number of good items − 1)
_DOMINANT = 0.5  # collapsed: uneven, and the likeliest good item has more than this share
_NEAR = 2.0  # a factor
_NOTHING_LEFT = 1e-3  # a smaller share of the reference's log-ratio counts as none
_DECADES, _STEPS = 3, 4  # decades on either side of β, and steps in each, in the search for a better β
_CLEAR = 2.326  # the normal distribution's 99th percentile
_TIP_FROM, _ISSUE_FROM = math.log(2), math.log(10)  # nats between samples of equal reward


def evenness_of_the_optimum(evidence: Evidence) -> Answer:
    """The effective number of good samples at the user's β, and the likeliest one's share of their mass."""
    objective, method = evidence.objective, evidence.objective.method()
    needs_kl = objective.is_plain or (
        method is not None and method.needs_reference and evidence.config.beta == 0
    )
    if objective.lacks_kl and needs_kl:
        return _without_kl(evidence)
    tau = evidence.good_from

    def statistics(support: Support) -> list[Tensor]:
        good = evidence.good(support)
        reference = evenness(support, support.ref_logprobs, good)
        optimum = evenness(support, evidence.optimum(support), good)
        return [
            _of_several(optimum, values)
            for values in (
                optimum.count.double(),
                reference.effective,
                optimum.effective,
                optimum.top_share,
                optimum.spread,
            )
        ]

    count, before, effective, top, spread = estimate(evidence, statistics)
    if math.isnan(count.value):
        return _too_few(evidence)
    is_uneven = effective.is_below(_bar(count.value))
    return Answer(
        state="issue" if is_uneven and top.is_above(_DOMINANT) else "tip" if is_uneven else "passed",
        summary=(
            f"{_at_beta(evidence)} the optimum keeps an effective number of {effective} of "
            f"{shown(count.value)} good {evidence.kind}s of a prompt (reward ≥ {tau:g}). The likeliest "
            f"of them has {top} of their mass and is {factor(spread)} times as likely as the least "
            f"likely. The reference has an effective number of {before}.{evidence.assumption}"
        ),
        remedy=_remedy_of_evenness(evidence) if is_uneven else "",
        numbers={
            "good_from": tau,
            "good": count.value,
            "effective": effective,
            "even_from": _bar(count.value),
            "top_share": top,
            "log_ratio": spread,
            "effective_of_reference": before,
        },
    )


def _bar(count: float) -> float:
    """The smallest effective number that counts as even for `count` good items; at least 1."""
    return 1 + _UNEVEN * (count - 1)


def _remedy_of_evenness(evidence: Evidence) -> str:
    """Suggest MARA, and another β if some β makes the optimum even enough."""
    mara = f"use {option('mara', evidence.config.trainer)}"
    if evidence.objective.uses_mara:
        return (
            f"Lower τ: MARA makes {evidence.kind}s with a reward of {evidence.tau:g} or more equally likely, "
            f"but a reward of {evidence.good_from:g} already counts as good."
        )
    if not evidence.objective.is_plain:
        return f"To make good {evidence.kind}s equally likely, {mara}."
    means: dict[float, float] = {}
    bars: dict[float, float] = {}
    for power in range(-_DECADES * _STEPS, _DECADES * _STEPS + 1):
        beta = evidence.beta * 10 ** (power / _STEPS)
        support = evidence.support_at(beta)
        even = evenness(support, evidence.objective.plain(support, beta=beta), evidence.good(support))
        effective, count = (
            float(_of_several(even, values).nanmean()) for values in (even.effective, even.count.double())
        )
        if not math.isnan(effective):  # NaN if no mean reward at a larger β is good
            means[beta], bars[beta] = effective, _bar(count)
    enough = [beta for beta in means if means[beta] >= bars[beta]]
    if not enough:
        return (
            f"No β is enough: the best between {min(means):.1g} and {max(means):.1g} has an effective "
            f"number of {max(means.values()):.3g}. Instead, {mara}."
        )
    nearest = min(enough, key=lambda beta: abs(math.log(beta / evidence.beta)))
    return (
        f"At β = {nearest:.2g} the optimum has an effective number of {means[nearest]:.3g}: change "
        f"{option('beta', evidence.config.trainer)}; or {mara}."
    )


def _at_beta(evidence: Evidence) -> str:
    """The β, transform and KL that the figures hold for, as the beginning of a sentence."""
    objective = evidence.objective
    if objective.lacks_kl:
        return f"With {evidence.config.describe_transform()} and without a KL"
    name = (
        "" if evidence.config.transform in (None, "none") else f" with {evidence.config.describe_transform()}"
    )
    return f"At β = {evidence.config.beta:g}{name}, under {objective.describe_regularizer()},"


def _without_kl(evidence: Evidence) -> Answer:
    """The finding without a KL: every mixture of the best samples is an optimum."""

    def statistics(support: Support) -> list[Tensor]:
        best = support.rewards >= group_max(support.rewards, support.prompts)[support.prompts.index] - 1e-9
        found = group_size(support.prompts, best & evidence.good(support)).double()
        return [torch.where(group_size(support.prompts) > 0, found, torch.nan)]

    (best,) = estimate(evidence, statistics)
    if not best.value > 0:
        raise NotApplicableError(f"no {evidence.kind} has a reward of {evidence.good_from:g} or more")
    has_ties = best.value > 1
    trainer = evidence.config.trainer
    if evidence.config.beta == 0:
        no_kl, give_kl = "β is 0.", f"Set {option('beta', trainer)} above 0"
    else:
        no_kl = "k1 in the loss has no gradient in expectation (AM041), so no KL acts."
        give_kl = f"Take {option('sequence KL', trainer)}"
    return Answer(
        state="issue" if has_ties else "tip",
        summary=(
            f"{no_kl} The optimum has only the best {evidence.kind}s of a prompt, {best} of them "
            "on average. Any mixture of these is optimal, also a single one, and nothing brings "
            "back one that the policy loses by chance."
        ),
        remedy=f"{give_kl}, and use {option('mara', trainer)}.",
        numbers={"best": best},
    )


def spread_of_equal_rewards(evidence: Evidence) -> Answer:
    """How unequal good samples of equal reward are under the reference; plain RL keeps this at any β."""
    transform, objective = evidence.config.transform, evidence.objective
    kept = _kept_ratio(evidence)
    if kept is None:
        raise MissingError(
            f"the effect of the transform {transform!r} on ratios of probabilities is not known"
        )
    if objective.lacks_kl:
        no_kl = "β is 0" if evidence.config.beta == 0 else "k1 in the loss has no gradient in expectation"
        raise NotApplicableError(f"{no_kl}: nothing ties the policy to the reference, so no ratio is kept")
    is_left, is_changed = kept > 0, not objective.is_plain and kept > 0
    if is_left:
        _ = objective.regularizer  # raises if this KL does not keep ratios

    def statistics(support: Support) -> list[Tensor]:
        rows, ties = _ties(support, evidence.good(support))
        logprobs = (evidence.optimum(support) if is_changed else support.ref_logprobs)[rows]
        spread = group_max(logprobs, ties) - group_min(logprobs, ties)
        spread = torch.where(group_size(ties) > 1, spread, torch.nan)
        prompts = Groups(index=group_common(support.prompts.index[rows], ties), count=support.prompts.count)
        largest = group_max(spread.nan_to_num(-torch.inf), prompts)
        return [torch.where(largest.isneginf(), torch.nan, largest)]

    (spread,) = estimate(evidence, statistics)
    if math.isnan(spread.value):
        return Answer(
            state="not applicable", summary=f"No two good {evidence.kind}s of a prompt have the same reward."
        )
    numbers = {"spread": spread}
    if _may_be_chance(evidence):
        return Answer(
            state="passed",
            summary=(
                f"Good outcomes of equal reward differ by up to {spread} nats in log π_ref. Samples of "
                "equally likely outcomes would differ as much by chance."
            ),
            numbers=numbers,
        )
    state = "passed"
    if is_left and spread.is_above(_TIP_FROM):
        state = "issue" if spread.is_above(_ISSUE_FROM) else "tip"
    return Answer(
        state=state,
        summary=(
            f"Good {evidence.kind}s of equal reward differ by up to {spread} nats in log "
            f"{'G at the optimum' if is_changed else 'π_ref'}, a factor of {factor(spread)}. "
            f"{_kept(evidence, kept)}{evidence.objective.assumption if is_left else ''}"
        ),
        remedy="" if state == "passed" else _transform_remedy(evidence),
        numbers=numbers,
    )


def _kept_ratio(evidence: Evidence) -> float | None:
    """log(G₁/G₂) over log(π_ref₁/π_ref₂) of two samples of equal reward at the optimum: 1 for plain RL.

    None if the method, or its optimum, is not known. A ratio below 0.001 counts as 0.
    """
    objective, config = evidence.objective, evidence.config
    if objective.is_plain:
        return 1.0
    method = objective.method(threshold=1.0)
    if method is None:
        return None
    if config.lacks("entropy"):
        return 1.0  # part of it is left; the optimum raises what is missing
    beta = 0.0 if objective.lacks_kl or config.beta is None else config.beta
    if beta == 0 and method.needs_reference:
        return 0.0
    reference = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    equal = torch.ones(2, dtype=torch.float64)
    found = method.optimum(reference, equal, beta=beta, group_size=objective.group_size)
    if found is None:
        found = method.optimum(reference, equal, beta=beta)
    if found is None:
        return None
    ratio = float((found[0] - found[1]) / (reference[0] - reference[1]))
    return ratio if ratio > _NOTHING_LEFT else 0.0


def _kept(evidence: Evidence, ratio: float) -> str:
    """What happens to the ratio of samples of equal reward, as a sentence."""
    method = evidence.objective.method()
    if isinstance(method, EntropyBonus):
        return "The entropy bonus changes a ratio r of π_ref to r^(β/(β + η))."
    if method is not None and not evidence.objective.is_plain and ratio > 0:
        return f"{method.label} changes a ratio r of π_ref to about r^{ratio:.2g}."
    if evidence.objective.is_plain:
        return f"Under {evidence.objective.describe_regularizer()}, the optimum keeps this ratio at every β."
    return "Without the transform, a KL of whole responses would keep this ratio at every β."


def _ties(support: Support, good: Tensor) -> tuple[Tensor, Groups]:
    """The good items, grouped by prompt and reward (equal to ten digits of the largest reward)."""
    rows = good.nonzero().squeeze(1)
    chosen = Groups(index=support.prompts.index[rows], count=support.prompts.count)
    scale = max(1.0, float(support.rewards.abs().max()))  # a whole number of 64 bits has 18 digits
    return rows, pair_groups((support.rewards[rows] * (1e10 / scale)).round().long(), chosen)


def _may_be_chance(evidence: Evidence) -> bool:
    """Whether counted outcomes of equal reward could have equal probabilities, one-sided at 0.01.

    Pearson's X² = Σ (n − n̄)²/n̄ over all ties has Σ (k − 1) degrees of freedom; its p-value is that of Wilson
    and Hilferty 1931. The test is needed because sampled counts differ even if probabilities are equal.
    """
    if evidence.kind == "response":  # log-probabilities of responses are known, not estimated from counts
        return False
    support = evidence.support
    rows, ties = _ties(support, evidence.good(support))
    # Weighted samples are worth (Σw)²/Σw² of them.
    prompts, weights = (
        evidence.samples.prompts_of(evidence.support_rows),
        evidence.reference.weights[evidence.support_rows],
    )
    samples = group_sum(weights, prompts).square() / group_sum(weights.square(), prompts)
    counts = (support.shares * samples[support.prompts.index])[rows]
    expected = group_mean(counts, ties)[ties.index]
    statistic = float(((counts - expected).square() / expected).sum())
    freedom = len(rows) - int((group_size(ties) > 0).sum())
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread) < _CLEAR


def flip_of_the_best_two(evidence: Evidence) -> Answer:
    """The β at which the two likeliest good items of the optimum change places."""
    if evidence.config.transform not in (None, "none"):
        raise NotApplicableError("with a transform, β does not decide which good sample is likelier")
    if evidence.objective.lacks_kl:
        no_kl = "β is 0" if evidence.config.beta == 0 else "k1 in the loss has no gradient in expectation"
        raise NotApplicableError(f"{no_kl}: no KL acts, so the sample of higher reward wins")
    beta = evidence.beta
    if evidence.objective.regularizer == "forward":
        raise MissingError("this β is known for the reverse KL; yours is the forward KL")
    found = _log_flips(evidence, evidence.support)
    has_both, flips = ~found.isnan(), found[found.isfinite()].exp()
    if not bool(has_both.any()):
        return _too_few(evidence)
    if len(flips) == 0:
        return Answer(
            state="passed",
            summary=(
                f"No β makes the best two good {evidence.kind}s of a prompt change places."
                f"{evidence.objective.assumption}"
            ),
            numbers={"flip_beta": None, "prompts": 0},
        )
    near = int(((flips < beta * _NEAR) & (flips > beta / _NEAR)).sum())

    def finite(support: Support) -> list[Tensor]:
        values = _log_flips(evidence, support)
        return [torch.where(values.isfinite(), values, torch.nan)]

    (log_mean,) = estimate(evidence, finite)
    mean = math.exp(log_mean.value)
    middle = Estimate(value=mean, error=mean * log_mean.error)
    is_near = near > 0.5 * len(flips)
    return Answer(
        state="tip" if is_near else "passed",
        summary=(
            f"In {len(flips)} of {plural(int(has_both.sum()), 'prompt')} the best two good {evidence.kind}s "
            f"change places at some β (geometric mean {middle}). In {near} of these prompts that β is "
            f"within a factor of {_NEAR:g} of yours, {beta:g}.{evidence.objective.assumption}"
        ),
        remedy=(
            f"Choose {option('beta', evidence.config.trainer)} clearly below or above it: it decides which "
            "of the two wins."
            if is_near
            else ""
        ),
        numbers={"flip_beta": middle, "prompts": len(flips), "near": near},
    )


def _log_flips(evidence: Evidence, support: Support) -> Tensor:
    """Log of the β at which a prompt's best two good items change places, (P,).

    +inf if no positive β does so, NaN for a prompt with fewer than two good items.
    """
    good, logprobs = evidence.good(support), evidence.optimum(support)
    first = group_argmax(logprobs, support.prompts, tie_break=support.rewards, mask=good)
    is_first = torch.zeros_like(good)
    is_first[first[first >= 0]] = True
    second = group_argmax(logprobs, support.prompts, tie_break=support.rewards, mask=good & ~is_first)
    one, two = first.clamp(min=0), second.clamp(min=0)
    flips = flip_beta(
        support.rewards[one], support.rewards[two], support.ref_logprobs[one], support.ref_logprobs[two]
    )
    never = torch.where(flips > 0, flips.log(), torch.inf)
    return torch.where(second >= 0, never, torch.nan)


def _of_several(even: Evenness, values: Tensor) -> Tensor:
    """The values of the prompts that have at least two good items."""
    return torch.where(even.count >= 2, values, torch.nan)


def _too_few(evidence: Evidence) -> Answer:
    return Answer(
        state="not applicable",
        summary=f"No prompt has two good {evidence.kind}s (reward ≥ {evidence.good_from:g}).",
    )


def _transform_remedy(evidence: Evidence) -> str:
    return f"No optimiser and no β changes this ratio. Use {option('mara', evidence.config.trainer)}."
