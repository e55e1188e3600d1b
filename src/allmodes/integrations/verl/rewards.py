"""From verl's rows to the rewards and advantages for its training, with tensors and lists only."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.integrations.rows import Sessions
from allmodes.methods import Method


def sessions_of(keys: Sequence[str], tags: Sequence[Mapping[str, Any]]) -> Sessions:
    """Which rows of verl form one response.

    keys: `{uid}_{session}_{index}`, in whatever order the rows are. tags: of each row; those that
    fill up a batch are tagged as padding.
    """
    parts = [key.rsplit("_", 2) for key in keys]
    return Sessions(
        groups=[uid for uid, _, _ in parts],
        sessions=[session for _, session, _ in parts],
        positions=[int(index) for _, _, index in parts],
        is_padding=[bool(tag.get("is_padding", False)) for tag in tags],
    )


def token_rewards(
    method: Method, sessions: Sessions, values: Tensor, *, scores: Tensor, rewards: Tensor
) -> Tensor:
    """The replacement of verl's token-level rewards for its estimator, (N, T); a new tensor.

    values: (N,), what the method makes of each row's response. scores: (N, T), verl's token-level scores.
    rewards: (N, T), the scores less verl's KL, or the scores themselves where it has none in the reward.

    Values are added to the first token: the estimators that we let through take the sum of a row. A method
    that contains the KL gets none of verl's. One that needs the KL of whole responses gets the sum over all
    rows of a response; verl's is each row's own. Where the method has its own baseline, the KL alone is left
    for verl's, and `all_advantages` adds the rest.
    """
    new = (scores if method.contains_kl else rewards).clone()
    if method.needs_sequence_kl and not method.contains_kl:
        kl = (rewards - scores).double().sum(-1)
        missing = sessions.spread(sessions.sums(kl)) - torch.where(sessions.is_real, kl, 0)
        new[:, 0] += missing.to(new.dtype)
    if method.has_own_baseline:
        return new - scores
    new[:, 0] += values.to(new.dtype)
    return new


def all_advantages(method: Method, values: Tensor, *, advantages: Tensor, mask: Tensor) -> Tensor:
    """The advantages of the estimator, (N, T), and those of a method with its own baseline.

    mask: (N, T), of the tokens that are trained on.
    """
    if not method.has_own_baseline:
        return advantages
    return advantages + values.to(advantages.dtype).unsqueeze(-1) * mask
