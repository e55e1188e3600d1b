"""Routes as SVG: whole, escaped, nothing on top of anything."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from allmodes.chem.retrosynthesis.drawing import draw_route

SVG = "{http://www.w3.org/2000/svg}"


def leaf(smiles: str, *, purchasable: bool = True) -> dict[str, Any]:
    return {"smiles": smiles, "purchasable": purchasable, "reaction": None}


def made(
    smiles: str, *precursors: dict[str, Any], name: str = "a name", kind: str = "a class"
) -> dict[str, Any]:
    reaction = {"name": name, "class": kind, "precursors": list(precursors)}
    return {"smiles": smiles, "purchasable": False, "reaction": reaction}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """The cards: left, top, right, bottom."""
    found = []
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        if "rx" in rect.attrib:
            x, y, w, h = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


DEEP = made(
    "CCCCCC",
    made("CCCC", leaf("CC"), made("CCC", leaf("C"), leaf("CO"), leaf("CN"))),
    leaf("CCO", purchasable=False),
    made("CCN", leaf("CBr")),
)


def test_a_target_that_can_be_bought_is_one_card_that_says_so() -> None:
    svg = draw_route(leaf("CCO"))
    assert texts(svg) == ["target · ✓ in stock"]
    assert len(boxes(svg)) == 1
    assert "Route of 0 steps to CCO" in svg


def test_every_molecule_and_reaction_is_there_in_words() -> None:
    svg = draw_route(
        made("CCO", leaf("CC"), leaf("O", purchasable=False), name="from a, with b", kind="made-up class")
    )
    assert sorted(texts(svg)) == sorted(
        ["target", "made-up class", "from a, with b", "✓ in stock", "✗ not in stock"]
    )
    assert "Route of 1 step to CCO" in svg
    words = texts(draw_route(DEEP))
    assert words.count("made") == 3
    assert words.count("✓ in stock") == 5
    assert words.count("✗ not in stock") == 1
    assert words.count("a class") == 4


def test_a_name_that_is_the_class_is_said_once() -> None:
    svg = draw_route(made("CCO", leaf("CC"), name="Heck reaction", kind="Heck reaction"))
    assert texts(svg).count("Heck reaction") == 1


def test_the_cards_lie_in_the_picture_and_apart() -> None:
    svg = draw_route(DEEP)
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    cards = boxes(svg)
    assert len(cards) == 10
    for index, (left, top, right, bottom) in enumerate(cards):
        assert 0 < left < right < width
        assert 0 < top < bottom < height
        for other in cards[index + 1 :]:
            assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top


def test_precursors_lie_right_of_their_product_and_it_in_their_middle() -> None:
    (target, first, second) = boxes(draw_route(made("CCO", leaf("CC"), leaf("O"))))
    assert first[0] == second[0] > target[2]
    assert (first[1] + second[1]) / 2 == target[1]


@pytest.mark.parametrize("text", ["<script>x</script>", 'a"b', "a & b", "']]>"])
def test_names_are_escaped(text: str) -> None:
    svg = draw_route(made("CCO", leaf("CC"), name=text, kind=text + "!"))
    shown = " ".join(texts(svg))
    assert text in shown
    assert "<script" not in svg


def test_a_long_name_is_cut_in_the_picture_and_whole_in_the_tooltip() -> None:
    name = "a reaction that somebody has given " + "a very long name " * 9
    svg = draw_route(made("CCO", leaf("CC"), name=name.strip()))
    shown = [text for text in texts(svg) if text not in {"target", "✓ in stock", "a class"}]
    assert len(shown) == 4
    assert shown[-1].endswith("…")
    assert max(map(len, shown)) <= 22
    assert name.strip() in svg


def test_it_stands_alone() -> None:
    svg = draw_route(DEEP)
    assert not re.search(r"href|url\(|<style|<image|<foreignObject", svg)
    assert set(re.findall(r"https?://[^\s\"']+", svg)) <= {"http://www.w3.org/2000/svg"}
