"""LSTM and GRU policies."""

from typing import Any, Literal, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from allmodes.chem.policies.autoregressive import FIRST_OUTPUT, Policy, Precision, SamplingStep
from allmodes.chem.policies.recurrence import GruCell, LstmCell, Network, Stepper
from allmodes.chem.policies.tokenizer import PAD


@final
class RecurrentPolicy(Policy):
    """A policy that is an LSTM or a GRU, with the parameters of torch's layers and passes of our own."""

    # Sequences of a pass: its products are then large, and its memory bounded.
    bucket = 128

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

    def network(self) -> Network:
        """The recurrent layers."""
        with torch.autocast(self.device.type, enabled=False):
            layers = [self._layer(layer) for layer in range(self.recurrent.num_layers)]
            of_input, of_hidden, biases = zip(*layers, strict=True)
            return Network(
                LstmCell() if self.cell == "lstm" else GruCell(),
                table=functional.linear(self.embedding.weight, of_input[0], biases[0]),
                of_hidden=of_hidden,
                of_below=of_input[1:],
                biases=biases[1:],
                dtype=self.dtype,
            )

    def _layer(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of the input and of the hidden state, and the bias, in the four blocks of `Network`."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        of_input, of_hidden, bias_input, bias_hidden = (
            cast(Tensor, getattr(self.recurrent, f"{name}_l{layer}")) for name in names
        )
        if self.cell == "lstm":
            return of_input, of_hidden, bias_input + bias_hidden
        size = self.recurrent.hidden_size
        zeros = of_hidden.new_zeros(size, 1)
        first, last = slice(2 * size), slice(2 * size, None)
        bias = torch.cat([bias_input[first] + bias_hidden[first], bias_input[last], bias_hidden[last]])
        return (
            torch.cat([of_input, zeros.expand(-1, of_input.shape[1])]),
            torch.cat([of_hidden[first], zeros.expand(-1, size), of_hidden[last]]),
            bias,
        )

    def _logits(self, inputs: Tensor) -> Tensor:
        lengths = (inputs != PAD).sum(1)
        order = torch.argsort(lengths, descending=True, stable=True)
        is_active = torch.arange(inputs.shape[1], device=inputs.device)[:, None] < lengths[order]
        times, places = is_active.nonzero().unbind(1)
        rows = order[places]
        counts = [count for count in is_active.sum(1).tolist() if count > 0]
        logits = self.head(self.network().run(inputs[rows, times], counts))
        padded = logits.new_zeros(inputs.numel(), logits.shape[1])
        return padded.index_copy(0, rows * inputs.shape[1] + times, logits).view(*inputs.shape, -1)

    def _sampling_step(self, count: int, *, recorded_steps: int) -> SamplingStep:
        return _SamplingStep(self, recorded_rows=count * recorded_steps)


class _SamplingStep:
    """One token of all active sequences."""

    def __init__(self, policy: RecurrentPolicy, *, recorded_rows: int) -> None:
        self.head = policy.head
        self.fixed_head = [part.detach().to(policy.dtype) for part in (policy.head.weight, policy.head.bias)]
        self.stepper = Stepper(policy.network(), recorded_rows=recorded_rows)

    def __call__(self, current: Tensor) -> Tensor:
        return functional.linear(self.stepper.advance(current), *self.fixed_head)

    def keep(self, rows: Tensor) -> None:
        self.stepper.keep(rows)

    def recorded_logits(self) -> Tensor:
        return self.head(self.stepper.recorded())
