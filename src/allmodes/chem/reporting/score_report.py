"""The report of a scored file: one HTML file that works offline."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from allmodes.chem.design.ledger import LedgerRow, reward_tensor
from allmodes.chem.design.results import find_hits
from allmodes.chem.molecule_file import InputMolecule
from allmodes.chem.reporting.figures import draw_distribution, draw_molecule
from allmodes.chem.reporting.hits import HitPage, render_hits, worth_a_page
from allmodes.chem.reporting.oracle_description import (
    describe_aggregation,
    describe_component,
    labels,
    oracle_remarks,
    oracle_settings,
    raw_values,
    short,
    without_folders,
)
from allmodes.chem.scoring_config import ScoringConfig
from allmodes.reports.formatting import listing, plural
from allmodes.reports.pages import render_page, require_report_extra
from allmodes.runs.files import write_text

CIRCLE_DISTANCE = 0.75  # the papers': molecules of two circles are farther apart
_PAGES = 24
_NAMES = 3  # of a molecule that several lines name
_ACCENT = "#1f6fb2"


def write_score_report(
    path: Path,
    config: ScoringConfig,
    *,
    file_name: str,
    molecules: Sequence[InputMolecule],
    rows: Sequence[LedgerRow],
) -> None:
    """Write the report of a scored file to `path`; the same arguments give the same bytes.

    molecules: the lines of the file; rows: the results of the distinct molecules. Raises `ConfigError`
    without the extra `report`, and `RunError` if the file cannot be written.
    """
    require_report_extra()
    shown, note = _shown(config, rows)
    origins = _origins(molecules)
    pages = [
        HitPage(
            anchor=f"molecule-{number}",
            title=f"{'Hit' if _is_hit(config, row) else 'Molecule'} {number}",
            origin=origins[row.evaluation.smiles],
            evaluation=row.evaluation,
        )
        for number, row in enumerate(shown, start=1)
    ]
    page = render_page(
        Path(__file__).parent / "templates" / "score.html",
        run=path.parent,
        title=file_name,
        lead=_lead(config, file_name, molecules, rows),
        remarks=oracle_remarks(config.oracle),
        colours={"reward": _ACCENT},
        summary=_summary(config, molecules, rows),
        distributions=_distributions(config, rows),
        note=note,
        cards=[_card(config, page) for page in pages],
        hit_pages=render_hits(config.oracle, pages),
        hits_note="",
        failures=_failures(rows),
        components=[describe_component(component) for component in config.oracle.components],
        aggregation=describe_aggregation(config.oracle),
        settings=oracle_settings(config.oracle),
        circle_distance=CIRCLE_DISTANCE,
        config=config,
    )
    write_text(path, page)


def _lead(
    config: ScoringConfig, file_name: str, molecules: Sequence[InputMolecule], rows: Sequence[LedgerRow]
) -> str:
    names = listing([component.name for component in config.oracle.components])
    text = (
        f"{plural(len(rows), 'distinct molecule')} on {plural(len(molecules), 'line')} of {file_name}, "
        f"scored by {names}."
    )
    if config.hit_threshold is not None:
        text += f" A molecule is a hit if its reward reaches the hit threshold of {config.hit_threshold:g}."
    return text


def _summary(
    config: ScoringConfig, molecules: Sequence[InputMolecule], rows: Sequence[LedgerRow]
) -> list[tuple[str, str]]:
    rewards = [row.evaluation.reward for row in rows if row.evaluation.reward is not None]
    unread = sum(molecule.smiles is None for molecule in molecules)
    lines = [f"{len(molecules):,}"]
    if unread:
        lines.append(f"{unread:,} of them not read: see rejected.tsv")
    if repeated := len(molecules) - unread - len(rows):
        lines.append(f"{repeated:,} repeat a molecule of another line, which is computed once")
    failed = len(rows) - len(rewards)
    summary = [
        ("Lines", ", ".join(lines)),
        ("Molecules", f"{len(rows):,}" + (f", {failed:,} of them without a score" if failed else "")),
    ]
    if config.hit_threshold is not None:
        hits = sum(reward >= config.hit_threshold for reward in rewards)
        share = f", {100 * hits / len(rewards):.1f} % of those with a score" if rewards else ""
        summary.append(("Hits", f"{hits:,}{share}"))
    return summary


def _distributions(config: ScoringConfig, rows: Sequence[LedgerRow]) -> list[dict[str, str]]:
    """Of the reward and of each component's raw value: a histogram, its ends and its median."""
    rewards = [row.evaluation.reward for row in rows if row.evaluation.reward is not None]
    panels: list[tuple[str, list[float], float | None]] = [("Reward", rewards, config.hit_threshold)]
    for name, label in labels(config.oracle).items():
        values = [row.evaluation.raw[name] for row in rows if name in row.evaluation.raw]
        panels.append((label, values, None))
    return [
        {
            "name": name,
            "svg": draw_distribution(values, mark=mark),
            "low": short(min(values)),
            "middle": f"median {short(median(values))}",
            "high": short(max(values)),
            "count": plural(len(values), "molecule"),
        }
        for name, values, mark in panels
        if values
    ]


