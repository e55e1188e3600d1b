"""Shared parts of the integrations: a method's name, outcome key, prompts, results and state."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from allmodes.errors import InputError, RunError
from allmodes.methods import Batch, Method, OutcomeKey, Result, State, state_from_json, state_to_json


def key_of(transform: Method | None, outcome_key: OutcomeKey | None) -> OutcomeKey | None:
    """The outcomes for the method: by its own key, else, if it needs outcomes, by the trainer's."""
    if transform is None:
        return None
    return outcome_key if transform.key is None and transform.needs_outcomes else transform.key


def method_name(method: Method) -> str:
    """The name as in recipes, such as "mara+entropy"; the class name for a user's method without a name."""
    parts = getattr(method, "methods", None)
    if isinstance(parts, tuple):
        return "+".join(method_name(part) for part in parts)
    return getattr(method, "name", type(method).__name__)


def prompt_key(prompt: Any) -> str:
    """A short stable name of a prompt (text or messages), equal in every batch and process.

    Raises InputError for a prompt with an object that is only identified by its address in memory.
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
            f"a prompt must consist of texts, numbers or images, which identify it; got {type(part).__name__}"
        )
    return text


def check_finite_rewards(rewards: Tensor, *, otherwise: str = "") -> None:
    """Raise InputError for an infinite reward. otherwise: what else is allowed, for the message."""
    if bool(rewards.isinf().any()):
        raise InputError(f"rewards must be finite{otherwise}; got infinity")


def check_result(method: Method, result: Result, raw: Tensor) -> None:
    """Raise InputError if a method returned NaN or infinity for a reward, or a number for a missing one."""
    unscorable = raw.isnan()
    wrong = result.rewards.isnan() != unscorable
    wrong |= ~unscorable & ~result.rewards.isfinite()
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise InputError(
            f"{type(method).__name__} returned {float(result.rewards[at])} for a reward of {float(raw[at])}"
        )


def transform_figures(batch: Batch, result: Result) -> dict[str, float]:
    """The method's metrics of a batch, and the numbers of responses that are empty or without reward."""
    return {
        **result.metrics,
        "empty": float((known(batch.lengths) == 0).double().mean()),
        "unscorable": float(batch.rewards.isnan().double().mean()),
    }


def reference_change(batch: Batch, result: Result) -> Tensor:
    """The change of log π_ref of each response by a method that changes the reference, (N,), nats."""
    return known(result.ref_logprobs) - known(batch.ref_logprobs)


def log_ratio(batch: Batch) -> Tensor:
    """Log-ratio of policy and reference of each whole response, (N,), nats; RunError if one is missing."""
    return known(batch.logprobs) - known(batch.ref_logprobs)


def known(values: Tensor | None) -> Tensor:
    """Values that the trainer must provide. Raises RunError for None."""
    if values is None:
        raise RunError("the KL of whole responses needs log-probabilities of both policies; got none")
    return values


def saved_state(name: str, state: State | None) -> dict[str, Any]:
    """The state of a method for a checkpoint, as JSON values."""
    return {"method": name, "state": state_to_json(state)}


def usable_state(saved: Mapping[str, Any], method: Method) -> State | None:
    """The state in a checkpoint, if it is this method's; otherwise a warning."""
    name, state = saved.get("method"), saved.get("state")
    if state is None:
        return None
    if name is None:  # of before methods had names: MARA's thresholds, by other keys of prompts
        why = "has thresholds with prompt keys of an earlier version" if method.needs_prompts else None
    else:
        own = method_name(method)
        why = f"has the state of {name!r}, not of {own!r}" if name != own else None
    if why is None:
        return state_from_json(state)
    warnings.warn(f"the checkpoint {why}: the method starts without its earlier state", stacklevel=3)
    return None
