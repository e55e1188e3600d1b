"""MARA, Figure 11: how skewed a language model's reference, rewards and optimum are.

At quick scale with stand-ins built at run time, at paper scale with the paper's models. For samples of your
own: `allmodes.text.likelihood.skew_of_samples`.
"""

import math
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from allmodes.extras import require
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import BLUE, MUTED, ORANGE
from allmodes.targets import predicted_ratios
from allmodes.text.config import STAND_IN

BETA, QUANTILE, TOP = 0.01, 0.95, 16
PAPER_GAP, PAPER_RATIO = 7.76, 2345.0


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """one_two_model: used in panel a. model, reward_model: used in panels b and c."""

    one_two_model: str
    model: str
    reward_model: str
    one_two_samples: int
    samples: int
    one_two_tokens: int
    tokens: int
    batch: int


QUICK = Settings(
    one_two_model=STAND_IN,
    model=STAND_IN,
    reward_model=STAND_IN,
    one_two_samples=2048,
    samples=1024,
    one_two_tokens=32,
    tokens=14,
    batch=256,
)
PAPER = Settings(
    one_two_model="Qwen/Qwen2.5-3B",
    model="Qwen/Qwen3-1.7B",
    reward_model="Skywork/Skywork-Reward-V2-Qwen3-4B",
    one_two_samples=8192,
    samples=1024,
    one_two_tokens=1024,
    tokens=2048,
    batch=8,
)


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """answers: of the correct ones, "1" and "2". logprobs, rewards: (N,), of different responses."""

    counts: dict[str, int]
    drawn: int
    prompt: str
    logprobs: Tensor
    rewards: Tensor
    responses: list[str]
    left_out: dict[str, int]


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Sample, score, and compare the skew of the samples with the paper's.

    Raises ConfigError at paper scale without the paper's models or an accelerator.
    """
    require("fig11 needs", "transformers", "trl", extras="text")
    from allmodes.text.likelihood import skew_of_samples
    from allmodes.text.models import quieten

    settings = PAPER if scale.name == "paper" else QUICK
    if scale.steps < 1:
        settings = replace(
            settings,
            one_two_samples=32 + scale.own_steps(settings.one_two_samples),
            samples=32 + scale.own_steps(settings.samples),
        )
    quieten()
    with tempfile.TemporaryDirectory(prefix="allmodes-fig11-") as folder:
        seen = _sample(settings, Path(folder), scale, progress)
    top = min(TOP, len(seen.rewards))
    skew = skew_of_samples(seen.logprobs, seen.rewards, beta=BETA, quantile=QUANTILE, top=top)
    stand_in = settings.model == STAND_IN
    ones, twos = seen.counts["1"], seen.counts["2"]
    return Reproduction(
        figure=_draw(seen, skew, stand_in=stand_in),
        numbers={
            "one_two": {"samples": seen.drawn, "ones": ones, "twos": twos},
            "creative": {
                "prompt": seen.prompt,
                "different_responses": len(seen.responses),
                "left_out": seen.left_out,
                "reward_mean": float(seen.rewards.mean()),
                "reward_min": float(seen.rewards.min()),
                "reward_max": float(seen.rewards.max()),
                "threshold": skew.threshold,
                "good_logprobs": skew.good_logprobs,
                "largest_gap": skew.largest_gap,
            },
            "top": [
                {
                    "response": seen.responses[index][:200],
                    "reward": float(seen.rewards[index]),
                    "ref_logprob": float(seen.logprobs[index]),
                    "powers_of_ten": float(ratio) / math.log(10),
                }
                for index, ratio in zip(skew.indices.tolist(), skew.log_ratios.tolist(), strict=True)
            ],
        },
        verdicts=[*_measured(seen, skew, stand_in=stand_in), *_recomputed()],
        notes=[
            *(_STAND_IN_NOTES if stand_in else ()),
            "log π_ref is that of the sampled tokens, end of text included, at temperature 1. Responses that "
            "did not end within the limit of tokens, or that the reward model could not score, are left out; "
            "of equal responses one is kept.",
            "The paper's log π_ref of −5.91 and −7.09 are high for whole responses of a chat model: a "
            "hundred tokens at 0.9 each have −10.5. It does not say whether they are sums or means.",
        ],
    )


_STAND_IN_NOTES = (
    "Stand-ins: all three models are tiny, built at run time, and trained on made-up texts. Their skew is "
    "built in: it demonstrates the computation, and is no evidence about language models.",
)


def _sample(settings: Settings, folder: Path, scale: Scale, progress: Progress) -> Seen:
    from allmodes.tasks import OneTwo, RewardModel
    from allmodes.text.likelihood import sample_with_logprobs
    from allmodes.text.models import load_model, load_tokenizer
    from allmodes.text.sampling import sample_responses

    model_name, reward_name, one_two_name, prompt, template = _models(settings, folder, scale)
    progress(1)
    model = load_model(one_two_name)
    task = OneTwo()
    texts = sample_responses(
        model,
        load_tokenizer(one_two_name),
        task.prompts,
        count=settings.one_two_samples,
        max_tokens=settings.one_two_tokens,
        temperature=1.0,
        seed=0,
        batch_size=settings.batch,
        advance=progress,
    )[0]
    answers = [task.parse(text) for text in texts]
    del model
    samples = sample_with_logprobs(
        load_model(model_name),
        load_tokenizer(model_name),
        prompt,
        count=settings.samples,
        max_tokens=settings.tokens,
        seed=0,
        batch_size=settings.batch,
        chat_template=template,
    )
    progress(settings.samples)
    first: dict[tuple[int, ...], int] = {}
    for index, ids in enumerate(samples.ids):
        if samples.is_finished[index] or scale.steps < 1:  # an untrained model never ends
            first.setdefault(tuple(ids), index)
    kept = list(first.values())
    scores = RewardModel(reward_name, batch_size=settings.batch).scores(
        [prompt] * len(kept), [samples.texts[index] for index in kept]
    )
    scored = [(index, score) for index, score in zip(kept, scores, strict=True) if score is not None]
    return Seen(
        counts={"1": answers.count("1"), "2": answers.count("2")},
        drawn=len(answers),
        prompt=prompt,
        logprobs=samples.logprobs[[index for index, _ in scored]],
        rewards=torch.tensor([score for _, score in scored], dtype=torch.float64),
        responses=[samples.texts[index] for index, _ in scored],
        left_out={
            "unfinished": int((~samples.is_finished).sum()),
            "repeated or unfinished": len(samples.ids) - len(kept),
            "unscored": len(kept) - len(scored),
        },
    )


def _models(settings: Settings, folder: Path, scale: Scale) -> tuple[str, str, str, str, dict[str, Any]]:
    """Model, reward model, model of the 1-2 task, prompt, and arguments of its chat template."""
    from allmodes.paper import mara_table1, one_two_runs, table1_inputs, table1_settings, text_runs
    from allmodes.tasks.creative import read_prompts
    from allmodes.text.stand_ins.creative_stand_in import make_creative_stand_ins
    from allmodes.text.stand_ins.made_up_answers import TRAINING

    if settings.model == STAND_IN:
        threads = torch.get_num_threads()
        one_two = one_two_runs.configuration(scale)  # the other items of the 1-2 task use the same model
        with text_runs.base_model(one_two_runs.SUBJECT, one_two, scale, lambda _: None, item="fig11") as (
            one_two_name,
            _,
            _,
        ):
            torch.set_num_threads(threads)
        made = make_creative_stand_ins(folder / "creative", share=min(scale.steps, 1.0))
        return str(made.base), str(made.reward_model), one_two_name, TRAINING[0], {}
    names = (settings.model, settings.reward_model, settings.one_two_model)
    table1_inputs.check_models(names, item="fig11", on_accelerator=True)
    table = replace(table1_settings.PAPER, model=settings.model, max_training_prompts=1)
    own = Path(os.environ.get(mara_table1.WORK, "runs/table1-work")) / "training.jsonl"  # as Table 1 has them
    prompts = read_prompts(own) if own.exists() else table1_inputs.wildchat_prompts(table, own)
    return *names, prompts[0], table.chat_template


def _measured(seen: Seen, skew: Any, *, stand_in: bool) -> list[Verdict]:
    whose = "stand-in" if stand_in else "measured here"
    ones, correct = seen.counts["1"], sum(seen.counts.values())
    share = f"{ones / correct:.1%} of the correct are 1" if correct else "none is correct"
    gap, best = skew.largest_gap, float(skew.log_ratios[0]) / math.log(10)
    top, last = (int(skew.indices[place]) for place in (0, -1))
    return [
        verdict(
            "The base model favours 1 although it is asked to choose evenly",
            paper="of 8192 samples 35.9 % are correct, and 1 is over-represented among these",
            measured=f"{whose}: of {seen.drawn} samples {correct / seen.drawn:.1%} are correct; {share}",
            # Five standard errors from an even choice: by chance once in three million times.
            holds=correct > 0 and ones / correct > 0.5 + 2.5 / math.sqrt(correct),
        ),
        verdict(
            "Good samples differ widely in log π_ref, and therefore in probability at the optimum",
            paper="52 samples from R = 16.37 on, up to 7.76 nats apart: 2345 times",
            measured=f"{whose}: {len(skew.good_logprobs)} different samples from R = {skew.threshold:.2f} "
            f"on, up to {gap:.2f} nats apart: {math.exp(min(gap, 700)):.4g} times",
            holds=gap > math.log(10),
        ),
        verdict(
            "At β = 0.01 the likeliest sample is many orders of magnitude likelier than the 16th",
            paper="2e49 times, R = 18.4 against 17.3",
            measured=f"{whose}: 10^{best:.1f} times the {len(skew.indices)}th, R = {seen.rewards[top]:.3f} "
            f"and log π_ref {seen.logprobs[top]:.2f} against {seen.rewards[last]:.3f} and "
            f"{seen.logprobs[last]:.2f}",
            holds=best > 6,
        ),
    ]


def _recomputed() -> list[Verdict]:
    """The paper's own figures, recomputed from its own numbers."""
    ratio = math.exp(PAPER_GAP)
    logprobs = torch.tensor([-5.91, -7.09], dtype=torch.float64)

    def power(rewards: tuple[float, float]) -> float:
        values = torch.tensor(rewards, dtype=torch.float64)
        found = predicted_ratios(logprobs, values, beta=BETA, top=2)
        return float(found.log_ratios[0]) / math.log(10)

    exact, printed = power((18.375, 17.25)), power((18.4, 17.3))
    return [
        verdict(
            "7.76 nats are a ratio of 2345 (re-computed from the paper's numbers)",
            paper="2345",
            measured=f"exp 7.76 = {ratio:.1f}",
            holds=abs(ratio - PAPER_RATIO) < 1,
        ),
        verdict(
            "R = 18.4 and 17.3 with log π_ref −5.91 and −7.09 are a ratio of 2e49 (re-computed)",
            paper="2e49",
            measured=f"10^{exact:.2f} = {10**exact:.2g} with 18.375 and 17.25, the steps of 1/8 that "
            f"bfloat16 has there; 10^{printed:.2f} with the rewards as printed",
            holds=1.5 <= 10 ** (exact - 49) < 2.5,
        ),
    ]


