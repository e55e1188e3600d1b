"""Trajectory balance as a TRL trainer: `FlowRLTrainer`, with a learned log Z of each prompt.

    trainer = FlowRLTrainer(model=..., reward_funcs=..., args=GRPOConfig(beta=0.1, ...), transform=IPS())

Sampling, reward functions, methods, PEFT, accelerate and checkpoints are those of `GRPOTrainer`. The loss is
the squared violation of trajectory balance, which is 0 for all responses if the policy is π_ref exp(R/β)/Z. R
is the reward after the method's transform.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from allmodes.checks import check_choice, check_positive
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.integrations.batches import log_ratio
from allmodes.integrations.shared_prompts import prompt_rows
from allmodes.integrations.trl import KL, GRPOTrainer, refuse_fused_loss
from allmodes.integrations.trl_settings import check_flow_settings, check_settings
from allmodes.methods import Batch, Method, Plain, Result
from allmodes.objectives import group_advantages, trajectory_balance_loss

Form = Literal["exact", "paper"]
LogPartitionKind = Literal["learned", "group"]

_HEAD_FILE = "log_partition.safetensors"


@final
@dataclass(frozen=True, kw_only=True)
class FlowRL:
    """Settings of the loss.

    form: "exact" has log-probabilities of whole responses and rewards over β, so that the optimum is
    π_ref exp(R/β)/Z; its loss is (β/2) δ², whose gradient on the policy's own samples is that of E[R] − β KL,
    as RLOO's: learning rates and gradient clipping carry over. "paper" is FlowRL as published: means over
    tokens, rewards normalised within the group, times `reward_factor`, and a detached clipped importance
    weight; its optimum is another (docs/guide/flowrl.md). log_partition: "learned" is a head on the prompt's
    hidden states; "group" the mean over the prompt's group of what log Z would be for each sample (VarGrad),
    without a head. reward_factor: of the paper's form alone. head_learning_rate: of the head's parameters,
    under the trainer's schedule.

    Raises ConfigError for values out of range.
    """

    form: Form = "exact"
    log_partition: LogPartitionKind = "learned"
    reward_factor: float = 15.0
    head_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_choice("form", self.form, get_args(Form))
        check_choice("log_partition", self.log_partition, get_args(LogPartitionKind))
        check_positive("reward_factor", self.reward_factor)
        check_positive("head_learning_rate", self.head_learning_rate)

    def factor(self, beta: float) -> float:
        """The factor of the rewards: 1/β, or the paper's number."""
        return self.reward_factor if self.form == "paper" else 1 / beta


@final
class LogPartitionHead(nn.Module):
    """A value of each prompt from its hidden states, (N,): three layers, 0 at first.

    log Z is the value times the factor of the rewards, so that it is learned in units of rewards.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.LayerNorm(hidden_size)]
        last = nn.Linear(hidden_size, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden: (N, T, H), states of the prompts' tokens; mask: (N, T), which of them are padding (0)."""
        counted = mask.unsqueeze(-1).float()
        mean = (hidden.detach().float() * counted).sum(1) / counted.sum(1).clamp(min=1)
        return self.layers(mean).squeeze(-1)


