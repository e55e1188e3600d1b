"""Stand-ins for the creative task's models, built at run time for use without a model hub.

A tiny chat model answers open questions about a synthetic world, some answers far more often than others and
some of them bad. Two tiny reward models score the answers: one for training, and one with other data, other
weights and other preferences, to measure how much of the training reward carries over.
"""

import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from allmodes.errors import RunError
from allmodes.runs.files import write_text
from allmodes.text.stand_ins.made_up_answers import (
    HELD_OUT,
    KINDS,
    TRAINING,
    best_answers,
    draw_answer,
    named,
    quality,
)
from allmodes.text.stand_ins.tiny import (
    tiny_config,
    tiny_language_model,
    tiny_tokenizer,
    train_on_responses,
)
from allmodes.text.supervised import right_padded

_VOCABULARY = 1000  # so that every word is one token
_WIDTH, _SPREAD = 64, 0.1  # narrow and loud: it learns to listen to the question in seconds
_BASE_STEPS, _BATCH, _BASE_RATE = 500, 32, 8e-3
# A reward model finds out after some hundred steps, sooner or later, what it is that an answer must fit.
_MOST_STEPS, _COOLING_STEPS, _REWARD_RATE, _LEARNT = 3000, 150, 1.5e-3, 0.45
_STATISTICS = "statistics.json"
_LABELS = 16_000  # that a reward model is trained on
TASTE, NOISE = 0.35, 0.3  # standard deviations: of a judge's own liking of a thing, and of each of its labels


@final
@dataclass(frozen=True, kw_only=True)
class CreativeStandIns:
    """Folders of the base model and of both reward models, files of both sets of prompts, and statistics."""

    base: Path
    reward_model: Path
    other_reward_model: Path
    training_prompts: Path
    held_out_prompts: Path
    statistics: dict[str, float]


