"""Warnings about an optimum in plain sentences, and number formats of reports."""

import math
from collections.abc import Sequence

import torch

from allmodes.reports.formatting import shown_name
from allmodes.targets import mara_beta_bound
from allmodes.worlds.own_outcomes.optima import (
    Optimum,
    good_in_reach,
    good_threshold,
)
from allmodes.worlds.own_outcomes.table import OutcomeTable

FORMULAS = {
    "reverse": "E[R] - beta KL(policy || reference)",
    "forward": "E[R] - beta KL(reference || policy)",
}
_FAR_FEWER = 0.5  # an optimum with less than this share of the good outcomes as its modes is called collapsed
_DOMINANT = 0.9  # share of the mass at which one outcome leaves nothing to speak of
MOST_LISTED = 8  # betas, names or pairs that a report lists before it counts


def warnings(
    table: OutcomeTable, optima: Sequence[Optimum], *, threshold: float | None, tolerance: float
) -> list[str]:
    """Sentences on problems of the objectives themselves, which no optimiser can solve."""
    tau = good_threshold(table, threshold)
    sentences = []
    for kl in dict.fromkeys(o.kl for o in optima):
        plain = [o for o in optima if o.kl == kl and o.source.is_plain]
        sentences += _collapsed(table, plain, tau) + _outweighed(plain, tau)
    sentences += _same_reward(table, tau, tolerance)
    sentences += _mara_above_bound(table, [o for o in optima if o.kl == "reverse" and o.source.is_mara], tau)
    sentences += _forward_mara(table, [o for o in optima if o.kl == "forward"], tau, tolerance)
    sentences += _out_of_reach(table, optima, tau)
    if int(good_in_reach(table, tau).sum()) == 1:
        hint = (
            "MARA needs a threshold that several reach"
            if threshold is None
            else "a lower threshold shows more"
        )
        sentences.append(f"Only one outcome that the reference reaches has reward >= {tau:g}; {hint}.")
    return sentences


def _collapsed(table: OutcomeTable, plain: Sequence[Optimum], tau: float) -> list[str]:
    number = int(good_in_reach(table, tau).sum())
    found = [o for o in plain if not o.is_multimodal and o.good_modes < _FAR_FEWER * number]
    if number < 2:
        return _alone(table, plain)
    if not found:
        return []
    worst = min(found, key=lambda o: round(o.good_modes, 6))  # equal rewards are even but for rounding
    # Forward KL may give mass beyond the reference's reach.
    counted = (table.rewards >= tau) & ~(table.ref_logprobs.isneginf() & worst.logprobs.isneginf())
    best = worst.extreme(counted)
    is_other = counted & (torch.arange(len(counted)) != best)
    among_good = worst.logprobs - torch.logsumexp(worst.logprobs[counted], -1)
    shown = worst.logprobs if worst.good_mass >= 0.5 else among_good
    whole = "of the mass" if worst.good_mass >= 0.5 else f"of the {percent(worst.good_mass)} on good outcomes"
    others = int(is_other.sum())
    sentence = (
        f"{_verdict(worst)} BY CONSTRUCTION: at beta = {worst.beta:g} under {worst.kl} KL one outcome, "
        f"{_named(table, best)}, has {percent(float(shown[best].exp()))} {whole}; {others} "
        f"other{'s' * (others > 1)} with reward >= {tau:g} share{'s' * (others == 1)} "
        f"{percent(float(shown[is_other].exp().sum()))}. No optimiser can undo this."
    )
    if len(found) > 1:
        likewise = [f"beta = {o.beta:g} ({o.good_modes:.1f})" for o in found if o is not worst]
        sentence += (
            f" It is also uneven at {_listed(likewise)}; in parentheses: how many of the {number} good "
            "outcomes are left, as an effective number."
        )
    return [sentence]


def _verdict(worst: Optimum) -> str:
    if worst.good_mass < 0.5:
        return "UNEVEN AMONG GOOD OUTCOMES"
    return "UNIMODAL" if worst.good_modes < 1.5 else "COLLAPSED"


def _alone(table: OutcomeTable, plain: Sequence[Optimum]) -> list[str]:
    """Where one outcome alone counts as good: does it leave anything to the others?"""
    found = [o for o in plain if o.top_share >= _DOMINANT]
    if not found or len(table.names) < 2:
        return []
    most = max(found, key=lambda o: o.top_share)
    return [
        f"UNIMODAL BY CONSTRUCTION: under {most.kl} KL at beta = {_betas(found)} one outcome, "
        f"{_named(table, most.top)}, has {percent(most.top_share)} of the mass at beta = {most.beta:g}, "
        "however close the rewards of others are. No optimiser can undo this."
    ]


def _outweighed(plain: Sequence[Optimum], tau: float) -> list[str]:
    found = [o for o in plain if o.good_mass < 0.5]
    if not found:
        return []
    least = min(found, key=lambda o: o.good_mass)
    return [
        f"The reference outweighs the reward under {least.kl} KL at beta = {_betas(found)}: outcomes with "
        f"reward >= {tau:g} have only {percent(least.good_mass)} of the mass at beta = {least.beta:g}."
    ]


