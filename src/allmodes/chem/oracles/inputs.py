"""The files that decide what an oracle says."""

import shutil
import sys
import warnings
from pathlib import Path

from allmodes.chem.docking.box import box_warning
from allmodes.chem.oracles.components import make_scorer
from allmodes.chem.oracles.config import (
    DockingComponent,
    ExternalDockingComponent,
    FunctionComponent,
    OracleConfig,
    ProcessComponent,
    RetrosynthesisComponent,
    SimilarityComponent,
    SmartsComponent,
    SurrogateComponent,
    input_files,
    input_paths,
)
from allmodes.chem.oracles.store import refuse_password
from allmodes.chem.surrogate import shipped_surrogate
from allmodes.errors import AllmodesWarning, ConfigError, shown


def oracle_inputs(oracle: OracleConfig) -> dict[str, Path]:
    """The files that an oracle reads, by key: also those that come with allmodes, and may change."""
    found = input_files(oracle)
    for component in oracle.components:
        if isinstance(component, SurrogateComponent):
            found.setdefault(f"{component.name}.model", shipped_surrogate())
        elif isinstance(component, RetrosynthesisComponent):
            # Here, so that an oracle without it needs no syntheseus.
            from allmodes.chem.retrosynthesis.stock import shipped_stock
            from allmodes.chem.retrosynthesis.template_file import shipped_templates

            found.setdefault(f"{component.name}.stock", shipped_stock())
            found.setdefault(f"{component.name}.templates", shipped_templates())
        elif isinstance(component, FunctionComponent):
            module = component.function.partition(":")[0]
            found |= {f"{component.name}.function/{name}": file for name, file in _module_files(module)}
        elif isinstance(component, ProcessComponent | ExternalDockingComponent):
            found |= {
                f"{component.name}.command.{number}": file
                for number, word in enumerate(component.command)
                if (file := _command_file(word, is_program=number == 0)) is not None
            }
    return found


def _command_file(word: str, *, is_program: bool) -> Path | None:
    """The file that a word of a command names, if any: an interpreter that the shell finds is none."""
    path = Path(word)
    if is_program and path.name == word:
        return None
    try:
        return path.absolute() if path.is_file() else None
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return None


def _module_files(module: str) -> list[tuple[str, Path]]:
    """The source of a user's module, and of all modules of the package that it is in.

    It is looked for where the oracle's worker imports it from, and not imported here.
    """
    top, *rest = module.split(".")
    for folder in ("", *sys.path):
        root = Path(folder).absolute()
        if (root / top / "__init__.py").is_file():
            installed = {"site-packages", "dist-packages"} & set(root.parts)
            files = [_source(root.joinpath(top, *rest))] if installed else sorted((root / top).rglob("*.py"))
            return [(file.relative_to(root).as_posix(), file) for file in files if file.is_file()]
        if (root / f"{top}.py").is_file():
            return [(f"{top}.py", root / f"{top}.py")]
    return []  # compiled, packed, or not there at all, which its import says


def _source(module: Path) -> Path:
    return module / "__init__.py" if module.is_dir() else module.with_name(f"{module.name}.py")


_RECEPTOR = "allmodes chem receptor PDB_FILE --out FOLDER"
_MAKERS = {
    ("docking", "receptor"): _RECEPTOR,
    ("docking", "box.reference_ligand"): _RECEPTOR,
    ("external_docking", "receptor"): _RECEPTOR,
    ("external_docking", "box.reference_ligand"): _RECEPTOR,
    ("surrogate", "model"): "allmodes chem surrogate SCORES --out FILE",
}


def check_oracle_files(oracle: OracleConfig) -> None:
    """Check an oracle as far as that runs no program and imports no module that it names.

    Files must be there, programs must be found, patterns, references and reference ligands must be readable.
    Warns of a box that cannot hold its own reference ligand. Raises `ConfigError`.
    """
    if oracle.store is not None:
        refuse_password(oracle.store)
    for component in oracle.components:
        where = f"component {component.name!r}"
        for key, path in input_paths(component).items():
            if not path.exists():
                maker = _MAKERS.get((component.kind, key))
                hint = "" if maker is None else f"; `{maker}` makes one"
                raise ConfigError(
                    f"{where}: `{key}`: expected a file; got {path}, which does not exist{hint}"
                )
        if isinstance(component, DockingComponent | ExternalDockingComponent):
            warning = box_warning(component.box.model_dump(mode="json"), where=f"{where}: `box")
            if warning is not None:
                warnings.warn(warning, AllmodesWarning, stacklevel=2)
        if isinstance(component, SimilarityComponent | SmartsComponent):
            make_scorer(component.model_dump(mode="json"))
        if isinstance(component, ProcessComponent | ExternalDockingComponent):
            program = component.command[0]
            if shutil.which(program) is None:
                raise ConfigError(f"{where}: `command`: expected a program to run; got {shown(program)}")
