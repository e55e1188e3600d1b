"""Proper colourings of small graphs: read from JSON, checked and enumerated."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LONGEST = 10_000  # characters of a colouring that is read


class Graph(NamedTuple):
    """Vertices, edges between them, and the colours that are allowed."""

    vertices: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    colors: tuple[int, ...]


def read_coloring(text: str) -> dict[int, int] | None:
    """A JSON map of vertices to colours, both whole numbers; None for all else, and for a vertex twice."""
    if len(text) > LONGEST:
        return None
    try:
        pairs = json.loads(text, object_pairs_hook=lambda found: found)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        return None  # a JSON list is none of pairs: those are tuples
    coloring = {int(vertex): color for vertex, color in pairs}
    return coloring if coloring and len(coloring) == len(pairs) else None


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, tuple):
        return False
    vertex, color = pair
    is_vertex = vertex.isascii() and vertex.isdigit() and len(vertex) < 10 and str(int(vertex)) == vertex
    return is_vertex and type(color) is int


def coloring_text(coloring: Mapping[int, int]) -> str:
    """The colouring as JSON, by vertex: `{"0": 1, "1": 2}`."""
    return json.dumps({str(vertex): coloring[vertex] for vertex in sorted(coloring)})


def is_proper(graph: Graph, coloring: Mapping[int, int]) -> bool:
    """Whether it colours the graph's vertices and no others, in allowed colours, neighbours differently."""
    return (
        coloring.keys() == set(graph.vertices)
        and set(coloring.values()) <= set(graph.colors)
        and all(coloring[one] != coloring[other] for one, other in graph.edges)
    )


def colorings(graph: Graph) -> Iterator[dict[int, int]]:
    """All proper colourings, vertex by vertex, the last one's colours the fastest."""
    before: dict[int, list[int]] = {vertex: [] for vertex in graph.vertices}
    order = {vertex: place for place, vertex in enumerate(graph.vertices)}
    for one, other in graph.edges:
        first, last = sorted((one, other), key=order.__getitem__)
        before[last].append(first)

    def extended(place: int, coloring: dict[int, int]) -> Iterator[dict[int, int]]:
        if place == len(graph.vertices):
            yield dict(coloring)
            return
        vertex = graph.vertices[place]
        taken = {coloring[other] for other in before[vertex]}
        for color in graph.colors:
            if color not in taken:
                coloring[vertex] = color
                yield from extended(place + 1, coloring)

    return extended(0, {})


def greedily_colorable(size: int, edges: Sequence[tuple[int, int]], *, colors: int) -> bool:
    """Whether giving each vertex in turn the first colour that no neighbour has ends with all coloured."""
    given: dict[int, int] = {}
    for vertex in range(size):
        taken = {given[a + b - vertex] for a, b in edges if vertex in (a, b) and a + b - vertex in given}
        free = next((color for color in range(colors) if color not in taken), None)
        if free is None:
            return False
        given[vertex] = free
    return True
