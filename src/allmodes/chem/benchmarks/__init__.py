"""Benchmarks of molecular design: GuacaMol, PMO and MolExp, as tasks and as runs."""

from allmodes.chem.benchmarks.scoring import score
from allmodes.chem.benchmarks.tasks import TASKS, Task, find_task, tasks_of

__all__ = ["TASKS", "Task", "find_task", "score", "tasks_of"]
