"""The support of each prompt: its distinct outcomes or responses, and the optima over them."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.checks import check_positive
from allmodes.methods import KL, Method
from allmodes.objectives.groups import (
    Groups,
    group_argmax,
    group_first,
    group_max,
    group_mean,
    group_min,
    group_size,
    group_sum,
    pair_groups,
)
from allmodes.targets import forward_kl_target


@final
@dataclass(frozen=True, kw_only=True)
class Support:
    """K items, distinct outcomes or distinct responses of their prompts; all tensors of shape (K,).

    prompts: the prompt of each. ref_logprobs: log π_ref(item | prompt), nats; for responses as in the log,
    not normalised; for outcomes the log of their share of the prompt's samples. rewards: for an optimum of
    strength β, β log mean exp(R/β) over an item's samples; their mean if β is not known.
    shares: of the prompt's samples. first: the index of an item's first sample.
    """

    kind: Literal["outcome", "response"]
    prompts: Groups
    ref_logprobs: Tensor
    rewards: Tensor
    shares: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.shares)


def outcome_support(
    prompts: Groups, outcomes: Tensor, rewards: Tensor, weights: Tensor, *, beta: float | None
) -> Support:
    """Outcomes of samples that were drawn from the reference, or reweighted to it.

    p(o) = Σ_{i ∈ o} w_i / Σ_i w_i

    prompts: (N,) groups. outcomes: (N,) integers; invalid is an outcome of its own. rewards: (N,), finite.
    weights: (N,), above 0: π_ref/π of a sample. An outcome that was never drawn is not an item.
    """
    pairs = pair_groups(outcomes, prompts)
    first = group_first(pairs)
    prompt = Groups(index=prompts.index[first], count=prompts.count)
    shares = group_sum(weights, pairs) / group_sum(weights, prompts)[prompt.index]
    return Support(
        kind="outcome",
        prompts=prompt,
        ref_logprobs=shares.log(),
        rewards=item_rewards(rewards.double(), pairs, weights, beta=beta),
        shares=shares,
        first=first,
    )


def response_support(
    prompts: Groups, responses: Tensor, rewards: Tensor, ref_logprobs: Tensor, *, beta: float | None
) -> Support:
    """Distinct responses with their log-probabilities under the reference, whichever policy drew them.

    responses: (N,), equal for equal texts. rewards, ref_logprobs: (N,), finite. A response with several
    log-probabilities in the log, for example from different batches on a GPU, gets their mean.
    """
    pairs = pair_groups(responses, prompts)
    first = group_first(pairs)
    prompt = Groups(index=prompts.index[first], count=prompts.count)
    return Support(
        kind="response",
        prompts=prompt,
        ref_logprobs=group_mean(ref_logprobs.double(), pairs),
        rewards=item_rewards(rewards.double(), pairs, torch.ones(len(rewards)).double(), beta=beta),
        shares=group_size(pairs).double() / group_size(prompts)[prompt.index],
        first=first,
    )


def optimum_logprobs(support: Support, *, beta: float) -> Tensor:
    """Log G of the reverse-KL optimum over the items of each prompt, (K,), normalised per prompt.

    G ∝ π_ref exp(R/β). Raises InputError for β ≤ 0. Source: MARA, Remark 3.1.
    """
    check_positive("beta", beta)
    scores = support.ref_logprobs + support.rewards / beta
    return normalised(scores, support.prompts)


def mara_logprobs(support: Support, good: Tensor, *, beta: float) -> Tensor:
    """Log G of MARA's optimum under reverse KL, (K,), normalised per prompt.

    G ∝ π_ref(z) exp(R(z)/β) where good, else π_ref exp(R/β), with z the likeliest good item of the prompt.
    A prompt without a good item keeps the plain optimum. Source: MARA, Remark B.3.
    """
    check_positive("beta", beta)
    anchor = group_argmax(support.ref_logprobs, support.prompts, tie_break=support.rewards, mask=good)
    z = anchor[support.prompts.index]
    level = (support.ref_logprobs + support.rewards / beta)[z.clamp(min=0)]
    scores = torch.where(good & (z >= 0), level, support.ref_logprobs + support.rewards / beta)
    return normalised(scores, support.prompts)


def forward_logprobs(support: Support, *, beta: float, good: Tensor | None = None) -> Tensor:
    """Log G of the forward-KL optimum over the items of each prompt, (K,), normalised per prompt.

    G = β π_ref / (Λ − R). good: (K,), the items whose rewards MARA augments with β log(π_ref(z)/π_ref(y)), z
    being the likeliest of them; None without MARA. Source: `allmodes.targets.forward_kl_target`.
    """
    check_positive("beta", beta)
    rewards = support.rewards
    if good is not None:
        anchor = group_argmax(support.ref_logprobs, support.prompts, tie_break=support.rewards, mask=good)
        z = anchor[support.prompts.index]
        raised = (support.rewards + beta * support.ref_logprobs)[z.clamp(min=0)] - beta * support.ref_logprobs
        rewards = torch.where(good & (z >= 0), raised, rewards)
    row, place, ref_logprobs, padded = _table(support, rewards)
    has_any = ref_logprobs.isfinite().any(1)
    target = torch.full_like(ref_logprobs, torch.nan)
    target[has_any] = forward_kl_target(ref_logprobs[has_any], padded[has_any], beta=beta).logprobs
    return target[row, place]


def method_logprobs(
    support: Support, method: Method, *, beta: float, kl: KL, group_size: int | None
) -> Tensor | None:
    """Log p of a method's optimum over the items of each prompt, (K,), normalised per prompt.

    β ≥ 0 is the strength of the KL. group_size: samples of a prompt in an update, None for many. The result
    is None if the method has no known optimum. A prompt whose rewards are all 0 keeps its reference under a
    method that requires rewards ≥ 0. Raises InputError as the method's `optimum` does.
    """
    row, place, ref_logprobs, rewards = _table(support, support.rewards)
    is_known = ref_logprobs.isfinite().any(1)
    if not method.takes_negative_rewards:
        rewards = torch.where(ref_logprobs.isneginf(), 0, rewards)
        is_known &= rewards.sum(1) > 0
    target = ref_logprobs.clone()
    if bool(is_known.any()):
        found = method.optimum(
            ref_logprobs[is_known], rewards[is_known], beta=beta, kl=kl, group_size=group_size
        )
        if found is None:
            return None
        target[is_known] = found
    return target[row, place]


def _table(support: Support, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row and place of each item in a table with a row for each prompt, (K,); its log π_ref and its rewards.

    Log π_ref is normalised per prompt. A place without an item has π_ref = 0 and the lowest reward, so that
    it gets no mass. rewards: (K,).
    """
    prompts = support.prompts
    order = torch.argsort(prompts.index, stable=True)
    sizes = group_size(prompts)
    starts = (sizes.cumsum(0) - sizes)[prompts.index[order]]
    row, place = prompts.index, torch.empty(len(support), dtype=torch.long)
    place[order] = torch.arange(len(support)) - starts
    shape = (prompts.count, int(sizes.max()))
    padded = torch.full(shape, float(rewards.min())).double()
    ref_logprobs = torch.full(shape, -torch.inf).double()
    padded[row, place], ref_logprobs[row, place] = rewards, normalised(support.ref_logprobs, prompts)
    return row, place, ref_logprobs, padded


