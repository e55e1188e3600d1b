"""The columns of a log of samples, and the names that they go by: one list for audit and evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True, kw_only=True)
class Column:
    """names: ours first, then others that are read for it, the first that a log has. holds: what it holds."""

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
    "score": Column(names=("score", "scores", "generation_scores"), holds="a number: of use to a reader"),
    "correct": Column(names=("correct", "is_correct"), holds="a truth value"),
    "method": Column(names=("method", "model"), holds="a text: whose sample it is"),
    "ref_logprob": Column(names=("ref_logprob",), holds="log π_ref of the whole response, nats"),
    "policy_logprob": Column(names=("policy_logprob",), holds="log π of the whole response, nats"),
    "step": Column(names=("step", "global_step"), holds="a whole number: updates before"),
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
# Columns of which a row with several responses has one value.
WHOLE = ("prompt", "ground_truth", "messages")


def column_of(name: str, first: Mapping[str, Any]) -> str | None:
    """What a log calls one of our columns; None where it has no such column."""
    names = VOCABULARY[name].names
    found = [one for one in names if one in first]
    # A column that is there and empty says less than another that is not.
    return next((one for one in found if first[one] is not None), found[0] if found else None)
