"""The three domains against independent enumerations, and their parsers against hostile texts."""

import ast
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import chain, combinations, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.tasks import Boolean, Causal, Voxels, WritesExamples
from allmodes.tasks.hypospace.hypotheses import Hypotheses

CAUSAL, VOXELS, BOOLEAN = Causal(), Voxels(), Boolean()
TASKS = [CAUSAL, VOXELS, BOOLEAN]
BY_NAME = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def same_sets(task: Hypotheses, expected: Mapping[Hashable, set[str]]) -> None:
    """The instances' sets of keys, whatever their prompts say."""
    found = sorted(sorted(task.known_answers(prompt)) for prompt in task.prompts)
    assert found == sorted(sorted(keys) for keys in expected.values())


# --- exact counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "instances", "answers", "least", "median", "most", "hypotheses"),
    [
        (CAUSAL, 392, 2172, 1, 3, 16, 543),
        (VOXELS, 129, 2619, 3, 27, 27, 2619),
        (BOOLEAN, 78, 510, 1, 6, 20, 34),
    ],
)
def test_the_counts_of_the_paper(
    task: Hypotheses, instances: int, answers: int, least: int, median: float, most: int, hypotheses: int
) -> None:
    sizes = [len(task.known_answers(prompt)) for prompt in task.prompts]
    assert (len(sizes), sum(sizes), len(task.hypotheses)) == (instances, answers, hypotheses)
    assert (min(sizes), statistics.median(sizes), max(sizes)) == (least, median, most)
    assert len(set(task.prompts)) == instances


def test_the_means_of_the_paper() -> None:
    means = [statistics.mean(len(task.known_answers(prompt)) for prompt in task.prompts) for task in TASKS]
    assert means == pytest.approx([5.5408, 20.302, 6.5385], abs=5e-4)


def acyclic(edges: Sequence[tuple[str, str]], nodes: str) -> bool:
    """Kahn: take away nodes without an edge into them until none is left."""
    left, rest = set(nodes), list(edges)
    while free := {node for node in left if all(end != node for _, end in rest)}:
        left -= free
        rest = [edge for edge in rest if edge[0] not in free]
    return not left


