"""External docking programs, run from a command template: one ligand per run, in its own folder.

The formats are written after the documentation and published output of QuickVina 2-GPU 2.1, smina and gnina.
"""

import math
import shutil
import string
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, cast, final

from rdkit import Chem

from allmodes.chem.docking.box import Box
from allmodes.chem.docking.ligand import Ligand
from allmodes.chem.docking.poses import Pose, read_pdbqt, read_sdf
from allmodes.chem.oracles.results import FailureKind, UnscorableError
from allmodes.chem.oracles.running import Tail
from allmodes.errors import ConfigError

# Placeholders for the input of the ligand, and for the output of the poses.
INPUTS = ("ligand", "ligand_sdf", "ligand_directory")
OUTPUTS = ("out", "out_sdf", "output_directory")
SETTINGS = (
    "receptor",
    *(f"{quantity}_{axis}" for quantity in ("center", "size") for axis in "xyz"),
    "exhaustiveness",
    "seed",
)
_LAST_WORDS = 300  # characters at the end of a program's output that messages quote


@final
class ExternalEngine:
    """A docking program behind a command template.

    {receptor}: the receptor's PDBQT. {ligand}, {ligand_sdf}: the ligand as PDBQT, as SDF with hydrogens;
    {ligand_directory}: a folder with the PDBQT alone. {out}, {out_sdf}: the file for the poses, PDBQT or SDF;
    {output_directory}: the folder for it, for programs that name the file themselves. {center_x} ... {size_z}
    in Å, {exhaustiveness}, {seed}.
    """

    def __init__(
        self,
        command: Sequence[str],
        receptor: Path,
        box: Box,
        *,
        exhaustiveness: int,
        seed: int,
        where: str,
    ) -> None:
        """Raise `ConfigError` for an unknown or missing placeholder, or a missing program."""
        used = _placeholders(command, where)
        for needed in (("receptor",), INPUTS, OUTPUTS):
            if not used & set(needed):
                raise ConfigError(f"{where}: expected {_listed(needed)} in it; got none")
        program = shutil.which(command[0])
        if program is None:
            raise ConfigError(f"{where}: expected a program that can be run; got {command[0]!r}")
        # Absolute, since the program runs in a folder of its own.
        self._command = [str(Path(program).absolute()), *command[1:]]
        self._program = Path(program).name
        values = (str(receptor.absolute()), *box.center, *box.size, exhaustiveness, seed)
        self._settings = dict(zip(SETTINGS, map(str, values), strict=True))

    def dock(self, ligand: Ligand) -> list[Pose]:
        """The poses that the program wrote, best score first; the program decides their number.

        Raises `UnscorableError` with the end of the output: "died" if it ends with an error, "malformed"
        if it writes no poses of the ligand, "not_finite" for a score that is not a finite number.
        """
        with tempfile.TemporaryDirectory(prefix="allmodes-docking-") as name:
            folder = Path(name)
            places = _lay_out(folder, ligand)
            words = self._run([part.format(**self._settings, **places) for part in self._command], folder)
            try:
                poses = _read(folder / "poses", ligand)
            except ValueError as error:
                raise self._failure("malformed", str(error), words) from error
        # A pose without a score makes the order of all of them meaningless.
        if not all(math.isfinite(pose.score) for pose in poses):
            scores = [pose.score for pose in poses]
            raise self._failure("not_finite", f"expected finite scores; got {scores}", words)
        return poses

    def _run(self, command: list[str], folder: Path) -> str:
        """The end of the program's output. The program is in the group of the oracle's worker."""
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,  # the worker's own input holds the next molecules
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise UnscorableError("died", f"{self._program} cannot be started; {error.strerror}") from error
        tail = Tail(cast("IO[bytes]", process.stdout))
        code = process.wait()
        words = tail.text(wait=1.0).decode("utf-8", errors="replace")
        tail.close()
        if code != 0:
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise self._failure("died", f"ended with {ended}", words)
        return words

    def _failure(self, kind: FailureKind, message: str, words: str) -> UnscorableError:
        last = " ".join(words.split())[-_LAST_WORDS:]
        return UnscorableError(kind, f"{self._program}: {message}" + (f"; it said: {last}" if last else ""))


def _placeholders(command: Sequence[str], where: str) -> set[str]:
    known = {*INPUTS, *OUTPUTS, *SETTINGS}
    used: set[str] = set()
    for part in command:
        try:
            fields = [(name, spec, form) for _, name, spec, form in string.Formatter().parse(part)]
        except ValueError as error:
            raise ConfigError(f"{where}: expected placeholders in braces; got {part!r} ({error})") from error
        for name, spec, form in fields:
            if name is None:
                continue
            if name not in known or spec or form:
                raise ConfigError(f"{where}: expected {_listed(sorted(known))}; got {part!r}")
            used.add(name)
    return used


def _listed(names: Sequence[str]) -> str:
    return "one of " * (len(names) > 1) + ", ".join(f"{{{name}}}" for name in names)


def _lay_out(folder: Path, ligand: Ligand) -> dict[str, str]:
    ligands, poses = folder / "ligands", folder / "poses"
    ligands.mkdir()
    poses.mkdir()
    (ligands / "ligand.pdbqt").write_text(ligand.pdbqt, encoding="utf-8")
    (folder / "ligand.sdf").write_text(Chem.MolToMolBlock(ligand.molecule) + "$$$$\n", encoding="utf-8")
    return {
        "ligand": str(ligands / "ligand.pdbqt"),
        "ligand_sdf": str(folder / "ligand.sdf"),
        "ligand_directory": str(ligands),
        "out": str(poses / "poses.pdbqt"),
        "out_sdf": str(poses / "poses.sdf"),
        "output_directory": str(poses),
    }


def _read(folder: Path, ligand: Ligand) -> list[Pose]:
    readers: dict[str, Callable[..., list[Pose]]] = {".pdbqt": read_pdbqt, ".sdf": read_sdf}
    written = sorted(path for path in folder.iterdir() if path.suffix in readers)
    if len(written) != 1:
        raise ValueError(f"expected one file of poses, .pdbqt or .sdf; got {len(written)}")
    text = written[0].read_text(encoding="utf-8", errors="replace")
    return readers[written[0].suffix](text, ligand=ligand)
