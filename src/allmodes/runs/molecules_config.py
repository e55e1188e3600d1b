"""What a run of molecular design can be told. `recipes/molecules.toml` explains it by example."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from allmodes.runs.config import (
    Config,
    Count,
    Number,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seeds,
    distinct,
    one_or_several,
)
from allmodes.runs.mara_config import MaraConfig


class NoShaping(Config):
    """The raw value is the score; it must lie between 0 and 1."""

    kind: Literal["none"] = "none"


class SigmoidShaping(Config):
    """Sigmoid from 0 below `low` to 1 above `high`; "reverse_sigmoid" the other way round."""

    kind: Literal["sigmoid", "reverse_sigmoid"]
    low: Number
    high: Number
    k: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> "SigmoidShaping":
        if not self.low < self.high:
            raise ValueError(f"low < high; low is {self.low}, high is {self.high}")
        return self


class StepShaping(Config):
    """1 where low ≤ value ≤ high, else 0; a bound that is left out does not bound."""

    kind: Literal["step"]
    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "StepShaping":
        if self.low is None and self.high is None:
            raise ValueError("at least one of low and high")
        return self


Shaping = Annotated[NoShaping | SigmoidShaping | StepShaping, Field(discriminator="kind")]


class ComponentConfig(Config):
    """What every component of the reward has: a name, a shaping, and time limits in seconds."""

    name: Annotated[str, Field(pattern=r"^[^:]+$")] = ""  # failures read "name: kind: message"
    shaping: Shaping = NoShaping()
    time_limit: PositiveFloat = 30.0
    start_limit: PositiveFloat = 120.0

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        if isinstance(values, dict) and "kind" in values:
            return {"name": values["kind"], **values}
        return values


class PropertyComponent(ComponentConfig):
    """An RDKit property."""

    kind: Literal["qed", "hbd", "sa_score", "logp", "weight", "tpsa", "rings"]


class SimilarityComponent(ComponentConfig):
    """Largest Tanimoto similarity (Morgan, radius 2, 2048 bits) to any of the references."""

    kind: Literal["similarity"]
    references: Annotated[tuple[str, ...], Field(min_length=1)]


class SmartsComponent(ComponentConfig):
    """1 when the molecule matches any of the SMARTS patterns, else 0."""

    kind: Literal["smarts"]
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]


class FunctionComponent(ComponentConfig):
    """A user's Python function, `module:function`: a SMILES in, a number out."""

    kind: Literal["function"]
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


class ProcessComponent(ComponentConfig):
    """A user's program: reads one SMILES a line on stdin, writes one JSON line for each on stdout."""

    kind: Literal["process"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]


Component = Annotated[
    PropertyComponent | SimilarityComponent | SmartsComponent | FunctionComponent | ProcessComponent,
    Field(discriminator="kind"),
]


class OracleConfig(Config):
    """How a molecule is scored."""

    components: Annotated[tuple[Component, ...], Field(min_length=1)]
    aggregation: Literal["geometric_mean", "product"] = "geometric_mean"
    failed: Literal["exclude", "zero"] = "exclude"

    @field_validator("components")
    @classmethod
    def _distinct(cls, components: tuple[ComponentConfig, ...]) -> tuple[ComponentConfig, ...]:
        names = [component.name for component in components]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"a different name for each component; {twice!r} comes twice")
        return components


class ReplayConfig(Config):
    """Replay buffer and augmented memory."""

    size: Count = 100
    sample: Count = 10
    augmentation_rounds: Count = 2


class ScaffoldFilterConfig(Config):
    """Identical-Murcko-scaffold filter."""

    bucket_size: PositiveInt = 10
    min_reward: Number


class CollapseConfig(Config):
    """What to do when the agent stops finding new molecules."""

    action: Literal["warn", "stop"] = "warn"
    window: PositiveInt = 10
    min_new: Probability = 0.1


class MoleculesConfig(Config):
    """A comparison of algorithms × seeds on one design task; one of each is a single run."""

    kind: Literal["molecules"]
    algorithm: Annotated[tuple[Literal["reinvent", "mara"], ...], Field(min_length=1)]
    seeds: Seeds = (0,)
    budget: PositiveInt
    screen: Number
    oracle: OracleConfig
    prior: Path | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: PositiveInt = 64
    max_tokens: PositiveInt = 128
    max_steps: PositiveInt | None = None
    sigma: PositiveFloat = 128.0
    learning_rate: PositiveFloat = 1e-4
    mara: MaraConfig = MaraConfig()
    replay: ReplayConfig = ReplayConfig()
    scaffold_filter: ScaffoldFilterConfig | None = None
    collapse: CollapseConfig = CollapseConfig()
    stop_at_hits: PositiveInt | None = None
    circle_distance: Probability = 0.75
    checkpoint_every: PositiveInt = 20
    workers: PositiveInt = 1
    threads: PositiveInt | None = None

    _one_or_several = field_validator("algorithm", "seeds", mode="before")(one_or_several)
    _distinct = field_validator("algorithm", "seeds")(distinct)
