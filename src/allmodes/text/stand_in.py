"""A tiny base model for the 1-2 task, made on the spot: a stand-in where no model hub is at hand.

Qwen2's architecture with its own small tokenizer and chat template, trained for seconds on made-up responses
whose statistics are those of the paper's base model: about 36 % correct, and "1" clearly likelier than "2".
"""

import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allmodes.errors import RunError
from allmodes.runs.files import write_text
from allmodes.tasks import OneTwo

CORRECT, ONES = 0.36, 0.8  # share of correct responses, and of "1" among them
_STEPS, _BATCH, _RATE = 300, 48, 4e-3
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_PAD, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
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


def make_stand_in(out: Path, *, seed: int = 0) -> dict[str, float]:
    """Train the model, save it with its tokenizer into `out`, and give its measured statistics.

    Returns parameters, seconds, share of correct responses and of "1" among these, over 2000 samples. Raises
    RunError where the model does not have the statistics that it is made for.
    """
    start = time.perf_counter()
    tokenizer = _make_tokenizer(seed)
    model = _make_model(tokenizer, seed)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": OneTwo.prompts[0]}], add_generation_prompt=True, return_dict=False
    )
    _train(model, tokenizer, prompt, random.Random(seed))  # noqa: S311  # no secret
    statistics = measure(model, tokenizer, prompt, samples=2000, seed=seed)
    if abs(statistics["correct"] - CORRECT) > 0.06 or not 0.7 < statistics["ones"] < 0.9:
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


def _make_tokenizer(seed: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    generator = random.Random(seed)  # noqa: S311  # no secret
    texts = [response(generator) for _ in range(2000)] + [OneTwo.prompts[0], "system user assistant\n"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[_PAD, _START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Tags are tokens of their own, but no special ones: what a model says must survive decoding.
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in _TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        pad_token=_PAD,
        padding_side="left",
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _make_model(tokenizer: Any, seed: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def _train(model: Any, tokenizer: Any, prompt: list[int], generator: random.Random) -> None:
    """Maximum likelihood of made-up responses, given the prompt."""
    adam = torch.optim.Adam(model.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=_RATE, total_steps=_STEPS)
    model.train()
    for _ in range(_STEPS):
        rows = [
            [*tokenizer.encode(response(generator), add_special_tokens=False), tokenizer.eos_token_id]
            for _ in range(_BATCH)
        ]
        width = max(len(row) for row in rows)
        padded = torch.tensor([prompt + row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
        labels = padded.clone()
        labels[:, : len(prompt)] = -100
        for row, ids in zip(labels, rows, strict=True):
            row[len(prompt) + len(ids) :] = -100
        loss: Tensor = model(input_ids=padded, labels=labels, attention_mask=torch.ones_like(padded)).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    model.eval()


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