class FlowRLTrainer(GRPOTrainer):
    """`GRPOTrainer` with the trajectory-balance loss of FlowRL instead of the policy gradient.

    δ = log Z(x) + log π_θ(y|x) − log π_ref(y|x) − R/β,   loss = (β/2) mean(δ²)        (the exact form)
    δ = log Z(x) + mean_t log π_θ − mean_t log π_ref − c R̂,   loss = mean(w δ²)         (the paper's)

    with w = clip(π_θ/π_old, 1 − ε_low, 1 + ε_high), detached, R̂ = (R − mean)/std of the group and c = 15.
    The first is 0 everywhere only at π_ref exp(R/β)/Z, for samples of any policy. flow: which of the two, and
    how log Z is obtained. transform, outcome_key: as for GRPOTrainer; a method changes R, and with it the
    target. share_prompts: as for GRPOTrainer. kl: "reverse" or None, the same here. Samples without a reward,
    and those without a token that counts, have no loss.

    The hidden states are those of the policy's own pass over the samples, and no gradient goes through them.
    The head's parameters are a group of the optimizer with a learning rate of their own; checkpoints have
    them in log_partition.safetensors, saved models do not.

    Raises ConfigError, before a model is loaded, for β = 0, another `kl`, settings of TRL's loss that this
    one does not have, methods that give advantages instead of rewards, with the paper's form for methods that
    a division by a standard deviation breaks; and for DeepSpeed, FSDP, images and a mixture of experts with
    an auxiliary loss. RunError for a checkpoint without the head.
    """

    def __init__(
        self,
        *args: Any,
        transform: Method | None = None,
        kl: KL | None = None,
        flow: FlowRL | None = None,
        **kwargs: Any,
    ) -> None:
        self.flow = FlowRL() if flow is None else flow
        self.head: LogPartitionHead | None = None
        self._of_batch: dict[str, Tensor] = {}
        self._is_new_update = True
        super().__init__(*args, transform=Plain() if transform is None else transform, kl=kl, **kwargs)
        if self.accelerator.distributed_type.name in ("DEEPSPEED", "FSDP", "MEGATRON_LM"):
            raise ConfigError(
                "FlowRLTrainer: expected one process or several with the whole model each (DDP); got "
                f"{self.accelerator.distributed_type.name}"
            )
        if getattr(self, "aux_loss_enabled", False):
            raise ConfigError(
                "FlowRLTrainer has no auxiliary loss for a mixture of experts: expected "
                "model_init_kwargs={'output_router_logits': False}; got True"
            )
        if self.flow.log_partition == "learned":
            with torch.random.fork_rng(devices=[]):  # the same on every process, and other draws as they were
                torch.default_generator.manual_seed(self.args.seed)
                head = LogPartitionHead(_hidden_size(self.model.config))
            self.head = head.to(self.accelerator.device)

    def _check_config(self, config: Any, kl: KL | None) -> None:
        check_settings(config, transform=self.transform, kl=kl, outcome_key=self.outcome_key)
        check_flow_settings(config, transform=self.transform, kl=kl, is_exact=self.flow.form == "exact")
        refuse_fused_loss(config, "FlowRLTrainer", "is the policy gradient")

    def _set_kl(self, kl: KL | None) -> None:
        """The KL is that of the loss itself."""

    # --- Rewards and log Z of a generation ---

    @property
    def _needs_log_ratio(self) -> bool:
        return self.flow.log_partition == "group" or super()._needs_log_ratio

    def _add_kl(self, column: Tensor, transform: Method, batch: Batch, result: Result) -> Tensor:
        """The column; what the loss needs of the whole batch is kept on the way."""
        column = super()._add_kl(column, transform, batch, result)
        rewards = batch.rewards + column
        if self.flow.form == "paper":
            rewards = group_advantages(rewards, batch.group_ids, scale="group")
        self._of_batch = {"flow_rewards": rewards}
        if self.flow.log_partition == "group":
            self._of_batch["flow_log_partition"] = self._group_log_partition(rewards, batch)
        return column

    def _group_log_partition(self, rewards: Tensor, batch: Batch) -> Tensor:
        """Mean over the group of c R − log(π_θ/π_ref), (N,): the log Z for which its δ are 0 on average."""
        counted = torch.as_tensor(batch.lengths)
        per_sequence = counted.clamp(min=1) if self.flow.form == "paper" else 1
        values = self.flow.factor(self.beta) * rewards.double() - log_ratio(batch) / per_sequence
        values = values.masked_fill(counted == 0, torch.nan).view(-1, self._group_size())
        return values.nanmean(1).nan_to_num(nan=0.0).repeat_interleave(self._group_size())

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if "pixel_values" in output:
            raise InputError("FlowRLTrainer: expected prompts of text alone; got images")
        count = len(output["completion_ids"])
        start = self.accelerator.process_index * count
        output.update({name: values[start : start + count] for name, values in self._of_batch.items()})
        return output

    # --- The loss ---

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        counted = inputs["completion_mask"].bool()
        if "tool_mask" in inputs:
            counted = counted & inputs["tool_mask"].bool()
        with self._passes(model) as passes:
            output = self._get_per_token_logps_and_entropies(
                model,
                torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
                torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
                inputs["completion_ids"].shape[1],
                compute_entropy=True,
            )
        logps, entropies = output[0], output[1]
        lengths = counted.sum(1)
        per_sequence = lengths.clamp(min=1) if self.flow.form == "paper" else 1
        logprobs, ref_logprobs = (
            torch.where(counted, values, 0).double().sum(1) / per_sequence
            for values in (logps, inputs["ref_per_token_logps"])
        )
        has_loss = (lengths > 0) & ~inputs["flow_rewards"].isnan()
        factor = self.flow.factor(self.beta)
        log_partition = inputs.get("flow_log_partition")
        if self.head is not None:
            states = self._prompt_states(passes, inputs)
            log_partition = factor * self.head(states, inputs["prompt_mask"]).double()
        assert log_partition is not None  # noqa: S101  # one of the two is there
        losses = trajectory_balance_loss(
            logprobs,
            ref_logprobs,
            inputs["flow_rewards"].nan_to_num(nan=0.0).double(),
            log_partition.double(),
            beta=1 / factor,
        )
        self._log_flow(losses, log_partition, logps, inputs, counted, entropies, has_loss)
        if self.flow.form == "paper":
            losses = self._importance_weights(logps, inputs, counted) * losses
        else:
            losses = self.beta / 2 * losses
        mode = "train" if self.model.training else "eval"
        parts = self.current_gradient_accumulation_steps if mode == "train" else 1
        return (torch.where(has_loss, losses, 0).mean() / parts).to(logps.dtype)

    def _importance_weights(self, logps: Tensor, inputs: Any, counted: Tensor) -> Tensor:
        """Ratio of the policy to the one that drew the samples, of whole responses, (N,); 1 on-policy."""
        old = inputs.get("old_per_token_logps")
        drift = torch.zeros_like(logps) if old is None else logps.detach() - old
        ratio = torch.where(counted, drift, 0).double().sum(1).exp()
        return ratio.clamp(1 - self.epsilon_low, 1 + self.epsilon_high)

    @contextmanager
    def _passes(self, model: Any) -> Iterator[list[Tensor]]:
        """Within it, a list that gets the last hidden states of each pass, (rows, tokens, H)."""
        found: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output.last_hidden_state
            found.append(states.detach())

        hook = self._inner(model).base_model.register_forward_hook(keep)
        try:
            yield found
        finally:
            hook.remove()

    def _prompt_states(self, passes: Sequence[Tensor], inputs: Any) -> Tensor:
        """Those of the prompts' tokens, (N, P, H), of the last pass over the samples.

        Where it shares prompts, all but the last token of each prompt are in the pass before it.
        """
        ids, mask = inputs["prompt_ids"], inputs["prompt_mask"]
        width, kept = ids.shape[1], inputs["completion_ids"].shape[1]
        rows = prompt_rows(ids[:, :-1], mask[:, :-1])
        last = passes[-1].shape[:2] if passes else None
        if last == (len(ids), width + kept):
            return passes[-1][:, :width]
        is_shared = rows is not None and last == (len(ids), kept + 1) and len(passes) > 1
        if rows is None or not is_shared or passes[-2].shape[:2] != (int(rows[-1]) + 1, width - 1):
            raise RunError(
                f"FlowRLTrainer: expected hidden states of {len(ids)} samples of {width} and {kept} tokens; "
                f"got passes of {[tuple(states.shape[:2]) for states in passes]}"
            )
        return torch.cat([passes[-2][rows], passes[-1][:, :1]], 1)

    def _inner(self, model: Any) -> Any:
        """The model without what distributes it and without adapters around it."""
        inner = self.accelerator.unwrap_model(model)
        return inner.get_base_model() if hasattr(inner, "get_base_model") else inner

    def _log_flow(
        self,
        losses: Tensor,
        log_partition: Tensor,
        logps: Tensor,
        inputs: Any,
        counted: Tensor,
        entropies: Tensor,
        has_loss: Tensor,
    ) -> None:
        """Log Z and |δ| per sample, KL and entropy per token, as means over all processes."""
        with torch.no_grad():
            log_ratio = torch.where(counted, logps - inputs["ref_per_token_logps"], 0)
            sums = torch.stack(
                [
                    torch.where(has_loss, log_partition, 0).sum().double(),
                    torch.where(has_loss, losses.sqrt(), 0).sum().double(),
                    has_loss.sum().double(),
                    log_ratio.sum().double(),
                    torch.where(counted, entropies, 0).sum().double(),
                    counted.sum().double(),
                ]
            )
            total = self.accelerator.reduce(sums, reduction="sum").tolist()
        metrics = self._metrics["train" if self.model.training else "eval"]
        samples, tokens = max(total[2], 1), max(total[5], 1)
        metrics["flow/log_partition"].append(total[0] / samples)
        metrics["flow/residual"].append(total[1] / samples)
        metrics["kl"].append(total[3] / tokens)
        metrics["entropy"].append(total[4] / tokens)

    # --- The head among what is trained and kept ---

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's, with one more group of parameters."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.head is not None:
            own = next(self.head.parameters())
            known = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
            if all(parameter is not own for parameter in known):
                optimizer.add_param_group(
                    {
                        "params": list(self.head.parameters()),
                        "lr": self.flow.head_learning_rate,
                        "weight_decay": 0.0,
                    }
                )
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """TRL's; the head, which is no part of the model, has its gradients averaged over processes here."""
        if self.head is not None and self._is_new_update:
            self.head.zero_grad()
        loss = super().training_step(*args, **kwargs)
        self._is_new_update = bool(self.accelerator.sync_gradients)
        if self.head is not None and self._is_new_update and self.accelerator.num_processes > 1:
            for parameter in self.head.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        return loss

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.head is not None and self.args.should_save:
            save_file(self.head.state_dict(), Path(output_dir) / _HEAD_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            path = Path(checkpoint) / _HEAD_FILE
            if path.exists() != (self.head is not None):
                raise RunError(
                    f"{checkpoint}: expected a checkpoint of log_partition={self.flow.log_partition!r}, "
                    f"{'with' if self.head is not None else 'without'} {_HEAD_FILE}; got one "
                    f"{'with it' if path.exists() else 'without it'}"
                )
            if self.head is not None:
                self.head.load_state_dict(load_file(path))
        super()._load_optimizer_and_scheduler(checkpoint)


def _hidden_size(config: Any) -> int:
    """Width of a model's hidden states, of its text part where it has several."""
    return int(config.get_text_config().hidden_size)