def _best_first(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    order = reward_tensor(rows).argsort(descending=True, stable=True).tolist()
    return [rows[index] for index in order]


def _is_hit(config: ScoringConfig, row: LedgerRow) -> bool:
    reward = row.evaluation.reward
    return config.hit_threshold is not None and reward is not None and reward >= config.hit_threshold


def _shown(config: ScoringConfig, rows: Sequence[LedgerRow]) -> tuple[list[LedgerRow], str]:
    """The molecules to show, and a sentence on which they are."""
    scored = [row for row in rows if row.evaluation.reward is not None]
    if not scored:
        return [], "No molecule was scored."
    if config.hit_threshold is not None:
        hits = find_hits(scored, hit_threshold=config.hit_threshold, circle_distance=CIRCLE_DISTANCE)
        if hits:
            shown = worth_a_page(hits, most=_PAGES)
            circles = sum(hit.circle is not None for hit in hits)
            others = [row for row in _best_first(scored) if not _is_hit(config, row)][: _PAGES - len(shown)]
            beside = f" Then {plural(len(others), 'molecule')} below the hit threshold." if others else ""
            return [*shown, *others], (
                f"{len(shown):,} of {plural(len(hits), 'hit')}: the best molecule of each of "
                f"{plural(circles, 'circle')} first, then the others, best first.{beside}"
            )
    shown = _best_first(scored)[:_PAGES]
    missed = (
        ""
        if config.hit_threshold is None
        else f"No molecule reached the hit threshold of {config.hit_threshold:g}. "
    )
    return shown, f"{missed}The best {len(shown):,} of {len(scored):,} that were scored, best first."


def _origins(molecules: Sequence[InputMolecule]) -> Mapping[str, str]:
    """By canonical SMILES, the names of a molecule in the file and its lines."""
    lines: defaultdict[str, list[int]] = defaultdict(list)
    names: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for molecule in molecules:
        if molecule.smiles is not None:
            lines[molecule.smiles].append(molecule.line)
            if molecule.name:
                names[molecule.smiles][molecule.name] = None
    return {smiles: _origin(list(names[smiles]), numbers) for smiles, numbers in lines.items()}


def _origin(names: Sequence[str], lines: Sequence[int]) -> str:
    where = f"line{'s' if len(lines) > 1 else ''} {_cut([f'{line:,}' for line in lines])}"
    return f"{_cut(names)}, {where}" if names else where


def _cut(words: Sequence[str]) -> str:
    """The first few entries, and the number of the others."""
    more = len(words) - _NAMES
    return listing(words) if more <= 0 else f"{', '.join(words[:_NAMES])} and {more:,} more"


def _card(config: ScoringConfig, page: HitPage) -> dict[str, Any]:
    result = page.evaluation
    return {
        "anchor": page.anchor,
        "svg": draw_molecule(result.smiles),
        "smiles": result.smiles,
        "reward": f"{result.reward:.3f}",
        "raw": raw_values(config.oracle, result),
        "origin": page.origin,
    }


def _failures(rows: Sequence[LedgerRow]) -> list[dict[str, str]]:
    """By "component: kind", most frequent first: how many, and the first message."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for row in rows:
        if row.evaluation.failure is not None:
            component, kind, message = [*row.evaluation.failure.split(": ", 2), "", ""][:3]
            counts[f"{component}: {kind}"] += 1
            examples.setdefault(f"{component}: {kind}", message)
    return [
        {"kind": kind, "count": f"{counts[kind]:,}", "example": without_folders(examples[kind])[:200]}
        for kind in sorted(counts, key=lambda kind: (-counts[kind], kind))
    ]
