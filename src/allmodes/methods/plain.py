"""Plain RL: unchanged rewards."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from allmodes.methods.method import KL, Batch, Method, Result, State
from allmodes.targets import forward_kl_target, reverse_kl_target


@final
@dataclass(frozen=True)
class Plain(Method):
    """Unchanged rewards, the baseline that all other methods are compared with.

    >>> Plain()(batch, beta=0.1).rewards
    tensor([1., 1., 1., 0.])
    """

    name: ClassVar[str] = "vanilla"
    label: ClassVar[str] = "vanilla"
    color: ClassVar[str] = "#7f7f7f"
    law: ClassVar[str] = "π_ref exp(R/β)"
    source: ClassVar[str] = "MARA, Remarks 3.1 and 3.3"

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
        """π_ref exp(R/β), or the forward KL's β π_ref/(Λ − R); None without a KL, since the start decides."""
        del outcome_ids, group_size
        if beta == 0:
            return None
        if kl == "reverse":
            return reverse_kl_target(ref_logprobs, rewards, beta=beta)
        return forward_kl_target(ref_logprobs, rewards, beta=beta).logprobs

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """The same rewards."""
        del beta, state
        return Result(rewards=batch.rewards, metrics={})
