"""MolScore's configurations: each modifier and method by its formula, and one line for what is not here."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.benchmarks import find_task, score
from allmodes.errors import ConfigError

MOLECULE = "CC(=O)Nc1ccc(O)cc1"  # paracetamol
CONFIG: dict[str, Any] = {
    "task": "test",
    "output_dir": "./",
    "scoring_functions": [
        {
            "name": "MolecularSimilarity",
            "run": True,
            "parameters": {
                "prefix": "near me",
                "ref_smiles": ["CC(=O)Nc1ccccc1", "c1ccncc1"],
                "fp": "ECFP4c",
                "bits": 1024,
                "similarity_measure": "Tanimoto",
                "method": "max",
                "n_jobs": 1,
            },
        },
        {"name": "MolecularDescriptors", "run": True, "parameters": {"n_jobs": 1}},
        {
            "name": "SubstructureMatch",
            "parameters": {"prefix": "s", "smarts": ["[#7]", "[#9]"], "method": "all"},
        },
        {"name": "SubstructureFilters", "parameters": {"prefix": "f", "custom_filters": ["[#9]", "[#17]"]}},
        {"name": "PIDGIN", "run": False, "parameters": {}},
    ],
    "scoring": {"metrics": [{"name": "near_me_Sim", "weight": 1.0, "modifier": "raw", "parameters": {}}],
                "method": "single"},
    "diversity_filter": {"run": False},
}  # fmt: skip


def value_of(folder: Path, metrics: list[dict[str, Any]], method: str = "single") -> float:
    values = copy.deepcopy(CONFIG)
    values["scoring"] = {"metrics": metrics, "method": method}
    return score(f"molscore:{written(folder, values)}", [MOLECULE])[0]


def written(folder: Path, values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return path


def metric(name: str, modifier: str = "raw", weight: float = 1.0, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "weight": weight, "modifier": modifier, "parameters": parameters}


def test_the_nearest_of_several_references_and_the_mean(tmp_path: Path) -> None:
    similarity = value_of(tmp_path, [metric("near_me_Sim")])
    assert 0.4 < similarity < 1
    values = copy.deepcopy(CONFIG)
    values["scoring_functions"][0]["parameters"]["method"] = "mean"
    assert 0 < score(f"molscore:{written(tmp_path, values)}", [MOLECULE])[0] < similarity


RINGS = 1.0  # of paracetamol, of which the modifiers below are computed


@pytest.mark.parametrize(
    ("modifier", "parameters", "expected"),
    [
        ("gauss", {"objective": "range", "mu": 2, "sigma": 0.5}, math.exp(-2)),
        ("gauss", {"objective": "maximize", "mu": 0, "sigma": 0.5}, 1.0),
        ("gauss", {"objective": "minimize", "mu": 0, "sigma": 0.5}, math.exp(-2)),
        ("lin_thresh", {"objective": "maximize", "upper": 3, "lower": 0, "buffer": 5}, 3 / 5),
        ("lin_thresh", {"objective": "minimize", "upper": 9, "lower": 0, "buffer": 4}, 3 / 4),
        ("step", {"objective": "maximize", "upper": 1, "lower": 0}, 1.0),
        ("step", {"objective": "minimize", "upper": 0, "lower": 0}, 0.0),
        ("step", {"objective": "range", "upper": 3, "lower": 2}, 0.0),
        # 1 / (1 + exp(−scale (x − upper) − 5)), and 1 / (1 + exp(scale (x − lower) − 5))
        ("sigmoid", {"objective": "maximize", "upper": 3, "lower": 0, "scale": 2}, 1 / (1 + math.exp(-1))),
        ("sigmoid", {"objective": "minimize", "upper": 9, "lower": -2, "scale": 2}, 1 / (1 + math.exp(1))),
    ],
)
def test_modifiers(tmp_path: Path, modifier: str, parameters: dict[str, Any], expected: float) -> None:
    assert value_of(tmp_path, [metric("desc_RingCount", modifier, **parameters)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("amean", (1 / 4 + 3 / 4) / 2),
        ("wsum", (3 * 1 / 4 + 3 / 4) / 4),
        ("prod", 3 / 16),
        ("gmean", math.sqrt(3 / 16)),
        ("wprod", ((1 / 4) ** 3 * 3 / 4) ** (1 / 4)),
    ],
)
def test_methods_and_weights(tmp_path: Path, method: str, expected: float) -> None:
    """One ring and one amide, both linear: 1/4 with the weight 3, and 3/4 with the weight 1."""
    line = {"objective": "maximize", "lower": 0}
    metrics = [
        metric("desc_RingCount", "lin_thresh", 3.0, upper=4, buffer=4, **line),
        metric("desc_NumAromaticRings", "lin_thresh", 1.0, upper=2, buffer=4, **line),
    ]
    assert value_of(tmp_path, metrics, method) == pytest.approx(expected)


def test_substructures_wanted_and_not_wanted(tmp_path: Path) -> None:
    assert value_of(tmp_path, [metric("s_substruct_match")]) == 0.0  # no fluorine
    assert value_of(tmp_path, [metric("f_substruct_filt")]) == 1.0  # neither fluorine nor chlorine


FIRST, METRIC = "scoring_functions.0", "scoring.metrics.0"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (f"{FIRST}.name", "PIDGIN", r"scoring_functions.0: `name`: expected one of Mol.*; got 'PIDGIN'$"),
        (f"{FIRST}.name", "Isomer", r"scoring_functions.0: `name`: .*; got 'Isomer'$"),
        (f"{FIRST}.parameters.fp", "MACCSkeys", r"`near_me_Sim`: `fp`: .*; got 'MACCSkeys'$"),
        (f"{FIRST}.parameters.similarity_measure", "Dice", "expected one of Tanimoto; got 'Dice'$"),
        (f"{FIRST}.parameters.thresh", 0.5, r"`thresh`: expected null; got 0.5$"),
        (f"{FIRST}.parameters.ref_smiles", "a.smi", r"`ref_smiles`: expected a list; got 'a.smi'$"),
        (f"{FIRST}.parameters.ref_smiles", [1], r"`components.0.references.0`: expected a valid string"),
        (
            "scoring.method",
            "pareto_pair",
            r"`scoring.method`: expected one of single, .*; got 'pareto_pair'$",
        ),
        (f"{METRIC}.name", "other_Sim", r"`name`: expected one of near_me_Sim, .*; got 'other_Sim'$"),
        (f"{METRIC}.modifier", "norm", r"`modifier`: expected one of raw, gauss, .*; got 'norm'$"),
        (f"{METRIC}.modifier", "gauss", "`objective`: expected a text; got None$"),
        (f"{METRIC}.filter", True, "`filter`: expected false; got True$"),
        ("scoring.metrics", [], r"`scoring.metrics`: expected one metric; got 0$"),
        ("diversity_filter", {"run": True}, r"`diversity_filter.run`: expected false; got {'run': True}"),
        ("scoring", None, "`scoring`: expected a table; got None$"),
    ],
)
def test_what_is_not_here_is_refused_in_one_line(tmp_path: Path, key: str, value: Any, said: str) -> None:
    values: Any = copy.deepcopy(CONFIG)
    *path, last = key.split(".")
    table = values
    for part in path:
        table = table[int(part) if part.isdigit() else part]
    table[last] = value
    with pytest.raises(ConfigError, match=said) as caught:
        find_task(f"molscore:{written(tmp_path, values)}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"missing\.json"):
        find_task("molscore:missing.json")
