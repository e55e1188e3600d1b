"""Read a log of samples once: which rows are samples, and which are left out or set aside, and why."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from allmodes.audit.logs.aside import blocks_of, copies, evaluations, mixed_columns
from allmodes.audit.logs.columns import Columns, Log, columns_but_step, selected
from allmodes.audit.logs.sources import Advance, Place, Source
from allmodes.audit.logs.values import LARGEST
from allmodes.errors import InputError
from allmodes.objectives.groups import Groups, group_max, group_min, group_size
from allmodes.reports.formatting import plural
from allmodes.runs.lines import BadLineError, BadLines, count_bad

COPY = "a copy of a generation of an earlier step"
EVALUATION = "of an evaluation"

Convert = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A row as a program wrote it → a row with our column names. Raises BadLineError for a malformed row.

Besides the columns, `note` may say why a reward is not known."""


def read_log(
    source: Source,
    convert: Convert,
    *,
    kept: Callable[[Mapping[str, Any]], object] = lambda row: None,
    is_trls: bool = False,
    has_advantages: bool = False,
    outcome: str | None = None,
    largest: float = LARGEST,
    advance: Advance = lambda done: None,
) -> Log:
    """Read every row once; malformed rows are counted by kind, with the place of the first, and left out.

    In a log with steps, rows marked as an evaluation are set aside; in TRL's logs (`is_trls`) also copies of
    a generation of an earlier step; and in logs that TRL wrote itself (`has_advantages`) evaluations that
    prompts and steps reveal. If outcomes are the same for all samples of each prompt while rewards differ,
    they are the dataset's answers: the column is dropped if `outcome` names it; otherwise a remark says so.

    kept: called with each well-formed converted row, in order. largest: largest accepted reward, in absolute
    value, so that sums of squares are finite. Raises InputError for a log without rows, or without a usable
    row.
    """
    columns = Columns(largest=largest)
    bad: dict[str, BadLines] = {}
    first_places: dict[str, str] = {}
    rows = 0

    def count(kinds: dict[str, BadLines], kind: str, place: Place) -> None:
        count_bad(kinds, kind, place.line)
        first_places.setdefault(kind, source.name(place))

    notes: dict[str, BadLines] = {}
    for place, row in source.rows(advance=advance):
        rows += 1
        try:
            if isinstance(row, BadLineError):
                raise row
            ours = convert(row)
            columns.add(place, ours)
        except BadLineError as error:
            count(bad, str(error), place)
            continue
        if ours.get("note"):
            count(notes, ours["note"], place)
        kept(ours)
    if rows == 0:
        raise InputError("expected at least one sample; got an empty log")
    log = columns.log(bad=bad, notes=notes, first_places=first_places, rows=rows, name_of=source.name)
    log = _with_samples_alone(log, columns.marks, is_trls=is_trls, is_own=has_advantages, count=count)
    if not len(log):
        raise InputError(f"expected samples; got none that can be used: {log.describe(bad)}")
    return _with_outcomes_alone(log, outcome)


def _with_samples_alone(
    log: Log, marks: Tensor, *, is_trls: bool, is_own: bool, count: Callable[..., None]
) -> Log:
    """The log without rows that lack a prompt which others have, copies, and evaluations."""
    chosen = torch.ones(len(log), dtype=torch.bool)
    has_prompt, prompts = log.prompts >= 0, log.prompts.clamp(min=0)
    log = replace(log, prompts=prompts)
    if bool(has_prompt.any()):
        _take(log, chosen, ~has_prompt, "`prompt` is missing", log.bad, count)
    is_marked = marks > 0
    if bool(is_marked[chosen].any()) and not bool(is_marked[chosen].all()):
        if log.steps is None:
            marked = plural(int(is_marked[chosen].sum()), "row")
            remark = f"{marked} of an evaluation are used like the others, because the log has no steps."
            log = replace(log, remarks=(remark,))
        else:
            _take(log, chosen, is_marked, EVALUATION, log.set_aside, count)
    if log.steps is not None and is_trls:
        blocks, digests = blocks_of(log.steps, chosen), mixed_columns(columns_but_step(log), len(log))
        _take(log, chosen, copies(blocks, digests, prompts, rolling=is_own), COPY, log.set_aside, count)
    if log.steps is not None and is_own:
        asked, suspected = evaluations(blocks_of(log.steps, chosen), prompts)
        _take(log, chosen, asked, EVALUATION, log.set_aside, count)
        if bool(suspected.any()):
            rows = plural(int(suspected.sum()), "row")
            first = log.place_name(int(suspected.nonzero()[0]))
            remark = (
                f"{rows} may be of an evaluation (the first on {first}) and are used as samples: steps "
                "use the same prompts again in the same order, as evaluations and epochs without "
                "shuffling do."
            )
            log = replace(log, remarks=(*log.remarks, remark))
    return log if bool(chosen.all()) else selected(log, chosen.nonzero().squeeze(1))


def _take(
    log: Log, chosen: Tensor, rows: Tensor, kind: str, kinds: dict[str, BadLines], count: Callable[..., None]
) -> None:
    """Remove rows from the chosen ones, and count them."""
    taken = (rows & chosen).nonzero().squeeze(1)
    chosen[taken] = False
    for row in taken[:1].tolist():
        place = log.place(row)
        count(kinds, kind, place)
        before = kinds[kind]
        kinds[kind] = BadLines(count=before.count - 1 + len(taken), first_line=before.first_line)


def _with_outcomes_alone(log: Log, outcome: str | None) -> Log:
    """The log without outcomes that are the dataset's answers."""
    if (
        log.outcomes is None
        or log.rewards is None
        or not _is_of_prompts(log.outcomes, log.rewards, log.prompts)
    ):
        return log
    why = "is the same for all samples of each prompt while their rewards differ"
    if outcome is None:
        remark = f"The outcome {why}: it may be the dataset's answer, not the model's."
        return replace(log, remarks=(*log.remarks, remark))
    remark = f"`{outcome}` {why}: it is the dataset's answer, not the model's outcome, and is not used."
    return replace(
        log,
        outcomes=None,
        outcome_names=[],
        outcome_keys=log.outcome_keys[:0],
        remarks=(*log.remarks, remark),
    )


def _is_of_prompts(outcomes: Tensor, rewards: Tensor, prompts: Tensor) -> bool:
    """Whether outcomes depend on the prompt only, and rewards do not."""
    groups = Groups(index=prompts, count=int(prompts.max()) + 1)
    has_several = group_size(groups) > 1
    low, high = (group(outcomes.double(), groups)[has_several] for group in (group_min, group_max))
    known = ~rewards.isnan()
    judged = Groups(index=prompts[known], count=groups.count)
    spread = group_max(rewards[known], judged) - group_min(rewards[known], judged)
    return bool((low == high).all()) and bool((low >= 0).any()) and bool((spread[has_several] > 0).any())
