"""Published figures on PMO, for comparison: AUC of the top 10 after 10,000 oracle calls, prior ZINC-250k."""

from dataclasses import dataclass
from typing import final

BUDGET = 10_000


@final
@dataclass(frozen=True, kw_only=True)
class Published:
    """A method's published figures.

    tasks: AUC of the top 10 by task. total: its sum over PMO's 20 tasks that RDKit computes. diversity: of
    the top 100, a mean over all 23 tasks.
    """

    label: str
    source: str
    total: float
    tasks: dict[str, float]
    diversity: float | None


_REINVENT = {
    "albuterol_similarity": 0.882,
    "amlodipine_mpo": 0.635,
    "celecoxib_rediscovery": 0.71,
    "deco_hop": 0.666,
    "fexofenadine_mpo": 0.784,
    "isomers_c7h8n2o2": 0.852,
    "isomers_c9h10n2o2pf2cl": 0.642,
    "median1": 0.356,
    "median2": 0.276,
    "mestranol_similarity": 0.618,
    "osimertinib_mpo": 0.837,
    "perindopril_mpo": 0.537,
    "qed": 0.941,
    "ranolazine_mpo": 0.760,
    "scaffold_hop": 0.560,
    "sitagliptin_mpo": 0.021,
    "thiothixene_rediscovery": 0.534,
    "troglitazone_rediscovery": 0.441,
    "valsartan_smarts": 0.178,
    "zaleplon_mpo": 0.358,
}

PUBLISHED = (
    Published(
        label="REINVENT",
        source="Gao et al. 2022 (PMO); diversity: Lee et al. 2024",
        total=sum(_REINVENT.values()),
        tasks=_REINVENT,
        diversity=0.468,
    ),
    Published(label="Graph GA", source="Gao et al. 2022 (PMO)", total=11.446, tasks={}, diversity=None),
    Published(
        label="Mol GA",
        source="Tripp and Hernández-Lobato 2023; as in Lee et al. 2024",
        total=12.227,
        tasks={},
        diversity=0.491,
    ),
    Published(
        label="Genetic GFN",
        source="Kim et al. 2024; as in Lee et al. 2024",
        total=13.594,
        tasks={},
        diversity=0.443,
    ),
    Published(label="f-RAG", source="Lee et al. 2024", total=14.063, tasks={}, diversity=0.532),
)
