"""A user's Python function."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer
from allmodes.chem.oracles.results import UnscorableError
from allmodes.errors import ConfigError


@final
class FunctionComponent(ComponentConfig):
    """A user's Python function, `module:function`: a SMILES in, a number out."""

    own_process: ClassVar[bool] = True

    kind: Literal["function"]
    """A user's Python function."""
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """Where it is: `module:function`."""

    def describe(self) -> str:
        """Its name."""
        return f"function {self.function}"

    def other_inputs(self) -> dict[str, Path]:
        """Its module's source, with that of the package that it is in."""
        module = self.function.partition(":")[0]
        return {f"function/{name}": file for name, file in _module_files(module)}

    def make_scorer(self) -> Scorer:
        """The function. Raises `ConfigError` where it cannot be imported."""
        module_name, _, function_name = self.function.partition(":")
        where = f"component {self.name!r}: `function`:"
        sys.path.insert(0, "")  # the folder that the run was started in, under PYTHONSAFEPATH too
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever a user's module raises while it is imported
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{where} cannot import {module_name!r}; {reason}") from error
        function = getattr(module, function_name, None)
        if not callable(function):
            raise ConfigError(
                f"{where} expected a function {function_name!r} in {module_name!r}; got {function!r}"
            )

        def score(smiles: str) -> float:
            value: Any = function(smiles)
            if value is None:
                raise UnscorableError("not_finite", "expected a number; got None")
            try:
                return float(value)
            except OverflowError as error:
                message = "expected a finite number; got a larger integer"
                raise UnscorableError("not_finite", message) from error
            except (TypeError, ValueError) as error:
                message = f"expected a number; got {type(value).__name__}"
                raise UnscorableError("malformed", message) from error

        return score


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
