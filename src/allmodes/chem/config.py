"""What a run of molecular design can be told. `recipes/molecules.toml` explains it by example."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from allmodes.chem.oracles.config import OracleConfig
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

Algorithm = Literal["reinvent", "mara", "grpo", "ips-grpo"]


class ReplayConfig(Config):
    """Replay buffer and augmented memory."""

    size: Count = 100
    """How many of the best molecules so far the buffer keeps."""
    sample: Count = 10
    """How many of them join each update."""
    augmentation_rounds: SmallCount = 2
    """Further updates after each one, on other spellings of the same molecules (augmented memory)."""


class ScaffoldFilterConfig(Config):
    """Identical-Murcko-scaffold filter."""

    bucket_size: PositiveInt = 10
    """So many molecules of one Murcko scaffold are rewarded; later ones get 0."""
    min_reward: Probability
    """Molecules from this reward on count in the buckets."""


class IpsConfig(Config):
    """Inverse probability scaling: what an outcome is, and over which samples it is counted.

    Samples are counted as drawn, before duplicates are merged.
    """

    outcome: Literal["molecule", "scaffold", "cluster"] = "scaffold"
    """What is the same outcome: a molecule, a Murcko scaffold, or a cluster of similar molecules."""
    frequency: Literal["batch", "history"] = "batch"
    """Whether p̂, the share of an outcome, is taken over the batch or over the whole run."""
    min_probability: Probability = 0.0
    """Lower limit of p̂, so that a rare outcome is not divided by almost nothing."""
    cluster_distance: Probability = 0.65
    """Tanimoto distance up to which molecules are in one cluster."""


class CollapseConfig(Config):
    """What to do when the agent stops finding new molecules."""

    action: Literal["warn", "stop"] = "warn"
    """What happens when few samples are new molecules: a warning, or the end of the run."""
    window: Size = 10
    """Steps over which new molecules are counted."""
    min_new: Probability = 0.1
    """Share of the samples of these steps that must be new molecules."""


class MoleculesMaraConfig(MaraConfig):
    """MARA's settings for rewards between 0 and 1."""

    threshold: Probability | BatchQuantileThreshold = 0.8
    """τ, the reward from which on all molecules shall be equally likely."""


class MoleculesConfig(Config):
    """A comparison of algorithms × seeds on one design task; one of each is a single run."""

    kind: Literal["molecules"]
    """What the recipe is."""
    algorithm: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    """What is compared; one name is a single run."""
    seeds: Seeds = (0,)
    """Each algorithm runs once with each seed."""
    budget: PositiveInt
    """Oracle calls of each run, counted exactly; one call is one new molecule."""
    screen: Probability
    """Reward from which on a molecule counts as a hit."""
    oracle: OracleConfig
    """How a molecule is scored."""
    prior: Path | None = None
    """The reference policy: a .safetensors file, "lstm" or "mamba"; "lstm" if left out."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the neural network; bfloat16 about halves the time on processors that have it."""
    batch_size: Size = 64
    """Molecules that are sampled for each update."""
    max_tokens: Size = 128
    """Longest molecule that the agent may write, in SMILES tokens."""
    max_steps: PositiveInt | None = None
    """Updates after which a run ends; 10 × budget / batch_size if left out."""
    sigma: PositiveFloat = 128.0
    """Weight of the reward against the prior; the β of the KL is 1/σ."""
    learning_rate: LearningRate = 1e-4
    """Adam's rate."""
    lookahead: SmallCount = 0
    """Batches that are sampled and scored ahead of the update, so that no worker waits for it."""
    mara: MoleculesMaraConfig = MoleculesMaraConfig()
    """For algorithm "mara"."""
    ips: IpsConfig = IpsConfig()
    """For algorithm "ips-grpo"."""
    replay: ReplayConfig = ReplayConfig()
    """Replay buffer and augmented memory."""
    scaffold_filter: ScaffoldFilterConfig | None = None
    """Filter of identical scaffolds; none if left out."""
    collapse: CollapseConfig = CollapseConfig()
    """What happens when the agent stops finding new molecules."""
    stop_at_hits: PositiveInt | None = None
    """Hits after which a run ends; the whole budget is used if left out."""
    circle_distance: Probability = 0.75
    """Tanimoto distance of #Circles: hits that are so far apart count as different."""
    checkpoint_every: PositiveInt = 20
    """Updates between two checkpoints."""
    workers: Workers = 1
    """Runs that are done at the same time."""
    threads: Workers | None = None
    """Threads of each run; a share of all cores if left out."""

    _one_or_several = field_validator("algorithm", "seeds", mode="before")(one_or_several)
    _distinct = field_validator("algorithm", "seeds")(distinct)
