"""Configuration of molecular design. `recipes/molecules.toml` explains it by example."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, Field, field_validator, model_validator

from allmodes.chem.arms import Arm, Loss, parse_arm, refusal
from allmodes.chem.oracles.config import OracleConfig
from allmodes.errors import InputError, shown
from allmodes.methods import Plain
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
from allmodes.runs.method_settings import MethodName, MethodTables, method_tables, move_old_tables
from allmodes.runs.tracking import TrackerName


class ReplayConfig(Config):
    """Replay buffer and augmented memory."""

    size: Count = 100
    """Number of best molecules so far that the buffer keeps."""
    sample: Count = 10
    """Number of them that join each update."""
    augmentation_rounds: SmallCount = 2
    """Further updates after each one, on other spellings of the same molecules (augmented memory)."""


class GeneticConfig(Config):
    """Offspring of the molecules in the replay buffer, scored together with the agent's own molecules."""

    offspring: Size = 64
    """Number per update; they count as oracle calls and reach the agent only through replay."""
    mutation: Probability = 0.5
    """Probability that a child of two molecules is also changed at one atom or bond."""


class ScaffoldFilterConfig(Config):
    """Identical-Murcko-scaffold filter."""

    bucket_size: PositiveInt = 10
    """Number of molecules per Murcko scaffold that are rewarded; later ones get 0."""
    min_reward: Probability
    """Smallest reward of molecules that count in the buckets."""


class OutcomesConfig(Config):
    """What an outcome is, and over which samples it is counted, for methods that count outcomes.

    Samples are counted as drawn, before duplicates are merged.
    """

    outcome: Literal["molecule", "scaffold", "cluster", "region"] = "scaffold"
    """What counts as one outcome: a molecule, a Murcko scaffold, a cluster of similar molecules, or a region:
    the first pattern that a molecule matches, or the reference that it is nearest to."""
    frequency: Literal["batch", "history"] = "batch"
    """Whether IPS divides by the share of an outcome in the batch or in the whole run."""
    cluster_distance: Probability = 0.65
    """Tanimoto distance up to which molecules are in one cluster."""
    regions: str | None = None
    """The component of the oracle, by name, whose patterns or references are the regions."""
    kept_from: PositiveInt = 20
    """Number of hits from which a region counts as kept in reports."""

    @model_validator(mode="after")
    def _has_regions(self) -> "OutcomesConfig":
        if self.outcome == "region" and self.regions is None:
            raise ValueError('`regions`, the name of a component, with `outcome` "region"')
        return self


class CollapseConfig(Config):
    """Action if the agent stops finding new molecules."""

    action: Literal["warn", "stop"] = "warn"
    """Action if few samples are new molecules: a warning, or the end of the run."""
    window: Size = 10
    """Steps over which new molecules are counted."""
    min_new: Probability = 0.1
    """Smallest share of new molecules among the samples of these steps."""


# Rewards lie between 0 and 1. Scaffolds and clusters hold good and bad molecules at once, so that a rule by
# the majority of an outcome's verdicts would leave good ones out.
if TYPE_CHECKING:
    Methods = MethodTables
else:
    Methods = method_tables(within={"threshold": (0.0, 1.0)}, threshold=0.8, min_good_share=0.0)


def _known_arm(name: str) -> str:
    try:
        parse_arm(name)
    except InputError as error:
        said = str(error).removeprefix("expected ").removeprefix("method must be ").partition("; got")[0]
        raise ValueError(said) from error
    return name


ArmName = Annotated[str, AfterValidator(_known_arm)]


