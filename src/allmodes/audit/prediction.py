"""Compare the optimum predicted from samples of the reference with the result observed after training."""

import math
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.estimates import Estimate, estimate
from allmodes.audit.evidence import Evidence
from allmodes.audit.support import Support, evenness, normalised, response_support
from allmodes.audit.windows import windows
from allmodes.objectives.groups import Groups, group_mean, group_size, group_sum

_RESAMPLES = 200
_SAME = 1e-3  # nats; a policy closer to its reference than this counts as not trained


@final
@dataclass(frozen=True, kw_only=True)
class Pair:
    """A figure of the reference, the prediction and the observation, as means over prompts."""

    name: str
    before: Estimate
    predicted: Estimate
    observed: Estimate


@final
@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted and observed, over K items of the prompts that both sides have.

    kind: outcomes, with shares counted before and after; or responses, with known log-probabilities under
    reference and policy. samples_before, samples_after: number of samples. figures: of the good items.
    names: (K,), of outcomes. before, predicted, observed: (K,), shares; for responses, normalised over the
    prompt's items. good: (K,). kl: the KL that the prediction holds for. assumption: a sentence on the KL
    with a leading space; empty if the settings name the KL.
    """

    kl: str
    assumption: str
    kind: Literal["outcome", "response"]
    samples_before: int
    samples_after: int
    after: str
    figures: tuple[Pair, ...]
    names: list[str]
    before: Tensor
    predicted: Tensor
    observed: Tensor
    good: Tensor
    prompts: Groups

    @property
    def distances(self) -> tuple[float, float]:
        """Mean total variation distance of the observation to the prediction and to the reference."""
        return self._distance(self.predicted), self._distance(self.before)

    def _distance(self, shares: Tensor) -> float:
        found = 0.5 * group_sum((shares - self.observed).abs(), self.prompts)
        return float(found[group_size(self.prompts) > 0].mean())


def predict_within(evidence: Evidence) -> Prediction:
    """The prediction within one log: the optimum from its first samples, compared with its last window.

    Raises MissingError if either side lacks data, NotApplicableError without a KL.
    """
    if evidence.kind == "response":
        return _of_responses(evidence)
    last = _last_rows(evidence)
    if last is None:
        raise MissingError(
            "the log has no column `step`: samples before and after training cannot be distinguished"
        )
    rows, steps = last
    if bool(
        (rows & (evidence.samples.steps == evidence.samples.steps[evidence.samples.has_step].min())).any()
    ):
        raise MissingError("the log has only one window of steps: there are no samples after training")
    return _of_outcomes(evidence, evidence.at(rows, good=evidence.good_from), steps)


def predict_between(before: Evidence, after: Evidence) -> Prediction:
    """The optimum from the reference's samples in one log, for the training of another log.

    before: evidence of the first log, with the settings of the other's training. after: the other log; all
    samples of a log without steps, else those of its last window. Raises as `predict_within` does.
    """
    if before.kind == "response":
        raise MissingError(
            "both logs need outcomes that repeat; responses can only be compared within one log that "
            "has both `ref_logprob` and `policy_logprob`, which `--policy` computes"
        )
    last = _last_rows(after)
    rows = ~after.samples.rewards.isnan() if last is None else last[0]
    source = "the other log" if last is None else last[1]
    return _of_outcomes(before, after.at(rows, good=before.good_from), source)


def _kl_of(evidence: Evidence) -> dict[str, str]:
    objective = evidence.objective
    kl = "no KL" if objective.lacks_kl else objective.describe_regularizer()
    return {"kl": kl, "assumption": evidence.assumption}


def _last_rows(evidence: Evidence) -> tuple[Tensor, str] | None:
    """The samples with a reward of the last window, and the name of its steps; None if there are none."""
    steps = evidence.log.steps
    if steps is None:
        return None
    last = windows(*evidence.curves.series("reward"))[-1]
    rows = (steps >= last.first_step) & ~evidence.samples.rewards.isnan()
    return rows, f"steps {last.first_step} to {last.last_step}"


def _of_outcomes(before: Evidence, after: Evidence, source: str) -> Prediction:
    if after.kind != "outcome":
        raise MissingError("the samples after training have no outcomes that repeat")
    support, others = before.support, after.support
    keys = before.log.prompt_keys, after.log.prompt_keys
    shared = torch.isin(keys[0], keys[1][group_size(others.prompts) > 0]) & (group_size(support.prompts) > 0)
    if not bool(shared.any()):
        raise MissingError("no prompt has samples both before and after")
    # Prompts in which the reference has several good outcomes; afterwards one or none may be left.
    several = shared & (group_size(support.prompts, before.good(support)) >= 2)
    after_shared, after_several = (torch.isin(keys[1], keys[0][mask]) for mask in (shared, several))

    def reference_and_prediction(support: Support) -> list[Tensor]:
        good = before.good(support)
        sides = (support.ref_logprobs, before.optimum(support))
        return [values for side in sides for values in _figures(support, side, good, shared, several)]

    def observed(support: Support) -> list[Tensor]:
        return _figures(support, support.ref_logprobs, after.good(support), after_shared, after_several)

    found, afterwards = estimate(before, reference_and_prediction), estimate(after, observed)
    first, second = _joined(before, support, shared), _joined(after, others, after_shared)
    pairs, index = torch.unique(torch.cat([first.keys, second.keys]), dim=0, return_inverse=True)
    size, one = len(pairs), len(first.keys)

    def spread(values: Tensor, places: Tensor) -> Tensor:
        return torch.zeros(size, dtype=values.dtype).scatter_(0, places, values)

    optimum = before.optimum(support)[first.rows].exp()
    good = spread(before.good(support)[first.rows], index[:one])
    good |= spread(after.good(others)[second.rows], index[one:])
    names = [""] * size
    for joined, places in ((second, index[one:]), (first, index[:one])):
        for place, name in zip(places.tolist(), joined.names, strict=True):
            names[place] = name
    _, prompts = torch.unique(pairs[:, 0], return_inverse=True)
    return Prediction(
        **_kl_of(before),
        kind="outcome",
        samples_before=len(before.support_rows),
        samples_after=len(after.support_rows),
        after=source,
        figures=_pairs(found[: len(afterwards)], found[len(afterwards) :], afterwards),
        names=names,
        before=spread(support.shares[first.rows], index[:one]),
        predicted=spread(optimum, index[:one]),
        observed=spread(others.shares[second.rows], index[one:]),
        good=good,
        prompts=Groups(index=prompts, count=int(prompts.max()) + 1),
    )  # fmt: skip


@final
@dataclass(frozen=True)
class _Joined:
    """Support by the digests of prompts and outcomes, (J, 2), which are equal across logs."""

    rows: Tensor
    keys: Tensor
    names: list[str]


def _joined(evidence: Evidence, support: Support, shared: Tensor) -> _Joined:
    rows = shared[support.prompts.index].nonzero().squeeze(1)
    log = evidence.log
    outcomes = log.outcomes
    if outcomes is None:
        raise MissingError("a log has no column `outcome`")
    chosen = outcomes[evidence.support_rows][support.first[rows]]
    keys = torch.cat([log.outcome_keys, torch.zeros(1, dtype=torch.long)])[chosen]  # −1, invalid, is the last
    names = [*log.outcome_names, "invalid"]
    return _Joined(
        rows=rows,
        keys=torch.stack([log.prompt_keys[support.prompts.index[rows]], keys], dim=1),
        names=[names[number] for number in chosen.tolist()],
    )


def _of_responses(evidence: Evidence) -> Prediction:
    log = evidence.log
    if log.ref_logprobs is None or log.policy_logprobs is None:
        raise MissingError("the log has no column `policy_logprob`, which `--policy` computes")
    last = _last_rows(evidence)
    known = ~evidence.samples.rewards.isnan() & ~log.ref_logprobs.isnan() & ~log.policy_logprobs.isnan()
    chosen = known if last is None else known & last[0]
    rows = chosen.nonzero().squeeze(1)
    if len(rows) == 0:
        raise MissingError("no sample has `reward`, `ref_logprob` and `policy_logprob`")
    if float((log.ref_logprobs[rows] - log.policy_logprobs[rows]).abs().max()) < _SAME:
        raise MissingError("policy and reference are the same: nothing has been trained")
    sides = _sides(evidence, rows)
    values = _figures_of_sides(evidence, sides)
    generator, count = torch.Generator().manual_seed(0), len(sides.support)
    drawn = (torch.randint(count, (count,), generator=generator) for _ in range(_RESAMPLES))
    resamples = [_figures_of_sides(evidence, sides.at(index)) for index in drawn]
    errors = torch.tensor(resamples, dtype=torch.float64).std(0)
    found = [
        [Estimate(value=value, error=float(error)) for value, error in zip(side, own, strict=True)]
        for side, own in zip(values, errors, strict=True)
    ]
    support = sides.support
    return Prediction(
        **_kl_of(evidence),
        kind="response",
        samples_before=len(rows),
        samples_after=len(rows),
        after="all samples" if last is None else last[1],
        figures=_pairs(*found),
        names=[],
        before=sides.before.exp(),
        predicted=sides.predicted.exp(),
        observed=sides.observed.exp(),
        good=evidence.good(support),
        prompts=support.prompts,
    )


@final
@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Log-probabilities under reference, optimum and policy, (K,), normalised over a prompt's responses."""

    support: Support
    before: Tensor
    predicted: Tensor
    observed: Tensor

    def at(self, index: Tensor) -> "_Sides":
        """The support of some of the items; an item given twice counts twice."""
        support = self.support
        prompts = Groups(index=support.prompts.index[index], count=support.prompts.count)
        chosen = {
            name: getattr(support, name)[index] for name in ("ref_logprobs", "rewards", "shares", "first")
        }
        return _Sides(
            support=replace(support, prompts=prompts, **chosen),
            before=normalised(self.before[index], prompts),
            predicted=normalised(self.predicted[index], prompts),
            observed=normalised(self.observed[index], prompts),
        )


