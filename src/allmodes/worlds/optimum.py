"""The optimum that theory predicts for a training in a world."""

from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import Method
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.training import Training
from allmodes.worlds.world import World


def exact_optimum(world: World, training: Training, *, beta: float) -> Tensor | None:
    """Log-probabilities of the outcomes at the optimum of the training, (K,), float64.

    The method's own optimum under the training's KL. With a KL over trajectories the optimum keeps the
    reference's shares within an outcome, so that over outcomes it is that of the reference's distribution
    over outcomes; for an entropy bonus that is each outcome's share of all trajectories. None if it is not
    known (`optimum_of`).

    Raises InputError for a method that works on trajectories, in a world with several trajectories per
    outcome.
    """
    reference = world.log_path_shares if training.kl == "entropy" else world.ref_outcome_logprobs
    found = optimum_of(training, reference, world.rewards.double(), beta=beta)
    if found is not None and _looks_at_trajectories(training.method) and not isinstance(world, Categorical):
        label = training.method.label
        raise InputError(f"the optimum of {label} is known only for worlds with one trajectory per outcome")
    return found


def optimum_of(
    training: Training,
    ref_logprobs: Tensor,
    rewards: Tensor,
    *,
    beta: float,
    outcome_ids: Tensor | None = None,
) -> Tensor | None:
    """The optimum of a training on strings (K,) with reference log-probabilities, (K,); see `Method.optimum`.

    ref_logprobs: for an entropy bonus those of the uniform distribution over strings. None if the method
    knows none; for advantages divided by a standard deviation, whose scale changes with the policy; where a
    group's mean shrinks the rewards but not the KL; where a method that counts outcomes has groups of unknown
    size, or no baseline and `baseline_is_worth_a_sample` does not hold; and for an entropy bonus where the
    method's rewards are made for a KL to the reference.
    """
    if not _is_known(training):
        return None
    has_kl = training.kl != "none" or training.method.contains_kl
    return training.method.optimum(
        ref_logprobs,
        rewards,
        beta=beta if has_kl else 0.0,
        kl="forward" if training.kl == "forward" else "reverse",
        outcome_ids=outcome_ids,
        group_size=_effective_group_size(training),
    )


def _is_known(training: Training) -> bool:
    method = training.method
    if training.advantages == "group_std" or training.loss == "flowrl":
        return False
    has_kl_in_loss = training.kl == "forward" or (training.kl != "none" and training.kl_in == "loss")
    if training.loss == "policy_gradient" and training.advantages == "mean" and has_kl_in_loss:
        return False  # a mean that includes the sample itself shrinks rewards by (G − 1)/G, but not this KL
    if training.kl in ("none", "entropy") and method.needs_reference and not method.contains_kl:
        return False
    if not _counts(training):
        return True
    return training.group_size is not None and (_has_baseline(training) or method.baseline_is_worth_a_sample)


def _counts(training: Training) -> bool:
    """Whether the method counts outcomes in a group."""
    return training.method.needs_outcomes and training.frequencies == "group"


def _effective_group_size(training: Training) -> int | None:
    """Group size in the sense of `Method.optimum`: a group that also shares its baseline.

    Without a baseline, G samples have the optimum of G + 1 samples with one. None is many samples.
    """
    if training.group_size is None or training.frequencies == "exact":
        return None
    return training.group_size + (not _has_baseline(training))


def _has_baseline(training: Training) -> bool:
    if training.method.has_own_baseline:
        return True
    return training.loss == "policy_gradient" and training.advantages != "none"


def _looks_at_trajectories(method: Method) -> bool:
    """Whether rewards depend on which of an outcome's trajectories was taken."""
    return (method.needs_reference or method.needs_policy) and not method.needs_outcomes
