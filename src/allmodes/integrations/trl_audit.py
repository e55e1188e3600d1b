"""A log of all samples of a training with TRL, for `allmodes audit`: `AuditLog`.

    trainer.add_callback(AuditLog(trainer, "audit", warn_every=50))

For TRL's GRPOTrainer and RLOOTrainer, and for those of `allmodes.integrations.trl`. It only sums values that
TRL computes anyway, and does not change training by a bit.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

from torch import Tensor

from allmodes.extras import how_to_install

try:
    from accelerate.utils import gather_object
    from transformers import TrainerCallback
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer
except ImportError as error:
    raise ImportError(f"allmodes.integrations.trl_audit needs `{how_to_install('text')}`; {error}") from error

from allmodes.audit.audit import Audit, audit_source
from allmodes.audit.config import AuditConfig
from allmodes.audit.logs.reading import Reading
from allmodes.audit.logs.sources import SAMPLES, SETTINGS, open_source
from allmodes.audit.prediction import Prediction
from allmodes.audit.reporting.overview import progress_sentence, verdict, verdict_line
from allmodes.errors import ConfigError, InputError, RunError, one_line
from allmodes.integrations.answers import OutcomeKey, answer_name, answers_of
from allmodes.integrations.trl_audit_settings import audit_settings, transform_of
from allmodes.integrations.trl_passes import Generation, raw_rewards, sequence_logprobs, trl_version
from allmodes.runs.config import build_config
from allmodes.runs.files import write_text
from allmodes.runs.messages import trajectory_text
from allmodes.runs.sample_log import SampleLog, sample_line

_LOGGER = logging.getLogger("allmodes.audit")


@final
class AuditLog(TrainerCallback):
    """Writes `samples.jsonl`, one object per training sample, and `audit.json`, the settings known from TRL.

    Samples of all processes in the order of TRL's batches, without evaluations, with the keys: `prompt`;
    `response`, all that the model wrote in all its turns; `reward`, the weighted sum of the reward functions
    before any transform, null if none gave one; `ref_logprob` (if β is not 0) and `policy_logprob` (if TRL
    computes it), log-probabilities of the unmasked tokens in nats at the sampling temperature, null without
    such tokens; `step`, the number of updates before; `num_tokens`, the number of unmasked tokens;
    `truncated`, without an end of text; `outcome` (with a key), null if there is no answer.

    outcome_key: the text of a completion → its outcome; by default the transform's, else the trainer's.
    warn_every: after the first update, and after each such number of updates, the whole log is audited, and
    the result goes to the logger "allmodes.audit". An issue is a warning, once per check. After the first
    update, when all samples are the reference's, the answer to "will this objective collapse?" is a warning
    if it is yes, and at level INFO otherwise. Later, level INFO reports how far the policy is on its way from
    the reference to the optimum. overwrite: a training that begins at step 0 replaces an existing log; by
    default it is refused. A resumed training continues it.

    Raises ConfigError for another trainer, a key that is no function, or a `warn_every` below 1; in training
    RunError if the log cannot be written or is another run's, and InputError for a key that raises, or
    gives what has no hash.
    """

    def __init__(
        self,
        trainer: Any,
        folder: str | Path,
        *,
        outcome_key: OutcomeKey | None = None,
        warn_every: int | None = None,
        overwrite: bool = False,
    ) -> None:
        if not isinstance(trainer, GRPOTrainer | RLOOTrainer):
            raise ConfigError(
                f"`trainer` must be a GRPOTrainer or an RLOOTrainer; got {type(trainer).__name__}"
            )
        if outcome_key is not None and not callable(outcome_key):
            raise ConfigError(
                f"`outcome_key` must be a function from a completion's text to its outcome; got "
                f"{outcome_key!r}"
            )
        if warn_every is not None and warn_every < 1:
            raise ConfigError(f"`warn_every` must be at least 1 step; got {warn_every}")
        self._trainer: Any = trainer
        self._settings_path = Path(folder) / SETTINGS
        self._log = SampleLog(Path(folder) / SAMPLES)
        self._key = _own_key(trainer) if outcome_key is None else outcome_key
        self._warn_every, self._overwrite = warn_every, overwrite
        self._warned: set[str] = set()
        self._generation: Generation | None = None
        self._is_written = False
        self._attach()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Prepare the folder. Only the main process does, as for all files."""
        if self._trainer.accelerator.is_main_process:
            # A run that was killed before its first checkpoint begins at step 0, like a new one. The user
            # knows which it is, and can set `overwrite`; a wrong guess could delete the log of days.
            self._log.begin(step=state.global_step, overwrite=self._overwrite)
            write_text(self._settings_path, json.dumps(audit_settings(self._trainer), indent=1) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the findings so far, after the first update and after every `warn_every` steps."""
        if self._warn_every is None or not self._trainer.accelerator.is_main_process:
            return
        step = state.global_step
        if step == 1 or step % self._warn_every == 0:
            self._audit(step)

    def _audit(self, step: int) -> None:
        try:
            config = build_config(AuditConfig, audit_settings(self._trainer), source="the trainer's settings")
            source = open_source(self._log.path)
            audit = audit_source(source, Reading(format="allmodes").mapped(source), config)
            self._say(audit, step)
        except InputError as error:  # as of a log that has nothing to say yet: no reason to stop training
            _LOGGER.debug("no audit at this step: %s", error)
        except Exception as error:  # noqa: BLE001 - a fault of a check's own is not worth a training
            self._warn("audit", f"the audit failed: {type(error).__name__}: {one_line(error)}")

    def _say(self, audit: Audit, step: int) -> None:
        """The prediction from the reference's samples first, then how far the policy has come; and issues."""
        if step == 1:  # all samples so far are the reference's
            answer, _ = verdict(audit)
            if answer == "yes":
                self._warned.add("AM010")  # which is what the answer says
            _LOGGER.log(
                logging.WARNING if answer == "yes" else logging.INFO, "step 0: %s", verdict_line(audit)
            )
        elif isinstance(audit.prediction, Prediction):
            _LOGGER.info("step %d: %s", step, progress_sentence(audit.prediction))
        for found in audit.findings:
            if found.state == "issue":
                message = f"{found.code} {found.title}: {found.summary} {found.remedy}"
                self._warn(found.code, message.rstrip())

    def _warn(self, code: str, message: str) -> None:
        """Log a warning, once for each code."""
        if code not in self._warned:
            self._warned.add(code)
            _LOGGER.warning(message)

    def _attach(self) -> None:
        """Stand between the trainer and its own methods, which are then the first argument of ours."""
        trainer = self._trainer
        trainer._generate_and_score_completions = partial(
            self._score, trainer._generate_and_score_completions
        )
        trainer._get_per_token_logps_and_entropies = partial(
            self._pass, trainer._get_per_token_logps_and_entropies
        )
        trainer._calculate_rewards = partial(self._rewards, trainer._calculate_rewards)
        if isinstance(trainer, GRPOTrainer):  # which alone knows tools
            trainer._generate = partial(self._generate, trainer._generate)

    def _score(self, score: Callable[..., Any], inputs: Any) -> Any:
        if not self._trainer.model.training:
            return score(inputs)
        self._generation, self._is_written = Generation(self._trainer), False
        try:
            output = score(inputs)
        finally:
            self._generation = None
        if not self._is_written:
            raise RunError(f"TRL {trl_version} did not call `_calculate_rewards`: no sample was logged")
        return output

    def _generate(self, generate: Callable[..., Any], prompts: Any) -> Any:
        generated = generate(prompts)
        if self._generation is not None:
            self._generation.tool_mask = generated[2]
        return generated

    def _pass(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        generation = self._generation
        return run(*args, **kwargs) if generation is None else generation.make_pass(run, *args, **kwargs)

    def _rewards(
        self,
        score: Callable[..., Tensor],
        inputs: Any,
        prompts: Any,
        completions: Any,
        completion_ids_list: Any,
    ) -> Tensor:
        rewards_per_func = score(inputs, prompts, completions, completion_ids_list)
        generation = self._generation
        if generation is not None:
            columns = self._columns(generation, prompts, completions, completion_ids_list, rewards_per_func)
            rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
            lines = gather_object([sample_line(row) for row in rows])
            if self._trainer.accelerator.is_main_process:
                self._log.append(lines)
            self._is_written = True
        return rewards_per_func

    def _columns(
        self,
        generation: Generation,
        prompts: Any,
        completions: Any,
        completion_ids: Any,
        rewards_per_func: Tensor,
    ) -> dict[str, Sequence[Any]]:
        """The logged values of this process's samples, by name."""
        trainer = self._trainer
        count = len(trainer.reward_funcs)  # a transform of ours has one more column
        raw = raw_rewards(rewards_per_func[:, :count], trainer.reward_weights[:count])
        start = trainer.accelerator.process_index * len(prompts)
        counted = generation.counted_tokens(completion_ids, device=raw.device)
        columns: dict[str, Sequence[Any]] = {
            "prompt": prompts,
            "response": [trajectory_text(completion) for completion in completions],
            "reward": _as_given(raw[start : start + len(prompts)]),
            "step": [trainer.state.global_step] * len(prompts),
            "num_tokens": counted.sum(1).tolist(),
            "truncated": _truncated(trainer, completion_ids),
        }
        if trainer.beta != 0:
            columns["ref_logprob"] = _logprobs(generation.reference_logps(), counted)
        policy_logps = generation.policy_logps()
        if policy_logps is None:  # a trainer of ours may have made a pass that TRL does not
            own = getattr(trainer, "_generation", None)
            policy_logps = None if own is None else own.policy_logps()
        if policy_logps is not None:
            columns["policy_logprob"] = _logprobs(policy_logps, counted)
        if self._key is not None:
            columns["outcome"] = [answer_name(answer) for answer in answers_of(self._key, completions)]
        return columns


def _own_key(trainer: Any) -> OutcomeKey | None:
    transform = transform_of(trainer)
    own = None if transform is None else transform.key
    return getattr(trainer, "outcome_key", None) if own is None else own


def _as_given(rewards: Tensor) -> list[float | None]:
    """Rewards, which are float32 in TRL, as the shortest decimals that are them; None if not finite.

    In float64 the float32 next to 0.9 is below a threshold of 0.9, and in float32 it is not.
    """
    return [float(str(value)) if math.isfinite(value) else None for value in rewards.float().cpu().numpy()]


def _logprobs(logps: Tensor, counted: Tensor) -> list[float | None]:
    """Log-probabilities of completions; None if they are not finite, or no token counts.

    Of a sure token TRL's may be above 0 by rounding.
    """
    totals, lengths = sequence_logprobs(logps, counted).tolist(), counted.sum(1).tolist()
    return [
        min(total, 0.0) if length > 0 and math.isfinite(total) else None
        for total, length in zip(totals, lengths, strict=True)
    ]


def _truncated(trainer: Any, completion_ids: Sequence[Sequence[int]]) -> list[bool]:
    """Which completions have no end of text, as counted by TRL in `completions/clipped_ratio`."""
    tokenizer = trainer._tokenizer
    # Until 1.14 TRL knows one end of text.
    ends = {*getattr(trainer, "eos_token_ids", [tokenizer.eos_token_id]), tokenizer.pad_token_id}
    return [not ends.intersection(ids[-1:]) for ids in completion_ids]
