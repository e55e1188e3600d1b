"""How the rows of a log are read: one vocabulary of columns, plus the particulars of programs.

TRL: the Parquet files of GRPOTrainer with log_completions, from 0.28 on. verl: the JSON Lines of
trainer.rollout_data_dir and validation_data_dir, from 0.5 on. OpenRLHF: those of batch_inference up to 0.9.5;
its training writes none. open-instruct: its rollouts with save_traces. prime-rl: its rollouts, and the
results of verifiers. NoveltyBench: generations, partitions and scores. REINVENT 4: the summary CSV of staged
learning. Saturn: oracle_history.csv.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from allmodes.audit.choices import Format, Trainer
from allmodes.audit.logs.fields import Field, known, matched, plain, read_with
from allmodes.audit.logs.log import Convert
from allmodes.audit.logs.programs import FIELDS
from allmodes.audit.logs.rewards import (
    advantages_differ,
    ask,
    explained_by,
    number_columns,
    same_in_groups,
    total_of,
)
from allmodes.audit.logs.values import cut_off, is_evaluation
from allmodes.audit.logs.vocabulary import COLUMNS, column_of
from allmodes.errors import InputError
from allmodes.reports.formatting import listing

# Columns that only files of this program have; the first match is used.
_SIGNS: dict[Format, frozenset[str]] = {
    "ledger": frozenset({"call", "smiles", "penalised_reward"}),
    "saturn": frozenset({"oracle_calls", "smiles", "penalized_reward"}),
    "reinvent": frozenset({"Agent", "Prior", "Score", "SMILES"}),
    "open-instruct": frozenset({"prompt_tokens", "response_tokens", "finish_reason"}),
    "prime-rl": frozenset({"example_id", "prompt", "completion"}),
    "noveltybench": frozenset({"prompt", "generations"}),
    "trl": frozenset({"prompt", "completion"}),
    "verl": frozenset({"input", "output", "score"}),
    "openrlhf": frozenset({"input", "output", "reward"}),
}
# Programs that log prompts decoded from tokens: TRL 1.10 does, TRL 1.16 writes the messages unchanged.
_DECODED = ("trl", "verl", "openrlhf")
# Programs that write NaN for a missing reward.
_NAN = ("trl", "verl", "openrlhf", "reinvent", "saturn")
# Programs whose columns are not in the vocabulary.
_OTHER_NAMES = ("reinvent", "saturn", "ledger")
_TRAINERS: dict[Format, Trainer] = {
    "verl": "verl", "openrlhf": "openrlhf", "reinvent": "reinvent", "saturn": "saturn", "ledger": "allmodes"
}  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class Mapped:
    """How the rows of a log are read. sources: our columns that the log has, with descriptions of theirs.

    prompt_of: the prompt that the model saw, a text or messages, None if the log has none; `convert` may
    use a key instead. has_decoded_prompts: whether texts of prompts have lost their special tokens.
    has_tokens: whether responses are token ids. trainer: the program that wrote the log. has_advantages:
    whether TRL wrote it. outcome: the column of outcomes, unless the user named it. remarks: which column is
    read as what.
    """

    format: Format
    convert: Convert
    sources: Mapping[str, str]
    prompt_of: Callable[[Mapping[str, Any]], Any]
    has_decoded_prompts: bool
    has_tokens: bool = False
    trainer: Trainer | None = None
    has_advantages: bool = False
    outcome: str | None = None
    remarks: tuple[str, ...] = ()


def map_columns(
    first: Mapping[str, Any],
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    format: Format | None = None,  # noqa: A002 - the name that users know
    columns: Mapping[str, str] | None = None,
    rewards: Mapping[str, float] | None = None,
    outcome_pattern: str | None = None,
    needs_reward: bool = True,
) -> Mapped:
    """How to read a log whose first rows, merged into one, are `first`.

    rows: rows from the whole log, in its order, used to find the reward; by default only the first.
    format: None recognises it from the columns. columns: our column → theirs; overrides the format's.
    rewards: the columns whose weighted sum is the reward, with their weights; {} for no reward. The default
    is `reward`, else `score`; for TRL's own logs, the columns that explain its advantages. outcome_pattern: a
    regular expression; its first group in a response (or the whole match) is the outcome, and a response
    without a match is invalid. Raises InputError for a missing column, a name that is not ours, an invalid
    regular expression, and, with `needs_reward`, if numeric columns may be the reward but none is known to
    be.
    """
    if format == "means":
        raise InputError("`format`: expected a format of samples; got 'means'")
    given = dict(columns or {})
    for ours, theirs in given.items():
        if ours not in COLUMNS:
            raise InputError(f"`columns`: expected one of {', '.join(COLUMNS)}; got {ours!r}")
        _check_there(f"columns.{ours}", theirs, first)
    found = _recognised(first) if format is None else format
    has_advantages = found == "trl" and {"advantage", "completion"} <= first.keys()
    fields = _named(first, rows or [first], found) | {ours: plain(theirs) for ours, theirs in given.items()}
    if outcome_pattern is not None:
        fields["outcome"] = matched(outcome_pattern, fields.get("response"))
    remarks: list[str] = []
    if "reward" not in given:
        problem = _choose_reward(fields, first, rows or [first], rewards, has_advantages, remarks)
        if problem and needs_reward:
            raise InputError(problem)
        remarks += [f"{problem}."] if problem else []
    if first and not fields.keys() & {"response", "outcome", "reward"}:
        raise InputError(
            f"expected a log with one of the columns {', '.join(COLUMNS)}, or `--columns`; "
            f"got {', '.join(first)}"
        )
    prompt = _prompt_of_model(fields, first, found if "prompt" not in given else "allmodes")
    response, outcome = fields.get("response"), fields.get("outcome")
    is_users = "outcome" in given or outcome_pattern is not None
    fields = _parsed(fields, has_nan=found in _NAN and "reward" not in given)
    return Mapped(
        format=found,
        convert=_converter(fields),
        sources={name: field.source for name, field in fields.items() if name in COLUMNS},
        prompt_of=(lambda row: None) if prompt is None else prompt.read,
        has_decoded_prompts=found in _DECODED and "prompt" not in given,
        has_tokens=response is not None and _is_tokens(response.read(first)),
        trainer="trl" if has_advantages else _TRAINERS.get(found),
        has_advantages=has_advantages,
        outcome=None if outcome is None or is_users else outcome.source,
        remarks=(*_remarks(fields), *remarks),
    )


def _named(first: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], found: Format) -> dict[str, Field]:
    """Columns found by the vocabulary and by the program's names for them."""
    fields = {} if found in _OTHER_NAMES else _by_vocabulary(first)
    fields |= FIELDS[found](first, rows) if found in FIELDS else {}
    if found == "prime-rl" and "outcome" not in first:
        fields.pop("outcome", None)  # its `answer` is the dataset's answer
    if "prompt" in fields and fields["prompt"].column == "uid" and _is_of_samples("uid", rows):
        del fields["prompt"]
    return fields


