"""How a world trains a method: KL, advantages, loss and groups for the method's rewards."""

from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.checks import check_choice
from allmodes.errors import InputError
from allmodes.methods import IPS, Batch, Method, Plain, State
from allmodes.objectives import (
    forward_kl_loss,
    group_advantages,
    kl_in_rewards,
    leave_one_out_advantages,
    reverse_kl_loss,
    trajectory_balance_loss,
)

TrainingKL = Literal["none", "reverse", "forward", "entropy"]
KLPlace = Literal["rewards", "loss"]
Advantages = Literal["none", "mean", "leave_one_out", "group_std"]


_PLAIN = Plain()


@final
@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """What a step trains on, (N,): advantages, and further loss terms or None.

    state: what the method remembers for the next step.
    """

    advantages: Tensor
    beside: Tensor | None
    state: State | None


@final
@dataclass(frozen=True, kw_only=True)
class Training:
    """One way to train a method.

    kl: the regulariser that a setting's β weighs; "entropy" is a reverse KL without a reference, η = β.
    kl_in: inside the rewards, before advantages (exact for the reverse KL), or as a term of the loss; a
    forward KL is always in the loss (k3), as GRPO has it. advantages: the baseline that is subtracted;
    "group_std" also divides; for a method that makes advantages it must be "none", and a KL inside the
    rewards has its own leave-one-out baseline. loss: "flowrl" is trajectory balance on means over actions
    with "group_std" advantages, β = 1/15 in its paper; both learn log Z. group_size: samples that share a
    group (anchors, frequencies, baselines); None is all samples of a prompt. frequencies: whether a method
    counts its outcomes, or the world gives their exact probabilities.

    Raises InputError for settings that the method's properties rule out.
    """

    name: str
    kl: TrainingKL = "reverse"
    kl_in: KLPlace = "rewards"
    method: Method = _PLAIN
    advantages: Advantages = "leave_one_out"
    loss: Literal["policy_gradient", "trajectory_balance", "flowrl"] = "policy_gradient"
    group_size: int | None = None
    frequencies: Literal["group", "exact"] = "group"

    def __post_init__(self) -> None:
        check_choice("kl", self.kl, ("none", "reverse", "forward", "entropy"))
        check_choice("kl_in", self.kl_in, ("rewards", "loss"))
        check_choice("advantages", self.advantages, ("none", "mean", "leave_one_out", "group_std"))
        check_choice("loss", self.loss, ("policy_gradient", "trajectory_balance", "flowrl"))
        check_choice("frequencies", self.frequencies, ("group", "exact"))
        if self.group_size is not None and self.group_size < max(1, self.method.min_group_size):
            raise InputError(
                f"`group_size` must be at least {max(1, self.method.min_group_size)}; got {self.group_size}"
            )
        if self.loss != "policy_gradient" and self.kl != "reverse":
            raise InputError(f"{self.loss} has its KL built in: `kl` must be 'reverse'; got {self.kl!r}")
        self._check_facts()

    def _check_facts(self) -> None:
        method = self.method
        in_rewards = self.kl == "reverse" and (self.kl_in == "rewards" or self.loss == "trajectory_balance")
        if method.changes_reference and not in_rewards:
            raise InputError(
                f"{method.label} changes the reference, so it needs kl 'reverse' inside the rewards; got "
                f"{self.kl!r} in {self.kl_in!r}"
            )
        if method.contains_kl and self.kl != "none":
            raise InputError(
                f"{method.label} has the KL inside its rewards: `kl` must be 'none'; got {self.kl!r}"
            )
        if self.frequencies == "exact" and not method.takes_outcome_probabilities:
            raise InputError(f"{method.label} takes no exact probabilities: `frequencies` must be 'group'")
        if method.has_own_baseline and self.loss != "policy_gradient":
            raise InputError(
                f"{method.label} returns advantages: `loss` must be 'policy_gradient'; got {self.loss!r}"
            )
        if method.has_own_baseline and self.advantages != "none":
            raise InputError(
                f"{method.label} returns advantages: `advantages` must be 'none'; got {self.advantages!r}"
            )

    @property
    def color(self) -> str:
        """The colour of its method in figures."""
        return self.method.color

    @property
    def needs_probabilities(self) -> bool:
        """Whether a step has to compute the exact distribution over outcomes."""
        return self.frequencies == "exact"

    def loss_terms(
        self, batch: Batch, logprobs: Tensor, *, beta: Tensor, log_partition: Tensor, state: State | None
    ) -> LossTerms:
        """The advantages and losses of each sample of a batch, which holds all inputs that methods need.

        logprobs: log π_θ with gradient. beta, log_partition: β and log Z of the sample's setting. All (N,).
        """
        result = self.method(batch, beta=beta, state=state)
        rewards = result.rewards
        ref_logprobs = batch.ref_logprobs if result.ref_logprobs is None else result.ref_logprobs
        assert ref_logprobs is not None  # noqa: S101  # for type checkers: worlds give it
        assert batch.lengths is not None  # noqa: S101

        def terms(advantages: Tensor, beside: Tensor | None = None) -> LossTerms:
            return LossTerms(advantages=advantages, beside=beside, state=result.state)

        if self.loss == "trajectory_balance":
            balance = trajectory_balance_loss(logprobs, ref_logprobs, rewards, log_partition, beta=beta)
            return terms(torch.zeros_like(rewards), balance)
        if self.loss == "flowrl":
            advantages = group_advantages(rewards, batch.group_ids, scale="group")
            balance = trajectory_balance_loss(
                logprobs / batch.lengths,
                ref_logprobs / batch.lengths,
                advantages,
                log_partition,
                beta=beta,
            )
            return terms(torch.zeros_like(rewards), balance)
        reference = torch.zeros_like(ref_logprobs) if self.kl == "entropy" else ref_logprobs
        is_reverse = self.kl in ("reverse", "entropy")
        if is_reverse and self.kl_in == "rewards":
            if self.method.has_own_baseline:  # that is the baseline of its rewards; the KL needs its own
                penalty = kl_in_rewards(torch.zeros_like(rewards), logprobs, reference, beta=beta)
                rewards = rewards + leave_one_out_advantages(penalty, batch.group_ids)
            else:
                rewards = kl_in_rewards(rewards, logprobs, reference, beta=beta)
        advantages = self._advantages(rewards, batch.group_ids)
        if is_reverse and self.kl_in == "loss":
            return terms(advantages, beta * reverse_kl_loss(logprobs, reference))
        if self.kl == "forward":
            return terms(advantages, beta * forward_kl_loss(logprobs, reference))
        return terms(advantages)

    def _advantages(self, rewards: Tensor, group_ids: Tensor) -> Tensor:
        if self.advantages == "none":
            return rewards
        if self.advantages == "leave_one_out":
            return leave_one_out_advantages(rewards, group_ids)
        return group_advantages(
            rewards, group_ids, scale="group" if self.advantages == "group_std" else "none"
        )


