"""Diagnose an objective and its training from a log of samples of any trainer.

Submodules are imported on first use, so the command line starts without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allmodes.audit.audit import CHECKS, Audit, run
    from allmodes.audit.checks.findings import Finding, State
    from allmodes.audit.config import AuditConfig

__all__ = ["CHECKS", "Audit", "AuditConfig", "Finding", "State", "run"]

_MODULES = {"AuditConfig": "config", "Finding": "checks.findings", "State": "checks.findings"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"allmodes.audit.{_MODULES.get(name, 'audit')}"), name)
    raise AttributeError(f"module 'allmodes.audit' has no attribute {name!r}")
