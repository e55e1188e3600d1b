"""The effect of inverse probability scaling (IPS) on the outcomes of a log."""

from allmodes.audit.checks.findings import Answer, MissingError
from allmodes.audit.evidence import Evidence
from allmodes.audit.trainer_options import option
from allmodes.methods import IPS
from allmodes.reports.formatting import plural
from allmodes.targets import ips_target

_MOST_PROMPTS = 200  # the fixed point is solved for the first prompts of the log only


def extinct_outcomes(evidence: Evidence) -> Answer:
    """Which outcomes a group of this size cannot keep, since p̂ = n/G replaces their probabilities.

    For other methods, whether a group of this size restores diversity at all (`Method.group_warning`).
    With the group mean as baseline, as in trainers, the fixed point of G samples is that of G − 1 without.
    Source: IPS, equation 9; the fixed point is `allmodes.targets.ips_target`.
    """
    size = evidence.group_size
    method = evidence.objective.method()
    used = isinstance(method, IPS)
    warning = None if method is None else method.group_warning(size)
    if warning is not None:
        return Answer(
            state="issue",
            summary=f"{warning}.",
            remedy=f"Raise {option('group size', evidence.config.trainer)}.",
        )
    if evidence.kind != "outcome":
        raise MissingError("the log has no column `outcome` with outcomes that repeat")
    rewards = evidence.samples.rewards[evidence.support_rows]
    if float(rewards.min()) < 0:
        return Answer(
            state="issue" if used else "not applicable",
            summary=f"The lowest reward is {float(rewards.min()):.3g}; IPS drives outcomes of negative "
            "reward to 0.",
            remedy="Use rewards of at least 0. Adding a constant changes the optimum." if used else "",
        )
    if size < 3:
        return Answer(state="not applicable", summary="In groups of 2 the baseline cancels IPS's scaling.")
    support = evidence.support_of(evidence.support_rows, beta=None)
    found = support.prompts.index.unique()[:_MOST_PROMPTS]
    is_rewarded = support.rewards > 0  # an outcome without reward goes extinct in groups of any size
    if not bool(is_rewarded.any()):
        return Answer(state="not applicable", summary="No outcome has a reward above 0.")
    good = evidence.good(support)
    outcomes = extinct = good_extinct = 0
    for prompt in found.tolist():
        own = (is_rewarded & (support.prompts.index == prompt)).nonzero().squeeze(1)
        if len(own) > 0:
            lost = ips_target(support.rewards[own], group_size=size - 1).isneginf()
            outcomes += len(own)
            extinct += int(lost.sum())
            good_extinct += int((lost & good[own]).sum())
    # A KL keeps these outcomes above 0, but rarer than in proportion to their rewards.
    is_held = (evidence.config.beta or 0) > 0 and evidence.config.kl != "k1-in-loss"
    state = "issue" if good_extinct and not is_held else "tip" if extinct else "passed"
    return Answer(
        state=state if used else "not applicable",
        summary=(
            f"In groups of {size}, IPS keeps {outcomes - extinct} of {plural(outcomes, 'outcome')} of "
            f"{plural(len(found), 'prompt')}; {good_extinct} of the lost outcomes are good."
            f"{' The KL keeps the lost outcomes above 0.' if is_held and extinct else ''}"
        ),
        remedy=f"Raise {option('group size', evidence.config.trainer)}." if used and extinct else "",
        numbers={"outcomes": outcomes, "extinct": extinct, "good_extinct": good_extinct, "group_size": size},
    )
