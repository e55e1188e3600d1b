"""LSTM and GRU policies."""

from typing import Any, Literal, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from allmodes.chem.policies.autoregressive import FIRST_OUTPUT, Policy, Precision, SamplingStep, fixed_linear


@final
class RecurrentPolicy(Policy):
    """A policy that is an LSTM or a GRU."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: Literal["lstm", "gru"],
        hidden_size: int,
        num_layers: int,
        embedding_size: int,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(cell=cell, precision=precision)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.recurrent = kind(embedding_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, vocabulary_size - FIRST_OUTPUT)

    def architecture(self) -> dict[str, Any]:
        """`cell`, `hidden_size`, `num_layers` and `embedding_size`."""
        return {
            "cell": self.cell,
            "hidden_size": self.recurrent.hidden_size,
            "num_layers": self.recurrent.num_layers,
            "embedding_size": self.embedding.embedding_dim,
        }

    def _logits(self, inputs: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(inputs))[0])

    def _sampling_step(self, count: int, dtype: torch.dtype) -> SamplingStep:
        return _SamplingStep(self, dtype, count)


class _SamplingStep:
    """One token of all active sequences, with one matrix product a layer over [input, hidden].

    Plain cells: nn.LSTM would prepare its weights anew at each call.
    """

    def __init__(self, policy: RecurrentPolicy, dtype: torch.dtype, count: int) -> None:
        recurrent = policy.recurrent
        self.is_lstm = policy.cell == "lstm"
        self.embedding = policy.embedding.weight.to(dtype)
        self.head = (policy.head.weight.to(dtype), policy.head.bias.to(dtype))
        self.layers = [self._gates(recurrent, layer, dtype) for layer in range(recurrent.num_layers)]
        zeros = self.embedding.new_zeros(count, recurrent.hidden_size)
        self.states = [(zeros, zeros) for _ in self.layers]

    def _gates(self, recurrent: nn.LSTM | nn.GRU, layer: int, dtype: torch.dtype) -> nn.Module:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        of_input, of_hidden, bias_input, bias_hidden = (
            cast(Tensor, getattr(recurrent, f"{name}_l{layer}")) for name in names
        )
        if self.is_lstm:
            weight, bias = torch.cat([of_input, of_hidden], 1), bias_input + bias_hidden
        else:  # the reset gate acts on the hidden part of the candidate alone: rows r, z, n_input, n_hidden
            split = 2 * recurrent.hidden_size
            joint = torch.cat([of_input[:split], of_hidden[:split]], 1)
            only_input = functional.pad(of_input[split:], (0, of_hidden.shape[1]))
            only_hidden = functional.pad(of_hidden[split:], (of_input.shape[1], 0))
            weight = torch.cat([joint, only_input, only_hidden])
            joint_bias = bias_input[:split] + bias_hidden[:split]
            bias = torch.cat([joint_bias, bias_input[split:], bias_hidden[split:]])
        return fixed_linear(weight, bias, dtype)

    def __call__(self, current: Tensor) -> Tensor:
        below = self.embedding[current]
        for index, gates in enumerate(self.layers):
            hidden, memory = self.states[index]
            one, two, three, four = gates(torch.cat([below, hidden], 1)).chunk(4, 1)
            if self.is_lstm:  # input, forget, candidate, output
                memory = two.sigmoid() * memory + one.sigmoid() * three.tanh()
                hidden = four.sigmoid() * memory.tanh()
            else:  # reset, update, candidate's input and hidden parts
                candidate = torch.tanh(three + one.sigmoid() * four)
                hidden = candidate + two.sigmoid() * (hidden - candidate)
            self.states[index] = (hidden, memory)
            below = hidden
        return functional.linear(below, *self.head)

    def keep(self, rows: Tensor) -> None:
        self.states = [(hidden[rows], memory[rows]) for hidden, memory in self.states]
