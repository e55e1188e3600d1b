"""What a run of molecular design can be told. `recipes/molecules.toml` explains it by example."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from allmodes.runs.config import (
    Config,
    Count,
    LearningRate,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seeds,
    Size,
    SmallCount,
    Workers,
    distinct,
    one_or_several,
)
from allmodes.runs.mara_config import BatchQuantileThreshold, MaraConfig
from allmodes.runs.oracle_config import OracleConfig

Algorithm = Literal["reinvent", "mara", "grpo", "ips-grpo"]


class ReplayConfig(Config):
    """Replay buffer and augmented memory."""

    size: Count = 100
    sample: Count = 10
    augmentation_rounds: SmallCount = 2


class ScaffoldFilterConfig(Config):
    """Identical-Murcko-scaffold filter."""

    bucket_size: PositiveInt = 10
    min_reward: Probability


class IpsConfig(Config):
    """Inverse probability scaling: what an outcome is, and over which samples it is counted.

    Samples are counted as drawn, before duplicates are merged.
    """

    outcome: Literal["molecule", "scaffold", "cluster"] = "scaffold"
    frequency: Literal["batch", "history"] = "batch"
    min_probability: Probability = 0.0
    cluster_distance: Probability = 0.65


class CollapseConfig(Config):
    """What to do when the agent stops finding new molecules."""

    action: Literal["warn", "stop"] = "warn"
    window: Size = 10
    min_new: Probability = 0.1


class MoleculesMaraConfig(MaraConfig):
    """MARA's settings for rewards between 0 and 1."""

    threshold: Probability | BatchQuantileThreshold = 0.8


class MoleculesConfig(Config):
    """A comparison of algorithms × seeds on one design task; one of each is a single run."""

    kind: Literal["molecules"]
    algorithm: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    seeds: Seeds = (0,)
    budget: PositiveInt
    screen: Probability
    oracle: OracleConfig
    prior: Path | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: Size = 64
    max_tokens: Size = 128
    max_steps: PositiveInt | None = None
    sigma: PositiveFloat = 128.0
    learning_rate: LearningRate = 1e-4
    lookahead: SmallCount = 0  # batches that are sampled and scored ahead of the update, so that nobody waits
    mara: MoleculesMaraConfig = MoleculesMaraConfig()
    ips: IpsConfig = IpsConfig()
    replay: ReplayConfig = ReplayConfig()
    scaffold_filter: ScaffoldFilterConfig | None = None
    collapse: CollapseConfig = CollapseConfig()
    stop_at_hits: PositiveInt | None = None
    circle_distance: Probability = 0.75
    checkpoint_every: PositiveInt = 20
    workers: Workers = 1
    threads: Workers | None = None

    _one_or_several = field_validator("algorithm", "seeds", mode="before")(one_or_several)
    _distinct = field_validator("algorithm", "seeds")(distinct)
