"""TRL's GRPO and RLOO trainers with a reward transform: `transform`.

    trainer = GRPOTrainer(model=..., reward_funcs=..., args=..., transform=MARA(threshold=BatchQuantile(0.9)))

Everything else, from datasets and reward functions to PEFT, vLLM, accelerate, `report_to` and checkpoints, is
TRL's. The transform's rewards are added as one more column, R̄ − R, next to those of the reward functions, so
that baselines, scaling and slicing are also TRL's. Logged rewards stay raw; figures of the transform are
logged under `transform/`. With an outcome key, `answers/` logs the share of completions with an answer and
the diversity of a prompt's answers.

The optimum depends on the KL. RLOOTrainer has it in the reward, as the log-ratio of the whole response: the
exact reverse KL. TRL's GRPOTrainer has it in the loss, per token and with the states treated as fixed; with
two or more tokens its optimum is not π_ref exp(R/β). Our GRPOTrainer does the same, except for transforms
whose optimum needs the KL of whole responses (MARA, EntropyBonus): for these, β log(π_θ/π_ref) of the whole
response is part of the reward, and the loss has no KL. All log-probabilities are at the sampling temperature.
"""

import inspect
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.extras import how_to_install

try:
    from accelerate.utils import gather_object
    from trl.models.utils import disable_gradient_checkpointing
    from trl.trainer.grpo_trainer import GRPOTrainer as _GRPOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer as _RLOOTrainer
    from trl.trainer.utils import nanstd
except ImportError as error:
    raise ImportError(f"allmodes.integrations.trl needs `{how_to_install('text')}`; {error}") from error

from allmodes.errors import ConfigError, RunError
from allmodes.integrations.answers import OutcomeKey, answer_figures, answers_of
from allmodes.integrations.batches import (
    check_finite_rewards,
    check_result,
    key_of,
    known,
    log_ratio,
    prompt_key,
    reference_change,
    transform_figures,
)
from allmodes.integrations.shared_prompts import SharedPromptsMixin
from allmodes.integrations.trl_passes import (
    MAX_ROUNDING,
    Generation,
    raw_rewards,
    sequence_logprobs,
    trl_version,
)
from allmodes.integrations.trl_sampling import Sampled, draws_at_random, recorded_generation
from allmodes.integrations.trl_settings import (
    KL,
    check_grpo_settings,
    check_rloo_settings,
    check_settings,
    has_sequence_kl,
    makes_policy_pass,
    samples_from_all_tokens,
)
from allmodes.integrations.trl_state import TransformState, order_by_epoch
from allmodes.methods import Batch, Method, Result, stable_ids
from allmodes.runs.messages import completion_text

__all__ = ["KL", "GRPOTrainer", "RLOOTrainer", "completion_text"]


