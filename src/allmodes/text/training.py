"""One run: a language model trained on a task by one trainer, KL, method, β and seed, through TRL."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations.integration_utils import get_available_reporting_integrations
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.rloo_config import RLOOConfig

from allmodes.errors import ConfigError, one_line
from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.integrations.trl_audit import AuditLog
from allmodes.integrations.trl_flow import FlowRL, FlowRLTrainer
from allmodes.integrations.trl_settings import (
    check_flow_settings,
    check_grpo_settings,
    check_rloo_settings,
    check_settings,
)
from allmodes.methods import Method, Plain
from allmodes.metrics import summarise
from allmodes.runs.folder import RunFolder
from allmodes.runs.messages import completion_text, last_text
from allmodes.tasks import Creative, HasTestPrompts, Task
from allmodes.text.adapters import peft_config, round_frozen
from allmodes.text.checkpoints import CheckpointSeal, last_checkpoint, restore_logs
from allmodes.text.config import TextConfig
from allmodes.text.gguf_models import as_folder
from allmodes.text.models import autocast, device, load_tokenizer, quieten
from allmodes.text.reporting.results import Arm, has_answer_sets
from allmodes.text.sampling import chat_prompt, sample_responses

_TIMES = ("step_time", "epoch", "total_flos")  # they differ between runs, or are not needed


def arms(config: TextConfig) -> list[Arm]:
    """Every combination of the configuration; RLOO and FlowRL only have the reverse KL."""
    return [
        Arm(trainer=trainer, kl=kl, method=method, beta=beta)
        for trainer in config.trainer
        for kl in config.kl
        if trainer == "grpo" or kl == "reverse"
        for method in config.method
        if trainer != "flowrl" or method in (config.flowrl.method or config.method)
        for beta in config.beta
    ]


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run. reward: mean of the last step's samples, NaN if none could be scored."""

    step: int
    reward: float


def train(
    config: TextConfig,
    task: Task,
    arm: Arm,
    *,
    seed: int,
    model: str,
    folder: RunFolder,
    on_step: Callable[[Progress], object],
    keep_checkpoints: bool = False,
) -> Any:
    """Train, or resume from the folder's last whole checkpoint, and return TRL's trainer with its model.

    A row of metrics.jsonl a step: `step`, `reward`, what TRL logs, and `counts` of each known answer among
    the step's samples; where prompts have different known answers also `good_answers`, the number of
    different good ones in a group, mean over groups. With `log_samples`, samples.jsonl and audit.json for
    `allmodes audit`. model: a Hugging Face name, a folder or a GGUF file. keep_checkpoints: keep all, else
    the last alone. Raises ConfigError for a model that cannot be loaded or prompts that are all too long;
    RunError for damage to what it resumes from.
    """
    quieten()
    model = as_folder(model)
    tokenizer = load_tokenizer(model)
    recorder = _Recorder(config, task, folder, on_step)
    out = folder.path / "trainer"
    trainer = make_trainer(
        config, task, arm, seed=seed, model=model, tokenizer=tokenizer, reward=recorder.reward, out=out,
        keep_checkpoints=keep_checkpoints, callbacks=[recorder],
    )  # fmt: skip
    if config.log_samples:
        # Without a checkpoint the run begins anew, and so does its log: the folder is this run's alone.
        trainer.add_callback(AuditLog(trainer, folder.path, outcome_key=task.parse, overwrite=True))
    trainer.add_callback(CheckpointSeal(folder))  # after all that adds something to a checkpoint
    checkpoint = last_checkpoint(out)
    done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]) // config.updates_per_step
    restore_logs(folder, checkpoint, step=done)
    if done < config.steps:
        with _without_warnings():
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    else:  # killed between its last step and its result
        trainer._load_from_checkpoint(str(checkpoint))
    return trainer


