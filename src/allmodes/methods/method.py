"""The interface of a method: its reward transform, its optimum, its needs, and its names."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, final, get_args, get_origin, get_type_hints

from torch import Tensor

from allmodes.checks import check_choice, check_ids, check_same_shape, check_vector
from allmodes.errors import InputError

KL = Literal["reverse", "forward"]
OutcomeKey = Callable[[str], Hashable | None]
"""The text of a response → its outcome; None for an invalid one."""
State = Mapping[str, Any]
"""A method's state between batches: tensors, numbers, strings, and lists and dicts of these."""


@final
@dataclass(frozen=True, kw_only=True)
class Batch:
    """All samples of one generation, gathered from every process; all tensors of shape (N,).

    rewards: weighted sum of the reward functions, NaN if none gave one. group_ids: samples with one id are
    responses to one prompt, drawn together; numbered anew in each batch. lengths: number of unmasked tokens
    of the model; 0 is an empty response, None means that none is empty. ref_logprobs, logprobs: log π_ref(y)
    and log π(y) under the policy that drew y, of the whole response, nats. outcome_ids, prompt_ids: integers
    that identify the outcome and the prompt across batches and processes (`stable_ids`); −1 is no outcome,
    for example of an invalid response. outcome_probabilities: probability of each sample's outcome, if the
    trainer knows it or estimates it from more than the group. wants_metrics: False if no figures are logged,
    as in small worlds with thousands of steps.

    Fields that a method does not need may be None.

    >>> ids = torch.tensor([0, 0, 1, 2])  # the first two say the same
    >>> logprobs = torch.tensor([-1.0, -3.0, -3.0, -2.0])
    >>> rewards, group_ids = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.zeros(4, dtype=torch.long)
    >>> batch = Batch(
    ...     rewards=rewards,
    ...     group_ids=group_ids,
    ...     prompt_ids=group_ids,
    ...     outcome_ids=ids,
    ...     logprobs=logprobs,
    ...     ref_logprobs=logprobs,
    ...     lengths=torch.full((4,), 10),
    ... )
    >>> batch.is_scored
    tensor([True, True, True, True])
    """

    rewards: Tensor
    group_ids: Tensor
    lengths: Tensor | None = None
    ref_logprobs: Tensor | None = None
    logprobs: Tensor | None = None
    outcome_ids: Tensor | None = None
    prompt_ids: Tensor | None = None
    outcome_probabilities: Tensor | None = None
    wants_metrics: bool = True

    def __post_init__(self) -> None:
        check_vector("rewards", self.rewards)
        check_ids("group_ids", self.group_ids, "rewards", self.rewards)
        for name in ("lengths", "ref_logprobs", "logprobs", "outcome_probabilities"):
            value = getattr(self, name)
            if value is not None:
                check_same_shape(name, value, "rewards", self.rewards)
        for name in ("outcome_ids", "prompt_ids"):
            value = getattr(self, name)
            if value is not None:
                check_ids(name, value, "rewards", self.rewards)

    @property
    def is_scored(self) -> Tensor:
        """Which samples have a reward, (N,) of booleans."""
        return ~self.rewards.isnan()


