"""The kinds of task that a recipe can name: of each its keys, its files, and the task made of them."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from allmodes.errors import ConfigError, InputError
from allmodes.runs.config import Config, Count, PositiveInt, Probability, Size, SmallCount
from allmodes.runs.user_code import (
    CodeFolder,
    PathBesideRecipe,
    Reference,
    load_object,
    module_files,
)
from allmodes.tasks import (
    Boolean,
    Causal,
    Creative,
    Judge,
    OneTwo,
    RewardFunction,
    RewardModel,
    Task,
    Voxels,
    own_task,
)
from allmodes.tasks.creative import read_prompts
from allmodes.tasks.reasoning_gym import reasoning_gym_task, require_reasoning_gym
from allmodes.text.evaluation.measures import Embed, load_embedder


class TaskConfig(Config, ABC):
    """What every kind of task has. To add a kind, write its class and put it into `TaskKind`."""

    rewards_are_shares: ClassVar[bool] = False
    """Whether rewards are known to lie between 0 and 1."""
    has_negative_rewards: ClassVar[bool] = False
    """Whether rewards are known to have any sign."""
    fits_stand_in: ClassVar[bool] = False
    """Whether its task writes examples of its format, which a warm start and a stand-in learn from."""

    @abstractmethod
    def make(self) -> Task:
        """The task. Raises ConfigError for files and models that cannot be read."""

    def check_files(self) -> None:
        """Check it as far as that loads no model and runs no code that it names. Raises ConfigError."""

    def models(self) -> dict[str, str]:
        """Names or folders of the models that rewards depend on, by key."""
        return {}

    def inputs(self) -> dict[str, Path]:
        """The other files that rewards depend on, by key."""
        return {}

    def resolved(self) -> Self:
        """The same with paths that hold from any folder."""
        return self

    def describe(self) -> list[tuple[str, str]]:
        """Names and values for a report's settings; files without folders."""
        return []


@final
class OneTwoTask(TaskConfig):
    """Write 1 or 2 at random, in a given format."""

    rewards_are_shares: ClassVar[bool] = True
    fits_stand_in: ClassVar[bool] = True

    kind: Literal["one_two"]
    """Write 1 or 2 at random."""

    def make(self) -> Task:
        """The 1-2 task."""
        return OneTwo()


@final
class JudgeConfig(Config):
    """A model that says whether two responses say the same, and the probability from which they do."""

    model: str
    """Name or folder."""
    threshold: Probability
    """Probability from which on two responses say the same."""
    tokenizer: str | None = None
    """Where the tokenizer is; beside the model if left out."""


@final
class CreativeTask(TaskConfig):
    """Open questions, with a reward model to say how good an answer is."""

    has_negative_rewards: ClassVar[bool] = True

    kind: Literal["creative"]
    """Open questions."""
    prompts: PathBesideRecipe
    """JSONL with a `prompt` in each line."""
    reward_model: str
    """Name or folder of a model with one output."""
    judge: JudgeConfig | None = None
    """Model that tells which responses say the same; none if left out."""
    embedder: str | None = None
    """Sentence-transformers model for semantic diversity; none if left out."""
    max_prompts: PositiveInt | None = None
    """Only the first so many prompts; all if left out."""

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


@final
class PythonTask(TaskConfig):
    """A user's own task: a class, or a function that makes one."""

    fits_stand_in: ClassVar[bool] = True

    kind: Literal["python"]
    """A user's own task."""
    module: Reference
    """Where it is: `module:Class`, or a function that makes it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it is called with, by keyword."""
    folder: CodeFolder = None
    """Where its module is looked for after the folder of the command; the recipe's if left out."""

    def make(self) -> Task:
        """The task, each of whose results is checked. Raises InputError for what is none."""
        made = load_object(self.module, self.folder, where="`task.module`:")
        return own_task(made, name=self.module, settings=self.settings)

    def inputs(self) -> dict[str, Path]:
        """The module's source, with that of the package that it is in."""
        return _sources("task.module", self.module, self.folder)

    def describe(self) -> list[tuple[str, str]]:
        """The class, and its settings."""
        settings = ", ".join(f"{name} = {value!r}" for name, value in self.settings.items())
        return [("Task", self.module), *([("Settings of the task", settings)] if settings else [])]