def _same_reward(table: OutcomeTable, tau: float, tolerance: float) -> list[str]:
    tied: dict[float, list[int]] = {}
    for i in good_in_reach(table, tau).nonzero().flatten().tolist():
        tied.setdefault(float(table.rewards[i]), []).append(i)
    ref = table.ref_logprobs.tolist()
    worst = max(tied.values(), key=lambda group: max(ref[i] for i in group) - min(ref[i] for i in group))
    likely, rare = max(worst, key=lambda i: ref[i]), min(worst, key=lambda i: ref[i])
    if not ref[likely] - ref[rare] > tolerance:
        return []
    return [
        f"{len(worst)} good outcomes have the same reward, {float(table.rewards[likely]):g}, and under the "
        f"reference {_quoted(table, likely)} is {factor(ref[likely] - ref[rare])} times as likely as "
        f"{_quoted(table, rare)}: without MARA lowering beta will not change this ratio."
    ]


def _mara_above_bound(table: OutcomeTable, mara: Sequence[Optimum], tau: float) -> list[str]:
    bound = float(mara_beta_bound(table.ref_logprobs, table.rewards, threshold=tau))
    found = [o for o in mara if not o.beta < bound]
    if not found:
        return []
    competitor = min(found, key=lambda o: o.beta).extreme(table.rewards < tau)
    return [
        f"MARA under reverse KL at beta = {_betas(found)} is not below its bound, {bound:.4g}: "
        f"{_named(table, competitor)} stays at least as likely as each good outcome. Choose a smaller beta."
    ]


def _forward_mara(table: OutcomeTable, forward: Sequence[Optimum], tau: float, tolerance: float) -> list[str]:
    sentences = []
    good = good_in_reach(table, tau)
    uneven = [o for o in forward if o.source.is_mara and o.good_log_ratio > tolerance]
    if uneven:
        worst = max(uneven, key=lambda o: o.good_log_ratio)
        high, low = worst.extreme(good), worst.extreme(good, highest=False)
        sentences.append(
            f"MARA's rewards do not make the forward-KL optimum uniform: at beta = {worst.beta:g} "
            f"{_quoted(table, high)} is {factor(worst.good_log_ratio)} times as likely as "
            f"{_quoted(table, low)}, though both are good. Rows called corrected show rewards that do."
        )
    corrected = [o for o in forward if o.source.is_corrected]
    if rounded := [o for o in corrected if o.good_log_ratio > tolerance]:
        sentences.append(
            f"The corrected rewards at beta = {_betas(rounded)} are uniform in exact arithmetic; in 64 bits "
            "the rarest good outcomes are lost to rounding."
        )
    if late := [o for o in corrected if not o.is_multimodal and o not in rounded]:
        competitor = min(late, key=lambda o: o.beta).extreme(table.rewards < tau)
        sentences.append(
            f"The corrected forward-KL optimum at beta = {_betas(late)} is uniform over good outcomes, yet "
            f"{_named(table, competitor)} stays at least as likely as each. Choose a smaller beta."
        )
    return sentences


def _out_of_reach(table: OutcomeTable, optima: Sequence[Optimum], tau: float) -> list[str]:
    lost = (table.rewards >= tau) & table.ref_logprobs.isneginf()
    if not bool(lost.any()):
        return []
    names = [_quoted(table, i) for i in lost.nonzero().flatten().tolist()]
    sentence = (
        f"{len(names)} outcome{'s' * (len(names) > 1)} with reward >= {tau:g} and reference probability 0 "
        f"({_listed(names)}): never reached under reverse KL, with MARA or without."
    )
    given = [(float(o.logprobs[lost].exp().sum()), o.beta) for o in optima if o.kl == "forward"]
    if given and max(given)[0] > 0:
        mass, beta = max(given)
        sentence += (
            f" The forward-KL optimum gives them up to {percent(mass)} (at beta = {beta:g}), yet no sample "
            "of the reference shows them."
        )
    return [sentence]


def _named(table: OutcomeTable, i: int) -> str:
    return f"{_quoted(table, i)} (reward {float(table.rewards[i]):g})"


def _quoted(table: OutcomeTable, i: int) -> str:
    return f"'{shown_name(table.names[i])}'"


def _betas(optima: Sequence[Optimum]) -> str:
    return _listed([f"{o.beta:g}" for o in optima])


def _listed(words: Sequence[str]) -> str:
    more = len(words) - MOST_LISTED
    return ", ".join(words[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def percent(share: float) -> str:
    """A share that is never rounded to nothing or to all."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 - 1e-12 else f"{100 * share:.1f}%"


def factor(nats: float) -> str:
    """exp(nats), which may be beyond what a float holds."""
    if math.isinf(nats):
        return "inf"
    if nats < math.log(9999.5):
        factor = math.exp(nats)
        return f"{factor:.3g}" if factor < 999.5 else f"{factor:.0f}"
    digits = nats / math.log(10)
    exponent = math.floor(digits + 1e-9)
    return f"{min(10 ** (digits - exponent), 9.9):.1f}e+{exponent}"
