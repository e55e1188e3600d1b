"""Configuration of training a language model. `recipes/one-two.toml` explains it by example."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from allmodes.errors import InputError
from allmodes.methods import Method
from allmodes.reports.formatting import plural
from allmodes.runs.config import (
    Config,
    GroupSize,
    LearningRate,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seeds,
    Size,
    Workers,
    distinct,
    one_or_several,
)
from allmodes.runs.method_settings import MethodName, MethodTables, method_tables, move_old_tables
from allmodes.text.task_kinds import TaskKind

STAND_IN = "stand-in"
ALL_LINEAR = "all-linear"

Trainer = Literal["grpo", "rloo", "flowrl"]
KL = Literal["reverse", "forward", "token-reverse", "token-forward"]


class LoRA(Config):
    """A low-rank adapter: ΔW = (alpha / r) BA, trained instead of the model's own weights W."""

    r: Size = 16
    """Rank of the update of each matrix."""
    alpha: PositiveFloat = 32.0
    """The update is scaled by alpha / r."""
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    """Share of an adapter's inputs that are dropped in training."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (ALL_LINEAR,)
    """Names of the layers with an adapter; "all-linear": all linear layers except the output."""

    _one_or_several = field_validator("targets", mode="before")(one_or_several)


class FlowRLSettings(Config):
    """The trajectory-balance loss of trainer "flowrl"; docs/guide/flowrl.md explains it."""

    form: Literal["exact", "paper"] = "exact"
    """The optimum π_ref exp(R/β), or FlowRL as published, whose optimum depends on lengths."""
    log_partition: Literal["learned", "group"] = "learned"
    """Whether log Z of a prompt is learned, or is the mean of its group."""
    reward_factor: PositiveFloat = 15.0
    """Factor of the normalised rewards in the paper's form, which has no β."""
    head_learning_rate: LearningRate = 1e-3
    """Learning rate of the network for log Z."""
    method: Annotated[tuple[MethodName, ...], Field(min_length=1)] | None = None
    """Methods of the recipe that it trains; all if left out."""

    _one_or_several = field_validator("method", mode="before")(
        lambda value: None if value is None else one_or_several(value)
    )


