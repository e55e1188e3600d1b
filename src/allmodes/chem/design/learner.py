"""The agent of a design run, and one update of it: REINVENT's loss, MARA's, GRPO's and IPS-GRPO's."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from allmodes.chem.config import Algorithm, MoleculesConfig
from allmodes.chem.design.outcomes import OutcomeFrequencies
from allmodes.chem.policies.policy import load_policy
from allmodes.chem.policies.prior import prior_path
from allmodes.errors import RunError
from allmodes.objectives import (
    SampledBatch,
    group_advantages,
    mara_rewards,
    policy_gradient_loss,
    reinvent_loss,
    remembered_threshold,
    reverse_kl_loss,
)
from allmodes.objectives.thresholds import ThresholdState
from allmodes.runs.checkpoint import adam_state, restore_adam_state

_NOTHING_AUGMENTED = {"augmented": 0.0, "bonus_mean": 0.0, "bonus_max": 0.0}
_CLIP = 0.2  # PPO's and GRPO's ε; at work only where a batch was sampled by an earlier agent


@final
class Learner:
    """An agent that begins as a copy of the prior, the prior, and the optimiser.

    outcomes: the frequencies that IPS divides by.
    Source: MARA, section 6.3 and equation 12; IPS, section 5.3.
    """

    def __init__(self, config: MoleculesConfig, algorithm: Algorithm, outcomes: OutcomeFrequencies) -> None:
        self._config, self._algorithm, self._outcomes = config, algorithm, outcomes
        self.agent, self.tokenizer = load_policy(prior_path(config.prior), precision=config.precision)
        self._prior = copy.deepcopy(self.agent).requires_grad_(requires_grad=False)
        self._seen: ThresholdState = {}  # of MARA's threshold, where it is a quantile
        self._optimizer = torch.optim.Adam(self.agent.parameters(), lr=config.learning_rate, fused=True)

    @property
    def needs_sampled_logprobs(self) -> bool:
        """Whether `update` wants the log-probabilities under the agent that drew a batch: an earlier one."""
        return self._config.lookahead > 0 and self._is_policy_gradient

    @property
    def _is_policy_gradient(self) -> bool:
        return self._algorithm in ("grpo", "ips-grpo")

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {**self.agent.state_dict(), **adam_state(self._optimizer)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides, plain data."""
        return {"threshold": {key: list(seen) for key, seen in self._seen.items()}}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None) -> None:
        """Put back what `tensors` gave, from among others, and `state`, which older checkpoints lack."""
        seen = {} if state is None else state["threshold"]
        self._seen = {key: (tau, smallest) for key, (tau, smallest) in seen.items()}
        self.agent.load_state_dict({name: tensors[name] for name in self.agent.state_dict()})
        restore_adam_state(self._optimizer, tensors)

    def update(
        self,
        tokens: Tensor,
        rewards: Tensor,
        smiles: Sequence[str | None],
        *,
        step: int,
        sampled: Tensor | None = None,
    ) -> tuple[dict[str, float | None], Tensor]:
        """One step of the optimiser on all sequences whose reward is known; figures, and log π_ref of each.

        tokens: (N, T). rewards: (N,), NaN where there is none. smiles: (N,), canonical, None if invalid.
        step: the step's number, for errors. sampled: log-probabilities, under the agent that drew them, of as
        many of the first sequences. log π_ref, (N,), is NaN where the reward is. Raises RunError where the
        loss is not finite.
        """
        reference = torch.full((len(rewards),), torch.nan)
        rows = (~rewards.isnan()).nonzero().squeeze(1)
        if len(rows) == 0:
            return {"loss": None, "prior_nll": None, **_NOTHING_AUGMENTED}, reference
        tokens = tokens[rows]
        with torch.no_grad():
            ref_logprobs = self._prior.logprobs(tokens)
        logprobs = self.agent.logprobs(tokens)
        batch = SampledBatch(rewards=rewards[rows], ref_logprobs=ref_logprobs, logprobs=logprobs)
        sigma, statistics = self._config.sigma, dict(_NOTHING_AUGMENTED)
        if self._is_policy_gradient:
            if self._algorithm == "ips-grpo":
                p = self._outcomes.frequencies(smiles)[rows].clamp(min=self._config.ips.min_probability)
                batch = replace(batch, rewards=batch.rewards / p)
            old = logprobs.detach().clone()
            if sampled is not None and self.needs_sampled_logprobs:
                is_sampled = rows < len(sampled)
                old[is_sampled] = sampled[rows[is_sampled]]
            loss = self._grpo_loss(batch, old).mean()
        else:
            final_rewards, statistics = self._transform(batch)
            loss = reinvent_loss(logprobs, ref_logprobs, final_rewards, sigma=sigma).mean()
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss of step {step} is {float(loss.detach())}: expected a finite number; lower "
                f"`learning_rate` ({self._config.learning_rate:g}) or `sigma` ({sigma:g})"
            )
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        reference[rows] = ref_logprobs.float()
        return {
            "loss": float(loss.detach()),
            "prior_nll": -float(ref_logprobs.mean()),
            **statistics,
        }, reference

    def _grpo_loss(self, batch: SampledBatch, old_logprobs: Tensor) -> Tensor:
        """GRPO over whole sequences, the batch being one group, with β/2 (log π_θ − log π_ref)²; (N,).

        β = 1/σ. The gradient of that penalty is that of β KL(π_θ ‖ π_ref) on samples of the agent itself;
        replayed sequences are held to the reference by the same term.
        """
        advantages = group_advantages(batch.rewards, None, scale="group")
        policy = policy_gradient_loss(
            batch.logprobs, old_logprobs, advantages, clip_low=_CLIP, clip_high=_CLIP
        )
        return policy + reverse_kl_loss(batch.logprobs, batch.ref_logprobs) / self._config.sigma

    def _transform(self, batch: SampledBatch) -> tuple[Tensor, dict[str, float]]:
        """The whole difference between REINVENT and MARA, which changes the rewards and nothing else."""
        if self._algorithm == "reinvent":
            return batch.rewards, dict(_NOTHING_AUGMENTED)
        settings = self._config.mara
        tau, self._seen = remembered_threshold(settings.make_threshold(), batch.rewards, state=self._seen)
        result = mara_rewards(
            batch.rewards,
            batch.ref_logprobs,
            beta=1 / self._config.sigma,
            threshold=tau,
            anchor=settings.anchor,
            max_gap_bonus=settings.max_gap_bonus,
        )
        bonus = result.bonus[result.augmented]
        return result.rewards, {
            "augmented": float(result.augmented.float().mean()),
            "bonus_mean": float(bonus.mean()) if len(bonus) else 0.0,
            "bonus_max": float(bonus.max()) if len(bonus) else 0.0,
        }
