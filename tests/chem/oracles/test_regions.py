"""Regions of components: the first pattern, or the nearest reference, against RDKit by another route."""

from typing import Any

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from allmodes.chem.oracles.components import Regions, read_component
from allmodes.errors import ConfigError
from molecule_settings import molecule_config

PATTERNS = ["c1cnnn1", "[NX3]C(=O)[NX3]", "c1cscn1"]
TRIAZOLE, UREA, THIAZOLE = "Cn1cc(C)nn1", "CNC(=O)NC", "Cc1cscn1"
BOTH = "CNC(=O)Nc1cscn1"  # a urea of a thiazole


def regions(**keys: Any) -> Regions:
    component = read_component(keys)
    assert component.has_regions
    return component.make_regions()


def test_a_molecule_belongs_to_the_first_pattern_that_it_matches() -> None:
    found = regions(kind="smarts", patterns=PATTERNS, names=["triazole", "urea", "thiazole"])
    assert found.names == ("triazole", "urea", "thiazole")
    assert [found.find(one) for one in (TRIAZOLE, UREA, THIAZOLE, BOTH, "CCO")] == [0, 1, 2, 1, None]
    turned = regions(kind="smarts", patterns=PATTERNS[::-1])
    assert turned.names == tuple(PATTERNS[::-1])
    assert turned.find(BOTH) == 0


@pytest.mark.parametrize("kind", ["similarity", "levenshtein"])
def test_a_molecule_belongs_to_the_nearest_reference(kind: str) -> None:
    found = regions(kind=kind, references=["CCCCCCO", "c1ccccc1C(=O)O"], names=["chain", "acid"])
    assert [found.find(one) for one in ("CCCCCN", "O=C(O)c1ccc(F)cc1")] == [0, 1]
    # Of two that are equally near the first: one reference twice, which no molecule tells apart.
    assert regions(kind=kind, references=["CCO", "OCC"]).find("CCN") == 0


def test_the_nearest_is_that_of_the_component_s_own_similarity() -> None:
    references, molecules = (
        ["Cc1ccccc1O", "CCN(CC)CC", "O=C1CCCN1"],
        ["CCN", "Oc1ccccc1", "O=C1CCCN1C", "CCC"],
    )
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(one)) for one in references]
    found = regions(kind="similarity", references=references)
    for smiles in molecules:
        fingerprint = generator.GetFingerprint(Chem.MolFromSmiles(smiles))
        values = [DataStructs.TanimotoSimilarity(fingerprint, one) for one in prints]
        assert found.find(smiles) == values.index(max(values))


@pytest.mark.parametrize(
    "component",
    [
        {"kind": "qed"},
        {"kind": "smarts", "patterns": ["C"]},
        {"kind": "smarts", "patterns": ["C", "N"], "match": "all"},
        {"kind": "similarity", "references": ["C"]},
        {"kind": "similarity", "references": ["C", "N"], "among": "mean"},
    ],
)
def test_components_without_regions(component: dict[str, Any]) -> None:
    assert not read_component(component).has_regions
    with pytest.raises(
        ConfigError, match=r"`outcomes.regions`, a component with several patterns .*'x' has none"
    ):
        molecule_config(oracle={"components": [{**component, "name": "x"}]}, outcomes={"regions": "x"})


@pytest.mark.parametrize(
    ("names", "said"),
    [(["one"], "as many `names` as `patterns`; got 1 and 2"), (["one", "one"], "a different name for each")],
)
def test_names_that_do_not_fit_are_refused(names: list[str], said: str) -> None:
    component = {"kind": "smarts", "patterns": ["C", "N"], "names": names}
    with pytest.raises(ConfigError, match=said):
        molecule_config(oracle={"components": [component]})
