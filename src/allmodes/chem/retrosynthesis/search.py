"""Deterministic Retro* over single-step reactions."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

from syntheseus.interface.models import BackwardReactionModel
from syntheseus.interface.molecule import Molecule
from syntheseus.search.algorithms.best_first.retro_star import RetroStarSearch
from syntheseus.search.graph.and_or import AndNode, AndOrGraph, OrNode
from syntheseus.search.mol_inventory import BaseMolInventory
from syntheseus.search.node_evaluation.base import NoCacheNodeEvaluator
from syntheseus.search.node_evaluation.common import ConstantNodeEvaluator

from allmodes.chem.retrosynthesis.model import reaction_class

Node = AndNode | OrNode


@final
@dataclass(frozen=True, kw_only=True)
class Route:
    """The answer for one molecule.

    node: the route as nested JSON, None when there is none; steps: the reactions in it; classes: theirs, each
    once, by name. A purchasable molecule has a route of no steps.
    """

    node: dict[str, Any] | None
    steps: int
    classes: tuple[str, ...]

    @property
    def solved(self) -> bool:
        """Whether there is a route."""
        return self.node is not None


def find_route(
    smiles: str, model: BackwardReactionModel, stock: BaseMolInventory, *, max_steps: int, max_expansions: int
) -> Route:
    """The first route that Retro* finds to molecules in stock (Chen et al. 2020, through syntheseus).

    smiles: standard. max_steps: the longest chain of reactions; max_expansions: molecules that the search
    expands. The answer only depends on these arguments: not on time, earlier calls, or hash
    seeds.
    """
    search = _Search(
        reaction_model=model,
        mol_inventory=stock,
        and_node_cost_fn=_StepCost(),
        # No route to a molecule that cannot be bought costs less than nothing: the paper's Retro*-0.
        value_function=ConstantNodeEvaluator(0.0),
        limit_iterations=max_expansions,
        # The target is at depth 0, its precursors at 2, the last that are split at 2 (max_steps - 1).
        max_expansion_depth=2 * max_steps - 1,
        prevent_repeat_mol_in_trees=True,
        stop_on_first_solution=True,
    )
    graph, _ = search.run_from_mol(Molecule(smiles, canonicalize=False, make_rdkit_mol=False))
    if not graph.root_node.has_solution:
        return Route(node=None, steps=0, classes=())
    classes: list[str] = []
    node = _route(graph, graph.root_node, classes)
    return Route(node=node, steps=len(classes), classes=tuple(sorted(set(classes))))


class _StepCost(NoCacheNodeEvaluator[AndNode]):
    """The cost of a step, in multiples of 1/1024: their sums are exact in any order, and ties are ties."""

    def _evaluate_nodes(self, nodes: Sequence[AndNode], graph: Any = None) -> list[float]:
        costs = (cast("dict[str, float]", node.reaction.metadata)["cost"] for node in nodes)
        return [round(cost * 1024) / 1024 for cost in costs]


class _Search(RetroStarSearch):
    """Retro* whose ties are broken by age.

    syntheseus keeps nodes in sets, whose order is that of memory addresses and hash seeds, and hands them to
    a queue that breaks ties by the order of arrival. Here each node gets a number when it is made, and all
    that goes to the queue is sorted by it.
    """

    def visit_node(self, node: Any, graph: Any) -> Sequence[Any]:
        numbered = _in_order(cast("Sequence[Node]", super().visit_node(node, graph)), graph)
        for index, new in enumerate(numbered, len(graph) - len(numbered)):
            cast("dict[str, int]", new.data)["order"] = index
        return numbered

    def set_node_values(self, nodes: Collection[Any], graph: Any) -> Collection[Any]:
        return sorted(super().set_node_values(nodes, graph), key=_order)


def _order(node: Node) -> int:
    return cast("dict[str, int]", node.data).get("order", 0)  # only the target has none


def _in_order(new: Sequence[Node], graph: AndOrGraph) -> list[Node]:
    """New nodes as the reactions came, the precursors of each by their SMILES."""
    ordered: list[Node] = []
    for node in new:
        if isinstance(node, AndNode):
            ordered.append(node)
            ordered.extend(_precursors(node, graph))
    return ordered


def _precursors(node: AndNode, graph: AndOrGraph) -> list[OrNode]:
    return sorted(cast("list[OrNode]", list(graph.successors(node))), key=lambda child: child.mol.smiles)


def _route(graph: AndOrGraph, node: OrNode, classes: list[str]) -> dict[str, Any]:
    """The cheapest route below a solved node; the classes of its reactions are added to `classes`."""
    if node.mol.metadata.get("is_purchasable"):
        return {"smiles": node.mol.smiles, "purchasable": True, "reaction": None}
    best = cast("AndNode", min(graph.successors(node), key=lambda child: (_min_cost(child), _order(child))))
    classes.append(reaction_class(best.reaction))
    below = {child.mol.smiles: child for child in _precursors(best, graph)}
    return {
        "smiles": node.mol.smiles,
        "purchasable": False,
        "reaction": {
            "name": best.reaction.identifier,
            "class": reaction_class(best.reaction),
            # The reaction's own list: it has a precursor twice where two of it are needed.
            "precursors": [_route(graph, below[mol.smiles], classes) for mol in best.reaction.reactants],
        },
    }


def _min_cost(node: Node) -> float:
    return node.data.get("retro_star_min_cost", math.inf)