@final
@dataclass(frozen=True, kw_only=True)
class Evenness:
    """How even a distribution is over the good items of each prompt, (P,); NaN for a prompt without any.

    count: of good items. top_share: of the likeliest among them. effective: 1/Σ p², their effective number,
    with p over good items alone. spread: largest minus smallest log-probability among them, nats.
    """

    count: Tensor
    top_share: Tensor
    effective: Tensor
    spread: Tensor


def evenness(support: Support, logprobs: Tensor, good: Tensor) -> Evenness:
    """Evenness of a distribution, (K,), over the items where `good`."""
    rows = good.nonzero().squeeze(1)
    within = Groups(index=support.prompts.index[rows], count=support.prompts.count)
    chosen = logprobs[rows]
    count = group_size(within)
    has_any = count > 0
    total = group_logsumexp(chosen, within)
    shares = (chosen - total[within.index]).exp()
    nothing = torch.full_like(total, torch.nan)
    return Evenness(
        count=count,
        top_share=torch.where(has_any, group_max(shares, within), nothing),
        effective=torch.where(has_any, 1 / group_sum(shares.square(), within), nothing),
        spread=torch.where(has_any, group_max(chosen, within) - group_min(chosen, within), nothing),
    )


def beta_bounds(support: Support, good: Tensor) -> Tensor:
    """The β below which MARA's optimum puts every good item above every other, by prompt, (P,).

    β < min over y with R(y) < τ and π_ref(y) > π_ref(z) of (R(z) − R(y)) / log(π_ref(y)/π_ref(z)); +inf where
    no such y is likelier than the anchor z, NaN for a prompt without a good item. Source: MARA, Remark B.3.
    """
    anchor = group_argmax(support.ref_logprobs, support.prompts, tie_break=support.rewards, mask=good)
    z = anchor[support.prompts.index].clamp(min=0)
    gap = support.ref_logprobs - support.ref_logprobs[z]
    competes = ~good & (gap > 0)
    bounds = torch.where(
        competes, (support.rewards[z] - support.rewards) / torch.where(competes, gap, 1), torch.inf
    )
    return torch.where(anchor >= 0, group_min(bounds, support.prompts), torch.nan)


