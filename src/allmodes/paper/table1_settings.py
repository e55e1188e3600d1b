"""Settings of MARA's Table 1: the paper's numbers, and small copies for packaged models and stand-ins.

Another model, other prompts, local folders: `dataclasses.replace(PAPER, model="models/mine", ...)`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from allmodes.methods import EntropyBonus, Unlikeliness
from allmodes.runs.config import build_config
from allmodes.text.config import KL, STAND_IN, LoRA, TextConfig, Trainer
from allmodes.text.task_kinds.open_questions import JudgeConfig

RELEVANCE, LIKELIHOOD = "relevance", "base-likelihood"
"""Names that select the stand-ins of `table1_rewards` instead of a reward model."""
MOST_WORDS, ALIKE = 30, 0.5
"""The number of words above which relevance falls; the smallest cosine of two responses that count as the
same: SmolLM2's ten answers to each of eight prompts form 7.4 classes on average with 0.5, 9.1 with 0.8."""


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """A trained row of the table. quantile: of the batch's rewards, MARA's τ."""

    name: str
    trainer: Trainer
    kl: KL
    method: str
    scale_rewards: bool = False
    quantile: float | None = None


BASE, ENSEMBLE = "Base", "Ensemble"  # not trained
TRAINED = (
    Row(name="GRPO", trainer="grpo", kl="reverse", method="vanilla", scale_rewards=True),
    Row(name="RLOO", trainer="rloo", kl="reverse", method="vanilla"),
    Row(name="Entropy", trainer="rloo", kl="reverse", method="entropy"),
    Row(name="Unlikely", trainer="rloo", kl="reverse", method="unlikeliness"),
    Row(name="BoN", trainer="rloo", kl="reverse", method="best_of_n"),
    Row(name="MARA (rev)", trainer="rloo", kl="reverse", method="mara", quantile=0.9),
    Row(name="MARA (fwd)", trainer="grpo", kl="token-forward", method="mara", quantile=0.9),
    Row(name="MARA (rev, .75)", trainer="rloo", kl="reverse", method="mara", quantile=0.75),
    Row(name="MARA (fwd, .75)", trainer="grpo", kl="token-forward", method="mara", quantile=0.75),
)
_BEFORE_MARA = 5
NAMES = (
    BASE,
    *(row.name for row in TRAINED[:_BEFORE_MARA]),
    ENSEMBLE,
    *(row.name for row in TRAINED[_BEFORE_MARA:]),
)


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one table.

    model, reward_model, other_reward_model: Hugging Face names or folders; "stand-in" for all three makes
    them at run time, with their prompts. "smollm2" and the embedder "minilm" are prepared from their
    packages. reward_model "relevance" and other_reward_model "base-likelihood" are the stand-ins of
    `table1_rewards`. judge: None takes NoveltyBench's rule for short answers, or the stand-ins' own rule.
    embedder: a sentence-transformers name, or "stand-in". training_prompts, test_prompts: JSON Lines with
    `prompt`; None takes them from the stand-ins, or from the hub. training_source: "wildchat" or
    "novelty-bench", whose 1,000 prompts are from WildChat too.

    steps: of training, each of prompts_per_step × group_size responses. generations: responses to each prompt
    when the trained models are measured. sampled_prompts: training prompts on which the reward of training is
    measured. max_test_prompts: number of test prompts, the first of the file; None for all.
    """

    model: str
    reward_model: str
    other_reward_model: str
    judge: JudgeConfig | None
    embedder: str
    training_prompts: Path | None = None
    test_prompts: Path | None = None
    training_source: Literal["wildchat", "novelty-bench"] = "wildchat"
    max_training_prompts: int | None = None
    seeds: tuple[int, ...]
    steps: int
    prompts_per_step: int
    group_size: int
    updates_per_step: int
    micro_batch: int | None = None
    learning_rate: float
    beta: float
    entropy: float
    unlikeliness: float = 0.25
    max_prompt_tokens: int | None = None
    max_tokens: int
    thinking: bool | None = None
    precision: str = "float32"
    needs_accelerator: bool = False
    lora: LoRA | None = None
    gradient_checkpointing: bool = False
    generations: int = 10
    sampled_prompts: int
    max_test_prompts: int | None = None
    max_test_tokens: int
    sampling_batch: int = 256
    reward_batch: int = 64
    vocabulary_size: int = 50257

    @property
    def is_stand_in(self) -> bool:
        """Whether the models are built at run time."""
        return self.model == STAND_IN

    @property
    def has_made_up_rewards(self) -> bool:
        """Whether the model is real and its rewards are stand-ins for preference models."""
        return self.reward_model == RELEVANCE

    @property
    def chat_template(self) -> dict[str, Any]:
        """Arguments of the model's chat template."""
        return {} if self.thinking is None else {"enable_thinking": self.thinking}


