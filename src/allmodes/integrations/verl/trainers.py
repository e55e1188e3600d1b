"""verl's three trainers with a method of allmodes: reading of batches, and the method's state."""

import json
import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf, open_dict
from torch import Tensor

from allmodes.errors import AllmodesWarning, ConfigError, RunError
from allmodes.integrations.answers import answers_of
from allmodes.integrations.batches import method_name, saved_state, usable_state
from allmodes.integrations.rows import Sessions, transform_rows
from allmodes.integrations.verl.rewards import all_advantages, sessions_of, token_rewards
from allmodes.integrations.verl.settings import MODES, PREFIX, Plan, make_plan, refuse_unused, stock_mode
from allmodes.methods import State
from allmodes.runs.files import write_text

_ADVANTAGES = "compute_advantage_for_multi_trajectories"
_STATE_FILE = "allmodes.json"
"""File of the method's state in each of verl's checkpoints, next to data.pt."""

# A mixin's `super()` is the trainer that it is mixed with; only a type checker is told so here.
_Base: Any = object


def check_options(config: Any) -> None:
    """Raise ConfigError for options that are wrong, undo the method, or would be ignored."""
    options = _plain(config)
    refuse_unused(options)
    make_plan(options)


def _plain(config: Any) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    if not isinstance(plain, dict):
        raise ConfigError(f"verl's configuration must be a table; got {type(plain).__name__}")
    return {str(key): value for key, value in plain.items()}


class MethodMixin(_Base):
    """A method in a verl trainer; a mixin before it.

    verl's advantages are computed from the transformed rewards. Rewards that verl logs and keeps stay raw;
    figures of the method and of the answers are logged in addition.
    """

    # From verl's trainers.
    config: Any
    tokenizer: Any
    global_steps: int

    trainer_base: ModuleType
    """verl's module with its trainers."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        options = _plain(config)
        self.plan = make_plan(options)
        self._state: State | None = None
        with open_dict(config):  # verl compares the mode with its own names, and looks up settings by it
            config.trainer.v1.trainer_mode = stock_mode(options)
        super().__init__(config, *args, **kwargs)

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        fields = own_fields(batch, self.plan)
        stock = getattr(self.trainer_base, _ADVANTAGES)
        was_called = False

        def with_method(data: Any, **kwargs: Any) -> Any:
            nonlocal was_called
            was_called = True
            return self._advantages(stock, data, kwargs, batch, fields, metrics)

        setattr(self.trainer_base, _ADVANTAGES, with_method)
        try:
            result = super()._compute_advantage(batch, metrics)
        finally:
            setattr(self.trainer_base, _ADVANTAGES, stock)
        if not was_called:
            raise RunError(f"verl did not call `{_ADVANTAGES}`: the method is unused")
        return result

    def _advantages(
        self,
        stock: Any,
        data: Any,
        kwargs: dict[str, Any],
        batch: Any,
        fields: dict[str, Any],
        metrics: dict[str, Any],
    ) -> Any:
        """Verl's advantages of the new rewards; the raw rewards are put back."""
        method, tensors = self.plan.method, data.batch
        scores, rewards = tensors["token_level_scores"], tensors["token_level_rewards"]
        mask: Tensor = fields["mask"]
        if mask.shape != scores.shape:
            raise RunError(
                f"verl's scores must have shape {tuple(mask.shape)} like its mask; got {tuple(scores.shape)}"
            )
        sessions = sessions_of(batch.keys, batch.tags)
        # The policy that drew the samples: in asynchronous modes the trainer's has newer weights.
        drawn_by = "rollout_log_probs" if "rollout_log_probs" in tensors else "old_log_probs"
        found = transform_rows(
            method,
            sessions,
            scores=scores,
            mask=mask,
            beta=self.plan.beta(metrics),
            ref_logprobs=tensors["ref_log_prob"] if method.needs_reference else None,
            logprobs=tensors[drawn_by] if method.needs_policy else None,
            answers=self._answers(fields, sessions),
            prompts=fields.get("prompts"),
            state=self._state,
        )
        self._state = found.state
        metrics.update(found.figures)
        tensors["token_level_rewards"] = token_rewards(
            method, sessions, found.values, scores=scores, rewards=rewards
        )
        data = stock(data, **kwargs)
        data.batch["advantages"] = all_advantages(
            method, found.values, advantages=data.batch["advantages"], mask=data.batch["response_mask"]
        )
        if method.has_own_baseline:
            data.batch["returns"] = data.batch["advantages"]
        data.batch["token_level_rewards"] = rewards
        return data

    def _answers(self, fields: dict[str, Any], sessions: Sessions) -> list[Hashable | None] | None:
        """The answer of each row, None for padding and invalid responses; None if answers are not defined."""
        plan = self.plan
        if plan.outcome_field is not None:
            return answers_of_rewards(fields["extra"], plan.outcome_field, sessions.is_real.tolist())
        if plan.outcome_function is None:
            return None
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in fields["written"]]
        return answers_of(plan.outcome_function, texts, name="allmodes.outcome.function")

    def _save_checkpoint(self) -> None:
        """verl's, which writes last that the checkpoint is complete; so the memory is written before."""
        if self.plan.method.has_state:
            folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
            folder.mkdir(parents=True, exist_ok=True)
            saved = saved_state(method_name(self.plan.method), self._state)
            write_text(folder / _STATE_FILE, json.dumps(saved))
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps == 0 or not self.plan.method.has_state:
            return
        trainer = self.config.trainer
        folder = Path(trainer.default_local_dir) / f"global_step_{self.global_steps}"
        if trainer.resume_mode == "resume_path":
            folder = Path(trainer.resume_from_path)
        file = folder / _STATE_FILE
        if not file.is_file():
            warnings.warn(
                f"{file} is not there: the checkpoint is not of a run with {method_name(self.plan.method)}, "
                "so the method starts without its earlier state",
                AllmodesWarning,
                stacklevel=2,
            )
            return
        self._state = usable_state(json.loads(file.read_text(encoding="utf-8")), self.plan.method)


