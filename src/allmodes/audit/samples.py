"""The samples of a log: columns for checks, and the groups of each update."""

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError
from allmodes.audit.logs.log import Log
from allmodes.objectives.groups import Groups, pair_groups


@final
class Samples:
    """A log of N samples. Properties raise MissingError for a missing column."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @property
    def rewards(self) -> Tensor:
        """(N,), NaN for a sample without a reward."""
        return present(self.log.rewards, "the log has no column `reward`")

    @property
    def steps(self) -> Tensor:
        """(N,), −1 for a sample without a step."""
        return present(self.log.steps, "the log has no column `step`")

    @property
    def steps_or_one(self) -> Tensor:
        """(N,), all 0 for a log without steps, which is then one window."""
        return torch.zeros(len(self.log), dtype=torch.long) if self.log.steps is None else self.log.steps

    @property
    def has_step(self) -> Tensor:
        """Which samples have a step, (N,); all samples of a log without steps."""
        return self.steps_or_one >= 0

    @property
    def outcomes(self) -> Tensor:
        """(N,), −1 if invalid; the responses if the log has no outcomes."""
        log = self.log
        if log.outcomes is not None:
            return log.outcomes
        responses = present(log.responses, "the log has no column `outcome` and no column `response`")
        return responses & torch.iinfo(torch.long).max  # digests are signed, outcomes are not

    def prompts_of(self, rows: Tensor) -> Groups:
        """The prompts of some samples."""
        return Groups(index=self.log.prompts[rows], count=len(self.log.prompt_names))

    @cached_property
    def updates(self) -> Groups:
        """The groups of samples: those of one prompt in one step."""
        prompts = Groups(index=self.log.prompts, count=len(self.log.prompt_names))
        return prompts if self.log.steps is None else pair_groups(self.log.steps, prompts)

    @cached_property
    def commonest_group_size(self) -> int:
        """The most common number of samples of a prompt in a step."""
        if self.log.steps is None:
            raise MissingError("the group size is not known: give `--group-size`")
        sizes = torch.bincount(self.updates.index)
        commonest = int(sizes[sizes > 0].mode().values)
        if commonest < 2:
            raise MissingError("the log has only one sample of a prompt in a step: give `--group-size`")
        return commonest


def present(column: Tensor | None, missing: str = "a column is missing") -> Tensor:
    """A column that a check needs. Raises MissingError with the given message if it is missing."""
    if column is None:
        raise MissingError(missing)
    return column
