"""Every shipped template does what its entry says, in both directions, and nothing that no chemist would."""

import re
from itertools import permutations

import pytest
from rdkit import Chem
from rdkit.Chem import rdChemReactions

from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates
from allmodes.chem.retrosynthesis.templates import Template, TemplateSet

ALL = load_templates(shipped_templates())
# Their reversed SMARTS make charges or hydrogens that only the backward direction leaves to RDKit.
ONE_WAY = {
    "copper-catalysed azide-alkyne cycloaddition",
    "tetrazole from a nitrile (azide)",
    "nitro reduction",
}


def canonical(smiles: str) -> str:
    return Chem.CanonSmiles(smiles)


def without_stereo(molecule: Chem.Mol) -> str | None:
    read = Chem.MolFromSmiles(Chem.MolToSmiles(molecule, isomericSmiles=False))
    return None if read is None else Chem.MolToSmiles(read)


def precursors_of(templates: TemplateSet, smiles: str, *classes: str) -> set[tuple[str, ...]]:
    chosen = templates.of_classes(classes) if classes else templates
    return {found.precursors for found in chosen.disconnect(canonical(smiles))}


def pair(*smiles: str) -> tuple[str, ...]:
    return tuple(sorted(map(canonical, smiles)))


@pytest.mark.parametrize("template", ALL.templates, ids=lambda template: template.name)
def test_a_template_takes_its_product_apart_into_its_precursors(template: Template) -> None:
    found = ALL.only([template]).disconnect(template.product)
    assert template.precursors in [disconnection.precursors for disconnection in found]


@pytest.mark.parametrize(
    "template", [one for one in ALL.templates if one.name not in ONE_WAY], ids=lambda template: template.name
)
def test_the_reversed_template_makes_the_product_of_the_precursors(template: Template) -> None:
    product, precursors = re.sub(r"([-=/\\\\]);!@", r"\1", template.smarts).split(">>")
    forward = rdChemReactions.ReactionFromSmarts(f"{precursors}>>{product}")
    made = set()
    for order in permutations(template.precursors):
        for (molecule,) in forward.RunReactants([Chem.MolFromSmiles(smiles) for smiles in order]):
            made.add(without_stereo(molecule))
    assert without_stereo(Chem.MolFromSmiles(template.product)) in made


def test_there_are_many_templates_of_many_classes_and_each_name_comes_once() -> None:
    names = [template.name for template in ALL.templates]
    assert len(names) >= 45
    assert len(set(names)) == len(names)
    assert {"amide coupling", "Suzuki coupling", "protection", "click reaction"} <= set(ALL.classes)
    assert {template.name for template in ALL.templates} >= ONE_WAY
    assert [template.cost for template in ALL.templates] == sorted(one.cost for one in ALL.templates)


@pytest.mark.parametrize(
    ("smiles", "why"),
    [
        ("O=C1CCCCN1", "lactam"),
        ("O=C1NC(=O)c2ccccc21", "imide"),
        ("CC(=O)N(C)C(C)=O", "open-chain imide: the amine would be an amide"),
        ("CNC(=O)OC", "carbamate"),
        ("CNC(=O)NC", "urea"),
        ("CC(=O)N=C(N)N", "acyl guanidine"),
        ("CC(=O)NN=Cc1ccccc1", "acyl hydrazone"),
        ("CC(=O)NC=C", "enamide: the amine would be an enamine"),
        ("CC(=O)n1cccn1", "acyl azole"),
        ("CC(=O)NCO", "the amine would be a hemiaminal"),
    ],
)
def test_no_amide_coupling_where_there_is_none(smiles: str, why: str) -> None:
    assert precursors_of(ALL, smiles, "amide coupling") == set(), why


def test_both_amides_of_a_molecule_are_cut_and_each_way_once() -> None:
    found = ALL.of_classes(["amide coupling"]).disconnect(canonical("CCC(=O)NCCC(=O)NCC"))
    assert sorted(one.precursors for one in found) == sorted(
        [
            pair("CCC(=O)O", "NCCC(=O)NCC"),
            pair("CCC(=O)Cl", "NCCC(=O)NCC"),
            pair("CCC(=O)NCCC(=O)O", "NCC"),
            pair("CCC(=O)NCCC(=O)Cl", "NCC"),
        ]
    )


def test_an_amino_acid_is_acylated_by_a_chloride_and_not_coupled_with_an_acid() -> None:
    found = precursors_of(ALL, "O=C(O)C1CCN(C(=O)c2ccccc2)CC1", "amide coupling")
    assert found == {pair("O=C(O)C1CCNCC1", "O=C(Cl)c1ccccc1")}


def test_the_cheapest_comes_first_and_each_set_of_precursors_once() -> None:
    found = ALL.disconnect(canonical("COc1ccc(-c2ccncc2)cc1C(=O)NCC"))
    costs = [one.template.cost for one in found]
    assert costs == sorted(costs)
    assert len({one.precursors for one in found}) == len(found)
    assert found[0].precursors == pair("COc1ccc(-c2ccncc2)cc1C(=O)O", "CCN")


def test_mitsunobu_inverts_the_alcohol() -> None:
    # (R) sec-butyl phenyl ether; O > ethyl > methyl in both, so that inversion is (S).
    ether, alcohol = "CC[C@@H](C)Oc1ccccc1", "CC[C@H](C)O"
    hands = [Chem.FindMolChiralCenters(Chem.MolFromSmiles(text))[0][1] for text in (ether, alcohol)]
    assert hands == ["R", "S"]
    assert precursors_of(ALL, ether, "ether formation") == {pair("Oc1ccccc1", alcohol)}


