"""What theory predicts for a method in a world, before anything is trained."""

import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import target_rewards
from allmodes.targets import forward_kl_target, ips_target, mara_target, reverse_kl_target
from allmodes.targets.exact import anchor_of
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.methods import Ips, Mara, Method
from allmodes.worlds.world import World


def exact_optimum(world: World, method: Method, *, beta: float) -> Tensor | None:
    """Log-probabilities of the outcomes where the method comes to rest, (K,), float64.

    With a KL over trajectories the optimum keeps the reference's shares within an outcome, so that over
    outcomes it is the target of `targets/` with the reference's distribution over outcomes; for an entropy
    bonus that is each outcome's share of all trajectories. Methods on the plain expected return end on the
    best outcomes alone, and how they share the mass depends on the way there: None, as for advantages over a
    standard deviation, whose scale changes with the policy, for finite groups together with a KL or of
    unknown size, for clipped frequencies, and where a group's mean shrinks the rewards but not the KL. MARA's
    optimum is that of one anchor for all, as in large groups.

    Raises InputError for MARA in a world of several trajectories to an outcome: its anchor is a trajectory.
    """
    rewards = world.rewards.double()
    reference = world.log_path_shares if method.kl == "entropy" else world.ref_outcome_logprobs
    if method.advantages == "group_std" or method.loss == "flowrl":
        return None
    has_kl_in_loss = method.kl == "forward" or (method.kl != "none" and method.kl_in == "loss")
    if method.loss == "policy_gradient" and method.advantages == "mean" and has_kl_in_loss:
        return None  # the mean that holds the sample itself shrinks rewards by (G − 1)/G, but not this KL
    if isinstance(method.transform, Ips):
        return _ips_optimum(rewards, reference, method, method.transform, beta)
    if isinstance(method.transform, Mara):
        if not isinstance(world, Categorical):
            raise InputError("MARA's optimum is known for worlds with one trajectory an outcome")
        return _mara_optimum(rewards, reference, method, method.transform, beta)
    if method.kl in ("reverse", "entropy"):
        return reverse_kl_target(reference, rewards, beta=beta)
    if method.kl == "forward":
        return forward_kl_target(reference, rewards, beta=beta).logprobs
    return None


def _mara_optimum(
    rewards: Tensor, reference: Tensor, method: Method, mara: Mara, beta: float
) -> Tensor | None:
    if method.kl in ("none", "entropy"):
        return None  # MARA's rewards are made for a KL to the reference
    if method.kl == "reverse" and mara.flattening == 1:
        return mara_target(reference, rewards, beta=beta, threshold=mara.threshold)
    good = rewards >= mara.threshold
    anchor_logprob, anchor_reward = anchor_of(reference, rewards, good)
    plain = reference + rewards / beta
    flat = (anchor_logprob + anchor_reward / beta).expand_as(plain)
    density = torch.where(good, torch.lerp(plain, flat, mara.flattening), plain)
    if method.kl == "reverse":
        return torch.log_softmax(density, -1)
    augmented = target_rewards(density, reference, beta=beta)
    return forward_kl_target(reference, augmented, beta=beta).logprobs


def _ips_optimum(rewards: Tensor, reference: Tensor, method: Method, ips: Ips, beta: float) -> Tensor | None:
    if ips.min_probability > 0:
        return None
    if ips.kl_first and ips.frequencies == "exact":
        return ips_target(rewards, ref_logprobs=reference, beta=beta, regularizer="in_reward")
    if ips.frequencies == "exact":
        if method.kl == "none":
            return ips_target(rewards)
        regularizer = "forward" if method.kl == "forward" else "reverse"
        return ips_target(rewards, ref_logprobs=reference, beta=beta, regularizer=regularizer)
    if ips.kl_first or method.kl != "none" or method.group_size is None:
        return None
    # The group's mean as a baseline is worth one sample.
    size = method.group_size if method.advantages == "none" else method.group_size - 1
    return ips_target(rewards, group_size=size) if size >= 2 else None
