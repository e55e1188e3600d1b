"""What a resumed run of TRL's trainers needs: what a method remembers, and the order of the prompts."""

import hashlib
import json
import warnings
from functools import partial
from typing import Any, final

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from allmodes.errors import InputError
from allmodes.integrations.trl_settings import method_name
from allmodes.methods import Method, State, state_from_json, state_to_json


@final
class TransformState(TrainerCallback, ExportableState):
    """What a method remembers from batch to batch, kept in the trainer_state.json of checkpoints."""

    def __init__(self) -> None:
        self.name = ""
        self.value: State | None = None
        self._saved: dict[str, Any] | None = None  # of a checkpoint, until the method is known

    def state(self) -> dict[str, Any]:
        """Plain data, as transformers writes it."""
        saved = self._saved or {"method": self.name, "state": state_to_json(self.value)}
        return {"args": {}, "attributes": {"saved": saved}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take what the checkpoint has; the oldest ones have none."""
        found = (state.stateful_callbacks or {}).get(type(self).__name__)
        if found is not None:
            attributes = found["attributes"]
            self._saved = attributes.get("saved") or {"state": attributes.get("value")}

    def before(self, method: Method) -> State | None:
        """What the method is to be handed. Warns where a checkpoint's state is not this method's."""
        self.name = method_name(method)
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self.value = _usable(saved, method)
        return self.value


def _usable(saved: dict[str, Any], method: Method) -> State | None:
    """The state of a checkpoint, where it is this method's and of this version."""
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
    warnings.warn(f"the checkpoint {why}: the method starts without what it remembered", stacklevel=2)
    return None


def order_by_epoch(sampler: Any) -> Any:
    """TRL's sampler of prompts, with the order of each epoch known from its number.

    TRL draws a permutation for each epoch from one generator, and transformers skips epochs that a checkpoint
    has behind it without drawing theirs: a resumed run would begin with the first order once more. The orders
    of a run that is not resumed stay as they are.
    """
    if getattr(sampler, "shuffle", False) and getattr(sampler, "seed", None) is not None:
        sampler.set_epoch = partial(_skip_orders, sampler)  # which accelerate calls before each epoch
    return sampler


def _skip_orders(sampler: Any, epoch: int) -> None:
    sampler.generator.manual_seed(sampler.seed)
    for _ in range(epoch):
        torch.randperm(sampler.num_samples, generator=sampler.generator)


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
