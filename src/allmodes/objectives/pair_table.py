"""A sparse table of values for pairs of prompt and outcome, and its rows for one batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

Table = Mapping[str, Tensor]
"""`prompt_ids` and `outcome_ids`, int64, sorted by both, each pair once; and columns of float64; all (M,)."""


@final
@dataclass(frozen=True, kw_only=True)
class PromptRows:
    """The rows of all pairs that belong to the prompts of a batch, including new pairs.

    prompt_ids: (P,) distinct, sorted. prompt: (N,) each sample's prompt, from 0 to P − 1. row: (N,) each
    sample's pair, from 0 to V − 1; −1 for a sample without an outcome. row_prompt, outcome_ids: (V,) of the
    pairs, sorted by both. columns: (V,) each, 0 for new pairs. is_new: (V,).
    """

    prompt_ids: Tensor
    prompt: Tensor
    row: Tensor
    row_prompt: Tensor
    outcome_ids: Tensor
    columns: dict[str, Tensor]
    is_new: Tensor

    def per_prompt(self, values: Tensor) -> Tensor:
        """Sums of values of the pairs, (V,) → (P,)."""
        return values.new_zeros(len(self.prompt_ids)).index_add_(0, self.row_prompt, values)


def open_rows(
    table: Table | None, prompt_ids: Tensor, outcome_ids: Tensor, *, columns: tuple[str, ...]
) -> PromptRows:
    """The rows for samples of these prompts and outcomes, both (N,) int64; a negative outcome means none.

    table: None is an empty one. Cost: three sorts of the samples; the table is searched, not sorted.
    """
    table = _empty(columns) if table is None else table
    prompts, prompt = _distinct(prompt_ids)
    first = torch.searchsorted(table["prompt_ids"], prompts)
    count = torch.searchsorted(table["prompt_ids"], prompts, right=True) - first
    known_prompt = torch.arange(len(prompts)).repeat_interleave(count)
    # Start of each run of rows in the table, minus its start among the selected rows.
    known = torch.arange(len(known_prompt)) + (first - (count.cumsum(0) - count))[known_prompt]
    sampled = (outcome_ids >= 0).nonzero().squeeze(1)
    outcomes, outcome = _distinct(torch.cat((table["outcome_ids"][known], outcome_ids[sampled])))
    pair_prompt = torch.cat((known_prompt, prompt[sampled]))
    pairs, pair = _distinct(pair_prompt * len(outcomes) + outcome)
    row = torch.full_like(prompt_ids, -1)
    row[sampled] = pair[len(known) :]
    is_new = torch.ones(len(pairs), dtype=torch.bool)
    is_new[pair[: len(known)]] = False
    width = max(len(outcomes), 1)
    return PromptRows(
        prompt_ids=prompts,
        prompt=prompt,
        row=row,
        row_prompt=pairs // width,
        outcome_ids=outcomes[pairs % width],
        columns={
            name: torch.zeros(len(pairs), dtype=torch.float64).masked_scatter_(~is_new, table[name][known])
            for name in columns
        },
        is_new=is_new,
    )


def write_rows(table: Table | None, rows: PromptRows, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A new table with the given columns, (V,) each, in these rows; the old table is not changed."""
    table = _empty(tuple(columns)) if table is None else table
    is_new, is_old = rows.is_new, ~rows.is_new
    first = torch.searchsorted(table["prompt_ids"], rows.prompt_ids)
    # The place of an old row is the first row of its prompt plus the number of old rows before it; a new row
    # goes before the old row that follows it.
    before = is_old.cumsum(0) - is_old.long()
    starts = torch.searchsorted(rows.row_prompt, torch.arange(len(rows.prompt_ids)))
    at = first[rows.row_prompt] + before - before[starts[rows.row_prompt]]
    new_at = at[is_new] + torch.arange(int(is_new.sum()))
    stays = torch.ones(len(table["prompt_ids"]) + len(new_at), dtype=torch.bool)
    stays[new_at] = False

    def merged(old: Tensor, values: Tensor) -> Tensor:
        column = old.clone()
        column[at[is_old]] = values[is_old]
        wider = column.new_empty(len(stays))
        wider[stays], wider[new_at] = column, values[is_new]
        return wider

    return {
        "prompt_ids": merged(table["prompt_ids"], rows.prompt_ids[rows.row_prompt]),
        "outcome_ids": merged(table["outcome_ids"], rows.outcome_ids),
        **{name: merged(table[name], values) for name, values in columns.items()},
    }


def _empty(columns: tuple[str, ...]) -> dict[str, Tensor]:
    ids = torch.zeros(0, dtype=torch.long)
    return {
        "prompt_ids": ids,
        "outcome_ids": ids,
        **{name: torch.zeros(0, dtype=torch.float64) for name in columns},
    }


def _distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ids, sorted, and each one's rank among them."""
    found = torch.unique(ids, return_inverse=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("tuple[Tensor, Tensor]", found)
