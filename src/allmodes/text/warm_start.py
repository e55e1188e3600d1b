"""A short supervised phase on examples of a task's own format, before any reinforcement learning.

A weak base model rarely follows a format, and then never gets a reward. After a warm start it sometimes does,
with some answers likelier than others. The warm-started model is the reference of the training.
"""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch

from allmodes.errors import ConfigError, shown
from allmodes.runs.files import sync
from allmodes.runs.seals import read_sealed_json, restoring, seal_json
from allmodes.tasks import Task, WritesExamples
from allmodes.text.base_statistics import BaseStatistics, Share, base_statistics
from allmodes.text.config import TextConfig, WarmStart
from allmodes.text.models import autocast, free_memory, load_model, load_tokenizer
from allmodes.text.sampling import chat_prompt
from allmodes.text.supervised import Pair, minimise, response_loss
from allmodes.text.training import policy_responses

_RECORD = "warm-start.json"  # written last: without it the folder is not whole
_SAMPLES = 256  # responses that the share before is measured on
_CHECK_EVERY, _CHECK_SAMPLES = 8, 128  # steps between two looks at a target, and responses of each


@final
class Examples:
    """Examples of a task's format as tokens, drawn with the proportions of a warm start.

    Each is of a prompt drawn evenly. With probability `valid` it gives a known answer, of which each is
    `skew` times as likely as the next one in the task's order; else it is one of the near misses, evenly.
    """

    def __init__(
        self, task: Task, prompts: Sequence[str], tokenizer: Any, *, template: dict[str, Any]
    ) -> None:
        """Raises ConfigError for a task that writes no examples."""
        if not isinstance(task, WritesExamples):
            raise no_examples(task)
        self._texts: list[tuple[list[str], list[str]]] = []
        for prompt in prompts:
            answers = task.known_answers(prompt)
            if not answers:
                raise ConfigError(f"`task`: expected one whose answers are known; got {task.name!r}")
            written = [task.write(prompt, answer) for answer in answers]
            for text, answer in zip(written, answers, strict=True):
                if task.parse(text) != answer:
                    raise ConfigError(
                        f"`task`: expected an example of {task.name!r} that gives {shown(answer)}; got "
                        f"{shown(text)}, which gives {shown(task.parse(text))}"
                    )
            misses = list(task.near_misses(prompt))
            if not misses:
                raise ConfigError(
                    f"`task`: expected at least one near miss of {task.name!r} for each prompt; got "
                    f"none for {shown(prompt)}"
                )
            self._texts.append((written, misses))
        self._tokenizer = tokenizer
        self._prompts = [
            tokenizer.encode(chat_prompt(tokenizer, prompt, **template), add_special_tokens=False)
            for prompt in prompts
        ]
        self._ids: dict[str, list[int]] = {}

    @property
    def longest(self) -> int:
        """Tokens of the longest example with a known answer, with its end."""
        return max(len(self._tokens(text)) for written, _ in self._texts for text in written)

    def check_lengths(self, *, max_tokens: int, limit: int | None) -> None:
        """Raise ConfigError if an example is longer than responses or than what the model can read.

        limit: tokens of a prompt and a response, None for none.
        """
        if self.longest > max_tokens:
            raise ConfigError(
                f"`max_tokens`: expected at least {self.longest}, the tokens of the longest example of the "
                f"task with its end; got {max_tokens}"
            )
        prompt = max(map(len, self._prompts))
        if limit is not None and prompt + max_tokens > limit:
            raise ConfigError(
                f"`max_tokens`: expected prompts and responses of at most {limit} tokens, which is what the "
                f"model reads; got {prompt} of the longest prompt and `max_tokens` = {max_tokens}: "
                "`max_prompt_tokens` leaves long prompts out"
            )

    def draw(self, generator: random.Random, *, valid: float, skew: float) -> Pair:
        """One example."""
        place = generator.randrange(len(self._prompts))
        written, misses = self._texts[place]
        if generator.random() < valid:
            weights = [skew**-rank for rank in range(len(written))]
            text = generator.choices(written, weights)[0]
        else:
            text = generator.choice(misses)
        return self._prompts[place], self._tokens(text)

    def _tokens(self, text: str) -> list[int]:
        """The tokens of a response with its end."""
        if text not in self._ids:
            ids = self._tokenizer.encode(text, add_special_tokens=False)
            self._ids[text] = [*ids, self._tokenizer.eos_token_id]
        return self._ids[text]


