"""Process each prompt only once for all its responses, in forward passes and in generation.

A group's responses share their prompt, often most of their tokens. Its keys and values are computed once and
repeated for the responses. Values and gradients equal those of whole sequences up to rounding. The model must
support a cache of keys and values, and must not use dropout.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from allmodes.integrations.trl_passes import MAX_ROUNDING, logps_of
from allmodes.integrations.trl_sampling import draws_at_random, replaced_generate


@final
class SharedPrompts:
    """A language model for a pass over prompts and completions, (N, P + T), that computes each prompt once.

    It is called as the model is, with `input_ids`, `attention_mask` and perhaps `labels`, and gives the
    model's output for the last T + 1 places, or for all of them where no neighbours share a prompt. Rows with
    the same prompt stand next to each other. Attributes are the model's.
    """

    def __init__(self, model: Any, completion_tokens: int) -> None:
        self._model, self._completion_tokens = model, completion_tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Any:
        """The model's output; gradients also flow through the shared prompts."""
        start = input_ids.shape[1] - self._completion_tokens - 1
        cache = repeated_prompts(self._model, input_ids[:, :start], attention_mask[:, :start])
        if cache is None:
            return self._model(input_ids=input_ids, attention_mask=attention_mask, **settings)
        if "labels" in settings:
            settings["labels"] = settings["labels"][:, start:]
        return self._model(
            input_ids=input_ids[:, start:],
            attention_mask=attention_mask,
            **{**settings, "past_key_values": cache, "use_cache": True},
        )


def repeated_prompts(model: Any, ids: Tensor, mask: Tensor, **settings: Any) -> Any:
    """The cache of prompts (N, P), each computed once; None without a cache or equal neighbours.

    settings: of the model's pass; tensors (N, P) among them are taken for each prompt as `ids` are.
    """
    rows = prompt_rows(ids, mask)
    if rows is None:
        return None
    first = torch.searchsorted(rows, torch.arange(int(rows[-1]) + 1, device=rows.device))
    own = {name: value[first] if isinstance(value, Tensor) else value for name, value in settings.items()}
    output = model(input_ids=ids[first], attention_mask=mask[first], use_cache=True, logits_to_keep=1, **own)
    cache = getattr(output, "past_key_values", None)
    if cache is not None:
        cache.reorder_cache(rows)  # which has a gradient, as indexing has
    return cache


def prompt_rows(ids: Tensor, mask: Tensor) -> Tensor | None:
    """The index of each prompt of (N, P) among the distinct ones, (N,); None if no neighbours are equal."""
    if ids.shape[1] < 1:
        return None
    _, rows = torch.unique_consecutive(torch.cat([ids, mask], 1), dim=0, return_inverse=True)
    return None if int(rows[-1]) + 1 == len(rows) else rows


@contextmanager
def shared_generation(model: Any) -> Iterator[None]:
    """A context in which the model's `generate` processes equal prompts only once."""
    generate = model.generate

    def shared(*args: Any, **kwargs: Any) -> Any:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if ids is not None and mask is not None and "past_key_values" not in kwargs:
            places = (mask.cumsum(1) - 1).clamp(min=0)  # as `generate` counts them
            cache = repeated_prompts(model, ids[:, :-1], mask[:, :-1], position_ids=places[:, :-1])
            kwargs |= {} if cache is None else {"past_key_values": cache}
        return generate(*args, **kwargs)

    with replaced_generate(model, shared):
        yield


# A mixin's `super()` is the trainer that it is mixed with; only a type checker is told so here.
_Base: Any = object


class SharedPromptsMixin(_Base):
    """TRL's trainers with `share_prompts`; stands before a TRL trainer among the bases.

    Prompts are only shared if that changes nothing: with one process, for texts, without dropout, and in
    passes with gradients only without gradient checkpointing, which has no cache. The first pass checks that
    the model's cache gives the results of whole sequences, and warns if it does not.
    """

    # From TRL's trainers.
    args: Any
    accelerator: Any
    model_wrapped: Any

    share_prompts: bool = False
    _cache_is_exact: bool | None = None  # until the first pass

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        run = super()._get_per_token_logps_and_entropies
        rest = (input_ids, attention_mask, logits_to_keep, *args)
        has_images = any(isinstance(value, Tensor) for value in kwargs.values())
        keeps_no_cache = torch.is_grad_enabled() and self.args.gradient_checkpointing
        if not self._may_share(model) or has_images or keeps_no_cache:
            return run(model, *rest, **kwargs)
        if self._cache_is_exact is None:
            self._cache_is_exact = self._try_cache(run, model, *rest[:3])
        return run(SharedPrompts(model, logits_to_keep) if self._cache_is_exact else model, *rest, **kwargs)

    def _may_share(self, model: Any) -> bool:
        return self.share_prompts and self.accelerator.num_processes == 1 and not draws_at_random(model)

    @torch.no_grad()
    def _try_cache(
        self,
        run: Callable[..., Any],
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
    ) -> bool:
        """Whether two responses have the same log-probabilities with a shared prompt; a warning if not."""
        pair = input_ids[:2], attention_mask[:2], logits_to_keep
        once, twice = (logps_of(run(m, *pair)) for m in (SharedPrompts(model, logits_to_keep), model))
        error = float((once - twice)[pair[1][:, -logits_to_keep:].bool()].abs().mean())
        if not error <= MAX_ROUNDING:
            warnings.warn(
                f"log-probabilities differ by {error:.2g} nats per token if responses share the pass over "
                "their prompt, more than rounding explains; prompts are not shared",
                stacklevel=2,
            )
        return error <= MAX_ROUNDING

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        run = super()._generate_single_turn
        model = self.accelerator.unwrap_model(self.model_wrapped)
        if not self._may_share(model):
            return run(*args, **kwargs)
        with shared_generation(model):
            return run(*args, **kwargs)
