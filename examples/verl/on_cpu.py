"""verl on a machine without accelerators, to try a run or test an integration; far too slow for more.

    PYTHONPATH=examples/verl VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda VERL_USE_EXTERNAL_MODULES=on_cpu ...

verl 0.9.1 as it is installed, through its registries but for two patches and one private table, each marked.
FSDP2 on gloo; responses are drawn with transformers (`on_cpu_rollout.py`). one_two.sh has all options.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import verl.utils.distributed
import verl.utils.fsdp_utils
import verl.workers.rollout.base
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry
from verl.workers.rollout.replica import RolloutReplicaRegistry

_NOTHING = (
    *("empty_cache", "ipc_collect", "reset_peak_memory_stats", "synchronize", "set_device"),
    *("manual_seed", "manual_seed_all"),
)
_NO_MEMORY = ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved")
_ANSWERS: dict[str, Any] = {
    **dict.fromkeys(_NOTHING),
    **dict.fromkeys(_NO_MEMORY, 0),
    "mem_get_info": (1 << 33, 1 << 34),
    "get_device_name": "cpu",
    "is_available": True,
}


class _Device(types.ModuleType):
    """torch.cpu with the functions of torch.cuda that verl calls."""

    get_rng_state = staticmethod(torch.get_rng_state)
    set_rng_state = staticmethod(torch.set_rng_state)

    def __getattr__(self, name: str) -> Any:
        if name in _ANSWERS:
            return lambda *_args, **_kwargs: _ANSWERS[name]
        return getattr(torch.cpu, name)


_device = _Device("verl_on_cpu_device")


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """What verl asks of a kind of machine."""

    device_name = property(lambda _: "cpu")
    vendor_name = property(lambda _: "cpu")
    device_module = property(lambda _: _device)

    def is_available(self) -> bool:  # noqa: D102
        return True

    def current_device(self) -> str:  # noqa: D102
        return "cpu"

    def device_count(self) -> int:  # noqa: D102
        return 1

    def set_device(self, device_index: int) -> None:  # noqa: D102
        pass

    def synchronize(self, device_index: int | None = None) -> None:  # noqa: D102
        pass

    def manual_seed(self, seed: int) -> None:  # noqa: D102
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:  # noqa: D102
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:  # noqa: D102
        pass

    def empty_cache(self) -> None:  # noqa: D102
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:  # noqa: D102
        return None, None

    def communication_backend_name(self) -> str:  # noqa: D102
        return "gloo"

    def visible_devices_envvar(self) -> str:  # noqa: D102
        return "CPU_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:  # noqa: D102
        yield

    def profiler_start(self) -> None:  # noqa: D102
        pass

    def profiler_stop(self) -> None:  # noqa: D102
        pass

    def ray_resource_name(self) -> str:
        """Verl counts these; on such a machine they are declared to Ray (`num_gpus`)."""
        return "GPU"

    def ray_resource_options(self, num_gpus: float) -> dict[str, float]:  # noqa: D102
        return {"num_gpus": num_gpus}

    def ray_noset_envvars(self) -> list[str]:  # noqa: D102
        return []

    def is_ipc_supported(self) -> bool:  # noqa: D102
        return False

    def cudart(self) -> None:  # noqa: D102
        return None


def _with_gloo(initialize: Callable[..., Any]) -> Callable[..., Any]:
    """PATCH: verl asks for the backends "cpu:gloo,cpu:gloo", and torch refuses a device named twice."""

    def initialize_with_gloo(timeout_second: float | None = None, backend: str | None = None) -> Any:
        return initialize(timeout_second, backend or "cpu:gloo")

    return initialize_with_gloo


class _Unpinned(verl.utils.fsdp_utils.CPUOffloadPolicy):
    """PATCH: verl pins the memory of the reference model, which needs an accelerator."""

    def __init__(self, pin_memory: bool = True) -> None:
        super().__init__(pin_memory=False)


def _load_replica() -> type:
    from on_cpu_rollout import TransformersReplica

    return TransformersReplica


verl.utils.distributed.initialize_global_process_group_ray = _with_gloo(
    verl.utils.distributed.initialize_global_process_group_ray
)
verl.utils.fsdp_utils.CPUOffloadPolicy = _Unpinned
RolloutReplicaRegistry.register("transformers", _load_replica)
# Private: the other half of a rollout engine has no registry of its own.
verl.workers.rollout.base._ROLLOUT_REGISTRY["transformers", "async"] = "on_cpu_rollout.ServerAdapter"
