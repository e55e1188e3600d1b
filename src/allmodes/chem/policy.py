"""Recurrent policies over SMILES tokens: LSTM and GRU behind one interface."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.mkldnn import to_mkldnn

from allmodes.chem.tokenizer import BOS, EOS, PAD, SmilesTokenizer
from allmodes.errors import InputError
from allmodes.runs.checkpoint import load_checkpoint, save_checkpoint

Cell = Literal["lstm", "gru"]
Precision = Literal["float32", "bfloat16"]

# Sequences are sorted by length and run in buckets of about this many. Measured on 2 cores, LSTM 3x512,
# 74 ZINC sequences: .32 s a training step in buckets, .47 s padded whole, 1.07 s with packed sequences.
BUCKET = 15
# Their widths are multiples of this: oneDNN keeps compiled kernels and memory for each shape it has seen, and
# free widths grew a run of augmented memory by 40 MB a step.
WIDTH_STEP = 4
# Padding and BOS are never predicted: the head's first output is EOS.
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


@final
class RecurrentPolicy(nn.Module):
    """Autoregressive model p(y) = Π_t p(y_t | y_<t) over token ids, BOS implied, EOS included."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: Cell,
        hidden_size: int,
        num_layers: int,
        embedding_size: int,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.precision: Precision = precision
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.recurrent = kind(embedding_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, vocabulary_size - FIRST_OUTPUT)

    def _autocast(self) -> torch.autocast:
        device = self.head.weight.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def token_logprobs(self, tokens: Tensor) -> Tensor:
        """Log p(y_t | y_<t) for padded `tokens` (N, T) without BOS; (N, T), zero at padding."""
        inputs = functional.pad(tokens[:, :-1], (1, 0), value=BOS)
        with self._autocast():
            states = self.recurrent(self.embedding(inputs))[0]
            logits = self.head(states)
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
            for rows in torch.tensor_split(order, max(1, round(len(order) / BUCKET))):
                width = WIDTH_STEP * max(1, math.ceil(int(lengths[rows].max()) / WIDTH_STEP))
                part = tokens[rows, :width]
                parts.append(self.token_logprobs(functional.pad(part, (0, width - part.shape[1]))).sum(1))
        return torch.cat(parts)[torch.argsort(order)]

    @torch.no_grad()
    def sample(self, count: int, *, max_length: int, generator: torch.Generator) -> Samples:
        """Draw `count` sequences of at most `max_length` tokens, EOS included, at temperature 1.

        States are cached; a sequence that has ended leaves the computation at once.
        """
        device = self.head.weight.device
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        tokens = torch.full((count, max_length), PAD, dtype=torch.long, device=device)
        logprobs = torch.zeros(count, device=device)
        finished = torch.zeros(count, dtype=torch.bool, device=device)
        active = torch.arange(count, device=device)
        step = _SamplingStep(self, dtype, count)
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


class _SamplingStep:
    """One token of all active sequences, with one matrix product a layer over [input, hidden].

    Plain cells: nn.LSTM would prepare its weights anew at each call. On a CPU in float32 the products
    go through oneDNN with weights laid out once: 2 to 3 times the speed of the default for few rows.
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
        linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=dtype)
        linear.weight, linear.bias = nn.Parameter(weight.to(dtype)), nn.Parameter(bias.to(dtype))
        on_cpu = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        return to_mkldnn(linear) if on_cpu and dtype == torch.float32 else linear

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


def pad_tokens(sequences: Sequence[Sequence[int]], *, device: torch.device | str = "cpu") -> Tensor:
    """Token id lists as one padded tensor (N, T)."""
    width = max((len(ids) for ids in sequences), default=0)
    rows = [[*ids, *[PAD] * (width - len(ids))] for ids in sequences]
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(len(rows), width)


def save_policy(
    path: Path, policy: RecurrentPolicy, tokenizer: SmilesTokenizer, *, half: bool = False
) -> None:
    """Write weights, vocabulary and architecture into one safetensors file; `half` stores float16."""
    tensors = {name: value.half() if half else value for name, value in policy.state_dict().items()}
    architecture = {
        "cell": policy.cell,
        "hidden_size": policy.recurrent.hidden_size,
        "num_layers": policy.recurrent.num_layers,
        "embedding_size": policy.embedding.embedding_dim,
    }
    state = {"format": "allmodes-policy-1", "architecture": architecture, "tokens": tokenizer.tokens}
    save_checkpoint(path, tensors, state)


def load_policy(path: Path, *, precision: Precision = "float32") -> tuple[RecurrentPolicy, SmilesTokenizer]:
    """Read what `save_policy` wrote; weights come back as float32."""
    tensors, state = load_checkpoint(path)
    if state.get("format") != "allmodes-policy-1":
        raise InputError(f"{path}: expected a policy file of format 'allmodes-policy-1'; "
                         f"got {state.get('format')!r}")  # fmt: skip
    try:
        tokenizer = SmilesTokenizer(state["tokens"])
        policy = RecurrentPolicy(len(tokenizer), **state["architecture"], precision=precision)
        policy.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (KeyError, TypeError, RuntimeError) as error:  # what is missing, superfluous or misshapen
        raise InputError(
            f"{path}: expected the weights of a policy; {' '.join(str(error).split())}"
        ) from error
    return policy, tokenizer
