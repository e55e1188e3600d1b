"""Figures of an audit: the optimum over good samples, MARA's bonus, training, prediction and observation."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError, NotApplicableError
from allmodes.audit.checks.mara_checks import bonuses, lengths_and_bonuses
from allmodes.audit.evidence import Evidence
from allmodes.audit.prediction import Prediction
from allmodes.audit.support import Support, evenness, normalised
from allmodes.audit.windows import SERIES, Course, Series
from allmodes.methods import MARA, Plain, color_of
from allmodes.objectives.groups import Groups, group_mean, group_size, sort_within_groups
from allmodes.reports.formatting import shown_name
from allmodes.reports.plotting import BLUE, FAINT, INK, MUTED, ORANGE, distinct_colors

_NO_TRANSFORM = "no transform"
_RANKS = 16  # as MARA's Figure 11
_BETAS = 41
_PANELS = 3  # per row
_FEW = 12  # up to this number, each outcome gets its own line
_MOST_POINTS = 2000  # of a scatter plot
_TITLES: dict[Series, str] = {
    "reward": "Reward",
    "entropy": "Entropy of outcomes, nats",
    "distinct": "Different outcomes, share",
    "different": "Different outcomes, number",
    "repeated": "Repeated responses, share",
    "ead": "EAD of responses",
    "token_entropy": "Entropy of tokens, nats",
    "kl": "KL to the reference, nats",
}


def draw_optimum(evidence: Evidence) -> Any:
    """Plot the shares of the good samples by rank and, with a KL, their effective number over β.

    Raises MissingError or NotApplicableError if there is no optimum to show.
    """
    has_kl = evidence.objective.is_plain or not evidence.objective.lacks_kl
    figure = _figure(2)
    left, right = figure.subplots(1, 2)
    _draw_ranks(left, evidence, has_kl=has_kl)
    right.set_visible(has_kl)
    if has_kl:
        _draw_betas(right, evidence)
    return figure


def _draw_ranks(axes: Any, evidence: Evidence, *, has_kl: bool) -> None:
    support, colors, own = evidence.support, _colors(evidence), _NO_TRANSFORM
    good = evidence.good(support)
    if not evidence.objective.is_plain:
        own = evidence.config.describe_transform()
    lines = [("reference", support.ref_logprobs, INK, 4.0)]
    if has_kl and own != MARA.label:
        with_mara = evidence.objective.mara(support, evidence.above_tau(support), beta=evidence.beta)
        lines.append(("optimum with MARA", with_mara, colors[MARA.label], 3.2))
    lines.append(("optimum", evidence.optimum(support), colors[own], 1.6))
    curves = [
        (name, _shares_by_rank(support, logprobs, good), colour, width)
        for name, logprobs, colour, width in lines
    ]
    if len(curves[0][1]) < 2:
        raise MissingError("no prompt has two good samples")
    for name, shares, colour, width in curves:
        axes.plot(
            range(1, len(shares) + 1), shares, "o-", color=colour, markersize=3.5, linewidth=width,
            label=name, alpha=0.5 if width > 2 else 1,  # keeps lines below visible
        )  # fmt: skip
    axes.set(
        title=f"Share of the good {evidence.kind}s, by rank", xlabel="rank within a prompt",
        ylabel="mean share", ylim=(0, None), xticks=_whole_ticks(len(curves[0][1])),
    )  # fmt: skip
    axes.legend()


def _draw_betas(axes: Any, evidence: Evidence) -> None:
    support, middle = evidence.support, math.log10(evidence.beta)
    betas = torch.logspace(middle - 2, middle + 2, _BETAS, dtype=torch.float64).tolist()
    found = [_effective_at(evidence, beta) for beta in betas]
    for name, colour in _colors(evidence).items():
        axes.plot(betas, [values[name] for values in found], color=colour, label=name)
    axes.axvline(evidence.beta, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    reference = _mean_effective(support, support.ref_logprobs, evidence.good(support))
    axes.axhline(reference, color=MUTED, linewidth=0.8)
    axes.set(
        title=f"Effective number of good {evidence.kind}s", xlabel="β (dashed: yours; grey: the reference)",
        xscale="log", ylim=(0, None),
    )  # fmt: skip
    axes.legend()


def draw_bonus(evidence: Evidence) -> Any:
    """Plot the distribution of MARA's bonus and, for responses, the bonus over the length.

    Raises MissingError or NotApplicableError if there is no bonus.
    """
    bonus = bonuses(evidence, evidence.support)
    rewards = evidence.samples.rewards[evidence.support_rows]
    points = _lengths(evidence)
    figure = _figure(2)
    row = figure.subplots(1, 2)
    row[0].hist(bonus.tolist(), bins=30, color=MARA.color, alpha=0.8)
    extent = float(rewards.max() - rewards.min())
    row[0].set(
        title=f"MARA's bonus of good {evidence.kind}s", ylabel=f"{evidence.kind}s",
        xlabel=f"bonus, in units of reward (range of rewards: {extent:.3g})",
    )  # fmt: skip
    row[1].set_visible(points is not None)
    if points is not None:
        lengths, values = (column[_some(len(column))].tolist() for column in points)
        row[1].plot(lengths, values, ".", color=MARA.color, markersize=3, alpha=0.5)
        row[1].set(title="Bonus and length", xlabel="tokens of the response", ylabel="bonus")
        row[1].grid(color=FAINT, linewidth=0.5)
    return figure


def draw_training(courses: Sequence[tuple[str, dict[Series, Course]]]) -> Any:
    """Plot reward and diversity over training by window, for one log or several.

    courses: a name and the figures of each log. Points have bootstrap errors of one standard deviation;
    dotted lines are change points of the first log.
    """
    names: list[Series] = [name for name in SERIES if any(name in found for _, found in courses)]
    if not names:
        raise MissingError("the log has no figures over training")
    rows = math.ceil(len(names) / _PANELS)
    figure = _figure(_PANELS, width=3.2, height=2.4 * rows)
    panels = figure.subplots(rows, _PANELS, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels, names, strict=False):
        for (label, found), colour in zip(courses, (BLUE, ORANGE), strict=False):
            if name in found:
                windows = found[name].windows
                middles = [(window.first_step + window.last_step) / 2 for window in windows]
                errors = [0 if math.isnan(window.error) else window.error for window in windows]
                axes.errorbar(
                    middles, [window.mean for window in windows], yerr=errors, color=colour, marker="o",
                    markersize=3, linewidth=1.2, elinewidth=0.8, label=label,
                )  # fmt: skip
        for step in courses[0][1][name].changes if name in courses[0][1] else []:
            axes.axvline(step, color=INK, linewidth=0.8, linestyle=":")
        axes.set(title=_TITLES[name], xlabel="step")
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        if name not in ("reward", "kl"):  # whose values may be below 0
            axes.set_ylim(bottom=0)
    if len(courses) > 1:
        figure.axes[0].legend()
    return figure


def draw_prediction(prediction: Prediction) -> Any:
    """Plot predicted and observed shares: lines for a few outcomes, else a scatter plot."""
    if prediction.prompts.count == 1 and prediction.names and len(prediction.names) <= _FEW:
        return _few_outcomes(prediction)
    figure = _figure(2)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    chosen = _some(len(prediction.observed))
    observed = prediction.observed[chosen]
    for axes, shares, title in (
        (left, prediction.before, "Reference and observation"),
        (right, prediction.predicted, "Prediction and observation"),
    ):
        for is_good, colour, label in ((False, MUTED, "others"), (True, BLUE, "good")):
            own = prediction.good[chosen] == is_good
            axes.plot(
                shares[chosen][own].tolist(), observed[own].tolist(), ".", color=colour, markersize=4,
                alpha=0.6, label=label,
            )  # fmt: skip
        axes.axline((0, 0), (1, 1), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set(title=title, xlabel="share before training" if axes is left else "predicted share")
        axes.grid(color=FAINT, linewidth=0.5)
    # Shares of responses span many orders of magnitude; none of them is 0.
    if prediction.kind == "response":
        floor = 1e-12
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlim=(floor, 1.5), ylim=(floor, 1.5))
    left.set_ylabel("observed share")
    left.legend()
    return figure


def _few_outcomes(prediction: Prediction) -> Any:
    order = torch.argsort(prediction.before, descending=True).tolist()
    figure = _figure(2, height=0.9 + 0.28 * len(order))
    axes = figure.subplots()
    for name, shares, marker, colour, size in (
        ("reference", prediction.before, "o", MUTED, 6),
        ("predicted", prediction.predicted, "D", BLUE, 7),
        ("observed", prediction.observed, "o", ORANGE, 5),
    ):
        axes.plot(
            [float(shares[at]) for at in order], range(len(order)), marker, color=colour, markersize=size,
            label=name, alpha=0.9,
        )  # fmt: skip
    # A model may have written the names, so matplotlib must not parse mathematics in them.
    names = [shown_name(prediction.names[at]).replace("$", r"\$") for at in order]
    labels = [
        f"{name} *" if bool(prediction.good[at]) else name for name, at in zip(names, order, strict=True)
    ]
    axes.set(yticks=range(len(order)), yticklabels=labels, xlim=(-0.03, 1.03), xlabel="share (*: good)")
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def _figure(panels: int, *, width: float = 4.6, height: float = 2.8) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width * panels, height))


def _whole_ticks(last: int) -> list[int]:
    return list(range(1, last + 1, max(1, last // 8)))


def _shares_by_rank(support: Support, logprobs: Tensor, good: Tensor) -> list[float]:
    """Mean share of the k-th likeliest good item among the good items, over prompts with at least k.

    Only prompts with at least two good items are used.
    """
    several = group_size(support.prompts, good) >= 2
    rows = (good & several[support.prompts.index]).nonzero().squeeze(1)
    within = Groups(index=support.prompts.index[rows], count=support.prompts.count)
    shares = normalised(logprobs[rows], within).exp()
    order, rank = sort_within_groups(-shares, within)
    first = rank < _RANKS
    ranks = Groups(index=rank[first], count=min(_RANKS, int(rank.max()) + 1) if len(rank) else 0)
    return group_mean(shares[order][first], ranks).tolist()


def _colors(evidence: Evidence) -> dict[str, str]:
    """Colours by name: no transform, MARA, and the transform in use."""
    colors = {_NO_TRANSFORM: Plain.color, MARA.label: MARA.color}
    if not evidence.objective.is_plain:
        colors.setdefault(evidence.config.describe_transform(), color_of(str(evidence.config.transform)))
    return distinct_colors(colors)


def _effective_at(evidence: Evidence, beta: float) -> dict[str, float]:
    """The mean effective number of good items at other β, by the names in `_colors`."""
    support = evidence.support_at(beta)
    optima = {
        _NO_TRANSFORM: evidence.objective.plain(support, beta=beta),
        MARA.label: evidence.objective.mara(support, evidence.above_tau(support), beta=beta),
    }
    own = evidence.config.describe_transform()
    if not evidence.objective.is_plain and own not in optima:
        optima[own] = evidence.optimum_at(beta)
    good = evidence.good(support)
    return {name: _mean_effective(support, logprobs, good) for name, logprobs in optima.items()}


def _mean_effective(support: Support, logprobs: Tensor, good: Tensor) -> float:
    found = evenness(support, logprobs, good)
    return float(torch.where(found.count >= 2, found.effective, torch.nan).nanmean())


def _lengths(evidence: Evidence) -> tuple[Tensor, Tensor] | None:
    try:
        return lengths_and_bonuses(evidence)
    except (MissingError, NotApplicableError):
        return None  # the check of the lengths gives the reason


def _some(count: int) -> Tensor:
    """At most 2000 of the indices, evenly spaced."""
    return torch.linspace(0, count - 1, min(count, _MOST_POINTS)).round().long()