def reached(start: str, edges: Sequence[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        node = ahead.pop()
        new = {end for begin, end in edges if begin == node} - found
        found |= new
        ahead += new
    return found


def causal_instances(nodes: str, max_edges: int, perturbations: int) -> dict[Hashable, set[str]]:
    arrows = [(a, b) for a in nodes for b in nodes if a != b]
    expected: dict[Hashable, set[str]] = defaultdict(set)
    for count in range(max_edges + 1):
        for edges in combinations(arrows, count):
            if acyclic(edges, nodes):
                key = ", ".join(sorted(f"{a}->{b}" for a, b in edges)) or "No edges"
                for perturbed in combinations(nodes, perturbations):
                    seen = tuple((node, frozenset(reached(node, edges))) for node in perturbed)
                    expected[seen].add(key)
    return expected


@pytest.mark.parametrize(
    ("nodes", "max_edges", "perturbations"), [(4, 6, 3), (4, 3, 2), (3, 3, 3), (2, 1, 1)]
)
def test_causal_instances_are_those_of_a_direct_enumeration(
    nodes: int, max_edges: int, perturbations: int
) -> None:
    task = Causal(nodes=nodes, max_edges=max_edges, perturbations=perturbations)
    same_sets(task, causal_instances("ABCD"[:nodes], max_edges, perturbations))


def test_there_are_543_graphs_by_edges() -> None:
    edges = [0 if key == "No edges" else key.count("->") for key in CAUSAL.hypotheses]
    assert [edges.count(number) for number in range(7)] == [1, 12, 60, 152, 186, 108, 24]


def test_a_causal_prompt_says_what_its_graphs_do() -> None:
    for prompt in CAUSAL.prompts[::7]:
        rows = [line for line in prompt.split("\n") if line.startswith("Perturb(")]
        assert len(rows) == 3
        for key in CAUSAL.known_answers(prompt):
            edges = [] if key == "No edges" else [tuple(edge.split("->")) for edge in key.split(", ")]
            for row in rows:
                perturbed, effects = row[8], dict(pair.split(":") for pair in row[14:].split())
                assert {node for node, effect in effects.items() if effect == "1"} == reached(
                    perturbed, edges
                )
    rows = "Perturb(A) -> A:0 B:1 C:0 D:1\nPerturb(B) -> A:0 B:0 C:0 D:1\nPerturb(C) -> A:0 B:0 C:0 D:0\n"
    [prompt] = [prompt for prompt in CAUSAL.prompts if rows in prompt]
    assert CAUSAL.known_answers(prompt) == ("A->B, B->D", "A->B, A->D, B->D")


def voxel_instances(size: int, max_blocks: int, max_height: int) -> dict[Hashable, set[str]]:
    """From all stacks of layers of cells, supported or not."""
    cells = range(size * size)
    layers = list(chain.from_iterable(combinations(cells, count) for count in range(max_blocks + 1)))
    expected: dict[Hashable, set[str]] = defaultdict(set)
    for stack in product(map(frozenset, layers), repeat=max_height):
        view = frozenset().union(*stack)
        if 1 <= len(view) <= max_blocks and all(above <= below for below, above in pairwise(stack)):
            heights = "".join(str(sum(cell in layer for layer in stack)) for cell in cells)
            expected[view].add("/".join(heights[row : row + size] for row in range(0, size * size, size)))
    return expected


@pytest.mark.parametrize(("size", "max_blocks", "max_height"), [(2, 4, 3), (3, 2, 3), (3, 3, 1), (1, 1, 2)])
def test_voxel_instances_are_those_of_a_direct_enumeration(
    size: int, max_blocks: int, max_height: int
) -> None:
    same_sets(Voxels(size, max_blocks, max_height), voxel_instances(size, max_blocks, max_height))


def test_voxel_views_by_blocks() -> None:
    sizes = [len(VOXELS.known_answers(prompt)) for prompt in VOXELS.prompts]
    assert sizes == [3] * 9 + [9] * 36 + [27] * 84


def test_a_voxel_prompt_shows_the_top_view_of_its_structures() -> None:
    for prompt in VOXELS.prompts:
        _, _, rest = prompt.partition("0=empty):\n")
        view = "/".join("".join(row.split()) for row in rest.split("\n")[:3])
        for key in VOXELS.known_answers(prompt):
            assert "".join("1" if c in "123" else c for c in key) == view


Tree = str | tuple[str, frozenset["Tree"]]


def trees(depth: int) -> Iterator[Tree]:
    """Expressions of x and y as nested sets; each at least once."""
    yield from "xy"
    if depth == 0:
        return
    smaller = set(trees(depth - 1))
    for tree in smaller:
        yield ("NOT", frozenset({tree}))
    for operator in ("AND", "OR"):
        for pair in product(smaller, repeat=2):
            parts: set[Tree] = set()
            for part in pair:
                parts |= part[1] if part[0] == operator else {part}
            yield (operator, frozenset(parts)) if len(parts) > 1 else next(iter(parts))


def value(tree: Tree, x: bool, y: bool) -> bool:
    if isinstance(tree, str):
        return x if tree == "x" else y
    values = [value(part, x, y) for part in tree[1]]
    return {"NOT": not values[0], "AND": all(values), "OR": any(values)}[tree[0]]


def tree_of(text: str) -> Tree:
    """The canonical tree of a key, by Python's own grammar."""

    def visit(node: ast.expr) -> Tree:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.UnaryOp):
            return ("NOT", frozenset({visit(node.operand)}))
        assert isinstance(node, ast.BoolOp)
        return (type(node.op).__name__.upper(), frozenset(map(visit, node.values)))

    return visit(ast.parse(text.lower(), mode="eval").body)


def test_boolean_expressions_are_those_of_a_direct_enumeration() -> None:
    expected = set(trees(2))
    assert len(expected) == 34
    assert {tree_of(key) for key in BOOLEAN.hypotheses} == expected
    inputs = list(product((False, True), repeat=2))
    functions = {tree: tuple(value(tree, *row) for row in inputs) for tree in expected}
    assert len(set(functions.values())) == 14
    assert not {(False, True, True, False), (True, False, False, True)} & set(functions.values())
    by_observation: dict[Hashable, set[str]] = defaultdict(set)
    for key in BOOLEAN.hypotheses:
        outputs = functions[tree_of(key)]
        for count in range(1, 5):
            for rows in combinations(range(4), count):
                by_observation[rows, tuple(outputs[row] for row in rows)].add(key)
    same_sets(BOOLEAN, by_observation)


def test_a_boolean_prompt_says_what_its_expressions_give() -> None:
    for prompt in BOOLEAN.prompts:
        rows = [line for line in prompt.split("\n") if " -> " in line]
        assert 1 <= len(rows) <= 4
        for row in rows:
            x, y, out = row[2] == "1", row[7] == "1", row[-1] == "1"
            assert all(value(tree_of(key), x, y) == out for key in BOOLEAN.known_answers(prompt))


def test_a_validator_that_refuses_not_x_or_y_caps_mean_recovery() -> None:
    shares = [
        sum(key != "NOT (x OR y)" for key in known) / len(known)
        for known in (BOOLEAN.known_answers(prompt) for prompt in BOOLEAN.prompts)
    ]
    assert statistics.mean(shares) == pytest.approx(0.9614, abs=5e-5)


def test_three_variables_and_other_operators() -> None:
    assert len(Boolean(("a", "b", "c"), max_depth=1).hypotheses) == 3 + 3 + 2 * 3
    assert Boolean(operators=("AND",)).hypotheses == ("x", "y", "x AND y")
    assert Boolean(("p",), max_depth=0).prompts[0].count("p=") == 1


# --- order, split, examples -------------------------------------------------------------------------------


def test_the_simplest_answer_is_first_then_lexicographic_order() -> None:
    def complexity(task: Hypotheses, key: str) -> int:
        if task is CAUSAL:
            return key.count("->")
        return sum(map(int, key.replace("/", ""))) if task is VOXELS else len(key)

    for task in TASKS:
        for prompt in task.prompts:
            known = task.known_answers(prompt)
            assert list(known) == sorted(known, key=lambda key: (complexity(task, key), key))
    assert BOOLEAN.hypotheses[:6] == ("x", "y", "NOT x", "NOT y", "x OR y", "x AND y")


@BY_NAME
def test_every_hypothesis_is_written_and_read(task: Hypotheses) -> None:
    assert isinstance(task, WritesExamples)
    for key in task.hypotheses:
        assert task.parse(task.write(task.prompts[0], key)) == key


@BY_NAME
def test_the_reward_is_1_for_admissible_answers_alone(task: Hypotheses) -> None:
    for prompt in task.prompts[:: len(task.prompts) // 8]:
        responses = [task.write(prompt, key) for key in task.hypotheses]
        known = set(task.known_answers(prompt))
        expected = [float(key in known) for key in task.hypotheses]
        assert task.rewards([prompt] * len(responses), responses) == expected


@BY_NAME
def test_near_misses_are_worth_nothing(task: Hypotheses) -> None:
    for prompt in task.prompts:
        misses = task.near_misses(prompt)
        assert set(task.rewards([prompt] * len(misses), misses)) == {0.0}
        answers = [task.parse(text) for text in misses]
        assert len(set(misses)) == len(misses)
        assert None in answers  # a broken format
        assert any(answer is not None for answer in answers)  # a wrong answer


@BY_NAME
def test_the_split_is_disjoint_and_depends_on_the_seed_alone(task: Hypotheses) -> None:
    half = len(task.prompts) // 2
    train, test = task.split(half, half, 0)
    assert (len(train), len(test)) == (half, half)
    assert not {*train} & {*test}
    assert {*train} | {*test} <= {*task.prompts}
    assert type(task)().split(half, half, 0) == (train, test)
    assert task.split(half, half, 1)[0] != train


@pytest.mark.parametrize(("train", "test"), [(0, 1), (1, 0), (-1, 2), (40, 39)])
def test_a_split_that_is_not_there_is_refused(train: int, test: int) -> None:
    with pytest.raises(InputError, match=r"together at most 78, the prompts of hypospace-boolean; got"):
        BOOLEAN.split(train, test, 0)


@BY_NAME
def test_prompts_and_keys_of_something_else_are_refused(task: Hypotheses) -> None:
    with pytest.raises(InputError, match=rf"`prompt` must be one of {task.name}'s; got 'hello'"):
        task.rewards(["hello"], [""])
    with pytest.raises(InputError, match="`prompt` must be one of"):
        task.known_answers("")
    with pytest.raises(InputError, match="`answer` must be the key of a hypothesis"):
        task.write(task.prompts[0], "x" * 1000)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Causal(nodes=1),
        lambda: Causal(nodes=6),
        lambda: Causal(max_edges=-1),
        lambda: Causal(perturbations=5),
        lambda: Causal(perturbations=0),
        lambda: Voxels(size=0),
        lambda: Voxels(max_blocks=10),
        lambda: Voxels(max_height=0),
        lambda: Voxels(size=9, max_blocks=81, max_height=9),
        lambda: Boolean(()),
        lambda: Boolean(("x", "X")),
        lambda: Boolean(("or", "y")),
        lambda: Boolean(("x y",)),
        lambda: Boolean(operators=()),
        lambda: Boolean(operators=("XOR",)),
        lambda: Boolean(max_depth=-1),
        lambda: Boolean(max_depth=4),
        lambda: Boolean(("x", "y", "z"), max_depth=3),
    ],
)
def test_settings_that_make_no_task_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=r"^`[^\n]*; got [^\n]*$"):
        make()


# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Graph: A->B, B->C", "A->B, B->C"),
        ("Graph: B->C,A->B", "A->B, B->C"),
        ("graph:a -> b ,  b-> c", "A->B, B->C"),
        ("I think so.\nGRAPH: A->B\nThat is all.", "A->B"),
        ("Graph: A->B, A->B", "A->B"),
        ("Graph: No edges", "No edges"),
        ("graph:  no   EDGES ", "No edges"),
        ("Graph: A->B\nGraph: B->C", "B->C"),
        ("Graph: A->B\nGraph: nothing", None),
        ("Graph: A->B, B->C, C->A", None),
        ("Graph: A->A", None),
        ("Graph: A->E", None),
        ("Graph: A->B B->C", None),
        ("Graph: A->B,", None),
        ("Graph: A->B.", None),
        ("Graph: A->B->C", None),
        ("Graph: A->B, No edges", None),
        ("Graph:", None),
        ("A->B", None),
        ("", None),
    ],
)
def test_causal_reads_the_last_graph(response: str, answer: str | None) -> None:
    assert CAUSAL.parse(response) == answer


def test_a_graph_of_too_many_edges_is_none() -> None:
    assert Causal(max_edges=1).parse("Graph: A->B, A->C") is None
    assert Causal(max_edges=2).parse("Graph: A->B, A->C") == "A->B, A->C"


