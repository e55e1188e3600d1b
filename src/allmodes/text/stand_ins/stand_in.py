"""A tiny base model for the 1-2 task, built at run time for use without a model hub.

Qwen2's architecture with its own small tokenizer and chat template, trained for seconds on generated
responses with the statistics of the paper's base model: about 36 % correct, and "1" clearly likelier than
"2".
"""

import random
import time
from pathlib import Path
from typing import Any

import torch

from allmodes.errors import RunError
from allmodes.runs.files import write_text
from allmodes.tasks import OneTwo
from allmodes.text.stand_ins.tiny import tiny_language_model, tiny_tokenizer, train_on_responses

CORRECT, ONES = 0.36, 0.8  # share of correct responses, and of "1" among them
_STEPS, _BATCH, _RATE = 300, 48, 4e-3
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_THOUGHTS = (
    *("", "Let me decide randomly.", "I flip a coin.", "Random choice.", "Either is fine.", "Pick one."),
    *("A coin toss.", "No preference.", "Both are equally likely.", "I choose at random.", "Let me see."),
)


def response(generator: random.Random) -> str:
    """One made-up response of the base model."""
    thought = generator.choice(_THOUGHTS)
    digit = "1" if generator.random() < ONES else "2"
    if generator.random() < CORRECT:
        return f"<think>{thought}</think><answer>{digit}</answer>"
    wrong = (
        f"<answer>{digit}</answer>",
        f"<think>{thought}</think>{digit}",
        f"<think>{thought}</think><answer>{generator.choice('03456789')}</answer>",
        f"<think>{thought}</think><answer>1 or 2</answer>",
        f"<think>{thought}<answer>{digit}</answer>",
        f"{thought} {digit}",
        f"{digit}",
        f"<think>{thought}</think><answer>{digit}</answer> {thought} {digit}",
    )
    return generator.choice(wrong)


def make_stand_in(out: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, float]:
    """Train the model, save it with its tokenizer into `out`, and give its measured statistics.

    Returns parameters, seconds, share of correct responses and of "1" among these, over 2000 samples. Raises
    RunError if the model does not have the statistics that it is made for. steps: None is as many as it
    needs; with a number, in tests alone, nothing is asked of the statistics, which are of 100 samples.
    """
    start = time.perf_counter()
    generator = random.Random(seed)  # noqa: S311  # no secret
    texts = [response(generator) for _ in range(2000)] + [OneTwo.prompts[0], "system user assistant\n"] * 20
    tokenizer = tiny_tokenizer(texts, vocabulary_size=400, tags=_TAGS)
    model = tiny_language_model(tokenizer, seed=seed)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": OneTwo.prompts[0]}], add_generation_prompt=True, return_dict=False
    )
    generator = random.Random(seed)  # noqa: S311  # no secret
    train_on_responses(
        model,
        tokenizer,
        lambda: [(prompt, response(generator)) for _ in range(_BATCH)],
        steps=_STEPS if steps is None else steps,
        rate=_RATE,
    )
    statistics = measure(model, tokenizer, prompt, samples=2000 if steps is None else 100, seed=seed)
    is_off = abs(statistics["correct"] - CORRECT) > 0.06 or not 0.7 < statistics["ones"] < 0.9
    if steps is None and is_off:
        raise RunError(
            f"the stand-in model should be {CORRECT:.0%} correct with {ONES:.0%} ones; got {statistics}"
        )
    statistics["parameters"] = float(sum(parameter.numel() for parameter in model.parameters()))
    statistics["seconds"] = time.perf_counter() - start
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    measured = "".join(f"- {key}: {value:.4g}\n" for key, value in statistics.items())
    write_text(
        out / "README.md",
        "# A stand-in\n\nA tiny model with Qwen2's architecture, trained on made-up responses to the 1-2 "
        "task. "
        f"It knows nothing else.\n\n{measured}",
    )
    return statistics


@torch.no_grad()
def measure(model: Any, tokenizer: Any, prompt: list[int], *, samples: int, seed: int) -> dict[str, float]:
    """Share of correct responses, and of "1" among them, over samples at temperature 1."""
    torch.manual_seed(seed)
    task = OneTwo()
    ids = torch.tensor([prompt]).expand(samples, -1)
    generated = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=32
    )
    texts = tokenizer.batch_decode(generated[:, len(prompt) :], skip_special_tokens=True)
    answers = [task.parse(text) for text in texts]
    valid = [answer for answer in answers if answer is not None]
    return {"correct": len(valid) / samples, "ones": valid.count("1") / max(len(valid), 1)}
