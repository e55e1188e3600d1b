"""The figures for comparing arms of molecular design."""

from collections.abc import Mapping, Sequence

from allmodes.chem.arms import label_of_arm, parse_arm
from allmodes.chem.config import OutcomesConfig
from allmodes.chem.design.results import RunResult
from allmodes.methods import color_of
from allmodes.reports.comparison import Metric, Row, compare, ran_alone, verdict
from allmodes.reports.plotting import distinct_colors

Groups = Mapping[str, Sequence[RunResult]]  # by name of the arm, in order: the first is the reference

_METRICS = (
    Metric[RunResult](
        name="Yield", hint="hits; more is better", value=lambda run: run.hits, digits=1,
        better="found more hits", worse="found fewer hits",
    ),
    Metric[RunResult](
        name="OB100", hint="calls until the 100th hit; fewer is better", value=lambda run: run.ob100,
        digits=1, more_is_better=False,
        better="reached 100 hits in fewer calls", worse="needed more calls for 100 hits",
    ),
    Metric[RunResult](
        name="IntDiv1", hint="mean distance among hits; more is better", value=lambda run: run.intdiv1,
        digits=3,
        better="had more diverse hits by IntDiv1", worse="had less diverse hits by IntDiv1",
    ),
    Metric[RunResult](
        name="#Circles", hint="hits that are pairwise far apart; more is better",
        value=lambda run: run.circles, digits=1, better="covered more circles", worse="covered fewer circles",
    ),
)  # fmt: skip


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each arm by its name: that of its method, darker for each further arm with the same."""
    return distinct_colors({name: color_of(parse_arm(name).method) for name in names})


def compare_arms(groups: Groups, outcomes: OutcomesConfig) -> list[Row]:
    """Yield, OB100, IntDiv1 and #Circles of each arm by its label; before them regions, where there are any.

    outcomes: what the recipe says of regions. Without their counts, as in old results, they are left out.
    """
    known = all(run.regions is not None for group in groups.values() for run in group)
    metrics = (_regions_metric(outcomes.kept_from), *_METRICS) if known else _METRICS
    return compare(metrics, {label_of_arm(name): group for name, group in groups.items()})


def _regions_metric(kept_from: int) -> Metric[RunResult]:
    return Metric[RunResult](
        name="Regions", hint=f"with {kept_from} hits or more; more is better",
        value=lambda run: run.regions_kept(kept_from=kept_from), digits=1,
        better="kept more regions", worse="kept fewer regions",
    )  # fmt: skip


def verdicts(rows: Sequence[Row]) -> list[str]:
    """For each arm but the first, what its tests against the first say."""
    first, *later = rows[0].values
    return [verdict(rows, arm) for arm in later] or [ran_alone(first)]
