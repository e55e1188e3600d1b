"""What one training step computes, as pure functions of tensors. Needs only torch."""

from allmodes.objectives.advantages import group_advantages, leave_one_out_advantages
from allmodes.objectives.batch import SampledBatch
from allmodes.objectives.best_of_n import best_of_n_rewards
from allmodes.objectives.entropy import entropy_rewards
from allmodes.objectives.ips import IpsResult, ips_rewards
from allmodes.objectives.kl import (
    forward_kl_loss,
    k1_value,
    k2_value,
    k3_value,
    kl_in_rewards,
    reverse_kl_loss,
    reverse_kl_weighted_loss,
)
from allmodes.objectives.losses import (
    filtered_likelihood_loss,
    policy_gradient_loss,
    reinvent_loss,
    trajectory_balance_loss,
)
from allmodes.objectives.mara import MaraResult, mara_rewards
from allmodes.objectives.outcomes import outcome_ref_logprobs
from allmodes.objectives.target import target_rewards
from allmodes.objectives.thresholds import (
    BatchQuantile,
    Constant,
    GroupQuantile,
    Threshold,
    remembered_threshold,
)
from allmodes.objectives.unlikeliness import unlikeliness_rewards

__all__ = [
    "BatchQuantile",
    "Constant",
    "GroupQuantile",
    "IpsResult",
    "MaraResult",
    "SampledBatch",
    "Threshold",
    "best_of_n_rewards",
    "entropy_rewards",
    "filtered_likelihood_loss",
    "forward_kl_loss",
    "group_advantages",
    "ips_rewards",
    "k1_value",
    "k2_value",
    "k3_value",
    "kl_in_rewards",
    "leave_one_out_advantages",
    "mara_rewards",
    "outcome_ref_logprobs",
    "policy_gradient_loss",
    "reinvent_loss",
    "remembered_threshold",
    "reverse_kl_loss",
    "reverse_kl_weighted_loss",
    "target_rewards",
    "trajectory_balance_loss",
    "unlikeliness_rewards",
]
