"""Mamba's recurrence, forward and backward, in chunks that fit the processor's cache."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Sequences and steps that are processed at a time: their states, of 16 x 512 numbers each, then stay in the
# processor's cache. An accelerator takes all sequences at once.
ROWS = 8
STEPS = 8
_LOG2_E = math.log2(math.e)


def selective_scan(inputs: Tensor, steps: Tensor, rates: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """Output of Mamba's state space model, from a state of zero; differentiable once.

    h_t = exp(Δ_t A) h_{t−1} + Δ_t u_t B_t,    y_t = C_t h_t          (Gu & Dao 2023, equation 2)

    inputs u and steps Δ: (T, N, D); rates A: (S, D), negative; write B and read C: (T, N, S). Returns y:
    (T, N, D). The states (T, N, S, D) are never kept: the backward pass makes them again from those at each
    `STEPS` steps.
    """
    return cast(Tensor, _SelectiveScan.apply(inputs, steps, rates, write, read))


def advance(state: Tensor, driven: Tensor, steps: Tensor, rates: Tensor, write: Tensor) -> Tensor:
    """The state (N, S, D) one step on, for Δu and Δ (N, D), A (S, D) and B (N, S); written into `state`."""
    decay = (steps[:, None] * (rates * _LOG2_E)).exp2_()
    return state.mul_(decay).addcmul_(write[..., None], driven[:, None])


def _pieces(inputs: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """Sequences that are worked on together, and the steps of each piece."""
    time, count, _ = inputs.shape
    rows = ROWS if inputs.device.type == "cpu" else max(1, count)
    for row in range(0, count, rows):
        yield slice(row, row + rows), [slice(start, start + STEPS) for start in range(0, time, STEPS)]


class _States(NamedTuple):
    """A buffer for the states of one piece (T, N, S, D), and views of it by time.

    A view made at each step would take as long as the step.
    """

    whole: Tensor
    by_time: tuple[Tensor, ...]


class _Workspace:
    """Buffers of one piece. The next uses them again: fresh memory takes as long as the work."""

    def __init__(self, inputs: Tensor, rates: Tensor, count: int) -> None:
        self._inputs, self._rates, self._count = inputs, rates, count
        self._made: dict[torch.Size, list[_States]] = {}

    def __call__(self, piece: Tensor) -> list[_States]:
        shape = piece.shape[:2]
        if shape not in self._made:
            buffers = [self._inputs.new_empty(*shape, *self._rates.shape) for _ in range(self._count)]
            self._made[shape] = [_States(whole=buffer, by_time=buffer.unbind()) for buffer in buffers]
        return self._made[shape]


def _fill(decay: _States, states: _States, start: Tensor, of: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """exp(Δ A) into `decay` and the states after each step into `states`; `of`: Δu, Δ, A and B."""
    driven, steps, rates, write = of
    torch.mul(steps[:, :, None], rates * _LOG2_E, out=decay.whole)
    decay.whole.exp2_()  # torch's exp2 takes a quarter of the time of its exp on the processors tried
    torch.mul(write[..., None], driven[:, :, None], out=states.whole)
    before = start
    for factor, state in zip(decay.by_time, states.by_time, strict=True):
        before = state.addcmul_(factor, before)


@final
class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            output, starts = _outputs(*tensors)
        ctx.save_for_backward(*tensors, starts)
        return output

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # once_differentiable hides names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, ...]:
        with torch.autocast(grad_outputs[0].device.type, enabled=False):
            return _gradients(*grad_outputs, *ctx.saved_tensors)


def _outputs(
    inputs: Tensor, steps: Tensor, rates: Tensor, write: Tensor, read: Tensor
) -> tuple[Tensor, Tensor]:
    """What `selective_scan` returns, and the states (T / STEPS, N, S, D) before each piece."""
    time, count, _ = inputs.shape
    output, driven = torch.empty_like(inputs), steps * inputs
    starts = inputs.new_zeros(math.ceil(time / STEPS), count, *rates.shape)
    workspace = _Workspace(inputs, rates, 2)
    for rows, blocks in _pieces(inputs):
        for index, block in enumerate(blocks):
            here = (block, rows)
            decay, states = workspace(steps[here])
            _fill(decay, states, starts[index, rows], (driven[here], steps[here], rates, write[here]))
            output[here] = (read[here][:, :, None] @ states.whole).squeeze(2)
            if index + 1 < len(blocks):
                starts[index + 1, rows] = states.by_time[-1]
    return output, starts


def _gradients(
    grad_output: Tensor,
    inputs: Tensor,
    steps: Tensor,
    rates: Tensor,
    write: Tensor,
    read: Tensor,
    starts: Tensor,
) -> tuple[Tensor, ...]:
    driven = steps * inputs
    grad_driven, grad_steps = torch.empty_like(inputs), torch.empty_like(steps)
    grad_rates = torch.zeros_like(rates)
    grad_write, grad_read = torch.empty_like(write), torch.empty_like(read)
    workspace = _Workspace(inputs, rates, 3)
    for rows, blocks in _pieces(inputs):
        carried = torch.zeros_like(starts[0, rows])  # with respect to the piece's last state, of later steps
        for index, block in reversed(list(enumerate(blocks))):
            here = (block, rows)
            decay, states, grads = workspace(steps[here])
            _fill(decay, states, starts[index, rows], (driven[here], steps[here], rates, write[here]))
            torch.mul(read[here][..., None], grad_output[here][:, :, None], out=grads.whole)
            grads.by_time[-1].add_(carried)
            for t in range(len(grads.by_time) - 1, 0, -1):
                grads.by_time[t - 1].addcmul_(decay.by_time[t], grads.by_time[t])
            torch.mul(decay.by_time[0], grads.by_time[0], out=carried)
            # Row vectors on the left: with column vectors on the right torch takes ten times as long.
            grad_read[here] = (grad_output[here][:, :, None] @ states.whole.mT).squeeze(2)
            grad_write[here] = (driven[here][:, :, None] @ grads.whole.mT).squeeze(2)
            grad_driven[here] = (write[here][:, :, None] @ grads.whole).squeeze(2)
            # With respect to the exponents Δ_t A: grad h_t · exp(Δ_t A) · h_{t−1}, written over `decay`.
            exponents = decay.whole
            exponents[0].mul_(starts[index, rows])
            exponents[1:].mul_(states.whole[:-1])
            exponents.mul_(grads.whole)
            grad_steps[here] = torch.mul(exponents, rates, out=states.whole).sum(2)
            grad_rates += exponents.mul_(steps[here][:, :, None]).sum((0, 1))
    grad_steps.addcmul_(grad_driven, inputs)
    return grad_driven.mul_(steps), grad_steps, grad_rates, grad_write, grad_read
