"""MARA, Figure 6: the 1-2 task with plain RL and with MARA, under both KLs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from allmodes.extras import require
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, number, some, verdict

if TYPE_CHECKING:
    from allmodes.paper.one_two_runs import Runs

EVEN = (0.35, 0.65)
"""Shares of "1" that count as nearly uniform: 32 even choices leave this range once in eleven times."""


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train both methods with RLOO (reverse KL) and with GRPO (forward KL per token, the paper's form).

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("mara-fig6 needs", "transformers", "trl", extras="text")
    from allmodes.paper import one_two_runs

    methods = ["vanilla", "mara"]
    parts = [
        one_two_runs.configuration(scale, method=methods),
        one_two_runs.configuration(scale, method=methods, trainer=["grpo"], kl=["token-forward"]),
    ]
    runs = one_two_runs.run(parts, scale, progress, item="mara-fig6")
    return Reproduction(
        figure=_draw(runs),
        numbers=one_two_runs.numbers(runs),
        verdicts=judge(runs, whose=one_two_runs.SUBJECT.whose(scale)),
        notes=[
            *one_two_runs.notes(scale, runs),
            'MARA is uniform over answers (`level = "outcomes"`), with τ = 0.5; the paper\'s is uniform over '
            "strings. The reverse KL is RLOO's, of whole responses; the forward KL is GRPO's, per token with "
            "the states held fixed, as the paper has it.",
        ],
    )


def judge(runs: "Runs", *, whose: str) -> list[Verdict]:
    """The paper's claims against the last steps of each run, and against every step for the Pareto front."""
    from allmodes.paper.one_two_runs import HIGH_REWARD, has_one_answer, mean, share_of_one

    last = [found[-1] for found in runs.bins.values()]
    plain, ours = runs.of("vanilla"), runs.of("mara")
    learned = sum(found.reward >= HIGH_REWARD for found in last)
    collapsed = [found for found in plain if has_one_answer(found.counts)]
    ones = sum(share_of_one(found.counts) > 0.5 for found in collapsed)
    shares = [share_of_one(found.counts) for found in ours]
    even = sum(EVEN[0] <= share <= EVEN[1] for share in shares)
    fronts = _fronts(runs)
    ahead = sum(_is_ahead(pair) for pair in fronts.values())
    return [
        verdict(
            "Most runs reach a reward of about 1",
            paper="most runs, both methods",
            measured=f"{whose}: {learned} of {len(last)} runs end at {HIGH_REWARD} or more; base "
            f"{number(runs.base.reward)}",
            holds=2 * learned > len(last),
        ),
        verdict(
            "Plain RL collapses into a single answer, mostly 1",
            paper="all but one run, most of them to 1",
            measured=f"{whose}: {len(collapsed)} of {len(plain)} runs, {ones} of them to 1; shares of 1 "
            f"{_listed([share_of_one(found.counts) for found in plain])}, base "
            f"{number(share_of_one(runs.base.answers))}",
            holds=some(len(collapsed), len(plain), enough=max(len(plain) - 1, len(plain) // 2 + 1)),
        ),
        verdict(
            "MARA keeps both answers, many runs nearly uniform",
            paper="many runs with near uniform probability",
            measured=f"{whose}: {even} of {len(ours)} runs between {EVEN[0]} and {EVEN[1]}; shares of 1 "
            f"{_listed(shares)}; entropy {number(mean([found.diversity for found in ours]))} nats, plain "
            f"{number(mean([found.diversity for found in plain]))}, even 0.69",
            holds=some(even, len(ours), enough=math.ceil(len(ours) / 2)),
        ),
        verdict(
            "MARA matches plain RL in correctness and exceeds it in diversity, under both KLs",
            paper="Pareto front of checkpoints, both KLs",
            measured=f"{whose}: highest entropy of a step's answers at a reward of {HIGH_REWARD} or more, "
            + "; ".join(
                f"{name}: {number(pair[1])}, plain {number(pair[0])}" for name, pair in fronts.items()
            ),
            holds=some(ahead, len(fronts), enough=len(fronts)),
        ),
    ]


def _fronts(runs: "Runs") -> dict[str, tuple[float, float]]:
    """Highest entropy of a bin with a high reward, of plain RL and of MARA, by KL; NaN without a bin."""
    from allmodes.paper.one_two_runs import HIGH_REWARD

    found: dict[str, dict[str, float]] = {}
    for (arm, _), steps in runs.bins.items():
        kl = "reverse" if arm.kl == "reverse" else "forward"
        good = [step.diversity for step in steps if step.reward >= HIGH_REWARD]
        best = found.setdefault(f"{kl} KL", {"vanilla": math.nan, "mara": math.nan})
        best[arm.method] = max([value for value in (best[arm.method], *good) if not math.isnan(value)],
                               default=math.nan)  # fmt: skip
    return {name: (best["vanilla"], best["mara"]) for name, best in found.items()}


def _is_ahead(pair: tuple[float, float]) -> bool:
    plain, mara = pair
    return not math.isnan(mara) and (math.isnan(plain) or mara > plain)


def _listed(shares: Sequence[float]) -> str:
    return " ".join(map(number, shares))


def _draw(runs: "Runs") -> Any:
    from allmodes.text.reporting.figures import draw_training
    from allmodes.text.reporting.views import view_of

    return draw_training(runs.bins, view=view_of(runs.base), base=runs.base, samples=runs.config.group_size)
