"""MARA, Tables 2, 6 and 7: REINVENT and MARA on SYNTH and ALL-AMIDE.

Quick scale has 32 oracle calls and σ = 128 alone; paper scale has the paper's settings. Paper scale keeps its
runs in the folder that the environment variable ALLMODES_TABLE2_WORK names, by default runs/table2-work: a
killed run resumes there. If ALLMODES_RECEPTOR names a folder made by `allmodes chem receptor`, molecules are
docked; otherwise a regression stands in for docking. For a part of the runs, use
`allmodes.paper.study.study`.
"""

import math
from typing import Any

from allmodes.metrics import welch_test
from allmodes.paper import molecule_tables as tables
from allmodes.paper.molecule_tables import METRICS, Contest, holds_in_all, paired
from allmodes.paper.reproduction import Holds, Progress, Reproduction, Scale, Verdict, verdict
from allmodes.paper.study_settings import MARA_80, MARA_85, MARA_ARMS, REINVENT
from allmodes.reports.formatting import is_clear, p_relation

SIGMA = 128.0  # of Table 2
MATCHED = {0.80: MARA_80, 0.85: MARA_85}  # τ = screen
_RARE = 0.1  # share of comparisons that differ by chance alone: one-sided 0.05 in either direction

# Yield, OB100, IntDiv1 and Circles with their standard deviations, by task, screen, σ and algorithm.
_R, _M, _L = REINVENT.name, MARA_80.name, MARA_85.name
_FIGURES: dict[tuple[str, float, float, str], tuple[float, ...]] = {
    ("SYNTH", 0.80, 128, _R): (6569, 186, 1042, 66, 0.766, 0.011, 67, 3),
    ("SYNTH", 0.80, 128, _M): (6834, 78, 1015, 55, 0.761, 0.009, 59, 8),
    ("SYNTH", 0.80, 128, _L): (6584, 231, 1042, 66, 0.761, 0.008, 72, 6),
    ("SYNTH", 0.80, 256, _R): (6618, 93, 1080, 89, 0.756, 0.012, 57, 8),
    ("SYNTH", 0.80, 256, _M): (6750, 139, 1068, 50, 0.760, 0.012, 60, 4),
    ("SYNTH", 0.80, 512, _R): (6746, 161, 1067, 74, 0.752, 0.016, 55, 5),
    ("SYNTH", 0.80, 512, _M): (6793, 267, 1065, 49, 0.751, 0.015, 60, 1),
    ("SYNTH", 0.85, 128, _R): (1614, 407, 4114, 109, 0.701, 0.018, 7, 1),
    ("SYNTH", 0.85, 128, _M): (1796, 210, 3654, 272, 0.716, 0.015, 6, 1),
    ("SYNTH", 0.85, 128, _L): (2196, 394, 4010, 297, 0.703, 0.011, 7, 1),
    ("SYNTH", 0.85, 256, _R): (1552, 242, 3940, 371, 0.699, 0.030, 6, 1),
    ("SYNTH", 0.85, 256, _M): (1530, 126, 3957, 335, 0.705, 0.014, 8, 1),
    ("SYNTH", 0.85, 512, _R): (1484, 45, 3717, 201, 0.701, 0.026, 6, 1),
    ("SYNTH", 0.85, 512, _M): (1550, 347, 4016, 234, 0.689, 0.024, 6, 1),
    ("ALL-AMIDE", 0.80, 128, _R): (5433, 184, 1427, 63, 0.768, 0.012, 35, 1),
    ("ALL-AMIDE", 0.80, 128, _M): (5635, 249, 1407, 123, 0.766, 0.008, 36, 3),
    ("ALL-AMIDE", 0.80, 128, _L): (5502, 309, 1426, 63, 0.769, 0.006, 34, 3),
    ("ALL-AMIDE", 0.80, 256, _R): (5544, 172, 1406, 59, 0.768, 0.009, 34, 5),
    ("ALL-AMIDE", 0.80, 256, _M): (5353, 114, 1393, 42, 0.769, 0.009, 33, 4),
    ("ALL-AMIDE", 0.80, 512, _R): (5334, 165, 1445, 111, 0.776, 0.008, 33, 4),
    ("ALL-AMIDE", 0.80, 512, _M): (5377, 152, 1343, 77, 0.763, 0.008, 31, 3),
    ("ALL-AMIDE", 0.85, 128, _R): (1098, 88, 4360, 257, 0.721, 0.016, 8, 1),
    ("ALL-AMIDE", 0.85, 128, _M): (1235, 130, 3943, 303, 0.733, 0.009, 8, 1),
    ("ALL-AMIDE", 0.85, 128, _L): (1438, 126, 4230, 401, 0.725, 0.008, 8, 1),
    ("ALL-AMIDE", 0.85, 256, _R): (1488, 280, 4290, 141, 0.725, 0.021, 8, 1),
    ("ALL-AMIDE", 0.85, 256, _M): (1404, 261, 4079, 172, 0.730, 0.010, 7, 1),
    ("ALL-AMIDE", 0.85, 512, _R): (1054, 152, 4620, 438, 0.739, 0.009, 8, 0),
    ("ALL-AMIDE", 0.85, 512, _M): (1341, 86, 3930, 400, 0.723, 0.004, 7, 1),
}


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Run, measure and judge.

    Raises ConfigError if packages, the receptor or the stand-in for docking are missing, before any run.
    """
    study = tables.run_study("table2", tables.settings_of(scale, MARA_ARMS), scale, progress)
    return Reproduction(
        figure=tables.draw(study),
        numbers=tables.numbers(study, paper_figure),
        verdicts=judge(study),
        notes=[
            *tables.notes(study),
            "Verdicts compare means; p is one-sided. The paper's p-values are computed here from its means "
            "and standard deviations of 5 seeds, by the same test.",
            *tables.markdown(study, paper_figure, with_paper=True),
        ],
    )


def paper_figure(row: Any, metric: str) -> tuple[float, float] | None:
    """Mean and standard deviation in the paper's tables; None if they have no such row."""
    key = (row.task, row.screen, row.sigma, row.arm)
    return _printed(key, metric) if key in _FIGURES else None


