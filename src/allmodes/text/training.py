"""One run: a language model trained on a task by one trainer, KL, method, β and seed, through TRL."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar, set_verbosity_error
from trl import GRPOConfig, RLOOConfig

from allmodes.errors import ConfigError
from allmodes.integrations.answers import completion_text
from allmodes.integrations.transforms import (
    IPS,
    MARA,
    BestOfN,
    EntropyBonus,
    RewardTransform,
    Unlikeliness,
)
from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.objectives import BatchQuantile
from allmodes.runs.config import BatchQuantileThreshold
from allmodes.runs.folder import RunFolder
from allmodes.runs.text_config import CreativeTask, Method, OneTwoTask, TextConfig
from allmodes.tasks import Creative, Judge, OneTwo, RewardModel, Task
from allmodes.text.results import Arm
from allmodes.text.sampling import chat_prompt

_TIMES = ("step_time", "epoch", "total_flos")  # no two runs have the same, or nobody needs them


def arms(config: TextConfig) -> list[Arm]:
    """Every combination of the configuration; RLOO has no forward KL."""
    return [
        Arm(trainer=trainer, kl=kl, method=method, beta=beta)
        for trainer in config.trainer
        for kl in config.kl
        if (trainer, kl) != ("rloo", "forward")
        for method in config.method
        for beta in config.beta
    ]


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come. reward: mean of the last step's samples, NaN where none could be scored."""

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
    """Train, or go on from the folder's last whole checkpoint, and return TRL's trainer with its model.

    A row of metrics.jsonl a step: `step`, `reward`, what TRL logs, and `counts` of each known answer among
    the step's samples. model: a Hugging Face name or folder. keep_checkpoints: keep all, else the last alone.
    Raises ConfigError for a model that cannot be loaded or prompts that are all too long.
    """
    quieten()
    tokenizer = load_tokenizer(model)
    recorder = _Recorder(task, folder, updates=config.updates_per_step, on_step=on_step)
    out = folder.path / "trainer"
    trainer = make_trainer(
        config, task, arm, seed=seed, model=model, tokenizer=tokenizer, reward=recorder.reward, out=out,
        keep_checkpoints=keep_checkpoints, callbacks=[recorder],
    )  # fmt: skip
    checkpoint = _last_checkpoint(out)
    done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]) // config.updates_per_step
    folder.keep_metrics(lambda row: row["step"] <= done)
    if done < config.steps:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    else:  # killed between its last step and its result
        trainer._load_from_checkpoint(str(checkpoint))
    return trainer


