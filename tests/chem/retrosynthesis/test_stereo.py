"""A route ends in the stereoisomer that was asked for: what reactions give, keep, and cannot give."""

import pytest
from rdkit import Chem
from rdkit.Chem import rdChemReactions
from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers

from allmodes.chem.retrosynthesis.stereo import is_chiral
from allmodes.chem.retrosynthesis.templates import TemplateSet, make_template, read_reaction

VINYL_SUZUKI = "[c:1]-;!@[CX3:2]=[CX3:3]>>[c:1]Br.[C:2](=[C:3])B(O)O"
SN2 = "[C@;X4:1]-[O:2]-[c:3]>>[C@@:1]Br.[O:2][c:3]"
UNTOLD_SN2 = "[CX4:1]-[O:2]-[c:3]>>[C:1]Br.[O:2][c:3]"
DIHYDROXYLATION = "[C:5]-[C@@H:1]([OH:3])-[C@@H:2]([OH:4])-[C:6]>>[C:5]/[CH:1]=[CH:2]\\[C:6]"
ASYMMETRIC_REDUCTION = "[#6:3][C@;H1;D3:1]([#6:4])-[OH;D1:2]>>[#6:3][C;H0:1]([#6:4])=[O;H0:2]"
SYN_TO_A_CENTRE = (
    "[C:5][C@H:1]([OH:3])-[C@@H:2]([CH3:7])-[C:6]=[O:8]>>"
    "[C:5][C;H0:1](=[O;H0:3])-[C@@H:2]([CH3:7])-[C:6]=[O:8]"
)
EPOXIDE_OPENING = "[N:1]-[C@H:2]-[C@@H:3]-[OH:4]>>[N:1].[C@@H:2]1-[C@H:3]-[O:4]1"


def canonical(smiles: str) -> str:
    return Chem.CanonSmiles(smiles)


def found(templates: TemplateSet, smiles: str) -> set[str]:
    return {".".join(one.precursors) for one in templates.disconnect(canonical(smiles))}


def one(smarts: str) -> TemplateSet:
    reaction = read_reaction(smarts)
    return TemplateSet([make_template(reaction, name="", reaction_class="one", cost=1.0, smarts=smarts)])


def isomers(smiles: str) -> list[str]:
    return sorted(Chem.MolToSmiles(isomer) for isomer in EnumerateStereoisomers(Chem.MolFromSmiles(smiles)))


@pytest.mark.parametrize(
    ("given", "not_given", "reaction"),
    [
        ("COC(=O)/C=C/c1ccccc1", "COC(=O)/C=C\\c1ccccc1", "Heck reaction"),
        ("N#C/C=C/c1ccccc1", "N#C/C=C\\c1ccccc1", "Heck reaction"),
        ("CCOC(=O)/C=C/C1CCCCC1", "CCOC(=O)/C=C\\C1CCCCC1", "Wittig olefination"),
        ("O=C(/C=C/c1ccccc1)c1ccco1", "O=C(/C=C\\c1ccccc1)c1ccco1", "aldol condensation"),
        ("O=C1NC(=O)/C(=C/c2ccccc2)S1", "O=C1NC(=O)/C(=C\\c2ccccc2)S1", "aldol condensation"),
        ("O=C1Nc2ccccc2/C1=C\\c1ccccc1", "O=C1Nc2ccccc2/C1=C/c1ccccc1", "aldol condensation"),
        ("O=C(N/N=C/c1ccccc1)c1ccncc1", "O=C(N/N=C\\c1ccccc1)c1ccncc1", "hydrazone formation"),
        ("N/C(=N\\O)c1ccccc1", "N/C(=N/O)c1ccccc1", "functional group interconversion"),
    ],
)
def test_a_double_bond_is_made_with_the_geometry_of_its_reaction(
    templates: TemplateSet, given: str, not_given: str, reaction: str
) -> None:
    chosen = templates.of_classes([reaction])
    unspecified = Chem.MolToSmiles(Chem.MolFromSmiles(given), isomericSmiles=False)
    assert found(chosen, given) == found(chosen, unspecified) != set()
    assert found(chosen, not_given) == set()


def test_a_double_bond_of_no_certain_geometry_is_made_without_one(templates: TemplateSet) -> None:
    aldol = templates.of_classes(["aldol condensation"])
    unspecified = "CC1=NN(C)C(=O)C1=Cc1ccccc1"
    assert found(aldol, unspecified)
    both = isomers(unspecified)
    assert len(both) == 2
    assert [found(aldol, isomer) for isomer in both] == [set(), set()]


