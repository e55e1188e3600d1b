"""The rows of a step in metrics.jsonl and samples.jsonl."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from allmodes.chem.design.rounds import Round, Scored
from allmodes.chem.design.updates import Updated
from allmodes.chem.policies.tokenizer import PAD
from allmodes.runs.sample_log import sample_line


def metrics_row(
    batch: Round, scored: Scored, updated: Updated, *, step: int, hits: int, replay_size: int, collapsed: bool
) -> dict[str, Any]:
    """The figures of a step; hits, replay_size, collapsed: after it."""
    is_valid = torch.tensor([smiles is not None for smiles in batch.smiles])
    return {
        "step": step,
        "calls": batch.asked.calls_before + scored.calls,
        "hits": hits,
        "mean_reward": _mean(scored.raw[is_valid]),
        "mean_penalised_reward": _mean(scored.penalised[is_valid]),
        "validity": float(is_valid.float().mean()),
        "new_share": new_share(batch),
        "failures": scored.failures,
        "replay_size": replay_size,
        **({} if not batch.offspring else _of_offspring(batch, scored)),
        "unknown_tokens": updated.not_replayable,
        "agent_nll": -float(batch.samples.logprobs.detach().mean()),
        "collapsed": collapsed,
        **updated.figures,
    }


def new_share(batch: Round) -> float:
    """The share of a batch's samples that are molecules which the run had not seen before."""
    return (batch.asked.unseen - len(batch.offspring)) / len(batch.smiles)


def _of_offspring(batch: Round, scored: Scored) -> dict[str, Any]:
    rewards = torch.tensor(list(scored.offspring.values()))
    return {"offspring": len(batch.offspring), "mean_offspring_reward": _mean(rewards)}


def sample_rows(batch: Round, scored: Scored, ref_logprobs: Tensor, *, step: int) -> Iterator[str]:
    """A line for every sample as it was drawn, in the format of `allmodes audit`."""
    samples = batch.samples
    lengths = (samples.tokens != PAD).sum(1).tolist()
    columns = (samples.logprobs.tolist(), samples.finished.tolist(), scored.raw.tolist())
    for number, (text, smiles) in enumerate(zip(batch.texts, batch.smiles, strict=True)):
        logprob, finished, reward = (column[number] for column in columns)
        ref_logprob = float(ref_logprobs[number])
        yield sample_line(
            {
                "step": step,
                "response": text,
                "outcome": smiles,
                "reward": None if math.isnan(reward) else reward,
                "ref_logprob": None if math.isnan(ref_logprob) else ref_logprob,
                "policy_logprob": logprob,
                "num_tokens": lengths[number],
                "truncated": not finished,
            }
        )


def _mean(values: Tensor) -> float | None:
    scored = values[~values.isnan()]
    return float(scored.mean()) if len(scored) else None