def training_of(
    method: Method,
    *,
    kl: TrainingKL = "reverse",
    kl_in: KLPlace = "rewards",
    advantages: Advantages = "leave_one_out",
    group_size: int | None = None,
) -> Training:
    """How to train any method: as requested, except for settings that its properties determine.

    A method that makes advantages gets no baseline, one whose rewards include the KL gets no other KL, and
    one that changes the reference has the KL inside the rewards. Raises InputError if this is impossible.
    """
    return Training(
        name=method.label,
        kl="none" if method.contains_kl else kl,
        kl_in="rewards" if method.changes_reference else kl_in,
        method=method,
        advantages="none" if method.has_own_baseline else advantages,
        group_size=group_size,
    )


# Baselines by their names. GRPO is DeepSeek's: advantages divided by a standard deviation, k3 in the loss.
REVERSE_KL = Training(name="reverse KL")
FORWARD_KL = Training(name="forward KL", kl="forward")
ENTROPY = Training(name="entropy", kl="entropy")
LEAVE_ONE_OUT = Training(name="leave-one-out", kl="none")
GRPO = Training(name="GRPO", kl="forward", advantages="group_std")
GRPO_ENTROPY = Training(name="GRPO", kl="entropy", kl_in="loss", advantages="group_std")
FLOWRL = Training(name="FlowRL", loss="flowrl")
TRAJECTORY_BALANCE = Training(name="trajectory balance", loss="trajectory_balance")
IPS_EXACT = Training(name="IPS, exact", kl="none", method=IPS(), frequencies="exact")
IPS_GROUP = Training(name="IPS, group", kl="none", method=IPS(), advantages="none")
IPS_GRPO_ENTROPY = replace(GRPO_ENTROPY, name="IPS-GRPO", method=IPS())
