"""Traps in the setup of a training, found in its settings or its samples."""

import math

import torch
from torch import Tensor

from allmodes.audit.checks.findings import Answer, MissingError, NotApplicableError, State
from allmodes.audit.choices import KLForm
from allmodes.audit.estimates import Estimate
from allmodes.audit.evidence import Evidence
from allmodes.audit.objective import OF_RESPONSES, OF_TOKENS, Setup
from allmodes.audit.trainer_options import option
from allmodes.objectives.groups import (
    Groups,
    group_max,
    group_min,
    group_quantile,
    group_size,
    pair_groups,
)
from allmodes.reports.formatting import listing, plural

_IDLE, _MOSTLY_IDLE = 0.5, 0.9  # share of groups with equal rewards
_CUT, _MOSTLY_CUT = 0.05, 0.2  # share of truncated responses
_TIED = 0.05  # share of batches in which a quantile is the smallest reward
# Exponent a in |log π| ∝ length^a: about 1 for sums over tokens and 0 for means. It is lower where later
# tokens are more certain: 0.36 for sums over short responses with a fixed ending.
_MEAN_LIKE, _MIXED = 0.3, 0.7
_OF_A_TOKEN = 3.0  # nats; the mean −log π per token of a trained model is below this
_LEAST_SAMPLES, _ENOUGH_SAMPLES = 30, 64
# The expected gradient of each form, found by enumeration: docs/guide/choosing-an-objective.md.
_KL: dict[KLForm, str] = {
    "k1-in-reward": "k1 in the reward, summed over the response, is the reverse KL of whole responses.",
    "sequence-k2-in-loss": "k2 of whole responses, in the loss, has the gradient of their reverse KL.",
    "k2-in-loss": "k2 in the loss has the gradient of the reverse KL of each token.",
    "k3-in-loss-corrected": (
        "k3 times the importance ratio, in the loss, has the gradient of the reverse KL of each token."
    ),
    "reinvent-loss": (
        "REINVENT's square has the gradient of the reverse KL of whole responses, on the agent's samples."
    ),
    "k3-in-loss": (
        "k3 in the loss has the value of the reverse KL but the gradient of the forward KL of each token."
    ),
    "k1-in-loss": "k1 in the loss has no gradient in expectation: nothing ties the policy to the reference.",
    "k3-in-reward": "k3 in the reward is the gradient of neither KL.",
}


def scaled_advantages(evidence: Setup) -> Answer:
    """Whether advantages of transformed rewards are divided by their standard deviation."""
    config, method = evidence.config, evidence.objective.method()
    if evidence.objective.is_plain:
        return Answer(state="not applicable", summary="No transform of the rewards is in use.")
    # Only a bonus for whole responses must stay in proportion to the KL.
    is_balanced = method is None or (method.needs_sequence_kl and not method.has_own_baseline)
    survives = method is not None and method.optimum_survives_std_normalization
    name = config.describe_transform()
    if config.beta == 0 and (is_balanced or survives):
        raise NotApplicableError("β is 0: there is no KL whose proportion to the rewards could change")
    if config.scale_rewards == "none":
        return Answer(state="passed", summary="Advantages are not divided by a standard deviation.")
    if survives:
        return Answer(
            state="passed",
            summary=f"With {name} this division only changes the relative strength of the KL.",
        )
    if config.scale_rewards is None:
        raise MissingError("it is not known what advantages are divided by: give `--scale-rewards`")
    has_no_kl_beside = config.beta == 0 or config.kl in ("k1-in-reward", "k3-in-reward")
    if has_no_kl_beside and (is_balanced or config.scale_rewards == "batch"):
        return Answer(
            state="passed",
            summary=(
                "The KL is part of the rewards before the division, so both keep their proportion."
                if config.beta != 0
                else "No KL acts, and one standard deviation for all groups only changes the learning rate."
            ),
        )
    divided = f"Advantages are divided by the standard deviation s of their {config.scale_rewards}"
    if method is not None and not is_balanced:
        own = f" {name} computes advantages with its own baseline." if method.has_own_baseline else ""
        return Answer(
            state="tip",
            summary=f"{divided}.{own} The optimum of {name} holds without this division.",
            remedy=f"Train with {option('no scaling', config.trainer)}.",
        )
    return Answer(
        state="issue" if evidence.objective.uses_mara else "tip",
        summary=(
            f"{divided}, but the KL is not: relative to the rewards of {name} it has the strength sβ."
            f"{_where_rare_samples_win(evidence)}"
        ),
        remedy=(
            f"Put the KL into the reward before the division: {option('sequence KL', config.trainer)}."
            # A bonus for whole responses also needs a KL that is not one per token (AM041).
            if method is not None and (config.kl is None or evidence.objective.is_per_token)
            else f"Train with {option('no scaling', config.trainer)}, or put the KL into the reward."
        ),
    )


