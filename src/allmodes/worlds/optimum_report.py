"""The optimum of a user's objective, before anything is trained: in words, in print, in files."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from warnings import catch_warnings, filterwarnings

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmodes.runs.files import write_text
from allmodes.targets import mara_beta_bound
from allmodes.worlds.optimum_figure import draw_report
from allmodes.worlds.outcome_optima import (
    Optimum,
    explain_optimum,
    explain_reference,
    flip_betas,
    good_in_reach,
    good_threshold,
)
from allmodes.worlds.outcome_table import OutcomeTable, read_outcomes, shown_name
from allmodes.worlds.plotting import house_style, save_figure

FORMULAS = {
    "reverse": "E[R] - beta KL(policy || reference)",
    "forward": "E[R] - beta KL(reference || policy)",
}
_FAR_FEWER = 0.5  # an optimum with less than this share of the good outcomes as its modes is called collapsed
_MOST_LISTED = 8  # betas, names or pairs that a report lists before it counts


def explain_file(
    path: Path,
    *,
    betas: Sequence[float],
    kl: Literal["reverse", "forward", "both"],
    threshold: float | None,
    tolerance: float,
    normalise: bool,
    out: Path | None,
    console: Console,
) -> None:
    """Read a file of outcomes, print the report, and write it below `out` unless that is None.

    Raises InputError for a wrong file or value, or where figures want matplotlib, and RunError where `out`
    cannot be written.
    """
    table = read_outcomes(path, normalise=normalise)
    optima = explain_optimum(table, betas=betas, kl=kl, threshold=threshold, tolerance=tolerance)
    print_report(table, optima, threshold=threshold, tolerance=tolerance, console=console)
    if out is not None:
        for written in write_report(table, optima, threshold=threshold, tolerance=tolerance, out=out):
            console.print(Text(f"written: {written}"), soft_wrap=True)


def write_report(
    table: OutcomeTable, optima: Sequence[Optimum], *, threshold: float | None, tolerance: float, out: Path
) -> tuple[Path, ...]:
    """Write target.json, target.png and target.svg below `out`, each whole, and return their paths.

    Raises InputError where matplotlib is not installed, and RunError where `out` cannot be written.
    """
    text = json.dumps(
        report_json(table, optima, threshold=threshold, tolerance=tolerance), indent=1, allow_nan=False
    )
    with house_style(), catch_warnings():
        filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure = draw_report(table, optima, threshold=threshold)
        figure.draw_without_rendering()  # whatever can go wrong goes wrong before a file is there
        save_figure(figure, out / "target")
    write_text(out / "target.json", text + "\n")
    return tuple(out / f"target.{suffix}" for suffix in ("json", "png", "svg"))


def warnings(
    table: OutcomeTable, optima: Sequence[Optimum], *, threshold: float | None, tolerance: float
) -> list[str]:
    """Plain sentences on what is wrong with the objectives themselves, which no optimiser can mend."""
    tau = good_threshold(table, threshold)
    sentences = []
    for kl in dict.fromkeys(o.kl for o in optima):
        plain = [o for o in optima if o.kl == kl and o.objective == "plain"]
        sentences += _collapsed(table, plain, tau) + _outweighed(plain, tau)
    sentences += _same_reward(table, tau, tolerance)
    sentences += _mara_above_bound(
        table, [o for o in optima if o.kl == "reverse" and o.objective == "mara"], tau
    )
    sentences += _forward_mara(table, [o for o in optima if o.kl == "forward"], tau, tolerance)
    sentences += _out_of_reach(table, optima, tau)
    if int(good_in_reach(table, tau).sum()) == 1:
        hint = (
            "MARA needs a threshold that several reach"
            if threshold is None
            else "a lower threshold shows more"
        )
        sentences.append(f"Only one outcome that the reference reaches has reward >= {tau:g}; {hint}.")
    return sentences


def _collapsed(table: OutcomeTable, plain: Sequence[Optimum], tau: float) -> list[str]:
    number = int(good_in_reach(table, tau).sum())
    found = [o for o in plain if not o.is_multimodal and o.good_modes < _FAR_FEWER * number]
    if number < 2 or not found:
        return []
    worst = min(found, key=lambda o: round(o.good_modes, 6))  # equal rewards are even but for rounding
    # Forward KL may give mass beyond the reference's reach.
    counted = (table.rewards >= tau) & ~(table.ref_logprobs.isneginf() & worst.logprobs.isneginf())
    best = worst.extreme(counted)
    is_other = counted & (torch.arange(len(counted)) != best)
    among_good = worst.logprobs - torch.logsumexp(worst.logprobs[counted], -1)
    shown = worst.logprobs if worst.good_mass >= 0.5 else among_good
    whole = (
        "of the mass" if worst.good_mass >= 0.5 else f"of the {_percent(worst.good_mass)} on good outcomes"
    )
    others = int(is_other.sum())
    sentence = (
        f"{'UNIMODAL' if worst.good_modes < 1.5 else 'COLLAPSED'} BY CONSTRUCTION: at beta = {worst.beta:g} "
        f"under {worst.kl} KL one outcome, {_named(table, best)}, has {_percent(float(shown[best].exp()))} "
        f"{whole}; {others} other{'s' * (others > 1)} with reward >= {tau:g} share{'s' * (others == 1)} "
        f"{_percent(float(shown[is_other].exp().sum()))}. No optimiser can undo this."
    )
    if len(found) > 1:
        likewise = [f"{o.beta:g} ({o.good_modes:.1f})" for o in found if o is not worst]
        sentence += f" Likewise at beta = {_listed(likewise)}: in brackets the effective modes of {number}."
    return [sentence]


def _outweighed(plain: Sequence[Optimum], tau: float) -> list[str]:
    found = [o for o in plain if o.good_mass < 0.5]
    if not found:
        return []
    least = min(found, key=lambda o: o.good_mass)
    return [
        f"The reference outweighs the reward under {least.kl} KL at beta = {_betas(found)}: outcomes with "
        f"reward >= {tau:g} have only {_percent(least.good_mass)} of the mass at beta = {least.beta:g}."
    ]


def _same_reward(table: OutcomeTable, tau: float, tolerance: float) -> list[str]:
    tied: dict[float, list[int]] = {}
    for i in good_in_reach(table, tau).nonzero().flatten().tolist():
        tied.setdefault(float(table.rewards[i]), []).append(i)
    ref = table.ref_logprobs.tolist()
    worst = max(tied.values(), key=lambda group: max(ref[i] for i in group) - min(ref[i] for i in group))
    likely, rare = max(worst, key=lambda i: ref[i]), min(worst, key=lambda i: ref[i])
    if not ref[likely] - ref[rare] > tolerance:
        return []
    return [
        f"{len(worst)} good outcomes have the same reward, {float(table.rewards[likely]):g}, and under the "
        f"reference {_quoted(table, likely)} is {_factor(ref[likely] - ref[rare])} times as likely as "
        f"{_quoted(table, rare)}: without MARA lowering beta will not change this ratio."
    ]


def _mara_above_bound(table: OutcomeTable, mara: Sequence[Optimum], tau: float) -> list[str]:
    bound = float(mara_beta_bound(table.ref_logprobs, table.rewards, threshold=tau))
    found = [o for o in mara if not o.beta < bound]
    if not found:
        return []
    rival = min(found, key=lambda o: o.beta).extreme(table.rewards < tau)
    return [
        f"MARA under reverse KL at beta = {_betas(found)} is not below its bound, {bound:.4g}: "
        f"{_named(table, rival)} stays at least as likely as each good outcome. Choose a smaller beta."
    ]


def _forward_mara(table: OutcomeTable, forward: Sequence[Optimum], tau: float, tolerance: float) -> list[str]:
    sentences = []
    good = good_in_reach(table, tau)
    uneven = [o for o in forward if o.objective == "mara" and o.good_log_ratio > tolerance]
    if uneven:
        worst = max(uneven, key=lambda o: o.good_log_ratio)
        high, low = worst.extreme(good), worst.extreme(good, highest=False)
        sentences.append(
            f"MARA's rewards do not make the forward-KL optimum uniform: at beta = {worst.beta:g} "
            f"{_quoted(table, high)} is {_factor(worst.good_log_ratio)} times as likely as "
            f"{_quoted(table, low)}, though both are good. Rows called corrected show rewards that do."
        )
    corrected = [o for o in forward if o.objective == "corrected"]
    if rounded := [o for o in corrected if o.good_log_ratio > tolerance]:
        sentences.append(
            f"The corrected rewards at beta = {_betas(rounded)} are uniform in exact arithmetic; in 64 bits "
            "the rarest good outcomes are lost to rounding."
        )
    if late := [o for o in corrected if not o.is_multimodal and o not in rounded]:
        rival = min(late, key=lambda o: o.beta).extreme(table.rewards < tau)
        sentences.append(
            f"The corrected forward-KL optimum at beta = {_betas(late)} is uniform over good outcomes, yet "
            f"{_named(table, rival)} stays at least as likely as each. Choose a smaller beta."
        )
    return sentences


def _out_of_reach(table: OutcomeTable, optima: Sequence[Optimum], tau: float) -> list[str]:
    lost = (table.rewards >= tau) & table.ref_logprobs.isneginf()
    if not bool(lost.any()):
        return []
    names = [_quoted(table, i) for i in lost.nonzero().flatten().tolist()]
    sentence = (
        f"{len(names)} outcome{'s' * (len(names) > 1)} with reward >= {tau:g} and reference probability 0 "
        f"({_listed(names)}): never reached under reverse KL, with MARA or without."
    )
    given = [(float(o.logprobs[lost].exp().sum()), o.beta) for o in optima if o.kl == "forward"]
    if given and max(given)[0] > 0:
        mass, beta = max(given)
        sentence += (
            f" The forward-KL optimum gives them up to {_percent(mass)} (at beta = {beta:g}), "
            "yet no sample of the reference shows them."
        )
    return [sentence]


def print_report(
    table: OutcomeTable,
    optima: Sequence[Optimum],
    *,
    threshold: float | None,
    tolerance: float,
    console: Console,
) -> None:
    """Print the optima, the flip betas, MARA's bound and the warnings, for 100 columns."""
    tau = good_threshold(table, threshold)
    good = int((table.rewards >= tau).sum())
    lost = good - int(good_in_reach(table, tau).sum())
    why = "" if threshold is not None else ", the best that the reference reaches"
    unreached = f", {lost} of them never reached by the reference" if lost else ""
    console.print(Text(f"Outcomes: {len(table.names)}; good: {good} (reward >= {tau:g}{why}){unreached}"))
    reference = explain_reference(table, threshold=threshold, tolerance=tolerance)
    for kl in dict.fromkeys(o.kl for o in optima):
        console.print(Text(f"\nOptimum under {kl} KL: {FORMULAS[kl]}", style="bold"))
        console.print(_optima_table(table, [o for o in optima if o.kl == kl], reference, good))
    _print_flips(table, threshold, console)
    if threshold is not None:
        bound = float(mara_beta_bound(table.ref_logprobs, table.rewards, threshold=tau))
        below = "every beta" if math.isinf(bound) else f"beta < {bound:.4g}"
        console.print(Text(f"MARA under reverse KL is reward-multimodal for {below}.\n"))
    for sentence in warnings(table, optima, threshold=threshold, tolerance=tolerance):
        line = Table.grid(padding=(0, 1))  # wrapped lines hang below the first, right of the mark
        line.add_row(Text("!", style="bold yellow"), Text(sentence))
        console.print(line)