def structure(*layers: str, first: str = "Structure:\n") -> str:
    rows = "".join(f"Layer {number}:\n{layer}\n" for number, layer in enumerate(layers, 1))
    return f"BEGIN_STRUCTURE\n{first}{rows}END_STRUCTURE"


LOW, TWO, NONE = "0 0 0\n0 1 0\n0 0 0", "0 1 0\n0 1 0\n0 0 0", "0 0 0\n0 0 0\n0 0 0"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (structure(LOW), "000/010/000"),
        (structure(TWO, LOW), "010/020/000"),
        (structure(TWO, LOW, NONE), "010/020/000"),
        (structure(LOW, first=""), "000/010/000"),
        (structure(LOW).lower(), "000/010/000"),
        (structure("000010000"), "000/010/000"),
        (structure("0 0 0 0 1 0 0 0 0").replace("\n", " "), "000/010/000"),
        (f"so: {structure(TWO)} or {structure(LOW)} and that is it", "000/010/000"),
        (structure(LOW, TWO), None),  # in the air
        (structure(NONE, LOW), None),
        (structure(NONE), None),
        (structure(), None),
        (structure(LOW, LOW, LOW, LOW), None),  # too high
        (structure(LOW, LOW, LOW, NONE), None),
        (structure(LOW, ""), None),
        (structure(LOW + "\n0 0 0"), None),
        (structure("0 0 0\n0 2 0\n0 0 0"), None),
        (structure("1 1 1\n1 0 0\n0 0 0"), None),  # four cells
        (structure(LOW).replace("Layer 1", "Layer 2"), None),
        (structure(LOW).replace("Layer 1:", "Layer 1"), None),
        (structure(LOW).replace("Layer 1:", ""), None),
        (structure(LOW, first="Here it is:\n"), None),
        (structure(LOW).replace("END_STRUCTURE", ""), None),
        (structure(LOW).replace("BEGIN_STRUCTURE", ""), None),
        (structure(LOW) + "BEGIN_STRUCTURE", None),
    ],
)
def test_voxels_reads_the_last_structure(response: str, answer: str | None) -> None:
    assert VOXELS.parse(response) == answer


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("x AND NOT y", "x AND NOT y"),
        ("not Y and X", "x AND NOT y"),
        ("(x)AND(NOT(y))", "x AND NOT y"),
        ("NOT (x OR y)", "NOT (x OR y)"),
        ("NOT(y or x)", "NOT (x OR y)"),
        ("x OR y AND x", "x OR (x AND y)"),
        ("(x OR y) AND x", "x AND (x OR y)"),
        ("NOT x AND y", "y AND NOT x"),
        ("x AND (y AND NOT x)", "x AND y AND NOT x"),
        ("x AND y AND NOT x AND y", "x AND y AND NOT x"),
        ("x AND x", "x"),
        ("(x OR x) AND ((y))", "x AND y"),
        ("NOT NOT x", "NOT NOT x"),
        ("NOT (NOT (x))", "NOT NOT x"),
        ("NOT NOT NOT x", None),
        ("x AND (y OR (x AND NOT y))", None),
        ("x AND y AND NOT x AND NOT y", None),  # needs three levels of two operands
        ("x XOR y", None),
        ("x AND z", None),
        ("x y", None),
        ("x AND", None),
        ("AND x", None),
        ("x NOT y", None),
        ("(x", None),
        ("x)", None),
        ("()", None),
        (")x(", None),
        ("x & y", None),
        ("x.", None),
        ("1", None),
        ("", None),
        ("__import__('os')", None),
    ],
)
def test_boolean_reads_an_expression(expression: str, answer: str | None) -> None:
    assert BOOLEAN.parse(f"Expression: {expression}") == answer
    assert BOOLEAN.parse(f"Expression: y\nexpression:{expression}\nEnd.") == answer


