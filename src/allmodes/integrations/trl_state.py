"""State for resuming TRL's trainers: the method's state, and the order of the prompts."""

from functools import partial
from typing import Any, final

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from allmodes.integrations.batches import method_name, saved_state, usable_state
from allmodes.methods import Method, State


@final
class TransformState(TrainerCallback, ExportableState):
    """The state of a method, kept in the trainer_state.json of checkpoints."""

    def __init__(self) -> None:
        self.name = ""
        self.value: State | None = None
        self._saved: dict[str, Any] | None = None  # of a checkpoint, until the method is known

    def state(self) -> dict[str, Any]:
        """Plain data, as transformers writes it."""
        saved = self._saved or saved_state(self.name, self.value)
        return {"args": {}, "attributes": {"saved": saved}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the state of a checkpoint; the oldest versions have none."""
        found = (state.stateful_callbacks or {}).get(type(self).__name__)
        if found is not None:
            attributes = found["attributes"]
            self._saved = attributes.get("saved") or {"state": attributes.get("value")}

    def before(self, method: Method) -> State | None:
        """The state for the method. Warns if a checkpoint's state is not this method's."""
        self.name = method_name(method)
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self.value = usable_state(saved, method)
        return self.value


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