def test_a_double_bond_elsewhere_is_kept(templates: TemplateSet) -> None:
    amide = templates.of_classes(["amide coupling"])
    for bond in ("/C=C/", "/C=C\\"):
        acid = canonical(f"O=C(O){bond}c1ccccc1")
        assert f"CN.{acid}" in found(amide, f"CNC(=O){bond}c1ccccc1")


@pytest.mark.parametrize("alkene", ["CCC/C=C/{}", "CCC/C=C\\{}", "CC/C(C)=C/{}", "CC/C(C)=C(C)\\{}"])
def test_a_coupling_at_a_double_bond_keeps_its_geometry(alkene: str) -> None:
    product, boronic = (alkene.format(end) for end in ("c1ccccc1", "B(O)O"))
    assert found(one(VINYL_SUZUKI), product) == {f"Brc1ccccc1.{canonical(boronic)}"}
    assert "/" not in str(found(one(VINYL_SUZUKI), product.replace("/", "").replace("\\", "")))


@pytest.mark.parametrize(
    ("smiles", "reaction"),
    [
        ("C[C@H](O)c1ccccc1", "functional group interconversion"),
        ("C[C@H](Nc1ccccc1)c1ccccc1", "reductive amination"),
        ("CC[C@](C)(O)c1ccccc1", "Grignard addition"),
        ("C[C@H]1CC[C@@H](Nc2ccccc2)CC1", "reductive amination"),  # cis and trans are both made
        ("C[C@H]1CC[C@@H](O)CC1", "functional group interconversion"),
    ],
)
def test_no_shipped_template_makes_a_centre_of_a_given_hand(
    templates: TemplateSet, smiles: str, reaction: str
) -> None:
    chosen = templates.of_classes([reaction])
    assert [found(chosen, isomer) for isomer in isomers(smiles.replace("@", ""))] == [set(), set()]
    assert found(chosen, smiles.replace("[C@H]", "C").replace("[C@@H]", "C").replace("[C@]", "C"))


@pytest.mark.parametrize(
    "diamine",
    ["NC1CCCCC1N", "NC1CCC(N)C1", "CC(N)CCC(C)N", "NC(c1ccccc1)C(c1ccccc1)N", "NC1CN(C)CC1N"],
)
@pytest.mark.parametrize("acyl", ["C(=O)c1ccccc1", "C(=O)[C@H](C)c1ccccc1"])
def test_one_end_of_a_meso_diamine_gives_no_single_stereoisomer(
    templates: TemplateSet, diamine: str, acyl: str
) -> None:
    """Against the forward reaction: what it gives alone has a route, what it gives beside others has none."""
    amide = templates.of_classes(["amide coupling"])
    acylation = rdChemReactions.ReactionFromSmarts(f"[NX3;H2:1]>>[N:1]{acyl}")
    starts = isomers(diamine)
    assert sorted(map(is_chiral, starts)) == [False, True, True]
    for start in starts:
        made = {
            canonical(Chem.MolToSmiles(one)) for (one,) in acylation.RunReactants([Chem.MolFromSmiles(start)])
        }
        assert len(made) == (1 if is_chiral(start) else 2)
        for product in made:
            assert any(start in precursors.split(".") for precursors in found(amide, product)) == (
                len(made) == 1
            )
        racemate = Chem.MolToSmiles(Chem.MolFromSmiles(made.pop()), isomericSmiles=False)
        assert found(amide, racemate)


def test_a_diastereotopic_but_fixed_site_is_no_choice(templates: TemplateSet) -> None:
    """On the mirror plane of a meso ring, at the amine of an amino alcohol, beside centres elsewhere."""
    acid = templates.of_classes(["amide coupling"])
    assert found(acid, "C[C@H]1CN(C(=O)c2ccccc2)C[C@@H](C)O1")
    assert found(acid, "C[C@H]1CCC[C@@H](C1)C(=O)NC")
    assert found(acid, "O=C(N[C@H]1CC[C@@H](O)CC1)c1ccccc1")


def test_both_ends_of_a_meso_diamine_may_react_alike(templates: TemplateSet) -> None:
    benzoyl = "O=C(N[C@@H]1CCCC[C@@H]1NC(=O)c1ccccc1)c1ccccc1"
    assert not is_chiral(benzoyl)
    assert found(templates.of_classes(["amide coupling"]), benzoyl)


