"""Routes by Retro*."""

from importlib.resources import files as resources
from pathlib import Path
from typing import ClassVar, Literal, final

from allmodes.chem.oracles.components.component import ComponentConfig, InputPath, Scorer
from allmodes.extras import require
from allmodes.reports.formatting import plural
from allmodes.runs.config import Config, PositiveInt


class SingleStepModelConfig(Config):
    """A trained single-step model that syntheseus knows."""

    name: str
    """Name of the model in syntheseus."""
    checkpoint: InputPath
    """File or folder of the model."""


@final
class RetrosynthesisComponent(ComponentConfig):
    """1 if Retro* finds a route of allowed reactions to purchasable molecules, else 0."""

    own_process: ClassVar[bool] = True
    engines: ClassVar[tuple[str, ...]] = ("rdkit", "syntheseus")
    extra: ClassVar[str] = "retrosynthesis"
    files: ClassVar[tuple[str, ...]] = ("stock", "templates", "model.checkpoint")

    kind: Literal["retrosynthesis"]
    """Routes by Retro*."""
    stock: InputPath | None = None
    """Purchasable molecules: one SMILES per line; the stock that comes with allmodes if left out."""
    templates: InputPath | None = None
    """Reactions, a TOML file or a CSV table; those that come with allmodes if left out."""
    model: SingleStepModelConfig | None = None
    """A trained single-step model instead of templates."""
    reactions: tuple[str, ...] = ()
    """Allowed classes of reactions in a route; all if left out."""
    max_steps: PositiveInt = 5
    """Maximum number of reactions in a row."""
    max_expansions: PositiveInt = 100
    """Maximum number of molecules that the search expands."""

    @property
    def has_shipped_stock(self) -> bool:
        """Whether routes end in the shipped stock instead of a real catalogue."""
        return self.stock is None

    @property
    def mark(self) -> str:
        """The shipped stock stands in for a catalogue."""
        return " (stand-in stock)" if self.has_shipped_stock else ""

    @property
    def caveat(self) -> str:
        """What a route to the shipped stock says."""
        if not self.has_shipped_stock:
            return ""
        return (
            "routes end in the stock that comes with allmodes, which replaces a supplier's catalogue. "
            "A route shows how a molecule could be made from it, not that its starting materials are "
            "for sale."
        )

    @classmethod
    def shipped_files(cls) -> dict[str, Path]:
        """The stock and the templates."""
        folder = resources("allmodes.chem.retrosynthesis")
        return {
            "stock": Path(str(folder / "stock.smi.gz")),
            "templates": Path(str(folder / "templates.toml")),
        }

    def describe(self) -> str:
        """Stock, templates or model, reactions, limits."""
        stock = self.stock.name if self.stock else "shipped: a stand-in for a catalogue"
        templates = self.templates.name if self.templates else "shipped with allmodes"
        source = f"templates: {templates}" if self.model is None else f"model: {self.model.name}"
        allowed = " or ".join(self.reactions) or "any"
        return (
            f"1 when Retro* finds a route to purchasable molecules, else 0; stock: {stock}; {source}; "
            f"reactions: {allowed}; at most {plural(self.max_steps, 'reaction')} in a row and "
            f"{plural(self.max_expansions, 'molecule')} expanded"
        )

    def make_scorer(self) -> Scorer:
        """See `make_retrosynthesis_scorer`."""
        require(f"component {self.name!r}: routes need", "syntheseus", extras=self.extra)
        from allmodes.chem.retrosynthesis.scorer import make_retrosynthesis_scorer

        return make_retrosynthesis_scorer(self.model_dump(mode="json"))
