"""The base of all policies over SMILES tokens: log-probabilities of batches, and sampling."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from allmodes.chem.policies.tokenizer import BOS, EOS, PAD

Cell = Literal["lstm", "gru", "mamba"]
Precision = Literal["float32", "bfloat16"]

# Widths of passes are multiples of this: oneDNN keeps compiled kernels and memory for each shape it has seen,
# and free widths grew a run of augmented memory by 40 MB a step.
WIDTH_STEP = 4
# Padding and BOS are never predicted: a policy's first output is EOS.
FIRST_OUTPUT = EOS


@final
@dataclass(frozen=True, kw_only=True)
class Samples:
    """Sequences drawn from a policy.

    tokens: (N, T) ids, without BOS, padded after EOS; logprobs: (N,) nats, EOS included, at
    temperature 1, differentiable if `Policy.sample` was asked for it; finished: (N,) whether EOS came within
    the length limit.
    """

    tokens: Tensor
    logprobs: Tensor
    finished: Tensor


class SamplingStep(Protocol):
    """One token of all active sequences; it holds their states."""

    def __call__(self, current: Tensor) -> Tensor:
        """Logits (N, V) of the next tokens after `current` (N,)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Keep only these sequences."""
        ...

    def recorded_logits(self) -> Tensor | None:
        """The logits of all calls so far, one after the other, differentiable; None if it cannot."""
        ...


class Policy(nn.Module, ABC):
    """Autoregressive model p(y) = Π_t p(y_t | y_<t) over token ids, BOS implied, EOS included.

    bucket: about this many sequences, sorted by length, are run at once.
    """

    bucket: ClassVar[int]

    def __init__(self, *, cell: Cell, precision: Precision) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.precision: Precision = precision

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """The keywords for a policy of the same shape, except the vocabulary's size."""

    @abstractmethod
    def _logits(self, inputs: Tensor) -> Tensor:
        """Logits (N, T, V) of the tokens after each of `inputs` (N, T); the first is that of EOS.

        Those at padding are of no use.
        """

    @abstractmethod
    def _sampling_step(self, count: int, *, recorded_steps: int) -> SamplingStep:
        """States of `count` sequences before BOS. recorded_steps: most steps for `recorded_logits`, or 0."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which matrices are multiplied."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def token_logprobs(self, tokens: Tensor) -> Tensor:
        """Log p(y_t | y_<t) for padded `tokens` (N, T) without BOS; (N, T), zero at padding."""
        inputs = functional.pad(tokens[:, :-1], (1, 0), value=BOS).masked_fill(tokens == PAD, PAD)
        with self._autocast():
            logits = self._logits(inputs)
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1),
            tokens.flatten() - FIRST_OUTPUT,
            ignore_index=PAD - FIRST_OUTPUT,
            reduction="none",
        )
        return -losses.view_as(tokens)

    def logprobs(self, tokens: Tensor) -> Tensor:
        """Log p(y) in nats, (N,), for padded `tokens` (N, T); differentiable.

        A sequence's value does not depend on the rest of the batch or on padding (up to rounding).
        """
        if len(tokens) == 0:
            return torch.zeros(0, device=tokens.device)
        lengths = (tokens != PAD).sum(1)
        order = torch.argsort(lengths, stable=True)
        parts = []
        with self._autocast():  # once around all buckets: weights are then converted once
            for rows in torch.tensor_split(order, max(1, round(len(order) / self.bucket))):
                width = WIDTH_STEP * max(1, math.ceil(int(lengths[rows].max()) / WIDTH_STEP))
                part = tokens[rows, :width]
                parts.append(self.token_logprobs(functional.pad(part, (0, width - part.shape[1]))).sum(1))
        return torch.cat(parts)[torch.argsort(order)]

    def sample(
        self, count: int, *, max_length: int, generator: torch.Generator, differentiable: bool = False
    ) -> Samples:
        """Draw `count` sequences of at most `max_length` tokens, EOS included, at temperature 1.

        States are cached; finished sequences are removed from the computation at once. differentiable: keep
        what the gradient of `logprobs` needs. It is kept by recurrent policies alone.
        """
        device = self.device
        tokens = torch.full((count, max_length), PAD, dtype=torch.long, device=device)
        logprobs = torch.zeros(count, device=device)
        finished = torch.zeros(count, dtype=torch.bool, device=device)
        active = torch.arange(count, device=device)
        step = self._sampling_step(count, recorded_steps=max_length if differentiable else 0)
        current = torch.full((count,), BOS, dtype=torch.long, device=device)
        rows: list[Tensor] = []  # of each step
        for position in range(max_length):
            with torch.no_grad():
                distribution = torch.log_softmax(step(current).float(), -1)
            drawn = torch.multinomial(distribution.exp(), 1, generator=generator)
            logprobs[active] += distribution.gather(1, drawn).squeeze(1)
            current = drawn.squeeze(1) + FIRST_OUTPUT
            tokens[active, position] = current
            rows.append(active)
            ended = current == EOS
            finished[active[ended]] = True
            if bool(ended.any()):
                keep = (~ended).nonzero().squeeze(1)
                active, current = active[keep], current[keep]
                step.keep(keep)
                if len(active) == 0:
                    break
        length = max(int((tokens != PAD).sum(1).max()), 1) if count else 0
        tokens = tokens[:, :length]
        if differentiable and count and (logits := self._recorded_logits(step)) is not None:
            drawn = torch.cat([tokens[some, position] for position, some in enumerate(rows)])
            losses = functional.cross_entropy(logits.float(), drawn - FIRST_OUTPUT, reduction="none")
            logprobs = torch.zeros_like(logprobs).index_add(0, torch.cat(rows), -losses)
        return Samples(tokens=tokens, logprobs=logprobs, finished=finished)

    def _recorded_logits(self, step: SamplingStep) -> Tensor | None:
        with self._autocast():
            return step.recorded_logits()


def fixed_linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The map x W^T + b for many products with the same weights, without gradients.

    On a CPU oneDNN lays the weights out once, which torch's default does at each call: products of 4 to 64
    rows with 2048 x 512 weights then take two thirds of the time and less, the fewer the rows.
    """
    weight = weight.detach().to(dtype)
    bias = None if bias is None else bias.detach().to(dtype)
    onednn = torch.ops.mkldnn  # what torch.compile uses for such products
    if (
        weight.device.type != "cpu"
        or not torch.backends.mkldnn.is_available()
        or (dtype == torch.bfloat16 and not onednn._is_mkldnn_bf16_supported())
    ):
        return partial(functional.linear, weight=weight, bias=bias)
    packed = onednn._reorder_linear_weight(weight.contiguous(), None)
    return lambda rows: onednn._linear_pointwise(rows, packed, bias, "none", [], "")
