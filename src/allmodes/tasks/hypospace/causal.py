"""Causal discovery: which graphs explain what perturbations of some nodes did to the others?"""

from collections.abc import Sequence
from itertools import combinations, product
from math import comb
from typing import final

from allmodes.checks import check_count
from allmodes.errors import InputError
from allmodes.tasks.hypospace.hypotheses import Hypotheses, last_answer

MOST_NODES = 5  # 29,281 graphs without cycles
_NO_EDGES = "No edges"
_LABEL = "Graph:"


@final
class Causal(Hypotheses):
    """All directed acyclic graphs of a few nodes, told by perturbations of `perturbations` distinct nodes.

    Perturbing a node sets every strict descendant to 1 and all else, the node too, to 0. A response answers
    with the last `Graph: A->B, B->C` or `Graph: No edges` in it, to the end of its line: in any case, with
    any spaces, edges in any order; an edge that comes twice counts once. The key is this text with its edges
    sorted, without the label. Cycles, unknown nodes and more than `max_edges` edges are no hypothesis.

    Raises InputError for nodes outside 2 to 5, max_edges below 0, or perturbations outside 1 to `nodes`.

    >>> task = Causal(nodes=3, max_edges=2, perturbations=1)
    >>> task.parse("I think it is this. Graph: B->C, A->B")
    'A->B, B->C'
    """

    name = "hypospace-causal"

    def __init__(self, nodes: int = 4, max_edges: int = 6, perturbations: int = 3) -> None:
        if not 2 <= nodes <= MOST_NODES:
            raise InputError(f"`nodes` must lie between 2 and {MOST_NODES}; got {nodes}")
        if max_edges < 0:
            raise InputError(f"`max_edges` must be at least 0; got {max_edges}")
        check_count("perturbations", perturbations, most=nodes)
        names = "ABCDE"[:nodes]
        instances: dict[str, list[str]] = {}
        sizes: dict[str, int] = {}
        self._keys: dict[frozenset[str], str] = {}
        texts: dict[tuple[tuple[int, int], ...], str] = {}
        for edges, reach in _graphs(nodes, min(max_edges, comb(nodes, 2))):
            arrows = sorted(f"{names[a]}->{names[b]}" for a, b in edges)
            key = ", ".join(arrows) or _NO_EDGES
            sizes[key] = len(arrows)
            self._keys[frozenset(arrow.lower() for arrow in arrows)] = key
            for effects in combinations(enumerate(reach), perturbations):
                if effects not in texts:
                    texts[effects] = _prompt(names, effects, max_edges)
                instances.setdefault(texts[effects], []).append(key)
        super().__init__(
            {texts[effects]: instances[texts[effects]] for effects in sorted(texts)}, sizes=sizes
        )

    def parse(self, response: str) -> str | None:
        """The key of the last graph."""
        line = last_answer(response, "graph:")
        if line is None:
            return None
        text = "".join(line.split())
        return self._keys.get(frozenset() if text == "noedges" else frozenset(text.split(",")))

    def _response(self, key: str) -> str:
        return f"{_LABEL} {key}"

    def _broken(self, key: str) -> Sequence[str]:
        first = "A->B" if key == _NO_EDGES else key.split(", ")[0]
        back = "->".join(reversed(first.split("->")))
        return [
            key,  # no label
            f"{_LABEL} {first}, {back}",  # a cycle
            f"{_LABEL} {first[0]}->{first[0]}",
            f"{_LABEL} {first},",
            f"{_LABEL} {first.replace('->', '-')}",
            f"{_LABEL} {first[0]}->Z",
            f"{_LABEL} ",
        ]


def _graphs(nodes: int, max_edges: int) -> list[tuple[list[tuple[int, int]], tuple[int, ...]]]:
    """Each acyclic graph: its edges, and the set of strict descendants of each node, as bits."""
    pairs = list(combinations(range(nodes), 2))
    found: list[tuple[list[tuple[int, int]], tuple[int, ...]]] = []
    for choice in product(range(3), repeat=len(pairs)):  # no edge, one way, the other
        if len(pairs) - choice.count(0) > max_edges:
            continue
        edges = [
            pair if way == 1 else (pair[1], pair[0]) for pair, way in zip(pairs, choice, strict=True) if way
        ]
        reach = [0] * nodes
        for _ in range(nodes):  # as many rounds as the longest path, or cycle, has edges
            for a, b in edges:
                reach[a] |= 1 << b | reach[b]
        if not any(reach[node] >> node & 1 for node in range(nodes)):
            found.append((edges, tuple(reach)))
    return found


def _prompt(names: str, effects: Sequence[tuple[int, int]], max_edges: int) -> str:
    rows = [
        f"Perturb({names[node]}) -> "
        + " ".join(f"{name}:{reached >> place & 1}" for place, name in enumerate(names))
        for node, reached in effects
    ]
    return "\n".join(
        (
            f"A causal graph has the nodes {', '.join(names)}. Perturbing a node sets its descendants to 1 "
            "and all other nodes, itself included, to 0.",
            "Observations:",
            *rows,
            f"Find a directed acyclic graph of at most {max_edges} edges that explains all observations. "
            "Answer with one line of this form:",
            f"{_LABEL} A->B, B->C",
            "or, without edges:",
            f"{_LABEL} {_NO_EDGES}",
        )
    )
