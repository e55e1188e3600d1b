"""Docking with AutoDock Vina or an external program."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator

from allmodes.chem.oracles.components.component import (
    ComponentConfig,
    InputPath,
    Scorer,
    check_program,
    command_files,
    shown_command,
)
from allmodes.errors import AllmodesWarning
from allmodes.reports.formatting import NBSP, number, plural
from allmodes.runs.config import Config, Number, PositiveFloat, PositiveInt, SmallCount

_RECEPTOR = "allmodes chem receptor PDB_FILE --out FOLDER"
_PROTONATION = {"ph7.4": "protonated as at pH 7.4", "as_written": "protonated as written"}


class BoxConfig(Config):
    """Docking box in ångström: a cube or cuboid around a point or the centre of a ligand."""

    reference_ligand: InputPath | None = None
    """A ligand in the receptor (PDB, SDF, MOL2 or PDBQT) whose centre is the centre of the box."""
    center: tuple[Number, Number, Number] | None = None
    """Centre of the box, in ångström."""
    size: PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat] = 20.0
    """Edge of a cube, or the three edges, in ångström."""

    @model_validator(mode="after")
    def _placed(self) -> "BoxConfig":
        if (self.reference_ligand is None) == (self.center is None):
            raise ValueError("one of reference_ligand and center")
        return self


class DockingSettings(ComponentConfig):
    """Settings of every docking engine; the value is the best pose's score in kcal/mol."""

    own_process: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("receptor", "box.reference_ligand")
    makers: ClassVar[Mapping[str, str]] = {"receptor": _RECEPTOR, "box.reference_ligand": _RECEPTOR}

    receptor: InputPath
    """PDBQT file from `allmodes chem receptor`."""
    box: BoxConfig
    """Docking box."""
    exhaustiveness: PositiveInt = 8
    """Vina's effort; the time grows in proportion."""
    seed: PositiveInt = 1
    """Seed of the search; above 0, since Vina draws a random seed for 0."""
    max_torsions: SmallCount = 15
    """Maximum number of rotatable bonds; a more flexible ligand is a failure."""
    protonation: Literal["ph7.4", "as_written"] = "ph7.4"
    """Protonation at pH 7.4, or as in the SMILES."""
    poses: SmallCount = 0
    """Number of poses that are kept."""
    time_limit: PositiveFloat = 120.0
    """Time limit per molecule in seconds; a longer call is a failure."""

    @property
    def caveat(self) -> str:
        """A note that a docking score is not an affinity."""
        return "docking scores, a stand-in for measured affinity."

    @property
    def engine(self) -> str:
        """What the value is."""
        raise NotImplementedError

    def check_files(self) -> None:
        """Warn of a box that cannot hold its own reference ligand."""
        super().check_files()
        from allmodes.chem.docking.box import box_warning

        where = f"component {self.name!r}: `box"
        warning = box_warning(self.box.model_dump(mode="json"), where=where)
        if warning is not None:
            warnings.warn(warning, AllmodesWarning, stacklevel=2)

    def describe(self) -> str:
        """Engine, receptor, box, search, protonation."""
        box = self.box
        sides = (box.size,) * 3 if isinstance(box.size, float | int) else box.size
        if box.center is None:
            middle = "the centre of " + (box.reference_ligand.name if box.reference_ligand else "")
        else:
            middle = f"({', '.join(map(number, box.center))})"
        return (
            f"{self.engine}; receptor {self.receptor.name}; box of "
            f"{f'{NBSP}×{NBSP}'.join(f'{side:g}' for side in sides)}{NBSP}Å around {middle}; "
            f"exhaustiveness {self.exhaustiveness}, seed {self.seed}; "
            f"{_PROTONATION[self.protonation]}; at most {plural(self.max_torsions, 'torsion')}"
        )


@final
class DockingComponent(DockingSettings):
    """AutoDock Vina, in a process of its own on one core."""

    engines: ClassVar[tuple[str, ...]] = ("meeko", "rdkit", "vina")
    extra: ClassVar[str] = "docking"

    kind: Literal["docking"]
    """AutoDock Vina."""

    @property
    def engine(self) -> str:
        """Vina."""
        return "best AutoDock Vina score in kcal/mol"

    def make_scorer(self) -> Scorer:
        """See `make_docking_scorer`."""
        from allmodes.chem.docking.scorer import make_docking_scorer

        return make_docking_scorer(self.model_dump(mode="json"))


@final
class ExternalDockingComponent(DockingSettings):
    """A docking program: `{receptor}`, `{ligand}`, `{out}`, `{center_x}` ... in `command` are filled in."""

    engines: ClassVar[tuple[str, ...]] = ("meeko", "rdkit")
    extra: ClassVar[str] = "docking"

    kind: Literal["external_docking"]
    """A docking program."""
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments, with {receptor}, {ligand}, {out}, {center_x} ... to be filled in."""

    @property
    def engine(self) -> str:
        """The command."""
        return f"best score of {shown_command(self.command)} in kcal/mol"

    def other_inputs(self) -> dict[str, Path]:
        """The files that the command names."""
        return command_files(self.command)

    def check_files(self) -> None:
        """Look for the program as well."""
        super().check_files()
        check_program(self.name, self.command)

    def make_scorer(self) -> Scorer:
        """See `make_external_docking_scorer`."""
        from allmodes.chem.docking.scorer import make_external_docking_scorer

        return make_external_docking_scorer(self.model_dump(mode="json"))
