"""What a method remembers of earlier batches, in the checkpoints of TRL's trainers."""

import hashlib
import json
import warnings
from typing import Any, final

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
