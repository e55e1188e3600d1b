"""Which objectives are compared on a user's outcomes: methods of `METHODS`, each by its name."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from typing import final

from allmodes.errors import InputError
from allmodes.methods import MARA, METHODS, Method, Plain, label_of, make_method, method_names, recipe_fields


@final
@dataclass(frozen=True, kw_only=True)
class Objective:
    """A method, and how reports call it.

    name: in JSON; "plain" for rewards as they are, and "corrected" for MARA with `forward_kl_mara_rewards`.
    """

    name: str
    label: str
    method: Method
    is_corrected: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is what the others are compared with."""
        return isinstance(self.method, Plain)

    @property
    def is_mara(self) -> bool:
        """Whether it is MARA as published, of strings."""
        return isinstance(self.method, MARA) and not self.is_corrected

    @property
    def corrected(self) -> "Objective | None":
        """MARA with the rewards whose forward-KL optimum is uniform; None for other methods."""
        if not self.is_mara:
            return None
        return replace(self, name="corrected", label="corrected", is_corrected=True)


def objectives_of(names: Sequence[str], threshold: float | None) -> list[Objective]:
    """The objectives of names such as "ips" or "mara+entropy"; none is rewards as they are, and MARA with τ.

    "all" is each of `METHODS` that can be built. The threshold goes to every method with a setting of that
    name. Raises InputError for an unknown name, and for a method that needs a threshold where there is none.
    """
    if not names:
        names = [Plain.name] if threshold is None else [Plain.name, MARA.name]
    elif "all" in names:
        names = [name for name in METHODS if threshold is not None or not _needs_threshold(name)]
    return [_objective(name, threshold) for name in dict.fromkeys(names)]


def _objective(name: str, threshold: float | None) -> Objective:
    parts = method_names(name)
    if threshold is None and (missing := next(filter(_needs_threshold, parts), None)):
        raise InputError(f"{METHODS[missing].label} needs a threshold: give --threshold; got none")
    settings = {
        part: {"threshold": threshold}
        for part in parts
        if threshold is not None and "threshold" in recipe_fields(METHODS[part])
    }
    method = make_method(name, settings)
    return Objective(
        name="plain" if isinstance(method, Plain) else name,
        label=label_of(name),
        method=method,
    )


def _needs_threshold(name: str) -> bool:
    field = recipe_fields(METHODS[name]).get("threshold")
    return field is not None and field.default is MISSING