def _optima_table(table: OutcomeTable, optima: Sequence[Optimum], reference: Optimum, number: int) -> Table:
    columns = (
        "beta",
        "objective",
        "modes",
        "good modes",
        "on good",
        "likeliest",
        "share",
        "max/min",
        "multimodal",
    )
    shown = _table(columns, left=("objective", "likeliest", "multimodal"))
    for row in (reference, *optima):
        is_reference = row is reference
        shown.add_row(
            f"{row.beta:g}" if row.objective == "plain" and not is_reference else "",
            "reference" if is_reference else {"mara": "MARA"}.get(row.objective, row.objective),
            f"{row.effective_modes:.1f}",
            f"{row.good_modes:.1f} of {number}",
            _percent(row.good_mass),
            _cell(table, row.top),
            _percent(row.top_share),
            _factor(row.good_log_ratio),
            Text("yes", style="green") if row.is_multimodal else Text("no", style="red"),
        )
    return shown


def _print_flips(table: OutcomeTable, threshold: float | None, console: Console) -> None:
    flips = flip_betas(table, threshold=threshold)
    if not flips:
        return
    console.print(Text("Flips under plain reverse KL: below beta the better outcome leads", style="bold"))
    columns = ("beta", "better", "reward", "likelier in the reference", "reward")
    shown = _table(columns, left=("better", "likelier in the reference"))
    for flip in flips[:_MOST_LISTED]:
        cells = [
            cell
            for i in (flip.better, flip.likelier)
            for cell in (_cell(table, i), f"{float(table.rewards[i]):g}")
        ]
        shown.add_row(f"{flip.beta:.4g}", *cells)
    console.print(shown)
    if len(flips) > _MOST_LISTED:
        console.print(Text(f"and {len(flips) - _MOST_LISTED} pairs of smaller beta\n"))


