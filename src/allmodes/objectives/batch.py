"""The samples of one training step."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from allmodes.checks import check_ids, check_same_shape, check_vector


@final
@dataclass(frozen=True, kw_only=True)
class SampledBatch:
    """N sampled sequences, all tensors of shape (N,).

    rewards: from the environment; NaN marks an unscorable sample. ref_logprobs: log π_ref(y) of
    the whole sequence, in nats. logprobs: log π_θ(y), in nats. group_ids: samples with one id share a
    prompt (None: one group). outcome_ids: samples with one id are the same outcome (None: unknown).

    Raises InputError if shapes or dtypes disagree.

    >>> batch = SampledBatch(rewards=torch.ones(2), ref_logprobs=torch.zeros(2), logprobs=torch.zeros(2))
    >>> batch.group_ids is None
    True
    """

    rewards: Tensor
    ref_logprobs: Tensor
    logprobs: Tensor
    group_ids: Tensor | None = field(default=None)
    outcome_ids: Tensor | None = field(default=None)

    def __post_init__(self) -> None:
        check_vector("rewards", self.rewards)
        for name, tensor in (("ref_logprobs", self.ref_logprobs), ("logprobs", self.logprobs)):
            check_vector(name, tensor)
            check_same_shape(name, tensor, "rewards", self.rewards)
        for name, ids in (("group_ids", self.group_ids), ("outcome_ids", self.outcome_ids)):
            if ids is not None:
                check_ids(name, ids, "rewards", self.rewards)

    def __len__(self) -> int:
        return len(self.rewards)
