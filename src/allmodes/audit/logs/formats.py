"""How programs name what a log holds: each format turns their rows into ours.

TRL: the Parquet files of GRPOTrainer with log_completions, from 0.28 on. verl: the JSON Lines of
trainer.rollout_data_dir and validation_data_dir, from 0.5 on. OpenRLHF: those of batch_inference up to 0.9.5;
its training writes none. REINVENT 4: the summary CSV of staged learning. Saturn: oracle_history.csv.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

import regex

from allmodes.audit.logs.log import COLUMNS, Convert
from allmodes.errors import InputError, one_line, shown
from allmodes.runs.audit_choices import Format
from allmodes.runs.lines import BadLineError
from allmodes.runs.messages import completion_text

# Columns that a file of the program has, and no other program's; the first that fits is taken.
_SIGNS: dict[Format, frozenset[str]] = {
    "ledger": frozenset({"call", "smiles", "penalised_reward"}),
    "saturn": frozenset({"oracle_calls", "smiles", "penalized_reward"}),
    "reinvent": frozenset({"Agent", "Prior", "Score", "SMILES"}),
    "trl": frozenset({"prompt", "completion"}),
    "verl": frozenset({"input", "output", "score"}),
    "openrlhf": frozenset({"input", "output", "reward"}),
}
# Programs that decode a prompt's tokens for their logs; TRL 1.10 does, TRL 1.16 writes messages as they are.
_DECODED = ("trl", "verl", "openrlhf")
_TRL_OWN = ("step", "prompt", "completion", "advantage")
# What a molecule was made from; REINVENT's models that have no input have no such column.
_REINVENT_INPUTS = ("Input_Scaffold", "Warheads", "Input_SMILES", "Masked_input_peptide")
_PATTERN_SECONDS = 5.0  # for one response; an honest pattern takes microseconds
_INVALID, _REPEATED = "0", "2"  # REINVENT's SMILES_state


@final
@dataclass(frozen=True)
class _Field:
    """One of our columns: whose value it is, in words, and how it is read from a row."""

    source: str
    read: Callable[[Mapping[str, Any]], Any]


@final
@dataclass(frozen=True, kw_only=True)
class Mapped:
    """How the rows of a log are read. sources: each of our columns that it has, and theirs in words.

    prompt_of: the prompt that a model saw, a text or messages, None where the log has none; `convert` may
    have a key in its place. has_decoded_prompts: whether texts of prompts have lost their special tokens.
    """

    format: Format
    convert: Convert
    sources: Mapping[str, str]
    prompt_of: Callable[[Mapping[str, Any]], Any]
    has_decoded_prompts: bool


def map_columns(
    first: Mapping[str, Any],
    *,
    format: Format | None = None,  # noqa: A002 - the word that users know
    columns: Mapping[str, str] | None = None,
    rewards: Mapping[str, float] | None = None,
    outcome_pattern: str | None = None,
) -> Mapped:
    """How to read a log that has this first row.

    format: None recognises it by its columns. columns: our column → theirs, which win over the format's.
    rewards: for TRL, the columns of the reward functions with their weights; by default all columns of
    numbers that are neither TRL's own nor in `columns`, with weight 1. outcome_pattern: a regular expression,
    whose first group in a response, or else all that it matches, is the outcome; a response without a match
    is invalid. Raises InputError for a column that is not there, a name that is not ours, or what is no
    regular expression.
    """
    given = dict(columns or {})
    for ours, theirs in given.items():
        if ours not in COLUMNS:
            raise InputError(f"`columns`: expected one of {', '.join(COLUMNS)}; got {ours!r}")
        _check_there(f"columns.{ours}", theirs, first)
    found = _recognised(first) if format is None else format
    if rewards and found != "trl":
        raise InputError(f"`rewards`: expected a log of TRL, with a column for each; got format {found!r}")
    fields = _trl(first, rewards, given.values()) if found == "trl" else _FORMATS[found](first)
    fields |= {ours: _plain(theirs) for ours, theirs in given.items()}
    if outcome_pattern is not None:
        fields["outcome"] = _matched(outcome_pattern, fields.get("response"))
    # verl's key of a prompt is its uid.
    prompt = _plain("input") if found == "verl" and "prompt" not in given else fields.get("prompt")
    if first and not fields:
        raise InputError(
            f"expected a log with one of the columns {', '.join(COLUMNS)}, or `--columns`; "
            f"got {', '.join(first)}"
        )

    def convert(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: field.read(row) for name, field in fields.items()}

    return Mapped(
        format=found,
        convert=convert,
        sources={name: field.source for name, field in fields.items()},
        prompt_of=(lambda row: None) if prompt is None else prompt.read,
        has_decoded_prompts=found in _DECODED and "prompt" not in given,
    )


def _recognised(columns: Collection[str]) -> Format:
    for name, signs in _SIGNS.items():
        if signs <= set(columns):
            return name
    return "allmodes"


def _check_there(key: str, column: str, first: Mapping[str, Any]) -> None:
    if column not in first:
        raise InputError(f"`{key}`: expected a column of the log ({', '.join(first)}); got {column!r}")


def _own(first: Mapping[str, Any]) -> dict[str, _Field]:
    fields = {name: _plain(name) for name in COLUMNS if name in first}
    if "outcome" not in fields and "answer" in first:  # as `allmodes evaluate` and `run` name it
        fields["outcome"] = _plain("answer")
    if "response" in fields:
        fields["response"] = _message("response")
    return fields


def _trl(
    first: Mapping[str, Any], rewards: Mapping[str, float] | None, taken: Collection[str]
) -> dict[str, _Field]:
    """GRPOTrainer's Parquet files: the total reward is no column, and weights are not in the file.

    A log that is not TRL's own, for want of advantages, may have TRL's names and a column `reward`. taken:
    columns that are something else, as all of our names are.
    """
    ours = {name: _plain(name) for name in COLUMNS if name in first and name != "reward"}
    if rewards is None and "reward" in first and "advantage" not in first:
        ours["reward"], rewards = _plain("reward"), {}
    if rewards is None:
        numbers = (name for name, value in first.items() if value is None or _is_number(value))
        rewards = {name: 1.0 for name in numbers if name not in (*_TRL_OWN, *ours, *taken)}
    for name in rewards:
        _check_there("rewards", name, first)
    weights = dict(rewards)

    def total(row: Mapping[str, Any]) -> float | None:
        values = [(row.get(name), weight) for name, weight in weights.items()]
        there = [(value, weight) for value, weight in values if value is not None and value == value]
        if not all(_is_number(value) for value, _ in there):
            raise BadLineError("a reward is not a number")
        return math.fsum(value * weight for value, weight in there) if there else None

    words = " + ".join(name if weight == 1 else f"{weight:g} × {name}" for name, weight in weights.items())
    fields = {"prompt": _plain("prompt"), "response": _message("completion"), "step": _plain("step")}
    return ours | fields | ({"reward": _Field(words, total)} if weights else {})


def _verl(first: Mapping[str, Any]) -> dict[str, _Field]:
    """Lines of rollout_data_dir and validation_data_dir; `reward`, where it is there, is the training's."""
    fields = {"prompt": _plain("input"), "response": _plain("output"), "step": _plain("step")}
    if "uid" in first:  # prompt, sample, part: two equal prompts are then told apart
        fields["prompt"] = _Field("uid", lambda row: str(row.get("uid")).rsplit("_", 2)[0])
    fields["reward"] = _scored("reward" if "reward" in first else "score")
    return fields