def _where_rare_samples_win(evidence: Setup) -> str:
    """The effect on MARA's flat optimum, with a leading space; empty for other methods."""
    if not evidence.objective.uses_mara:
        return ""
    return " With MARA, probabilities above τ are then ∝ π_ref^(1 − 1/s): rare samples win if s < 1."


def which_kl(evidence: Setup) -> Answer:
    """Which KL has the gradient of the estimator in use."""
    config = evidence.config
    if config.beta == 0:
        raise NotApplicableError("β is 0: there is no KL")
    if config.kl is None:
        raise MissingError("the estimator of the KL is not known: give `--kl`")
    objective, summary = evidence.objective, _KL[config.kl]
    state: State = "issue"
    if config.kl in OF_RESPONSES:
        state = "passed"
    elif objective.is_per_token:
        tokens = objective.describe_tokens()
        summary = (
            f"{summary} It treats the tokens before each token as fixed, and "
            f"{tokens[:1].lower()}{tokens[1:]}: its optimum is not π_ref exp(R/β), and samples of "
            "equal reward do not keep the reference's ratio."
        )
        state = "tip"
        method = objective.method()
        if method is not None and method.needs_sequence_kl:
            state = "issue"
            name = config.describe_transform()
            summary += f" {name}'s bonus is for whole responses, and a KL per token does not cancel it."
    elif config.kl in OF_TOKENS:
        summary += " Responses have one token, so this is the KL of whole responses."
        state = "tip" if config.kl == "k3-in-loss" else "passed"
        if config.kl == "k3-in-loss" and objective.uses_mara:
            state, summary = "issue", f"{summary} MARA's optimum under the forward KL is not uniform."
    return Answer(
        state=state,
        summary=summary,
        remedy=""
        if state == "passed"
        else f"For the reverse KL of whole responses, take {option('sequence KL', config.trainer)}.",
    )


def groups_without_difference(evidence: Evidence) -> Answer:
    """The share of groups without a learning signal, since all their rewards are equal."""
    rewards = evidence.samples.rewards
    known = ~rewards.isnan() & evidence.samples.has_step
    groups = Groups(index=evidence.samples.updates.index[known], count=evidence.samples.updates.count)
    size = group_size(groups)
    extent = group_max(rewards[known], groups) - group_min(rewards[known], groups)
    several = size >= 2
    if not bool(several.any()):
        raise MissingError("no prompt has two samples with a reward in the same step")
    idle = float((extent[several] == 0).double().mean())
    return idle_groups(idle, plural(int(several.sum()), "group"), evidence, groups=int(several.sum()))


def idle_groups(share: float, of_what: str, evidence: Setup, **numbers: int) -> Answer:
    """The finding for a share of groups with equal rewards. of_what: the groups counted, for the summary."""
    state = _graded(share, tip=_IDLE, issue=_MOSTLY_IDLE)
    return Answer(
        state=state,
        summary=(
            f"All rewards are equal in {share:.1%} of {of_what}: without a KL in the reward, their "
            "advantages are 0."
        ),
        remedy=(
            "" if state == "passed" else "Use prompts of medium difficulty, or raise "
            f"{option('group size', evidence.config.trainer)}."
        ),
        numbers={"share": share, **numbers},
    )  # fmt: skip


def truncated_responses(evidence: Evidence) -> Answer:
    """The share of responses that were cut off at the length limit."""
    log, limit = evidence.log, evidence.config.max_tokens
    if log.truncated is not None:
        known = log.truncated[log.truncated >= 0]
        share = float((known == 1).double().mean())
    elif log.num_tokens is None:
        raise MissingError("the log has no column `truncated` and no column `num_tokens`")
    elif limit is None:
        raise MissingError("the log has no column `truncated`: give `--max-tokens`")
    else:
        share = float((log.num_tokens[log.num_tokens >= 0] >= limit).double().mean())
    return cut_off_share(share, evidence)


def cut_off_share(share: float, evidence: Setup) -> Answer:
    """The finding for a share of truncated responses."""
    state = _graded(share, tip=_CUT, issue=_MOSTLY_CUT)
    why = ""
    if state != "passed":
        why = (
            " A truncated response is likelier than a whole one, and may become MARA's anchor."
            if evidence.objective.uses_mara
            else " A truncated response has no answer to score."
        )
    return Answer(
        state=state,
        summary=f"{share:.1%} of the responses were cut off.{why}",
        remedy=(
            ""
            if state == "passed"
            else f"Raise {option('length', evidence.config.trainer)}, or leave truncated responses out."
        ),
        numbers={"share": share},
    )


