"""Colourings: JSON that is one is read, all proper ones are enumerated, and no others."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.tasks.reasoning_gym.colorings import (
    LONGEST,
    Graph,
    coloring_text,
    colorings,
    greedily_colorable,
    is_proper,
    read_coloring,
)

PAIRS = [(one, other) for one in range(5) for other in range(one)]  # in both orders of a puzzle's edges
GRAPHS = st.builds(
    Graph,
    st.just((0, 1, 2, 3, 4)),
    st.lists(st.sampled_from([*PAIRS, *((b, a) for a, b in PAIRS)]), max_size=8).map(tuple),
    st.integers(1, 3).map(lambda count: tuple(range(1, count + 1))),
)


@settings(max_examples=60, deadline=None)
@given(graph=GRAPHS)
def test_all_proper_colourings_and_no_others(graph: Graph) -> None:
    """Against all assignments of colours to vertices."""
    expected = [
        dict(zip(graph.vertices, colors, strict=True))
        for colors in product(graph.colors, repeat=len(graph.vertices))
        if all(colors[one] != colors[other] for one, other in graph.edges)
    ]
    assert list(colorings(graph)) == expected
    assert all(is_proper(graph, coloring) for coloring in expected)
    assert len(set(map(coloring_text, expected))) == len(expected)
    if greedily_colorable(5, graph.edges, colors=len(graph.colors)):
        assert expected


def test_numbers_of_colourings_are_those_of_chromatic_polynomials() -> None:
    """Of a path: k (k − 1)^(n−1); of a circle: (k − 1)^n + (−1)^n (k − 1); of all joined: k!/(k − n)!."""
    path = ((0, 1), (1, 2), (2, 3))
    for edges, count in ((path, 24), ((*path, (3, 0)), 18), ((*path, (3, 0), (0, 2), (1, 3)), 0)):
        assert len(list(colorings(Graph((0, 1, 2, 3), edges, (1, 2, 3))))) == count
    assert greedily_colorable(4, path, colors=2)
    assert not greedily_colorable(3, ((0, 1), (1, 2), (0, 2)), colors=2)


@pytest.mark.parametrize(
    ("text", "coloring"),
    [
        ('{"0": 1, "1": 2}', {0: 1, 1: 2}),
        (' {"10":3,\n"2":1} ', {2: 1, 10: 3}),
        ("{}", None),
        ("[1, 2]", None),
        ('[["0", 1]]', None),
        ('{"0": 1, "0": 2}', None),
        ('{"00": 1}', None),
        ('{"0": true}', None),
        ('{"0": 1.0}', None),
        ('{"0": "1"}', None),
        ('{"0": {"1": 2}}', None),
        ('{"a": 1}', None),
        ('{"-1": 1}', None),
        ('{"٣": 1}', None),
        ("{0: 1}", None),
        ('{"0": 1} because', None),
        ('{"0": NaN}', None),
        ("[" * 5000, None),
        ('{"0": ' + "9" * 5000 + "}", None),
        ('{"0": 1' + " " * LONGEST + "}", None),
        ("", None),
    ],
)
def test_what_is_read(text: str, coloring: dict[int, int] | None) -> None:
    assert read_coloring(text) == coloring
    if coloring is not None:
        assert read_coloring(coloring_text(coloring)) == coloring


def test_what_is_proper() -> None:
    graph = Graph((0, 1, 2), ((0, 1),), (1, 2))
    assert is_proper(graph, {0: 1, 1: 2, 2: 2})
    for wrong in ({0: 1, 1: 1, 2: 2}, {0: 1, 1: 2}, {0: 1, 1: 2, 2: 3}, {0: 1, 1: 2, 2: 2, 3: 1}, {}):
        assert not is_proper(graph, wrong)
