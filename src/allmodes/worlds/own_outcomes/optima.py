"""Optima of RL objectives on a user's own outcomes, and how many good outcomes each of them covers.

An outcome is good where R ≥ τ. Without a threshold τ is the best reward that the reference can reach, and
methods that need one are left out. Each row is an outcome of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.checks import check_choice, check_positive
from allmodes.errors import InputError
from allmodes.methods import KL, Plain
from allmodes.targets import (
    effective_modes,
    flip_beta,
    forward_kl_mara_rewards,
    forward_kl_target,
    is_reward_multimodal,
)
from allmodes.worlds.own_outcomes.objectives import Objective, objectives_of
from allmodes.worlds.own_outcomes.table import OutcomeTable

_KLS: tuple[KL, ...] = ("reverse", "forward")
_EVEN = 1e-9  # nats by which rounding may part what is equally likely
_CANDIDATES = 5  # outcomes of each kind whose flip betas are reported: at most 45 pairs
_SMALLEST_BETA = 1e-30  # and 1 over it the largest: β times or over what it weighs stays finite


@final
@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The optimum of one objective.

    logprobs: (K,), nats. effective_modes: exp(H). good_modes: exp(H) of the optimum restricted to the good
    outcomes, 0 where they have no mass. good_mass: its mass there. top: index of the likeliest outcome.
    top_share: its probability. good_log_ratio: largest over smallest probability of the good outcomes in the
    reference's support, nats. is_multimodal: Definition 3.5 over the outcomes in the reference's support, for
    no sample shows the others.
    """

    kl: KL
    beta: float
    source: Objective
    logprobs: Tensor
    effective_modes: float
    good_modes: float
    good_mass: float
    top: int
    top_share: float
    good_log_ratio: float
    is_multimodal: bool

    @property
    def objective(self) -> str:
        """Its name in files."""
        return self.source.name

    def extreme(self, among: Tensor, *, highest: bool = True) -> int:
        """Index of the likeliest (or least likely) outcome among those of a mask; the first of equals."""
        indices = among.nonzero().flatten()
        values = self.logprobs[indices]
        return int(indices[values.argmax() if highest else values.argmin()])


@final
@dataclass(frozen=True, kw_only=True)
class FlipBeta:
    """Two outcomes (indices) that are equally likely at `beta`; below it the better one leads."""

    better: int
    likelier: int
    beta: float


def explain_optimum(
    table: OutcomeTable,
    *,
    betas: Sequence[float],
    kl: Literal["reverse", "forward", "both"],
    threshold: float | None,
    tolerance: float = 0.1,
    methods: Sequence[str] = (),
) -> list[Optimum]:
    """The optima for every KL, β and objective, in this order; a β that is given twice counts once.

    methods: names of `METHODS`, several of them with +, or "all"; none is plain RL and, with a threshold,
    MARA. Under forward KL, where the optimum of MARA is not uniform, "corrected" stands beside it
    (`forward_kl_mara_rewards`). What has no known optimum here is left out, and `without_optimum` names it.
    tolerance: nats, of Definition 3.5.

    Raises InputError for no β, a β that is not between 1e-30 and 1e30, a threshold that is above every
    reward or is reached outside the reference's support only, or a negative tolerance.
    """
    check_choice("kl", kl, ("reverse", "forward", "both"))
    if not betas:
        raise InputError("`betas` must hold at least one number; got none")
    for beta in betas:
        check_positive("beta", beta)
        if not _SMALLEST_BETA <= beta <= 1 / _SMALLEST_BETA:
            raise InputError(
                f"`beta` must lie between {_SMALLEST_BETA:g} and {1 / _SMALLEST_BETA:g}; got {beta:g}"
            )
    if not tolerance >= 0:
        raise InputError(f"`tolerance` must not be negative; got {tolerance}")
    tau = good_threshold(table, threshold)
    optima = []
    for divergence in _KLS:
        if kl not in (divergence, "both"):
            continue
        objectives = _compared(methods, threshold, divergence)
        for beta in dict.fromkeys(betas):
            for objective in objectives:
                logprobs = _target(table, divergence, objective, beta=beta, tau=tau)
                if isinstance(logprobs, Tensor):
                    optima.append(_describe(table, logprobs, divergence, objective, beta, tau, tolerance))
    return optima


def without_optimum(
    table: OutcomeTable,
    *,
    betas: Sequence[float],
    kl: Literal["reverse", "forward", "both"],
    threshold: float | None,
    methods: Sequence[str] = (),
) -> list[str]:
    """A sentence for each method and KL that `explain_optimum` left out, with the reason."""
    tau, sentences = good_threshold(table, threshold), []
    for divergence in _KLS:
        if kl not in (divergence, "both"):
            continue
        for objective in _compared(methods, threshold, divergence):
            found = [_target(table, divergence, objective, beta=beta, tau=tau) for beta in betas]
            missing = [(f"{b:g}", why) for b, why in zip(betas, found, strict=True) if isinstance(why, str)]
            if missing:
                where = f" at beta = {', '.join(beta for beta, _ in missing)}"
                where = "" if len(missing) == len(found) else where
                sentences.append(
                    f"{objective.label} under {divergence} KL is left out{where}: {missing[0][1]}."
                )
    return sentences


def _compared(methods: Sequence[str], threshold: float | None, kl: KL) -> list[Objective]:
    objectives = []
    for objective in objectives_of(methods, threshold):
        objectives.append(objective)
        if kl == "forward" and objective.corrected is not None:
            objectives.append(objective.corrected)
    return objectives


