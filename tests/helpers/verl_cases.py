"""verl's options as plain dicts, as its command has them by default."""

import copy
from typing import Any

# Those that the integration looks at; `test_verl_contract.py` holds them against verl.
DEFAULTS: dict[str, Any] = {
    "trainer.use_v1": True,
    "trainer.v1.trainer_mode": "sync",
    "algorithm.adv_estimator": "gae",
    "algorithm.norm_adv_by_std_in_grpo": True,
    "algorithm.use_kl_in_reward": False,
    "algorithm.kl_penalty": "kl",
    "algorithm.kl_ctrl.kl_coef": 0.001,
    "algorithm.filter_groups": None,
    "actor_rollout_ref.actor.use_kl_loss": False,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.rollout.n": 1,
    "actor_rollout_ref.rollout.calculate_log_probs": True,
}
# A run that every method takes: a KL of whole responses in the reward, and a baseline alone.
RLOO = {
    "trainer.v1.trainer_mode": "allmodes_sync",
    "algorithm.adv_estimator": "rloo",
    "algorithm.use_kl_in_reward": True,
    "actor_rollout_ref.rollout.n": 12,
}


def options(changes: dict[str, Any] | None = None, /, **allmodes: Any) -> dict[str, Any]:
    """verl's configuration, with options by their dotted names, and those of allmodes."""
    tree: dict[str, Any] = {}
    for name, value in {**DEFAULTS, **RLOO, **(changes or {})}.items():
        *path, last = name.split(".")
        table = tree
        for part in path:
            if table.get(part) is None:
                table[part] = {}
            table = table[part]
        table[last] = copy.deepcopy(value)
    return {**tree, "allmodes": allmodes} if allmodes else tree
