"""A user's program."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from allmodes.chem.oracles.components.component import (
    ComponentConfig,
    Program,
    Scorer,
    check_program,
    command_files,
    shown_command,
)


@final
class ProcessComponent(ComponentConfig):
    """A user's program: reads one request per line on stdin, writes one JSON line for each on stdout.

    protocol: "json" requests have an id that the answer repeats; a "plain" one is a SMILES alone.
    """

    own_process: ClassVar[bool] = True

    kind: Literal["process"]
    """A user's program."""
    protocol: Literal["plain", "json"] = "plain"
    """"json": requests have an id, which the answer repeats; "plain": a request is a SMILES alone."""
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments."""

    @property
    def program(self) -> Program:
        """The command and its protocol."""
        return Program(self.command, self.protocol)

    def describe(self) -> str:
        """The command."""
        return f"program {shown_command(self.command)}"

    def other_inputs(self) -> dict[str, Path]:
        """The files that the command names."""
        return command_files(self.command)

    def check_files(self) -> None:
        """Look for the program as well."""
        super().check_files()
        check_program(self.name, self.command)

    def make_scorer(self) -> Scorer:
        """Not computed by allmodes: the program is called directly."""
        raise NotImplementedError
