"""allmodes trains generative models to keep every good answer.

`allmodes.objectives` is what one training step computes, `allmodes.metrics` what came out. Both stand on
torch alone, and are imported when they are first used, so that the command line starts at once.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmodes import metrics, objectives

__version__ = "0.1.0"

__all__ = ["__version__", "metrics", "objectives"]


def __getattr__(name: str) -> ModuleType:
    if name in ("metrics", "objectives"):
        return importlib.import_module(f"allmodes.{name}")
    raise AttributeError(f"module 'allmodes' has no attribute {name!r}")
