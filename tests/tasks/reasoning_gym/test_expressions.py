"""Canonical expressions: equal where the laws say so and nowhere else, and all of them enumerated."""

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.tasks.reasoning_gym.expressions import LONGEST, read_expression, signed_text, solutions

Tree = int | tuple[str, "Tree", "Tree"]


def canonical(text: str) -> str | None:
    read = read_expression(text)
    return None if read is None else signed_text(read[0])


def written(tree: Tree) -> str:
    """With all parentheses."""
    return str(tree) if isinstance(tree, int) else f"({written(tree[1])} {tree[0]} {written(tree[2])})"


def value(tree: Tree) -> Fraction | None:
    """By its definition; None where it divides by 0."""
    if isinstance(tree, int):
        return Fraction(tree)
    one, other = value(tree[1]), value(tree[2])
    if one is None or other is None or (tree[0] == "/" and other == 0):
        return None
    return (
        {"+": one + other, "-": one - other, "*": one * other}.get(tree[0]) if tree[0] != "/" else one / other
    )


def trees(numbers: tuple[int, ...]) -> Iterator[Tree]:
    """Every expression tree over the numbers in every order, straight from the definition."""
    if len(numbers) == 1:
        yield numbers[0]
    places = range(len(numbers))
    for size in range(1, len(numbers)):
        for chosen in combinations(places, size):
            left = tuple(numbers[place] for place in chosen)
            right = tuple(numbers[place] for place in places if place not in chosen)
            for one in trees(left):
                for other in trees(right):
                    yield from ((operator, one, other) for operator in "+-*/")


@pytest.mark.parametrize(
    ("numbers", "count"),
    [((104729, 224737), 6), ((104729, 224737, 350377), 68), ((104729, 224737, 350377, 1299709), 1170)],
)
def test_forms_and_values_are_one_to_one_for_numbers_without_relations(
    numbers: tuple[int, ...], count: int
) -> None:
    """With each number once, two expressions are equal as functions only by the laws (read-once formulas).

    For large primes without relations the values stand for the functions. Their number is OEIS A140606.
    """
    forms: dict[str, Fraction] = {}
    for tree in trees(numbers):
        known = value(tree)
        text = canonical(written(tree))
        assert known is not None
        assert text is not None
        assert forms.setdefault(text, known) == known
    assert len(forms) == len(set(forms.values())) == count


@pytest.mark.parametrize(
    ("numbers", "targets"),
    [((1, 2, 3), range(1, 10)), ((2, 2, 4), range(1, 20)), ((3, 3, 3), range(1, 12)),
     ((1, 1, 2, 3), (1, 2, 6)), ((2, 2, 4, 4), (4, 6, 10)), ((5, 5, 5, 1), (24, 25))],
)  # fmt: skip
def test_all_solutions_are_found_and_no_others(numbers: tuple[int, ...], targets: range) -> None:
    """Against every tree of the definition, evaluated in fractions; with equal numbers, and zeros within."""
    by_target: dict[Fraction, set[str]] = {}
    for tree in trees(numbers):
        known = value(tree)
        text = canonical(written(tree))
        assert (text is None) == (known is None)
        if known is not None:
            by_target.setdefault(known, set()).add(str(text))
    for target in targets:
        assert set(solutions(numbers, target)) == by_target.get(Fraction(target), set()), target


def test_five_and_six_numbers_are_searched_completely() -> None:
    """What is built from other solutions of theirs is found: a sample of trees with the target they have."""
    generator = random.Random(1)
    for size in (5, 6):
        numbers = tuple(generator.randint(1, 9) for _ in range(size))
        found: dict[int, set[str]] = {}
        for _ in range(60):
            parts: list[Tree] = list(numbers)
            while len(parts) > 1:
                one, other = (parts.pop(generator.randrange(len(parts))) for _ in range(2))
                parts.append((generator.choice("+-*/"), one, other))
            known = value(parts[0])
            if known is None or known.denominator > 1 or not 0 < known < 40:
                continue
            target = int(known)
            if target not in found and len(found) == 4:
                continue
            if target not in found:
                found[target] = set(solutions(numbers, target))
            assert canonical(written(parts[0])) in found[target]
        for target, texts in found.items():
            for text in texts:
                (sign, expression), used = read_expression(text) or pytest.fail(text)
                assert (sign * expression.value, sorted(used)) == (target, sorted(numbers))
                assert expression.text == text


