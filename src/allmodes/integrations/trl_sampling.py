"""Use the log-probabilities of samples from generation instead of an additional pass of the policy.

While TRL samples with transformers, a processor of logits notes log π of each token that is drawn: before
top-k, top-p and min-p, and at the temperature of TRL's own passes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PretrainedConfig

_BEHIND = {
    *("max_new_tokens", "max_length", "max_time", "stop_strings", "do_sample", "use_cache"),
    *("cache_implementation", "disable_compile", "transformers_version", "_from_model_config"),
    *("temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
}
"""Settings that leave logits as they are until the recorder has seen them. With any other it is not used."""


@final
@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What one call of `generate` drew: tokens and their log-probabilities, (N, T); NaN if not known."""

    ids: Tensor
    logps: Tensor

    @classmethod
    def of_lists(
        cls, ids: Sequence[Sequence[int]], logps: Sequence[Sequence[float | None]] | None
    ) -> "Sampled | None":
        """Of rows of their own lengths, such as vLLM's; None if there are none, or lengths disagree."""
        if not logps or [len(row) for row in ids] != [len(row) for row in logps]:
            return None
        rows = [torch.tensor([math.nan if p is None else p for p in row]) for row in logps]
        return cls(
            ids=pad_sequence([torch.tensor(row, dtype=torch.long) for row in ids], batch_first=True),
            logps=pad_sequence(rows, batch_first=True),
        )

    def aligned(self, completion_ids: Sequence[Sequence[int]], width: int) -> Tensor | None:
        """Log-probabilities of these completions, (N, width), 0 beyond their ends; None for other ones."""
        drawn, lengths = self.ids.tolist(), [len(ids) for ids in completion_ids]
        if len(drawn) != len(lengths) or max(lengths, default=0) > min(self.ids.shape[1], width):
            return None
        if any(row[: len(ids)] != list(ids) for row, ids in zip(drawn, completion_ids, strict=True)):
            return None
        logps = pad(self.logps, (0, width - self.ids.shape[1]))  # or cut, where all end before
        places = torch.arange(width, device=logps.device)
        logps = logps.masked_fill(places >= torch.tensor(lengths, device=logps.device).unsqueeze(1), 0)
        return None if bool(logps.isnan().any()) else logps


@final
class Recorder(LogitsProcessor):
    """log π of each token, noted when the next step shows which was drawn; one step's are kept."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._before: Tensor | None = None
        self._columns: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are; input_ids: (N, T) of prompts and what was drawn, scores: (N, V)."""
        self._note(input_ids[:, -1:])
        self._before = (scores if self._temperature == 1 else scores / self._temperature).log_softmax(-1)
        return scores

    def _note(self, drawn: Tensor) -> None:
        if self._before is not None:
            self._columns.append(self._before.gather(1, drawn))

    def finish(self, drawn: Tensor) -> Sampled | None:
        """drawn: (N, T), all tokens of the call. None where other steps were seen than these."""
        if drawn.shape[1] == len(self._columns) + 1:  # transformers may take steps that it then drops
            self._note(drawn[:, -1:])
        self._before = None
        if not 0 < drawn.shape[1] <= len(self._columns):
            return None
        return Sampled(ids=drawn, logps=torch.cat(self._columns[: drawn.shape[1]], 1))


@contextmanager
def recorded_generation(model: Any, *, temperature: float) -> Iterator[list[Sampled | None]]:
    """Within it, a list that gets what each call of the model's `generate` drew; None for an unusual call."""
    found: list[Sampled | None] = []
    generate = model.generate

    def recorded(*args: Any, **kwargs: Any) -> Any:
        prompts, config = kwargs.get("input_ids"), kwargs.get("generation_config")
        configs = (config, getattr(model, "generation_config", None))
        if prompts is None or "logits_processor" in kwargs or not all(map(_leaves_logits, configs)):
            found.append(None)
            return generate(*args, **kwargs)
        recorder = Recorder(temperature)
        sequences = generate(*args, **kwargs, logits_processor=LogitsProcessorList([recorder]))
        found.append(recorder.finish(sequences[:, prompts.shape[1] :]))
        return sequences

    with replaced_generate(model, recorded):
        yield found


@contextmanager
def replaced_generate(model: Any, generate: Callable[..., Any]) -> Iterator[None]:
    """Within it, the model's `generate` is another function."""
    own = vars(model).get("generate")
    model.generate = generate
    try:
        yield
    finally:
        if own is None:
            del model.generate
        else:
            model.generate = own


def _leaves_logits(config: GenerationConfig | None) -> bool:
    if config is None:
        return False
    neutral = {"repetition_penalty": 1, "num_beams": 1, "num_return_sequences": 1}
    changed = {name: value for name, value in config.to_diff_dict().items() if value}  # not 0, False or empty
    return all(name in _BEHIND or value == neutral.get(name) for name, value in changed.items())


def draws_at_random(model: Any) -> bool:
    """Whether dropout is active, so that two passes of the model over a sample differ."""
    if not model.training:
        return False
    modules = any(
        type(part).__name__.endswith("Dropout") and getattr(part, "p", 0) > 0 for part in model.modules()
    )
    return modules or _has_dropout(model.config)


def _has_dropout(config: Any) -> bool:
    """In attention it is a number of the configuration, or of a part of it, and no module."""
    return any(
        ("drop" in name and isinstance(value, float) and value > 0)
        or (isinstance(value, PretrainedConfig) and _has_dropout(value))
        for name, value in vars(config).items()
    )
