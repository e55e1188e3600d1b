"""Open questions, scored by a reward model."""

from pathlib import Path
from typing import ClassVar, Literal, Self, final

from allmodes.errors import ConfigError
from allmodes.runs.config import Config, PositiveInt, Probability
from allmodes.runs.user_code import PathBesideRecipe
from allmodes.tasks import Creative, Judge, RewardModel, Task
from allmodes.tasks.creative import read_prompts
from allmodes.text.evaluation.measures import Embed, load_embedder
from allmodes.text.task_kinds.kind import TaskConfig, resolved_model, shown_model


@final
class JudgeConfig(Config):
    """A model that decides whether two responses say the same, and its threshold."""

    model: str
    """Name or folder."""
    threshold: Probability
    """Probability above which two responses say the same."""
    tokenizer: str | None = None
    """Folder or name of the tokenizer; that of the model if left out."""


@final
class CreativeTask(TaskConfig):
    """Open questions, scored by a reward model."""

    has_negative_rewards: ClassVar[bool] = True

    kind: Literal["creative"]
    """Open questions."""
    prompts: PathBesideRecipe
    """JSONL with a `prompt` in each line."""
    reward_model: str
    """Name or folder of a model with one output."""
    judge: JudgeConfig | None = None
    """Model that decides which responses say the same; none if left out."""
    embedder: str | None = None
    """Sentence-transformers model for semantic diversity; none if left out."""
    max_prompts: PositiveInt | None = None
    """Number of prompts that are used, from the first; all if left out."""

    def make(self) -> Task:
        """The task with its models. Raises ConfigError for files and models that cannot be read."""
        return Creative(
            self.prompts,
            reward_model=RewardModel(self.reward_model),
            embedder=None if self.embedder is None else _embedder(self.embedder),
            judge=make_judge(self.judge),
            max_prompts=self.max_prompts,
        )

    def check_files(self) -> None:
        """Read the prompts. Raises ConfigError that names the line at fault."""
        read_prompts(self.prompts)

    def models(self) -> dict[str, str]:
        """The reward model and the judge."""
        judge = {} if self.judge is None else {"task.judge.model": self.judge.model}
        return {"task.reward_model": self.reward_model, **judge}

    def inputs(self) -> dict[str, Path]:
        """The prompts."""
        return {"task.prompts": self.prompts}

    def resolved(self) -> Self:
        """The same with paths that hold from any folder."""
        judge = self.judge
        if judge is not None:
            tokenizer = None if judge.tokenizer is None else resolved_model(judge.tokenizer)
            judge = judge.model_copy(update={"model": resolved_model(judge.model), "tokenizer": tokenizer})
        embedder = None if self.embedder is None else resolved_model(self.embedder)
        models = {"reward_model": resolved_model(self.reward_model), "judge": judge, "embedder": embedder}
        return self.model_copy(update={"prompts": self.prompts.resolve(), **models})

    def describe(self) -> list[tuple[str, str]]:
        """The prompts' file and the reward model."""
        return [("Prompts from", self.prompts.name), ("Reward model", shown_model(self.reward_model))]


def make_judge(config: JudgeConfig | None) -> Judge | None:
    """The judge of a configuration, or None. Raises ConfigError for a model that cannot be loaded."""
    if config is None:
        return None
    return Judge(config.model, threshold=config.threshold, tokenizer=config.tokenizer)


def _embedder(name: str) -> Embed:
    found = load_embedder(name)
    if isinstance(found, str):
        raise ConfigError(f"`task.embedder`: expected one that can be loaded, for {name!r}; {found}")
    return found