def make_trainer(
    config: TextConfig,
    task: Task,
    arm: Arm,
    *,
    seed: int,
    model: str,
    tokenizer: Any,
    reward: Callable[..., list[float | None]],
    out: Path,
    keep_checkpoints: bool,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """TRL's trainer for the configuration. Raises ConfigError as `train` does."""
    settings = make_settings(config, arm, seed=seed, out=out, keep_checkpoints=keep_checkpoints)
    prompts = usable_prompts(config, task, tokenizer)
    rows = prompts * math.ceil(config.prompts_per_step / len(prompts))  # enough for one step
    kind = {"grpo": GRPOTrainer, "rloo": RLOOTrainer, "flowrl": FlowRLTrainer}[arm.trainer]
    own: dict[str, Any] = {"flow": _flow(config)} if arm.trainer == "flowrl" else {}
    with _without_warnings():
        trainer = kind(
            model=model,
            reward_funcs=reward,
            args=settings,
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": prompt}]} for prompt in rows]
            ),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            transform=_transform(config.methods.make(arm.method)),
            kl=arm.kl,
            outcome_key=task.parse,
            peft_config=None if config.lora is None else peft_config(config.lora),
            share_prompts=config.share_prompts,
            **own,
        )
    if config.lora is not None and config.precision == "bfloat16":
        round_frozen(trainer.model)
    trainer.remove_callback(PrinterCallback)  # which prints every step; metrics.jsonl has them
    return trainer


def make_settings(
    config: TextConfig, arm: Arm, *, seed: int, out: Path, keep_checkpoints: bool = False
) -> Any:
    """TRL's own settings of an arm. Raises ConfigError for what TRL refuses, as it stands under `trl`."""
    arguments = RLOOConfig if arm.trainer == "rloo" else GRPOConfig
    scaling: dict[str, Any] = {"scale_rewards": "none"}  # of FlowRL, whose form says what is scaled
    if arm.trainer == "rloo":
        scaling = {"normalize_advantages": config.scale_rewards}
    elif arm.trainer == "grpo":
        scaling = {"scale_rewards": "group" if config.scale_rewards else "none"}
    update = config.prompts_per_step * config.group_size // config.updates_per_step
    micro_batch = config.micro_batch or update
    own: dict[str, Any] = {
        "output_dir": str(out),
        "use_cpu": device().type == "cpu",
        "bf16": config.precision == "bfloat16",
        "gradient_checkpointing": config.gradient_checkpointing,
        "beta": arm.beta,
        "num_generations": config.group_size,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": update // micro_batch,
        "steps_per_generation": config.updates_per_step * (update // micro_batch),
        "max_completion_length": config.max_tokens,
        "temperature": config.temperature,
        "chat_template_kwargs": config.chat_template or None,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "max_steps": config.steps * config.updates_per_step,
        "logging_steps": config.updates_per_step,
        "save_steps": config.checkpoint_every * config.updates_per_step,
        "save_total_limit": None if keep_checkpoints else 1,
        "model_init_kwargs": {"dtype": "float32", "use_safetensors": True, "trust_remote_code": False},
        "seed": seed,
        "disable_tqdm": True,
        **scaling,
    }
    twice = sorted(set(own) & set(config.trl))
    if twice:
        raise ConfigError(f"`trl.{twice[0]}`: expected a setting that no other key makes; got {twice[0]}")
    try:
        with _without_warnings():
            settings = arguments(**own, **{"report_to": [], **config.trl})
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"`trl`: expected settings of {arguments.__name__}; {one_line(error)}") from error
    available = get_available_reporting_integrations()
    missing = next((name for name in settings.report_to or () if name not in available), None)
    if missing is not None:
        raise ConfigError(
            f"`trl.report_to`: expected trackers that are installed, {', '.join(available) or 'none'}; "
            f"got {missing!r}"
        )
    return settings


def check_arm(config: TextConfig, arm: Arm) -> None:
    """Raise ConfigError for settings that the trainer of an arm would refuse, before anything is loaded."""
    settings = make_settings(config, arm, seed=0, out=Path())
    transform = _transform(config.methods.make(arm.method))
    checks = {
        "grpo": check_grpo_settings,
        "rloo": check_rloo_settings,
        "flowrl": partial(check_flow_settings, is_exact=config.flowrl.form == "exact"),
    }
    try:
        with _without_warnings():
            check_settings(settings, transform=transform, kl=arm.kl, outcome_key=str)  # each task has a key
            checks[arm.trainer](settings, transform=transform, kl=arm.kl)
    except ConfigError as error:
        raise ConfigError(f"`trl`: {error}") from error


def _flow(config: TextConfig) -> FlowRL:
    return FlowRL(**config.flowrl.model_dump(exclude={"method"}))