@final
class RewardTask(TaskConfig):
    """Prompts from a file, and a user's function that says what responses to them are worth."""

    fits_stand_in: ClassVar[bool] = True

    kind: Literal["reward"]
    """A user's own reward function."""
    prompts: PathBesideRecipe
    """JSONL with a `prompt` in each line."""
    function: Reference
    """Where it is: `module:function`; of prompts and responses, it gives a number or None for each."""
    outcome: Reference | None = None
    """`module:function` from a response to its answer or None; the response itself if left out."""
    folder: CodeFolder = None
    """Where modules are looked for after the folder of the command; the recipe's if left out."""

    def make(self) -> Task:
        """The task. Raises InputError for a file or function that cannot be used."""
        function = load_object(self.function, self.folder, where="`task.function`:")
        if self.outcome is None:
            return RewardFunction(self.prompts, function=function, function_name=self.function)
        return RewardFunction(
            self.prompts,
            function=function,
            function_name=self.function,
            outcome=load_object(self.outcome, self.folder, where="`task.outcome`:"),
            outcome_name=self.outcome,
        )

    def check_files(self) -> None:
        """Read the prompts. Raises ConfigError that names the line at fault."""
        read_prompts(self.prompts)

    def inputs(self) -> dict[str, Path]:
        """The prompts, and the source of the functions' modules."""
        outcome = {} if self.outcome is None else _sources("task.outcome", self.outcome, self.folder)
        function = _sources("task.function", self.function, self.folder)
        return {"task.prompts": self.prompts, **function, **outcome}

    def resolved(self) -> Self:
        """The same with paths that hold from any folder."""
        return self.model_copy(update={"prompts": self.prompts.resolve()})

    def describe(self) -> list[tuple[str, str]]:
        """The prompts' file and the functions."""
        outcome = "the whole response" if self.outcome is None else self.outcome
        return [("Prompts from", self.prompts.name), ("Reward", self.function), ("Answer", outcome)]


def _sources(key: str, reference: str, folder: Path | None) -> dict[str, Path]:
    files = module_files(reference.partition(":")[0], folder)
    return {f"{key}/{name}": file for name, file in files}


@final
class CausalDomain(Config):
    """Graphs of causes, told by perturbations."""

    nodes: PositiveInt = 4
    """Nodes of a graph, 2 to 5."""
    max_edges: SmallCount = 6
    """Most edges of a graph."""
    perturbations: PositiveInt = 3
    """Perturbed nodes of each prompt."""


@final
class VoxelsDomain(Config):
    """Structures of blocks, told by their top view."""

    size: PositiveInt = 3
    """Cells along each side of the grid."""
    max_blocks: PositiveInt = 3
    """Most cells of a top view."""
    max_height: PositiveInt = 3
    """Most layers."""


@final
class BooleanDomain(Config):
    """Expressions, told by some of their inputs and outputs."""

    variables: tuple[str, ...] = ("x", "y")
    """One to three names."""
    operators: tuple[str, ...] = ("AND", "OR", "NOT")
    """Of these three."""
    max_depth: SmallCount = 2
    """Levels of operators, at most 3."""


