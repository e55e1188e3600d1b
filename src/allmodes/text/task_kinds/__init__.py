"""The kinds of task in recipes: the keys, files and task of each kind."""

from typing import Annotated

from pydantic import Field

from allmodes.text.task_kinds.open_questions import CreativeTask
from allmodes.text.task_kinds.own import PythonTask, RewardTask
from allmodes.text.task_kinds.puzzles import HypoSpaceTask, OneTwoTask, ReasoningGymTask

TaskKind = Annotated[
    OneTwoTask | CreativeTask | HypoSpaceTask | ReasoningGymTask | PythonTask | RewardTask,
    Field(discriminator="kind"),
]
