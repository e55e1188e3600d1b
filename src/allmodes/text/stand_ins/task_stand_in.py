"""A tiny base model for any task that writes examples of its format, built at run time.

Qwen2's architecture with a tokenizer of the task's own lines and words, trained as by a warm start, on all
prompts of the task: it answers each, some answers far more often than others, and often not in the format.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from allmodes.errors import RunError
from allmodes.runs.files import write_text
from allmodes.tasks import HasTestPrompts, Task, WritesExamples
from allmodes.text.base_statistics import BaseStatistics, base_statistics
from allmodes.text.sampling import sample_responses
from allmodes.text.stand_ins.tiny import TINY_LIMIT, tiny_language_model, tiny_tokenizer
from allmodes.text.supervised import minimise, response_loss
from allmodes.text.warm_start import Examples

VALID, SKEW = 0.65, 1.25  # of the examples, as a warm start has them
LEAST = 0.1  # share of valid responses below which there is nothing for a training to start from
_STEPS, _BATCH, _RATE, _WIDTH = 400, 64, 6e-3, 64
_VOCABULARY = 400  # of bytes and words, beside the task's own tokens
_SAMPLES = 400  # of the model, to measure it
_PIECE = re.compile(r"\s*\S+")


def make_task_stand_in(
    task: Task,
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    batch: int = _BATCH,
    least: float = LEAST,
) -> BaseStatistics:
    """Train the model, save it with its tokenizer into `out`, and give the shares of its answers.

    steps: None is as many as HypoSpace needs, with `batch` examples each; fewer of either for a weaker model.
    Raises RunError if less than `least` of its responses are valid: the task is too large for it.
    ConfigError for examples as `Examples` does.
    """
    start = time.perf_counter()
    prompts = _all_prompts(task)
    tokenizer = task_tokenizer(task, prompts)
    examples = Examples(task, prompts, tokenizer, template={})
    model = tiny_language_model(tokenizer, seed=seed, width=_WIDTH, spread=0.1)
    draws = random.Random(seed)  # noqa: S311  # no secret

    def loss() -> torch.Tensor:
        drawn = [examples.draw(draws, valid=VALID, skew=SKEW) for _ in range(batch)]
        return response_loss(model, drawn, pad=tokenizer.pad_token_id)

    minimise(model, loss, steps=_STEPS if steps is None else steps, rate=_RATE)
    count = max(1, _SAMPLES // len(prompts))
    responses = sample_responses(
        model, tokenizer, prompts, count=count, max_tokens=examples.longest, temperature=1.0, seed=seed
    )
    found = base_statistics(task, prompts, responses)
    if found is None or found.valid.mean is None or found.valid.mean < least:
        share = "none" if found is None else str(found.valid)
        raise RunError(
            f"the stand-in for {task.name} should give at least {least:.0%} valid responses after its "
            f"training; got {share}, for {len(prompts):,} prompts: take a smaller task or another `model`"
        )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    write_text(
        out / "README.md",
        f"# A stand-in\n\nA tiny model with Qwen2's architecture, trained on examples of the task "
        f"{task.name}. It knows nothing else.\n\n- {found.describe()}\n- {parameters:,} parameters\n- "
        f"{time.perf_counter() - start:.0f} s\n",
    )
    return found


def check_task_stand_in(task: Task, *, max_tokens: int) -> None:
    """Raises ConfigError for a task whose examples cannot be learnt, or are longer than responses may be."""
    prompts = _all_prompts(task)
    examples = Examples(task, prompts, task_tokenizer(task, prompts), template={})
    examples.check_lengths(max_tokens=max_tokens, limit=TINY_LIMIT)


def _all_prompts(task: Task) -> list[str]:
    return [*task.prompts, *(task.test_prompts if isinstance(task, HasTestPrompts) else ())]


def task_tokenizer(task: Task, prompts: Sequence[str]) -> Any:
    """A tokenizer that makes short sequences of the task's prompts and responses, and reads any text.

    One token each: the beginning and the end that all prompts share, any other line that several have, each
    line of responses of several lines, and each word of other responses. All else is bytes and words.
    """
    rows = [prompt.splitlines(keepends=True) for prompt in prompts]
    first = _shared(rows)
    last = _shared([row[first:][::-1] for row in rows])
    pieces = {"".join(rows[0][:first]): None, "".join(rows[0][len(rows[0]) - last :]): None}
    counts = Counter(line for row in rows for line in dict.fromkeys(row[first : len(row) - last]))
    pieces |= dict.fromkeys(line for line, count in counts.items() if count > 1)
    responses = list(dict.fromkeys(_responses(task, prompts)))
    for response in responses:
        found = response.splitlines(keepends=True) if "\n" in response else _PIECE.findall(response)
        pieces |= dict.fromkeys(found)
    texts = [*responses, *prompts, "system user assistant\n"]
    return tiny_tokenizer(
        texts, vocabulary_size=_VOCABULARY, tags=[piece for piece in pieces if len(piece) > 1]
    )


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """How many lines from the beginning on are the same in all rows."""
    columns = zip(*rows, strict=False)  # as long as the shortest
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, rows)))


def _responses(task: Task, prompts: Sequence[str]) -> Iterator[str]:
    if not isinstance(task, WritesExamples):
        return
    for prompt in prompts:
        for answer in task.known_answers(prompt) or ():
            yield task.write(prompt, answer)
        yield from task.near_misses(prompt)
