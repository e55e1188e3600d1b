"""How a molecule is scored: the components of the reward, their shaping, and who computes them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from allmodes.runs.config import (
    Config,
    Number,
    PositiveFloat,
    PositiveInt,
    Probability,
    SmallCount,
    Workers,
)

# Saved with the run, which may be resumed from another folder.
InputPath = Annotated[Path, AfterValidator(Path.absolute)]


class NoShaping(Config):
    """The raw value is the score; it must lie between 0 and 1."""

    kind: Literal["none"] = "none"
    """The raw value is the score."""


class SigmoidShaping(Config):
    """Sigmoid from 0 below `low` to 1 above `high`; "reverse_sigmoid" the other way round."""

    kind: Literal["sigmoid", "reverse_sigmoid"]
    """Rising, or falling."""
    low: Number
    """Value at which the score is near 0 (falling: near 1)."""
    high: Number
    """Value at which the score is near 1 (falling: near 0)."""
    k: PositiveFloat
    """Steepness."""

    @model_validator(mode="after")
    def _ordered(self) -> "SigmoidShaping":
        if not self.low < self.high:
            raise ValueError(f"low < high; low is {self.low}, high is {self.high}")
        return self


class DoubleSigmoidShaping(Config):
    """1 between `low` and `high`, 0 beyond both; REINVENT 4's, with its names and steepnesses.

    coef_si / coef_div is the steepness at `low`, coef_se / coef_div that at `high`, in units of the value.
    """

    kind: Literal["double_sigmoid"]
    """Good between two values."""
    low: Number
    """Value below which the score falls to 0."""
    high: Number
    """Value above which the score falls to 0."""
    coef_div: PositiveFloat = 100.0
    """Divisor of both steepnesses."""
    coef_si: PositiveFloat = 150.0
    """Steepness at `low`, times `coef_div`."""
    coef_se: PositiveFloat = 150.0
    """Steepness at `high`, times `coef_div`."""

    @model_validator(mode="after")
    def _ordered(self) -> "DoubleSigmoidShaping":
        if not self.low < self.high:
            raise ValueError(f"low < high; low is {self.low}, high is {self.high}")
        return self


class ValueMappingShaping(Config):
    """The score that `mapping` gives to the value, both numbers; a value that is not in it is a failure."""

    kind: Literal["value_mapping"]
    """A score for each value."""
    mapping: Annotated[dict[str, Probability], Field(min_length=1)]
    """Scores by value, such as { "0" = 1.0, "1" = 0.5 }."""

    @field_validator("mapping")
    @classmethod
    def _of_numbers(cls, mapping: dict[str, float]) -> dict[str, float]:
        values = {}
        for text in mapping:
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise ValueError(f"numbers as keys; one key is {text!r}")
            if value in values:
                raise ValueError(f"each value once; {values[value]!r} and {text!r} are the same number")
            values[value] = text
        return mapping


class StepShaping(Config):
    """1 where low ≤ value ≤ high, else 0; a bound that is left out does not bound."""

    kind: Literal["step"]
    """Good within bounds."""
    low: Number | None = None
    """Smallest good value; no bound if left out."""
    high: Number | None = None
    """Largest good value; no bound if left out."""

    @model_validator(mode="after")
    def _bounded(self) -> "StepShaping":
        if self.low is None and self.high is None:
            raise ValueError("at least one of low and high")
        return self


Shaping = Annotated[
    NoShaping | SigmoidShaping | DoubleSigmoidShaping | StepShaping | ValueMappingShaping,
    Field(discriminator="kind"),
]
Aggregation = Literal["geometric_mean", "arithmetic_mean", "product"]


class ComponentConfig(Config):
    """What every component of the reward has: a name, a shaping, a weight, and time limits in seconds."""

    name: Annotated[str, Field(pattern=r"^[^:]+$")] = ""
    """How the component is called in results and flags; its kind if left out."""
    shaping: Shaping = NoShaping()
    """How the raw value becomes a score between 0 and 1; unchanged if left out."""
    weight: PositiveFloat = 1.0
    """Weight of its score in the aggregation."""
    time_limit: PositiveFloat = 30.0
    """Seconds for one molecule; a longer call is a failure."""
    start_limit: PositiveFloat = 120.0
    """Seconds for the start of the process that scores."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        if isinstance(values, dict) and "kind" in values:
            return {"name": values["kind"], **values}
        return values


