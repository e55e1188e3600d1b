"""Many settings trained at once: every β, method and seed of a figure is a row of one tensor program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import final

import torch
from torch import Tensor

from allmodes.checks import check_not_negative, check_positive
from allmodes.errors import InputError
from allmodes.objectives import policy_gradient_loss
from allmodes.worlds.methods import Method, Samples
from allmodes.worlds.world import Rollout, World

_CLIP = 0.2  # of the policy's ratio to its old self, which is 1 in these on-policy steps


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """One policy to train. seed tells replicas apart; all randomness comes from the sweep's own seed."""

    method: Method
    beta: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)


@final
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What came out, in the order of the settings given.

    logits: (S, ...) at the end. steps: (T,) at which the history was taken, start and end included. history:
    exact log-probabilities of the outcomes then, (T, S, K), float64.
    """

    settings: tuple[Setting, ...]
    logits: Tensor
    steps: Tensor
    history: Tensor

    @property
    def logprobs(self) -> Tensor:
        """Exact log-probabilities of the outcomes at the end, (S, K), float64."""
        return self.history[-1]

    def where(self, predicate: Callable[[Setting], bool]) -> Tensor:
        """Indices of the settings that a predicate chooses."""
        chosen = [index for index, setting in enumerate(self.settings) if predicate(setting)]
        return torch.tensor(chosen, dtype=torch.long)


def train(
    world: World,
    settings: Sequence[Setting],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    record: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Train all settings at once: one sampling call, one backward pass and one step of Adam for all of them.

    Adam works element by element, so that one over stacked settings is an independent Adam for each. record:
    number of times after the start at which the exact outcome distributions are taken, evenly over the
    steps. progress is called with the number of steps done since the last call.

    Raises InputError for no settings, fewer than one step, sample or record, or a group size that does not
    divide the batch.
    """
    if not settings or steps < 1 or batch_size < 1:
        raise InputError(
            f"expected at least one setting, step and sample; got {len(settings)}, {steps} and {batch_size}"
        )
    check_positive("learning_rate", learning_rate)
    if record < 1:
        raise InputError(f"`record` must be at least 1; got {record}")
    order = sorted(range(len(settings)), key=lambda index: repr(settings[index].method))
    parts = _parts([settings[index] for index in order], batch_size)
    generator = torch.Generator().manual_seed(seed)
    logits = world.initial_logits(len(settings)).requires_grad_()
    log_partition = torch.zeros(len(settings), 1, requires_grad=True)
    adam = torch.optim.Adam([logits, log_partition], lr=learning_rate, fused=True)
    rewards = world.rewards.to(logits.dtype)
    needs_probabilities = any(part.method.needs_probabilities for part in parts)

    marks = torch.linspace(0, steps, min(record, steps) + 1).round().long()
    recorded = set(marks.tolist())
    history = [_exact(world, logits)]
    reported = 0
    for step in range(1, steps + 1):
        rollout = world.rollout(logits, batch_size=batch_size, generator=generator)
        probabilities = None
        if needs_probabilities:
            with torch.no_grad():
                probabilities = world.outcome_logprobs(logits).gather(-1, rollout.outcomes).exp()
        signals = [
            part.method.signal(
                part.samples(rollout, rewards, probabilities),
                log_partition[part.first : part.last].expand(-1, batch_size).reshape(-1),
            )
            for part in parts
        ]
        logprobs = rollout.logprobs.reshape(-1)
        loss = policy_gradient_loss(
            logprobs,
            logprobs.detach(),
            torch.cat([advantages for advantages, _ in signals]),
            clip_low=_CLIP,
            clip_high=_CLIP,
        ).sum()
        for _, extra in signals:
            if extra is not None:
                loss = loss + extra.sum()
        adam.zero_grad()
        # A sum over settings of means over their samples: no setting's gradient depends on another's.
        (loss / batch_size).backward()
        adam.step()
        if step in recorded:
            history.append(_exact(world, logits))
            if progress is not None:
                progress(step - reported)
                reported = step
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return Sweep(
        settings=tuple(settings),
        logits=logits.detach()[back],
        steps=marks,
        history=torch.stack(history)[:, back],
    )


@final
@dataclass(frozen=True, kw_only=True)
class _Part:
    """The rows first..last of the program, which share a method."""

    method: Method
    first: int
    last: int
    beta: Tensor
    group_ids: Tensor

    def samples(self, rollout: Rollout, rewards: Tensor, probabilities: Tensor | None) -> Samples:
        def own(values: Tensor) -> Tensor:
            return values[self.first : self.last].reshape(-1)

        outcomes = own(rollout.outcomes)
        return Samples(
            rewards=rewards[outcomes],
            logprobs=own(rollout.logprobs),
            ref_logprobs=own(rollout.ref_logprobs),
            lengths=own(rollout.lengths),
            outcomes=outcomes,
            group_ids=self.group_ids,
            beta=self.beta,
            probabilities=None if probabilities is None else own(probabilities),
        )


def _parts(settings: Sequence[Setting], batch_size: int) -> list[_Part]:
    parts: list[_Part] = []
    first = 0
    for method, members in groupby(settings, key=lambda setting: setting.method):
        betas = torch.tensor([setting.beta for setting in members])
        size = batch_size if method.group_size is None else method.group_size
        if batch_size % size:
            raise InputError(f"`group_size` must divide the batch of {batch_size}; got {size}")
        count = len(betas) * batch_size
        parts.append(
            _Part(
                method=method,
                first=first,
                last=first + len(betas),
                beta=betas.repeat_interleave(batch_size),
                group_ids=torch.arange(count) // size,
            )
        )
        first += len(betas)
    return parts


def _exact(world: World, logits: Tensor) -> Tensor:
    with torch.no_grad():
        return world.outcome_logprobs(logits.double())


def replicas(setting: Setting, seeds: int) -> list[Setting]:
    """The same setting with seeds 0 to `seeds` − 1."""
    return [replace(setting, seed=seed) for seed in range(seeds)]