def test_an_alpha_chloro_amide_is_inverted_by_an_amine() -> None:
    found = precursors_of(ALL, "C[C@H](N1CCCC1)C(=O)N(C)C", "N-alkylation")
    (chloride,) = [smiles for one in found for smiles in one if "Cl" in smiles]
    product = Chem.FindMolChiralCenters(Chem.MolFromSmiles("C[C@H](N1CCCC1)C(=O)N(C)C"))
    start = Chem.FindMolChiralCenters(Chem.MolFromSmiles(chloride))
    # The leaving group and the amine both come first in the order of priority.
    assert {product[0][1], start[0][1]} == {"R", "S"}


def test_a_stereocentre_elsewhere_is_kept() -> None:
    assert pair("O=C(O)c1ccccc1", "C[C@H](N)c1ccccc1") in precursors_of(
        ALL, "C[C@H](NC(=O)c1ccccc1)c1ccccc1", "amide coupling"
    )


def test_no_template_makes_a_stereocentre_of_a_given_hand() -> None:
    assert precursors_of(ALL, "CC(O)c1ccccc1", "functional group interconversion") == {("CC(=O)c1ccccc1",)}
    assert precursors_of(ALL, "C[C@H](O)c1ccccc1", "functional group interconversion") == set()
    # Without a hydrogen at the centre nothing but the rule itself says no.
    ketone = pair("CCC(C)=O", "Br[Mg]c1ccccc1")
    assert precursors_of(ALL, "CCC(C)(O)c1ccccc1", "Grignard addition") == {ketone}
    assert precursors_of(ALL, "CC[C@](C)(O)c1ccccc1", "Grignard addition") == set()


@pytest.mark.parametrize(
    "smiles",
    [
        "CC(Cl)N1CCCC1",
        "CNCO",
        "OC=C(C)C",
        "CC=N",
        "CNC(=O)O",
        "CN(C)Cl",
        "COOC",
        "NCCC(=O)Cl",
        "OCC(=O)Cl",
        "NCCN=C=O",
        "NCCBr",
        "OCc1ccc([Mg]Br)cc1",
        "O=CCCNCCC1CCNCC1",
    ],
)
def test_what_would_not_keep_is_no_precursor(smiles: str) -> None:
    assert not ALL.allows(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize(
    "smiles",
    [
        "NC(=O)CCBr",
        "O=S(=O)(Cl)c1ccc([N+](=O)[O-])cc1",
        "Br[Mg]c1ccc(OC)cc1",
        "CC(=O)CC(C)=O",
        "NC=CC(=O)OC",
        "C1OCOC1",
        "FC(F)(F)CN",
        "O=Cc1cccnc1N",
        "COCOC",
    ],
)
def test_what_keeps_may_be_a_precursor(smiles: str) -> None:
    assert ALL.allows(Chem.MolFromSmiles(smiles))


def test_a_tetrazole_with_a_substituent_is_not_made_from_a_nitrile() -> None:
    assert precursors_of(ALL, "c1ccc(-c2nnn[nH]2)cc1", "tetrazole formation") == {("N#Cc1ccccc1",)}
    assert precursors_of(ALL, "Cn1nnnc1-c1ccccc1", "tetrazole formation") == set()


def test_atoms_are_neither_lost_nor_made() -> None:
    """Heavy atoms of the precursors beyond those of the product are the template's own."""
    targets = (
        "Cc1nc(C(=O)N2CCN(c3ccc(F)cc3)CC2)c(COc2ccc(Cl)cc2)o1",
        "CCOC(=O)c1cnc(NC(=O)CSc2nnc(-c3ccncc3)n2C)s1",
        "O=C(Nc1ccc(S(=O)(=O)N2CCCC2)cc1)c1cc(-c2ccco2)nc2ccccc12",
        "COc1ccc(Cn2cc(CNC(=O)OC(C)(C)C)nn2)cc1OCc1ccccc1",
        "CC1=NN(c2ccccc2)C(=O)C1=Cc1cc(C)n(-c2ccccc2)c1C",
    )
    seen = 0
    for target in map(canonical, targets):
        atoms = Chem.MolFromSmiles(target).GetNumAtoms()
        for found in ALL.disconnect(target):
            sizes = [Chem.MolFromSmiles(smiles).GetNumAtoms() for smiles in found.precursors]
            product, precursors = found.template.smarts.split(">>")
            before = Chem.MolFromSmarts(product).GetNumAtoms()
            after = sum(Chem.MolFromSmarts(part).GetNumAtoms() for part in precursors.split("."))
            assert sum(sizes) - atoms == after - before, found
            seen += 1
    assert seen > 20


def test_the_class_of_a_reaction_is_that_of_the_template_that_makes_it() -> None:
    amide = canonical("O=C(NCc1ccccc1)c1ccccc1")
    acid, amine = canonical("O=C(O)c1ccccc1"), canonical("NCc1ccccc1")
    found = ALL.making(amide, [amine, acid])
    assert found is not None
    assert found.reaction_class == "amide coupling"
    assert ALL.making(amide, [acid, amine]) is found
    assert ALL.making(amide, [acid]) is None
    assert ALL.making(amide, [acid, acid]) is None
