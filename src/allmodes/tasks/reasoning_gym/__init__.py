"""Puzzles of reasoning-gym with several right answers."""

from allmodes.tasks.reasoning_gym.puzzles import (
    Countdown,
    GraphColoring,
    Puzzles,
    reasoning_gym_task,
    require_reasoning_gym,
)

__all__ = ["Countdown", "GraphColoring", "Puzzles", "reasoning_gym_task", "require_reasoning_gym"]
