"""A user's Python function."""

from pathlib import Path
from typing import Any, ClassVar, Literal, final

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer
from allmodes.chem.oracles.results import UnscorableError
from allmodes.errors import ConfigError
from allmodes.runs.user_code import CodeFolder, Reference, load_object, module_files


@final
class FunctionComponent(ComponentConfig):
    """A user's Python function, `module:function`, from a SMILES to a number."""

    own_process: ClassVar[bool] = True

    kind: Literal["function"]
    """A user's Python function."""
    function: Reference
    """The function, as `module:function`."""
    folder: CodeFolder = None
    """Folder that is searched for its module after the current folder; the recipe's if left out."""

    def describe(self) -> str:
        """Its name."""
        return f"function {self.function}"

    def other_inputs(self) -> dict[str, Path]:
        """Its module's source, with that of the package that it is in."""
        module = self.function.partition(":")[0]
        return {f"function/{name}": file for name, file in module_files(module, self.folder)}

    def make_scorer(self) -> Scorer:
        """The function. Raises `ConfigError` if it cannot be imported."""
        where = f"component {self.name!r}: `function`:"
        function = load_object(self.function, self.folder, where=where)
        if not callable(function):
            raise ConfigError(f"{where} expected a function at {self.function!r}; got {function!r}")

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
