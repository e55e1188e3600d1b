"""Methods as one-line integrations into other trainers.

All of `allmodes.methods` is also available here and only needs torch; the integrations themselves, such as
`allmodes.integrations.trl`, import the trainer in their name. `RewardTransform`, `TransformBatch`
and `TransformResult` are older names of `Method`, `Batch` and `Result`.
"""

from allmodes import methods
from allmodes.methods import *  # noqa: F403  # so that a new method is here without a line of its own
from allmodes.methods import Batch as TransformBatch
from allmodes.methods import Method as RewardTransform
from allmodes.methods import Result as TransformResult

__all__ = ["RewardTransform", "TransformBatch", "TransformResult"]
__all__ += methods.__all__
