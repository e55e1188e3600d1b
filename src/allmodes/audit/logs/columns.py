"""The columns of a log in memory; a million rows take tens of megabytes."""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from allmodes.audit.logs.aside import mixed_columns
from allmodes.audit.logs.sources import Place
from allmodes.audit.logs.values import (
    LARGEST,
    Key,
    digest_of,
    first_bits,
    key_of,
    logprob_of,
    name_of,
    reward_of,
    truth_or_none,
    whole_of,
)
from allmodes.errors import InputError
from allmodes.runs.lines import BadLineError, BadLines

LOGPROBS = ("ref_logprob", "policy_logprob")
WHOLE_NUMBERS = ("step", "num_tokens")
_FILE, _LINE = 48, 18  # bit positions of the file and the line in a place


@final
@dataclass(frozen=True, kw_only=True)
class Log:
    """N samples. A column that no row has is None; other columns mark missing values.

    prompts: (N,), indices into `prompt_names`; all 0 if no prompt is known. responses: (N,), equal for equal
    texts (64-bit digests). outcomes: (N,), indices into `outcome_names`, −1 for a response without a valid
    one; None if the log has no such column; the responses themselves are then the outcomes. Names are cut
    off at 80 characters. rewards, ref_logprobs, policy_logprobs: (N,), float64, NaN if missing;
    log-probabilities of whole responses, in nats. steps, num_tokens: (N,), −1 if missing. truncated: (N,),
    1, 0, or −1 if unknown. places: (N,), of the rows. rows: number of rows read. bad: rows that
    were left out, by kind; set_aside: well-formed rows that are not training samples, by kind;
    notes: unknown rewards, by reason; first_places: the place of the first row of each kind. prompt_keys,
    outcome_keys: 64-bit digests of each prompt and outcome, equal across logs. numbers: (N,), index of each
    among all well-formed rows, from 0; None if no row was set aside. remarks: on how the log was read.
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
    places: Tensor
    bad: dict[str, BadLines]
    set_aside: dict[str, BadLines]
    notes: dict[str, BadLines]
    first_places: dict[str, str]
    rows: int
    prompt_keys: Tensor
    outcome_keys: Tensor
    name_of: Callable[[Place], str]
    numbers: Tensor | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lines(self) -> Tensor:
        """The line of each sample in its file, (N,)."""
        return (self.places >> _LINE) & ((1 << (_FILE - _LINE)) - 1)

    def place(self, index: int) -> Place:
        """The place of a sample."""
        return place_of(int(self.places[index]))

    def place_name(self, index: int) -> str:
        """A text that names the place of a sample."""
        return self.name_of(self.place(index))

    def describe(self, kinds: Mapping[str, BadLines]) -> str:
        """Rows of each kind with their count and the first of them, on one line."""
        return "; ".join(
            f"{kind}: {seen.count:,}, first at {self.first_places[kind]}" for kind, seen in kinds.items()
        )


def place_number(place: Place) -> int:
    """A place as one number, in the order of the log. Raises InputError for a place beyond the limits."""
    if place.file >= 1 << 15 or place.line >= 1 << (_FILE - _LINE) or place.part >= 1 << _LINE:
        raise InputError(f"expected a log of at most 32,767 files with at most 10⁹ rows each; got {place}")
    return place.file << _FILE | place.line << _LINE | place.part


def place_of(number: int) -> Place:
    """The place of a number."""
    return Place(
        number >> _FILE, (number >> _LINE) & ((1 << (_FILE - _LINE)) - 1), number & ((1 << _LINE) - 1)
    )


def columns_but_step(log: Log) -> list[Tensor | None]:
    """All columns in which samples may differ, except the step."""
    return [
        log.prompts,
        log.responses,
        log.outcomes,
        log.rewards,
        log.ref_logprobs,
        log.policy_logprobs,
        log.num_tokens,
        log.truncated,
    ]


def row_digests(log: Log) -> Tensor:
    """A number for each row, (N,), equal for rows that are equal in all columns."""
    return mixed_columns([*columns_but_step(log), log.steps], len(log))


def selected(log: Log, numbers: Tensor) -> Log:
    """Some of the rows; prompts without a row are dropped."""

    def of(column: Tensor | None) -> Tensor | None:
        return None if column is None else column[numbers]

    known, prompts = torch.unique(log.prompts[numbers], return_inverse=True)
    has_names = len(log.prompt_names) > 1
    return replace(
        log,
        prompts=prompts if has_names else log.prompts[numbers],
        prompt_names=[log.prompt_names[one] for one in known.tolist()] if has_names else log.prompt_names,
        prompt_keys=log.prompt_keys[known] if has_names else log.prompt_keys,
        responses=of(log.responses),
        outcomes=of(log.outcomes),
        rewards=of(log.rewards),
        ref_logprobs=of(log.ref_logprobs),
        policy_logprobs=of(log.policy_logprobs),
        steps=of(log.steps),
        num_tokens=of(log.num_tokens),
        truncated=of(log.truncated),
        places=log.places[numbers],
        numbers=numbers,
    )


@final
class Columns:
    """Arrays that grow row by row."""

    def __init__(self, *, largest: float = LARGEST) -> None:
        """largest: largest accepted reward, in absolute value."""
        self._largest = largest
        self._places = array("q")
        self._prompts, self._responses, self._outcomes = _Numbered(), array("q"), _Numbered()
        self._floats = [array("d") for _ in ("reward", *LOGPROBS)]
        self._wholes = [array("q") for _ in WHOLE_NUMBERS]
        self._truncated, self._marks = array("b"), array("b")
        self._has_responses = self._has_outcomes = False

    def add(self, place: Place, row: Mapping[str, Any]) -> None:
        """Add a row. Raises BadLineError for a value that its column cannot hold."""
        # All values are parsed before any is stored, so a malformed row changes nothing.
        response = row.get("response")
        if response is not None and not isinstance(response, str):
            raise BadLineError("`response` is not a text")
        reward = reward_of(row.get("reward"), "reward", largest=self._largest)
        if response is None and reward != reward and row.get("outcome") is None:
            raise BadLineError("it has no response, outcome or reward")
        floats = [reward, *(logprob_of(row.get(name), name) for name in LOGPROBS)]
        wholes = [whole_of(row.get(name), name) for name in WHOLE_NUMBERS]
        truncated = truth_or_none(row.get("truncated"), "truncated")
        prompt, outcome = key_of(row.get("prompt"), "prompt"), key_of(row.get("outcome"), "outcome")
        number = place_number(place)
        self._prompts.append(prompt)
        self._outcomes.append(outcome)
        self._responses.append(0 if response is None else digest_of(response))
        self._has_responses = self._has_responses or response is not None
        self._has_outcomes = self._has_outcomes or "outcome" in row
        for values, value in zip(self._floats, floats, strict=True):
            values.append(value)
        for values, value in zip(self._wholes, wholes, strict=True):
            values.append(value)
        self._truncated.append(-1 if truncated is None else truncated)
        self._marks.append(bool(row.get("evaluation")))
        self._places.append(number)

    @property
    def marks(self) -> Tensor:
        """Which rows are marked as rows of an evaluation, (N,)."""
        return torch.tensor(self._marks, dtype=torch.int8)

    def log(
        self,
        *,
        bad: dict[str, BadLines],
        notes: dict[str, BadLines],
        first_places: dict[str, str],
        rows: int,
        name_of: Callable[[Place], str],
    ) -> Log:
        """All columns as tensors; missing prompts are −1."""
        rewards, ref_logprobs, policy_logprobs = (_floats(values) for values in self._floats)
        steps, num_tokens = (_wholes(values) for values in self._wholes)
        truncated = torch.tensor(self._truncated, dtype=torch.int8)
        return Log(
            prompts=_tensor(self._prompts.numbers),
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
            places=_tensor(self._places),
            bad=bad,
            set_aside={},
            notes=notes,
            first_places=first_places,
            rows=rows,
            prompt_keys=_tensor(self._prompts.keys) if self._prompts.keys else torch.zeros(1).long(),
            outcome_keys=_tensor(self._outcomes.keys),
            name_of=name_of,
        )


@final
class _Numbered:
    """Numbers the distinct values in order of appearance; −1 for None."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.names: list[str] = []
        self.keys = array("q")
        self._known: dict[bytes, int] = {}

    def append(self, key: Key | None) -> None:
        if key is None:
            self.numbers.append(-1)
            return
        number = self._known.setdefault(key.digest, len(self.names))  # a long prompt takes no memory
        if number == len(self.names):
            self.names.append(name_of(key))
            self.keys.append(first_bits(key.digest))
        self.numbers.append(number)


def _tensor(values: "array[int]") -> Tensor:
    return (
        torch.zeros(0, dtype=torch.long)
        if not values
        else torch.frombuffer(values, dtype=torch.int64).clone()
    )


def _floats(values: "array[float]") -> Tensor | None:
    found = torch.tensor([]) if not values else torch.frombuffer(values, dtype=torch.float64).clone()
    return None if bool(found.isnan().all()) else found


def _wholes(values: "array[int]") -> Tensor | None:
    found = _tensor(values)
    return None if bool((found < 0).all()) else found