def judge(study: Any) -> list[Verdict]:
    """The paper's claims compared with the measurements; those on other σ only where these were run."""
    found = [*_against_reinvent(study), _best_threshold(study), _as_diverse(study)]
    return found + (_over_sigmas(study) if len(study.settings.sigmas) > 1 else [])


def _against_reinvent(study: Any) -> list[Verdict]:
    said = tables.said_of(study.settings)
    more = paired(study, MATCHED, REINVENT, "hits", sigma=SIGMA)
    earlier = paired(study, MATCHED, REINVENT, "ob100", sigma=SIGMA)
    return [
        verdict(
            "MARA with τ = screen yields more than REINVENT, at each screen of each task",
            paper=_paper_result(study, "hits"),
            measured=said + _listed(more),
            holds=holds_in_all([entry.better for entry in more]),
        ),
        verdict(
            "... and clearly so (one-sided p ≤ 0.05)",
            paper=f"{_paper_gains(study)} of {len(more)}, from its means and standard deviations",
            measured=f"{said}{sum(_is_gain(entry) for entry in more)} of {len(more)}",
            holds=holds_in_all([_is_gain(entry) for entry in more]),
        ),
        verdict(
            "MARA with τ = screen finds 100 hits in fewer calls than REINVENT",
            paper=_paper_result(study, "ob100"),
            measured=said + _listed(earlier),
            holds=holds_in_all([entry.better for entry in earlier]),
        ),
    ]


def _best_threshold(study: Any) -> Verdict:
    said, won = [], []
    for task in study.settings.tasks:
        for screen in study.settings.screens:
            rows = [study.row(task, screen=screen, sigma=SIGMA, arm=arm) for arm in study.settings.arms]
            own = study.row(task, screen=screen, sigma=SIGMA, arm=MATCHED[screen])
            yields = {row.arm: row.summary("hits").mean for row in rows}
            won.append(all(yields[own.arm] > mean for arm, mean in yields.items() if arm != own.arm))
            each = ", ".join(f"{row.arm} {tables.cell(row, 'hits')}" for row in rows)
            said.append(f"{task} {screen:.2f}: {each}")
    return verdict(
        "τ = screen yields the most of REINVENT and both τ",
        paper="always",
        measured=tables.said_of(study.settings) + "; ".join(said),
        holds=holds_in_all(won),
    )


def _as_diverse(study: Any) -> Verdict:
    contests = [
        entry
        for metric in ("intdiv1", "circles")
        for entry in paired(study, MATCHED, REINVENT, metric, sigma=SIGMA)
    ]
    judged = [entry for entry in contests if entry.better is not None]
    lower = sum(_is_loss(entry) for entry in contests)
    circles = _paper_p(("SYNTH", 0.80, SIGMA, _M), ("SYNTH", 0.80, SIGMA, _R), "circles")
    holds: Holds = (
        "no" if lower == len(judged) else "partly" if lower or len(judged) < len(contests) else "yes"
    )
    return verdict(
        "IntDiv1 and Circles are competitive: not clearly lower than REINVENT's",
        paper=f"“competitive”; Circles of SYNTH at 0.80: 59 ± 8 and 67 ± 3 ({tables.p_text(circles)})",
        measured=f"{tables.said_of(study.settings)}clearly lower in {lower} of {len(judged)} that can be "
        f"judged, of {len(contests)}; IntDiv1, then Circles: {_listed(contests)}",
        holds=holds,
    )


