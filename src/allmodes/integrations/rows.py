"""Apply a method to the rows of any trainer's batch: combine rows to samples, and return values by row.

For trainers with tensors and rewards by row, such as verl's. Needs only torch:

    sessions = Sessions(groups=uids, sessions=numbers, positions=[0] * len(uids))
    result = transform_rows(method, sessions, scores=..., mask=..., ref_logprobs=..., beta=0.01)
    rewards = scores + result.values  # before the trainer's own baseline
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.checks import check_same_shape
from allmodes.errors import InputError
from allmodes.integrations.answers import group_figures
from allmodes.integrations.batches import (
    check_finite_rewards,
    check_result,
    prompt_key,
    reference_change,
    transform_figures,
)
from allmodes.methods import Batch, Method, State, stable_ids


@final
class Sessions:
    """Which rows form one sample: an agent's conversation may have several rows with their own tokens.

    groups: for each row, a key shared by all responses to one prompt. sessions: for each row, its response in
    the group. positions: its place in that response. is_padding: padding rows; None if there are none.

    count: S, the number of samples. last: (S,), the last row of each. group_ids: (S,), starting at 0.
    is_real: (N,), whether a row is not padding.
    """

    def __init__(
        self,
        *,
        groups: Sequence[Hashable],
        sessions: Sequence[Hashable],
        positions: Sequence[int],
        is_padding: Sequence[bool] | None = None,
    ) -> None:
        padding = [False] * len(groups) if is_padding is None else is_padding
        numbers: dict[Hashable, int] = {}
        last: list[tuple[int, int]] = []  # of each sample: position and row
        of_row: list[int] = []
        for row, (group, session, position) in enumerate(zip(groups, sessions, positions, strict=True)):
            if padding[row]:
                of_row.append(-1)
                continue
            sample = numbers.setdefault((group, session), len(numbers))
            of_row.append(sample)
            if sample == len(last):
                last.append((position, row))
            else:
                last[sample] = max(last[sample], (position, row))
        self.count = len(last)
        self.last = torch.tensor([row for _, row in last], dtype=torch.long)
        of_group: dict[Hashable, int] = {}
        self.group_ids = torch.tensor(
            [of_group.setdefault(groups[row], len(of_group)) for _, row in last], dtype=torch.long
        )
        self._samples = torch.tensor(of_row, dtype=torch.long)
        self.is_real = self._samples >= 0

    def sums(self, values: Tensor) -> Tensor:
        """Sums over the rows of each sample: (N,) to (S,), in float64."""
        return values.new_zeros(self.count, dtype=torch.float64).index_add_(
            0, self._samples[self.is_real], values[self.is_real].double()
        )

    def spread(self, values: Tensor) -> Tensor:
        """The value of each row's sample: (S,) to (N,), 0 for padding."""
        rows = values.new_zeros(len(self._samples))
        rows[self.is_real] = values[self._samples[self.is_real]]
        return rows

    def in_groups(self, values: Sequence[Any]) -> list[list[Any]]:
        """Values of the samples, (S,), by group."""
        groups: list[list[Any]] = [[] for _ in range(int(self.group_ids.max()) + 1)] if self.count else []
        for group, value in zip(self.group_ids.tolist(), values, strict=True):
            groups[group].append(value)
        return groups


@final
@dataclass(frozen=True, kw_only=True)
class RowsResult:
    """The result of a method for rows.

    values: (N,), float64, equal for all rows of a sample and 0 for padding: R̄ − R, to be added to the
    sample's reward; for a method with its own baseline, the advantage R̄ itself. For a method that changes
    the reference of the KL it includes β times the change. figures: to log, under `transform/` and
    `answers/`, without those that are undefined for this batch. state: to be passed to the next call.
    """

    values: Tensor
    figures: dict[str, float]
    state: State | None


def transform_rows(
    method: Method,
    sessions: Sessions,
    *,
    scores: Tensor,
    mask: Tensor,
    beta: float,
    ref_logprobs: Tensor | None = None,
    logprobs: Tensor | None = None,
    answers: Sequence[Hashable | None] | None = None,
    prompts: Sequence[Any] | None = None,
    state: State | None = None,
) -> RowsResult:
    """Apply a method to the samples of N padded rows of T tokens; tensors on the CPU.

    scores: (N,) or (N, T), summed over tokens; a sample's reward is that of its last row. mask: (N, T), 1 for
    tokens that the model wrote and that the trainer does not leave out for reasons of its own. ref_logprobs,
    logprobs: (N, T), log-probabilities of each token under the reference and under the policy that drew it,
    nats; a sample has the sum over all of its rows. answers: of each row, None for an invalid one; the last
    row's counts. prompts: of each row, texts or messages, by which prompts are known in later batches.

    Raises InputError for input that the method does not accept, for rewards that are not finite, and for
    tensors with shapes other than the mask's.
    """
    rewards = scores if scores.ndim == 1 else scores.sum(-1)
    for name, value in (("ref_logprobs", ref_logprobs), ("logprobs", logprobs)):
        if value is not None:
            check_same_shape(name, value, "mask", mask)
    if sessions.count == 0:
        return RowsResult(values=torch.zeros(len(mask), dtype=torch.float64), figures={}, state=state)
    rewards = rewards[sessions.last]  # in their own precision: as a float64, the float32 of 0.9 is below 0.9
    check_finite_rewards(rewards)
    if bool(rewards.isnan().any()):
        raise InputError("rewards must be finite; got nan")

    def total(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return sessions.sums(values.double().where(mask > 0, 0).sum(-1))

    own = None if answers is None else [answers[row] for row in sessions.last.tolist()]
    keys = None
    if method.needs_prompts and prompts is not None:
        keys = stable_ids([prompt_key(prompts[row]) for row in sessions.last.tolist()])
    batch = Batch(
        rewards=rewards,
        group_ids=sessions.group_ids,
        lengths=sessions.sums((mask > 0).sum(-1)).long(),
        ref_logprobs=total(ref_logprobs),
        logprobs=total(logprobs),
        outcome_ids=None if own is None else stable_ids(own),
        prompt_ids=keys,
    )
    result = method(batch, beta=beta, state=state)
    check_result(method, result, rewards)
    figures = {f"transform/{name}": value for name, value in transform_figures(batch, result).items()}
    if own is not None:
        found = group_figures(sessions.in_groups(own))
        figures |= {f"answers/{name}": value for name, value in found.items()}
    new = result.rewards.double()
    values = new if method.has_own_baseline else new - rewards.double()
    if method.changes_reference:
        values = values + beta * reference_change(batch, result)
    return RowsResult(
        values=sessions.spread(values),
        figures={name: value for name, value in figures.items() if value == value},
        state=result.state if method.has_state else None,
    )
