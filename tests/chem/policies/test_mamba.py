"""Mamba beside transformers' own implementation, and its scan beside the recurrence as it is written."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.chem.policies import selective_scan as scan_module
from allmodes.chem.policies.mamba import MambaPolicy
from allmodes.chem.policies.policy import load_policy, pad_tokens, save_policy
from allmodes.chem.policies.selective_scan import ROWS, STEPS, advance, selective_scan
from allmodes.chem.policies.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, SmilesTokenizer
from allmodes.errors import ConfigError
from allmodes.extras import how_to_install

VOCABULARY = 9


def scan_inputs(time: int, count: int, *, states: int = 3, channels: int = 5, seed: int = 0) -> list[Tensor]:
    """u, Δ, A, B and C in float64; exp(ΔA) lies between .05 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = torch.rand(time, count, channels, generator=generator, dtype=torch.float64)
    rates = -3 * torch.rand(states, channels, generator=generator, dtype=torch.float64)
    tensors = [normal(time, count, channels), steps, rates, normal(time, count, states)]
    return [tensor.requires_grad_() for tensor in (*tensors, normal(time, count, states))]


def recurrence(inputs: Tensor, steps: Tensor, rates: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """The scan with one number at a time."""
    time, count, channels = inputs.shape
    rows = []
    for n in range(count):
        for d in range(channels):
            h = [torch.zeros((), dtype=inputs.dtype) for _ in rates]
            for t in range(time):
                delta = steps[t, n, d]
                for s in range(len(rates)):
                    decay = torch.exp(delta * rates[s, d])
                    h[s] = decay * h[s] + delta * inputs[t, n, d] * write[t, n, s]
                rows.append(sum((h[s] * read[t, n, s] for s in range(len(rates))), torch.zeros(())))
    return torch.stack(rows).view(count, channels, time).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("time", "count"), [(1, 1), (2, 3), (STEPS, 1), (STEPS + 1, 2), (2 * STEPS + 3, ROWS + 1)]
)
def test_value_and_gradient_of_the_scan(time: int, count: int) -> None:
    tensors = scan_inputs(time, count, states=2, channels=2)
    weights = torch.randn(time, count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, expected = selective_scan(*tensors), recurrence(*tensors)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    got = torch.autograd.grad((ours * weights).sum(), tensors)
    wanted = torch.autograd.grad((expected * weights).sum(), tensors, allow_unused=True)
    for one, two in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if two is None else two, rtol=0, atol=1e-11)


def test_gradient_of_the_scan_by_finite_differences() -> None:
    assert torch.autograd.gradcheck(selective_scan, scan_inputs(STEPS + 2, 2, states=2, channels=2))


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worked on at a time, from one number of a sequence to the whole batch."""
    tensors = scan_inputs(11, 5)
    values = []
    for rows, steps in ((1, 1), (2, 3), (5, 11), (100, 100)):
        monkeypatch.setattr(scan_module, "ROWS", rows)
        monkeypatch.setattr(scan_module, "STEPS", steps)
        output = selective_scan(*tensors)
        values.append([output, *torch.autograd.grad(output.square().sum(), tensors)])
    for others in values[1:]:
        for one, two in zip(values[0], others, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_gradients_of_strides_and_of_a_part_alone() -> None:
    """Inputs as views, and a gradient for one of them."""
    inputs, steps, rates, write, read = scan_inputs(4, 3)
    expected = selective_scan(inputs, steps, rates, write, read)
    wanted = torch.autograd.grad(expected.sum(), rates)[0]
    turned = inputs.detach().transpose(0, 1).contiguous().transpose(0, 1)
    leaf = rates.detach().T.contiguous().requires_grad_()
    value = selective_scan(turned, steps.detach(), leaf.T, write.detach(), read.detach())
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), leaf)[0].T, wanted, rtol=0, atol=1e-13)


def test_autocast_leaves_the_scan_in_float32() -> None:
    tensors = [tensor.detach().float().requires_grad_() for tensor in scan_inputs(6, 2)]
    plain = selective_scan(*tensors)
    wanted = torch.autograd.grad(plain.sum(), tensors)
    with torch.autocast("cpu", torch.bfloat16):
        value = selective_scan(*tensors)
        got = torch.autograd.grad(value.sum(), tensors)
    assert torch.equal(value, plain)
    for one, two in zip(got, wanted, strict=True):
        assert torch.equal(one, two)


def test_a_decay_that_underflows_is_finite() -> None:
    """exp(ΔA) of 0 and of 1, value and gradient."""
    inputs, _, rates, write, read = scan_inputs(5, 2)
    for size in (0.0, 1e4):
        steps = torch.full_like(inputs, size).detach().requires_grad_()
        value = selective_scan(inputs, steps, rates, write, read)
        gradients = torch.autograd.grad(value.sum(), (inputs, steps, rates, write, read))
        assert all(bool(part.isfinite().all()) for part in (value, *gradients))


def test_one_step_at_a_time_is_the_scan() -> None:
    inputs, steps, rates, write, read = (tensor.detach() for tensor in scan_inputs(9, 4))
    expected = selective_scan(inputs, steps, rates, write, read)
    state = inputs.new_zeros(4, *rates.shape)
    for t in range(9):
        advance(state, steps[t] * inputs[t], steps[t], rates, write[t])
        output = (read[t, :, :, None] * state).sum(1)
        torch.testing.assert_close(output, expected[t], rtol=0, atol=1e-12)


transformers = pytest.importorskip("transformers")


def make_mamba(seed: int, **sizes: int) -> MambaPolicy:
    """Weights with which states last for some tokens: those of a fresh Mamba hardly depend on the past."""
    shape = {"hidden_size": 12, "num_layers": 3, "state_size": 4} | sizes
    policy = MambaPolicy(VOCABULARY, **shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            shift = 1 if "norm" in name else -1 if name.endswith("dt_proj.bias") else 0
            parameter.copy_(shift + 0.5 * noise)
    return policy


def their_model(policy: MambaPolicy) -> Any:
    """transformers' own language model with the same weights."""
    sizes = policy.architecture()
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["num_layers"],
        state_size=sizes["state_size"],
    )
    model = transformers.MambaForCausalLM(config)
    model.load_state_dict(policy.state_dict(), strict=False)
    model.tie_weights()
    assert model.lm_head.weight is model.backbone.embeddings.weight
    return model


