"""Tasks with known right answers."""

from typing import Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from allmodes.errors import InputError
from allmodes.runs.config import Config, Count, PositiveInt, Size, SmallCount
from allmodes.tasks import Boolean, Causal, OneTwo, Task, Voxels
from allmodes.tasks.reasoning_gym import reasoning_gym_task, require_reasoning_gym
from allmodes.text.task_kinds.kind import TaskConfig


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
class CausalDomain(Config):
    """Causal graphs, observed through perturbations."""

    nodes: PositiveInt = 4
    """Nodes of a graph, 2 to 5."""
    max_edges: SmallCount = 6
    """Maximum number of edges."""
    perturbations: PositiveInt = 3
    """Number of perturbed nodes in each prompt."""


@final
class VoxelsDomain(Config):
    """Structures of blocks, observed from above."""

    size: PositiveInt = 3
    """Cells along each side of the grid."""
    max_blocks: PositiveInt = 3
    """Maximum number of occupied cells in a top view."""
    max_height: PositiveInt = 3
    """Maximum number of layers."""


@final
class BooleanDomain(Config):
    """Boolean expressions, observed through some inputs and outputs."""

    variables: tuple[str, ...] = ("x", "y")
    """Names of one to three variables."""
    operators: tuple[str, ...] = ("AND", "OR", "NOT")
    """Allowed operators, a subset of these three."""
    max_depth: SmallCount = 2
    """Maximum nesting of operators, at most 3."""


@final
class HypoSpaceTask(TaskConfig):
    """Hypotheses that explain observations; all that do are known. Some prompts are kept for the samples."""

    rewards_are_shares: ClassVar[bool] = True
    fits_stand_in: ClassVar[bool] = True

    kind: Literal["hypospace"]
    """Sets of hypotheses that explain observations."""
    domain: Literal["causal", "voxels", "boolean"]
    """Kind of hypothesis: a causal graph, a structure of blocks, a Boolean expression."""
    train: PositiveInt
    """Prompts to train on."""
    test: PositiveInt
    """Number of other prompts, on which the final policies are measured."""
    split_seed: Count = 0
    """Seed for drawing the prompts."""
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
    """Kind of puzzle: an expression of given numbers with a target value; a colouring of a graph."""
    size: Size = 100
    """Puzzles to train on."""
    test: SmallCount = 0
    """Number of other puzzles, on which the final policies are measured; 0 uses those of training."""
    seed: Count = 0
    """Seed of the puzzles."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the dataset in reasoning-gym, such as max_numbers and num_colors."""

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
