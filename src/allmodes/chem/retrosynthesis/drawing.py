"""A route as one SVG: the target on the left, its precursors on the right."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, final

from allmodes.chem.reporting.figures import draw_molecule

_WIDTH, _HEIGHT = 180, 134  # of a molecule's card, in SVG units
_NOTE = 22  # of the card's height, below the molecule, for what is said of it
_GAP = 18  # between cards of one column
_STEP = 158  # between columns: room for the name of a reaction
_MARGIN = 8
_CHARACTERS, _LINES = 22, 4  # of a reaction's name; what is longer is cut
_LINE = 14  # height of a line of text
_INK, _FAINT, _BUY, _MISSING = "#333333", "#8a8a8a", "#1a6f3c", "#a33a2a"


@final
@dataclass(frozen=True, kw_only=True)
class _Card:
    """A molecule and where it is drawn: left edge, and middle of its row."""

    node: dict[str, Any]
    left: float
    middle: float
    precursors: tuple["_Card", ...]


def draw_route(route: dict[str, Any]) -> str:
    """A route (`{"smiles", "purchasable", "reaction"}`, nested) as a self-contained SVG with a viewBox.

    Beside the arrow of each reaction stand its class and its name; what can be bought says so. All text is
    escaped. The SMILES must be ones that RDKit reads.
    """
    target = _place(route, left=_MARGIN, row=0)
    cards = list(_all(target))
    width = max(card.left for card in cards) + _WIDTH + _MARGIN
    height = max(card.middle for card in cards) + _HEIGHT / 2 + _MARGIN
    steps = sum(bool(card.precursors) for card in cards)
    title = escape(f"Route of {steps} step{'' if steps == 1 else 's'} to {route['smiles']}")
    drawn = "".join(_draw_reaction(card) + _draw_card(card, is_target=card is target) for card in cards)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">'
        f"<title>{title}</title>{drawn}</svg>"
    )


def _place(node: dict[str, Any], *, left: float, row: int) -> _Card:
    """The card of a molecule and those of all below it, whose first leaf is in `row`."""
    precursors: list[_Card] = []
    below = row
    for precursor in (node["reaction"] or {"precursors": []})["precursors"]:
        precursors.append(_place(precursor, left=left + _WIDTH + _STEP, row=below))
        below += _leaves(precursor)
    if precursors:
        middle = (precursors[0].middle + precursors[-1].middle) / 2
    else:
        middle = _MARGIN + _HEIGHT / 2 + row * (_HEIGHT + _GAP)
    return _Card(node=node, left=left, middle=middle, precursors=tuple(precursors))


def _leaves(node: dict[str, Any]) -> int:
    return 1 if node["reaction"] is None else sum(map(_leaves, node["reaction"]["precursors"]))


def _all(card: _Card) -> Iterator[_Card]:
    yield card
    for precursor in card.precursors:
        yield from _all(precursor)


def _draw_card(card: _Card, *, is_target: bool) -> str:
    top = card.middle - _HEIGHT / 2
    if card.node["purchasable"]:
        edge, words = _BUY, "✓ in stock"
    elif card.precursors:
        edge, words = _FAINT, "" if is_target else "made"
    else:
        edge, words = _MISSING, "✗ not in stock"
    words = " · ".join(filter(None, ["target" if is_target else "", words]))
    dashed = ' stroke-dasharray="4 3"' if not card.node["purchasable"] else ""
    molecule = draw_molecule(card.node["smiles"], width=_WIDTH - 8, height=_HEIGHT - _NOTE - 4, bond=20)
    return (
        f'<g><title>{escape(card.node["smiles"])}</title><rect x="{card.left:g}" y="{top:g}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#ffffff" stroke="{edge}"{dashed}/>'
        f'<svg x="{card.left + 4:g}" y="{top + 2:g}" width="{_WIDTH - 8}" height="{_HEIGHT - _NOTE - 4}">'
        f"{molecule}</svg>" + _text(card.left + _WIDTH / 2, top + _HEIGHT - 7, words, colour=edge) + "</g>"
    )


def _draw_reaction(card: _Card) -> str:
    """Lines from the precursors to the head of an arrow at the product, with class and name around it."""
    if not card.precursors:
        return ""
    reaction = card.node["reaction"]
    start, join, y = card.left + _WIDTH, card.left + _WIDTH + _STEP - 12, card.middle
    to_join = "".join(f"M{part.left:g} {part.middle:g}H{join:g}V{y:g}" for part in card.precursors)
    head = f"M{start + 3:g} {y:g}l9 -4.5v9z"
    middle = (start + join) / 2 + 4
    above = textwrap.wrap(reaction["class"], _CHARACTERS)
    name = "" if reaction["name"] == reaction["class"] else reaction["name"]
    below = textwrap.wrap(name, _CHARACTERS, max_lines=_LINES, placeholder=" …")
    lines = [
        _text(middle, y - 8 - _LINE * (len(above) - 1 - index), line, colour=_INK, bold=True)
        for index, line in enumerate(above)
    ]
    lines += [_text(middle, y + 16 + _LINE * index, line, colour=_INK) for index, line in enumerate(below)]
    return (
        f"<g><title>{escape(reaction['name'])}</title>"
        f'<path d="{to_join}M{join:g} {y:g}H{start + 3:g}" fill="none" stroke="{_INK}" stroke-width="1.2"/>'
        f'<path d="{head}" fill="{_INK}"/>{"".join(lines)}</g>'
    )


def _text(x: float, y: float, text: str, *, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{colour}"{weight}>{escape(text)}</text>'
