"""Every method there is as cases of tests, built from its class alone, and batches that hold all it may ask.

A new method needs no line here: settings without a default get a value by their name, or one within their
bounds; and every other choice of a setting, and one other number, is a case of its own.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from allmodes.methods import KL, METHODS, Batch, Method, Result, State, Then, make_method, setting, stable_ids
from allmodes.objectives import BatchQuantile, GroupQuantile
from allmodes.objectives.thresholds import Threshold
from allmodes.targets import reverse_kl_target

COMPOSITIONS = ("mara+entropy", "ips+entropy")
BY_NAME = {"threshold": 0.5}
"""Values of settings that have no default, where a test needs a sensible one."""


def settings_of(method: Method | type[Method]) -> dict[str, "dataclasses.Field[Any]"]:
    """The fields of a method by name."""
    assert dataclasses.is_dataclass(method)
    return {field.name: field for field in dataclasses.fields(method)}


def required(method: type[Method]) -> dict[str, Any]:
    """A value of each setting without a default."""
    types = get_type_hints(method)
    return {
        name: BY_NAME.get(name, _some(types[name], field.metadata.get("bounds", {})))
        for name, field in settings_of(method).items()
        if field.default is dataclasses.MISSING
    }


def build(name: str) -> Method:
    """The method of a name such as "mara" or "mara+entropy" at its defaults."""
    return make_method(name, {part: required(METHODS[part]) for part in name.split("+")})


def variants(method: type[Method]) -> dict[str, Method]:
    """A method at its defaults, and once with every other choice of each setting: {"mara": ..., ...}.

    Of a number one other: a default may hide what a setting does, as one half does for λ and 1 − λ.
    """
    plain = method(**required(method))
    found = {method.name: plain}
    for name, field in settings_of(method).items():
        default = getattr(plain, name)
        kind = get_type_hints(method)[name]
        for value in _choices(kind) or _other_number(kind, default, field.metadata["bounds"]):
            if value != default:
                found[f"{method.name}-{name}={value}"] = replace(plain, **{name: value})  # pyright: ignore
    return found


def cases() -> dict[str, Method]:
    """All methods with all their choices, and compositions: two usual ones, and all that hand something on.

    A state, or another reference for the KL, must come through a composition.
    """
    found = {case: made for method in METHODS.values() for case, made in variants(method).items()}
    handed_on = {
        f"{case}+entropy": Then(method, build("entropy"))
        for case, method in found.items()
        if (method.has_state or method.changes_reference) and not method.has_own_baseline
    }
    return {**found, **{name: build(name) for name in COMPOSITIONS}, **handed_on}


def complete_batch(
    rewards: Sequence[float] | Tensor,
    *,
    group_size: int = 4,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    empty: bool = True,
    **changes: Any,
) -> Batch:
    """A batch in which nothing is missing; some responses are empty, and some have no outcome."""
    generator = torch.Generator().manual_seed(seed)
    given = torch.as_tensor(rewards, dtype=dtype)
    count = len(given)
    lengths = torch.randint(0 if empty else 1, 5, (count,), generator=generator)
    words = torch.randint(0, 4, (count,), generator=generator).tolist()
    group_ids = torch.arange(count) // group_size

    def logprobs() -> Tensor:
        each = -3 * torch.rand(count, 5, generator=generator, dtype=torch.float64) - 0.05
        return torch.where(torch.arange(5) < lengths[:, None], each, 0).sum(1)

    own: dict[str, Any] = {
        "rewards": given,
        "group_ids": group_ids,
        "lengths": lengths,
        "ref_logprobs": logprobs(),
        "logprobs": logprobs(),
        "outcome_ids": stable_ids([("two", "four", "six", None)[word] for word in words]),
        "prompt_ids": stable_ids([f"prompt {group}" for group in group_ids.tolist()]),
    }
    return Batch(**{**own, **changes})


def simple_batch(rewards: Sequence[float], *, group: int = 4, **changes: Any) -> Batch:
    """Samples with log π_ref of −1, −2, ... and three tokens each, in groups of four, as TRL gives them."""
    count = len(rewards)
    own: dict[str, Any] = {
        "rewards": torch.tensor(rewards, dtype=torch.float32),
        "group_ids": torch.arange(count) // group,
        "lengths": torch.full((count,), 3),
        "ref_logprobs": -1.0 - torch.arange(count).double(),
        "logprobs": -2.0 - torch.arange(count).double() / 2,
    }
    return Batch(**{**own, **changes})


def same(left: Tensor, right: Tensor) -> bool:
    """Whether values are equal up to the rounding of float32."""
    return torch.allclose(left.double(), right.double(), atol=1e-6, equal_nan=True)


def some_rewards(count: int, *, seed: int = 0) -> Tensor:
    """Rewards from 0 to 1 in quarters, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (count,), generator=generator).double() / 4


def taken(batch: Batch, rows: Tensor, **changes: Any) -> Batch:
    """Some samples of a batch, in the order of `rows`."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    tensors = {name: value[rows] if isinstance(value, Tensor) else value for name, value in values.items()}
    return Batch(**{**tensors, **changes})


@final
@dataclass(frozen=True, kw_only=True)
class Toy(Method):
    """A method of a test's own, as small as one can be: rewards times a factor. Fixture: `toy_method`."""

    name: ClassVar[str] = "toy"
    label: ClassVar[str] = "toy"
    color: ClassVar[str] = "#123456"
    law: ClassVar[str] = "π_ref exp(f R/β)"
    source: ClassVar[str] = "a test"

    factor: float = setting("What rewards are multiplied by.", default=2.0, above=0)
    shape: Literal["linear", "square"] = setting("The power of the rewards.", default="linear")

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
        """That of plain RL on the new rewards."""
        del outcome_ids, group_size
        if kl != "reverse" or beta == 0:
            return None
        return reverse_kl_target(ref_logprobs, self._new(rewards), beta=beta)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward, or its square, times the factor."""
        del beta, state
        return Result(rewards=self._new(batch.rewards), metrics={})

    def _new(self, rewards: Tensor) -> Tensor:
        return self.factor * (rewards if self.shape == "linear" else rewards.square())


def parts_of(method: Method) -> tuple[Method, ...]:
    """The methods of a composition, or the one."""
    return method.methods if isinstance(method, Then) else (method,)


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    if kind is bool:
        return (False, True)
    return (BatchQuantile(0.5), GroupQuantile(0.5)) if Threshold in get_args(kind) else ()


def _other_number(kind: Any, default: Any, bounds: dict[str, float | None]) -> tuple[Any, ...]:
    kinds = {kind, *get_args(kind)}
    if not kinds & {int, float}:
        return ()
    if default is None or float not in kinds:
        return (_some(int if int in kinds else float, bounds),)
    low, high = bounds["at_least"], bounds["at_most"]
    if high is None:
        return (1.5 * default + 0.25,)
    return ((default + (high if default < high else low or 0)) / 2,)


def _some(kind: Any, bounds: dict[str, float | None]) -> Any:
    """A value of a setting whose name says nothing."""
    if _choices(kind):
        return _choices(kind)[0]
    low = next((bounds[key] for key in ("at_least", "above") if bounds.get(key) is not None), None) or 0
    high = low + 2 if bounds.get("at_most") is None else bounds["at_most"]
    middle = (low + (high or 0)) / 2
    return round(middle) if kind is int else middle
