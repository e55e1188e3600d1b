"""A diagnosis of an objective and its training from a log of samples of any trainer."""

from allmodes.audit.audit import CHECKS, Audit, run
from allmodes.audit.findings import Finding, State

__all__ = ["CHECKS", "Audit", "Finding", "State", "run"]
