"""The optimum of a user's objective, before anything is trained: as text, in a terminal, in files."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from warnings import catch_warnings, filterwarnings

from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmodes.errors import InputError
from allmodes.reports.formatting import shown_name
from allmodes.reports.plotting import figure_style, save_figure
from allmodes.reports.tables import print_table
from allmodes.runs.files import write_text
from allmodes.runs.provenance import origin
from allmodes.targets import mara_beta_bound
from allmodes.worlds.own_outcomes.figure import draw_report
from allmodes.worlds.own_outcomes.optima import (
    Optimum,
    explain_optimum,
    explain_reference,
    flip_betas,
    good_in_reach,
    good_threshold,
    without_optimum,
)
from allmodes.worlds.own_outcomes.table import OutcomeTable, read_outcomes
from allmodes.worlds.own_outcomes.warnings import MOST_LISTED, factor, percent, warnings

_LONGEST = 200  # characters of a name that are printed

FORMULAS = {
    "reverse": "E[R] - beta KL(policy || reference)",
    "forward": "E[R] - beta KL(reference || policy)",
}


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
    methods: Sequence[str] = (),
) -> None:
    """Read a file of outcomes, print the report, and write it below `out` unless that is None.

    Raises InputError for a wrong file or value, or where figures want matplotlib, and RunError if `out`
    cannot be written.
    """
    table = read_outcomes(path, normalise=normalise)
    optima = explain_optimum(
        table, betas=betas, kl=kl, threshold=threshold, tolerance=tolerance, methods=methods
    )
    missing = without_optimum(table, betas=betas, kl=kl, threshold=threshold, methods=methods)
    if not optima:
        raise InputError(f"expected a method whose optimum is known; got none. {' '.join(missing)}")
    print_report(table, optima, threshold=threshold, tolerance=tolerance, console=console)
    for sentence in missing:
        console.print(Text(sentence))
    if out is not None:
        for written in write_report(table, optima, threshold=threshold, tolerance=tolerance, out=out):
            console.print(Text(f"written: {written}"), soft_wrap=True)


def write_report(
    table: OutcomeTable, optima: Sequence[Optimum], *, threshold: float | None, tolerance: float, out: Path
) -> tuple[Path, ...]:
    """Write target.json, target.png and target.svg below `out`, each whole, and return their paths.

    Raises InputError if matplotlib is not installed, and RunError if `out` cannot be written.
    """
    report = report_json(table, optima, threshold=threshold, tolerance=tolerance)
    text = json.dumps({**report, "provenance": origin()}, indent=1, allow_nan=False)
    with figure_style(), catch_warnings():
        filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure = draw_report(table, optima, threshold=threshold)
        figure.draw_without_rendering()  # whatever can go wrong goes wrong before a file is there
        save_figure(figure, out / "target")
    write_text(out / "target.json", text + "\n")
    return tuple(out / f"target.{suffix}" for suffix in ("json", "png", "svg"))


def print_report(
    table: OutcomeTable,
    optima: Sequence[Optimum],
    *,
    threshold: float | None,
    tolerance: float,
    console: Console,
) -> None:
    """Print the optima, the flip betas, MARA's bound and the warnings, at any width."""
    tau = good_threshold(table, threshold)
    good = int((table.rewards >= tau).sum())
    lost = good - int(good_in_reach(table, tau).sum())
    why = "" if threshold is not None else ", the best that the reference reaches"
    unreached = f", {lost} of them never reached by the reference" if lost else ""
    console.print(Text(f"Outcomes: {len(table.names)}; good: {good} (reward >= {tau:g}{why}){unreached}"))
    reference = explain_reference(table, threshold=threshold, tolerance=tolerance)
    for kl in dict.fromkeys(o.kl for o in optima):
        console.print(Text(f"\nOptimum under {kl} KL: {FORMULAS[kl]}", style="bold"))
        _print_optima(table, [o for o in optima if o.kl == kl], reference, good, console)
    has_reverse = any(o.kl == "reverse" for o in optima)
    if has_reverse:
        _print_flips(table, threshold, console)
    if threshold is not None and any(o.kl == "reverse" and o.source.is_mara for o in optima):
        bound = float(mara_beta_bound(table.ref_logprobs, table.rewards, threshold=tau))
        below = "every beta" if math.isinf(bound) else f"beta < {bound:.4g}"
        console.print(Text(f"MARA under reverse KL is reward-multimodal for {below}.\n"))
    for sentence in warnings(table, optima, threshold=threshold, tolerance=tolerance):
        line = Table.grid(padding=(0, 1))  # wrapped lines hang below the first, right of the mark
        line.add_row(Text("!", style="bold yellow"), Text(sentence))
        console.print(line)


def _yes_or_no(holds: bool) -> Text:
    return Text("yes", style="green") if holds else Text("no", style="red")


def _print_optima(
    table: OutcomeTable, optima: Sequence[Optimum], reference: Optimum, number: int, console: Console
) -> None:
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
    rows = []
    for row in (reference, *optima):
        is_reference = row is reference
        rows.append(
            (
                f"{row.beta:g}" if not is_reference else "",
                "reference" if is_reference else row.source.label,
                f"{row.effective_modes:.1f}",
                f"{row.good_modes:.1f} of {number}",
                percent(row.good_mass),
                shown_name(table.names[row.top], _LONGEST),
                percent(row.top_share),
                factor(row.good_log_ratio),
                "n/a" if number < 2 else _yes_or_no(row.is_multimodal),
            )
        )
    print_table(console, columns, rows, texts=("objective", "likeliest", "multimodal"))
    console.print()


def _print_flips(table: OutcomeTable, threshold: float | None, console: Console) -> None:
    flips = flip_betas(table, threshold=threshold)
    if not flips:
        return
    console.print(Text("Flips under plain reverse KL: below beta the better outcome leads", style="bold"))
    rows = []
    for flip in flips[:MOST_LISTED]:
        cells = [
            cell
            for i in (flip.better, flip.likelier)
            for cell in (shown_name(table.names[i], _LONGEST), f"{float(table.rewards[i]):g}")
        ]
        rows.append((f"{flip.beta:.4g}", *cells))
    names = ("better", "likelier in the reference")
    print_table(console, ("beta", names[0], "reward", names[1], "reward"), rows, texts=names)
    console.print()
    if len(flips) > MOST_LISTED:
        console.print(Text(f"and {len(flips) - MOST_LISTED} pairs of smaller beta\n"))


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