def _without_warnings() -> AbstractContextManager[Any]:
    """Silence deprecation notes of TRL and transformers, which do not concern the user."""
    return warnings.catch_warnings(action="ignore")


def _transform(method: Method) -> Method | None:
    """None for rewards as they are: then the trainer is TRL's own, bit for bit."""
    return None if isinstance(method, Plain) else method


def usable_prompts(config: TextConfig, task: Task, tokenizer: Any) -> list[str]:
    """The task's prompts within the length limit. Raises ConfigError if none is left."""
    return _short_enough(config, list(task.prompts), tokenizer)


def measured_prompts(config: TextConfig, task: Task, tokenizer: Any) -> list[str]:
    """The prompts that policies are measured on: the task's test prompts, where it has some.

    Raises ConfigError if none is within the limit.
    """
    apart = list(task.test_prompts) if isinstance(task, HasTestPrompts) else []
    prompts = _short_enough(config, apart or list(task.prompts), tokenizer)
    return prompts[: config.sample_prompts]


def policy_responses(
    config: TextConfig, model: Any, tokenizer: Any, prompts: Sequence[str], *, count: int, seed: int
) -> list[list[str]]:
    """`count` responses of a policy to each prompt, with the configuration's settings of sampling."""
    with autocast(config.precision):
        return sample_responses(
            model,
            tokenizer,
            prompts,
            count=count,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=seed,
            batch_size=config.sample_batch,
            chat_template=config.chat_template,
        )


def _short_enough(config: TextConfig, prompts: list[str], tokenizer: Any) -> list[str]:
    if config.max_prompt_tokens is None:
        return prompts
    texts = [chat_prompt(tokenizer, prompt, **config.chat_template) for prompt in prompts]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    short = [p for p, n in zip(prompts, lengths, strict=True) if n <= config.max_prompt_tokens]
    if not short:
        raise ConfigError(
            f"`max_prompt_tokens`: expected a limit that at least one prompt meets; got "
            f"{config.max_prompt_tokens} with prompts of {min(lengths)} to {max(lengths)} tokens"
        )
    return short


@final
class _Recorder(TrainerCallback):
    """The task's rewards for TRL, and a row of metrics for every step."""

    def __init__(
        self, config: TextConfig, task: Task, folder: RunFolder, on_step: Callable[[Progress], object]
    ) -> None:
        self._config, self._task, self._folder, self._on_step = config, task, folder, on_step
        self._counts = Counter[str]()
        self._diversities: list[float] = []
        self._good: list[int] = []
        self._has_sets = has_answer_sets(task, task.prompts)

    def reward(self, prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        """A reward for each completion; None if the task gives none."""
        responses = [completion_text(completion) for completion in completions]
        questions = [last_text(prompt) for prompt in prompts]
        if self._task.known_answers(questions[0]) is not None:
            self._counts.update(a for text in responses if (a := self._task.parse(text)) is not None)
        size = self._config.group_size
        groups = [responses[start : start + size] for start in range(0, len(responses), size)]
        if self._has_sets:
            for question, group in zip(questions[::size], groups, strict=True):
                known = set(self._task.known_answers(question) or ())
                self._good.append(len(known & set(map(self._task.parse, group))))
        if isinstance(self._task, Creative):
            found = [self._task.semantic_diversity(group) for group in groups]
            self._diversities += [value for value in found if value is not None]
        return self._task.rewards(questions, responses)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Write the step's row. TRL logs None for a mean over nothing, and so does the row."""
        if not logs or "reward" not in logs:  # the summary at the end of training
            return
        row: dict[str, Any] = {"step": state.global_step // self._config.updates_per_step}
        for name, value in logs.items():
            if name not in _TIMES and (value is None or isinstance(value, int | float)):
                row[name] = value if value is not None and math.isfinite(value) else None
        if self._diversities:
            row["semantic_diversity"] = summarise(self._diversities).mean
        if self._good:
            row["good_answers"] = summarise(self._good).mean
        self._folder.append_metrics({**row, "counts": dict(sorted(self._counts.items()))})
        if "step_time" in logs:
            self._folder.append_timing({"step": row["step"], "seconds": logs["step_time"]})
        self._counts.clear()
        self._diversities.clear()
        self._good.clear()
        reward = row["reward"]
        self._on_step(Progress(step=row["step"], reward=math.nan if reward is None else reward))
