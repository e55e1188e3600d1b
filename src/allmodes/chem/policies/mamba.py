"""A Mamba policy: transformers' modules and weights, with a scan and a cached step that suit a CPU."""

from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor
from torch.nn import functional

from allmodes.chem.policies.autoregressive import FIRST_OUTPUT, Policy, Precision, SamplingStep, fixed_linear
from allmodes.chem.policies.selective_scan import advance, selective_scan
from allmodes.extras import require

if TYPE_CHECKING:
    from transformers import MambaModel


@final
class MambaPolicy(Policy):
    """A Mamba policy with a tied head: logits are products with the embeddings, without a bias.

    Parameters and their names are those of transformers' `MambaForCausalLM`, and so are the logits, but that
    padding and BOS are never predicted. Only the passes are our own: for a training step of 128 molecules
    transformers' needs a minute and more without CUDA, and 10 GB. Source: Gu & Dao 2023, algorithm 2.
    """

    bucket = 15

    def __init__(
        self,
        vocabulary_size: int,
        *,
        hidden_size: int,
        num_layers: int,
        state_size: int,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(cell="mamba", precision=precision)
        self.backbone = _backbone(vocabulary_size, hidden_size, num_layers, state_size)

    def architecture(self) -> dict[str, Any]:
        """`cell`, `hidden_size`, `num_layers` and `state_size`."""
        config = self.backbone.config
        return {
            "cell": self.cell,
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "state_size": config.state_size,
        }

    def _logits(self, inputs: Tensor) -> Tensor:
        hidden = self.backbone.embeddings(inputs.T)  # time comes first from here on: see selective_scan
        for block in self.backbone.layers:
            hidden = hidden + _mix(cast(Any, block).mixer, cast(Any, block).norm(hidden))
        states = self.backbone.norm_f(hidden)
        return functional.linear(states, self.backbone.embeddings.weight[FIRST_OUTPUT:]).transpose(0, 1)

    @torch.no_grad()
    def _sampling_step(self, count: int, *, recorded_steps: int) -> SamplingStep:
        return _SamplingStep(self.backbone, self.dtype, count)


def _backbone(vocabulary_size: int, hidden_size: int, num_layers: int, state_size: int) -> "MambaModel":
    require("`cell`: 'mamba' needs", "transformers", extras="text")
    from transformers import MambaConfig, MambaModel

    return MambaModel(
        MambaConfig(
            vocab_size=vocabulary_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            state_size=state_size,
            use_cache=False,
        )
    )


class _SamplingStep:
    """One token of all active sequences; each layer keeps its state and what the convolution still needs."""

    def __init__(self, backbone: "MambaModel", dtype: torch.dtype, count: int) -> None:
        self.backbone, self.dtype = backbone, dtype
        self.head = backbone.embeddings.weight[FIRST_OUTPUT:].to(dtype)
        self.layers = [_LayerStep(cast(Any, block), dtype, count) for block in backbone.layers]

    def __call__(self, current: Tensor) -> Tensor:
        hidden = self.backbone.embeddings(current)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return functional.linear(self.backbone.norm_f(hidden).to(self.dtype), self.head)

    def keep(self, rows: Tensor) -> None:
        for layer in self.layers:
            layer.keep(rows)

    def recorded_logits(self) -> None:
        return None


class _LayerStep:
    def __init__(self, block: Any, dtype: torch.dtype, count: int) -> None:
        mixer = block.mixer
        self.norm, self.mixer, self.dtype = block.norm, mixer, dtype
        self.in_proj, self.x_proj, self.out_proj = (
            fixed_linear(linear.weight, None, dtype)
            for linear in (mixer.in_proj, mixer.x_proj, mixer.out_proj)
        )
        self.dt_proj = fixed_linear(mixer.dt_proj.weight, mixer.dt_proj.bias, dtype)
        self.rates = -mixer.A_log.exp().T.contiguous()
        self.kernel = mixer.conv1d.weight[:, 0].T.contiguous()
        self.state = self.rates.new_zeros(count, *self.rates.shape)
        self.window = self.rates.new_zeros(count, *self.kernel.shape)

    def __call__(self, hidden: Tensor) -> Tensor:
        channels, gate = self.in_proj(self.norm(hidden).to(self.dtype)).float().chunk(2, -1)
        self.window = torch.cat([self.window[:, 1:], channels[:, None]], 1)
        mixed = functional.silu((self.window * self.kernel).sum(1) + self.mixer.conv1d.bias)
        steps, write, read = _selection(self.mixer, self.x_proj(mixed.to(self.dtype)))
        steps = functional.softplus(self.dt_proj(steps).float())
        advance(self.state, steps * mixed, steps, self.rates, write.float())
        out = (read.float()[:, None] @ self.state).squeeze(1)
        out = torch.addcmul(out, mixed, self.mixer.D) * functional.silu(gate)
        return self.out_proj(out.to(self.dtype))

    def keep(self, rows: Tensor) -> None:
        self.state, self.window = self.state[rows], self.window[rows]


def _mix(mixer: Any, inputs: Tensor) -> Tensor:
    """A block's mixer over `inputs` (T, N, d_model)."""
    channels, gate = mixer.in_proj(inputs).float().chunk(2, -1)
    kernel = mixer.conv1d.weight[:, 0]
    padded = functional.pad(channels, (0, 0, 0, 0, kernel.shape[1] - 1, 0))
    mixed = mixer.conv1d.bias + padded[: len(channels)] * kernel[:, 0]
    for delay in range(1, kernel.shape[1]):
        mixed = torch.addcmul(mixed, padded[delay : delay + len(channels)], kernel[:, delay])
    mixed = functional.silu(mixed)
    steps, write, read = _selection(mixer, mixer.x_proj(mixed))
    steps = functional.softplus(mixer.dt_proj(steps).float())
    out = selective_scan(mixed, steps, -mixer.A_log.exp().T.contiguous(), write.float(), read.float())
    return mixer.out_proj(torch.addcmul(out, mixed, mixer.D) * functional.silu(gate))


def _selection(mixer: Any, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    steps, write, read = projected.split(sizes, -1)
    return steps, write, read
