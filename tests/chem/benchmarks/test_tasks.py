"""Benchmark tasks against the packages that define them, and what each component says by hand."""

import csv
import math
from pathlib import Path

import pytest

from allmodes.chem.benchmarks import TASKS, find_task, score, tasks_of
from allmodes.chem.oracles.components.composition import parse_formula
from allmodes.chem.oracles.components.similarity import edit_distance
from allmodes.chem.oracles.config import OracleConfig
from allmodes.errors import ConfigError, InputError
from allmodes.runs.config import build_config

KNOWN = Path(__file__).parents[2] / "data" / "benchmark_scores.csv"


def known_scores() -> dict[str, list[float]]:
    """By column, the scores that the published packages give; `smiles` holds the molecules' places."""
    with KNOWN.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {name: [float(row[name]) for row in rows] for name in rows[0] if name != "smiles"}


def known_molecules() -> list[str]:
    with KNOWN.open(encoding="utf-8") as file:
        return [row["smiles"] for row in csv.DictReader(line for line in file if not line.startswith("#"))]


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_the_packages_that_define_the_tasks(task: str) -> None:
    """Six digits, over 36 molecules a task; each task has molecules with several values above 0."""
    expected = known_scores()[task]
    assert score(task, known_molecules()) == pytest.approx(expected, rel=2e-5, abs=1e-12)
    assert len({value for value in expected if value > 1e-12}) >= 3, "the table would not notice an error"


def test_every_task_of_the_table_exists_and_pmo_has_its_twenty() -> None:
    assert set(known_scores()) == set(TASKS)
    assert len(tasks_of("pmo")) == 20
    assert len(tasks_of("molexp")) == 8
    assert [len(find_task(f"molexp_{name}").targets) for name in ("ap", "a2a", "bace1", "egfr")] == [
        2,
        3,
        3,
        4,
    ]


def test_references_have_the_score_of_1_in_the_tasks_that_look_for_them() -> None:
    for name in ("celecoxib_rediscovery", "thiothixene_rediscovery", "albuterol_similarity"):
        (component,) = find_task(name).components
        assert score(name, component["references"]) == [1.0]
    for name in tasks_of("molexp"):
        assert score(name, find_task(name).targets) == pytest.approx([1.0] * len(find_task(name).targets))


def test_spelling_does_not_count_and_what_is_no_molecule_has_no_score() -> None:
    one, other, *none = score("molexpl_ap", ["OCC", "C(C)O", "C(", "", "C" * 5000])
    assert one == other > 0
    assert all(map(math.isnan, none))


def test_an_unknown_task_is_refused_in_one_line_that_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'celecoxib'; did you mean celecoxib_rediscovery\?$"):
        score("celecoxib", ["C"])
    with pytest.raises(InputError, match="pickled model of scikit-learn; expected one of the 20"):
        score("drd2", ["C"])


def one(smiles: str, **component: object) -> float:
    """The raw value of one component."""
    oracle = build_config(OracleConfig, {"components": [component]}, source="test")
    value = oracle.components[0].make_scorer()(smiles)
    assert isinstance(value, float)
    return value


def test_isomer_by_hand() -> None:
    """C2H6O against C2H4: no difference in C, 2 in H, 9 atoms instead of 6: (1 · e^−2 · e^(−9/8))^(1/3)."""
    assert one("CCO", kind="isomer", formula="C2H4") == pytest.approx(math.exp(-(2 + 9 / 8) / 3))
    assert one("CC=O", kind="isomer", formula="C2H4O") == 1.0


@pytest.mark.parametrize(
    ("smiles", "element", "count"),
    [("CCO", "H", 6), ("[2H]C([2H])O", "H", 4), ("FC(F)Cl", "F", 2), ("ClCC", "C", 2), ("C", "N", 0)],
)
def test_atoms_of_an_element(smiles: str, element: str, count: int) -> None:
    assert one(smiles, kind="atoms", element=element) == count


def test_formulas() -> None:
    assert parse_formula("C9H10N2O2PF2Cl") == {"C": 9, "H": 10, "N": 2, "O": 2, "P": 1, "F": 2, "Cl": 1}
    for wrong in ("", "C7H8N2O2C", "h2o", "C 7", "7C"):
        with pytest.raises(ValueError, match="a molecular formula"):
            parse_formula(wrong)
    with pytest.raises(ConfigError, match="`formula`: expected symbols of elements, such as F; got 'Xx'"):
        one("C", kind="isomer", formula="C2Xx3")
    with pytest.raises(
        ConfigError, match="`element`: expected symbols of elements, such as F; got 'fluorine'"
    ):
        one("C", kind="atoms", element="fluorine")


@pytest.mark.parametrize(
    ("left", "right", "edits"),
    [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("CCO", "CCO", 0), ("ab", "ba", 2)],
)
def test_edit_distance(left: str, right: str, edits: int) -> None:
    assert edit_distance(left, right) == edit_distance(right, left) == edits


def test_levenshtein_by_hand() -> None:
    """CCO to CCN is one edit of three; to a text of 1 character more edits than it has count 0."""
    assert one("CCO", kind="levenshtein", references=["CCN"]) == pytest.approx(2 / 3)
    assert one("CCCC", kind="levenshtein", references=["O"]) == 0.0
    both = {"references": ["CCN", "O"], "kind": "levenshtein"}
    assert one("CCO", **both) == pytest.approx(2 / 3)
    assert one("CCO", **both, among="mean") == pytest.approx(2 / 6)


def test_similarity_of_counts_by_hand() -> None:
    """Two long chains have the same kinds of environments, so bits call them equal; counts do not.

    Of n atoms in a chain ECFP4 counts n environments of radius 0, n of radius 1 and n − 2 of radius 2:
    those around the ends hold no atom that radius 1 does not. Two chains share those of the shorter.
    """
    keys = {"kind": "similarity", "references": ["C" * 15]}
    assert one("C" * 12, **keys) == 1.0
    assert one("C" * 12, **keys, fingerprint="ECFP4") == pytest.approx((3 * 12 - 2) / (3 * 15 - 2))


def test_mean_and_nearest_of_several_references() -> None:
    keys = {"kind": "similarity", "references": ["CCO", "c1ccccc1"], "fingerprint": "ECFP4"}
    single = [one("CCO", **{**keys, "references": [text]}) for text in ("CCO", "c1ccccc1")]
    assert one("CCO", **keys) == max(single) == 1.0
    assert one("CCO", **keys, among="mean") == pytest.approx(sum(single) / 2)


@pytest.mark.parametrize(
    ("match", "values"), [("any", [1, 1, 1, 0]), ("all", [1, 0, 0, 0]), ("none", [0, 0, 0, 1])]
)
def test_smarts_present_all_or_absent(match: str, values: list[int]) -> None:
    molecules = ["OCCN", "CO", "CN", "CC"]
    assert [one(text, kind="smarts", patterns=["[#8]", "[#7]"], match=match) for text in molecules] == values