class MoleculesConfig(Config):
    """A comparison of losses × methods × seeds on one design task; one of each is a single run."""

    alternatives: ClassVar = {
        "algorithm": ("loss", "method"),
        "loss": ("algorithm",),
        "method": ("algorithm",),
    }

    kind: Literal["molecules"]
    """Kind of the recipe."""
    loss: Annotated[tuple[Loss, ...], Field(min_length=1)] | None = None
    """Loss of an update: REINVENT's squared loss, or GRPO's with its advantages; "reinvent" if left
    out. Several are compared."""
    method: Annotated[tuple[MethodName, ...], Field(min_length=1)] | None = None
    """Transform of the rewards before the loss: "vanilla" is none, "mara+entropy" is both in sequence;
    "vanilla" if left out. Several are compared, each with each loss, and tested against the first."""
    algorithm: Annotated[tuple[ArmName, ...], Field(min_length=1)] | None = None
    """Pairs of method and loss instead of all combinations: "reinvent", "mara", "grpo", "ips-grpo", or
    METHOD-LOSS."""
    seeds: Seeds = (0,)
    """Each loss with each method runs once with each seed."""
    budget: PositiveInt
    """Oracle calls of each run, counted exactly; one call is one new molecule."""
    hit_threshold: Probability
    """Smallest reward of a hit."""
    oracle: OracleConfig
    """How a molecule is scored."""
    prior: Path | None = None
    """The reference policy: a .safetensors file, "lstm" or "mamba"; "lstm" if left out."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the neural network; bfloat16 about halves the time on processors with bfloat16."""
    batch_size: Size = 64
    """Molecules sampled per update."""
    max_tokens: Size = 128
    """Maximum length of a sampled molecule, in SMILES tokens."""
    max_steps: PositiveInt | None = None
    """Updates after which a run ends; 10 × budget / batch_size if left out."""
    sigma: PositiveFloat = 128.0
    """Weight of the reward against the prior; the β of the KL is 1/σ."""
    learning_rate: LearningRate = 1e-4
    """Adam's rate."""
    lookahead: SmallCount = 0
    """Batches sampled and scored ahead of the update, so that workers do not wait for it."""
    methods: Methods = Methods()
    """The settings of each method."""
    outcomes: OutcomesConfig = OutcomesConfig()
    """Definition of an outcome, for methods that count them."""
    replay: ReplayConfig = ReplayConfig()
    """Replay buffer and augmented memory."""
    genetic: GeneticConfig | None = None
    """Offspring of the best molecules so far, scored with the agent's own; none if left out."""
    scaffold_filter: ScaffoldFilterConfig | None = None
    """Filter of identical scaffolds; none if left out."""
    collapse: CollapseConfig = CollapseConfig()
    """Action if the agent stops finding new molecules."""
    stop_at_hits: PositiveInt | None = None
    """Hits after which a run ends; the whole budget is used if left out."""
    circle_distance: Probability = 0.75
    """Tanimoto distance of #Circles: hits farther apart than this count as different."""
    checkpoint_every: PositiveInt = 20
    """Updates between two checkpoints."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that show curves, settings and the best molecules during the run: "tensorboard", "trackio",
    "wandb"."""
    workers: Workers = 1
    """Number of parallel runs."""
    threads: Workers | None = None
    """Threads per run; an equal share of all cores if left out."""

    _one_or_several = field_validator("loss", "method", "algorithm", "seeds", "track", mode="before")(
        one_or_several
    )
    _distinct = field_validator("loss", "method", "algorithm", "seeds", "track")(distinct)

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Move `[mara]` and `[ips]` to `[methods]` and `[outcomes]`, and `screen` to `hit_threshold`."""
        values = cast("dict[str, Any]", move_old_tables(values, shared=("ips",)))
        for old, new in (("ips", "outcomes"), ("screen", "hit_threshold")):
            if old not in values:
                continue
            before, now = values.pop(old), values.get(new)
            if isinstance(before, dict) and isinstance(now, dict):
                twice = next((key for key in before if key in now), None)
                old, new, before = f"{old}.{twice}", f"{new}.{twice}", {**before, **now}
            else:
                twice = now
            if twice is not None:
                raise ValueError(f"only one of `{old}` and its new name `{new}`; both are given")
            values[new.partition(".")[0]] = before
        return values

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is compared, in order."""
        if self.algorithm is not None:
            return tuple(parse_arm(name) for name in self.algorithm)
        return tuple(
            Arm(loss, method)
            for loss in self.loss or ("reinvent",)
            for method in self.method or (Plain.name,)
        )

    @model_validator(mode="after")
    def _known_regions(self) -> "MoleculesConfig":
        name = self.outcomes.regions
        if name is None:
            return self
        component = next((one for one in self.oracle.components if one.name == name), None)
        if component is None:
            names = ", ".join(shown(one.name) for one in self.oracle.components)
            raise ValueError(f"`outcomes.regions`, a component's name: one of {names}; got {shown(name)}")
        if not component.has_regions:
            raise ValueError(
                "`outcomes.regions`, a component with several patterns of which any will do, or several "
                f"references of which the nearest counts; {shown(name)} has none"
            )
        return self

    @model_validator(mode="after")
    def _trainable(self) -> "MoleculesConfig":
        if self.algorithm is not None and (self.loss is not None or self.method is not None):
            raise ValueError("`algorithm`, or `loss` and `method`; got both")
        twice = next((arm for place, arm in enumerate(self.arms) if arm in self.arms[:place]), None)
        if twice is not None:
            raise ValueError(f"`algorithm` with each loss and method once; {twice.name} comes twice")
        if self.genetic is not None and self.replay.size < 2:
            raise ValueError(f"`replay.size` of at least 2 with [genetic]; got {self.replay.size}")
        for arm in self.arms:
            try:
                method = self.methods.make(arm.method)
            except InputError as error:
                raise ValueError(f"settings of `methods` that fit each other; {error}") from error
            why = refusal(arm.loss, method, batch_size=self.batch_size)
            if why is not None:
                raise ValueError(f"a method for the loss; {arm.name}: {why}")
        return self
