"""A diagnosis of an objective and its training from a log of samples of any trainer."""

from allmodes.audit.audit import CHECKS, Audit, run
from allmodes.audit.findings import Finding, State
from allmodes.runs.audit_config import AuditConfig

__all__ = ["CHECKS", "Audit", "AuditConfig", "Finding", "State", "run"]
