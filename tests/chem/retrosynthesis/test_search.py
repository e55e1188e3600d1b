"""Retro* against routes that are known by hand and against an exhaustive search."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from syntheseus.interface.bag import Bag
from syntheseus.interface.models import BackwardReactionModel
from syntheseus.interface.molecule import Molecule
from syntheseus.interface.reaction import SingleProductReaction

import allmodes
from allmodes.chem.retrosynthesis.model import TemplateModel, make_reaction
from allmodes.chem.retrosynthesis.search import Route, find_route
from allmodes.chem.retrosynthesis.stock import Stock, stock_of
from allmodes.chem.retrosynthesis.templates import TemplateSet

# Made-up chemistry of chains: a molecule is its number of carbons.
Step = tuple[int, tuple[int, ...], str, float]


class Chains(BackwardReactionModel):
    """Steps given as product, precursors, class, cost; counts what it is asked."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(use_cache=True)
        self._steps = steps
        self.asked: list[int] = []

    def _get_reactions(self, inputs: list[Molecule], num_results: int) -> list[Any]:
        self.asked += [len(molecule.smiles) for molecule in inputs]
        return [
            [
                make_reaction(
                    molecule, ["C" * n for n in precursors], name=f"{kind}!", reaction_class=kind, cost=cost
                )
                for product, precursors, kind, cost in self._steps
                if "C" * product == molecule.smiles
            ]
            for molecule in inputs
        ]


def stock_of_chains(*lengths: int) -> Stock:
    return stock_of("C" * length for length in lengths)


def solve(
    target: int, model: BackwardReactionModel, stock: Stock, *, steps: int = 9, expansions: int = 99
) -> Route:
    return find_route("C" * target, model, stock, max_steps=steps, max_expansions=expansions)


def test_a_purchasable_target_takes_no_step_and_no_expansion() -> None:
    model = Chains((5, (4, 1), "a", 1.0))
    route = solve(5, model, stock_of_chains(5))
    assert route == Route(
        node={"smiles": "CCCCC", "purchasable": True, "reaction": None}, steps=0, classes=()
    )
    assert route.solved
    assert model.asked == []


def test_a_route_is_the_nested_tree_of_its_reactions() -> None:
    model = Chains((5, (2, 3), "b", 1.0), (3, (1, 2), "a", 1.0))
    assert solve(5, model, stock_of_chains(1, 2)) == Route(
        node={
            "smiles": "CCCCC",
            "purchasable": False,
            "reaction": {
                "name": "b!",
                "class": "b",
                "precursors": [
                    {"smiles": "CC", "purchasable": True, "reaction": None},
                    {
                        "smiles": "CCC",
                        "purchasable": False,
                        "reaction": {
                            "name": "a!",
                            "class": "a",
                            "precursors": [
                                {"smiles": "C", "purchasable": True, "reaction": None},
                                {"smiles": "CC", "purchasable": True, "reaction": None},
                            ],
                        },
                    },
                ],
            },
        },
        steps=2,
        classes=("a", "b"),
    )
    assert model.asked == [5, 3]  # what can be bought is not taken apart


def test_a_precursor_that_is_needed_twice_is_there_twice() -> None:
    route = solve(4, Chains((4, (2, 2), "a", 1.0)), stock_of_chains(2))
    assert route.node is not None
    assert [one["smiles"] for one in route.node["reaction"]["precursors"]] == ["CC", "CC"]
    assert route.steps == 1


def test_no_route_is_no_route() -> None:
    route = solve(5, Chains((5, (2, 3), "b", 1.0)), stock_of_chains(2))
    assert route == Route(node=None, steps=0, classes=())
    assert not route.solved


@pytest.mark.parametrize(("steps", "solved"), [(1, False), (2, False), (3, True), (4, True)])
def test_the_longest_chain_of_reactions_is_bounded(steps: int, solved: bool) -> None:
    model = Chains((6, (5, 1), "a", 1.0), (5, (4, 1), "a", 1.0), (4, (3, 1), "a", 1.0))
    assert solve(6, model, stock_of_chains(1, 3), steps=steps).solved is solved


