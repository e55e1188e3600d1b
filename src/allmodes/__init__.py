"""allmodes trains generative models to keep every good answer.

`allmodes.targets` defines which distribution is wanted, `allmodes.objectives` what one training step
computes, and `allmodes.metrics` how good and how diverse the result is. All need only torch, and are imported
on first use, so that the command line starts fast.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmodes import metrics, objectives, targets

__version__ = "0.1.0"

__all__ = ["__version__", "metrics", "objectives", "targets"]


def __getattr__(name: str) -> ModuleType:
    if name in ("metrics", "objectives", "targets"):
        return importlib.import_module(f"allmodes.{name}")
    raise AttributeError(f"module 'allmodes' has no attribute {name!r}")