class WarmStart(Config):
    """A short supervised phase on examples of the task's format, once, before all runs.

    log π_ref is that of the warm-started model.
    """

    steps: PositiveInt = 24
    """Maximum number of supervised steps."""
    batch_size: Size = 8
    """Examples per step."""
    learning_rate: LearningRate = 4e-5
    """Peak learning rate of Adam for all weights, between a warm-up and a cosine decay to zero."""
    valid: Probability = 0.5
    """Share of examples with a known answer; the others are near misses with a reward of 0."""
    skew: Annotated[float, Field(strict=True, ge=1, le=1e9)] = 4.0
    """Odds of each known answer against the next one: with 4, 80 % of valid examples give the first of 2."""
    target: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    """Share of valid responses that it must reach, and at which it stops; all steps if left out."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0
    """Seed of the examples."""

    def describe(self) -> str:
        """The settings as a sentence for reports."""
        until = "" if self.target is None else f", until {self.target:.0%} of responses are valid"
        return (
            f"at most {plural(self.steps, 'step')} of {plural(self.batch_size, 'example')}{until}, rate "
            f"{self.learning_rate:g}; {self.valid:.0%} of the examples valid, odds of {self.skew:g} of each "
            "known answer against the next"
        )


# Tasks name the outcome of a response, so that a method with the choice looks at outcomes.
if TYPE_CHECKING:
    Methods = MethodTables
else:
    Methods = method_tables(threshold=0.5, level="outcomes")


def _trusts_code(value: Any) -> bool:
    """Whether `trust_remote_code` is asked for anywhere in these settings."""
    if isinstance(value, dict):
        return any(
            (key == "trust_remote_code" and inner is not False) or _trusts_code(inner)
            for key, inner in value.items()
        )
    return isinstance(value, list) and any(map(_trusts_code, value))


class TextConfig(Config):
    """A comparison of methods × trainers × KLs × βs × seeds on one task; one of each is a single run."""

    kind: Literal["text"]
    """Kind of the recipe."""
    task: TaskKind
    """The task: prompts and rewards."""
    model: Annotated[str, Field(min_length=1)] = STAND_IN
    """Name on a hub, folder or .gguf file; "stand-in" is a tiny model built at run time."""
    warm_start: WarmStart | None = None
    """Supervised phase that first teaches a weak model the format; none if left out."""
    trainer: Annotated[tuple[Trainer, ...], Field(min_length=1)]
    """TRL's trainers."""
    kl: Annotated[tuple[KL, ...], Field(min_length=1)]
    """KL between the policy and the base model: per token or of whole responses."""
    method: Annotated[tuple[MethodName, ...], Field(min_length=1)]
    """Methods, also combined as in "mara+entropy"; the others are tested against the first."""
    beta: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """Strengths of the KL."""
    seeds: Seeds = (0,)
    """Every combination runs once with each seed."""
    steps: PositiveInt
    """Training steps."""
    prompts_per_step: Size = 1
    """Prompts in each step."""
    group_size: GroupSize
    """Responses to each prompt."""
    micro_batch: Size | None = None
    """Completions per forward pass; all of an update if left out."""
    updates_per_step: Size = 1
    """Number of updates that the responses of a step are split into."""
    learning_rate: LearningRate
    """AdamW's rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Schedule of the learning rate."""
    scale_rewards: bool = False
    """Whether advantages are divided by a standard deviation (GRPO: of the group; RLOO: of the batch)."""
    max_tokens: Size
    """Maximum length of a response, in tokens."""
    max_prompt_tokens: Size | None = None
    """Prompts with more tokens are left out; no limit if left out."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature, in training and at the end."""
    chat_template: dict[str, Any] = Field(default_factory=dict)
    """Settings of the model's chat template."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation, also on processors with bfloat16; weights and updates are float32."""
    lora: LoRA | None = None
    """Train an adapter and keep the model's weights fixed; all weights are trained if left out."""
    share_prompts: bool = True
    """Whether each prompt is processed once for all its responses, if the trainer allows it."""
    gradient_checkpointing: bool = False
    """Whether to save memory at the cost of time."""
    flowrl: FlowRLSettings = FlowRLSettings()
    """Settings of trainer "flowrl"."""
    methods: Methods = Methods()
    """Settings of each method."""
    samples: PositiveInt = 1000
    """Responses that each policy writes to each prompt at the end."""
    sample_prompts: PositiveInt | None = None
    """Number of prompts that are used for this; all if left out."""
    sample_batch: Size = 256
    """Responses generated at once."""
    bin: PositiveInt = 8
    """Steps per point of the curves."""
    checkpoint_every: PositiveInt = 100
    """Steps between two checkpoints."""
    save_model: bool = False
    """Whether the trained weights are kept."""
    log_samples: bool = True
    """Whether every sample of training is kept, for `allmodes audit`."""
    workers: Workers = 1
    """Number of parallel runs."""
    threads: Workers | None = None
    """Threads per run; an equal share of all cores if left out."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Any other setting of TRL's GRPOConfig and RLOOConfig."""

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Move `[mara]` to `[methods.mara]`, and `entropy = 0.01` to `[methods.entropy]`."""
        return cast("dict[str, Any]", move_old_tables(values))

    @model_validator(mode="before")
    @classmethod
    def _task_by_name(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("task"), str):
            return {**values, "task": {"kind": values["task"]}}
        return values

    _one_or_several = field_validator("trainer", "kl", "method", "beta", "seeds", mode="before")(
        one_or_several
    )
    _distinct = field_validator("trainer", "kl", "method", "beta", "seeds")(distinct)

    @field_validator("chat_template")
    @classmethod
    def _not_reserved(cls, values: dict[str, Any]) -> dict[str, Any]:
        own = {"conversation", "tokenize", "add_generation_prompt", "chat_template", "return_dict"} & set(
            values
        )
        if own:
            raise ValueError(f"settings of the template alone; {sorted(own)[0]!r} is set by the training")
        return values

    @field_validator("trl", "chat_template")
    @classmethod
    def _runs_no_code(cls, values: dict[str, Any]) -> dict[str, Any]:
        if _trusts_code(values):
            raise ValueError("no trust_remote_code: allmodes runs no code that comes with a model")
        return values

    @model_validator(mode="after")
    def _keeps_no_secret(self) -> "TextConfig":  # of the whole, so that the message does not repeat the value
        secret = next((key for key in ("hub_token", "push_to_hub_token") if self.trl.get(key)), None)
        if secret is not None:
            raise ValueError(
                f"no `trl.{secret}`, which config.json would keep: set HF_TOKEN in the environment"
            )
        return self

    @model_validator(mode="after")
    def _known_range(self) -> "TextConfig":
        for name, table in self.methods if self.task.rewards_are_shares else ():
            tau = getattr(table, "threshold", None)
            if isinstance(tau, float) and not 0 <= tau <= 1:
                raise ValueError(
                    f"`methods.{name}.threshold` between 0 and 1, as the rewards of task {self.task.kind!r} "
                    f"are; got {tau}"
                )
        return self

    @model_validator(mode="after")
    def _methods_can_be_made(self) -> "TextConfig":
        for name in self.method:
            try:
                fewest = self.methods.make(name).min_group_size
            except InputError as error:
                raise ValueError(f"settings of `methods` that fit each other; {error}") from error
            if self.group_size < fewest:
                raise ValueError(
                    f"group_size of at least {fewest} with method {name!r}; got {self.group_size}"
                )
        return self

    def _first(self, concerned: Callable[[Method], bool]) -> str | None:
        """The first method that a rule concerns."""
        return next((name for name in self.method if concerned(self.methods.make(name))), None)

    @model_validator(mode="after")
    def _kl_fits(self) -> "TextConfig":
        if "grpo" not in self.trainer:
            return self
        if "forward" in self.kl and self.max_tokens > 1:
            whole = self._first(lambda method: method.needs_sequence_kl)
            if whole is not None:
                raise ValueError(
                    f"kl 'reverse' or 'token-forward' with trainer 'grpo' and method {whole!r}, whose bonus "
                    "is for the whole response while GRPO's forward KL is per token; `kl` has 'forward'"
                )
        per_token = next((kl for kl in self.kl if kl != "reverse"), None)
        if per_token is not None:
            inside = self._first(lambda method: method.contains_kl)
            if inside is not None:
                raise ValueError(
                    f"kl 'reverse' alone with trainer 'grpo' and method {inside!r}, whose rewards hold the "
                    f"KL of whole responses; `kl` has {per_token!r}"
                )
        return self

    @model_validator(mode="after")
    def _flow_fits(self) -> "TextConfig":
        other = next((name for name in self.flowrl.method or () if name not in self.method), None)
        if other is not None:
            raise ValueError(f"methods of `method` in `flowrl.method`; got {other!r}")
        if "flowrl" not in self.trainer:
            return self
        if self.flowrl.form == "paper" and len(self.beta) > 1:
            raise ValueError(
                f"one `beta` with trainer 'flowrl' in the paper's form, whose loss does not use β; got "
                f"{len(self.beta)}"
            )
        for name in self.flowrl.method or self.method:
            method = self.methods.make(name)
            if method.has_own_baseline:
                raise ValueError(
                    f"no method {name!r} with trainer 'flowrl', whose target π_ref exp(R/β) needs rewards "
                    "while this method returns advantages; `flowrl.method` selects the methods that it trains"
                )
            if self.flowrl.form == "paper" and not method.optimum_survives_std_normalization:
                raise ValueError(
                    f"flowrl.form = 'exact' with method {name!r}: the paper's form would divide its bonus "
                    "by a standard deviation; `flowrl.method` selects the methods that it trains"
                )
        return self

    @model_validator(mode="after")
    def _scaling_fits(self) -> "TextConfig":
        if not self.scale_rewards:
            return self
        own = self._first(lambda method: method.has_own_baseline)
        if "rloo" in self.trainer and own is not None:
            raise ValueError(f"scale_rewards = false with method {own!r}, which has its own baseline")
        broken = self._first(lambda method: not method.optimum_survives_std_normalization)
        if "grpo" in self.trainer and broken is not None:
            raise ValueError(
                f"scale_rewards = false with method {broken!r} and trainer 'grpo': a division by a "
                "standard deviation changes what this method adds to the rewards"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> "TextConfig":
        if "grpo" not in self.trainer and "reverse" not in self.kl:
            raise ValueError(
                f"kl 'reverse' with trainer {self.trainer[0]!r}, whose KL is of whole responses; `kl` is "
                f"{self.kl[0]!r}"
            )
        if self.warm_start is not None and not self.task.fits_stand_in:
            raise ValueError(
                f"no `warm_start` with task {self.task.kind!r}, which has no examples to learn from"
            )
        if self.model == STAND_IN and not self.task.fits_stand_in:
            raise ValueError(
                f"`model` with task {self.task.kind!r}: a name or a folder; a stand-in is for tasks that "
                "write examples"
            )
        whole = self.prompts_per_step * self.group_size
        if whole % self.updates_per_step:
            raise ValueError(
                f"prompts_per_step × group_size = {whole} to be a multiple of updates_per_step = "
                f"{self.updates_per_step}"
            )
        update = whole // self.updates_per_step
        if update % (self.micro_batch or update):
            raise ValueError(
                f"the {update} completions of an update to be a multiple of micro_batch = {self.micro_batch}"
            )
        return self