PAPER = Settings(
    model="Qwen/Qwen3-1.7B",
    reward_model="Skywork/Skywork-Reward-V2-Qwen3-4B",
    other_reward_model="Skywork/Skywork-Reward-Gemma-2-27B-v0.2",
    judge=JudgeConfig(
        model="yimingzhang/deberta-v3-large-generation-similarity",
        threshold=0.102,
        tokenizer="microsoft/deberta-v3-large",
    ),
    embedder="sentence-transformers/all-MiniLM-L6-v2",
    max_training_prompts=10_000,
    seeds=(0,),
    steps=3 * 10_000 // 128,
    prompts_per_step=128,
    group_size=5,
    updates_per_step=2,
    micro_batch=4,
    learning_rate=1e-6,
    beta=0.01,
    entropy=0.01,
    max_prompt_tokens=512,
    max_tokens=2048,
    thinking=False,
    precision="bfloat16",
    needs_accelerator=True,
    gradient_checkpointing=True,
    sampled_prompts=100,
    max_test_tokens=4000,
    sampling_batch=64,
    reward_batch=8,
)
REAL = Settings(
    model="smollm2",
    reward_model=RELEVANCE,
    other_reward_model=LIKELIHOOD,
    judge=None,
    embedder="minilm",
    training_source="novelty-bench",
    seeds=(0,),
    steps=10,
    prompts_per_step=2,
    group_size=5,
    updates_per_step=1,
    learning_rate=2e-4,
    beta=0.01,
    entropy=0.01,
    max_prompt_tokens=128,
    max_tokens=32,
    lora=LoRA(),
    generations=6,
    sampled_prompts=6,
    max_test_prompts=12,
    max_test_tokens=32,
    sampling_batch=40,
    reward_batch=16,
)
QUICK = Settings(
    model=STAND_IN,
    reward_model=STAND_IN,
    other_reward_model=STAND_IN,
    judge=None,
    embedder="stand-in",
    seeds=(0, 1),
    steps=60,
    prompts_per_step=8,
    group_size=5,
    updates_per_step=1,
    learning_rate=1e-3,
    beta=0.1,
    entropy=0.1,
    max_tokens=14,
    sampled_prompts=24,
    max_test_tokens=14,
)


def text_config(settings: Settings, row: Row, *, model: str, prompts: Path, reward_model: str) -> TextConfig:
    """The configuration of one row's training. Raises ConfigError for settings that do not fit each other."""
    methods: dict[str, dict[str, Any]] = {
        EntropyBonus.name: {"entropy": settings.entropy},
        Unlikeliness.name: {"strength": settings.unlikeliness},
    }
    if row.quantile is not None:
        methods[row.method] = {"threshold": {"batch_quantile": row.quantile}, "level": "strings"}
    values = {
        "kind": "text",
        "task": {"kind": "creative", "prompts": prompts, "reward_model": reward_model},
        "model": model,
        "trainer": row.trainer,
        "kl": row.kl,
        "method": row.method,
        "beta": settings.beta,
        "seeds": settings.seeds,
        "steps": settings.steps,
        "prompts_per_step": settings.prompts_per_step,
        "group_size": settings.group_size,
        "micro_batch": settings.micro_batch,
        "updates_per_step": settings.updates_per_step,
        "learning_rate": settings.learning_rate,
        "scale_rewards": row.scale_rewards,
        "max_tokens": settings.max_tokens,
        "max_prompt_tokens": settings.max_prompt_tokens,
        "chat_template": settings.chat_template,
        "precision": settings.precision,
        "lora": settings.lora,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "methods": methods,
        "checkpoint_every": max(1, settings.steps // 4),
        "log_samples": False,  # they take gigabytes in each of many runs
    }
    return build_config(TextConfig, values, source=f"table1, {row.name}")