def own_fields(batch: Any, plan: Plan) -> dict[str, Any]:
    """Data from verl's TransferQueue that verl does not pass to its advantages.

    mask: (N, T), 1 for what the model wrote, before verl's rollout correction has rejected anything. extra:
    of each row what the agent loop said of it. written: of each row the tokens that the model wrote. prompts:
    messages.
    """
    import transfer_queue  # pyright: ignore[reportMissingImports]

    names = ["response_mask"]
    names += ["extra_fields"] if plan.outcome_field is not None else []
    names += ["responses"] if plan.outcome_function is not None else []
    names += ["raw_prompt"] if plan.method.needs_prompts else []
    data = transfer_queue.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
    mask = data["response_mask"]
    fields: dict[str, Any] = {"mask": mask.to_padded_tensor(padding=0) if mask.is_nested else mask}
    if "extra_fields" in names:
        fields["extra"] = _items(data["extra_fields"])
    if "responses" in names:
        rows = zip(data["responses"].unbind(), mask.unbind(), strict=True)
        fields["written"] = [ids[own.bool()] for ids, own in rows]
    if "raw_prompt" in names:
        fields["prompts"] = [list(prompt) for prompt in _items(data["raw_prompt"])]
    return fields


def _items(values: Any) -> list[Any]:
    """A field without tensors: the queue gives a list, an array, or a stack of its own."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def answers_of_rewards(extra: list[Any], field: str, is_real: list[bool]) -> list[Hashable | None]:
    """A field of what the reward function returned, of each row; None if it is None or an empty text.

    Raises ConfigError if the reward function did not return it.
    """
    answers: list[Hashable | None] = []
    for one, real in zip(extra, is_real, strict=True):
        found = one.get("reward_extra_info") if isinstance(one, Mapping) else None
        if real and (not isinstance(found, Mapping) or field not in found):
            there = ", ".join(sorted(found)) if isinstance(found, Mapping) and found else "only a number"
            raise ConfigError(
                f"`allmodes.outcome.field={field}` must be a key of what your reward function returns for "
                f"every response; got {there}"
            )
        value = found.get(field) if real and isinstance(found, Mapping) else None
        answers.append(None if isinstance(value, str) and not value else value)
    return answers


def register(v1: Any) -> None:
    """Add our trainers to verl's, under its names of modes with `allmodes_` before them.

    If this version of verl lacks what they need, a warning says so and verl is not changed, since the plugin
    is also loaded for users who do not use it.
    """
    base = getattr(v1, "trainer_base", None)
    needed = (
        (v1, "get_trainer_cls"),
        (v1, "register_trainer"),
        (base, _ADVANTAGES),
        *((getattr(base, "PPOTrainer", None), name) for name in ("_compute_advantage", "_save_checkpoint")),
        (getattr(base, "PPOTrainer", None), "_load_checkpoint"),
    )
    missing = next((name for owner, name in needed if not hasattr(owner, name)), None)
    if missing is not None:
        warnings.warn(
            f"allmodes needs verl>=0.9,<0.10, whose trainers have `{missing}`; this version does not, so "
            "allmodes_sync and the other modes are not available",
            AllmodesWarning,
            stacklevel=2,
        )
        return
    for mode in MODES:
        stock = v1.get_trainer_cls(mode)
        ours = type(
            f"Allmodes{stock.__name__}",
            (MethodMixin, stock),
            {"trainer_base": base, "__module__": __name__, "__doc__": MethodMixin.__doc__},
        )
        v1.register_trainer(PREFIX + mode)(ours)