def _table(columns: Sequence[str], *, left: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        # Rich narrows first what may wrap: here the names of outcomes.
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name not in left)
    return table


def _cell(table: OutcomeTable, i: int) -> Text:
    return Text(shown_name(table.names[i], 28), no_wrap=True, overflow="ellipsis")


def report_json(
    table: OutcomeTable, optima: Sequence[Optimum], *, threshold: float | None, tolerance: float
) -> dict[str, Any]:
    """All numbers of the report; what is not finite is the string "inf" or "-inf".

    `outcomes` can be read again by `read_outcomes`.
    """
    tau = good_threshold(table, threshold)
    names, rewards = table.names, table.rewards.tolist()
    bound = mara_beta_bound(table.ref_logprobs, table.rewards, threshold=tau)
    return {
        "threshold": threshold,
        "good_threshold": tau,
        "tolerance": _plain(tolerance),
        "outcomes": [
            {"outcome": name, "reward": reward, "ref_logprob": _plain(logprob)}
            for name, reward, logprob in zip(names, rewards, table.ref_logprobs.tolist(), strict=True)
        ],
        "good_outcomes_in_reach": int(good_in_reach(table, tau).sum()),
        "optima": [
            {
                "kl": o.kl,
                "beta": o.beta,
                "objective": o.objective,
                "effective_modes": o.effective_modes,
                "good_modes": o.good_modes,
                "good_mass": o.good_mass,
                "top_outcome": names[o.top],
                "top_share": o.top_share,
                "good_log_ratio": _plain(o.good_log_ratio),
                "is_multimodal": o.is_multimodal,
                "probabilities": o.logprobs.exp().tolist(),
                "logprobs": [_plain(value) for value in o.logprobs.tolist()],
            }
            for o in optima
        ],
        "flip_betas": [
            {"better": names[f.better], "likelier": names[f.likelier], "beta": f.beta}
            for f in flip_betas(table, threshold=threshold)
        ],
        "mara_beta_bound": None if threshold is None else _plain(float(bound)),
        "warnings": warnings(table, optima, threshold=threshold, tolerance=tolerance),
    }


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _named(table: OutcomeTable, i: int) -> str:
    return f"{_quoted(table, i)} (reward {float(table.rewards[i]):g})"


def _quoted(table: OutcomeTable, i: int) -> str:
    return f"'{shown_name(table.names[i])}'"


def _betas(optima: Sequence[Optimum]) -> str:
    return _listed([f"{o.beta:g}" for o in optima])


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _MOST_LISTED
    return ", ".join(words[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _percent(share: float) -> str:
    """A share that is never rounded to nothing or to all."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 - 1e-12 else f"{100 * share:.1f}%"


def _factor(nats: float) -> str:
    """exp(nats), which may be beyond what a float holds."""
    if math.isinf(nats):
        return "inf"
    if nats < math.log(9999.5):
        factor = math.exp(nats)
        return f"{factor:.3g}" if factor < 999.5 else f"{factor:.0f}"
    digits = nats / math.log(10)
    exponent = math.floor(digits + 1e-9)
    return f"{min(10 ** (digits - exponent), 9.9):.1f}e+{exponent}"