@final
class HypoSpaceTask(TaskConfig):
    """Hypotheses that explain observations; all that do are known. Some prompts are kept for the samples."""

    rewards_are_shares: ClassVar[bool] = True
    fits_stand_in: ClassVar[bool] = True

    kind: Literal["hypospace"]
    """Sets of hypotheses that explain observations."""
    domain: Literal["causal", "voxels", "boolean"]
    """What a hypothesis is: a causal graph, a structure of blocks, a Boolean expression."""
    train: PositiveInt
    """Prompts to train on."""
    test: PositiveInt
    """Other prompts, to which the final policies respond."""
    split_seed: Count = 0
    """Seed of drawing them."""
    causal: CausalDomain | None = None
    """Settings of domain "causal"; those of the IPS paper if left out."""
    voxels: VoxelsDomain | None = None
    """Settings of domain "voxels"; those of the IPS paper if left out."""
    boolean: BooleanDomain | None = None
    """Settings of domain "boolean"; those of the IPS paper if left out."""

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        for name in ("causal", "voxels", "boolean"):
            if name != self.domain and getattr(self, name) is not None:
                raise ValueError(f"no `task.{name}` with domain {self.domain!r}")
        try:
            self.make()
        except InputError as error:
            raise ValueError(f"settings of `task` that fit each other; {error}") from error
        return self

    def make(self) -> Causal | Voxels | Boolean:
        """The domain, its prompts divided."""
        if self.domain == "causal":
            made = Causal(**(self.causal or CausalDomain()).model_dump())
        elif self.domain == "voxels":
            made = Voxels(**(self.voxels or VoxelsDomain()).model_dump())
        else:
            made = Boolean(**(self.boolean or BooleanDomain()).model_dump())
        return made.divided(self.train, self.test, self.split_seed)

    def describe(self) -> list[tuple[str, str]]:
        """The domain and how its prompts are divided."""
        made = self.make()
        return [
            (
                "Domain",
                f"{self.domain}, {len(made.instances):,} prompts, {len(made.hypotheses):,} hypotheses",
            ),
            ("Split", f"{self.train:,} prompts to train on, {self.test:,} others to measure on"),
        ]


@final
class ReasoningGymTask(TaskConfig):
    """Puzzles of the package reasoning-gym; their right answers are known where they can be enumerated."""

    rewards_are_shares: ClassVar[bool] = True
    fits_stand_in: ClassVar[bool] = True

    kind: Literal["reasoning_gym"]
    """Puzzles of reasoning-gym."""
    dataset: Literal["countdown", "graph_color"]
    """What is asked: an expression of given numbers that makes a target; a colouring of a graph."""
    size: Size = 100
    """Puzzles to train on."""
    test: SmallCount = 0
    """More puzzles, to which the final policies respond; to those of training if 0."""
    seed: Count = 0
    """Seed of the puzzles."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of the dataset, as reasoning-gym names them, such as max_numbers and num_colors."""

    @model_validator(mode="after")
    def _has_other_settings(self) -> Self:
        own = next((key for key in ("size", "seed") if key in self.settings), None)
        if own is not None:
            raise ValueError(f"`task.{own}` instead of `task.settings.{own}`")
        return self

    def make(self) -> Task:
        """The puzzles. Raises ConfigError without the package, and for settings that it cannot work with."""
        return reasoning_gym_task(
            self.dataset, size=self.size, test=self.test, seed=self.seed, settings=self.settings
        )

    def check_files(self) -> None:
        """Raises ConfigError without the package."""
        require_reasoning_gym()

    def describe(self) -> list[tuple[str, str]]:
        """The dataset, how many puzzles of which seed, and its settings."""
        settings = ", ".join(f"{name} = {value!r}" for name, value in self.settings.items())
        puzzles = f"{self.size:,} to train on, {self.test:,} others to measure on, seed {self.seed}"
        rows = [("Dataset", f"{self.dataset} of reasoning-gym"), ("Puzzles", puzzles)]
        return [*rows, *([("Settings of the dataset", settings)] if settings else [])]


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


def resolved_model(model: str) -> str:
    """A folder's path, the same from anywhere; a name stays."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def shown_model(model: str) -> str:
    """A model's name; of a folder the last part: a report is shared, a home folder is not."""
    return Path(model).name if Path(model).is_absolute() else model


TaskKind = Annotated[
    OneTwoTask | CreativeTask | HypoSpaceTask | ReasoningGymTask | PythonTask | RewardTask,
    Field(discriminator="kind"),
]