def _sides(evidence: Evidence, rows: Tensor) -> _Sides:
    log, support = evidence.log, evidence.support_of(rows, beta=evidence.beta_of_rewards)
    if log.responses is None or log.policy_logprobs is None:
        raise MissingError("the log has no column `policy_logprob`, which `--policy` computes")
    policy = response_support(
        evidence.samples.prompts_of(rows),
        log.responses[rows],
        evidence.samples.rewards[rows],
        log.policy_logprobs[rows],
        beta=None,
    )
    return _Sides(
        support=support,
        before=normalised(support.ref_logprobs, support.prompts),
        predicted=normalised(evidence.optimum(support), support.prompts),
        observed=normalised(policy.ref_logprobs, support.prompts),
    )


def _figures_of_sides(evidence: Evidence, sides: _Sides) -> list[list[float]]:
    """Figures of reference, prediction and observation, and the slope of observed on predicted change."""
    support = sides.support
    good = evidence.good(support)
    has_any, several = group_size(support.prompts) > 0, group_size(support.prompts, good) >= 2
    before, predicted, observed = (
        [float(values.nanmean()) for values in _figures(support, side, good, has_any, several)]
        for side in (sides.before, sides.predicted, sides.observed)
    )
    x, y = (_centred(side - sides.before, support.prompts) for side in (sides.predicted, sides.observed))
    slope = float((x * y).sum() / x.square().sum()) if bool((x != 0).any()) else math.nan
    ends = (math.nan, math.nan) if math.isnan(slope) else (0.0, 1.0)
    return [[*before, ends[0]], [*predicted, ends[1]], [*observed, slope]]


def _centred(values: Tensor, prompts: Groups) -> Tensor:
    return values - group_mean(values, prompts)[prompts.index]


_NAMES = (
    "share of the likeliest good item",
    "effective number of good items",
    "mass of the good items",
    "slope of log(π/π_ref) against the prediction",  # of responses alone
)


def _figures(
    support: Support, logprobs: Tensor, good: Tensor, chosen: Tensor, several: Tensor
) -> list[Tensor]:
    """Figures of each prompt, (P,), in the order of `_NAMES`; NaN for prompts that are not chosen."""
    found = evenness(support, logprobs, good)
    mass = group_sum(torch.where(good, logprobs.exp(), 0), support.prompts)
    return [
        torch.where(several, found.top_share, torch.nan),
        torch.where(several, found.effective, torch.nan),
        torch.where(chosen, mass, torch.nan),
    ]


def _pairs(before: list[Estimate], predicted: list[Estimate], observed: list[Estimate]) -> tuple[Pair, ...]:
    return tuple(
        Pair(name=name, before=base, predicted=one, observed=other)
        for name, base, one, other in zip(_NAMES, before, predicted, observed, strict=False)
        if not (math.isnan(one.value) and math.isnan(other.value))  # NaN if no prompt has two good items
    )
