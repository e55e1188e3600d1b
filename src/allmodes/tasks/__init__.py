"""Language tasks: what is asked, how an answer is read, what it is worth, and which answers are the same."""

from allmodes.tasks.creative import Creative
from allmodes.tasks.hypospace import Boolean, Causal, Voxels
from allmodes.tasks.judge import Judge
from allmodes.tasks.one_two import OneTwo
from allmodes.tasks.own import RewardFunction, own_task
from allmodes.tasks.reward_model import RewardModel
from allmodes.tasks.task import HasTestPrompts, Task, WritesExamples

__all__ = [
    "Boolean",
    "Causal",
    "Creative",
    "HasTestPrompts",
    "Judge",
    "OneTwo",
    "RewardFunction",
    "RewardModel",
    "Task",
    "Voxels",
    "WritesExamples",
    "own_task",
]