def _draw(seen: Seen, skew: Any, *, stand_in: bool) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 3.0))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.5, 2))
    correct = max(sum(seen.counts.values()), 1)
    shares = [seen.counts[answer] / correct for answer in "12"]
    left.bar(["1", "2"], shares, color=[BLUE, ORANGE], width=0.65)
    left.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
    for place, share in enumerate(shares):
        left.text(place, share, f"{share:.0%}", ha="center", va="bottom")
    left.set(ylim=(0, 1), yticks=(0, 0.5, 1), ylabel="share of correct answers")
    left.set_title("a  1 or 2, evenly")

    middle.hist(skew.good_logprobs.numpy(), bins=16, color=BLUE)
    middle.set(xlabel="log π_ref", ylabel="different responses")
    middle.set_title(f"b  the best 5 %, up to {skew.largest_gap:.1f} nats apart")

    powers = (skew.log_ratios / math.log(10)).tolist()
    right.bar(range(1, len(powers) + 1), powers, color=BLUE, width=0.75)
    right.set(
        xlabel="rank at the optimum, β = 0.01",
        ylabel="probability ratio, powers of ten",
        xticks=range(1, len(powers) + 1, 3),
    )
    right.set_title(f"c  the best is 10$^{{{powers[0]:.1f}}}$ times the {len(powers)}th")
    if stand_in:
        figure.supxlabel(
            "stand-ins: tiny models built at run time, no language models", fontsize=7.5, color=MUTED
        )
    return figure
