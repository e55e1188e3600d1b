"""Methods as one-line drop-ins for other people's trainers.

All of `allmodes.methods` is here too, and needs torch alone; the integrations themselves, such as
`allmodes.integrations.trl`, import the trainer that they are named after. `RewardTransform`, `TransformBatch`
and `TransformResult` are the names that `Method`, `Batch` and `Result` had before.
"""

from allmodes import methods
from allmodes.methods import *  # noqa: F403  # so that a new method is here without a line of its own
from allmodes.methods import Batch as TransformBatch
from allmodes.methods import Method as RewardTransform
from allmodes.methods import Result as TransformResult

__all__ = ["RewardTransform", "TransformBatch", "TransformResult"]
__all__ += methods.__all__