NUMBERS = st.integers(1, 4)
TREES = st.recursive(NUMBERS, lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner), max_leaves=7)


def rewritten(tree: Tree, draw: random.Random) -> str:
    """The same by the laws: operands change places, signs move, parentheses come and go."""
    if isinstance(tree, int):
        return str(tree)
    operator, left, right = tree
    one, other = rewritten(left, draw), rewritten(right, draw)
    forms = {
        "+": [f"({one} + {other})", f"({other} + {one})", f"({one} - (-{other}))", f"-(-{one} - {other})"],
        "-": [f"({one} - {other})", f"(-{other} + {one})", f"-({other} - {one})", f"({one} + (-{other}))"],
        "*": [f"({one} * {other})", f"({other}*{one})", f"(-{one} * -{other})", f"-(-{one} * {other})"],
        "/": [f"({one} / {other})", f"(-{one} / -{other})", f"-({one}/(-{other}))"],
    }
    found = draw.choice(forms[operator])
    return f"(({found}))" if draw.random() < 0.2 else found if found[0] == "(" else f"({found})"


@settings(max_examples=300, deadline=None)
@given(tree=TREES, seed=st.integers(0, 1000))
def test_what_the_laws_make_of_an_expression_is_the_same(tree: Tree, seed: int) -> None:
    known, text = value(tree), canonical(written(tree))
    assert canonical(rewritten(tree, random.Random(seed))) == text
    if known is None:
        assert text is None
        return
    assert text is not None
    (sign, expression), _ = read_expression(text) or pytest.fail(text)
    assert sign * expression.value == known
    assert canonical(expression.text) == expression.text


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1 + 2 + 3", "3 + (2 + 1)", True),
        ("8 - (3 - 2)", "8 - 3 + 2", True),
        ("6/(2/3)", "6*3/2", True),
        ("6/2/3", "6/(3*2)", True),
        ("(5 - 2)*(4 - 1)", "(2 - 5)*(1 - 4)", True),
        ("7 - (5 - 2)*3", "7 + (2 - 5)*3", True),
        ("7 + (3 - 3)*2", "7 - (3 - 3)*2", True),  # 3 − 3 is its own negative
        ("7 + (1 + 2 - 3)*4", "7 - (1 + 2 - 3)*4", False),  # this is not, though it is 0, too
        ("2*(3 + 4)", "2*3 + 2*4", False),
        ("5*1", "5", False),
        ("2 + 2", "2*2", False),
    ],
)
def test_what_is_the_same(one: str, other: str, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same
    assert canonical(one) is not None


@pytest.mark.parametrize(
    "text",
    ["", " ", "1 +", "+ 1", "1 2", "(1", "1)", "()", "1 = 1", "2**3", "2^3", "1.5", "x", "1/0", "1/(2 - 2)",
     "١ + 1", "sqrt(4)", "__import__('os')", "1234567890123", "2(3)", "-", "(-)", "1 -- ", "\x00",
     "1" * 5000],
)  # fmt: skip
def test_what_is_no_expression(text: str) -> None:
    assert read_expression(text) is None


def test_deep_and_long_texts_are_read_or_refused() -> None:
    deep = LONGEST // 2 - 1
    assert canonical("(" * deep + "7" + ")" * deep) == "7"
    assert canonical("-" * (LONGEST - 1) + "7") == "-7"
    assert canonical("(" * 10_000 + "7" + ")" * 10_000) is None
    assert canonical("9" * 12 + "*9" * 900) is not None
    assert canonical("1/9" * 1) == "1/9"
    assert canonical("1" + "/9" * 900) is not None


def test_numbers_in_any_order_have_the_same_solutions() -> None:
    expected = solutions((3, 7, 25, 50, 8), 432)
    assert len(expected) == 3
    assert "(50 + (25 + 3)/7)*8" in expected
    for order in list(permutations((3, 7, 25, 50, 8)))[::40]:
        assert solutions(order, 432) == expected
    assert solutions((7,), 7) == ("7",)
    assert solutions((7,), 8) == ()
