"""A log of samples, column by column: a million rows in tens of megabytes."""

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.audit.logs.sources import Advance, Place, Source
from allmodes.errors import InputError
from allmodes.runs.lines import BadLineError, BadLines, bad_in_words, count_bad, finite_number, whole_text

LOGPROBS = ("ref_logprob", "policy_logprob")
WHOLE_NUMBERS = ("step", "num_tokens")
TEXTS = ("prompt", "response", "outcome")
COLUMNS = (*TEXTS, "reward", *LOGPROBS, *WHOLE_NUMBERS, "truncated")
_NAME = 80  # characters of a prompt or an outcome that are kept for showing
_LARGEST = 1e100  # of a number, so that squares, and sums of squares, are finite

Convert = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A row as a program wrote it → a row with our columns' names. Raises BadLineError for a malformed one."""


@final
@dataclass(frozen=True, kw_only=True)
class Log:
    """N samples. A column that no row has is None; in a column that some have, what is missing is marked.

    prompts: (N,), numbers of `prompt_names`; all 0 where no prompt is known. responses: (N,), equal for equal
    texts (64-bit digests). outcomes: (N,), numbers of `outcome_names`, −1 for a response without a valid one;
    None where the log has no column for it, and then the responses themselves are the outcomes. Names are cut
    off at 80 characters. rewards, ref_logprobs, policy_logprobs: (N,), float64, NaN where missing;
    log-probabilities in nats of whole responses. steps, num_tokens: (N,), −1 where missing. truncated: (N,),
    1, 0, or −1 where it is not known. files, lines: (N,), the places of the rows. rows: all that were read.
    bad: those that were left out, by kind; bad_places: the first of each kind in words. prompt_keys,
    outcome_keys: 64-bit digests of each prompt and outcome, the same in every log.
    """

    prompts: Tensor
    prompt_names: list[str]
    responses: Tensor | None
    outcomes: Tensor | None
    outcome_names: list[str]
    rewards: Tensor | None
    ref_logprobs: Tensor | None
    policy_logprobs: Tensor | None
    steps: Tensor | None
    num_tokens: Tensor | None
    truncated: Tensor | None
    files: Tensor
    lines: Tensor
    bad: dict[str, BadLines]
    bad_places: dict[str, str]
    rows: int
    prompt_keys: Tensor
    outcome_keys: Tensor
    name_of: Callable[[Place], str]

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, index: int) -> Place:
        """Where a sample stands."""
        return Place(int(self.files[index]), int(self.lines[index]))

    def place_name(self, index: int) -> str:
        """Where a sample stands, in words."""
        return self.name_of(self.place(index))


def read_log(source: Source, convert: Convert, *, advance: Advance = lambda done: None) -> Log:
    """Read every row once; malformed ones are counted by kind, named by place, and left out.

    Raises InputError for a log without rows, or without a row that can be used.
    """
    columns = _Columns()
    bad: dict[str, BadLines] = {}
    bad_places: dict[str, str] = {}
    rows = 0
    for place, row in source.rows(advance=advance):
        rows += 1
        try:
            if isinstance(row, BadLineError):
                raise row
            columns.add(place, convert(row))
        except BadLineError as error:
            kind = str(error)
            count_bad(bad, kind, place.line)
            bad_places.setdefault(kind, source.name(place))
    if rows == 0:
        raise InputError("expected at least one sample; got an empty log")
    if not columns.lines:
        raise InputError(f"expected samples; got none that can be used: {bad_in_words(bad)}")
    return columns.log(bad=bad, bad_places=bad_places, rows=rows, name_of=source.name)