def test_the_bound_is_of_the_longest_chain_and_not_of_all_reactions() -> None:
    model = Chains((6, (4, 2), "a", 1.0), (4, (3, 1), "a", 1.0), (2, (1, 1), "b", 1.0))
    route = solve(6, model, stock_of_chains(1, 3), steps=2)
    assert (route.steps, route.classes) == (3, ("a", "b"))


@pytest.mark.parametrize(("expansions", "solved"), [(1, False), (2, False), (3, True)])
def test_the_number_of_molecules_that_are_taken_apart_is_bounded(expansions: int, solved: bool) -> None:
    model = Chains((6, (5, 1), "a", 1.0), (5, (4, 1), "a", 1.0), (4, (3, 1), "a", 1.0))
    assert solve(6, model, stock_of_chains(1, 3), expansions=expansions).solved is solved
    assert len(model.asked) <= expansions


def test_a_molecule_is_not_made_of_itself() -> None:
    model = Chains((3, (4,), "a", 1.0), (4, (3,), "b", 1.0), (4, (5,), "c", 1.0), (5, (4,), "d", 1.0))
    assert not solve(3, model, stock_of_chains(1)).solved
    assert len(model.asked) == 3


def test_the_cheap_branch_is_tried_first_and_costs_add_up() -> None:
    # Cost 1 then 3 through 5; cost 2.5 then 1 through 4: 5 is opened first, and 4 wins with 3.5 against 4.
    model = Chains((6, (5,), "a", 1.0), (6, (4,), "b", 2.5), (5, (7,), "a", 3.0), (4, (1,), "b", 1.0),
                   (7, (1,), "a", 1.0))  # fmt: skip
    route = solve(6, model, stock_of_chains(1))
    assert route.classes == ("b",)
    assert model.asked == [6, 5, 4]


def test_among_equal_costs_the_first_comes_first() -> None:
    steps = [(6, (length,), str(length), 1.0) for length in (3, 5, 2, 4)]
    steps += [(length, (1,), str(length), 1.0) for length in (2, 3, 4, 5)]
    for rotation in range(4):
        first = [*steps[rotation:4], *steps[:rotation]]
        model = Chains(*first, *steps[4:])
        assert solve(6, model, stock_of_chains(1)).classes == tuple(sorted({first[0][2]}))
        assert model.asked == [6, first[0][1][0]]


def test_precursors_of_one_reaction_are_opened_in_their_order() -> None:
    # Each that is opened makes all others dearer, and they go back to the queue together.
    lengths = tuple(range(2, 11))
    model = Chains((12, lengths, "a", 1.0), *((length, (1,), "b", 1.0) for length in lengths))
    assert solve(12, model, stock_of_chains(1)).steps == 10
    assert model.asked == [12, *lengths]


def test_circles_take_no_expansions() -> None:
    # 5 and 4 are made of each other at no cost; going round would use up every expansion before the dear way.
    model = Chains(
        (3, (4,), "a", 0.0),
        (4, (5,), "a", 0.0),
        (5, (4,), "a", 0.0),
        (3, (6,), "b", 5.0),
        (6, (1,), "b", 5.0),
    )
    assert solve(3, model, stock_of_chains(1), expansions=5).classes == ("b",)


def test_costs_that_are_no_binary_fractions_tie_as_well() -> None:
    # Both cost .8 in the end. Floating point says that .7 + .1 is less, and would open the younger first.
    assert 0.7 + 0.1 < 0.8
    model = Chains(
        (6, (5,), "a", 0.7),
        (6, (4,), "b", 0.8),
        (5, (3,), "a", 0.1),
        (3, (1,), "a", 0.0),
        (4, (1,), "b", 0.0),
    )
    assert solve(6, model, stock_of_chains(1)).classes == ("b",)
    assert model.asked == [6, 5, 4]


def exhaustive(templates: TemplateSet, stock: Stock, smiles: str, steps: int) -> bool:
    """Whether there is a route of at most `steps`, by trying everything."""

    @cache
    def solvable(target: str, left: int) -> bool:
        if target in stock:
            return True
        if left == 0:
            return False
        return any(
            all(solvable(precursor, left - 1) for precursor in found.precursors)
            for found in templates.disconnect(target)
        )

    return solvable(smiles, steps)


