"""The items of `allmodes paper`, by their names on the command line; each has its own module."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import final

from allmodes.errors import InputError


@final
@dataclass(frozen=True)
class Item:
    """An item: its name, its module in `allmodes.paper`, its place in the papers, and what it shows."""

    name: str
    module: str
    source: str
    title: str

    def load(self) -> ModuleType:
        """The module, which has `reproduce(scale, progress) -> Reproduction`."""
        return importlib.import_module(f"allmodes.paper.{self.module}")


ITEMS = (
    Item("fig1", "mara_fig1", "MARA, Figure 1", "Mode seeking and mass covering need a restricted family"),
    Item("fig2", "mara_fig2", "MARA, Figure 2", "Both KLs can have multimodal optima; β decides"),
    Item(
        "fig3", "mara_fig3", "MARA, Figure 3", "Equal references: small reward differences decide everything"
    ),
    Item("fig4", "mara_fig4", "MARA, Figure 4", "Equal rewards: RL keeps the reference's ratios"),
    Item("fig5", "mara_fig5", "MARA, Figure 5", "MARA is flat above the threshold under a reverse KL"),
    Item("fig7", "mara_fig7", "MARA, Figure 7", "Reward difference, β, and the ratio of probabilities"),
    Item("fig8", "mara_fig8", "MARA, Figure 8", "Equal rewards under both KLs, every β"),
    Item("fig11", "mara_fig11", "MARA, Figure 11", "How skewed a language model's optimum is"),
    Item(
        "mara-fig9-11",
        "mara_fig9_11",
        "MARA, Figures 9 and 11",
        "The 1-2 task: the question, the base model's answers, the optimum's skew",
    ),
    Item("mara-fig6", "mara_fig6", "MARA, Figure 6", "The 1-2 task: plain RL and MARA, both KLs"),
    Item("mara-fig10", "mara_fig10", "MARA, Figure 10", "The 1-2 task: plain RL at several β"),
    Item("table1", "mara_table1", "MARA, Tables 1 and 5", "Open questions: quality and diversity"),
    Item(
        "table2",
        "mara_table2",
        "MARA, Tables 2, 6 and 7",
        "Molecular design: REINVENT and MARA on SYNTH and ALL-AMIDE",
    ),
    Item(
        "workshop-fig4",
        "workshop_fig4",
        "MARA workshop, Figure 4",
        "A low β keeps only the best reward mode",
    ),
    Item("workshop-fig5", "workshop_fig5", "MARA workshop, Figure 5", "Equal rewards, 1000 steps"),
    Item(
        "workshop-fig6",
        "workshop_fig6",
        "MARA workshop, Figure 6",
        "Plain, MARA, and corrected MARA, both KLs",
    ),
    Item("ips-fig1", "ips_fig1", "IPS, Figure 1", "Hyper-grid: which methods find all modes"),
    Item(
        "ips-table1", "ips_table1", "IPS, Table 1", "Hyper-grid: distance to the reward-proportional target"
    ),
    Item("ips-fig2", "ips_fig2", "IPS, Figure 2", "HypoSpace: good answers over the number of samples"),
    Item(
        "ips-table2",
        "ips_table2",
        "IPS, Table 2",
        "HypoSpace: good answers that each method still finds, three domains",
    ),
    Item(
        "ips-fig4-5",
        "ips_fig4_5",
        "IPS, Figures 4 and 5",
        "HypoSpace: structures of blocks that GRPO and IPS-GRPO give for one top view",
    ),
    Item("ips-fig3", "ips_fig3", "IPS, Figure 3", "Two outcomes of equal reward, 35 paths against 7"),
    Item("ips-table3", "ips_table3", "IPS, Table 3", "Molecular design: REINVENT, GRPO and IPS-GRPO"),
    Item("ips-table4", "ips_table4", "IPS, Table 4", "Group size and clipping, a language model"),
    Item(
        "ips-table4-world",
        "ips_table4_world",
        "IPS, Table 4",
        "Group size and clipping, a categorical policy and its exact flow",
    ),
    Item("ips-theorem3.1", "ips_theorem31", "IPS, Theorem 3.1", "The flow of the expected return"),
    Item("ips-theorem4.1", "ips_theorem41", "IPS, Theorem 4.1", "The flow of inverse probability scaling"),
    Item("beyond", "beyond", "ours", "All methods side by side at equal samples, with wins and losses"),
)


def find(name: str) -> tuple[Item, ...]:
    """The item of that name, or all items for "all". Raises InputError for an unknown name."""
    if name == "all":
        return ITEMS
    found = tuple(item for item in ITEMS if item.name == name)
    if not found:
        names = ", ".join(item.name for item in ITEMS)
        raise InputError(f"expected list, all or one of {names}; got {name!r}")
    return found
