"""LSTM and GRU layers over packed sequences, forward and backward, and one token at a time.

torch's own layers on a CPU pad sequences, sum the gradients of weights over time steps one by one, and cannot
resume what a sampler has computed. Here rows of all steps lie one after the other, step by step, so that the
gradient of each weight is one matrix product, and a sampler's states are kept for the backward pass.

Both cells have four blocks of pre-activations a layer: i, f, g, o of an LSTM; r, z and the parts of the
candidate n from input and from hidden state of a GRU, whose other weights of these blocks are zero.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol, cast, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from allmodes.chem.policies.autoregressive import fixed_linear


class CellKind(Protocol):
    """The part of a cell without weights. The hidden state is a function of the gates and the memory."""

    def advance_(self, gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden state and memory, (N, H), one step after `memory`.

        The pre-activations `gates`, (N, 4H), become what `gradients_` needs.
        """
        ...

    def gradients_(
        self, gates: Tensor, before: Tensor, after: Tensor, grad_hidden: Tensor, grad_memory: Tensor
    ) -> Tensor:
        """∂ loss / ∂ memory before the step; `gates` become the gradient of the pre-activations.

        before, after: memory before and after; grad_hidden, grad_memory: gradients after the step, (N, H).
        """
        ...


@final
class LstmCell:
    """c' = f c + i g,  h = o tanh c'."""

    def advance_(self, gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `CellKind` says."""
        size = memory.shape[1]
        candidate = gates[:, 2 * size : 3 * size].mul_(2)  # tanh x = 2 σ(2x) − 1
        gates.sigmoid_()
        candidate.mul_(2).sub_(1)
        enter, forget, candidate, output = gates.chunk(4, 1)
        memory = torch.addcmul(forget * memory, enter, candidate)
        return _tanh(memory).mul_(output), memory

    def gradients_(
        self, gates: Tensor, before: Tensor, after: Tensor, grad_hidden: Tensor, grad_memory: Tensor
    ) -> Tensor:
        """As `CellKind` says."""
        enter, forget, candidate, output = gates.chunk(4, 1)
        squashed = _tanh(after)
        grad_memory = grad_memory + _through_tanh(grad_hidden * output, squashed)
        grad_before = grad_memory * forget
        grads = (
            _through_sigmoid(grad_memory * candidate, enter),
            _through_sigmoid(grad_memory * before, forget),
            _through_tanh(grad_memory * enter, candidate),
            _through_sigmoid(grad_hidden * squashed, output),
        )
        for block, grad in zip((enter, forget, candidate, output), grads, strict=True):
            block.copy_(grad)
        return grad_before


@final
class GruCell:
    """n = tanh(n_input + r n_hidden),  h' = n + z (h − n); the memory is the hidden state."""

    def advance_(self, gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `CellKind` says."""
        gates[:, : 2 * memory.shape[1]].sigmoid_()
        reset, update, candidate, from_hidden = gates.chunk(4, 1)
        candidate.addcmul_(reset, from_hidden)
        candidate.copy_(_tanh(candidate))
        hidden = candidate + update * (memory - candidate)
        return hidden, hidden

    def gradients_(
        self, gates: Tensor, before: Tensor, after: Tensor, grad_hidden: Tensor, grad_memory: Tensor
    ) -> Tensor:
        """As `CellKind` says."""
        reset, update, candidate, from_hidden = gates.chunk(4, 1)
        total = grad_hidden + grad_memory
        grad_before = total * update
        grad_update = _through_sigmoid(total * (before - candidate), update)
        grad_candidate = _through_tanh(total - grad_before, candidate)
        grad_reset = _through_sigmoid(grad_candidate * from_hidden, reset)
        from_hidden.copy_(grad_candidate * reset)
        for block, grad in ((reset, grad_reset), (update, grad_update), (candidate, grad_candidate)):
            block.copy_(grad)
        return grad_before


def _tanh(values: Tensor) -> Tensor:
    """By tanh x = 2 σ(2x) − 1: torch's tanh takes six times as long as its sigmoid."""
    return (2 * values).sigmoid_().mul_(2).sub_(1)


def _through_sigmoid(grad: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward(grad, output)


def _through_tanh(grad: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(grad, output)


# Numbers of rows are multiples of this: oneDNN keeps 1 to 2 MB for each shape that it has seen. Hidden states
# of the rows beyond the tokens are zero.
ROWS = 128


class LayerRecord(NamedTuple):
    """Gates (M, 4H), memory (M, H) and hidden state (M, H) of a layer after each step of each sequence."""

    gates: Tensor
    memory: Tensor
    hidden: Tensor


@final
@dataclass(frozen=True)
class Record:
    """What the backward pass needs of the tokens of many sequences, step by step, in M rows.

    tokens: the inputs, fewer than M by less than `ROWS`. first: sequences in the first step. previous: for
    each later step the rows of its sequences one step earlier; a sequence that has ended is absent.
    """

    tokens: Tensor
    first: int
    previous: list[Tensor]
    layers: list[LayerRecord]

    def steps(self) -> Iterator[tuple[slice, Tensor | None]]:
        """The rows of each step and those one step earlier, None for the first; the last step first."""
        counts = [self.first, *map(len, self.previous)]
        yield from zip(reversed(_places(counts)), [*reversed(self.previous), None], strict=True)


def _places(counts: Sequence[int]) -> list[slice]:
    """The rows of each step."""
    return [slice(start, end) for start, end in pairwise([0, *accumulate(counts)])]


def _padded(count: int) -> int:
    return ROWS * math.ceil(count / ROWS)


@final
class Network:
    """The weights of all layers; differentiable, and laid out for many products in `dtype`.

    table: (V, 4H), pre-activations of the first layer from each token, its bias included. of_hidden: (4H, H)
    of each layer. of_below, biases: (4H, H) and (4H,) of each layer after the first.
    """

    def __init__(
        self,
        cell: CellKind,
        *,
        table: Tensor,
        of_hidden: Sequence[Tensor],
        of_below: Sequence[Tensor],
        biases: Sequence[Tensor],
        dtype: torch.dtype,
    ) -> None:
        self.cell, self.dtype = cell, dtype
        self.weights = (table, *of_hidden, *of_below, *biases)
        self.table = table.detach()
        self.size = of_hidden[0].shape[1]
        self._from_hidden = [fixed_linear(weight, None, dtype) for weight in of_hidden]
        self._from_below = [
            fixed_linear(weight, bias, dtype) for weight, bias in zip(of_below, biases, strict=True)
        ]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self._from_hidden)

    def gates(self, layer: int, below: Tensor) -> Tensor:
        """Pre-activations, float32, of what comes from below: tokens (N,), or hidden states (N, H)."""
        return self.table[below] if layer == 0 else self._from_below[layer - 1](below).float()

    def advance(
        self, layer: int, gates: Tensor, states: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Hidden state and memory after one step; `gates` are completed in place. None before the first."""
        if states is None:
            memory = gates.new_zeros(len(gates), self.size)
        else:
            hidden, memory = states
            gates += self._from_hidden[layer](hidden)
        hidden, memory = self.cell.advance_(gates, memory)
        return hidden.to(self.dtype), memory

    def run(self, tokens: Tensor, counts: Sequence[int]) -> Tensor:
        """Hidden states of the last layer, (L, H), after each of `tokens` (L,); differentiable.

        The tokens lie step by step, sequences in descending order of length; counts: sequences of each step.
        """
        keeps_record = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.weights)
        places, layers = _places(counts), []
        below = functional.pad(tokens, (0, _padded(len(tokens)) - len(tokens)))
        with torch.no_grad():
            for layer in range(self.depth):
                gates = self.gates(layer, below)
                memories, below = self.buffers(len(gates))
                below[len(tokens) :] = 0
                states = None
                for here in places:
                    if states is not None:
                        count = here.stop - here.start
                        states = states[0][:count], states[1][:count]
                    states = self.advance(layer, gates[here], states)
                    below[here], memories[here] = states
                if keeps_record:
                    layers.append(LayerRecord(gates, memories, below))
        if not keeps_record:
            return below[: len(tokens)]
        previous = [
            torch.arange(before.start, before.start + here.stop - here.start, device=tokens.device)
            for before, here in pairwise(places)
        ]
        return self.differentiable(Record(tokens, counts[0], previous, layers))

    def buffers(self, rows: int) -> tuple[Tensor, Tensor]:
        """Space for memories and hidden states, (M, H)."""
        memories = self.table.new_empty(rows, self.size)
        return memories, torch.empty_like(memories, dtype=self.dtype)

    def differentiable(self, record: Record) -> Tensor:
        """The recorded hidden states of the last layer, (L, H), as a function of the weights."""
        return cast(Tensor, _Recorded.apply(record, self.cell, *self.weights))


@final
class Stepper:
    """The layers of a network, one token of each sequence at a time, from states of zero.

    recorded_rows: how many tokens in all may come, to keep a record of them; 0 for none.
    """

    def __init__(self, network: Network, *, recorded_rows: int) -> None:
        self._network = network
        self._states: list[tuple[Tensor, Tensor] | None] = [None] * network.depth
        self._counts: list[int] = []
        self._previous: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._places: Tensor | None = None  # of the active sequences in the step before
        rows = _padded(recorded_rows)
        gates = (network.table.new_empty(rows, network.table.shape[1]) for _ in self._states)
        self._layers = [LayerRecord(each, *network.buffers(rows)) for each in gates] if rows else []

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> Tensor:
        """Hidden states of the last layer, (N, H), after one more token of each active sequence, (N,)."""
        start = sum(map(len, self._tokens))
        here = slice(start, start + len(tokens))
        below = tokens
        for layer, states in enumerate(self._states):
            gates = self._network.gates(layer, below)
            if self._layers:
                gates = self._layers[layer].gates[here].copy_(gates)
            below, memory = self._states[layer] = self._network.advance(layer, gates, states)
            if self._layers:
                self._layers[layer].hidden[here], self._layers[layer].memory[here] = below, memory
        if self._layers:
            self._tokens.append(tokens)
            if self._places is not None:
                self._previous.append(self._places)
            self._places = torch.arange(here.start, here.stop, device=tokens.device)
        return below

    def keep(self, rows: Tensor) -> None:
        """Only these sequences go on."""
        self._states = [None if one is None else (one[0][rows], one[1][rows]) for one in self._states]
        if self._places is not None:
            self._places = self._places[rows]

    def recorded(self) -> Tensor:
        """The hidden states of all steps so far, (L, H), one step after the other; differentiable."""
        tokens = torch.cat(self._tokens)
        layers = [LayerRecord(*(part[: _padded(len(tokens))] for part in layer)) for layer in self._layers]
        for layer in layers:
            layer.hidden[len(tokens) :] = 0
        self._layers = []
        return self._network.differentiable(Record(tokens, len(self._tokens[0]), self._previous, layers))


@final
class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, record: Record, cell: CellKind, *weights: Tensor) -> Tensor:
        ctx.record, ctx.cell = record, cell
        ctx.save_for_backward(*weights)
        return record.layers[-1].hidden[: len(record.tokens)].detach()  # no cycle with this node

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # once_differentiable hides names
        ctx: Any, grad_hidden: Tensor
    ) -> tuple[Tensor | None, ...]:
        return None, None, *_gradients(ctx.record, ctx.cell, ctx.saved_tensors, grad_hidden)


def _gradients(
    record: Record, cell: CellKind, weights: Sequence[Tensor], grad_hidden: Tensor
) -> list[Tensor]:
    """Gradients of the weights, in their order; empties the record."""
    depth, dtype = len(record.layers), record.layers[-1].hidden.dtype
    table, of_hidden, of_below = weights[0], weights[1 : 1 + depth], weights[1 + depth : 2 * depth]
    to_table = torch.zeros_like(table)
    to_hidden, to_below, to_bias = [], [], []  # last layer first
    previous, steps = torch.cat([record.tokens[:0], *record.previous]), list(record.steps())
    length, rows = len(record.tokens), len(record.layers[-1].hidden)
    grad = functional.pad(grad_hidden.float(), (0, 0, 0, rows - length))
    for layer in reversed(range(depth)):
        gates, memory, hidden = record.layers.pop()
        gates[length:] = 0
        to_previous = fixed_linear(of_hidden[layer].T, None, dtype)
        grad_memory = torch.zeros_like(memory)
        for here, earlier in steps:
            before = memory.new_zeros(record.first, 1) if earlier is None else memory[earlier]
            grad_before = cell.gradients_(gates[here], before, memory[here], grad[here], grad_memory[here])
            if earlier is not None:
                grad.index_add_(0, earlier, to_previous(gates[here].to(dtype)).float())
                grad_memory.index_copy_(0, earlier, grad_before)
        rounded = gates.to(dtype)
        hidden_before = functional.pad(hidden[previous], (0, 0, record.first, rows - length))
        to_hidden.append((rounded.T @ hidden_before).float())
        if layer > 0:
            to_below.append((rounded.T @ record.layers[-1].hidden).float())
            to_bias.append(gates.sum(0))
            grad = fixed_linear(of_below[layer - 1].T, None, dtype)(rounded).float()
        else:
            to_table.index_add_(0, record.tokens, gates[:length])
    return [to_table, *reversed(to_hidden), *reversed(to_below), *reversed(to_bias)]