def _openrlhf(first: Mapping[str, Any]) -> dict[str, _Field]:
    return {"prompt": _plain("input"), "response": _plain("output"), "reward": _scored("reward")}


def _reinvent(first: Mapping[str, Any]) -> dict[str, _Field]:
    """Staged learning's summary CSV: Prior and Agent are −log π_ref and −log π of the sampled string."""
    fields = {
        "response": _plain("SMILES"),
        "outcome": _Field("SMILES", lambda row: None if _state(row) == _INVALID else row.get("SMILES")),
        # A molecule that comes twice in a batch has score 0 the second time, whatever it is worth.
        "reward": _Field("Score", lambda row: None if _state(row) == _REPEATED else known(row.get("Score"))),
        "ref_logprob": _negated("Prior"),
        "policy_logprob": _negated("Agent"),
        "step": _plain("step"),
    }
    inputs = [name for name in _REINVENT_INPUTS if name in first]
    return fields | ({"prompt": _plain(inputs[0])} if inputs else {})


def _saturn(first: Mapping[str, Any]) -> dict[str, _Field]:
    return {
        "response": _plain("smiles"),
        "outcome": _plain("smiles"),
        "reward": _scored("reward"),
        "step": _plain("oracle_calls"),  # the same number for a whole batch
    }


