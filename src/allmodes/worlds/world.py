"""The interface of a world: enumerable trajectories that end in one of K outcomes."""

from dataclasses import dataclass
from typing import Protocol, final

from torch import Generator, Tensor


@final
@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A batch of B trajectories for each of S settings; all of shape (S, B).

    outcomes: index of the outcome, −1 for none. rewards: as a trainer sees them. logprobs: log π_θ of the
    trajectory, nats, with gradient. ref_logprobs: of the same trajectory under the reference policy. lengths:
    number of actions. prompts: index of the prompt; None if there is one.
    """

    outcomes: Tensor
    rewards: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    lengths: Tensor
    prompts: Tensor | None = None


class World(Protocol):
    """A softmax policy in a small world, many settings at once along the first dimension."""

    @property
    def samples_per_prompt(self) -> int | None:
        """How many trajectories in a row of a rollout answer one prompt; None if there is one prompt."""
        ...

    @property
    def rewards(self) -> Tensor:
        """Reward of each outcome, (K,)."""
        ...

    @property
    def ref_outcome_logprobs(self) -> Tensor:
        """Log-probability of each outcome under the reference policy, (K,), float64."""
        ...

    @property
    def log_path_shares(self) -> Tensor:
        """Log-share of all trajectories that end in each outcome, (K,), float64."""
        ...

    def initial_logits(self, settings: int) -> Tensor:
        """The logits that training starts from, (S, ...), zero unless the world says otherwise."""
        ...

    def rollout(self, logits: Tensor, *, batch_size: int, generator: Generator) -> Rollout:
        """Sample B trajectories under the policy of each setting."""
        ...

    def outcome_logprobs(self, logits: Tensor) -> Tensor:
        """Exact log-probability of each outcome under each policy, (S, K), with gradient."""
        ...
