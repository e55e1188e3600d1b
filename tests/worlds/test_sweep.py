"""Sweeps: settings trained at once are settings trained one by one, and they come to rest as theory says.

`Scripted` is a world without chance: what it draws is a function of the step and the policy. On it, every
method is trained a second time by a plain loop that is written here, one setting at a time.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, final

import pytest
import torch
from torch import Generator, Tensor

from allmodes.errors import InputError
from allmodes.methods import IPS, MARA, Batch, Method, Result, State, Tempered, Then
from allmodes.objectives import BatchQuantile, GroupQuantile
from allmodes.targets import total_variation
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.grid import hyper_grid, two_paths
from allmodes.worlds.optimum import exact_optimum
from allmodes.worlds.sweep import Setting, Sweep, replicas, train
from allmodes.worlds.training import (
    ENTROPY,
    FLOWRL,
    FORWARD_KL,
    GRPO,
    GRPO_ENTROPY,
    IPS_EXACT,
    IPS_GROUP,
    IPS_GRPO_ENTROPY,
    LEAVE_ONE_OUT,
    REVERSE_KL,
    TRAJECTORY_BALANCE,
    Training,
    training_of,
)
from allmodes.worlds.world import Rollout
from tensors import close

REFERENCE = torch.tensor([0.4, 0.3, 0.1, 0.2], dtype=torch.float64).log()
REWARDS = torch.tensor([0.2, 0.7, 1.0, 0.8], dtype=torch.float64)
LENGTHS = torch.tensor([3, 1, 2, 5])
THRESHOLD = 0.5
STEPS, BATCH, RATE = 30, 8, 0.05


@pytest.fixture
def double() -> Iterator[None]:
    """Policies in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Scripted:
    """Four outcomes. Step t cuts the cumulative distribution of each policy at heights that all share."""

    samples_per_prompt = None
    rewards = REWARDS
    ref_outcome_logprobs = REFERENCE
    log_path_shares = torch.full((4,), -math.log(4), dtype=torch.float64)

    def __init__(self, steps: int = STEPS, batch_size: int = BATCH) -> None:
        generator = torch.Generator().manual_seed(0)
        self.heights = torch.rand(steps, batch_size, generator=generator, dtype=torch.float64)
        self.step = 0

    def initial_logits(self, settings: int) -> Tensor:
        return torch.tensor([0.1, -0.4, 0.0, 0.3]).expand(settings, -1).clone()

    def drawn(self, logits: Tensor, step: int) -> Tensor:
        """Outcomes of policies (..., K), (..., B)."""
        cumulative = logits.detach().softmax(-1).cumsum(-1)
        heights = self.heights[step].expand(*logits.shape[:-1], -1) * cumulative[..., -1:]
        return (heights.unsqueeze(-1) >= cumulative.unsqueeze(-2)).sum(-1)

    def rollout(self, logits: Tensor, *, batch_size: int, generator: Generator) -> Rollout:
        outcomes = self.drawn(logits, self.step)
        assert outcomes.shape == (len(logits), batch_size)
        self.step += 1
        return Rollout(
            outcomes=outcomes,
            rewards=REWARDS.to(logits.dtype)[outcomes],
            logprobs=logits.log_softmax(-1).gather(-1, outcomes),
            ref_logprobs=REFERENCE.to(logits.dtype)[outcomes],
            lengths=LENGTHS[outcomes],
        )

    def outcome_logprobs(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)


# The plain loop: the loss of one group of one setting, from log p of all outcomes and log Z.

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]  # y (G,), log p (K,), log Z, β → losses (G,)


def counts_of(y: Tensor) -> Tensor:
    return (y.unsqueeze(0) == y.unsqueeze(1)).sum(1)


def others_mean(values: Tensor) -> Tensor:
    return torch.stack([torch.cat([values[:i], values[i + 1 :]]).mean() for i in range(len(values))])


def standardised(values: Tensor) -> Tensor:
    return (values - values.mean()) / (values.std() + 1e-4)


def likelihood(advantages: Tensor, logprobs: Tensor) -> Tensor:
    return -advantages.detach() * logprobs