def _ledger(first: Mapping[str, Any]) -> dict[str, _Field]:
    return {
        "response": _plain("smiles"),
        "outcome": _plain("smiles"),
        "reward": _plain("reward"),
        "step": _plain("step"),
    }


_FORMATS: dict[Format, Callable[[Mapping[str, Any]], dict[str, _Field]]] = {
    "allmodes": _own,
    "verl": _verl,
    "openrlhf": _openrlhf,
    "reinvent": _reinvent,
    "saturn": _saturn,
    "ledger": _ledger,
}


def _matched(pattern: str, response: _Field | None) -> _Field:
    """The pattern's group in a response, by an engine that gives up on a match without end.

    Python's own cannot be stopped. An engine that does not backtrack needs no limit, but knows neither
    look-around nor references back, which patterns for answers use.
    """
    try:
        compiled = regex.compile(pattern)
    except Exception as error:  # of the package's own kind, and whatever nested brackets make of it
        raise InputError(f"`outcome_pattern`: expected a regular expression; {one_line(error)}") from error
    if response is None:
        raise InputError("`outcome_pattern`: expected a log with responses; got none")

    def read(row: Mapping[str, Any]) -> str | None:
        text = response.read(row)
        try:
            found = compiled.search(text, timeout=_PATTERN_SECONDS) if isinstance(text, str) else None
        except TimeoutError as error:
            raise InputError(
                f"`outcome_pattern`: expected a pattern that is done with a response within "
                f"{_PATTERN_SECONDS:g} s; {shown(pattern)} was not with one of {len(text):,} characters; "
                "nested repeats such as (a+)+ try every way to divide a text"
            ) from error
        return None if found is None else found[1 if compiled.groups else 0]

    return _Field(f"{pattern} in {response.source}", read)


def _plain(name: str) -> _Field:
    return _Field(name, lambda row: row.get(name))


def _scored(name: str) -> _Field:
    """A reward, which these programs write as NaN where there is none."""
    return _Field(name, lambda row: known(row.get(name)))


def known(value: Any) -> Any:
    """A value, None where it is NaN."""
    is_nan = (isinstance(value, float) and math.isnan(value)) or (
        isinstance(value, str) and value.strip().lower() == "nan"
    )
    return None if is_nan else value


def _message(name: str) -> _Field:
    def read(row: Mapping[str, Any]) -> Any:
        value = row.get(name)
        if value is None or isinstance(value, str):
            return value
        try:
            return completion_text(value)
        except (TypeError, AttributeError, KeyError, IndexError) as error:
            raise BadLineError(f"`{name}` is neither a text nor a conversation") from error

    return _Field(name, read)


def _negated(name: str) -> _Field:
    def read(row: Mapping[str, Any]) -> float | None:
        value = row.get(name)
        try:
            return None if value is None else -float(value)
        except (TypeError, ValueError) as error:
            raise BadLineError(f"`{name}` is not a number") from error

    return _Field(f"−{name}", read)


def _state(row: Mapping[str, Any]) -> str:
    return str(row.get("SMILES_state", "1"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