class _TransformMixin(SharedPromptsMixin):
    """Shared part of both trainers; a mixin before a TRL trainer."""

    # From TRL's trainers.
    model: Any
    ref_model: Any
    beta: float
    reward_weights: Tensor
    num_generations: int
    num_generations_eval: int
    _metrics: dict[str, dict[str, list[float]]]
    _logs: dict[str, Any]
    callback_handler: Any

    def __init__(
        self,
        *args: Any,
        transform: Method | None = None,
        kl: KL | None = None,
        outcome_key: OutcomeKey | None = None,
        share_prompts: bool = False,
        **kwargs: Any,
    ) -> None:
        self.transform = transform
        self.outcome_key = outcome_key
        self.share_prompts = share_prompts
        self.has_kl_in_reward = False  # GRPO's, by us or by the method; TRL's RLOO does that itself
        self._adds_kl = False  # to the rewards, which do not hold it yet
        self._trusts_generation: bool | None = None  # until the first that could be used
        self._generation: Generation | None = None
        self._raw: Tensor | None = None
        self._transformed: Tensor | None = None
        config = inspect.signature(super().__init__).bind(*args, **kwargs).arguments.get("args")
        if config is not None:  # before any model is loaded
            self._check_config(config, kl)
        super().__init__(*args, **kwargs)
        if config is None:
            self._check_config(self.args, kl)
        self._set_kl(kl)
        if transform is not None:
            # The weight of the column that `_calculate_rewards` adds.
            self.reward_weights = torch.cat([self.reward_weights, self.reward_weights.new_ones(1)])
            if transform.has_state:
                self.add_callback(TransformState())

    def _check_config(self, config: Any, kl: KL | None) -> None:
        check_settings(config, transform=self.transform, kl=kl, outcome_key=self.outcome_key)

    def _set_kl(self, kl: KL | None) -> None:
        raise NotImplementedError

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return order_by_epoch(super()._get_train_sampler(*args, **kwargs))

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        run = super()._get_per_token_logps_and_entropies
        if self._generation is None:
            return run(*args, **kwargs)
        return self._generation.make_pass(run, *args, **kwargs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's method, in the precision of its passes, which PEFT's `generate` would bypass."""
        with self.accelerator.autocast():
            return super()._generate_single_turn(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.transform is None:
            return super()._generate_and_score_completions(inputs)
        self._generation, self._raw, self._transformed = Generation(self), None, None
        try:
            output = super()._generate_and_score_completions(inputs)
            if self._raw is None or self._transformed is None:
                raise RunError(
                    f"TRL {trl_version} did not call `_calculate_rewards`: its transform is unused"
                )
            self._log_raw_rewards(self._raw)
            if self.transform.has_own_baseline:
                self._restore_baseline(self._transformed, output)
        finally:
            self._generation = self._raw = self._transformed = None
        return output

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        answers = self._log_answers(completions)
        if self.transform is None:
            return rewards_per_func
        raw = raw_rewards(rewards_per_func, self.reward_weights[:-1])
        check_finite_rewards(raw, otherwise=", or None for a sample that cannot be scored")
        key = key_of(self.transform, self.outcome_key)
        if key != self._logged_key:  # the answers that were logged are not the method's
            answers = self._answers(key, completions)
        batch = self._batch(self.transform, raw, answers, completion_ids_list, prompts)
        result = self._transform(self.transform, batch)
        check_result(self.transform, result, raw)
        self._raw, self._transformed = raw, result.rewards
        self._log_transform(batch, result)
        added = self._add_kl(result.rewards - raw, self.transform, batch, result)
        return torch.cat([rewards_per_func, added.unsqueeze(1)], dim=1)

    def _transform(self, transform: Any, batch: Batch) -> Result:
        """The new rewards; a method's state only changes in training, equally on each process."""
        if not transform.has_state:
            return transform(batch, beta=self.beta)
        # transformers may have replaced the callback by one with the state of a checkpoint.
        memory = next(c for c in self.callback_handler.callbacks if isinstance(c, TransformState))
        result = transform(batch, beta=self.beta, state=memory.before(transform))
        if self.model.training:
            memory.value = result.state
        return result

    def _add_kl(self, column: Tensor, transform: Method, batch: Batch, result: Result) -> Tensor:
        """The column that adds a missing KL of whole responses to the rewards, or removes a second one.

        Its score-function gradient is that of the reverse KL of whole responses.
        """
        dtype = column.dtype
        if transform.changes_reference:
            column = column + self.beta * reference_change(batch, result).to(dtype)
        if self._adds_kl:
            column = column - self.beta * log_ratio(batch).to(dtype)
        elif transform.contains_kl and not self.has_kl_in_reward:  # TRL's RLOO subtracts it once more
            column = column + self.beta * log_ratio(batch).to(dtype)
        return column

    @property
    def _logged_key(self) -> OutcomeKey | None:
        return key_of(self.transform, None) if self.outcome_key is None else self.outcome_key

    def _answers(self, key: OutcomeKey | None, completions: Any) -> list[Hashable | None] | None:
        """The answers of the global batch, in TRL's order, equal on each process."""
        return None if key is None else gather_object(answers_of(key, completions))

    @property
    def _needs_log_ratio(self) -> bool:
        return self.transform is not None and (self.has_kl_in_reward or self.transform.contains_kl)

    def _batch(
        self,
        transform: Method,
        rewards: Tensor,
        answers: Sequence[Hashable | None] | None,
        completion_ids: Any,
        prompts: Sequence[Any],
    ) -> Batch:
        """The global batch, gathered from all processes in TRL's order."""
        gather = self.accelerator.gather
        generation = self._generation or Generation(self)
        counted = generation.counted_tokens(completion_ids, device=rewards.device)
        ref_logprobs, logprobs = None, None
        if transform.needs_reference or self._needs_log_ratio:
            ref_logprobs = gather(sequence_logprobs(generation.reference_logps(), counted))
        if transform.needs_policy or self._needs_log_ratio:
            logprobs = gather(
                sequence_logprobs(self._policy_logps(generation, completion_ids, counted), counted)
            )
        outcome_ids, prompt_ids = None, None
        if answers is not None:
            outcome_ids = stable_ids(answers).to(rewards.device)
        if transform.needs_prompts:
            prompt_ids = gather(stable_ids([prompt_key(prompt) for prompt in prompts]).to(rewards.device))
        return Batch(
            rewards=rewards,
            group_ids=torch.arange(len(rewards), device=rewards.device) // self._group_size(),
            lengths=gather(counted.sum(1)),
            ref_logprobs=ref_logprobs,
            logprobs=logprobs,
            outcome_ids=outcome_ids,
            prompt_ids=prompt_ids,
        )

    def _group_size(self) -> int:
        return self.num_generations if self.model.training else self.num_generations_eval

    def _policy_logps(
        self, generation: Generation, completion_ids: Sequence[Sequence[int]], counted: Tensor
    ) -> Tensor:
        """Per-token log π_θ from TRL's own pass, from generation, or else from an additional pass."""
        known = generation.policy_logps()
        if known is not None:
            return known
        sampled = generation.sampled_logps(completion_ids, counted)
        has_all = torch.tensor([sampled is not None], device=counted.device)
        if self._trusts_generation is False or not bool(self.accelerator.gather(has_all).all()):
            sampled = None
        if sampled is not None and self._trusts_generation:
            return generation.add_policy_logps(sampled)
        with (
            torch.no_grad(),
            disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs),
        ):
            passed = generation.policy_pass()
        if sampled is not None and self._agree(sampled, passed, counted):
            return generation.add_policy_logps(sampled)
        return generation.add_policy_logps(passed)

    def _agree(self, sampled: Tensor, passed: Tensor, counted: Tensor) -> bool:
        """Whether generation gives the log-probabilities of passes, checked once; a warning if not.

        The reference's are of passes, so that generation's must be the same but for rounding.
        """
        wrong = torch.where(counted, (sampled - passed).abs(), 0).double().sum()
        total = self.accelerator.gather(torch.stack([wrong, counted.sum().double()]).unsqueeze(0)).sum(0)
        error = float(total[0] / total[1].clamp(min=1))
        self._trusts_generation = error <= MAX_ROUNDING
        if not self._trusts_generation:
            warnings.warn(
                f"log-probabilities of generation differ by {error:.2g} nats per token from those of "
                "TRL's passes, more than rounding explains; each step makes an additional pass of the "
                "policy instead",
                stacklevel=2,
            )
        return self._trusts_generation

    def _log_answers(self, completions: Any) -> list[Hashable | None] | None:
        """Log the answers of the trainer's key, the method's own where there is no other."""
        answers = self._answers(self._logged_key, completions)
        if answers is not None:
            self._log_figures("answers", answer_figures(answers, group_size=self._group_size()))
        return answers

    def _log_figures(self, room: str, figures: dict[str, float]) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in figures.items():
            metrics[f"{room}/{name}"].append(value)

    def _log_transform(self, batch: Batch, result: Result) -> None:
        self._log_figures("transform", transform_figures(batch, result))
        if self.has_kl_in_reward:  # its mean per token, as TRL's RLOO logs it
            metrics = self._metrics["train" if self.model.training else "eval"]
            metrics["kl"].append(float(log_ratio(batch).sum() / known(batch.lengths).sum().clamp(min=1)))

    def _log_raw_rewards(self, raw: Tensor) -> None:
        """Replace TRL's logged figures by those without the transform."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        spread = self._reward_spread(raw)
        for name, value in (
            ("reward", torch.nanmean(raw)),
            ("reward_std", nanstd(raw)),
            ("frac_reward_zero_std", torch.isclose(spread, torch.zeros_like(spread)).float().mean()),
        ):
            metrics[name][-1] = value.item()

    def _reward_spread(self, raw: Tensor) -> Tensor:
        """The standard deviations of which TRL logs how many are zero."""
        raise NotImplementedError

    def _restore_baseline(self, transformed: Tensor, output: dict[str, Any]) -> None:
        """Add back what TRL subtracted from rewards that are advantages already."""
        grouped = transformed.view(-1, self._group_size())
        baseline = self._baseline(grouped).nan_to_num(nan=0.0).masked_fill(grouped.isnan(), 0).view(-1)
        advantages, count = output["advantages"], len(output["advantages"])
        start = self.accelerator.process_index * count
        output["advantages"] = advantages + baseline[start : start + count]
        logged = self._logs["advantages"]
        last = [logged.pop() for _ in range(min(len(baseline), len(logged)))][::-1]
        added = baseline[len(baseline) - len(last) :].tolist()
        logged.extend(value + more for value, more in zip(last, added, strict=True))

    def _baseline(self, grouped: Tensor) -> Tensor:
        raise NotImplementedError


def refuse_fused_loss(config: Any, label: str, why: str) -> None:
    """Raise ConfigError for a fused loss that TRL would compute instead of `_compute_loss`."""
    if config.use_liger_kernel and hasattr(_GRPOTrainer, "compute_liger_loss"):  # of older releases of TRL
        raise ConfigError(
            f"`use_liger_kernel` must be False for {label} with TRL {trl_version}, whose fused loss {why}; "
            "got True"
        )


class GRPOTrainer(_TransformMixin, _GRPOTrainer):
    """`trl.GRPOTrainer` with a reward transform; without one it equals TRL's, bit for bit.

    transform: a method of `allmodes.methods`, several (`Then`), or your own. outcome_key: the text of a
    completion → its answer, None for an invalid one; for `answers/` in the log, and for a method that needs
    outcomes and has no key of its own. None is the key of the method, and without one nothing is logged
    there.

    share_prompts: compute each prompt once for all its responses, in generation and in passes. Results are
    equal up to rounding; it saves most time if prompts are long compared with responses. Not used with
    several processes, images or dropout, or in training passes with gradient checkpointing (TRL's default).

    kl: the divergence that β weighs. For a method that needs the KL of whole responses (MARA, EntropyBonus)
    "reverse" is the exact reverse KL: β log(π_θ/π_ref) of the whole response is subtracted
    from its reward, and the loss has none. For all others "reverse" and "forward" are TRL's KL per token in
    the loss, states held fixed; they set `args.use_bias_correction_kl`. Its optimum is π_ref exp(R/β) for
    responses of one token alone. "token-reverse" and "token-forward" are that for every transform: with MARA
    they are the paper's form, whose optimum is not flat from two tokens on. None is what
    `args.use_bias_correction_kl` says (by TRL's default "reverse").

    Raises ConfigError, before a model is loaded, for a β of 0 where the transform needs the reference, for
    `kl="forward"` and for settings that mask tokens or weigh them by the whole response where it needs the KL
    of whole responses, for `scale_rewards` other than "none" where scaling breaks the transform, and for
    "normalize_then_sum". Raises InputError for a key that raises, or gives what cannot be counted.
    """

    def _check_config(self, config: Any, kl: KL | None) -> None:
        super()._check_config(config, kl)
        check_grpo_settings(config, transform=self.transform, kl=kl)
        if has_sequence_kl(config, transform=self.transform, kl=kl):
            refuse_fused_loss(config, type(self.transform).__name__, "would have a second KL, per token")

    def _set_kl(self, kl: KL | None) -> None:
        self.has_kl_in_reward = has_sequence_kl(self.args, transform=self.transform, kl=kl)
        self._adds_kl = (
            self.transform is not None and self.has_kl_in_reward and not self.transform.contains_kl
        )
        if kl is not None:
            self.args.use_bias_correction_kl = kl in ("reverse", "token-reverse")

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        if not self.has_kl_in_reward:
            return super()._compute_loss(model, inputs)
        beta, self.beta = self.beta, 0.0  # the KL is in the rewards
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self.beta = beta

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's; what it draws is kept with its log-probabilities where they are needed."""
        run, generation = super()._generate_single_turn, self._generation
        needs_policy = self.transform is not None and (self.transform.needs_policy or self._needs_log_ratio)
        if generation is None or not needs_policy or makes_policy_pass(self.args):
            return run(*args, **kwargs)
        if self.use_vllm:
            generated = run(*args, **kwargs)
            if samples_from_all_tokens(self.args):
                generation.sampled.append(Sampled.of_lists(generated[0], generated[-1]))
            return generated
        model = self.accelerator.unwrap_model(self.model_wrapped)
        if draws_at_random(model):
            return run(*args, **kwargs)
        with recorded_generation(model, temperature=self.temperature) as calls:
            generated = run(*args, **kwargs)
        generation.sampled += calls
        return generated

    def _generate(self, prompts: list[Any]) -> Any:
        generated = super()._generate(prompts)
        if self._generation is not None:
            self._generation.tool_mask = generated[2]
        return generated

    def _reward_spread(self, raw: Tensor) -> Tensor:
        if self.scale_rewards == "batch":
            return nanstd(raw) if raw.numel() > 1 else torch.zeros(())
        grouped = raw.view(-1, self._group_size())
        return nanstd(grouped, dim=1) if grouped.shape[1] > 1 else torch.zeros(len(grouped))

    def _baseline(self, grouped: Tensor) -> Tensor:
        return grouped.nanmean(dim=1, keepdim=True).expand_as(grouped)


class RLOOTrainer(_TransformMixin, _RLOOTrainer):
    """`trl.RLOOTrainer` with a reward transform; without one it equals TRL's, bit for bit.

    transform, outcome_key, share_prompts: as for GRPOTrainer. kl: "reverse" or None, the same here: the
    log-ratio of the whole response is in the reward, which has the gradient of the reverse KL.

    Raises ConfigError, before a model is loaded, for a β of 0 where the transform needs the reference, for
    `reward_clip_range`, for `normalize_advantages` with BestOfN, and for another `kl`; InputError for a key
    as GRPOTrainer does.
    """

    def _check_config(self, config: Any, kl: KL | None) -> None:
        super()._check_config(config, kl)
        check_rloo_settings(config, transform=self.transform, kl=kl)

    def _set_kl(self, kl: KL | None) -> None:
        pass

    def _reward_spread(self, raw: Tensor) -> Tensor:
        if self.beta != 0:  # TRL's spread is of rewards less the KL
            passes = [] if self._generation is None else self._generation.passes
            log_ratio = ((passes[0].logps - passes[-1].logps) * passes[-1].mask).sum(-1)
            raw = raw - self.beta * self.accelerator.gather(log_ratio)
        grouped = raw.view(-1, self._group_size())
        return nanstd(grouped, dim=1) if grouped.shape[1] > 1 else torch.zeros(len(grouped))

    def _baseline(self, grouped: Tensor) -> Tensor:
        others = (~grouped.isnan()).sum(dim=1, keepdim=True) - 1
        baseline = (grouped.nansum(dim=1, keepdim=True) - grouped) / others
        return baseline.masked_fill(others < 1, 0)
