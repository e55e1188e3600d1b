"""Boolean programs: which expressions agree with the observed inputs and outputs?"""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import NamedTuple, final

from allmodes.errors import InputError
from allmodes.tasks.hypospace.hypotheses import MOST_PAIRS, Hypotheses, last_answer

OPERATORS = ("AND", "OR", "NOT")
_BINDS = {"(": 0, "OR": 1, "AND": 2, "NOT": 3}
_REMEMBERED = 100_000  # operators on hypotheses; all of them for the paper's settings
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LABEL = "Expression:"


class Node(NamedTuple):
    """A canonical expression: its text, its outermost operator and what that joins, and its depth."""

    text: str
    operator: str | None
    operands: tuple["Node", ...]
    depth: int


@final
class Boolean(Hypotheses):
    """All expressions of variables and operators that are at most `max_depth` operators deep.

    An observation is the output for some of the inputs, all sets of them that at least one expression
    explains. A response answers with the last `Expression: x AND NOT y` in it, to the end of its line: in any
    case, with any spaces. NOT binds before AND, and AND before OR. The key is the canonical text: nested
    operators of one kind are one (x AND (y AND z)), operands are sorted, come once, and one alone stands for
    itself. Nothing else is simplified: x and NOT NOT x are two hypotheses. An expression whose canonical form
    no expression of `max_depth` has, unknown variables, and operators that are not allowed are no hypothesis.

    Raises InputError for variables that are not 1 to 3 different names (ignoring case) apart from the
    operators, for no or unknown operators, max_depth outside 0 to 3, or too many expressions.

    >>> task = Boolean(max_depth=1)
    >>> task.parse("Expression: y and x"), len(task.known_answers(task.prompts[0]))
    ('x AND y', 4)
    """

    name = "hypospace-boolean"

    def __init__(
        self,
        variables: Sequence[str] = ("x", "y"),
        operators: Sequence[str] = OPERATORS,
        max_depth: int = 2,
    ) -> None:
        _check(variables, operators, max_depth)
        self._variables = tuple(variables)
        leaves = [Node(name, None, (), 0) for name in variables]
        self._leaves = {leaf.text.lower(): leaf.text for leaf in leaves}
        self._operators = {name.lower(): name for name in operators}
        inputs = list(product((False, True), repeat=len(variables)))
        values = {
            leaf.text: tuple(column) for leaf, column in zip(leaves, zip(*inputs, strict=True), strict=True)
        }
        nodes = _expressions(leaves, operators, max_depth)
        self._nodes = {node.text: node for node in nodes}
        self._applied: dict[tuple[str, ...], str | None] = {}  # what `_apply` has found
        if len(nodes) * (2 ** len(inputs) - 1) > MOST_PAIRS:
            raise InputError(
                f"`variables` and `max_depth` must give at most {MOST_PAIRS:,} pairs of an observation and "
                f"an expression; got {len(nodes):,} expressions of {len(variables)} variables"
            )
        instances: dict[tuple[tuple[int, bool], ...], list[str]] = {}
        for node in nodes:  # by depth, so that the values of the operands are there
            if node.operator is not None:
                columns = [values[operand.text] for operand in node.operands]
                values[node.text] = tuple(_value(node.operator, row) for row in zip(*columns, strict=True))
            outputs = list(enumerate(values[node.text]))
            for count in range(1, len(outputs) + 1):
                for seen in combinations(outputs, count):
                    instances.setdefault(seen, []).append(node.text)
        prompts = {
            seen: _prompt(self._variables, operators, max_depth, [(inputs[i], out) for i, out in seen])
            for seen in sorted(instances, key=lambda seen: (len(seen), seen))
        }
        super().__init__(
            {prompt: instances[seen] for seen, prompt in prompts.items()},
            sizes={node.text: len(node.text) for node in nodes},
        )

    def parse(self, response: str) -> str | None:
        """The key of the last expression."""
        line = last_answer(response, "expression:")
        return None if line is None else self._canonical(line)

    def _canonical(self, text: str) -> str | None:
        """The key of an expression; None for what is none or outside the space.

        An operator-precedence parser with its own stack. Parts of a hypothesis are hypotheses: the space is
        closed under taking operands away. So a part outside the space ends the reading, and no value is ever
        larger than the largest hypothesis.
        """
        values: list[str] = []  # keys
        waiting: list[str] = []  # NOT, AND, OR and open parentheses that still wait for an operand
        wants_operand = True
        for token in _TOKEN.findall(text):
            operator = self._operators.get(token)
            if wants_operand:
                if token == "(" or operator == "NOT":  # noqa: S105  # a token, and no secret
                    waiting.append(operator or token)
                    continue
                leaf = self._leaves.get(token)
                if leaf is None:
                    return None
                values.append(leaf)
                wants_operand = False
            elif operator is not None and operator != "NOT":
                if not self._reduce(values, waiting, _BINDS[operator]):
                    return None
                waiting.append(operator)
                wants_operand = True
            elif token == ")":  # noqa: S105  # as above
                if not self._reduce(values, waiting, 1) or not waiting:
                    return None
                waiting.pop()
            else:
                return None
        if wants_operand or not self._reduce(values, waiting, 1) or waiting:
            return None
        return values[0]

    def _reduce(self, values: list[str], waiting: list[str], binds: int) -> bool:
        """Apply the operators on top that bind at least so tightly; False if that leaves the space."""
        while waiting and _BINDS[waiting[-1]] >= binds:
            operator = waiting.pop()
            operands = (values.pop(),) if operator == "NOT" else (values.pop(), values.pop())
            key = self._apply(operator, *operands)
            if key is None:
                return False
            values.append(key)
        return True

    def _apply(self, operator: str, *operands: str) -> str | None:
        """The key of an operator on hypotheses, None outside the space."""
        try:
            return self._applied[operator, *operands]
        except KeyError:
            nodes = [self._nodes[key] for key in operands]
        text = (_not(nodes[0]) if operator == "NOT" else _join(operator, nodes)).text
        key = text if text in self._nodes else None
        if len(self._applied) < _REMEMBERED:
            self._applied[operator, *operands] = key
        return key

    def _response(self, key: str) -> str:
        return f"{_LABEL} {key}"

    def _broken(self, key: str) -> Sequence[str]:
        return [
            key,  # no label
            f"{_LABEL} ({key}",
            f"{_LABEL} {key})",
            f"{_LABEL} {key} AND",
            f"{_LABEL} {key} XOR {self._variables[0]}",
            f"{_LABEL} {key} {self._variables[-1]}",
            f"{_LABEL} ",
        ]


