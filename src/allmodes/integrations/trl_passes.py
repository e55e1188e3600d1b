"""Access to per-token log-probabilities that TRL's trainers compute before the rewards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from trl import __version__ as trl_version

from allmodes.errors import RunError
from allmodes.integrations.trl_sampling import Sampled

MAX_ROUNDING = 0.05
"""Tolerated mean difference in nats per token between two computations of log-probabilities (bfloat16)."""


@final
@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over all sampled sequences: per-token log-probabilities and the mask of the completions.

    again: the same pass with another model.
    """

    model: Any
    logps: Tensor
    mask: Tensor
    again: Callable[[Any], Tensor]


@final
class Generation:
    """One generation of a trainer, from its samples to their rewards; of the samples of this process.

    passes: in TRL's order, the policy's where it makes one, then the reference's where β is not 0. tool_mask:
    1 for each token that the model wrote, 0 for those of tools and environments; None if it wrote all.
    sampled: of each call that drew samples, where log-probabilities are recorded.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._added_policy_logps: Tensor | None = None
        self.passes: list[Pass] = []
        self.sampled: list[Sampled | None] = []
        self.tool_mask: Sequence[Sequence[int]] | None = None

    def make_pass(
        self,
        run: Callable[..., Any],
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """What `run`, TRL's method, gives for a pass; its log-probabilities are kept.

        Raises RunError if it gives none, as patched trainers do that compute them inside their loss.
        """
        output = run(model, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
        self.passes.append(
            Pass(
                model=model,
                logps=logps_of(output).detach(),
                mask=attention_mask[:, -logits_to_keep:],
                again=lambda other: logps_of(
                    run(other, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
                ),
            )
        )
        return output

    def counted_tokens(self, completion_ids: Sequence[Sequence[int]], *, device: torch.device) -> Tensor:
        """Which tokens the model wrote, (N, T), as opposed to tools and environments."""
        if self.passes:
            counted = self.passes[-1].mask.bool().clone()
        else:  # no pass was made, and so no mask
            lengths = torch.tensor([len(ids) for ids in completion_ids], device=device)
            counted = torch.arange(int(lengths.max()), device=device) < lengths.unsqueeze(1)
        if self.tool_mask is not None:
            for row, own in zip(counted, self.tool_mask, strict=True):
                row[: len(own)] &= torch.as_tensor(own, dtype=torch.bool, device=row.device)
        return counted

    def reference_logps(self) -> Tensor:
        """Per-token log π_ref: the last pass before the rewards, by the reference or without the adapter.

        Raises RunError if there was none.
        """
        trainer = self._trainer
        last = self.passes[-1] if self.passes else None
        reference = trainer.model if trainer.ref_model is None else trainer.ref_model
        if last is None or last.model is not reference:
            raise RunError(
                f"the reference's log-probabilities were expected before the rewards; TRL {trl_version} "
                f"did not compute them there"
            )
        return last.logps

    def policy_logps(self) -> Tensor | None:
        """Per-token log π_θ of TRL's own pass, or those that were added; None if there was none."""
        with_reference = self._trainer.beta != 0
        return self.passes[0].logps if len(self.passes) > with_reference else self._added_policy_logps

    def sampled_logps(self, completion_ids: Sequence[Sequence[int]], counted: Tensor) -> Tensor | None:
        """Per-token log π_θ as generation had them, (N, T); None if it took several calls, or had none."""
        call = self.sampled[0] if len(self.sampled) == 1 else None
        return None if call is None else call.aligned(completion_ids, counted.shape[1])

    def policy_pass(self) -> Tensor:
        """Per-token log π_θ by a pass of our own, like the one that the reference made."""
        return self.passes[0].again(self._trainer.model).detach()

    def add_policy_logps(self, logps: Tensor) -> Tensor:
        """Keep what TRL did not compute, for all who ask."""
        self._added_policy_logps = logps
        return logps


def logps_of(output: Any) -> Tensor:
    """The log-probabilities among what TRL's method gives: (log-probabilities, entropies, ...)."""
    logps = output[0] if isinstance(output, tuple | list) and output else None
    if not isinstance(logps, Tensor):
        raise RunError(
            f"log-probabilities of tokens were expected from TRL {trl_version}'s "
            f"`_get_per_token_logps_and_entropies`; got {type(logps).__name__}. A patch of TRL, such as "
            "Unsloth's, has replaced it: update that package, or train without it"
        )
    return logps


def sequence_logprobs(logps: Tensor, counted: Tensor) -> Tensor:
    """Σ_t log p of the counted tokens, (N,), float64. logps, counted: (N, T)."""
    return torch.where(counted, logps, 0).double().sum(1)


def raw_rewards(rewards_per_func: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of reward functions, (N,), NaN if none gave a reward. Source: TRL's own.

    rewards_per_func: (N, F), NaN if a function gave None. weights: (F,).
    """
    raw = (rewards_per_func * weights.to(rewards_per_func.device).unsqueeze(0)).nansum(dim=1)
    raw[rewards_per_func.isnan().all(dim=1)] = torch.nan
    return raw