def _over_sigmas(study: Any) -> list[Verdict]:
    """Tables 6 and 7: MARA has τ = 0.80 in both."""
    settings, said = study.settings, tables.said_of(study.settings)
    others = [sigma for sigma in settings.sigmas if sigma != SIGMA]
    arms = [arm for arm in settings.arms if arm.sigmas is None]
    across, against = {}, {}
    for task in settings.tasks:
        for screen in settings.screens:
            for arm in arms:
                at = {s: study.row(task, screen=screen, sigma=s, arm=arm) for s in settings.sigmas}
                for sigma in others:
                    name = f"{arm.name}, σ = {sigma:g}, {task} {screen:.2f}"
                    across[name] = tables.contest(at[sigma], at[SIGMA], "hits")
    for sigma in settings.sigmas:
        for entry in paired(study, MARA_80, REINVENT, "hits", sigma=sigma):
            against[f"σ = {sigma:g}, {entry.text}"] = entry
    clear = [f"{name} (p {p_relation(entry.p)})" for name, entry in across.items() if is_clear(entry.p)]
    lower = [name for name, entry in against.items() if _is_loss(entry)]
    ahead = sum(entry.better is True for entry in against.values())
    paper_clear, paper_all = _paper_sigmas()
    return [
        verdict(
            "σ has little effect on Yield: 256 and 512 against 128",
            paper=f"no claim in the text; {paper_clear} of {paper_all} differ clearly by Tables 6 and 7",
            measured=f"{said}{len(clear)} of {len(across)} differ clearly (p ≤ 0.05 on either side; by "
            f"chance {_RARE * len(across):.1f}): {'; '.join(clear) or 'none'}",
            holds=_few(len(clear), len(across)),
        ),
        verdict(
            "MARA (τ = 0.80) matches or outperforms REINVENT at every σ",
            paper="“in general”",
            measured=f"{said}mean Yield higher in {ahead} of {len(against)}, clearly lower in {len(lower)}: "
            f"{'; '.join(lower) or 'none'}",
            holds=_few(len(lower), len(against)),
        ),
    ]


def _few(count: int, all_of: int) -> Holds:
    """Whether chance explains so few results against a claim."""
    return "yes" if count <= _RARE * all_of else "partly" if count < all_of / 2 else "no"


def _is_gain(entry: Contest) -> bool:
    return entry.better is True and is_clear(entry.p)  # False for NaN


def _is_loss(entry: Contest) -> bool:
    return entry.better is False and is_clear(entry.p)


def _listed(contests: list[Contest]) -> str:
    return "; ".join(entry.text for entry in contests)


def _printed(key: tuple[str, float, float, str], metric: str) -> tuple[float, float]:
    place = 2 * list(METRICS).index(metric)
    return _FIGURES[key][place], _FIGURES[key][place + 1]


def _paper_p(one: tuple[str, float, float, str], other: tuple[str, float, float, str], metric: str) -> float:
    """One-sided p-value, from the paper's figures, that one row is not better than another."""
    ours, theirs = (_five(*_printed(key, metric)) for key in (one, other))
    return welch_test(theirs, ours) if metric == "ob100" else welch_test(ours, theirs)


def _five(mean: float, sd: float) -> list[float]:
    """Five values with this mean and standard deviation, which is all that Welch's test asks of a sample."""
    return [mean + sd * step / math.sqrt(2.5) for step in (-2, -1, 0, 1, 2)]


def _matched_keys(study: Any) -> list[tuple[str, float, float, str]]:
    """MARA's rows with τ = screen."""
    settings = study.settings
    return [(task, s, SIGMA, MATCHED[s].name) for task in settings.tasks for s in settings.screens]


def _paper_result(study: Any, metric: str) -> str:
    parts = []
    for task, screen, sigma, arm in _matched_keys(study):
        one, other = (task, screen, sigma, arm), (task, screen, sigma, _R)
        cells = [tables.paper_cell(_printed(key, metric), metric) for key in (one, other)]
        p = tables.p_text(_paper_p(one, other, metric))
        parts.append(f"{task} {screen:.2f}: {cells[0]} against {cells[1]} ({p})")
    return "; ".join(parts)


def _paper_gains(study: Any) -> int:
    """In how many comparisons the paper's own figures differ clearly."""
    keys = _matched_keys(study)
    return sum(_paper_p(key, (*key[:3], _R), "hits") <= 0.05 for key in keys)


def _paper_sigmas() -> tuple[int, int]:
    """How many of the paper's Yields at 256 and 512 differ clearly from those at 128, and of how many."""
    keys = [key for key in _FIGURES if key[2] != SIGMA]
    tests = [_paper_p(key, (key[0], key[1], SIGMA, key[3]), "hits") for key in keys]
    return sum(map(is_clear, tests)), len(tests)
