"""The methods that worlds compare, each put together from `objectives/`: rewards, KL, advantages, loss."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.checks import check_choice, check_fraction
from allmodes.errors import InputError
from allmodes.objectives import (
    forward_kl_loss,
    group_advantages,
    ips_rewards,
    kl_in_rewards,
    leave_one_out_advantages,
    mara_rewards,
    reverse_kl_loss,
    target_rewards,
    trajectory_balance_loss,
)
from allmodes.objectives.mara import Anchor


@final
@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a step drew for all settings of one method, flat, (N,); beta is its setting's.

    probabilities: exact probability of the sample's outcome under its policy; None unless the method asks.
    """

    rewards: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    lengths: Tensor
    outcomes: Tensor
    group_ids: Tensor
    beta: Tensor
    probabilities: Tensor | None


@final
@dataclass(frozen=True, kw_only=True)
class Mara:
    """MARA's rewards. flattening: 1 is MARA; below 1 (tempered) it flattens log-heights above τ by a part."""

    threshold: float
    algorithm: Literal[1, 2] = 1
    anchor: Anchor = "group"
    flattening: float = 1.0

    def __post_init__(self) -> None:
        if self.algorithm not in (1, 2):
            raise InputError(f"`algorithm` must be 1 or 2; got {self.algorithm}")
        check_fraction("flattening", self.flattening)

    def __call__(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Rewards and reference log-probabilities to train on."""
        result = mara_rewards(
            samples.rewards,
            samples.ref_logprobs,
            beta=samples.beta,
            threshold=self.threshold,
            group_ids=samples.group_ids,
            anchor=self.anchor,
        )
        if self.flattening < 1:
            plain = samples.ref_logprobs + samples.rewards / samples.beta
            flat = result.ref_logprobs + result.anchor_rewards / samples.beta
            density = torch.lerp(plain, flat, self.flattening)
            return target_rewards(density, samples.ref_logprobs, beta=samples.beta), samples.ref_logprobs
        if self.algorithm == 2:
            return result.anchor_rewards, result.ref_logprobs
        return result.rewards, samples.ref_logprobs


@final
@dataclass(frozen=True, kw_only=True)
class Ips:
    """Rewards over outcome probabilities. frequencies: counted in the group, or "exact" from the policy."""

    frequencies: Literal["group", "exact"] = "group"
    min_probability: float = 0.0
    kl_first: bool = False

    def __post_init__(self) -> None:
        check_choice("frequencies", self.frequencies, ("group", "exact"))
        check_fraction("min_probability", self.min_probability)

    def __call__(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Rewards and reference log-probabilities to train on."""
        rewards = samples.rewards
        if self.kl_first:
            rewards = kl_in_rewards(rewards, samples.logprobs, samples.ref_logprobs, beta=samples.beta)
        if self.frequencies == "group":
            scaled = ips_rewards(
                rewards,
                samples.outcomes,
                min_probability=self.min_probability,
                group_ids=samples.group_ids,
            ).rewards
        else:
            assert samples.probabilities is not None  # noqa: S101  # train() gives what a method needs
            scaled = rewards / samples.probabilities.clamp(min=self.min_probability)
        return scaled, samples.ref_logprobs


@final
@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to train.

    kl: the regulariser that a setting's β weighs; "entropy" is a reverse KL without a reference, η = β.
    kl_in: inside the rewards, before advantages (exact for the reverse KL), or as a term of the loss; a
    forward KL is always in the loss (k3), as GRPO has it. advantages: what is subtracted; "group_std"
    divides, too. loss: "flowrl" is trajectory balance on means over actions with "group_std" advantages, β =
    1/15 in its paper; both learn log Z. group_size: samples that share a group (anchors, frequencies,
    baselines); None is the whole batch of a setting.
    """

    name: str
    kl: Literal["none", "reverse", "forward", "entropy"] = "reverse"
    kl_in: Literal["rewards", "loss"] = "rewards"
    transform: Mara | Ips | None = None
    advantages: Literal["none", "mean", "leave_one_out", "group_std"] = "leave_one_out"
    loss: Literal["policy_gradient", "trajectory_balance", "flowrl"] = "policy_gradient"
    group_size: int | None = None

    def __post_init__(self) -> None:
        check_choice("kl", self.kl, ("none", "reverse", "forward", "entropy"))
        check_choice("kl_in", self.kl_in, ("rewards", "loss"))
        check_choice("advantages", self.advantages, ("none", "mean", "leave_one_out", "group_std"))
        check_choice("loss", self.loss, ("policy_gradient", "trajectory_balance", "flowrl"))
        if self.group_size is not None and self.group_size < 1:
            raise InputError(f"`group_size` must be at least 1; got {self.group_size}")
        if self.loss != "policy_gradient" and self.kl != "reverse":
            raise InputError(f"{self.loss} has its KL built in: `kl` must be 'reverse'; got {self.kl!r}")
        in_rewards = self.kl == "reverse" and (self.kl_in == "rewards" or self.loss == "trajectory_balance")
        if isinstance(self.transform, Mara) and self.transform.algorithm == 2 and not in_rewards:
            raise InputError(
                f"MARA's algorithm 2 needs kl 'reverse' inside the rewards; got {self.kl!r} in {self.kl_in!r}"
            )
        if isinstance(self.transform, Ips) and self.transform.kl_first and self.kl != "none":
            raise InputError(
                f"`kl_first` has the KL inside the scaling: `kl` must be 'none'; got {self.kl!r}"
            )

    @property
    def needs_probabilities(self) -> bool:
        """Whether a step has to compute the exact distribution over outcomes."""
        return isinstance(self.transform, Ips) and self.transform.frequencies == "exact"

    def signal(self, samples: Samples, log_partition: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a step makes of each sample, (N,): its advantage, and a loss beside the policy gradient's.

        log_partition: log Z of the sample's setting, (N,).
        """
        rewards, ref_logprobs = samples.rewards, samples.ref_logprobs
        if self.transform is not None:
            rewards, ref_logprobs = self.transform(samples)
        if self.loss == "trajectory_balance":
            return torch.zeros_like(rewards), trajectory_balance_loss(
                samples.logprobs, ref_logprobs, rewards, log_partition, beta=samples.beta
            )
        if self.loss == "flowrl":
            advantages = group_advantages(rewards, samples.group_ids, scale="group")
            return torch.zeros_like(rewards), trajectory_balance_loss(
                samples.logprobs / samples.lengths,
                ref_logprobs / samples.lengths,
                advantages,
                log_partition,
                beta=samples.beta,
            )
        reference = torch.zeros_like(ref_logprobs) if self.kl == "entropy" else ref_logprobs
        is_reverse = self.kl in ("reverse", "entropy")
        if is_reverse and self.kl_in == "rewards":
            rewards = kl_in_rewards(rewards, samples.logprobs, reference, beta=samples.beta)
        advantages = self._advantages(rewards, samples.group_ids)
        if is_reverse and self.kl_in == "loss":
            return advantages, samples.beta * reverse_kl_loss(samples.logprobs, reference)
        if self.kl == "forward":
            return advantages, samples.beta * forward_kl_loss(samples.logprobs, reference)
        return advantages, None

    def _advantages(self, rewards: Tensor, group_ids: Tensor) -> Tensor:
        if self.advantages == "none":
            return rewards
        if self.advantages == "leave_one_out":
            return leave_one_out_advantages(rewards, group_ids)
        return group_advantages(
            rewards, group_ids, scale="group" if self.advantages == "group_std" else "none"
        )


# The rivals by their names. GRPO is DeepSeek's: advantages over a standard deviation, k3 in the loss.
REVERSE_KL = Method(name="reverse KL")
FORWARD_KL = Method(name="forward KL", kl="forward")
ENTROPY = Method(name="entropy", kl="entropy")
LEAVE_ONE_OUT = Method(name="leave-one-out", kl="none")
GRPO = Method(name="GRPO", kl="forward", advantages="group_std")
GRPO_ENTROPY = Method(name="GRPO", kl="entropy", kl_in="loss", advantages="group_std")
FLOWRL = Method(name="FlowRL", loss="flowrl")
TRAJECTORY_BALANCE = Method(name="trajectory balance", loss="trajectory_balance")
IPS_EXACT = Method(name="IPS, exact", kl="none", transform=Ips(frequencies="exact"))
IPS_GROUP = Method(name="IPS, group", kl="none", transform=Ips(), advantages="none")
IPS_GRPO_ENTROPY = Method(
    name="IPS-GRPO", kl="entropy", kl_in="loss", transform=Ips(), advantages="group_std"
)
