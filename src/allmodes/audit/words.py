"""What a setting is called in the user's trainer. Versions: docs/guide/audit.md."""

from allmodes.runs.audit_config import Trainer

_OPTIONS: dict[str, dict[Trainer, str]] = {
    "beta": {
        "trl": "`beta`",
        "verl": "`actor_rollout_ref.actor.kl_loss_coef` or `algorithm.kl_ctrl.kl_coef`",
        "openrlhf": "`--algo.kl.init_coef`",
        "reinvent": "`sigma` in `[learning_strategy]`, which is 1/β",
        "saturn": "`sigma`, which is 1/β",
        "allmodes": "`beta` (`sigma` for molecules)",
    },
    "mara": {
        "trl": "`allmodes.integrations.trl.GRPOTrainer(..., transform=MARA(...))`, or RLOOTrainer",
        "verl": "`allmodes.objectives.mara_rewards` in the place of `token_level_rewards`",
        "openrlhf": "`allmodes.objectives.mara_rewards` before the advantages",
        "reinvent": '`algorithm = "mara"` in `allmodes run`',
        "saturn": '`algorithm = "mara"` in `allmodes run`',
        "allmodes": '`method = "mara"` (`algorithm = "mara"` for molecules)',
    },
}  # fmt: skip
_PLAIN = {
    "beta": "β, the strength of the KL",
    "mara": "MARA's rewards (`allmodes.objectives.mara_rewards`)",
}


def option(what: str, trainer: Trainer | None) -> str:
    """A setting's name in a trainer, or in plain words where it has none or is not known."""
    return _PLAIN[what] if trainer is None else _OPTIONS[what].get(trainer, _PLAIN[what])
