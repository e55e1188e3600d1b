"""What to paste into a trainer for a method, with {beta}, {tau} and {group} for the page to fill in.

A method is asked for what it needs, and known by nothing else.
"""

from allmodes.methods import KL, Method, Plain, recipe_fields

_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
_FORWARD = (
    "# The forward KL of trainers is one per token: from two tokens on its optimum differs from the one here."
)


def trl_snippet(method: Method, kl: KL) -> str:
    """Python for TRL, from the imports to `train()`; a comment where no setting of TRL's has this optimum."""
    if kl == "forward" and (method.needs_sequence_kl or method.contains_kl):
        return _without_forward_kl(method, "TRL")
    name, plain = type(method).__name__, isinstance(method, Plain)
    trainer, config = ("RLOOTrainer", "RLOOConfig") if kl == "reverse" else ("GRPOTrainer", "GRPOConfig")
    scaling = "normalize_advantages=False" if kl == "reverse" else 'scale_rewards="none"'
    yours = "reward (completions to numbers) and dataset (a column prompt)"
    lines = [] if kl == "reverse" else [_FORWARD]
    lines += [f"from trl import {config}", "", f"from allmodes.integrations.trl import {trainer}"]
    lines += [] if plain else [f"from allmodes.methods import {name}"]
    if method.needs_outcomes:
        yours = f"{yours.replace(' and', ',')}, and answer (a text to what it says)"
    lines += [
        "",
        f"# yours: {yours}",
        f"trainer = {trainer}(",
        f'    model="{_MODEL}",',
        "    reward_funcs=reward,",
        f"    args={config}(",
        "        beta={beta},",
        "        num_generations={group},",
        "        per_device_train_batch_size={group},",
        f"        {scaling},",
        "    ),",
        "    train_dataset=dataset,",
    ]
    if not plain:
        threshold = "threshold={tau}" if "threshold" in recipe_fields(type(method)) else ""
        lines.append(f"    transform={name}({threshold}),")
    lines += ["    outcome_key=answer,"] if method.needs_outcomes else []
    lines += ['    kl="forward",'] if kl == "forward" else []
    return "\n".join([*lines, ")", "trainer.train()"])


def verl_snippet(method: Method, kl: KL) -> str:
    """A shell command for verl, or a comment where no setting of verl's has this optimum."""
    if kl == "forward" and (method.needs_sequence_kl or method.contains_kl):
        return _without_forward_kl(method, "verl")
    options = ["algorithm.adv_estimator=rloo"]
    if kl == "reverse":
        options += [
            "algorithm.use_kl_in_reward=True algorithm.kl_penalty=kl algorithm.kl_ctrl.kl_coef={beta}"
        ]
    else:
        options += [
            "actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_type=low_var_kl"
        ]
        options += ["actor_rollout_ref.actor.kl_loss_coef={beta}"]
    options += ["actor_rollout_ref.rollout.n={group}"]
    if not isinstance(method, Plain):
        has_threshold = "threshold" in recipe_fields(type(method))
        threshold = f" +allmodes.{method.name}.threshold={{tau}}" if has_threshold else ""
        options += [f"trainer.v1.trainer_mode=allmodes_sync +allmodes.method={method.name}{threshold}"]
        options += ["+allmodes.outcome.field=answer"] if method.needs_outcomes else []
    options += [f"actor_rollout_ref.model.path={_MODEL}"]
    options += ["data.train_files=train.parquet data.val_files=test.parquet"]
    command = " \\\n".join(["python -m verl.trainer.main_ppo", *(f"  {option}" for option in options)])
    return command if kl == "reverse" else f"{_FORWARD}\n{command}"


def _without_forward_kl(method: Method, trainer: str) -> str:
    return (
        f"# {method.label} works on log-probabilities of whole responses, and {trainer} has the forward KL\n"
        "# per token alone, which does not match: choose the reverse KL."
    )
