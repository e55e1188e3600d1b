"""Train many settings in one batch: every β, training and seed of a figure is a row of one tensor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import final

import torch
from torch import Tensor

from allmodes.checks import check_not_negative, check_positive
from allmodes.errors import InputError
from allmodes.methods import Batch, State
from allmodes.objectives import policy_gradient_loss
from allmodes.worlds.training import Training
from allmodes.worlds.world import Rollout, World

_CLIP = 0.2  # of the policy's ratio to its old self, which is 1 in these on-policy steps


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """One policy to train. seed distinguishes replicas; all randomness comes from the sweep's own seed."""

    training: Training
    beta: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)


@final
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Results, in the order of the settings given.

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
    decays: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Train all settings together: one sampling call, one backward pass and one step of Adam for all of them.

    Adam works element by element, so one Adam over stacked settings is an independent Adam for each. record:
    number of times after the start at which the exact outcome distributions are taken, evenly over the steps.
    decays: whether the learning rate falls linearly to 0. progress is called with the number of steps done
    since the last call.

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
    order = sorted(range(len(settings)), key=lambda index: repr(settings[index].training))
    parts = _parts([settings[index] for index in order], batch_size, world.samples_per_prompt)
    states: list[State | None] = [None] * len(parts)
    generator = torch.Generator().manual_seed(seed)
    logits = world.initial_logits(len(settings)).requires_grad_()
    log_partition = torch.zeros(len(settings), 1, requires_grad=True)
    adam = torch.optim.Adam([logits, log_partition], lr=learning_rate, fused=True)
    needs_probabilities = any(part.training.needs_probabilities for part in parts)

    marks = torch.linspace(0, steps, min(record, steps) + 1).round().long()
    recorded = set(marks.tolist())
    history = [_exact(world, logits)]
    reported = 0
    for step in range(1, steps + 1):
        rollout = world.rollout(logits, batch_size=batch_size, generator=generator)
        probabilities = None
        if needs_probabilities:
            with torch.no_grad():
                probabilities = _probabilities(world.outcome_logprobs(logits), rollout)
        terms = [
            part.training.loss_terms(
                part.batch(rollout, probabilities),
                part.own(rollout.logprobs),
                beta=part.beta,
                log_partition=log_partition[part.first : part.last].expand(-1, batch_size).reshape(-1),
                state=state,
            )
            for part, state in zip(parts, states, strict=True)
        ]
        states = [part_terms.state for part_terms in terms]
        logprobs = rollout.logprobs.reshape(-1)
        loss = policy_gradient_loss(
            logprobs,
            logprobs.detach(),
            torch.cat([part_terms.advantages for part_terms in terms]),
            clip_low=_CLIP,
            clip_high=_CLIP,
        ).sum()
        for part_terms in terms:
            if part_terms.beside is not None:
                loss = loss + part_terms.beside.sum()
        if decays:
            adam.param_groups[0]["lr"] = learning_rate * (1 - (step - 1) / steps)
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
    """The settings first..last, which share a training.

    group_ids: (N,). rows: each sample's row, (N,), which keeps the prompts of settings apart.
    """

    training: Training
    first: int
    last: int
    beta: Tensor
    group_ids: Tensor
    rows: Tensor

    def own(self, values: Tensor) -> Tensor:
        """This part of values (S, B), flat, (N,)."""
        return values[self.first : self.last].reshape(-1)

    def batch(self, rollout: Rollout, probabilities: Tensor | None) -> Batch:
        """What the training's method sees of a rollout."""
        prompt_ids = None
        if self.training.method.needs_prompts:
            prompt_ids = self.rows
            if rollout.prompts is not None:
                prompt_ids = (prompt_ids << 32) + self.own(rollout.prompts)
        if not self.training.needs_probabilities:
            probabilities = None
        return Batch(
            rewards=self.own(rollout.rewards),
            group_ids=self.group_ids,
            lengths=self.own(rollout.lengths),
            ref_logprobs=self.own(rollout.ref_logprobs),
            logprobs=self.own(rollout.logprobs.detach()),
            outcome_ids=self.own(rollout.outcomes),
            prompt_ids=prompt_ids,
            outcome_probabilities=None if probabilities is None else self.own(probabilities),
            wants_metrics=False,
        )


def _parts(settings: Sequence[Setting], batch_size: int, samples_per_prompt: int | None) -> list[_Part]:
    parts: list[_Part] = []
    whole = batch_size if samples_per_prompt is None else samples_per_prompt
    for training, members in groupby(settings, key=lambda setting: setting.training):
        size = whole if training.group_size is None else training.group_size
        if whole % size or size < training.method.min_group_size:
            least = training.method.min_group_size
            raise InputError(
                f"`group_size` must divide the {'batch' if samples_per_prompt is None else 'prompt'} of "
                f"{whole}" + (f" and be at least {least}" if least > 1 else "") + f"; got {size}"
            )
        alike = list(members)
        # If prompts of a batch are not independent, each setting's samples are a batch of their own.
        batches = [[setting] for setting in alike] if training.method.couples_prompts else [alike]
        for batch in batches:
            first = parts[-1].last if parts else 0
            count = len(batch) * batch_size
            rows = torch.arange(first, first + len(batch)).repeat_interleave(batch_size)
            parts.append(
                _Part(
                    training=training,
                    first=first,
                    last=first + len(batch),
                    beta=torch.tensor([setting.beta for setting in batch]).repeat_interleave(batch_size),
                    group_ids=torch.arange(count) // size,
                    rows=rows,
                )
            )
    return parts


def _probabilities(exact: Tensor, rollout: Rollout) -> Tensor:
    """Probability of each sample's outcome, (S, B); that of no outcome is the last column."""
    if rollout.prompts is None:
        return exact.gather(-1, rollout.outcomes).exp()
    rows = torch.arange(len(exact)).unsqueeze(1)
    return exact[rows, rollout.prompts, rollout.outcomes].exp()


def _exact(world: World, logits: Tensor) -> Tensor:
    with torch.no_grad():
        return world.outcome_logprobs(logits.double())


def replicas(setting: Setting, seeds: int) -> list[Setting]:
    """The same setting with seeds 0 to `seeds` − 1."""
    return [replace(setting, seed=seed) for seed in range(seeds)]