def test_operators_that_are_not_allowed_are_not_read() -> None:
    assert Boolean(operators=("AND", "NOT")).parse("Expression: x OR y") is None
    assert BOOLEAN.parse("x AND y") is None


@st.composite
def written(draw: st.DrawFn, depth: int = 2) -> tuple[str, Tree]:
    """An expression as somebody may write it, and its canonical tree."""
    kind = draw(st.sampled_from(["leaf", "NOT", "AND", "OR"] if depth else ["leaf"]))
    if kind == "leaf":
        name = draw(st.sampled_from("xy"))
        return draw(st.sampled_from([name, name.upper(), f"({name})"])), name
    if kind == "NOT":
        text, tree = draw(written(depth - 1))
        return f"({draw(st.sampled_from(['NOT', 'not']))} ({text}))", ("NOT", frozenset({tree}))
    (left, one), (right, other) = draw(written(depth - 1)), draw(written(depth - 1))
    parts: set[Tree] = set()
    for part in (one, other):
        parts |= part[1] if part[0] == kind else {part}
    space = draw(st.sampled_from(["", " ", "  "]))
    text = f"({space}{left} {kind}{space} {right})"
    return text, (kind, frozenset(parts)) if len(parts) > 1 else next(iter(parts))


@settings(max_examples=150, deadline=None)
@given(example=written())
def test_every_way_of_writing_an_expression_has_its_key(example: tuple[str, Tree]) -> None:
    text, tree = example
    key = BOOLEAN.parse(f"Expression: {text}")
    assert key is not None
    assert tree_of(key) == tree