class PropertyComponent(ComponentConfig):
    """An RDKit property."""

    kind: Literal["qed", "hbd", "sa_score", "logp", "weight", "tpsa", "rings"]
    """Drug-likeness, H-bond donors, synthetic accessibility, Crippen logP, mass, polar surface, rings."""


class SimilarityComponent(ComponentConfig):
    """Largest Tanimoto similarity (Morgan, radius 2, 2048 bits) to any of the references."""

    kind: Literal["similarity"]
    """Similarity to known molecules."""
    references: Annotated[tuple[str, ...], Field(min_length=1)]
    """Their SMILES."""


class SmartsComponent(ComponentConfig):
    """1 when the molecule matches any of the SMARTS patterns, else 0."""

    kind: Literal["smarts"]
    """Substructures."""
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    """SMARTS; a match of any of them counts 1."""


class FunctionComponent(ComponentConfig):
    """A user's Python function, `module:function`: a SMILES in, a number out."""

    kind: Literal["function"]
    """A user's Python function."""
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """Where it is: `module:function`."""


class ProcessComponent(ComponentConfig):
    """A user's program: reads one request a line on stdin, writes one JSON line for each on stdout.

    protocol: "json" requests have an id that the answer repeats; a "plain" one is a SMILES alone.
    """

    kind: Literal["process"]
    """A user's program."""
    protocol: Literal["plain", "json"] = "plain"
    """"json": requests have an id, which the answer repeats; "plain": a request is a SMILES alone."""
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments."""


class BoxConfig(Config):
    """Where to dock, in ångström: a cube or cuboid around a point or around the middle of a ligand."""

    reference_ligand: InputPath | None = None
    """A ligand in place (PDB, SDF, MOL2 or PDBQT), around whose middle the box is put."""
    center: tuple[Number, Number, Number] | None = None
    """The middle of the box, in ångström."""
    size: PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat] = 20.0
    """Edge of a cube, or the three edges, in ångström."""

    @model_validator(mode="after")
    def _placed(self) -> "BoxConfig":
        if (self.reference_ligand is None) == (self.center is None):
            raise ValueError("one of reference_ligand and center")
        return self


class DockingSettings(ComponentConfig):
    """What every docking engine is told; the value is the best pose's score in kcal/mol."""

    receptor: InputPath
    """PDBQT file, as `allmodes chem receptor` writes it."""
    box: BoxConfig
    """Where to dock."""
    exhaustiveness: PositiveInt = 8
    """Vina's effort; the time grows in proportion."""
    seed: PositiveInt = 1
    """Of the search; a number above 0, since Vina draws one by itself for 0."""
    max_torsions: SmallCount = 15
    """Rotatable bonds; a more flexible ligand is a failure."""
    protonation: Literal["ph7.4", "as_written"] = "ph7.4"
    """Charges as at pH 7.4, or as the SMILES has them."""
    poses: SmallCount = 0
    """How many poses are kept."""
    time_limit: PositiveFloat = 120.0
    """Seconds for one molecule; a longer call is a failure."""


class DockingComponent(DockingSettings):
    """AutoDock Vina, in a process of its own on one core."""

    kind: Literal["docking"]
    """AutoDock Vina."""