def _not(node: Node) -> Node:
    text = f"NOT ({node.text})" if node.operator in ("AND", "OR") else f"NOT {node.text}"
    return Node(text, "NOT", (node,), node.depth + 1)


def _join(operator: str, nodes: Iterable[Node]) -> Node:
    """AND or OR of canonical expressions, canonical again."""
    operands: dict[str, Node] = {}
    for node in nodes:
        for operand in node.operands if node.operator == operator else (node,):
            operands[operand.text] = operand
    if len(operands) == 1:
        return next(iter(operands.values()))
    joined = tuple(sorted(operands.values(), key=lambda node: (len(node.text), node.text)))
    text = f" {operator} ".join(
        f"({node.text})" if node.operator in ("AND", "OR") else node.text for node in joined
    )
    return Node(text, operator, joined, 1 + max(node.depth for node in joined))


def _value(operator: str, values: Sequence[bool]) -> bool:
    return not values[0] if operator == "NOT" else all(values) if operator == "AND" else any(values)


def _expressions(leaves: Sequence[Node], operators: Sequence[str], max_depth: int) -> list[Node]:
    """Every canonical expression with at most `max_depth` levels of unary or binary operators, by depth."""
    found = {leaf.text: leaf for leaf in leaves}
    for _ in range(max_depth):
        made = list(found.values())
        if "NOT" in operators:
            found |= {node.text: node for node in map(_not, made)}
        for operator in ("AND", "OR"):
            if operator in operators:
                found |= {node.text: node for node in (_join(operator, p) for p in combinations(made, 2))}
    return sorted(found.values(), key=lambda node: node.depth)


def _check(variables: Sequence[str], operators: Sequence[str], max_depth: int) -> None:
    names = {name.lower() for name in variables}
    if (
        not 1 <= len(variables) <= 3
        or len(names) < len(variables)
        or names & {"and", "or", "not"}
        or not all(name.isascii() and name.isidentifier() for name in variables)
    ):
        raise InputError(
            "`variables` must be one to three different names of letters and digits, none of them an "
            f"operator; got {list(variables)}"
        )
    if not operators or not set(operators) <= set(OPERATORS) or len(set(operators)) < len(operators):
        raise InputError(f"`operators` must be some of {', '.join(OPERATORS)}; got {list(operators)}")
    if not 0 <= max_depth <= 3:
        raise InputError(f"`max_depth` must lie between 0 and 3; got {max_depth}")


def _prompt(
    variables: Sequence[str],
    operators: Sequence[str],
    max_depth: int,
    seen: Sequence[tuple[Sequence[bool], bool]],
) -> str:
    rows = [
        ", ".join(f"{name}={value:d}" for name, value in zip(variables, inputs, strict=True)) + f" -> {out:d}"
        for inputs, out in seen
    ]
    return "\n".join(
        (
            f"Find a Boolean expression of {', '.join(variables)} that gives these outputs:",
            *rows,
            f"Use {', '.join(operators)} and parentheses, operators at most {max_depth} deep. Answer with "
            "one line of this form:",
            f"{_LABEL} <your expression>",
        )
    )