@settings(max_examples=150, deadline=None)
@given(example=written(4))
def test_a_deeper_expression_has_a_key_only_if_its_canonical_form_is_in_the_space(
    example: tuple[str, Tree],
) -> None:
    text, tree = example
    keys = [key for key in BOOLEAN.hypotheses if tree_of(key) == tree]
    assert BOOLEAN.parse(f"Expression: {text}") == (keys[0] if keys else None)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), keys=st.sampled_from([(task, key) for task in TASKS for key in task.hypotheses[::9]]))
def test_damaged_responses_are_read_as_a_hypothesis_or_as_none(
    data: st.DataObject, keys: tuple[Hypotheses, str]
) -> None:
    task, key = keys
    text = list(task.write(task.prompts[0], key))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.text(max_size=3))
    answer = task.parse("".join(text))
    assert answer is None or answer in task.hypotheses


@BY_NAME
@pytest.mark.parametrize(
    "piece",
    [
        "(", ")", "()", "NOT ", "NOT(", "(x AND ", "x AND ", "x OR y AND ", "A->B,", "->", ",", "Graph:",
        "graph: a", "Expression:", "expression: x or ", "BEGIN_STRUCTURE", "BEGIN_STRUCTURE END_STRUCTURE",
        "Layer 1:", "0 ", " ", "\n", "\x00", "\u0130", "\U0001f600",
    ],
)  # fmt: skip
def test_a_million_characters_are_read_without_an_answer_or_an_error(task: Hypotheses, piece: str) -> None:
    many = piece * (1_000_000 // len(piece))
    for text in (
        many,
        f"Expression: {many}",
        f"Graph: {many}",
        f"BEGIN_STRUCTURE Layer 1:{many}END_STRUCTURE",
    ):
        answer = task.parse(text)
        assert answer is None or answer in task.hypotheses


@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_parentheses_nest_without_end(depth: int) -> None:
    assert BOOLEAN.parse(f"Expression: {'(' * depth}x{')' * depth}") == "x"
    assert BOOLEAN.parse(f"Expression: {'(' * depth}x") is None
    assert BOOLEAN.parse(f"Expression: {'NOT (' * depth}x{')' * depth}") is None
    assert BOOLEAN.parse(f"Expression: {'(x AND ' * depth}y{')' * depth}") == "x AND y"


def test_a_repeated_edge_or_operand_counts_once_however_often_it_comes() -> None:
    assert CAUSAL.parse("Graph: A->B" + ", A->B" * 100_000) == "A->B"
    assert BOOLEAN.parse("Expression: x" + " OR y" * 20_000) == "x OR y"