def explain_reference(table: OutcomeTable, *, threshold: float | None, tolerance: float) -> Optimum:
    """The reference itself, which is the plain optimum as β → ∞.

    Raises InputError as `explain_optimum` does for the threshold and the tolerance.
    """
    tau = good_threshold(table, threshold)
    (plain,) = objectives_of([Plain.name], None)
    return _describe(table, table.ref_logprobs, "reverse", plain, math.inf, tau, tolerance)


def good_threshold(table: OutcomeTable, threshold: float | None) -> float:
    """τ: the threshold, or where that is None the best reward in the reference's support.

    Raises InputError for a threshold that no outcome in the support reaches.
    """
    reachable = float(table.rewards[~table.ref_logprobs.isneginf()].max())
    if threshold is None:
        return reachable
    best = float(table.rewards.max())
    if not threshold <= best:  # NaN, too
        raise InputError(f"`threshold` must not exceed the best reward, {best:g}; got {threshold:g}")
    if threshold > reachable:
        raise InputError(
            "`threshold` must not exceed the best reward that has reference probability above 0, "
            f"{reachable:g}; got {threshold:g}"
        )
    return float(threshold)


def good_in_reach(table: OutcomeTable, tau: float) -> Tensor:
    """Which outcomes are good and in the reference's support, (K,) of booleans."""
    return (table.rewards >= tau) & ~table.ref_logprobs.isneginf()


def ranked(table: OutcomeTable) -> list[int]:
    """Indices of all outcomes from the highest reward down; ties go to the reference's likelier one."""
    rewards, ref = table.rewards.tolist(), table.ref_logprobs.tolist()
    return sorted(range(len(rewards)), key=lambda i: (-rewards[i], -ref[i], i))


def flip_betas(table: OutcomeTable, *, threshold: float | None) -> list[FlipBeta]:
    """The positive β at which two outcomes are equally likely under reverse KL (Remark 4.4), largest first.

    Pairs are those among the 5 outcomes of the highest reward and the 5 likeliest good ones, in the support.
    """
    rewards, ref = table.rewards, table.ref_logprobs
    good = good_in_reach(table, good_threshold(table, threshold)).tolist()
    reachable = [i for i in ranked(table) if not bool(ref[i].isneginf())]
    likeliest = sorted((i for i in reachable if good[i]), key=lambda i: -float(ref[i]))
    flips = []
    for i, j in combinations(dict.fromkeys(reachable[:_CANDIDATES] + likeliest[:_CANDIDATES]), 2):
        better, likelier = (i, j) if rewards[i] > rewards[j] else (j, i)
        beta = float(flip_beta(rewards[better], rewards[likelier], ref[better], ref[likelier]))
        if 0 < beta < math.inf:
            flips.append(FlipBeta(better=better, likelier=likelier, beta=beta))
    return sorted(flips, key=lambda flip: -flip.beta)


def _target(table: OutcomeTable, kl: KL, objective: Objective, *, beta: float, tau: float) -> Tensor | str:
    """The optimum, (K,), or why there is none."""
    rewards, ref = table.rewards, table.ref_logprobs
    if objective.is_corrected:
        return forward_kl_target(ref, _corrected_rewards(table, beta=beta, tau=tau), beta=beta).logprobs
    try:
        found = objective.method.optimum(ref, rewards, beta=beta, kl=kl)
    except InputError as error:
        return str(error)
    return "no closed form of its optimum is known" if found is None else found


def _corrected_rewards(table: OutcomeTable, *, beta: float, tau: float) -> Tensor:
    """`forward_kl_mara_rewards` less R(z), which no optimum depends on and in which β π_ref would drown.

    Every R ≥ τ becomes R(z) anyway, so it may be put at 0 beforehand; what is below τ is below R(z).
    """
    good = good_in_reach(table, tau)
    is_anchor = good & (table.ref_logprobs == table.ref_logprobs[good].max())
    below_anchor = table.rewards - table.rewards[is_anchor].max()
    shifted = torch.where(table.rewards >= tau, 0, below_anchor)
    return forward_kl_mara_rewards(table.ref_logprobs, shifted, beta=beta, threshold=0.0)


def _describe(
    table: OutcomeTable,
    logprobs: Tensor,
    kl: KL,
    objective: Objective,
    beta: float,
    tau: float,
    tolerance: float,
) -> Optimum:
    in_support = ~table.ref_logprobs.isneginf()
    among_good = logprobs[table.rewards >= tau]
    has_mass = not bool(among_good.isneginf().all())
    level = logprobs[good_in_reach(table, tau)]
    highest, lowest = float(level.max()), float(level.min())
    top = int((logprobs > logprobs.max() - _EVEN).nonzero()[0])  # the first of those that are even
    return Optimum(
        kl=kl,
        beta=beta,
        source=objective,
        logprobs=logprobs,
        effective_modes=float(effective_modes(logprobs)),
        good_modes=float(effective_modes(torch.log_softmax(among_good, -1))) if has_mass else 0.0,
        good_mass=min(float(torch.logsumexp(among_good, -1).exp()), 1.0),
        top=top,
        top_share=float(logprobs[top].exp()),
        good_log_ratio=highest - lowest if highest > lowest else 0.0,
        is_multimodal=bool(
            is_reward_multimodal(
                logprobs[in_support], table.rewards[in_support], threshold=tau, tolerance=tolerance
            )
        ),
    )
