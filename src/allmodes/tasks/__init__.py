"""Language tasks: what is asked, how an answer is read, what it is worth, and which answers are the same."""

from allmodes.tasks.one_two import OneTwo
from allmodes.tasks.task import Task

__all__ = ["OneTwo", "Task"]