TARGETS = (
    "O=C(Nc1ccc(F)cc1)C1CCN(C(=O)c2ccccc2)CC1",
    "CC(=O)NCC(=O)NCC(=O)Nc1ccccc1",
    "O=C(NCCc1ccccc1)c1cccnc1",
    "COc1ccc(C(=O)NC(C)C(=O)N2CCOCC2)cc1",
    "CC(C)(C)c1ccc2occ(CC(=O)Nc3ccccc3F)c2c1",
    "O=C(c1ccc2c(c1)OCCO2)N1CCN(C(=O)c2ccsc2)CC1",
    "c1ccc2ccccc2c1",
)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("smiles", TARGETS)
def test_an_unhurried_search_finds_a_route_exactly_when_there_is_one(
    smiles: str, steps: int, templates: TemplateSet, stock: Stock
) -> None:
    amides = templates.of_classes(["amide coupling"])
    target = Molecule(smiles).smiles
    route = find_route(target, TemplateModel(amides), stock, max_steps=steps, max_expansions=10_000)
    assert route.solved is exhaustive(amides, stock, target, steps)
    assert set(route.classes) <= {"amide coupling"}
    if route.node is not None:
        check(route.node, amides, stock, steps)


def check(node: dict[str, Any], templates: TemplateSet, stock: Stock, left: int) -> None:
    """Each step is one that a template makes, each leaf is in stock, no chain is too long."""
    assert node["purchasable"] is (node["smiles"] in stock)
    assert node["purchasable"] is (node["reaction"] is None)
    if node["reaction"] is not None:
        assert left > 0
        precursors = [child["smiles"] for child in node["reaction"]["precursors"]]
        template = templates.making(node["smiles"], precursors)
        assert template is not None
        assert (template.name, template.reaction_class) == (
            node["reaction"]["name"],
            node["reaction"]["class"],
        )
        for child in node["reaction"]["precursors"]:
            check(child, templates, stock, left - 1)


def test_the_answer_does_not_depend_on_what_was_asked_before(templates: TemplateSet, stock: Stock) -> None:
    def routes(model: TemplateModel, smiles: tuple[str, ...]) -> dict[str, Route]:
        return {
            one: find_route(Molecule(one).smiles, model, stock, max_steps=4, max_expansions=30)
            for one in smiles
        }

    alone = {one: routes(TemplateModel(templates), (one,))[one] for one in TARGETS}
    shared = TemplateModel(templates)
    assert routes(shared, TARGETS) == alone
    assert routes(shared, TARGETS[::-1]) == alone


def test_the_answer_does_not_depend_on_the_hash_seed() -> None:
    """Sets of nodes and molecules come in another order in each process."""
    code = """
import json, sys
from allmodes.chem.retrosynthesis.model import TemplateModel
from allmodes.chem.retrosynthesis.search import find_route
from allmodes.chem.retrosynthesis.stock import load_stock, shipped_stock
from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates
model, stock = TemplateModel(load_templates(shipped_templates())), load_stock(shipped_stock())
for smiles in sys.argv[1:]:
    print(json.dumps(find_route(smiles, model, stock, max_steps=5, max_expansions=40).node))
"""
    targets = [
        "CCOC(=O)c1cnc(NC(=O)CN2CCN(Cc3ccccc3)CC2)s1",
        "COc1ccc(CN(C)C(=O)Nc2cccc(-c3ccncc3)c2)cc1OCC",
        "CC(C)Oc1ccc(NC(=O)c2cnn(Cc3ccccc3)c2)cc1C(=O)N1CCOCC1",
    ]
    outputs = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(allmodes.__file__).parents[1]),
        }
        run = subprocess.run(
            [sys.executable, "-c", code, *targets],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert sum(json.loads(line) is not None for line in outputs.pop().splitlines()) >= 2


def test_reactions_of_syntheseus_are_what_the_search_takes() -> None:
    made = make_reaction(Molecule("CCC"), ["CC", "C"], name="n", reaction_class="c", cost=2.0)
    assert isinstance(made, SingleProductReaction)
    assert made.reactants == Bag([Molecule("C"), Molecule("CC")])
    assert made.identifier == "n"
