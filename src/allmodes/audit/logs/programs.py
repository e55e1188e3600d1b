"""Readers for programs whose rows need more than renamed columns."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from allmodes.audit.choices import Format
from allmodes.audit.logs.fields import Field, known, plain
from allmodes.audit.logs.rewards import number_columns
from allmodes.audit.logs.values import is_nan
from allmodes.runs.lines import BadLineError

Row = Mapping[str, Any]
# The input molecule; REINVENT's models without input have no such column.
_REINVENT_INPUTS = ("Input_Scaffold", "Warheads", "Input_SMILES", "Masked_input_peptide")
_REINVENT_OWN = ("Agent", "Prior", "Target", "Score", "SMILES", "SMILES_state", "Scaffold", "step")
_VERL_SAMPLE = re.compile(r"(.+)_\d+_\d+", re.DOTALL)
_VERL_PADDING = re.compile(r"pad[0-9a-f]{32}_\d+_\d+")
_INVALID, _VALID, _REPEATED = "0", "1", "2"  # REINVENT's SMILES_state
FILTERED = "REINVENT's diversity filter set a valid molecule's score to 0"
REPEATED = "a molecule that is repeated in a batch has no score of its own"


def _verl(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    """Lines of rollout_data_dir and validation_data_dir; `reward`, if present, is that of the training.

    The uid distinguishes prompts of equal text with different images. If each row has its own uid, it belongs
    to a sample: either all have the form prompt_sample_part, and the first part together with the text
    identifies the prompt, or the text alone does. Rows that verl adds to fill a batch have another kind of
    uid.
    """
    fields = {"prompt": plain("input"), "response": Field("output", _verl_response, "output")}
    uids = [str(row["uid"]) for row in rows if row.get("uid") is not None]
    if len(set(uids)) < len(uids):
        fields["prompt"] = plain("uid")
    elif len(uids) > 1 and all(map(_VERL_SAMPLE.fullmatch, uids)):
        fields["prompt"] = Field("uid and input", _verl_prompt)
    return fields


def _verl_response(row: Row) -> Any:
    if _VERL_PADDING.fullmatch(str(row.get("uid"))):
        raise BadLineError("verl added it to fill a batch")
    return row.get("output")


def _verl_prompt(row: Row) -> list[Any]:
    uid = str(row.get("uid"))
    sample = _VERL_SAMPLE.fullmatch(uid)
    return [uid if sample is None else sample[1], row.get("input")]


def _open_instruct(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    """Rollouts as tokens: the prompt's tokens identify it, since `prompt_idx` starts again in each step."""
    fields = {"prompt": plain("prompt_tokens"), "response": plain("response_tokens")}
    fields["num_tokens"] = Field("length of response_tokens", lambda row: _length(row.get("response_tokens")))
    if first.get("logprobs") is not None:
        fields["policy_logprob"] = Field("sum of logprobs", _sum_of_logprobs)
    return fields


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _sum_of_logprobs(row: Row) -> float | None:
    """Log-probability of a response by the model alone; None if a tool wrote some of its tokens."""
    values, info = row.get("logprobs"), row.get("request_info")
    if not isinstance(values, list) or (isinstance(info, Mapping) and info.get("tool_calleds")):
        return None
    if not all(isinstance(value, int | float) for value in values):
        return None
    total = float(sum(values))
    return None if is_nan(total) else min(total, 0.0)


def _prime_rl(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    """Rollouts of verifiers: many examples may share a prompt text, and `answer` is the dataset's answer."""
    fields: dict[str, Field] = {"response": plain("completion")}
    names = [name for name in ("env_name", "task", "example_id") if isinstance(first.get(name), str | int)]
    fields["prompt"] = Field(" and ".join(names), lambda row: [row.get(name) for name in names])
    if "outcome" in first:
        fields["outcome"] = plain("outcome")
    return fields


def _noveltybench(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    """Several generations of a prompt; each class has one score; repetitions of a class have 0."""
    fields = {"response": plain("generations")}
    if "generation_scores" in first or "partition_scores" in first:
        score = Field("the score of the generation's class", _score_of_class)
        fields |= {"score": score, "reward": score}
    return fields


def _score_of_class(row: Row) -> Any:
    scores, which = row.get("partition_scores"), row.get("partition")
    if isinstance(scores, list) and isinstance(which, int) and 0 <= which < len(scores):
        return scores[which]
    return row.get("generation_scores")


def _reinvent(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    """Staged learning's summary CSV: Prior and Agent are −log π_ref and −log π of the sampled string.

    Score is the score after the diversity filter: a valid molecule with score 0 and all components above 0
    was filtered, and its own score is not known.
    """
    inputs = [name for name in _REINVENT_INPUTS if name in first]
    components = [
        name
        for name in number_columns(rows, (*_REINVENT_OWN, *inputs))
        if not name.endswith("(raw)") and not name.endswith("_raw")
    ]
    fields = {
        "response": plain("SMILES"),
        "outcome": Field("SMILES", lambda row: None if _state(row) == _INVALID else row.get("SMILES")),
        "reward": Field(
            "Score", lambda row: None if _why_unknown(row, components) else known(row.get("Score"))
        ),
        "note": Field("Score", lambda row: _why_unknown(row, components)),
        "ref_logprob": _negated("Prior"),
        "policy_logprob": _negated("Agent"),
        "step": plain("step"),
    }
    return fields | ({"prompt": plain(inputs[0])} if inputs else {})


def _why_unknown(row: Row, components: Sequence[str]) -> str | None:
    if _state(row) == _REPEATED:
        return REPEATED
    values = [_float_or_none(row.get(name)) for name in components]
    is_good = bool(values) and all(value is not None and value > 0 for value in values)
    return FILTERED if is_good and _state(row) == _VALID and _float_or_none(row.get("Score")) == 0 else None


def _float_or_none(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _state(row: Row) -> str:
    """REINVENT's SMILES_state, which pandas may have converted to a float."""
    value = row.get("SMILES_state")
    return _VALID if value is None else str(value).strip().removesuffix(".0")


def _saturn(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    return {
        "response": plain("smiles"),
        "outcome": plain("smiles"),
        "reward": plain("reward"),
        "step": plain("oracle_calls"),  # the same number for a whole batch
    }


def _ledger(first: Row, rows: Sequence[Row]) -> dict[str, Field]:
    columns = {"response": "smiles", "outcome": "smiles", "reward": "reward", "step": "step"}
    return {ours: plain(theirs) for ours, theirs in columns.items()}


def _negated(name: str) -> Field:
    def read(row: Row) -> float | None:
        value = row.get(name)
        try:
            return None if value is None else -float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadLineError(f"`{name}` is not a number") from error

    return Field(f"−{name}", read)


FIELDS: dict[Format, Callable[[Row, Sequence[Row]], dict[str, Field]]] = {
    "verl": _verl,
    "open-instruct": _open_instruct,
    "prime-rl": _prime_rl,
    "noveltybench": _noveltybench,
    "reinvent": _reinvent,
    "saturn": _saturn,
    "ledger": _ledger,
}
