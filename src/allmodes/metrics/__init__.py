"""Metrics of quality and diversity."""

from allmodes.metrics.coverage import count_hits, oracle_burden, top_k_auc, top_mean
from allmodes.metrics.packing import internal_diversity, mean_pair_distance, num_circles
from allmodes.metrics.recovery import cumulative_recovery, recovery_rate, uniqueness, valid_rate
from allmodes.metrics.text import (
    answer_entropy,
    count_entropy,
    distinct_k,
    ead,
    max_at_k,
    novelty_utility,
    partition,
    pass_at_k,
    same_short_answer,
    semantic_diversity,
    vendi_score,
)
from allmodes.metrics.uncertainty import Summary, bootstrap_sem, summarise, welch_test

__all__ = [
    "Summary",
    "answer_entropy",
    "bootstrap_sem",
    "count_entropy",
    "count_hits",
    "cumulative_recovery",
    "distinct_k",
    "ead",
    "internal_diversity",
    "max_at_k",
    "mean_pair_distance",
    "novelty_utility",
    "num_circles",
    "oracle_burden",
    "partition",
    "pass_at_k",
    "recovery_rate",
    "same_short_answer",
    "semantic_diversity",
    "summarise",
    "top_k_auc",
    "top_mean",
    "uniqueness",
    "valid_rate",
    "vendi_score",
    "welch_test",
]