@final
@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a method for a batch.

    rewards: (N,), NaN exactly where the batch's rewards are NaN. metrics: figures to log; NaN if undefined
    for this batch, such as a mean over no samples. state: to be passed to the next call; None for a method
    without state. ref_logprobs: (N,), replaces the reference's in the KL if the method changes it (MARA's
    Algorithm 2).
    """

    rewards: Tensor
    metrics: dict[str, float]
    state: State | None = None
    ref_logprobs: Tensor | None = None


class Method(ABC):
    """A reward transform with its optimum, its needs of a trainer, and its names in reports.

    A subclass is a frozen dataclass whose fields are its settings, each declared by `setting`. Trainers,
    recipes, reports, audits and worlds query these properties and know no method by name. To add a method,
    write its module and add the class to `METHODS`.
    """

    name: ClassVar[str]
    """Name in recipes, logs and run folders."""
    label: ClassVar[str]
    """Name in reports."""
    color: ClassVar[str]
    """Colour in figures, #rrggbb."""
    law: ClassVar[str]
    """The optimum in one line, for tables."""
    source: ClassVar[str]
    """Publication."""

    def __post_init__(self) -> None:
        check_settings(self)

    # --- What a trainer must supply or must not do; by default no requirement. ---

    @property
    def needs_reference(self) -> bool:
        """Whether log π_ref of whole responses is needed, and therefore β > 0."""
        return False

    @property
    def needs_policy(self) -> bool:
        """Whether log π of whole responses under the sampling policy is needed."""
        return False

    @property
    def needs_outcomes(self) -> bool:
        """Whether `outcome_ids` are needed."""
        return False

    @property
    def needs_prompts(self) -> bool:
        """Whether `prompt_ids` are needed, which identify prompts across batches."""
        return False

    @property
    def takes_outcome_probabilities(self) -> bool:
        """Whether `outcome_probabilities` of a batch replace the method's own counts of outcomes."""
        return False

    @property
    def baseline_is_worth_a_sample(self) -> bool:
        """Whether, without a KL, G samples without baseline have the optimum of G + 1 with the group's.

        `optimum` is the optimum with a baseline; if this is False, the optimum without one is not known.
        """
        return False

    @property
    def couples_prompts(self) -> bool:
        """Whether rewards depend on samples of other prompts, as with a quantile of the whole batch."""
        return False

    @property
    def needs_sequence_kl(self) -> bool:
        """Whether the optimum requires the KL of whole responses, since a KL per token has another optimum.

        Such a method adds log-probabilities of whole responses to the rewards. The gradient of a KL per
        token, with the states fixed, ignores the effect of a token on the KL of later tokens, so the two do
        not cancel at any β.
        """
        return False

    @property
    def contains_kl(self) -> bool:
        """Whether the rewards already contain the pull to the reference, so that no KL may be added."""
        return False

    @property
    def changes_reference(self) -> bool:
        """Whether results have another log π_ref for the KL, which must then be in the rewards."""
        return False

    @property
    def has_state(self) -> bool:
        """Whether a call needs the state of the previous call; evaluation does not change the state."""
        return False

    @property
    def takes_negative_rewards(self) -> bool:
        """Whether rewards may be below 0."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """Whether dividing the new rewards by their standard deviation keeps the optimum."""
        return True

    @property
    def has_own_baseline(self) -> bool:
        """Whether the new rewards are advantages, from which no baseline may be subtracted."""
        return False

    @property
    def min_group_size(self) -> int:
        """Smallest number of samples of a prompt that the method can use."""
        return 1

    def group_warning(self, group_size: int) -> str | None:
        """A one-line warning if groups of this size change the optimum, with a remedy; None if they do not.

        Trainers, recipes and audits show it. Groups that are too small to be used at all are below
        `min_group_size`.
        """
        del group_size
        return None

    @property
    def key(self) -> OutcomeKey | None:
        """The function from the text of a response to its outcome, if the user gave one with the method."""
        return None

    # --- Description. ---

    def describe(self) -> str:
        """The settings in one line, for reports; empty if there are none."""
        return "; ".join(
            f"{name.replace('_', ' ')} {_shown(getattr(self, name))}"
            for name in recipe_fields(type(self))
            if getattr(self, name) is not None
        )

    def optimum(
        self,
        ref_logprobs: Tensor,
        rewards: Tensor,
        *,
        beta: float,
        kl: KL = "reverse",
        outcome_ids: Tensor | None = None,
        group_size: int | None = None,
    ) -> Tensor | None:
        """Log-probabilities of the optimum, (..., K), nats; None if it is not known.

        ref_logprobs, rewards: (..., K) of all strings, normalised over the last dimension. beta: strength of
        the KL of whole responses, 0 for none. outcome_ids: (K,), strings with one id are one outcome; None
        if each is its own. group_size: samples of a prompt that share a baseline and counts; None is many.
        Raises InputError as the target does.
        """
        del ref_logprobs, rewards, beta, kl, outcome_ids, group_size
        return None

    @abstractmethod
    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """The new rewards of a batch under a KL of strength β, a number or (N,).

        state: the state in the result of the previous batch; None for the first. Raises InputError for a
        batch that lacks a needed field or has values that the method does not accept.
        """


def setting(
    doc: str,
    *,
    default: Any = dataclasses.MISSING,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    in_recipes: bool = True,
) -> Any:
    """A field of a method with its description and bounds, used in Python, recipes and docs.

    >>> field = setting("Smallest reward of a good sample.", default=1.0, at_least=0)
    >>> field.metadata["doc"]
    'Smallest reward of a good sample.'
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most}
    return dataclasses.field(
        default=default, metadata={"doc": doc, "bounds": bounds, "in_recipes": in_recipes}
    )


