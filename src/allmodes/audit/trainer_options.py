"""How settings are called in the options of each trainer."""

from typing import Literal

from allmodes.audit.choices import Trainer

Setting = Literal["beta", "mara", "group size", "length", "no scaling", "sequence KL", "samples"]

_OPTIONS: dict[Setting, dict[Trainer, str]] = {
    "beta": {
        "trl": "`beta`",
        "verl": "`actor_rollout_ref.actor.kl_loss_coef` (`use_kl_loss`) or `algorithm.kl_ctrl.kl_coef` "
        "(`use_kl_in_reward`)",
        "openrlhf": "`--algo.kl.init_coef`",
        "reinvent": "β = 1/`sigma` of `[learning_strategy]`",
        "saturn": "β = 1/`sigma`",
        "allmodes": "`beta` (1/`sigma` for molecules)",
    },
    "mara": {
        "trl": "`allmodes.integrations.trl.RLOOTrainer(..., transform=MARA(...))`, or GRPOTrainer there with "
        '`kl="reverse"` (the KL of whole responses)',
        "verl": "`trainer.v1.trainer_mode=allmodes_sync +allmodes.method=mara +allmodes.mara.threshold=...`, "
        "with `algorithm.use_kl_in_reward=True` and without `use_kl_loss`",
        "openrlhf": "`allmodes.objectives.mara_rewards` before the advantages, with `--algo.kl.estimator "
        "k1` and without `--algo.kl.use_loss`",
        "reinvent": '`algorithm = "mara"` in `allmodes run`',
        "saturn": '`algorithm = "mara"` in `allmodes run`',
        "allmodes": '`method = "mara"` with `kl = "reverse"` (`algorithm = "mara"` for molecules)',
    },
    "group size": {
        "trl": "`num_generations`",
        "verl": "`actor_rollout_ref.rollout.n`",
        "openrlhf": "`--rollout.n_samples_per_prompt`",
        "reinvent": "`batch_size`",
        "saturn": "`batch_size`",
        "allmodes": "`group_size` (`batch_size` for molecules)",
    },
    "length": {
        "trl": "`max_completion_length`",
        "verl": "`data.max_response_length`",
        "openrlhf": "`--rollout.max_new_tokens`",
        "allmodes": "`max_tokens`",
    },
    "no scaling": {
        "trl": '`scale_rewards="none"` (RLOOTrainer: `normalize_advantages=False`)',
        "verl": "`algorithm.norm_adv_by_std_in_grpo=False`",
        "openrlhf": "`--algo.advantage.no_std_norm`, with an estimator other than `group_norm`",
        "allmodes": "`scale_rewards = false`",
    },
    "sequence KL": {
        "trl": "RLOOTrainer (for MARA and an entropy bonus also `allmodes.integrations.trl.GRPOTrainer(..., "
        'kl="reverse")`)',
        "verl": "`algorithm.use_kl_in_reward=True` with `algorithm.kl_penalty=kl`, without `use_kl_loss`",
        "openrlhf": "`--algo.kl.estimator k1` without `--algo.kl.use_loss`",
        "allmodes": '`trainer = "rloo"`',
    },
    "samples": {
        "trl": "log samples with `log_completions=True`, or with the callback "
        "`allmodes.integrations.trl_audit.AuditLog`",
        "verl": "log samples with `trainer.rollout_data_dir=FOLDER`",
        "allmodes": "audit the run's folder, which has `samples.jsonl`",
    },
}
_PLAIN: dict[Setting, str] = {
    "beta": "β of the KL",
    "mara": (
        "MARA's rewards (`allmodes.objectives.mara_rewards`) with k1, summed over the response, in the reward"
    ),
    "group size": "the number of samples of a prompt",
    "length": "the maximum length of a response",
    "no scaling": "no division of advantages by their standard deviation",
    "sequence KL": "k1, summed over the response, in the reward",
    "samples": "log one row per sample, with its step, prompt, response and reward",
}


def option(what: Setting, trainer: Trainer | None) -> str:
    """The option of a trainer for a setting; a description if there is none, or the trainer is not known."""
    return _PLAIN[what] if trainer is None else _OPTIONS[what].get(trainer, _PLAIN[what])
