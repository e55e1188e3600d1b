"""One action, K outcomes: the world of MARA's didactic figures."""

from typing import final

import torch
from torch import Generator, Tensor

from allmodes.checks import check_finite, check_log_distribution, check_same_shape
from allmodes.worlds.world import Rollout


@final
class Categorical:
    """A categorical policy over K outcomes (MARA, appendix C.1: K = 100, logits 0 at first).

    ref_logprobs, rewards: (K,). start: log-probabilities before training, (K,); uniform by default.
    Raises InputError for shapes that disagree, values that are not finite (a sampled KL needs a reference
    with full support), or a reference that does not sum to 1.
    """

    samples_per_prompt = None

    def __init__(self, ref_logprobs: Tensor, rewards: Tensor, *, start: Tensor | None = None) -> None:
        check_same_shape("rewards", rewards, "ref_logprobs", ref_logprobs)
        check_log_distribution("ref_logprobs", ref_logprobs)
        check_finite("ref_logprobs", ref_logprobs)
        check_finite("rewards", rewards)
        self.rewards = rewards
        self.ref_outcome_logprobs = ref_logprobs.double().log_softmax(0)  # float32 sums to 1 less closely
        self._ref_logprobs = ref_logprobs.to(torch.get_default_dtype())
        self._start = torch.zeros_like(self._ref_logprobs) if start is None else start.to(self._ref_logprobs)
        check_same_shape("start", self._start, "ref_logprobs", ref_logprobs)
        check_finite("start", self._start)

    @property
    def log_path_shares(self) -> Tensor:
        """Uniform: each outcome is one trajectory."""
        return torch.zeros_like(self.ref_outcome_logprobs).log_softmax(0)

    def initial_logits(self, settings: int) -> Tensor:
        """(S, K)."""
        return self._start.expand(settings, -1).clone()

    def rollout(self, logits: Tensor, *, batch_size: int, generator: Generator) -> Rollout:
        """B outcomes for each setting, drawn by inverting the cumulative distribution."""
        logprobs = torch.log_softmax(logits, -1)
        with torch.no_grad():
            outcomes = draw(logprobs.exp(), batch_size, generator)
        return Rollout(
            outcomes=outcomes,
            rewards=self.rewards.to(logits.dtype)[outcomes],
            logprobs=logprobs.gather(-1, outcomes),
            ref_logprobs=self._ref_logprobs[outcomes],
            lengths=torch.ones_like(outcomes),
        )

    def outcome_logprobs(self, logits: Tensor) -> Tensor:
        """The policy itself."""
        return torch.log_softmax(logits, -1)


def draw(probabilities: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` indices from each row of probabilities (..., K), with replacement, (..., count)."""
    cumulative = probabilities.cumsum(-1)
    heights = draw_heights(cumulative[..., -1:], count, generator)
    return torch.searchsorted(cumulative, heights, right=True)


def draw_heights(total: Tensor, count: int, generator: Generator) -> Tensor:
    """Uniform numbers in [0, total), (..., count) for totals (..., 1), below them even after rounding."""
    shape = (*total.shape[:-1], count)
    uniform = torch.rand(shape, generator=generator, dtype=total.dtype)
    return torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
