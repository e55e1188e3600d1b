"""One-line drop-ins for other people's trainers.

The transforms here need torch alone; the doors to the trainers, `allmodes.integrations.trl`, import what
they are named after.
"""

from allmodes.integrations.transforms import (
    IPS,
    MARA,
    BestOfN,
    EntropyBonus,
    RewardTransform,
    TransformBatch,
    TransformResult,
    Unlikeliness,
)

__all__ = [
    "IPS",
    "MARA",
    "BestOfN",
    "EntropyBonus",
    "RewardTransform",
    "TransformBatch",
    "TransformResult",
    "Unlikeliness",
]
