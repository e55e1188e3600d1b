"""Several methods applied in sequence."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods.entropy import EntropyBonus
from allmodes.methods.method import KL, Batch, Method, OutcomeKey, Result, State


@final
@dataclass(frozen=True, init=False)
class Then(Method):
    """Several methods in sequence: each transforms the rewards of the method before it.

    In recipes it is written "mara+entropy". It needs and refuses everything that any of its methods does.
    Raises InputError for fewer than two methods, and if a method other than the last returns advantages.

    >>> Then(MARA(threshold=1.0), EntropyBonus(0.1))(batch, beta=0.1).rewards
    tensor([1.1000, 1.5000, 1.5000, 0.2000])
    """

    name: ClassVar[str] = "then"
    label: ClassVar[str] = "composition"
    law: ClassVar[str] = "known where an entropy bonus follows a method whose rewards are fixed"
    source: ClassVar[str] = "ours"

    methods: tuple[Method, ...]

    def __init__(self, *methods: Method) -> None:
        object.__setattr__(self, "methods", methods)
        if len(methods) < 2:
            raise InputError(f"`Then` needs at least two methods; got {len(methods)}")
        own = next((method for method in methods[:-1] if method.has_own_baseline), None)
        if own is not None:
            raise InputError(f"{own.label} returns advantages, so it must come last; got {self.describe()}")

    @property
    def color(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  # a fact of the instance
        """The colour of the first method."""
        return self.methods[0].color

    @property
    def needs_reference(self) -> bool:
        """Where any does."""
        return any(method.needs_reference for method in self.methods)

    @property
    def needs_policy(self) -> bool:
        """Where any does."""
        return any(method.needs_policy for method in self.methods)

    @property
    def needs_outcomes(self) -> bool:
        """Where any does."""
        return any(method.needs_outcomes for method in self.methods)

    @property
    def needs_prompts(self) -> bool:
        """Where any does."""
        return any(method.needs_prompts for method in self.methods)

    @property
    def takes_outcome_probabilities(self) -> bool:
        """Where any does."""
        return any(method.takes_outcome_probabilities for method in self.methods)

    @property
    def couples_prompts(self) -> bool:
        """Where any does."""
        return any(method.couples_prompts for method in self.methods)

    @property
    def needs_sequence_kl(self) -> bool:
        """Where any does."""
        return any(method.needs_sequence_kl for method in self.methods)

    @property
    def contains_kl(self) -> bool:
        """Where any does."""
        return any(method.contains_kl for method in self.methods)

    @property
    def changes_reference(self) -> bool:
        """Where any does."""
        return any(method.changes_reference for method in self.methods)

    @property
    def has_state(self) -> bool:
        """Where any has."""
        return any(method.has_state for method in self.methods)

    @property
    def takes_negative_rewards(self) -> bool:
        """Whether the first accepts negative rewards; the others get its results."""
        return self.methods[0].takes_negative_rewards

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """True if it is True for all methods."""
        return all(method.optimum_survives_std_normalization for method in self.methods)

    @property
    def has_own_baseline(self) -> bool:
        """True if it is True for the last method."""
        return self.methods[-1].has_own_baseline

    @property
    def min_group_size(self) -> int:
        """The largest of the methods' sizes."""
        return max(method.min_group_size for method in self.methods)

    def group_warning(self, group_size: int) -> str | None:
        """The warnings of all methods."""
        found = [method.group_warning(group_size) for method in self.methods]
        return "; ".join(warning for warning in found if warning is not None) or None

    @property
    def key(self) -> OutcomeKey | None:
        """The outcome key of the first method that has one."""
        return next((method.key for method in self.methods if method.key is not None), None)

    def describe(self) -> str:
        """The descriptions of all methods, in order."""
        parts = [(method.label, method.describe()) for method in self.methods]
        return ", then ".join(label + (f" ({about})" if about else "") for label, about in parts)

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
        """Known if entropy bonuses follow one method whose rewards do not depend on the policy.

        The maximum of E[R̄] − β KL + η H is ∝ p^(β/(β + η)), with p the optimum without the bonus.
        """
        first, *others = self.methods
        if kl != "reverse" or first.needs_policy or first.needs_outcomes or beta == 0:
            return None
        found = first.optimum(ref_logprobs, rewards, beta=beta, kl=kl, group_size=group_size)
        entropy = 0.0
        for other in others:
            if not isinstance(other, EntropyBonus):
                return None
            entropy += other.entropy
        return None if found is None else EntropyBonus(entropy).temper(found, beta=beta)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """The rewards of the last method. Metrics have their method as a prefix: `mara/augmented`."""
        before = {} if state is None else state
        states: dict[str, Any] = {}
        metrics: dict[str, float] = {}
        ref_logprobs: Tensor | None = None
        for place, method in enumerate(self.methods):
            result = method(batch, beta=beta, state=before.get(str(place)))
            if method.has_state:
                states[str(place)] = result.state
            metrics |= {f"{method.name}/{name}": value for name, value in result.metrics.items()}
            ref_logprobs = ref_logprobs if result.ref_logprobs is None else result.ref_logprobs
            batch = replace(batch, rewards=result.rewards)
        return Result(
            rewards=batch.rewards,
            metrics=metrics,
            state=states if self.has_state else None,
            ref_logprobs=ref_logprobs,
        )
