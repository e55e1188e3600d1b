"""How good and how diverse it came out."""

from allmodes.metrics.coverage import count_hits, oracle_burden
from allmodes.metrics.packing import internal_diversity, num_circles
from allmodes.metrics.uncertainty import Summary, summarise, welch_test

__all__ = [
    "Summary",
    "count_hits",
    "internal_diversity",
    "num_circles",
    "oracle_burden",
    "summarise",
    "welch_test",
]