def quieten() -> None:
    """No progress bars and notes of transformers between our own."""
    disable_progress_bar()
    set_verbosity_error()


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
    """TRL's trainer as the configuration wants it. Raises ConfigError as `train` does."""
    kind, arguments = (GRPOTrainer, GRPOConfig) if arm.trainer == "grpo" else (RLOOTrainer, RLOOConfig)
    scaling = (
        {"scale_rewards": "group" if config.scale_rewards else "none"}
        if arm.trainer == "grpo"
        else {"normalize_advantages": config.scale_rewards}
    )
    whole = config.prompts_per_step * config.group_size
    update = whole // config.updates_per_step
    micro_batch = config.micro_batch or update
    on_gpu = torch.cuda.is_available()
    with warnings.catch_warnings():
        # TRL and transformers tell of their own plans here, which is not the user's business.
        warnings.simplefilter("ignore")
        settings = arguments(
            output_dir=str(out),
            use_cpu=not on_gpu,
            bf16=config.precision == "bfloat16",
            gradient_checkpointing=config.gradient_checkpointing,
            beta=arm.beta,
            num_generations=config.group_size,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=update // micro_batch,
            steps_per_generation=config.updates_per_step * (update // micro_batch),
            max_completion_length=config.max_tokens,
            temperature=config.temperature,
            chat_template_kwargs=config.chat_template or None,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.schedule,
            max_steps=config.steps * config.updates_per_step,
            logging_steps=config.updates_per_step,
            save_steps=config.checkpoint_every * config.updates_per_step,
            save_total_limit=None if keep_checkpoints else 1,
            report_to=list(config.report_to),
            model_init_kwargs={"dtype": "float32"},
            seed=seed,
            disable_tqdm=True,
            **scaling,
        )
        trainer = kind(
            model=model,
            reward_funcs=reward,
            args=settings,
            train_dataset=_dataset(config, task, tokenizer),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            transform=make_transform(config, task, arm.method),
            kl=arm.kl,
            outcome_key=task.parse,
        )
    trainer.remove_callback(PrinterCallback)  # which prints every step; metrics.jsonl has them
    return trainer


def make_task(config: OneTwoTask | CreativeTask) -> Task:
    """The task of a configuration. Raises ConfigError for files and models that cannot be read."""
    if isinstance(config, OneTwoTask):
        return OneTwo()
    judge = config.judge
    return Creative(
        config.prompts,
        reward_model=RewardModel(config.reward_model),
        judge=None
        if judge is None
        else Judge(judge.model, threshold=judge.threshold, tokenizer=judge.tokenizer),
        max_prompts=config.max_prompts,
    )


def make_transform(config: TextConfig, task: Task, method: Method) -> RewardTransform | None:
    """The method's transform of the rewards; None for plain training."""
    if method == "mara":
        mara = config.mara
        threshold = mara.threshold
        return MARA(
            threshold=BatchQuantile(threshold.batch_quantile)
            if isinstance(threshold, BatchQuantileThreshold)
            else threshold,
            anchor=mara.anchor,
            max_gap_bonus=mara.max_gap_bonus,
            outcome_key=task.parse if mara.level == "outcomes" else None,
        )
    if method == "ips":
        return IPS(outcome_key=task.parse)
    if method == "entropy":
        return EntropyBonus(config.entropy)
    if method == "unlikeliness":
        return Unlikeliness(config.unlikeliness)
    return BestOfN() if method == "best_of_n" else None


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a Hugging Face name or folder. Raises ConfigError."""
    return _load(AutoTokenizer, model, padding_side="left")


def load_model(model: str) -> Any:
    """The language model of a Hugging Face name or folder, in float32. Raises ConfigError."""
    return _load(AutoModelForCausalLM, model, dtype=torch.float32)


def _load(kind: Any, model: str, **settings: Any) -> Any:
    try:
        return kind.from_pretrained(model, **settings)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"`model`: expected a Hugging Face name or a folder; got {model!r} ({error})"
        ) from error


def _dataset(config: TextConfig, task: Task, tokenizer: Any) -> Any:
    """The prompts as conversations, often enough for one step; those over the limit are left out."""
    from datasets import Dataset

    prompts = list(task.prompts)
    if config.max_prompt_tokens is not None:
        texts = [chat_prompt(tokenizer, prompt, **config.chat_template) for prompt in prompts]
        lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        prompts = [p for p, n in zip(prompts, lengths, strict=True) if n <= config.max_prompt_tokens]
        if not prompts:
            raise ConfigError(
                f"`max_prompt_tokens`: expected a limit that some prompt keeps; got "
                f"{config.max_prompt_tokens} with prompts of {min(lengths)} to {max(lengths)} tokens"
            )
    rows = prompts * math.ceil(config.prompts_per_step / len(prompts))
    return Dataset.from_list([{"prompt": [{"role": "user", "content": prompt}]} for prompt in rows])


def _last_checkpoint(out: Path) -> Path | None:
    """The last checkpoint that was written whole: trainer_state.json comes last."""
    whole = [path.parent for path in out.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


@final
class _Recorder(TrainerCallback):
    """The task's rewards for TRL, and a row of metrics for every step."""

    def __init__(
        self, task: Task, folder: RunFolder, *, updates: int, on_step: Callable[[Progress], object]
    ) -> None:
        self._task, self._folder, self._updates, self._on_step = task, folder, updates, on_step
        self._counts = Counter[str]()

    def reward(self, prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        """A reward for each completion; None where the task gives none."""
        responses = [completion_text(completion) for completion in completions]
        questions = [completion_text(prompt) for prompt in prompts]
        if self._task.known_answers(questions[0]) is not None:
            self._counts.update(a for text in responses if (a := self._task.parse(text)) is not None)
        return self._task.rewards(questions, responses)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Write the step's row."""
        if not logs or "reward" not in logs:  # the summary at the end of training
            return
        step = state.global_step // self._updates
        figures = {
            name: value if math.isfinite(value) else None
            for name, value in logs.items()
            if isinstance(value, int | float) and name not in _TIMES
        }
        self._folder.append_metrics({"step": step, **figures, "counts": dict(sorted(self._counts.items()))})
        if "step_time" in logs:
            self._folder.append_timing({"step": step, "seconds": logs["step_time"]})
        self._counts.clear()
        self._on_step(Progress(step=step, reward=logs["reward"]))
