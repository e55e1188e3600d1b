"""The agent of a design run, and one update of it by a loss and a method."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from allmodes.chem.arms import Arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.losses import design_loss
from allmodes.chem.design.outcomes import OutcomeFrequencies
from allmodes.chem.policies.policy import Samples, load_policy
from allmodes.chem.policies.prior import prior_path
from allmodes.chem.policies.tokenizer import PAD
from allmodes.errors import RunError, UnknownTokenError
from allmodes.methods import Batch, State, stable_ids, state_from_json, state_to_json
from allmodes.runs.checkpoint import adam_state, restore_adam_state


@final
class Learner:
    """The agent (initially a copy of the prior), the prior, the method with its state, and the optimiser.

    outcomes: defines outcomes and their frequencies; only used if the method counts outcomes.

    Replayed molecules, and other spellings in augmented memory, were not drawn from the agent, so they have
    no outcome: a method that counts outcomes ignores them and keeps their rewards. If it divides by
    probabilities from the trainer (IPS), theirs are those of the batch or the run as drawn. Other methods
    treat them like all samples, with the agent's current log-probability.
    """

    def __init__(self, config: MoleculesConfig, arm: Arm, outcomes: OutcomeFrequencies) -> None:
        self._config, self._arm, self._outcomes = config, arm, outcomes
        self._method = config.methods.make(arm.method)
        self.agent, self.tokenizer = load_policy(prior_path(config.prior), precision=config.precision)
        self._prior = copy.deepcopy(self.agent).requires_grad_(requires_grad=False)
        self._state: State | None = None
        self._replayed: dict[str, float] = {}  # log π_ref of molecules as the buffer spells them
        self._optimizer = torch.optim.Adam(self.agent.parameters(), lr=config.learning_rate, fused=True)

    @property
    def counts_outcomes(self) -> bool:
        """Whether the outcomes of each sampled batch must be observed before `update`."""
        return self._method.needs_outcomes

    @property
    def needs_sampled_logprobs(self) -> bool:
        """Whether `update` wants the log-probabilities under the agent that drew a batch: an earlier one."""
        return self._config.lookahead > 0 and (self._arm.loss == "grpo" or self._method.needs_policy)

    def sample(self, generator: torch.Generator) -> Samples:
        """A batch of the agent's. Its log-probabilities are differentiable if the next update is on it."""
        samples = self.agent.sample(
            self._config.batch_size,
            max_length=self._config.max_tokens,
            generator=generator,
            differentiable=self._config.lookahead == 0,
        )
        if self.needs_sampled_logprobs:  # by the same passes: in bfloat16 the sampler's differ
            with torch.no_grad():
                samples = replace(samples, logprobs=self.agent.logprobs(samples.tokens))
        return samples

    def encode(self, smiles: Sequence[str]) -> dict[int, list[int]]:
        """Token ids by position, without those that are too long or hold a token the prior never saw.

        Another spelling of a known molecule may hold one, a ring closure of two digits say.
        """
        encoded = {}
        for index, text in enumerate(smiles):
            try:
                ids = self.tokenizer.encode(text)
            except UnknownTokenError:
                continue
            if len(ids) <= self._config.max_tokens:
                encoded[index] = ids
        return encoded

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {**self.agent.state_dict(), **adam_state(self._optimizer)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides, plain data."""
        return {"method": state_to_json(self._state), "replayed": self._replayed}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None) -> None:
        """Put back what `tensors` gave, from among others, and `state`.

        Older checkpoints lack the state, or hold MARA's alone, as "threshold".
        """
        known = state or {}
        self._replayed = dict(known.get("replayed", {}))
        self._state = state_from_json(known.get("method", known.get("threshold") or None))
        self.agent.load_state_dict({name: tensors[name] for name in self.agent.state_dict()})
        restore_adam_state(self._optimizer, tensors)

    def update(
        self,
        tokens: Tensor,
        rewards: Tensor,
        smiles: Sequence[str | None],
        *,
        step: int,
        drawn: Tensor | None = None,
    ) -> tuple[dict[str, float | None], Tensor]:
        """One step of the optimiser on all sequences whose reward is known; figures, and log π_ref of each.

        tokens: (N, T). rewards: (N,), NaN if there is none. smiles: (N,), canonical, None if invalid.
        step: the step's number, for errors. drawn: log-probabilities, under the agent that drew them, of the
        first sequences, which are the sampled batch; None if all are replayed. If they are differentiable,
        they are those of the present agent, and are not computed again. log π_ref, (N,), is NaN where the
        reward is. Raises RunError if the loss is not finite.
        """
        reference = torch.full((len(rewards),), torch.nan)
        rows = (~rewards.isnan()).nonzero().squeeze(1)
        if len(rows) == 0:
            return {"loss": None, "prior_nll": None}, reference
        tokens = tokens[rows]
        is_drawn = rows < (0 if drawn is None else len(drawn))
        replayed = {
            place: line
            for place, line in enumerate(smiles[row] for row in rows.tolist())
            if drawn is not None and line is not None and not is_drawn[place]
        }
        ref_logprobs = self._reference(tokens, replayed)
        if drawn is not None and drawn.requires_grad:
            logprobs = torch.cat([drawn[rows[is_drawn]], self.agent.logprobs(tokens[~is_drawn])])
        else:
            logprobs = self.agent.logprobs(tokens)
        old_logprobs = logprobs.detach().clone()
        if drawn is not None and self.needs_sampled_logprobs:
            old_logprobs[is_drawn] = drawn[rows[is_drawn]]
        one = torch.zeros(len(rows), dtype=torch.long)  # all samples are one group of one prompt
        batch = Batch(
            rewards=rewards[rows],
            group_ids=one,
            prompt_ids=one,
            lengths=(tokens != PAD).sum(1),
            ref_logprobs=ref_logprobs,
            logprobs=old_logprobs,
        )
        if self._method.needs_outcomes:
            batch = self._with_outcomes(batch, [smiles[row] for row in rows.tolist()], is_drawn)
        sigma = self._config.sigma
        result = self._method(batch, beta=1 / sigma, state=self._state)
        self._state = result.state
        loss = design_loss(
            self._arm.loss,
            self._method,
            result,
            logprobs=logprobs,
            old_logprobs=old_logprobs,
            ref_logprobs=ref_logprobs,
            sigma=sigma,
        ).mean()
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
            **{name: value if math.isfinite(value) else None for name, value in result.metrics.items()},
        }, reference

    def _reference(self, tokens: Tensor, replayed: Mapping[int, str]) -> Tensor:
        """Log π_ref of each sequence, (N,); of replayed molecules, which come again and again, only once."""
        known = {place: self._replayed[line] for place, line in replayed.items() if line in self._replayed}
        is_new = torch.ones(len(tokens), dtype=torch.bool)
        is_new[list(known)] = False
        logprobs = torch.empty(len(tokens))
        with torch.no_grad():
            logprobs[is_new] = self._prior.logprobs(tokens[is_new])
        logprobs[~is_new] = torch.tensor([known[place] for place in sorted(known)])
        for place, line in replayed.items():
            self._replayed.pop(line, None)  # those of the last updates come last
            self._replayed[line] = float(logprobs[place])
        for line in list(self._replayed)[: -self._config.replay.size]:
            del self._replayed[line]
        return logprobs

    def _with_outcomes(self, batch: Batch, smiles: Sequence[str | None], is_drawn: Tensor) -> Batch:
        keys = [
            self._outcomes.outcome(line) if line is not None and drawn else None
            for line, drawn in zip(smiles, is_drawn.tolist(), strict=True)
        ]
        return replace(
            batch, outcome_ids=stable_ids(keys), outcome_probabilities=self._outcomes.frequencies(smiles)
        )
