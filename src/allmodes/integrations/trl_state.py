"""What a transform remembers of earlier batches, in the checkpoints of TRL's trainers."""

import hashlib
import json
from typing import Any, final

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


@final
class TransformState(TrainerCallback, ExportableState):
    """What a transform remembers from batch to batch, kept in the trainer_state.json of checkpoints."""

    def __init__(self) -> None:
        self.value: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        """Plain data, as transformers writes it."""
        return {"args": {}, "attributes": {"value": self.value}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take what the checkpoint has; older ones have none."""
        saved = (state.stateful_callbacks or {}).get(type(self).__name__)
        if saved is not None:
            self.value = saved["attributes"]["value"]


def prompt_key(prompt: Any) -> str:
    """A short name of a prompt, text or messages, that is the same in every batch and process."""
    text = json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