def _is_of_samples(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each row has its own value, which is then that of a sample, not of a prompt."""
    values = [str(row.get(name)) for row in rows]
    return len(values) > 1 and len(set(values)) == len(values)


def _parsed(fields: Mapping[str, Field], *, has_nan: bool) -> dict[str, Field]:
    """Columns whose values differ in form between programs."""
    parsed = dict(fields)
    if has_nan and "reward" in fields:
        parsed["reward"] = read_with(fields["reward"], known)
    if "response" in fields:
        parsed["response"] = fields["response"].as_text()
    if "truncated" in fields:
        name = fields["truncated"].source
        parsed["truncated"] = read_with(fields["truncated"], lambda value: cut_off(value, name))
    if "evaluation" in fields:
        parsed["evaluation"] = read_with(fields["evaluation"], is_evaluation)
    return parsed


def _by_vocabulary(first: Mapping[str, Any]) -> dict[str, Field]:
    return {name: plain(theirs) for name in COLUMNS if (theirs := column_of(name, first)) is not None}


def _converter(fields: Mapping[str, Field]) -> Convert:
    reads = [(name, field.read) for name, field in fields.items() if name != "outcome"]
    outcome = fields.get("outcome")

    def convert(row: Mapping[str, Any]) -> dict[str, Any]:
        ours = {name: read(row) for name, read in reads}
        if outcome is not None and (outcome.column is None or outcome.column in row):
            ours["outcome"] = outcome.read(row)
        return ours

    return convert


def _remarks(fields: Mapping[str, Field]) -> list[str]:
    """Remarks that name the source of the reward, or say that no column names a prompt."""
    reward = fields.get("reward")
    remarks = [f"reward = {reward.source}." if reward is not None else "No column is read as the reward."]
    if "prompt" not in fields:
        remarks.append("No column names a prompt: all samples are read as those of one prompt.")
    return remarks


def _recognised(columns: Collection[str]) -> Format:
    for name, signs in _SIGNS.items():
        if signs <= set(columns):
            return name
    return "allmodes"


def _check_there(key: str, column: str, first: Mapping[str, Any]) -> None:
    if column not in first:
        raise InputError(f"`{key}`: expected a column of the log ({', '.join(first)}); got {column!r}")


def _choose_reward(
    fields: dict[str, Field],
    first: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    rewards: Mapping[str, float] | None,
    has_advantages: bool,
    remarks: list[str],
) -> str | None:
    """Add the reward to the fields if it is known; otherwise return the question to ask the user."""
    if rewards is not None:
        for name in rewards:
            _check_there("rewards", name, first)
        fields.pop("reward", None)
        fields |= {"reward": _sum(rewards)} if rewards else {}
        return None
    reward = fields.get("reward")
    if reward is not None and not has_advantages:
        return None
    own = {"advantage", *COLUMNS, *(field.column for field in fields.values())} - {"reward", "score"}
    numbers = [name for name in number_columns(rows, own - {reward and reward.column}) if name in first]
    if not has_advantages:
        return ask(numbers, "no column `reward` or `score`") if numbers else None
    found = _by_advantages(reward, rows, numbers, remarks)
    if isinstance(found, str):
        fields.pop("reward", None)
        return found
    fields |= {} if found is None else {"reward": found}
    return None


def _by_advantages(
    reward: Field | None, rows: Sequence[Mapping[str, Any]], numbers: Sequence[str], remarks: list[str]
) -> Field | str | None:
    """The reward that TRL's advantages belong to, or the question to ask. reward: a column named like one."""
    sums = explained_by(rows, numbers)
    if len(sums) == 1:
        same = [f"`{name}`" for name in same_in_groups(rows, numbers)]
        if same:
            remarks.append(f"Not in the reward: {listing(same)}, the same for all samples of each prompt.")
        return _sum(dict.fromkeys(sums[0], 1.0))
    if reward is not None and reward.column == "reward":
        return reward
    if not advantages_differ(rows):
        if len(numbers) > 1:
            return ask(numbers, "`advantage` is the same for all samples of each prompt")
        return _sum({numbers[0]: 1.0}) if numbers else None  # the only candidate
    alike = " and ".join(" + ".join(f"`{name}`" for name in one) for one in sums[:3])
    why = f"{alike} explain `advantage` equally well" if sums else "no sum of columns explains `advantage`"
    return ask(numbers, why)


def _sum(weights: Mapping[str, float]) -> Field:
    source = " + ".join(name if weight == 1 else f"{weight:g} × {name}" for name, weight in weights.items())
    return Field(source, lambda row: total_of(row, weights))


def _prompt_of_model(fields: Mapping[str, Field], first: Mapping[str, Any], found: Format) -> Field | None:
    """The prompt as the model saw it, if the log's column holds a key."""
    if found in ("verl", "prime-rl"):
        return next((plain(name) for name in ("input", "prompt") if name in first), None)
    return fields.get("prompt")


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, int) for one in value)
