"""The base class of the kinds of task, and the names of models."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from allmodes.runs.config import Config
from allmodes.tasks import Task


class TaskConfig(Config, ABC):
    """Base class of the kinds of task. To add a kind, write its class and add it to `TaskKind`."""

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
        """Check the settings without loading a model or running code that they name. Raises ConfigError."""

    def models(self) -> dict[str, str]:
        """Names or folders of the models that rewards depend on, by key."""
        return {}

    def inputs(self) -> dict[str, Path]:
        """The other files that rewards depend on, by key."""
        return {}

    def resolved(self) -> Self:
        """The same settings with absolute paths."""
        return self

    def describe(self) -> list[tuple[str, str]]:
        """Names and values for a report's settings; files without folders."""
        return []


def resolved_model(model: str) -> str:
    """A folder's path, the same from anywhere; a name stays."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def shown_model(model: str) -> str:
    """A model's name; of a folder the last part: a report is shared, a home folder is not."""
    return Path(model).name if Path(model).is_absolute() else model
