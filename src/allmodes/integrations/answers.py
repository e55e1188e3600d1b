"""Answers of completions by a user's key, and figures of their diversity."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from reprlib import repr as shortened
from typing import Any

from allmodes.errors import InputError, one_line
from allmodes.methods import OutcomeKey
from allmodes.metrics import count_entropy
from allmodes.runs.messages import answer_text


def answers_of(
    key: OutcomeKey, completions: Sequence[Any], *, name: str = "outcome_key"
) -> list[Hashable | None]:
    """The answer of each completion, None if there is none.

    The answer of a conversation is in the model's last message; there is none if that message calls a tool.
    name: of the user's option, for messages. Raises InputError if the key raises, or returns a value that
    cannot be counted, because it has no hash or is NaN.
    """
    texts = [answer_text(completion) for completion in completions]
    return [None if text is None else _answer(key, text, name) for text in texts]


def _answer(key: OutcomeKey, text: str, name: str) -> Hashable | None:
    try:
        answer = key(text)
    except InputError:  # of a user's own task, which says whose code it is
        raise
    except Exception as error:
        raise InputError(
            f"`{name}` raised {type(error).__name__}: {one_line(error)}, for the completion "
            f"{shortened(text)}; let it return None for an invalid one"
        ) from error
    try:
        hash(answer)
    except TypeError as error:
        raise InputError(
            f"`{name}` must return something hashable, or None for an invalid completion; got "
            f"{' '.join(shortened(answer).split())} of type {type(answer).__name__} for {shortened(text)}"
        ) from error
    if isinstance(answer, float) and math.isnan(answer):
        raise InputError(
            f"`{name}` must return None for an invalid completion; got nan for {shortened(text)}"
        )
    return answer


def answer_figures(answers: Sequence[Hashable | None], *, group_size: int) -> dict[str, float]:
    """Share of valid answers, and their diversity within a prompt's samples.

    valid: share of completions with an answer. distinct: number of different answers in a group, mean over
    groups. entropy: H = −Σ_a p̂(a) log p̂(a) of a group's empirical distribution over its valid answers, nats,
    mean over the groups that have one; NaN if none has.

    answers: of the whole batch, in groups of `group_size` consecutive ones.
    """
    return group_figures(
        [answers[start : start + group_size] for start in range(0, len(answers), group_size)]
    )


def group_figures(groups: Sequence[Sequence[Hashable | None]]) -> dict[str, float]:
    """`answer_figures` of groups of any size."""
    counts = [Counter(answer for answer in group if answer is not None) for group in groups]
    entropies = [count_entropy(count.values()) for count in counts if count]
    return {
        "valid": sum(count.total() for count in counts) / sum(map(len, groups)),
        "distinct": sum(len(count) for count in counts) / len(counts),
        "entropy": sum(entropies) / len(entropies) if entropies else math.nan,
    }


def answer_name(answer: Hashable | None) -> str | None:
    """An answer as a text: equal answers have one name, in every process; None for none."""
    if answer is None or isinstance(answer, str):
        return answer
    if isinstance(answer, tuple):
        return f"({', '.join(str(answer_name(part)) for part in answer)})"
    if isinstance(answer, frozenset):  # whose order differs from process to process
        return f"{{{', '.join(sorted(str(answer_name(part)) for part in answer))}}}"
    return str(answer)
