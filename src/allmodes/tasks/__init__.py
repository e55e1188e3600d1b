"""Language tasks: prompts, parsing of answers, rewards, and equality of answers."""

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