def quantile_at_the_minimum(evidence: Evidence) -> Answer:
    """Whether τ, given as a quantile, is the smallest reward of a batch, so that all count as good."""
    q = evidence.config.threshold_quantile
    if q is None:
        return Answer(state="not applicable", summary="τ is not a quantile.")
    rewards, steps = evidence.samples.rewards, evidence.log.steps
    known = ~rewards.isnan() & evidence.samples.has_step
    if not bool(known.any()):
        raise MissingError("no sample of a step has a reward")
    one = Groups(index=torch.zeros(int(known.sum()), dtype=torch.long), count=1)
    batches = one if steps is None else pair_groups(steps[known], one)
    tied = group_quantile(rewards[known], batches, q=q) <= group_min(rewards[known], batches)
    share = float(tied.double().mean())
    is_tied = share > _TIED
    return Answer(
        state="issue" if is_tied else "passed",
        summary=(
            f"In {share:.1%} of {batches.count} batches the {q:g} quantile is the smallest reward. Every "
            "sample, also a wrong one, then counts as good. allmodes keeps an earlier τ for such batches."
        ),
        remedy="Give τ as a number above the reward of a wrong answer." if is_tied else "",
        numbers={"share": share, "batches": batches.count},
    )


def sums_and_means(evidence: Evidence) -> Answer:
    """Whether log-probabilities are sums over tokens, as all formulas require, or means.

    Sums are roughly proportional to the length. Means are small and do not depend on it. Only samples of the
    first steps are used, since training changes the relation.
    """
    log = evidence.log
    if log.num_tokens is None:
        raise MissingError("the log has no column `num_tokens`")
    early = _early_rows(log.steps, len(log))
    columns = {
        name: values
        for name, values in (("ref_logprob", log.ref_logprobs), ("policy_logprob", log.policy_logprobs))
        if values is not None
    }
    exponents = {
        name: exponent
        for name, values in columns.items()
        if (exponent := _length_exponent(values[early], log.num_tokens[early])) is not None
    }
    if not exponents:
        raise MissingError("the log has no log-probabilities of responses of different lengths")
    means = [
        name
        for name, exponent in exponents.items()
        if exponent.is_below(_MEAN_LIKE) and float(columns[name][early].nanmedian()) > -_OF_A_TOKEN
    ]
    powers = listing([f"{name} scales with the power {e}" for name, e in exponents.items()])
    summary = f"{powers} of the length"
    ratio = None
    if len(columns) == 2:
        ref, policy = columns.values()
        ratio = _length_exponent((-ref / policy)[early], log.num_tokens[early])
    if ratio is not None:
        summary += f", their ratio with the power {ratio}"
        if not means and Estimate(value=abs(ratio.value), error=ratio.error).is_above(_MIXED):
            means = ["policy_logprob" if ratio.value > 0 else "ref_logprob"]
    return Answer(
        state="issue" if means else "passed",
        summary=f"{summary}. The power is about 1 for sums over tokens, 0 for means, and 0 for the ratio "
        "of two sums.",
        remedy=(
            f"Multiply {' and '.join(means)} by the number of tokens: the formulas are for whole responses."
            if means
            else ""
        ),
        numbers={"exponents": exponents, "ratio": ratio},
    )


def _early_rows(steps: Tensor | None, count: int) -> Tensor:
    """The samples of the first steps, as many steps as give enough samples; all without steps; (N,)."""
    if steps is None:
        return torch.ones(count, dtype=torch.bool)
    distinct, sizes = torch.unique(steps[steps >= 0], return_counts=True)
    enough = (sizes.cumsum(0) >= _ENOUGH_SAMPLES).nonzero().squeeze(1)
    last = distinct[enough[0] if len(enough) else -1]
    return (steps >= 0) & (steps <= last)


def _graded(share: float, *, tip: float, issue: float) -> State:
    return "issue" if share > issue else "tip" if share > tip else "passed"


def _length_exponent(logprobs: Tensor, num_tokens: Tensor) -> Estimate | None:
    """Slope of log |log π| over log length, by least squares; None if the lengths do not determine it."""
    known = ~logprobs.isnan() & (logprobs < 0) & (num_tokens > 0)
    x, y = num_tokens[known].double().log(), (-logprobs[known]).log()
    if len(x) < _LEAST_SAMPLES or float(x.std()) < math.log(1.1):
        return None
    x, y = x - x.mean(), y - y.mean()
    slope = float((x * y).sum() / x.square().sum())
    variance = float((y - slope * x).square().sum() / x.square().sum()) / (len(x) - 2)
    return Estimate(value=slope, error=math.sqrt(variance))
