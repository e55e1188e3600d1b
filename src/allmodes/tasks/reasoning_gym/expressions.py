"""Arithmetic over whole numbers: expressions in one canonical form, read from texts and enumerated.

Two expressions are the same where these laws turn one into the other: + and × are commutative and
associative, a − b = a + (−b), a / b = a · (1/b), and signs move freely, −(a − b) = b − a and (−a)·b = −(a·b).
Nothing else is simplified: 2·(3 + 4) and 2·3 + 2·4 are two, and so are 5 and 5·1.
"""

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple, final

LONGEST = 2000  # characters of an expression that is read
_DIGITS = "0123456789"
_LISTED = 4  # numbers of which all expressions are listed; of more those with a wanted value
_PART = re.compile(r"[0-9]{1,12}|\S")  # a longer number is two without an operator
_BINDS = {"(": 0, ")": 1, "+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}


class Expression(NamedTuple):
    """A canonical expression without its sign, so that its value is not negative.

    text: equal for equal expressions alone, and read again as the same. place: where it stands among others.
    first, second: the terms that a sum adds and subtracts, or the factors that a product multiplies and
    divides by; of a number none. mirrored: whether it is its own negative, as 3 − 3 is, so that a sign before
    it says nothing.
    """

    kind: Literal["number", "sum", "product"]
    value: Fraction
    text: str
    place: tuple[float, str]
    first: tuple["Expression", ...] = ()
    second: tuple["Expression", ...] = ()
    mirrored: bool = False


Signed = tuple[int, Expression]  # 1 or −1, and what it stands before


def signed_text(given: Signed) -> str:
    """How a signed expression is written."""
    sign, part = given
    return part.text if sign > 0 else f"-{_factor(part)}"


@lru_cache(maxsize=1000)
def number(value: int) -> Signed:
    """A whole number that is not negative."""
    return 1, Expression("number", Fraction(value), str(value), (-float(value), str(value)))


def _place(part: Expression) -> tuple[float, str]:
    return part.place


def _placed(value: Fraction, text: str) -> tuple[float, str]:
    """The largest first; the text where floats are equal."""
    try:
        return -(value.numerator / value.denominator), text
    except OverflowError:
        return -math.inf, text


def added(one: Signed, other: Signed) -> Signed:
    """The sum of two."""
    plus: list[Expression] = []
    minus: list[Expression] = []
    fixed: list[Expression] = []  # terms whose sign says nothing
    for sign, part in (one, other):
        upper, lower = (part.first, part.second) if part.kind == "sum" else ((part,), ())
        for is_plus, terms in ((sign > 0, upper), (sign < 0, lower)):
            for term in terms:
                (fixed if term.mirrored else plus if is_plus else minus).append(term)
    value = _value(one) + _value(other)
    names = [sorted(term.text for term in terms) for terms in (plus, minus)]
    is_mirrored = names[0] == names[1]
    # Of a sum and its negative, the positive one; of value 0 the one that has terms to add, or by name.
    above = value.numerator
    swaps = above < 0 or (above == 0 and (not plus or (bool(minus) and names[1] < names[0])))
    if swaps:
        value, plus, minus = -value, minus, plus
    plus = sorted([*plus, *fixed], key=_place)
    minus.sort(key=_place)
    text = " + ".join(term.text for term in plus) + "".join(f" - {term.text}" for term in minus)
    sign = -1 if swaps and not is_mirrored else 1
    return sign, Expression(
        "sum", value, text, _placed(value, text), tuple(plus), tuple(minus), mirrored=is_mirrored
    )


def multiplied(one: Signed, other: Signed, *, divides: bool = False) -> Signed | None:
    """The product of two, or their quotient; None for a division by 0."""
    left, right = one[1], other[1]
    if divides and not right.value:
        return None
    upper, lower = _factors(left)
    more = _factors(right)
    over = [*upper, *more[divides]]
    under = [*lower, *more[not divides]]
    over.sort(key=_place)
    under.sort(key=_place)
    text = "*".join(map(_factor, over)) + "".join(f"/{_factor(part)}" for part in under)
    value = left.value / right.value if divides else left.value * right.value
    is_mirrored = any(part.mirrored for part in over)
    sign = 1 if is_mirrored else one[0] * other[0]
    return sign, Expression(
        "product", value, text, _placed(value, text), tuple(over), tuple(under), mirrored=is_mirrored
    )


def _value(given: Signed) -> Fraction:
    return given[1].value if given[0] > 0 else -given[1].value


def _factors(part: Expression) -> tuple[tuple[Expression, ...], tuple[Expression, ...]]:
    return (part.first, part.second) if part.kind == "product" else ((part,), ())


def _factor(part: Expression) -> str:
    return f"({part.text})" if part.kind == "sum" else part.text


def read_expression(text: str) -> tuple[Signed, tuple[int, ...]] | None:
    """An expression of numbers, + - * /, minus signs and parentheses, and its numbers; None for all else.

    An operator-precedence parser with its own stack: nesting has no limit but that of the text's length.
    """
    if len(text) > LONGEST:
        return None
    values: list[Signed] = []
    waiting: list[str] = []  # operators and open parentheses
    numbers: list[int] = []
    wants_operand = True
    for part in _PART.findall(text):
        if wants_operand and part in "(-":
            waiting.append("negative" if part == "-" else part)
        elif wants_operand:
            if part[0] not in _DIGITS:
                return None
            numbers.append(int(part))
            values.append(number(numbers[-1]))
            wants_operand = False
        elif part not in "+-*/)" or not _reduce(values, waiting, _BINDS[part]):
            return None
        elif part != ")":
            waiting.append(part)
            wants_operand = True
        elif not waiting:
            return None
        else:
            waiting.pop()
    if wants_operand or not _reduce(values, waiting, 1) or waiting:
        return None
    return values[0], tuple(numbers)


def _reduce(values: list[Signed], waiting: list[str], binds: int) -> bool:
    """Apply the operators on top that bind at least so tightly; False for a division by 0."""
    while waiting and _BINDS[waiting[-1]] >= binds:
        operator = waiting.pop()
        other = values.pop()
        if operator == "negative":
            values.append(_negative(other))
            continue
        one = values.pop()
        if operator in "+-":
            values.append(added(one, other if operator == "+" else _negative(other)))
        else:
            found = multiplied(one, other, divides=operator == "/")
            if found is None:
                return False
            values.append(found)
    return True


def _negative(given: Signed) -> Signed:
    sign, part = given
    return (sign if part.mirrored else -sign), part


def solutions(numbers: Sequence[int], target: int) -> tuple[str, ...]:
    """All canonical expressions of `numbers`, each used once, whose exact value is `target`, sorted.

    numbers: above 0; target: above 0.
    """
    search = _Search(numbers)
    return tuple(sorted(one.text for one in search.found(frozenset(range(len(numbers))), Fraction(target))))


@final
class _Search:
    """Expressions of some numbers, each known by its place among them.

    All are listed for up to four numbers. One of more numbers joins a part with a rest; the smaller of both
    is listed, and the other looked for by the value that it must have.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._listed: dict[frozenset[int], list[Expression]] = {}
        for size in range(1, min(len(numbers), _LISTED) + 1):
            for chosen in map(frozenset, combinations(range(len(numbers)), size)):
                if size == 1:
                    self._listed[chosen] = [number(numbers[min(chosen)])[1]]
                else:
                    self._listed[chosen] = self._all(chosen)
        self._by_value = {chosen: _by_value(listed) for chosen, listed in self._listed.items()}
        self._found: dict[tuple[frozenset[int], Fraction], list[Expression]] = {}

    def found(self, chosen: frozenset[int], value: Fraction) -> list[Expression]:
        """The expressions of the numbers at these places that have a value."""
        if chosen in self._by_value:
            return self._by_value[chosen].get(value, [])
        if (chosen, value) not in self._found:
            pairs = (pair for part, rest in _splits(chosen) for pair in self._pairs(part, rest, value))
            joined = (one for pair in pairs for one in _joined(*pair) if one.value == value)
            self._found[chosen, value] = list({one.text: one for one in joined}.values())
        return self._found[chosen, value]

    def _pairs(
        self, part: frozenset[int], rest: frozenset[int], value: Fraction
    ) -> Iterator[tuple[Expression, Expression]]:
        """An expression of the part and one of the rest that some operation may take to the value."""
        if len(part) <= len(rest):
            for one in self._listed[part]:
                yield from ((one, other) for other in self._partners(one, rest, value))
        else:
            for other in self._listed[rest]:
                yield from ((one, other) for one in self._partners(other, part, value))

    def _partners(self, one: Expression, rest: frozenset[int], value: Fraction) -> Iterator[Expression]:
        if (
            value == 0 and one.value == 0
        ):  # 0 times anything; at most five numbers in all, two of them in `one`
            yield from self._listed[rest]
            return
        needed = {abs(value - one.value), value + one.value}  # of a sum or a difference
        if one.value:
            needed |= {value / one.value, value * one.value}
            needed |= {one.value / value} if value else set()
        for other in needed:
            yield from self.found(rest, other)

    def _all(self, chosen: frozenset[int]) -> list[Expression]:
        """All expressions of the numbers at these places; equal ones once."""
        joined = (
            made
            for part, rest in _splits(chosen)
            for one in self._listed[part]
            for other in self._listed[rest]
            for made in _joined(one, other)
        )
        return list({made.text: made for made in joined}.values())


def _by_value(expressions: Sequence[Expression]) -> dict[Fraction, list[Expression]]:
    found: dict[Fraction, list[Expression]] = {}
    for one in expressions:
        found.setdefault(one.value, []).append(one)
    return found


def _splits(chosen: frozenset[int]) -> Iterator[tuple[frozenset[int], frozenset[int]]]:
    """The divisions into a part that holds the first place, and a rest."""
    first, *others = sorted(chosen)
    for size in range(len(others)):
        for more in combinations(others, size):
            part = frozenset((first, *more))
            yield part, chosen - part


def _joined(one: Expression, other: Expression) -> Iterator[Expression]:
    """All that can be made of two, but for signs: sum and difference, product and both quotients.

    The first holds the first number, and as the only term or factor that does, it is no sum or no product.
    """
    if one.kind != "sum":
        yield added((1, one), (1, other))[1]
        yield added((1, one), (-1, other))[1]
    if one.kind != "product":
        for dividend, divisor, divides in ((one, other, False), (one, other, True), (other, one, True)):
            product = multiplied((1, dividend), (1, divisor), divides=divides)
            if product is not None:
                yield product[1]