def anchor_bias(support: Support, good: Tensor, *, group_size: int) -> Tensor:
    """How much a small group favours the likeliest good item over the rarest, by prompt, nats, (P,).

    E[log π_ref(z) | the likeliest was drawn] − E[log π_ref(z) | the rarest was drawn]

    over groups of G samples of the reference, one of which is given while the others are drawn by the items'
    shares; log π_ref(z) is the largest among the good items of the group. To first order this is the
    log-ratio of the two at the fixed point of MARA's rewards, which is 0 for an infinite group. NaN for a
    prompt with fewer than two good items. Source: ours, of the anchor in MARA's Algorithm 1.
    """
    rows = good.nonzero().squeeze(1)
    rows = rows[torch.argsort(support.ref_logprobs[rows], descending=True, stable=True)]
    rows = rows[torch.argsort(support.prompts.index[rows], stable=True)]
    prompts = Groups(index=support.prompts.index[rows], count=support.prompts.count)
    values, shares = support.ref_logprobs[rows], support.shares[rows]
    ends = torch.bincount(prompts.index, minlength=prompts.count).cumsum(0)
    before = torch.cat([shares.new_zeros(1), shares.cumsum(0)])  # includes the earlier prompts
    starts = ends - torch.bincount(prompts.index, minlength=prompts.count)
    offset = before[starts][prompts.index]
    # P(none of the likeliest k is among the other G − 1), for k and for k − 1.
    none = (1 - (before[1:] - offset)).clamp(min=0) ** (group_size - 1)
    none_earlier = (1 - (before[:-1] - offset)).clamp(min=0, max=1) ** (group_size - 1)
    by_others = group_sum((none_earlier - none) * values, prompts)
    has_two = ends - starts >= 2
    first, last = starts[has_two], ends[has_two] - 1
    bias = torch.full((support.prompts.count,), torch.nan, dtype=torch.float64)
    bias[has_two] = values[first] - by_others[has_two] - none[last] * values[last]
    return bias


def normalised(logprobs: Tensor, groups: Groups) -> Tensor:
    """Log-probabilities that sum to 1 over each group, (N,)."""
    return logprobs - group_logsumexp(logprobs, groups)[groups.index]


def group_logsumexp(values: Tensor, groups: Groups) -> Tensor:
    """Log Σ exp of each group, (P,); −inf for an empty one."""
    largest = group_max(values, groups)
    shift = torch.where(largest.isfinite(), largest, 0)
    return group_sum((values - shift[groups.index]).exp(), groups).log() + shift


def item_rewards(rewards: Tensor, pairs: Groups, weights: Tensor, *, beta: float | None) -> Tensor:
    """β log Σ w exp(R/β) / Σ w of the samples of each item, (K,); Σ w R / Σ w without β."""
    total = group_sum(weights, pairs)
    if beta is None:
        return group_sum(weights * rewards, pairs) / total
    return beta * (group_logsumexp(rewards / beta + weights.log(), pairs) - total.log())
