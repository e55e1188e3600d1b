"""MARA, Figures 9 and 11 on the 1-2 task: the question, the base model's answers, and the optimum's skew.

Figure 11's second question has rewards of a preference model: item `fig11`, with stand-ins or the paper's
models.
"""

import math
import textwrap
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.extras import require
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import BLUE, INK, MUTED, ORANGE
from allmodes.targets import reverse_kl_target

BETAS = (0.001, 0.01, 0.1, 1.0)
TOP = 16


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """counts: of "1" and "2" among `drawn` responses. logprobs, ones: (N,), of different right responses."""

    prompt: str
    drawn: int
    counts: dict[str, int]
    logprobs: Tensor
    ones: Tensor
    responses: list[str]

    @property
    def gap(self) -> float:
        """Gap in log π_ref between the likeliest and least likely right response, nats; 0 below two."""
        return float(self.logprobs.max() - self.logprobs.min()) if len(self.logprobs) > 1 else 0.0

    def share_of_one(self) -> float:
        """The share of "1" among right responses; NaN if there are none."""
        total = sum(self.counts.values())
        return self.counts["1"] / total if total else math.nan


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Sample the base model, and compute the optimum's shares of its right responses at each β.

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("mara-fig9-11 needs", "transformers", "trl", extras="text")
    from allmodes.paper import one_two_runs, text_runs

    config, subject = one_two_runs.configuration(scale), one_two_runs.SUBJECT
    with text_runs.base_model(subject, config, scale, progress, item="mara-fig9-11") as (model, before, _):
        progress(1)
        seen = _sample(config, model)
        progress(1)
    whose = subject.whose(scale)
    notes = [
        "All right responses have a reward of 1, so any difference between them at the optimum comes from "
        "the reference. log π_ref is that of the sampled tokens, end of text included, at temperature 1; of "
        "equal responses one is kept.",
        "Figure 11b and c of the paper are of an open question with a preference model's rewards: item "
        "fig11, whose three models are stand-ins or the paper's. No preference model installs as a package.",
    ]
    if scale.kind == "quick":
        notes.append(
            "The base model is a stand-in, built with the paper's share of right answers. Its preference for "
            "1 is built in, and is no evidence about language models."
        )
    return Reproduction(
        figure=_draw(seen, whose),
        numbers={
            "prompt": seen.prompt, "samples": seen.drawn, "answers": seen.counts, "gap": seen.gap,
            "different_right_responses": len(seen.responses),
            "likeliest": [
                {"response": seen.responses[place][:200], "ref_logprob": float(seen.logprobs[place])}
                for place in seen.logprobs.argsort(descending=True)[:TOP].tolist()
            ],
        },
        verdicts=judge(seen, whose=whose),
        notes=[*notes, *text_runs.warm_start_note(config, before)],
    )  # fmt: skip


def _sample(config: Any, model: str) -> Seen:
    from allmodes.text.likelihood import sample_with_logprobs
    from allmodes.text.models import load_model, load_tokenizer

    task = config.task.make()
    samples = sample_with_logprobs(
        load_model(model), load_tokenizer(model), task.prompts[0], count=config.samples,
        max_tokens=config.max_tokens, seed=0, batch_size=config.sample_batch,
    )  # fmt: skip
    answers = [task.parse(text) for text in samples.texts]
    first: dict[tuple[int, ...], int] = {}
    for place, ids in enumerate(samples.ids):
        if answers[place] in ("1", "2"):
            first.setdefault(tuple(ids), place)
    kept = list(first.values())
    return Seen(
        prompt=task.prompts[0],
        drawn=len(answers),
        counts={answer: answers.count(answer) for answer in ("1", "2")},
        logprobs=samples.logprobs[kept].double(),
        ones=torch.tensor([answers[place] == "1" for place in kept], dtype=torch.bool),
        responses=[samples.texts[place] for place in kept],
    )


def optimum_shares(share: float) -> dict[float, float]:
    """The share of "1" at the optimum of right and wrong outcomes, by β: equal rewards keep the ratio.

    Enumerated over the outcomes 1, 2 and wrong, with half of the mass wrong, rewards 1, 1 and 0.
    """
    ref = torch.tensor([share / 2, (1 - share) / 2, 0.5], dtype=torch.float64).log()
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    found = {}
    for beta in BETAS:
        p = reverse_kl_target(ref, rewards, beta=beta).exp()
        found[beta] = float(p[0] / (p[0] + p[1]))
    return found


def judge(seen: Seen, *, whose: str) -> list[Verdict]:
    """The paper's claims about its base model, and what they mean for the optimum."""
    right = sum(seen.counts.values())
    share = seen.share_of_one()
    kept = optimum_shares(share) if 0 < share < 1 else {}
    off = max((abs(value - share) for value in kept.values()), default=math.nan)
    measured = f"{whose}: of {seen.drawn} samples {right / seen.drawn:.1%} are right"
    return [
        verdict(
            "The base model favours 1 although it is asked to choose evenly",
            paper="of 8192 samples 35.9 % are correct, and 1 is over-represented among these",
            measured=f"{measured}; {f'{share:.1%} of these are 1' if right else 'none is 1 or 2'}",
            # Five standard errors from an even choice: by chance once in three million times.
            holds=right > 0 and share > 0.5 + 2.5 / math.sqrt(right),
        ),
        verdict(
            "Right responses differ widely in log π_ref, and therefore in probability at the optimum",
            paper="good answers are up to 7.76 nats apart: 2345 times (an open question)",
            measured=f"{whose}: {len(seen.responses)} different right responses, up to {seen.gap:.2f} nats "
            f"apart: {math.exp(min(seen.gap, 700)):.4g} times",
            holds=seen.gap > math.log(10),
        ),
        verdict(
            "With equal rewards no β changes the ratio of the answers",
            paper="Remark 4.3: the optimum keeps the reference's ratio",
            measured=f"share of 1 at the optimum {min(kept.values()):.4f} to {max(kept.values()):.4f} for "
            f"{len(BETAS)} β from {BETAS[0]:g} to {BETAS[-1]:g} (exact), base {share:.4f}"
            if kept
            else f"{whose}: the samples do not have both answers, so there is no ratio",
            holds=bool(kept) and off < 1e-9,
        ),
    ]


def _draw(seen: Seen, whose: str) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 3.0))
    asked, answers, spread = figure.subplots(1, 3, width_ratios=(1.6, 1, 1.6))
    asked.axis("off")
    asked.text(0, 1, textwrap.fill(seen.prompt, 46), va="top", fontsize=7.5, color=INK)
    asked.set_title("a  the question", loc="left")
    right = max(sum(seen.counts.values()), 1)
    shares = [seen.counts[answer] / right for answer in ("1", "2")]
    answers.bar(["1", "2"], shares, color=[BLUE, ORANGE], width=0.65)
    answers.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
    answers.set(ylim=(0, 1), yticks=(0, 0.5, 1), ylabel="share of right answers")
    answers.set_title("b  the base model's")
    groups = [seen.logprobs[seen.ones].numpy(), seen.logprobs[~seen.ones].numpy()]
    spread.hist(groups, bins=16, color=[BLUE, ORANGE], stacked=True, label=["1", "2"])
    spread.set(xlabel="log π_ref", ylabel="different right responses")
    spread.set_title(f"c  up to {seen.gap:.1f} nats apart, all with R = 1")
    spread.legend()
    figure.supxlabel(whose, fontsize=7.5, color=MUTED)
    return figure