def recipe_fields(method: type[Method]) -> dict[str, "dataclasses.Field[Any]"]:
    """The settings of a method that a recipe can give, by name; settings that are functions are left out.

    >>> list(recipe_fields(EntropyBonus))
    ['entropy']
    """
    assert dataclasses.is_dataclass(method)  # noqa: S101  # for type checkers: a Method is one
    return {f.name: f for f in dataclasses.fields(method) if f.metadata.get("in_recipes", False)}


def check_settings(method: Method) -> None:
    """Raise InputError for a number outside its bounds, an unknown choice, or a wrong type."""
    assert dataclasses.is_dataclass(method)  # noqa: S101
    types = get_type_hints(type(method))
    for field in dataclasses.fields(method):
        value: Any = getattr(method, field.name)
        kind = types[field.name]
        if get_origin(kind) is Literal:
            check_choice(field.name, value, get_args(kind))
        kinds = {kind, *get_args(kind)}
        if not kinds & {int, float} or callable(value) or (value is None and type(None) in kinds):
            continue
        bounds = field.metadata.get("bounds", {})
        low, above, high = (bounds.get(key) for key in ("at_least", "above", "at_most"))
        whole = float not in kinds
        fits = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        fits = fits and value == value  # not NaN
        fits = fits and (low is None or value >= low)
        fits = fits and (above is None or value > above)
        fits = fits and (high is None or value <= high)
        if not fits:
            got = f"{value:g}" if isinstance(value, Real) else repr(value)
            raise InputError(f"`{field.name}` must be {_range(low, above, high, whole=whole)}; got {got}")
        has_bounds = any(bound is not None for bound in (low, above, high))
        if has_bounds and isinstance(value, Real) and not math.isfinite(value):
            raise InputError(f"`{field.name}` must be a finite number; got {value:g}")


def supplied(name: str, value: Tensor | None) -> Tensor:
    """A field of the batch that a method needs. Raises InputError if it is None."""
    if value is None:
        raise InputError(f"`{name}` of the batch is needed for this method; got None")
    return value


def not_negative(label: str, rewards: Tensor, *, why: str) -> None:
    """Raise InputError for a negative reward, in one line with a remedy."""
    if bool((rewards < 0).any()):
        lowest = float(rewards[rewards < 0].min())
        raise InputError(
            f"rewards must not be negative for {label}, {why}; got {lowest:g}. Clip them at 0, or use their "
            "exponential; adding a constant would change the optimum"
        )


def mean(values: Tensor) -> float:
    """For a metric; NaN for none."""
    return float(values.double().mean())


def largest(values: Tensor) -> float:
    """For a metric; NaN for none."""
    return float(values.max()) if len(values) else float("nan")


def _range(low: float | None, above: float | None, high: float | None, *, whole: bool) -> str:
    least = "" if low is None else f"at least {low:g}"
    if above is not None:
        least = f"above {above:g}"
    most = "" if high is None else f"at most {high:g}"
    limits = " and ".join(part for part in (least, most) if part)
    return ("a whole number " + limits).strip() if whole else limits or "a number"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value.replace("_", " ") if isinstance(value, str) else str(value)
