"""A method: what it makes of rewards, where that comes to rest, what it needs, and what it is called."""

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
"""What a method remembers between batches: tensors, numbers, strings, and lists and dicts of these."""


@final
@dataclass(frozen=True, kw_only=True)
class Batch:
    """All samples of one generation, gathered from every process; all tensors of shape (N,).

    rewards: weighted sum of the reward functions, NaN where none gave one. group_ids: samples with one id are
    responses to one prompt, drawn together; numbered anew in each batch. lengths: tokens that the model wrote
    and that count; 0 is an empty response, None says that none is empty. ref_logprobs, logprobs: log π_ref(y)
    and log π(y) under the policy that drew y, of the whole response, nats. outcome_ids, prompt_ids: integers
    that mean the same outcome and the same prompt in every batch and on every process (`stable_ids`); an
    outcome of −1 is none, such as that of an invalid response. outcome_probabilities: probability of each
    sample's outcome where the trainer knows it, or counts it over more than the group. wants_metrics: False
    where nobody logs figures, as in small worlds that take thousands of steps.

    What a method does not ask for may be None.

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
    """What a method makes of a batch.

    rewards: (N,), NaN where the batch's are and nowhere else. metrics: figures to log; one that has no
    meaning in this batch, such as the mean over no samples, is NaN. state: to be handed to the next call;
    None for a method without one. ref_logprobs: (N,) instead of the reference's in the KL, where the
    method changes it (MARA's Algorithm 2).
    """

    rewards: Tensor
    metrics: dict[str, float]
    state: State | None = None
    ref_logprobs: Tensor | None = None


class Method(ABC):
    """Rewards in, rewards out; the optimum of that; what it needs of a trainer; its names in reports.

    A subclass is a frozen dataclass whose fields are its settings, each declared by `setting`. Trainers,
    recipes, reports, audits and worlds ask a method and know none by name. To add one, write its module and
    put the class into `METHODS`.
    """

    name: ClassVar[str]
    """In recipes, logs and run folders."""
    label: ClassVar[str]
    """In reports."""
    color: ClassVar[str]
    """In figures, #rrggbb."""
    law: ClassVar[str]
    """Its optimum in one line, for tables."""
    source: ClassVar[str]
    """Who published it."""

    def __post_init__(self) -> None:
        check_settings(self)

    # --- What a trainer must supply or must not do. By default nothing, and anything. ---

    @property
    def needs_reference(self) -> bool:
        """Whether log π_ref of whole responses is needed, and with it β > 0."""
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
        """Whether `prompt_ids` are needed, by which prompts are known again in later batches."""
        return False

    @property
    def takes_outcome_probabilities(self) -> bool:
        """Whether `outcome_probabilities` of a batch replace its own count of outcomes."""
        return False

    @property
    def baseline_is_worth_a_sample(self) -> bool:
        """Whether without a KL groups of G without a baseline rest where those of G + 1 do with the group's.

        `optimum` is that with a baseline; where this is False, without one it is not known from group counts.
        """
        return False

    @property
    def couples_prompts(self) -> bool:
        """Whether rewards depend on samples of other prompts, as by a quantile of the whole batch."""
        return False

    @property
    def needs_sequence_kl(self) -> bool:
        """Whether its optimum needs the KL of whole responses: one per token, states held fixed, is another.

        Such a method adds log-probabilities of whole responses to the rewards. The gradient of a per-token KL
        lacks what a token does to the KL of those after it, so that the two do not cancel at any β.
        """
        return False

    @property
    def contains_kl(self) -> bool:
        """Whether the rewards hold the pull to the reference already, so that no KL may be added."""
        return False

    @property
    def changes_reference(self) -> bool:
        """Whether results carry another log π_ref for the KL, which must then be inside the rewards."""
        return False

    @property
    def has_state(self) -> bool:
        """Whether a call takes what the one before returned; evaluation leaves the state as it is."""
        return False

    @property
    def takes_negative_rewards(self) -> bool:
        """Whether rewards may be below 0."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """Whether dividing the new rewards by their standard deviation leaves the optimum in place."""
        return True

    @property
    def has_own_baseline(self) -> bool:
        """Whether the new rewards are advantages, from which no baseline must be subtracted."""
        return False

    @property
    def min_group_size(self) -> int:
        """Fewest samples of a prompt that the method can use."""
        return 1

    def group_warning(self, group_size: int) -> str | None:
        """What is missing in groups of this size, and what helps, in one line; None if nothing is.

        Trainers, recipes and audits pass it on. It is about the optimum: a group that is too small to be used
        at all is below `min_group_size`.
        """
        del group_size
        return None

    @property
    def key(self) -> OutcomeKey | None:
        """What turns the text of a response into its outcome, where the user gave that with the method."""
        return None

    # --- What it says of itself. ---

    def describe(self) -> str:
        """Its settings in one line, for reports; empty where it has none."""
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
        """Log-probabilities where training comes to rest, (..., K), nats; None where that is not known.

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

        state: what the result of the batch before had; None before the first. Raises InputError for a batch
        that lacks what the method needs, or holds what it does not take.
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
    """A field of a method: what it means and its bounds, for Python, recipes and the docs at once.

    >>> field = setting("From which reward on a sample is good.", default=1.0, at_least=0)
    >>> field.metadata["doc"]
    'From which reward on a sample is good.'
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most}
    return dataclasses.field(
        default=default, metadata={"doc": doc, "bounds": bounds, "in_recipes": in_recipes}
    )


def recipe_fields(method: type[Method]) -> dict[str, "dataclasses.Field[Any]"]:
    """The settings of a method that a recipe can give, by name; those that are functions are left out.

    >>> list(recipe_fields(EntropyBonus))
    ['entropy']
    """
    assert dataclasses.is_dataclass(method)  # noqa: S101  # for type checkers: a Method is one
    return {f.name: f for f in dataclasses.fields(method) if f.metadata.get("in_recipes", False)}


def check_settings(method: Method) -> None:
    """Raises InputError for a number outside its bounds, a text that is no choice, or neither."""
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
    """What a method asks for. Raises InputError where a trainer did not give it."""
    if value is None:
        raise InputError(f"`{name}` of the batch is needed for this method; got None")
    return value


def not_negative(label: str, rewards: Tensor, *, why: str) -> None:
    """Raises InputError for a negative reward, in one line that says what helps."""
    if bool((rewards < 0).any()):
        lowest = float(rewards[rewards < 0].min())
        raise InputError(
            f"rewards must not be negative for {label}, {why}; got {lowest:g}. Clip them at 0, or take their "
            "exponential: a shift would change the optimum"
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