class ExternalDockingComponent(DockingSettings):
    """A docking program: `{receptor}`, `{ligand}`, `{out}`, `{center_x}` ... in `command` are filled in."""

    kind: Literal["external_docking"]
    """A docking program."""
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments, with {receptor}, {ligand}, {out}, {center_x} ... to be filled in."""


class SingleStepModelConfig(Config):
    """A trained single-step model that syntheseus knows."""

    name: str
    """As syntheseus calls it."""
    checkpoint: InputPath
    """Its file or folder."""


class RetrosynthesisComponent(ComponentConfig):
    """1 when Retro* finds a route of allowed reactions to purchasable molecules, else 0."""

    kind: Literal["retrosynthesis"]
    """Routes by Retro*."""
    stock: InputPath | None = None
    """Purchasable molecules: SMILES, one a line; the stock that comes with allmodes if left out."""
    templates: InputPath | None = None
    """Reactions, a TOML file or a CSV table; those that come with allmodes if left out."""
    model: SingleStepModelConfig | None = None
    """A trained single-step model instead of templates."""
    reactions: tuple[str, ...] = ()
    """Classes of reactions that a route may have; all if left out."""
    max_steps: PositiveInt = 5
    """Longest chain of reactions."""
    max_expansions: PositiveInt = 100
    """Molecules that the search may split."""


class SurrogateComponent(ComponentConfig):
    """A regression in place of a slow scorer: a stand-in, for trials and for comparisons with many calls."""

    kind: Literal["surrogate"]
    """A regression that stands in for a slow scorer."""
    model: InputPath | None = None
    """What `allmodes chem surrogate` wrote; Vina's scores against ClpP if left out."""


Component = Annotated[
    PropertyComponent
    | SimilarityComponent
    | SmartsComponent
    | FunctionComponent
    | ProcessComponent
    | DockingComponent
    | ExternalDockingComponent
    | RetrosynthesisComponent
    | SurrogateComponent,
    Field(discriminator="kind"),
]


def input_paths(component: Component) -> dict[str, Path]:
    """The files and folders that a component reads, by key."""
    if isinstance(component, DockingSettings):
        paths = {"receptor": component.receptor, "box.reference_ligand": component.box.reference_ligand}
    elif isinstance(component, RetrosynthesisComponent):
        checkpoint = None if component.model is None else component.model.checkpoint
        paths = {
            "stock": component.stock,
            "templates": component.templates,
            "model.checkpoint": checkpoint,
        }
    elif isinstance(component, SurrogateComponent):
        paths = {"model": component.model}
    else:
        paths = {}
    return {key: path for key, path in paths.items() if path is not None}


class OracleConfig(Config):
    """How a molecule is scored."""

    components: Annotated[tuple[Component, ...], Field(min_length=1)]
    """What the reward is made of; each has a kind."""
    aggregation: Aggregation = "geometric_mean"
    """How scores become the reward."""
    failed: Literal["exclude", "zero"] = "exclude"
    """A molecule without a score does not train the agent, or has the reward 0."""
    workers: Workers = 1
    """Molecules that are scored at once."""
    ray: str | None = None
    """"local", "auto" for the cluster that this machine is in, or an address; no cluster if left out."""
    store: str | None = None
    """File or database URL that shares results of slow scorers between runs; the run's own if left out."""

    @field_validator("store")
    @classmethod
    def _absolute(cls, store: str | None) -> str | None:
        # A file is saved with the run, which may be resumed from another folder; a URL has its scheme.
        return store if store is None or ":" in store else str(Path(store).absolute())

    @field_validator("components")
    @classmethod
    def _distinct(cls, components: tuple[ComponentConfig, ...]) -> tuple[ComponentConfig, ...]:
        names = [component.name for component in components]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"a different name for each component; {twice!r} comes twice")
        return components


def has_plain_program(components: Iterable[ComponentConfig]) -> bool:
    """Whether any component is a program whose answers have no ids."""
    return any(isinstance(one, ProcessComponent) and one.protocol == "plain" for one in components)


def input_files(oracle: OracleConfig) -> dict[str, Path]:
    """The files that decide what an oracle says, by the key that they come from.

    Those of a folder, as checkpoints are, have their path in it after the key.
    """
    found = {}
    for component in oracle.components:
        for key, path in input_paths(component).items():
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                inside = "" if file == path else f"/{file.relative_to(path)}"
                if file.is_file():
                    found[f"{component.name}.{key}{inside}"] = file
    return found
