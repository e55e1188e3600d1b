"""The base class of the reward's components: keys, computation, and description in reports."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import AfterValidator, Field, model_validator

from allmodes.chem.oracles.results import Scored
from allmodes.chem.oracles.shaping import NoShaping, Shaping
from allmodes.errors import ConfigError, shown
from allmodes.runs.config import Config, PositiveFloat

# Saved with the run, which may be resumed from another folder.
InputPath = Annotated[Path, AfterValidator(Path.absolute)]
Scorer = Callable[[str], float | Scored]


@final
@dataclass(frozen=True)
class Regions:
    """The regions of chemical space that a component distinguishes, such as a target or a reaction each.

    names: one of each, distinct. find: the number of a molecule's region by its canonical SMILES, None
    outside of all. pictures: what to draw of each, the SMILES of a target, or the SMARTS to be marked in one
    of the region's molecules; is_smarts: which of the two.
    """

    names: tuple[str, ...]
    find: Callable[[str], int | None]
    pictures: tuple[str, ...]
    is_smarts: bool

    def name_of(self, smiles: str) -> str | None:
        """The name of a molecule's region, None outside of all."""
        number = self.find(smiles)
        return None if number is None else self.names[number]


@final
@dataclass(frozen=True)
class Program:
    """A user's program that answers for a component; protocol "plain": its answers have no ids."""

    command: Sequence[str]
    protocol: Literal["plain", "json"]


class ComponentConfig(Config, ABC):
    """Base class of a component: name, shaping, weight, and time limits in seconds.

    A component is one record: its keys in recipes, its computation, and its description. To add one, write
    its module and put the class into `COMPONENTS`. RDKit and whatever else computes is imported inside of the
    methods: recipes are read without it, and by processes that compute other components.
    """

    own_process: ClassVar[bool] = False
    """Whether it has its own process, whose failure affects no other; fast RDKit components share one."""
    engines: ClassVar[tuple[str, ...]] = ()
    """Packages whose versions are part of a result that is stored; without any, none is stored."""
    extra: ClassVar[str] = "chem"
    """The extra of allmodes that brings what it computes with."""
    files: ClassVar[tuple[str, ...]] = ()
    """The dotted keys of the files and folders that it reads."""
    makers: ClassVar[Mapping[str, str]] = {}
    """By such a key, the command that makes the file."""
    stand_in: ClassVar[str] = ""
    """What results of this kind are marked with in reports, where they stand in for something else."""

    name: Annotated[str, Field(pattern=r"^[^:]+$")] = ""
    """Name of the component in results and flags; its kind if left out."""
    shaping: Shaping = NoShaping()
    """Transform of the raw value to a score between 0 and 1; unchanged if left out."""
    weight: PositiveFloat = 1.0
    """Weight of its score in the aggregation."""
    time_limit: PositiveFloat = 30.0
    """Time limit per molecule in seconds; a longer call is a failure."""
    start_limit: PositiveFloat = 120.0
    """Time limit in seconds for the start of the scoring process."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        if isinstance(values, dict) and "kind" in values:
            return {"name": values["kind"], **values}
        return values

    @abstractmethod
    def make_scorer(self) -> Scorer:
        """The function that computes it, in the worker's process. Raises `ConfigError` if it cannot work."""

    @abstractmethod
    def describe(self) -> str:
        """Description of the raw value for reports; files without folders."""

    @property
    def has_regions(self) -> bool:
        """Whether it distinguishes several regions."""
        return False

    def make_regions(self) -> Regions:
        """The regions that it distinguishes, of a component that has them."""
        raise NotImplementedError

    @property
    def program(self) -> Program | None:
        """The user's program that answers instead of a scorer, if any."""
        return None

    @property
    def mark(self) -> str:
        """The suffix of its name in reports if it is a stand-in."""
        return f" ({self.stand_in})" if self.stand_in else ""

    @property
    def caveat(self) -> str:
        """A caveat about its numbers, as a clause after its name; empty if there is none."""
        return ""

    def input_paths(self) -> dict[str, Path]:
        """The files and folders that the recipe names, by key."""
        found: dict[str, Path] = {}
        for key in self.files:
            value: Any = self
            for part in key.split("."):
                value = None if value is None else getattr(value, part)
            if value is not None:
                found[key] = value
        return found

    @classmethod
    def shipped_files(cls) -> dict[str, Path]:
        """By key, the files that come with allmodes and are read where the recipe names none."""
        return {}

    def other_inputs(self) -> dict[str, Path]:
        """Further files that decide what it says, by key, such as the source of a user's function."""
        return {}

    def check_files(self) -> None:
        """Check it as far as that runs no program and imports no module that it names.

        Raises `ConfigError`, and warns of what is probably not meant.
        """
        where = f"component {self.name!r}"
        for key, path in self.input_paths().items():
            if not path.exists():
                hint = f"; `{self.makers[key]}` makes one" if key in self.makers else ""
                raise ConfigError(
                    f"{where}: `{key}`: expected a file; got {path}, which does not exist{hint}"
                )


def region_names(names: Sequence[str], texts: Sequence[str], *, key: str) -> tuple[str, ...]:
    """The names of regions, or the texts that define them. Raises ValueError for names that do not fit."""
    if names and len(names) != len(texts):
        raise ValueError(f"as many `names` as `{key}`; got {len(names)} and {len(texts)}")
    if len(set(names)) < len(names):
        raise ValueError("a different name for each of `names`")
    return tuple(names or texts)


def command_files(command: Sequence[str]) -> dict[str, Path]:
    """The files that the words of a command name, by key."""
    return {
        f"command.{place}": file
        for place, word in enumerate(command)
        if (file := _command_file(word, is_program=place == 0)) is not None
    }


def _command_file(word: str, *, is_program: bool) -> Path | None:
    """The file that a word of a command names, if any: an interpreter that the shell finds is none."""
    path = Path(word)
    if is_program and path.name == word:
        return None
    try:
        return path.absolute() if path.is_file() else None
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return None


def check_program(name: str, command: Sequence[str]) -> None:
    """Raise `ConfigError` if a component's program is not there."""
    if shutil.which(command[0]) is None:
        raise ConfigError(
            f"component {name!r}: `command`: expected a program to run; got {shown(command[0])}"
        )


def shown_command(command: Sequence[str]) -> str:
    """A command for reports: files without folders."""
    return " ".join(PurePath(part).name or part for part in command)