def their_logprobs(model: Any, tokens: Tensor) -> Tensor:
    """Of each token, by transformers; padding and BOS, which are never predicted, left out of the sum."""
    inputs = torch.cat([torch.full_like(tokens[:, :1], BOS), tokens[:, :-1]], 1)
    logits = model(inputs, use_cache=False).logits[..., EOS:]
    chosen = (tokens - EOS).clamp(min=0)[..., None]
    return logits.log_softmax(-1).gather(-1, chosen).squeeze(-1) * (tokens != PAD)


def random_tokens(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 14, (count,), generator=generator).tolist()
    return pad_tokens(
        [[*torch.randint(3, VOCABULARY, (n,), generator=generator).tolist(), EOS] for n in lengths]
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_values_and_gradients_are_those_of_transformers(seed: int) -> None:
    policy = make_mamba(seed)
    model = their_model(policy)
    tokens = random_tokens(10, seed)
    ours, expected = policy.token_logprobs(tokens), their_logprobs(model, tokens)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)

    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))
    (ours * weights).sum().backward()
    (expected * weights).sum().backward()
    theirs = dict(model.named_parameters())
    assert set(theirs) == {name for name, _ in policy.named_parameters()}
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None
        assert float(theirs[name].grad.abs().max()) > 0
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=2e-4, msg=name)


def test_logprobs_are_those_of_transformers() -> None:
    policy = make_mamba(4)
    tokens = random_tokens(40, 5)  # several buckets
    expected = their_logprobs(their_model(policy), tokens).sum(1)
    torch.testing.assert_close(policy.logprobs(tokens), expected, rtol=0, atol=5e-5)


def test_bfloat16_is_near_float32() -> None:
    """Rounding errors of 2^-8 in each product add up at random; values are of size 10."""
    policy = make_mamba(6)
    tokens = random_tokens(40, 7)
    exact = policy.logprobs(tokens).detach()
    policy.precision = "bfloat16"
    rounded = policy.logprobs(tokens).detach()
    assert rounded.dtype == torch.float32
    difference = (rounded - exact).abs()
    assert 0 < float(difference.mean()) < 0.1
    assert float(difference.max()) < 0.6
    policy.logprobs(tokens).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in policy.parameters())


def test_size_of_the_papers_model() -> None:
    """5.27M: 12 layers of 438,016, the last norm, and 256 for each of 65 tokens; the head is tied."""
    with torch.device("meta"):
        policy = MambaPolicy(65, hidden_size=256, num_layers=12, state_size=16)
    layer = (
        256  # norm
        + 256 * 1024  # input and gate
        + 512 * 4 + 512  # convolution
        + 512 * (16 + 2 * 16)  # Δ's low rank, B, C
        + 16 * 512 + 512  # Δ
        + 512 * 16 + 512  # A, D
        + 512 * 256  # output
    )  # fmt: skip
    count = sum(parameter.numel() for parameter in policy.parameters())
    assert count == 12 * layer + 256 + 65 * 256 == 5_273_088


def test_a_fresh_policy_is_near_uniform_and_learns() -> None:
    torch.manual_seed(0)
    policy = MambaPolicy(VOCABULARY, hidden_size=16, num_layers=2, state_size=4)
    tokens = torch.tensor([[3, 4, 5, 6, 7, 8, EOS], [8, 7, 6, 5, 4, 3, EOS]])
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = -policy.logprobs(tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(7 * math.log(VOCABULARY - 2), rel=0.3)
    assert losses[-1] < 1.0  # the least is log 2: which of the two


@pytest.mark.parametrize("call", ["make", "load"])
def test_without_transformers(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mamba.safetensors"
    tokenizer = SmilesTokenizer((*SPECIAL_TOKENS, *"CNOSFI"))
    save_policy(path, make_mamba(8), tokenizer)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name)
    )
    with pytest.raises(ConfigError) as caught:
        make_mamba(8) if call == "make" else load_policy(path)
    assert how_to_install("text") in str(caught.value)
    assert "transformers is not installed" in str(caught.value)
    assert "\n" not in str(caught.value)