def test_a_substitution_inverts_and_says_so() -> None:
    ether = "CC[C@@H](C)Oc1ccccc1"
    (precursors,) = found(one(SN2), ether)
    bromide = next(part for part in precursors.split(".") if "Br" in part)
    hands = [Chem.FindMolChiralCenters(Chem.MolFromSmiles(text))[0][1] for text in (ether, bromide)]
    assert sorted(hands) == ["R", "S"]
    assert found(one(UNTOLD_SN2), "CCC(C)Oc1ccccc1")
    assert found(one(UNTOLD_SN2), ether) == set()  # retention or inversion: the template does not say
    assert found(one(UNTOLD_SN2), "C[C@H](O)COc1ccccc1")  # a centre elsewhere


def test_a_template_may_make_centres_of_a_given_relation_but_not_of_one_hand() -> None:
    diol = one(DIHYDROXYLATION)
    for isomer in isomers("CCC(O)C(O)CC"):
        assert found(diol, isomer) == (set() if is_chiral(isomer) else {"CC/C=C\\CC"})
    assert [found(diol, isomer) for isomer in isomers("CCC(O)C(O)C")] == [set()] * 4
    assert found(diol, "CCC(O)C(O)C") == {canonical("CC/C=C\\C")}
    for alcohol in ("C[C@H](O)c1ccccc1", "C[C@@H](O)c1ccccc1"):
        assert found(one(ASYMMETRIC_REDUCTION), alcohol) == set()
    assert found(one(ASYMMETRIC_REDUCTION), "CC(O)c1ccccc1") == {"CC(=O)c1ccccc1"}


def test_a_centre_may_be_made_relative_to_one_that_the_template_names() -> None:
    reduction = one(SYN_TO_A_CENTRE)
    answers = {isomer: found(reduction, isomer) for isomer in isomers("CCC(O)C(C)C(=O)OC")}
    given = [isomer for isomer, precursors in answers.items() if precursors]
    assert len(answers) == 4
    assert len(given) == 2
    assert answers[given[0]] != answers[given[1]]  # mirror images, from mirror images
    flipped = Chem.MolFromSmiles(given[0])
    for centre in flipped.GetAtoms():
        centre.InvertChirality()
    assert Chem.MolToSmiles(flipped) == given[1]


def test_a_meso_epoxide_opens_to_a_racemate() -> None:
    opening = one(EPOXIDE_OPENING)
    epoxides = {isomer: is_chiral(isomer) for isomer in isomers("CC1OC1C")}
    assert sorted(epoxides.values()) == [False, True, True]
    made = {isomer: found(opening, isomer) for isomer in isomers("CC(O)C(C)N1CCOCC1")}
    from_epoxide = [answer.pop() for answer in made.values() if answer]
    assert sorted(from_epoxide) == sorted(f"C1COCCN1.{one}" for one, chiral in epoxides.items() if chiral)
    assert found(opening, "CC(O)C(C)N1CCOCC1")


def test_a_stereo_sulfur_is_a_centre_like_any_other() -> None:
    oxidation = one("[#6:1][S;X3:2](=[O])[#6:3]>>[*:1][S;+0:2][*:3]")
    assert found(oxidation, "CS(=O)c1ccccc1") == {"CSc1ccccc1"}
    assert found(oxidation, "C[S@](=O)c1ccccc1") == set()


def test_the_class_of_a_reaction_is_no_template_that_gives_another_isomer(templates: TemplateSet) -> None:
    precursors = ["Brc1ccccc1", "C=CC(=O)OC"]
    assert templates.making(canonical("COC(=O)/C=C/c1ccccc1"), precursors) is not None
    assert templates.making(canonical("COC(=O)/C=C\\c1ccccc1"), precursors) is None


@pytest.mark.parametrize(
    ("smiles", "chiral"),
    [
        ("C[C@H](O)CC", True),
        ("CC(O)CC", False),
        ("N[C@@H]1CCCC[C@@H]1N", False),
        ("N[C@H]1CCCC[C@@H]1N", True),
        ("C/C=C/C", False),
        ("C[C@H]1CC[C@@H](O)CC1", False),
    ],
)
def test_chirality_is_being_unlike_the_mirror_image(smiles: str, chiral: bool) -> None:
    assert is_chiral(smiles) is chiral
