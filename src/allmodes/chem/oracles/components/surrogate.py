"""A regression that stands in for a slow scorer."""

from collections.abc import Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import ClassVar, Literal, final

from allmodes.chem.oracles.components.component import ComponentConfig, InputPath, Scorer
from allmodes.errors import RunError
from allmodes.reports.formatting import plural


@final
class SurrogateComponent(ComponentConfig):
    """A regression that replaces a slow scorer, for trials and for comparisons with many calls."""

    files: ClassVar[tuple[str, ...]] = ("model",)
    makers: ClassVar[Mapping[str, str]] = {"model": "allmodes chem surrogate SCORES --out FILE"}
    stand_in: ClassVar[str] = "stand-in"

    kind: Literal["surrogate"]
    """A regression that stands in for a slow scorer."""
    model: InputPath | None = None
    """File of `allmodes chem surrogate`; Vina's scores against ClpP if left out."""

    @property
    def caveat(self) -> str:
        """That its numbers are predicted."""
        return "predicted by a regression that replaces the scorer it was fitted to."

    @classmethod
    def shipped_files(cls) -> dict[str, Path]:
        """Vina's scores against ClpP."""
        return {"model": Path(str(resources("allmodes.chem") / "surrogates" / "clpp-vina.safetensors"))}

    def describe(self) -> str:
        """What it was fitted to, and its held-out error."""
        from allmodes.chem.surrogate import load_surrogate

        path = self.model or self.shipped_files()["model"]
        try:
            card = load_surrogate(path)[1]
        except RunError:  # moved since the run: the rest of the report is worth having
            return f"surrogate {path.name}, which cannot be read"
        return (
            f"surrogate {path.name}: ridge regression, fitted to {card.target} of "
            f"{plural(card.molecules, 'molecule')}; held-out error (RMSE) {card.rmse:.2f} where the scores "
            f"have a standard deviation of {card.spread:.2f}, R² {card.r2:.2f}"
        )

    def make_scorer(self) -> Scorer:
        """See `make_surrogate_scorer`."""
        from allmodes.chem.surrogate import make_surrogate_scorer

        return make_surrogate_scorer(self.model_dump(mode="json"))