def make_creative_stand_ins(out: Path, *, seed: int = 0, share: float = 1.0) -> CreativeStandIns:
    """Train and save a base model and two reward models, with files of 24 and 16 prompts, below `out`.

    Statistics: parameters, seconds; of the base model's answers to held-out questions the share that name an
    answer to the question (`on_topic`) and one of the best (`best`), and the share of the likeliest among
    those on topic (`most_usual`); correlations of each reward model with the made-up quality
    (`reward_model`, `other_reward_model`) and with one another (`agreement`), over answers to the training
    questions, which are all that the first one has seen.

    Raises RunError if these are out of the range that makes a creative task. share: of the training; below
    1, in tests alone, nothing is asked of the statistics.
    """
    start = time.perf_counter()
    draws = random.Random(seed)  # noqa: S311  # no secret
    questions = TRAINING + HELD_OUT
    texts = [draw_answer(draws.choice(questions), draws).text for _ in range(4000)]
    tokenizer = tiny_tokenizer([*texts, *questions * 20, "user assistant\n"], vocabulary_size=_VOCABULARY)
    base = tiny_language_model(tokenizer, seed=seed, width=_WIDTH, spread=_SPREAD)
    heads = {question: _prompt(tokenizer, question) for question in questions}

    def batch() -> list[tuple[list[int], str]]:
        asked = draws.choices(questions, k=_BATCH)
        return [(heads[question], draw_answer(question, draws).text) for question in asked]

    train_on_responses(base, tokenizer, batch, steps=_steps(_BASE_STEPS, share), rate=_BASE_RATE)
    # The second judge has its own weights, questions, labels and taste.
    judge = _reward_model(tokenizer, base, TRAINING, seed=seed + 1, share=share)
    other = _reward_model(tokenizer, base, questions, seed=seed + 2, share=share)
    statistics = {
        **measure_base(base, tokenizer, samples=40, seed=seed),
        **_measure_judges(judge, other, tokenizer, seed=seed + 3),
        "parameters": float(sum(parameter.numel() for parameter in base.parameters())),
        "seconds": time.perf_counter() - start,
    }
    if share == 1:
        _check(statistics)
    places = _places(out, statistics)
    measured = "".join(f"- {key}: {value:.4g}\n" for key, value in statistics.items())
    for model, folder, words in (
        (base, places.base, "A tiny chat model, trained on made-up answers to made-up open questions."),
        (judge, places.reward_model, "A tiny reward model, trained on made-up labels of made-up answers."),
        (other, places.other_reward_model, "A second tiny reward model, of other labels and another taste."),
    ):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", f"# A stand-in\n\n{words} It knows nothing else.\n\n{measured}")
    for path, prompts in ((places.training_prompts, TRAINING), (places.held_out_prompts, HELD_OUT)):
        write_text(path, "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    write_text(out / _STATISTICS, json.dumps(statistics, indent=1) + "\n")  # last: all the rest is there
    return places


def load_creative_stand_ins(out: Path) -> CreativeStandIns | None:
    """What `make_creative_stand_ins` has left in a folder; None if it has not been or was interrupted."""
    try:
        statistics = json.loads((out / _STATISTICS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return _places(out, statistics)


def _places(out: Path, statistics: dict[str, float]) -> CreativeStandIns:
    return CreativeStandIns(
        base=out / "base",
        reward_model=out / "reward-model",
        other_reward_model=out / "other-reward-model",
        training_prompts=out / "training.jsonl",
        held_out_prompts=out / "held-out.jsonl",
        statistics=statistics,
    )


def _steps(steps: int, share: float) -> int:
    return max(1, round(share * steps))


def _prompt(tokenizer: Any, question: str) -> list[int]:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )


def _chat(tokenizer: Any, question: str, response: str) -> list[int]:
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    return tokenizer.apply_chat_template(chat, return_dict=False)


def _reward_model(tokenizer: Any, base: Any, questions: Sequence[str], *, seed: int, share: float) -> Any:
    """A regression from the base model on noisy labels of a judge with a taste of its own."""
    from transformers import Qwen2ForSequenceClassification

    torch.manual_seed(seed)
    model = Qwen2ForSequenceClassification(tiny_config(tokenizer, width=_WIDTH, num_labels=1))
    model.model.load_state_dict(base.model.state_dict())
    draws = random.Random(seed)  # noqa: S311  # no secret
    taste = {item: draws.gauss(0, TASTE) for kind in KINDS for item in kind.answers}
    rows: list[tuple[list[int], int, float]] = []
    for _ in range(max(_BATCH, round(_LABELS * share))):
        question = draws.choice(questions)
        answer = draw_answer(question, draws, is_even=draws.random() < 0.7)
        label = quality(question, answer) + taste[answer.item] * answer.is_on_topic + draws.gauss(0, NOISE)
        rows.append((_chat(tokenizer, question, answer.text), len(_prompt(tokenizer, question)), label))

    def losses() -> tuple[Tensor, Tensor]:
        """Of the last token, which is the score; and of all of the answer, from which it learns, too."""
        batch = draws.sample(rows, _BATCH)
        ids = right_padded([row for row, _, _ in batch], tokenizer.pad_token_id)
        labels = torch.tensor([label for _, _, label in batch])
        first, ends = (
            torch.tensor(c).unsqueeze(1) for c in zip(*((b, len(a)) for a, b, _ in batch), strict=True)
        )
        hidden = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        errors = (model.score(hidden).squeeze(-1) - labels.unsqueeze(1)).square()
        places = torch.arange(ids.shape[1])
        return errors.gather(1, ends - 1).mean(), errors[(places >= first) & (places < ends)].mean()

    _fit(model, losses, share=share)
    return model


def _fit(model: Any, losses: Callable[[], tuple[Tensor, Tensor]], *, share: float) -> None:
    """Adam until the last 50 scores are good enough, and a while longer at a falling rate."""
    adam = torch.optim.Adam(model.parameters(), lr=_REWARD_RATE)
    seen: deque[float] = deque(maxlen=50)
    left = None
    model.train()
    for step in range(_steps(_MOST_STEPS, share)):
        score_loss, answer_loss = losses()
        adam.zero_grad()
        (score_loss + answer_loss).backward()
        adam.step()
        seen.append(score_loss.item())
        if left is None and step >= 50 and sum(seen) / 50 < _LEARNT:
            left = _COOLING_STEPS
        elif left is not None:
            left -= 1
            adam.param_groups[0]["lr"] = _REWARD_RATE * left / _COOLING_STEPS
            if left == 0:
                break
    model.eval()


def _scores(model: Any, tokenizer: Any, chats: Sequence[list[int]]) -> Tensor:
    ids = right_padded(chats, tokenizer.pad_token_id)
    mask = (ids != tokenizer.pad_token_id).long()
    return model(input_ids=ids, attention_mask=mask).logits[:, 0]


@torch.no_grad()
def measure_base(model: Any, tokenizer: Any, *, samples: int, seed: int) -> dict[str, float]:
    """Shares of answers to held-out questions: on topic, best, and the most usual of those on topic."""
    from allmodes.text.sampling import sample_responses

    responses = sample_responses(
        model, tokenizer, HELD_OUT, count=samples, max_tokens=16, temperature=1.0, seed=seed
    )
    total = on_topic = best = usual = 0
    for question, answers in zip(HELD_OUT, responses, strict=True):
        kind = next(kind for kind in KINDS if question in kind.held_out)
        things = [thing for answer in answers if (thing := named(answer)) in kind.answers]
        total, on_topic = total + len(answers), on_topic + len(things)
        best += sum(thing in best_answers(question) for thing in things)
        usual += things.count(kind.answers[0])
    return {"on_topic": on_topic / total, "best": best / total, "most_usual": usual / max(on_topic, 1)}


@torch.no_grad()
def _measure_judges(judge: Any, other: Any, tokenizer: Any, *, seed: int) -> dict[str, float]:
    draws = random.Random(seed)  # noqa: S311  # no secret
    asked = draws.choices(TRAINING, k=512)
    answers = [draw_answer(question, draws) for question in asked]
    truth = torch.tensor([quality(question, answer) for question, answer in zip(asked, answers, strict=True)])
    chats = [_chat(tokenizer, q, answer.text) for q, answer in zip(asked, answers, strict=True)]
    first, second = (_scores(model, tokenizer, chats) for model in (judge, other))
    return {
        "reward_model": _correlation(first, truth),
        "other_reward_model": _correlation(second, truth),
        "agreement": _correlation(first, second),
    }


def _correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


RANGES = {
    "on_topic": (0.6, 0.9),
    "best": (0.1, 0.4),
    "most_usual": (0.2, 0.5),
    "reward_model": (0.8, 0.98),
    "other_reward_model": (0.8, 0.98),
    "agreement": (0.6, 0.95),
}


def _check(statistics: dict[str, float]) -> None:
    for name, (low, high) in RANGES.items():
        if not low <= statistics[name] <= high:
            raise RunError(
                f"the creative stand-ins' `{name}` should lie between {low} and {high}; got "
                f"{statistics[name]:.3f}"
            )
