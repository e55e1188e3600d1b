"""What every integration does with a method: its name, its key, its prompts, its results, its memory."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from allmodes.errors import InputError, RunError
from allmodes.methods import Batch, Method, OutcomeKey, Result, State, state_from_json, state_to_json


def key_of(transform: Method | None, outcome_key: OutcomeKey | None) -> OutcomeKey | None:
    """What the method counts: the outcomes of its own key, else where it needs any those of the trainer's."""
    if transform is None:
        return None
    return outcome_key if transform.key is None and transform.needs_outcomes else transform.key


def method_name(method: Method) -> str:
    """As in recipes, such as "mara+entropy"; the name of the class for a user's own method without one."""
    parts = getattr(method, "methods", None)
    if isinstance(parts, tuple):
        return "+".join(method_name(part) for part in parts)
    return getattr(method, "name", type(method).__name__)


def prompt_key(prompt: Any) -> str:
    """A short name of a prompt, text or messages, that is the same in every batch and process.

    Raises InputError for a prompt that holds an object known by its place in memory alone.
    """
    text = json.dumps(prompt, sort_keys=True, default=_content)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _content(part: Any) -> str:
    """What a part of a prompt is that JSON has no form for, such as an image."""
    if callable(getattr(part, "tobytes", None)):
        return hashlib.sha256(part.tobytes()).hexdigest()
    text = str(part)
    if f" at 0x{id(part):x}" in text.lower():
        raise InputError(
            f"a prompt must hold texts, numbers or images, by which it is known again; got "
            f"{type(part).__name__}"
        )
    return text


def check_finite_rewards(rewards: Tensor, *, otherwise: str = "") -> None:
    """Raises InputError for an infinite reward. otherwise: what else is allowed, for the message."""
    if bool(rewards.isinf().any()):
        raise InputError(f"rewards must be finite{otherwise}; got infinity")


def check_result(method: Method, result: Result, raw: Tensor) -> None:
    """Raises InputError where a method made NaN or infinity of a reward, or a number of a missing one."""
    unscorable = raw.isnan()
    wrong = result.rewards.isnan() != unscorable
    wrong |= ~unscorable & ~result.rewards.isfinite()
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise InputError(
            f"{type(method).__name__} made {float(result.rewards[at])} of a reward of {float(raw[at])}"
        )


def transform_figures(batch: Batch, result: Result) -> dict[str, float]:
    """What the method says of a batch, and how many responses are empty or have no reward."""
    return {
        **result.metrics,
        "empty": float((known(batch.lengths) == 0).double().mean()),
        "unscorable": float(batch.rewards.isnan().double().mean()),
    }


def reference_change(batch: Batch, result: Result) -> Tensor:
    """What a method that changes the reference adds to log π_ref of each response, (N,), nats."""
    return known(result.ref_logprobs) - known(batch.ref_logprobs)


def log_ratio(batch: Batch) -> Tensor:
    """Log-ratio of policy and reference of each whole response, (N,), nats; RunError where one is missing."""
    return known(batch.logprobs) - known(batch.ref_logprobs)


def known(values: Tensor | None) -> Tensor:
    """Values that the trainer has made sure of. Raises RunError for None."""
    if values is None:
        raise RunError("the KL of whole responses needs log-probabilities of both policies; got none")
    return values


def saved_state(name: str, state: State | None) -> dict[str, Any]:
    """What a checkpoint keeps of a method, as JSON takes it."""
    return {"method": name, "state": state_to_json(state)}


def usable_state(saved: Mapping[str, Any], method: Method) -> State | None:
    """The state of a checkpoint, where it is this method's; a warning if not."""
    name, state = saved.get("method"), saved.get("state")
    if state is None:
        return None
    if name is None:  # of before methods had names: MARA's thresholds, by other keys of prompts
        why = (
            "has thresholds by the keys that an earlier version had for prompts"
            if method.needs_prompts
            else None
        )
    else:
        own = method_name(method)
        why = f"has the state of {name!r}, not of {own!r}" if name != own else None
    if why is None:
        return state_from_json(state)
    warnings.warn(f"the checkpoint {why}: the method starts without what it remembered", stacklevel=3)
    return None