@final
class _Columns:
    """Arrays that grow, row by row."""

    def __init__(self) -> None:
        self.files, self.lines = array("q"), array("q")
        self._prompts, self._responses, self._outcomes = _Numbered(), array("q"), _Numbered()
        self._floats = [array("d") for _ in ("reward", *LOGPROBS)]
        self._wholes = [array("q") for _ in WHOLE_NUMBERS]
        self._truncated = array("b")
        self._has_responses = self._has_outcomes = False

    def add(self, place: Place, row: Mapping[str, Any]) -> None:
        """One row. Raises BadLineError where a value is not what its column holds."""
        # All is parsed before anything is kept: a malformed row leaves no trace.
        response = row.get("response")
        if response is not None and not isinstance(response, str):
            raise BadLineError("`response` is not a text")
        reward = _number(row.get("reward"), "reward")
        floats = [reward, *(_logprob(row.get(name), name) for name in LOGPROBS)]
        wholes = [_whole(row.get(name), name) for name in WHOLE_NUMBERS]
        truncated = truth_or_none(row.get("truncated"), "truncated")
        prompt, outcome = _key(row.get("prompt"), "prompt"), _key(row.get("outcome"), "outcome")
        self._prompts.append(prompt)
        self._outcomes.append(outcome)
        self._responses.append(0 if response is None else _digest(response))
        self._has_responses = self._has_responses or response is not None
        self._has_outcomes = self._has_outcomes or "outcome" in row
        for values, value in zip(self._floats, floats, strict=True):
            values.append(value)
        for values, value in zip(self._wholes, wholes, strict=True):
            values.append(value)
        self._truncated.append(-1 if truncated is None else truncated)
        self.files.append(place.file)
        self.lines.append(place.line)

    def log(
        self,
        *,
        bad: dict[str, BadLines],
        bad_places: dict[str, str],
        rows: int,
        name_of: Callable[[Place], str],
    ) -> Log:
        """All of it as tensors."""
        rewards, ref_logprobs, policy_logprobs = (_floats(values) for values in self._floats)
        steps, num_tokens = (_wholes(values) for values in self._wholes)
        truncated = torch.tensor(self._truncated, dtype=torch.int8)
        return Log(
            prompts=_tensor(self._prompts.numbers).clamp(min=0),
            prompt_names=self._prompts.names or [""],
            responses=_tensor(self._responses) if self._has_responses else None,
            outcomes=_tensor(self._outcomes.numbers) if self._has_outcomes else None,
            outcome_names=self._outcomes.names,
            rewards=rewards,
            ref_logprobs=ref_logprobs,
            policy_logprobs=policy_logprobs,
            steps=steps,
            num_tokens=num_tokens,
            truncated=None if bool((truncated < 0).all()) else truncated,
            files=_tensor(self.files),
            lines=_tensor(self.lines),
            bad=bad,
            bad_places=bad_places,
            rows=rows,
            prompt_keys=_tensor(self._prompts.keys) if self._prompts.keys else torch.zeros(1).long(),
            outcome_keys=_tensor(self._outcomes.keys),
            name_of=name_of,
        )


@final
class _Numbered:
    """Different values by number, in the order in which they came; −1 for None."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.names: list[str] = []
        self.keys = array("q")
        self._known: dict[bytes, int] = {}

    def append(self, text: str | None) -> None:
        if text is None:
            self.numbers.append(-1)
            return
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()  # a long prompt takes no memory
        number = self._known.setdefault(digest, len(self.names))
        if number == len(self.names):
            self.names.append(text[:_NAME])
            self.keys.append(int.from_bytes(digest[:8], "little", signed=True))
        self.numbers.append(number)


def _key(value: Any, name: str) -> str | None:
    """A text, a number, or a conversation, as one text; None for null. A user's only message is its text."""
    match value:
        case [{"role": "user", "content": str(content)}]:
            value = content
        case _:
            pass
    if value is None or isinstance(value, str):
        return None if value is None else whole_text(value)
    if isinstance(value, float) and math.isnan(value):
        raise BadLineError(f"`{name}` is NaN")
    try:
        return whole_text(json.dumps(value, ensure_ascii=False, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise BadLineError(f"`{name}` is neither a text nor a number") from error


def _digest(text: str) -> int:
    data = text.encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _number(value: Any, name: str) -> float:
    """A number, NaN for null; a text where a table has nothing else."""
    if value is None:
        return math.nan
    if isinstance(value, bool) and name == "reward":  # of a verifier
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise BadLineError(f"`{name}` is not a number") from error
    number = finite_number(value, name)
    if abs(number) > _LARGEST:
        raise BadLineError(f"`{name}` is beyond ±{_LARGEST:g}")
    return number


def _logprob(value: Any, name: str) -> float:
    number = _number(value, name)
    if number > 0:
        raise BadLineError(f"`{name}` is positive: expected a log-probability")
    return number


def _whole(value: Any, name: str) -> int:
    """A whole number from 0 on, −1 for null."""
    if value is None:
        return -1
    number = _number(value, name)
    if number != int(number) or not 0 <= number < 1 << 62:
        raise BadLineError(f"`{name}` is not a whole number from 0 on")
    return int(number)


def truth_or_none(value: Any, name: str) -> bool | None:
    """A truth value, also as a word or a number; None for null. Raises BadLineError for anything else."""
    if value is None or isinstance(value, bool):
        return value
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None:
        raise BadLineError(f"`{name}` is neither true nor false")
    return found


def _tensor(values: "array[int]") -> Tensor:
    return (
        torch.zeros(0, dtype=torch.long)
        if not values
        else torch.frombuffer(values, dtype=torch.int64).clone()
    )


def _floats(values: "array[float]") -> Tensor | None:
    found = torch.frombuffer(values, dtype=torch.float64).clone()
    return None if bool(found.isnan().all()) else found


def _wholes(values: "array[int]") -> Tensor | None:
    found = _tensor(values)
    return None if bool((found < 0).all()) else found
