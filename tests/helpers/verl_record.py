"""Keeps what verl's trainer holds after its advantages: `agent_loop_manager_class=verl_record.Manager`.

One file a step in the folder that RECORD names, written with `torch.save` and plain types alone.
"""

import os
from pathlib import Path
from typing import Any

import torch
import transfer_queue
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, PPOTrainer

_TENSORS = (
    *("response_mask", "rm_scores", "old_log_probs", "rollout_log_probs", "ref_log_prob", "advantages"),
    *("token_level_rewards",),
)


class Manager(AgentLoopManagerTQ):
    """verl's own; it is named in a configuration so that this module is imported."""


_update_actor = PPOTrainer._update_actor


def _recorded(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
    names = [*_TENSORS, "extra_fields", "responses"]
    data = transfer_queue.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
    record: dict[str, Any] = {
        "keys": list(batch.keys),
        "is_padding": [bool(tag.get("is_padding", False)) for tag in batch.tags],
        "mode": self.config.trainer.v1.trainer_mode,
        "trainer": type(self).__name__,
        "buffer": type(self.replay_buffer).__name__,
        "answers": [
            (extra or {}).get("reward_extra_info", {}).get("answer") for extra in list(data["extra_fields"])
        ],
        "texts": [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in data["responses"].unbind()],
        "metrics": {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)},
    }
    there = set(data.keys())
    record |= {name: [row.clone() for row in data[name].unbind()] for name in _TENSORS if name in there}
    folder = Path(os.environ["RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(record, folder / f"{self.global_steps}.pt")
    return _update_actor(self, batch, metrics)


PPOTrainer._update_actor = _recorded
