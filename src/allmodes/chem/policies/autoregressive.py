"""The base of all policies over SMILES tokens: log-probabilities of batches, and sampling."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.mkldnn import to_mkldnn

from allmodes.chem.policies.tokenizer import BOS, EOS, PAD

Cell = Literal["lstm", "gru", "mamba"]
Precision = Literal["float32", "bfloat16"]

# Sequences are sorted by length and run in buckets of about this many. Measured on 2 cores, LSTM 3x512,
# 74 ZINC sequences: 0.32 s a training step in buckets, 0.47 s padded whole, 1.07 s with packed sequences.
BUCKET = 15
# oneDNN's backward pass of a recurrent layer has a cost a time step in bfloat16, however few the rows are.
# Measured on one thread, a layer of 512, 44 tokens, forward and backward, milliseconds a sequence: of 15
# rows 7.7, of 37 rows 5.3, of 74 rows 4.1; in float32 6.2, 6.3 and 6.0.
BFLOAT16_BUCKET = 37
# Their widths are multiples of this: oneDNN keeps compiled kernels and memory for each shape it has seen, and
# free widths grew a run of augmented memory by 40 MB a step.
WIDTH_STEP = 4
# Padding and BOS are never predicted: a policy's first output is EOS.
FIRST_OUTPUT = EOS


@final
@dataclass(frozen=True, kw_only=True)
class Samples:
    """Sequences drawn from a policy.

    tokens: (N, T) ids, without BOS, padded after EOS; logprobs: (N,) nats, EOS included, at
    temperature 1; finished: (N,) whether EOS came within the length limit.
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


class Policy(nn.Module, ABC):
    """Autoregressive model p(y) = Π_t p(y_t | y_<t) over token ids, BOS implied, EOS included."""

    def __init__(self, *, cell: Cell, precision: Precision) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.precision: Precision = precision

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """The keywords for a policy of the same shape, except the vocabulary's size."""

    @abstractmethod
    def _logits(self, inputs: Tensor) -> Tensor:
        """Logits (N, T, V) of the tokens after each of `inputs` (N, T); the first is that of EOS."""

    @abstractmethod
    def _sampling_step(self, count: int, dtype: torch.dtype) -> SamplingStep:
        """States of `count` sequences before BOS; products of matrices are in `dtype`."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def _bucket(self) -> int:
        """Approximate number of sequences per pass."""
        return BFLOAT16_BUCKET if self.precision == "bfloat16" and self.cell != "mamba" else BUCKET

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def token_logprobs(self, tokens: Tensor) -> Tensor:
        """Log p(y_t | y_<t) for padded `tokens` (N, T) without BOS; (N, T), zero at padding."""
        inputs = functional.pad(tokens[:, :-1], (1, 0), value=BOS)
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
            for rows in torch.tensor_split(order, max(1, round(len(order) / self._bucket))):
                width = WIDTH_STEP * max(1, math.ceil(int(lengths[rows].max()) / WIDTH_STEP))
                part = tokens[rows, :width]
                parts.append(self.token_logprobs(functional.pad(part, (0, width - part.shape[1]))).sum(1))
        return torch.cat(parts)[torch.argsort(order)]

    @torch.no_grad()
    def sample(self, count: int, *, max_length: int, generator: torch.Generator) -> Samples:
        """Draw `count` sequences of at most `max_length` tokens, EOS included, at temperature 1.

        States are cached; finished sequences are removed from the computation at once.
        """
        device = self.device
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        tokens = torch.full((count, max_length), PAD, dtype=torch.long, device=device)
        logprobs = torch.zeros(count, device=device)
        finished = torch.zeros(count, dtype=torch.bool, device=device)
        active = torch.arange(count, device=device)
        step = self._sampling_step(count, dtype)
        current = torch.full((count,), BOS, dtype=torch.long, device=device)
        for position in range(max_length):
            distribution = torch.log_softmax(step(current).float(), -1)
            drawn = torch.multinomial(distribution.exp(), 1, generator=generator)
            logprobs[active] += distribution.gather(1, drawn).squeeze(1)
            current = drawn.squeeze(1) + FIRST_OUTPUT
            tokens[active, position] = current
            ended = current == EOS
            finished[active[ended]] = True
            if bool(ended.any()):
                keep = (~ended).nonzero().squeeze(1)
                active, current = active[keep], current[keep]
                step.keep(keep)
                if len(active) == 0:
                    break
        length = max(int((tokens != PAD).sum(1).max()), 1) if count else 0
        return Samples(tokens=tokens[:, :length], logprobs=logprobs, finished=finished)


def fixed_linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Module:
    """A linear map for many calls with the same weights.

    On a CPU in float32 the products go through oneDNN with weights laid out once: 2 to 3 times the speed of
    the default for few rows.
    """
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta", dtype=dtype)
    linear.weight = nn.Parameter(weight.to(dtype))
    if bias is not None:
        linear.bias = nn.Parameter(bias.to(dtype))
    on_cpu = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return to_mkldnn(linear) if on_cpu and dtype == torch.float32 else linear