def no_examples(task: Task) -> ConfigError:
    """The error for a task that is not a `WritesExamples`."""
    return ConfigError(
        "`task`: expected one that writes examples for a warm start (`write` and `near_misses`, see "
        f"docs/guide/warm-start.md); got {task.name!r}"
    )


def check_warm_start(
    config: TextConfig, task: Task, prompts: Sequence[str], model: Any, tokenizer: Any
) -> Examples:
    """The examples. Raises ConfigError if the warm start would fail for the task or its lengths."""
    examples = Examples(task, prompts, tokenizer, template=config.chat_template)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    examples.check_lengths(max_tokens=config.max_tokens, limit=limit)
    return examples


def warm_started(
    config: TextConfig,
    settings: WarmStart,
    task: Task,
    prompts: Sequence[str],
    *,
    measured: Sequence[str],
    model: str,
    out: Path,
    on_step: Callable[[int], object],
) -> tuple[str, BaseStatistics]:
    """Train the warm-started model into folder `out` if it is missing; return its name and the shares before.

    prompts: of the examples. measured: of the shares. The folder holds model, tokenizer and warm-start.json:
    settings, steps, the loss of each, and the shares of the untouched model. The same settings, model,
    threads and machine give the same bits. Raises ConfigError as `check_warm_start` does and for a target
    that is not reached; RunError if the folder is damaged or cannot be written.
    """
    if not (out / _RECORD).exists():
        shutil.rmtree(out, ignore_errors=True)  # of a run that was killed while it wrote
        _make(config, settings, task, prompts, measured=measured, model=model, out=out, on_step=on_step)
        free_memory()
    record = read_sealed_json(out / _RECORD)
    with restoring(out / _RECORD):
        return str(out), BaseStatistics.from_json(record["before"])


def _make(
    config: TextConfig,
    settings: WarmStart,
    task: Task,
    prompts: Sequence[str],
    *,
    measured: Sequence[str],
    model: str,
    out: Path,
    on_step: Callable[[int], object],
) -> None:
    policy, tokenizer = load_model(model), load_tokenizer(model)
    examples = check_warm_start(config, task, prompts, policy, tokenizer)
    before = measure_base(config, task, policy, tokenizer, measured, samples=_SAMPLES)
    draws = random.Random(settings.seed)  # noqa: S311  # no secret
    losses: list[float] = []

    def loss() -> torch.Tensor:
        batch = [
            examples.draw(draws, valid=settings.valid, skew=settings.skew) for _ in range(settings.batch_size)
        ]
        with autocast(config.precision):
            value = response_loss(policy, batch, pad=tokenizer.pad_token_id)
        losses.append(value.item())
        return value

    seen: Share | None = None  # valid responses to the prompts that it learns from, for the target alone

    def reached() -> bool:
        nonlocal seen
        if settings.target is None:
            return False
        seen = measure_base(config, task, policy, tokenizer, prompts, samples=_CHECK_SAMPLES).valid
        return seen.mean is not None and seen.mean >= settings.target

    def stop(done: int) -> bool:
        on_step(done)
        return (done % _CHECK_EVERY == 0 or done == settings.steps) and reached()

    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        steps = 0
        if not reached():
            steps = minimise(policy, loss, steps=settings.steps, rate=settings.learning_rate, stop=stop)
    if settings.target is not None and (seen is None or (seen.mean or 0) < settings.target):
        raise ConfigError(
            f"`warm_start.target`: expected a share of {settings.target:g} of valid responses within "
            f"{settings.steps} steps; got {seen}: raise `warm_start.steps`, `warm_start.learning_rate` or "
            "`warm_start.valid`"
        )
    policy.save_pretrained(out)
    tokenizer.save_pretrained(out)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    record = {
        "model": model,
        "settings": settings.model_dump(mode="json"),
        "prompts": len(prompts),
        "steps": steps,
        "losses": losses,
        "before": asdict(before),
    }
    seal_json(out / _RECORD, record, files=files)


def measure_base(
    config: TextConfig, task: Task, model: Any, tokenizer: Any, prompts: Sequence[str], *, samples: int
) -> BaseStatistics:
    """Shares in about `samples` responses of a model, equally many per prompt.

    If there are more prompts than `samples`, the first ones are used. Raises ConfigError if a prompt's
    answers are not known.
    """
    asked = prompts[:samples]
    count, seed = samples // len(asked), config.seeds[0]
    responses = policy_responses(config, model, tokenizer, asked, count=count, seed=seed)
    found = base_statistics(task, asked, responses)
    if found is None:
        raise ConfigError(f"`task`: expected one whose answers are known; got {task.name!r}")
    return found
