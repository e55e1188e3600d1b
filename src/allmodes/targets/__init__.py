"""Exact optima of objectives on enumerable spaces: which distribution is wanted. Needs only torch."""

from allmodes.targets.crowding import crowding_target
from allmodes.targets.divergences import (
    effective_modes,
    entropy,
    kl_divergence,
    total_variation,
)
from allmodes.targets.exact import (
    ForwardKLTarget,
    forward_kl_mara_rewards,
    forward_kl_target,
    mara_target,
    reverse_kl_target,
)
from allmodes.targets.flows import (
    expected_return_flow,
    integrate_flow,
    ips_flow,
    natural_gradient_flow,
)
from allmodes.targets.ips import ips_target
from allmodes.targets.outcome_matching import outcome_matching_target
from allmodes.targets.ratios import (
    PredictedRatios,
    flip_beta,
    is_reward_multimodal,
    log_ratio,
    mara_beta_bound,
    predicted_ratios,
)

__all__ = [
    "ForwardKLTarget",
    "PredictedRatios",
    "crowding_target",
    "effective_modes",
    "entropy",
    "expected_return_flow",
    "flip_beta",
    "forward_kl_mara_rewards",
    "forward_kl_target",
    "integrate_flow",
    "ips_flow",
    "ips_target",
    "is_reward_multimodal",
    "kl_divergence",
    "log_ratio",
    "mara_beta_bound",
    "mara_target",
    "natural_gradient_flow",
    "outcome_matching_target",
    "predicted_ratios",
    "reverse_kl_target",
    "total_variation",
]
