"""The columns of a log of samples and their alternative names: one list for audit and evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True, kw_only=True)
class Column:
    """names: ours first, then alternatives, of which the first in a log is used. holds: the values."""

    names: tuple[str, ...]
    holds: str


VOCABULARY: dict[str, Column] = {
    "prompt": Column(
        names=(
            "prompt", "question", "input", "problem", "query", "prompt_tokens", "prompt_id", "group_id",
            "problem_id", "example_id", "uid",
        ),
        holds="a text, a list of messages, token ids, or a number",
    ),
    "response": Column(
        names=(
            "response", "completion", "output", "generation", "responses", "completions", "outputs",
            "generations", "response_tokens", "completion_tokens", "completion_ids",
        ),
        holds="a text, a list of messages, token ids; or a list of such, one for each sample",
    ),
    "outcome": Column(
        names=("outcome", "answer", "parsed_answer", "extracted_answer", "predicted_answer", "partition"),
        holds="what counts as one answer, a text or a number; null where invalid",
    ),
    "reward": Column(names=("reward", "rewards", "score", "scores"), holds="a number or a truth value"),
    "score": Column(names=("score", "scores", "generation_scores"), holds="a number: usefulness to a reader"),
    "correct": Column(names=("correct", "is_correct"), holds="a truth value"),
    "method": Column(names=("method", "model"), holds="a text: the method or model of the sample"),
    "ref_logprob": Column(names=("ref_logprob",), holds="log π_ref of the whole response, nats"),
    "policy_logprob": Column(names=("policy_logprob",), holds="log π of the whole response, nats"),
    "step": Column(names=("step", "global_step"), holds="a whole number: updates made before the sample"),
    "num_tokens": Column(names=("num_tokens",), holds="a whole number: length of the response"),
    "truncated": Column(
        names=("truncated", "is_truncated", "finish_reason", "stop_reason"),
        holds="a truth value, or why the response ended",
    ),
    "evaluation": Column(
        names=("evaluation", "is_eval", "split", "mode", "phase"),
        holds='true or "eval", "val", "test" for rows that are not of training',
    ),
}  # fmt: skip
COLUMNS = tuple(VOCABULARY)
# Columns with one value per row, even if the row has several responses.
WHOLE = ("prompt", "ground_truth", "messages")


def column_of(name: str, first: Mapping[str, Any]) -> str | None:
    """The log's name of one of our columns; None if it has no such column."""
    names = VOCABULARY[name].names
    found = [one for one in names if one in first]
    # A column with values is preferred over an empty one.
    return next((one for one in found if first[one] is not None), found[0] if found else None)