def plain_reverse(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    gains = REWARDS[y] - beta * (logprobs[y] - REFERENCE[y]).detach()
    return likelihood(gains - others_mean(gains), logprobs[y])


def plain_reverse_in_loss(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    ratio = logprobs[y] - REFERENCE[y]
    return likelihood(REWARDS[y] - others_mean(REWARDS[y]), logprobs[y]) + beta * ratio**2 / 2


def plain_forward(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    ratio = REFERENCE[y] - logprobs[y]
    k3 = ratio.exp() - 1 - ratio
    return likelihood(REWARDS[y] - others_mean(REWARDS[y]), logprobs[y]) + beta * k3


def plain_entropy(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    gains = REWARDS[y] - beta * logprobs[y].detach()
    return likelihood(gains - others_mean(gains), logprobs[y])


def plain_leave_one_out(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    return likelihood(REWARDS[y] - others_mean(REWARDS[y]), logprobs[y])


def plain_grpo(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    ratio = REFERENCE[y] - logprobs[y]
    return likelihood(standardised(REWARDS[y]), logprobs[y]) + beta * (ratio.exp() - 1 - ratio)


def plain_grpo_entropy(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    return likelihood(standardised(REWARDS[y]), logprobs[y]) + beta * logprobs[y] ** 2 / 2


def plain_flowrl(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    ratio = (logprobs[y] - REFERENCE[y]) / LENGTHS[y]
    return (log_z + ratio - standardised(REWARDS[y]) / beta) ** 2


def plain_trajectory_balance(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    return (log_z + logprobs[y] - REFERENCE[y] - REWARDS[y] / beta) ** 2


def plain_ips_exact(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    scaled = REWARDS[y] / logprobs[y].detach().exp()
    return likelihood(scaled - others_mean(scaled), logprobs[y])


def plain_ips_group(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    return likelihood(REWARDS[y] * len(y) / counts_of(y), logprobs[y])


def plain_ips_grpo(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    scaled = standardised(REWARDS[y] * len(y) / counts_of(y))
    return likelihood(scaled, logprobs[y]) + beta * logprobs[y] ** 2 / 2


def plain_mara(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
    rewards = REWARDS[y].clone()
    good = rewards >= THRESHOLD
    if bool(good.any()):
        z = max(y[good].tolist(), key=lambda outcome: float(REFERENCE[outcome]))
        rewards[good] = REWARDS[z] + beta * (REFERENCE[z] - REFERENCE[y[good]])
    gains = rewards - beta * (logprobs[y] - REFERENCE[y]).detach()
    return likelihood(gains - others_mean(gains), logprobs[y])


WITH_MARA = Training(name="MARA", method=MARA(threshold=THRESHOLD))
MARA_2 = replace(WITH_MARA, method=MARA(threshold=THRESHOLD, algorithm=2))

# Out of order, with methods that come twice, so that a sweep has to sort them and to put them back.
PLAIN: list[tuple[Setting, Loss]] = [
    (Setting(training=TRAJECTORY_BALANCE, beta=0.5), plain_trajectory_balance),
    (Setting(training=REVERSE_KL, beta=0.3), plain_reverse),
    (Setting(training=WITH_MARA, beta=0.7), plain_mara),
    (Setting(training=IPS_EXACT, beta=0.0), plain_ips_exact),
    (Setting(training=GRPO, beta=0.2), plain_grpo),
    (Setting(training=TRAJECTORY_BALANCE, beta=1.5), plain_trajectory_balance),
    (Setting(training=FLOWRL, beta=1 / 15), plain_flowrl),
    (Setting(training=replace(IPS_GROUP, group_size=4), beta=0.0), plain_ips_group),
    (Setting(training=ENTROPY, beta=0.2), plain_entropy),
    (Setting(training=IPS_GROUP, beta=0.0), plain_ips_group),
    (Setting(training=REVERSE_KL, beta=2.0), plain_reverse),
    (Setting(training=replace(WITH_MARA, group_size=2), beta=0.4), plain_mara),
    (Setting(training=IPS_GRPO_ENTROPY, beta=0.1), plain_ips_grpo),
    (Setting(training=LEAVE_ONE_OUT, beta=0.0), plain_leave_one_out),
    (Setting(training=FORWARD_KL, beta=0.4), plain_forward),
    (Setting(training=MARA_2, beta=0.7), plain_mara),
    (Setting(training=GRPO_ENTROPY, beta=0.3), plain_grpo_entropy),
    (Setting(training=replace(GRPO, group_size=4), beta=0.2), plain_grpo),
    (Setting(training=replace(REVERSE_KL, kl_in="loss"), beta=0.6), plain_reverse_in_loss),
    (Setting(training=replace(TRAJECTORY_BALANCE, group_size=2), beta=0.8), plain_trajectory_balance),
    (Setting(training=replace(FLOWRL, group_size=4), beta=0.3), plain_flowrl),
]


def plain_loop(
    setting: Setting, loss_of: Loss, optimizer: Callable[[list[Tensor], float], torch.optim.Optimizer]
) -> Tensor:
    """Log p after each step, the start included, (T + 1, K)."""
    world = Scripted()
    logits = world.initial_logits(1)[0].requires_grad_()
    log_z = torch.zeros((), requires_grad=True)
    optimize = optimizer([logits, log_z], RATE)
    size = BATCH if setting.training.group_size is None else setting.training.group_size
    path = [logits.detach().log_softmax(0)]
    for step in range(STEPS):
        logprobs = logits.log_softmax(0)
        losses = [
            loss_of(group, logprobs, log_z, setting.beta) for group in world.drawn(logits, step).split(size)
        ]
        optimize.zero_grad()
        torch.cat(losses).mean().backward()
        optimize.step()
        path.append(logits.detach().log_softmax(0))
    return torch.stack(path)


def sweep_of(settings: list[Setting], *, record: int = STEPS) -> Sweep:
    return train(
        Scripted(), settings, steps=STEPS, batch_size=BATCH, learning_rate=RATE, seed=0, record=record
    )


def plain_adam(parameters: list[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=rate)


def plain_descent(parameters: list[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=rate)


@pytest.mark.usefixtures("double")
def test_a_sweep_is_every_setting_trained_alone_by_its_own_adam() -> None:
    sweep = sweep_of([setting for setting, _ in PLAIN])
    assert sweep.settings == tuple(setting for setting, _ in PLAIN)
    assert sweep.history.shape == (STEPS + 1, len(PLAIN), 4)
    for index, (setting, loss_of) in enumerate(PLAIN):
        alone = plain_loop(setting, loss_of, plain_adam)
        assert float((alone[-1] - alone[0]).abs().max()) > 0.2, "nothing was learnt"
        close(sweep.history[:, index], alone, 1e-9)
        close(sweep.logits[index].log_softmax(0), alone[-1], 1e-9)


@pytest.mark.usefixtures("double")
def test_a_sweep_has_the_gradient_of_the_mean_loss_of_each_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam hides a factor; plain descent shows it."""

    def descent(parameters: list[Tensor], *, lr: float, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr)

    monkeypatch.setattr(torch.optim, "Adam", descent)
    sweep = sweep_of([setting for setting, _ in PLAIN])
    for index, (setting, loss_of) in enumerate(PLAIN):
        close(sweep.history[:, index], plain_loop(setting, loss_of, plain_descent), 1e-9)


@pytest.mark.usefixtures("double")
def test_a_setting_does_not_depend_on_the_company_it_keeps() -> None:
    settings = [setting for setting, _ in PLAIN]
    together = sweep_of(settings)
    for chosen in ([5], [3, 0], [14, 2, 9], list(reversed(range(len(settings))))):
        fewer = sweep_of([settings[index] for index in chosen])
        assert fewer.settings == tuple(settings[index] for index in chosen)
        close(fewer.history, together.history[:, chosen], 1e-10)
        close(fewer.logits, together.logits[chosen], 1e-10)


@final
@dataclass(frozen=True)
class Rising(Method):
    """Multiplies rewards by what the prompt has earned so far: a memory that shows whose samples it holds."""

    name: ClassVar[str] = "rising"
    label: ClassVar[str] = "rising"
    color: ClassVar[str] = "#123456"
    law: ClassVar[str] = "none"
    source: ClassVar[str] = "a test"

    @property
    def has_state(self) -> bool:
        return True

    @property
    def needs_prompts(self) -> bool:
        return True

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        assert batch.prompt_ids is not None
        earned: dict[int, float] = {} if state is None else dict(state["earned"])
        prompts = batch.prompt_ids.tolist()
        factor = batch.rewards.new_tensor([1 + earned.get(prompt, 0.0) for prompt in prompts])
        for reward, prompt in zip(batch.rewards.tolist(), prompts, strict=True):
            earned[prompt] = earned.get(prompt, 0.0) + reward
        return Result(rewards=batch.rewards * factor, metrics={}, state={"earned": earned})


STATEFUL = {
    "a memory of each prompt": Rising(),
    "quantile of each prompt": MARA(threshold=GroupQuantile(0.6)),
    "quantile of the batch": MARA(threshold=BatchQuantile(0.6)),
    "quantile of the batch, then a memory": Then(MARA(threshold=BatchQuantile(0.6)), Rising()),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", STATEFUL)
def test_a_method_remembers_each_setting_by_itself(name: str) -> None:
    """The two seeds have the same β and draw alike: only what the method holds of others could part them."""
    training = training_of(STATEFUL[name])
    assert training.method.has_state
    settings = [Setting(training=training, beta=beta, seed=seed) for beta in (0.2, 0.9) for seed in (0, 1)]
    together = sweep_of([*settings, Setting(training=REVERSE_KL, beta=0.3)])
    for index, setting in enumerate(settings):
        close(together.history[:, index], sweep_of([setting]).history[:, 0], 1e-10)
    assert float((together.history[-1, 0] - together.history[-1, 2]).abs().max()) > 1e-3


@pytest.mark.usefixtures("double")
def test_what_a_method_remembers_is_handed_to_the_next_step() -> None:
    """Against the plain loop, whose loss keeps the memory in a list of its own."""
    earned = [0.0]

    def plain_rising(y: Tensor, logprobs: Tensor, log_z: Tensor, beta: float) -> Tensor:
        gains = REWARDS[y] * (1 + earned[0]) - beta * (logprobs[y] - REFERENCE[y]).detach()
        earned[0] += float(REWARDS[y].sum())
        return likelihood(gains - others_mean(gains), logprobs[y])

    setting = Setting(training=training_of(Rising()), beta=0.7)
    alone = plain_loop(setting, plain_rising, plain_adam)
    close(sweep_of([setting, setting]).history[:, 1], alone, 1e-9)
    assert float((alone - sweep_of([replace(setting, training=REVERSE_KL)]).history[:, 0]).abs().max()) > 0.1


# What is recorded


@pytest.mark.parametrize(
    ("steps", "record", "marks"),
    [
        (10, 1, [0, 10]),
        (10, 5, [0, 2, 4, 6, 8, 10]),
        (10, 3, [0, 3, 7, 10]),
        (4, 4, [0, 1, 2, 3, 4]),
        (4, 100, [0, 1, 2, 3, 4]),
        (1, 1, [0, 1]),
    ],
)
def test_history_is_taken_evenly_from_the_start_to_the_end(steps: int, record: int, marks: list[int]) -> None:
    settings = [Setting(training=REVERSE_KL, beta=0.3), Setting(training=ENTROPY, beta=0.3)]

    def sweep(record: int) -> Sweep:
        return train(
            Scripted(), settings, steps=steps, batch_size=BATCH, learning_rate=RATE, seed=0, record=record
        )

    some, whole = sweep(record), sweep(steps)
    assert some.steps.tolist() == marks
    assert some.history.shape == (len(marks), 2, 4)
    close(some.history, whole.history[marks])
    start = Scripted().initial_logits(2).double().log_softmax(-1)
    close(some.history[0], start)
    assert torch.equal(some.logprobs, some.history[-1])
    close(some.logprobs, some.logits.double().log_softmax(-1))
    assert not torch.equal(some.logprobs, start)


def test_history_is_in_float64_and_the_policies_in_the_default_precision() -> None:
    sweep = sweep_of([Setting(training=REVERSE_KL, beta=0.3), Setting(training=IPS_EXACT, beta=0.0)])
    assert sweep.logits.dtype == torch.float32
    assert not sweep.logits.requires_grad
    assert sweep.history.dtype == torch.float64
    close(sweep.history.exp().sum(-1), torch.ones(STEPS + 1, 2, dtype=torch.float64))


@pytest.mark.parametrize(("steps", "record"), [(10, 1), (10, 3), (7, 7), (5, 50)])
def test_progress_adds_up_to_the_steps(steps: int, record: int) -> None:
    calls: list[int] = []
    sweep = train(
        Scripted(),
        [Setting(training=REVERSE_KL, beta=0.3)],
        steps=steps,
        batch_size=BATCH,
        learning_rate=RATE,
        seed=0,
        record=record,
        progress=calls.append,
    )
    assert calls == sweep.steps.diff().tolist()
    assert sum(calls) == steps


def test_where_finds_settings() -> None:
    settings = [setting for setting, _ in PLAIN]
    sweep = sweep_of(settings, record=1)
    assert sweep.where(lambda setting: setting.training == TRAJECTORY_BALANCE).tolist() == [0, 5]
    assert sweep.where(lambda setting: setting.beta > 1).tolist() == [5, 10]
    nothing = sweep.where(lambda setting: setting.beta > 99)
    assert sweep.logprobs[nothing].shape == (0, 4)


def test_replicas_differ_in_their_seed_alone() -> None:
    setting = Setting(training=ENTROPY, beta=0.3, seed=9)
    assert replicas(setting, 3) == [
        replace(setting, seed=0),
        replace(setting, seed=1),
        replace(setting, seed=2),
    ]


# Chance


def small_world() -> Categorical:
    ref_logprobs = torch.tensor([0.35, 0.25, 0.15, 0.1, 0.1, 0.05], dtype=torch.float64).log()
    return Categorical(ref_logprobs, torch.tensor([0.3, 1.0, 0.7, 0.9, 0.2, 0.8], dtype=torch.float64))


def test_a_sweep_depends_on_its_seed_alone() -> None:
    settings = [*replicas(Setting(training=REVERSE_KL, beta=0.3), 3), Setting(training=IPS_EXACT, beta=0.0)]

    def history(seed: int) -> Tensor:
        return train(
            small_world(), settings, steps=20, batch_size=4, learning_rate=RATE, seed=seed, record=20
        ).history

    first = history(1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(first, history(1))
    assert torch.equal(state, torch.get_rng_state())
    other = history(2)
    assert torch.equal(first[0], other[0])
    assert not bool((first[-1] == other[-1]).all(-1).any())


def test_replicas_in_one_sweep_draw_their_own_samples() -> None:
    settings = replicas(Setting(training=REVERSE_KL, beta=0.3), 3)
    ends = train(small_world(), settings, steps=20, batch_size=4, learning_rate=RATE, seed=1).logprobs
    for one, another in ((0, 1), (0, 2), (1, 2)):
        assert float((ends[one] - ends[another]).abs().max()) > 1e-3


# Errors


def train_with(settings: list[Setting], *, steps: int = 2, batch_size: int = BATCH, record: int = 1) -> Sweep:
    return train(
        Scripted(), settings, steps=steps, batch_size=batch_size, learning_rate=RATE, seed=0, record=record
    )


def test_an_empty_sweep_is_refused() -> None:
    one = [Setting(training=REVERSE_KL, beta=0.3)]
    with pytest.raises(InputError, match="at least one setting, step and sample; got 0, 2 and 8"):
        train_with([])
    with pytest.raises(InputError, match="got 1, 0 and 8"):
        train_with(one, steps=0)
    with pytest.raises(InputError, match="got 1, 2 and 0"):
        train_with(one, batch_size=0)


@pytest.mark.parametrize("size", [3, 16, 0, -4])
def test_a_group_size_that_does_not_divide_the_batch_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"`group_size` must .*; got {size}"):
        train_with(
            [
                Setting(training=REVERSE_KL, beta=0.3),
                Setting(training=replace(REVERSE_KL, group_size=size), beta=0.3),
            ]
        )


@pytest.mark.parametrize("record", [0, -1])
def test_a_sweep_that_would_not_record_its_end_is_refused(record: int) -> None:
    """Without the end in the history, `Sweep.logprobs` would tell the start as "at the end"."""
    with pytest.raises(InputError, match="`record`"):
        train_with([Setting(training=REVERSE_KL, beta=0.3)], record=record)


# Where training comes to rest. Each bound is above the mean plus ten standard deviations of what 20 other
# seeds gave: by Chebyshev's inequality a fresh seed passes it at most once in a hundred times.


def resting(sweep: Sweep) -> Tensor:
    """The mean distribution over the second half of the history, (S, K): steps of Adam leave it noisy."""
    return sweep.history[len(sweep.history) // 2 :].exp().mean(0).log()


KL_FIRST = Training(name="IPS, KL first", kl="none", method=IPS(kl_first=True), frequencies="exact")
GROUPS_OF_4 = replace(IPS_GROUP, group_size=4)
OTHERS = MARA(threshold=THRESHOLD, anchor="leave_one_out")
HALF = Tempered(threshold=THRESHOLD, flattening=0.5)
RESTS = [
    (Setting(training=REVERSE_KL, beta=0.4), 1e-3),
    (Setting(training=REVERSE_KL, beta=1.0), 1e-3),
    (Setting(training=replace(REVERSE_KL, kl_in="loss"), beta=0.4), 5e-3),
    (Setting(training=FORWARD_KL, beta=0.4), 3e-3),
    (Setting(training=ENTROPY, beta=0.4), 1e-3),
    (Setting(training=TRAJECTORY_BALANCE, beta=0.4), 1e-3),
    (Setting(training=IPS_EXACT, beta=0.0), 1e-3),
    (Setting(training=replace(IPS_EXACT, kl="reverse"), beta=0.8), 1e-3),
    (Setting(training=replace(IPS_EXACT, kl="forward"), beta=0.8), 1e-3),
    (Setting(training=replace(IPS_EXACT, kl="entropy"), beta=0.8), 1e-3),
    (Setting(training=KL_FIRST, beta=0.8), 1e-3),
    # The targets of groups of 3, 4 and 5 are .065 and .035 apart, and .18 from exact frequencies.
    (Setting(training=GROUPS_OF_4, beta=0.0), 0.045),
    (Setting(training=replace(GROUPS_OF_4, advantages="mean"), beta=0.0), 0.045),
    (Setting(training=replace(GROUPS_OF_4, advantages="leave_one_out"), beta=0.0), 0.045),
    (Setting(training=WITH_MARA, beta=0.2), 5e-3),
    (Setting(training=MARA_2, beta=0.2), 5e-3),
    (
        Setting(
            training=replace(WITH_MARA, method=MARA(threshold=THRESHOLD, anchor="leave_one_out")), beta=0.2
        ),
        5e-3,
    ),
    (Setting(training=replace(WITH_MARA, kl="forward"), beta=0.4), 5e-3),
    (
        Setting(training=replace(WITH_MARA, method=Tempered(threshold=THRESHOLD, flattening=0.5)), beta=0.2),
        5e-3,
    ),
]


def test_training_comes_to_rest_at_the_exact_optimum() -> None:
    """All optima differ by far more than the bounds, so that each method is told from the others."""
    world = small_world()
    settings = [setting for setting, _ in RESTS]
    sweep = train(world, settings, steps=400, batch_size=256, learning_rate=0.05, seed=0, record=40)
    for (setting, bound), found in zip(RESTS, resting(sweep), strict=True):
        optimum = exact_optimum(world, setting.training, beta=setting.beta)
        assert optimum is not None
        distance = float(total_variation(found, optimum))
        assert distance < bound, f"{setting}: {distance}"


GRID_RESTS = [
    (Setting(training=ENTROPY, beta=0.3), 3e-3),
    (Setting(training=REVERSE_KL, beta=0.3), 1e-3),
    (Setting(training=FORWARD_KL, beta=0.3), 4e-3),
    (Setting(training=TRAJECTORY_BALANCE, beta=0.3), 1e-3),
    (Setting(training=IPS_EXACT, beta=0.0), 1e-3),
    (Setting(training=replace(IPS_EXACT, kl="entropy"), beta=0.3), 1e-3),
    (Setting(training=KL_FIRST, beta=0.3), 1e-3),
]


def test_training_in_a_hyper_grid_comes_to_rest_at_the_exact_optimum() -> None:
    world = hyper_grid(2, 4, background=0.1)
    settings = [setting for setting, _ in GRID_RESTS]
    sweep = train(world, settings, steps=400, batch_size=128, learning_rate=0.05, seed=0, record=40)
    for (setting, bound), found in zip(GRID_RESTS, resting(sweep), strict=True):
        optimum = exact_optimum(world, setting.training, beta=setting.beta)
        assert optimum is not None
        distance = float(total_variation(found, optimum))
        assert distance < bound, f"{setting}: {distance}"


def test_in_two_paths_entropy_shares_by_the_number_of_paths_and_ips_by_reward() -> None:
    """35 : 7 at either weight of the entropy; half and half under IPS."""
    world = two_paths()
    settings = [
        Setting(training=ENTROPY, beta=0.2),
        Setting(training=ENTROPY, beta=0.4),
        Setting(training=IPS_EXACT, beta=0.0),
    ]
    sweep = train(world, settings, steps=400, batch_size=128, learning_rate=0.05, seed=0, record=40)
    found = resting(sweep)
    a, b = (found[:, world.outcomes.index(cell)].exp() for cell in ((4, 3), (6, 1)))
    ratio = (a / b).tolist()
    assert ratio[0] == pytest.approx(5, abs=0.15)
    assert ratio[1] == pytest.approx(5, abs=0.01)
    assert ratio[2] == pytest.approx(1, abs=0.02)
    for setting, row, bound in zip(settings, found, (0.006, 0.001, 0.01), strict=True):
        optimum = exact_optimum(world, setting.training, beta=setting.beta)
        assert optimum is not None
        assert float(total_variation(row, optimum)) < bound
    assert min(float(a[2]), float(b[2])) > 0.49
