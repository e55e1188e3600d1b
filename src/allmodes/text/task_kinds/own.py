"""A user's own task, or reward function."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, final

from pydantic import Field

from allmodes.runs.user_code import CodeFolder, PathBesideRecipe, Reference, load_object, module_files
from allmodes.tasks import RewardFunction, Task, own_task
from allmodes.tasks.creative import read_prompts
from allmodes.text.task_kinds.kind import TaskConfig

Outcome = Annotated[str, Field(pattern=r"^([\w.]+:)?\w+$")]


@final
class PythonTask(TaskConfig):
    """A user's own task: a class, or a function that makes one."""

    fits_stand_in: ClassVar[bool] = True

    kind: Literal["python"]
    """A user's own task."""
    module: Reference
    """`module:Class`, or a function that returns the task."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for it."""
    folder: CodeFolder = None
    """Folder that is searched for its module after the current folder; the recipe's if left out."""

    def make(self) -> Task:
        """The task, with checks of all its results. Raises InputError if it is not a task."""
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
    """Prompts from a file, and a user's function that scores the responses."""

    fits_stand_in: ClassVar[bool] = True

    kind: Literal["reward"]
    """A user's own reward function."""
    prompts: PathBesideRecipe
    """JSONL with a `prompt` in each line."""
    function: Reference
    """`module:function`: (prompts, responses) → a number or None for each response."""
    outcome: Outcome | None = None
    """`module:function` from a response to its answer or None; or a key: `function` then gives objects with
    `reward` and the answer under this key. The response itself if left out."""
    folder: CodeFolder = None
    """Folder that is searched for modules after the current folder; the recipe's if left out."""

    def make(self) -> Task:
        """The task. Raises InputError for a file or function that cannot be used."""
        function = load_object(self.function, self.folder, where="`task.function`:")
        if self.outcome is None or not _is_reference(self.outcome):
            return RewardFunction(
                self.prompts, function=function, function_name=self.function, answer_key=self.outcome
            )
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
        outcome: dict[str, Path] = {}
        if self.outcome is not None and _is_reference(self.outcome):
            outcome = _sources("task.outcome", self.outcome, self.folder)
        function = _sources("task.function", self.function, self.folder)
        return {"task.prompts": self.prompts, **function, **outcome}

    def resolved(self) -> Self:
        """The same with paths that hold from any folder."""
        return self.model_copy(update={"prompts": self.prompts.resolve()})

    def describe(self) -> list[tuple[str, str]]:
        """The prompts' file and the functions."""
        outcome = "the whole response" if self.outcome is None else self.outcome
        return [("Prompts from", self.prompts.name), ("Reward", self.function), ("Answer", outcome)]


def _is_reference(outcome: str) -> bool:
    return ":" in outcome


def _sources(key: str, reference: str, folder: Path | None) -> dict[str, Path]:
    files = module_files(reference.partition(":")[0], folder)
    return {f"{key}/{name}": file for name, file in files}
