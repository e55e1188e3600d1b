"""MolScore's configurations as tasks, if their functions exist here with the same meaning.

The JSON of MolScore 1.9.5 (Thomas et al. 2024): `scoring_functions` compute columns, of which the entries of
`scoring.metrics` are changed by a modifier and combined by `scoring.method`.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from allmodes.chem.benchmarks.tasks import Task
from allmodes.errors import ConfigError, shown
from allmodes.runs.config import read_config_file

Table = Mapping[str, Any]

_DESCRIPTORS: dict[str, Table] = {
    "QED": {"kind": "qed"},
    "SAscore": {"kind": "sa_score"},
    "CLogP": {"kind": "logp"},
    "MolWt": {"kind": "weight"},
    "NumHAcceptors": {"kind": "hba"},
    "NumHDonors": {"kind": "hbd"},
    "NumRotatableBonds": {"kind": "rotatable_bonds"},
    "NumAromaticRings": {"kind": "aromatic_rings"},
    "RingCount": {"kind": "rings"},
    "TPSA": {"kind": "tpsa"},
    "Bertz": {"kind": "bertz"},
    "FlourineCount": {"kind": "atoms", "element": "F"},  # MolScore's spelling
}
_FINGERPRINTS = {
    "ECFP4c": "ECFP4",
    "ECFP6c": "ECFP6",
    "FCFP4c": "FCFP4",
    "FCFP6c": "FCFP6",
    "AP": "AP",
    "PHCO": "PHCO",
}
_AMONG = {"max": "nearest", "mean": "mean"}
# By MolScore's method: the aggregation, and whether the weights count.
_METHODS = {
    "single": ("arithmetic_mean", False),
    "amean": ("arithmetic_mean", False),
    "wsum": ("arithmetic_mean", True),
    "gmean": ("geometric_mean", False),
    "wprod": ("geometric_mean", True),
    "prod": ("product", False),
}


def read_molscore(file: str | Path) -> Task:
    """The task of a MolScore configuration.

    Raises ConfigError, one line that names the key, for a file that cannot be read, and for functions,
    parameters and modifiers that do not exist here or mean something else.
    """
    path = Path(file)
    where = f"molscore:{file}"
    values = read_config_file(path)
    scoring = _get(values, "scoring", dict, where)
    filtering = values.get("diversity_filter", {"run": False})
    if not isinstance(filtering, dict) or filtering.get("run") is not False:
        raise ConfigError(
            f"{where}: `diversity_filter.run`: expected false; got {shown(filtering)}; a run's own filter is "
            "`scaffold_filter`"
        )
    method = _known(scoring.get("method"), _METHODS, f"{where}: `scoring.method`")
    aggregation, weighted = _METHODS[method]
    columns = _columns(values, where)
    metrics = _get(scoring, "metrics", list, f"{where}: scoring")
    if not metrics or (method == "single" and len(metrics) != 1):
        expected = "one metric" if method == "single" else "at least one metric"
        raise ConfigError(f"{where}: `scoring.metrics`: expected {expected}; got {len(metrics)}")
    components = []
    for number, metric in enumerate(metrics):
        here = f"{where}: scoring.metrics.{number}"
        name = _get(metric, "name", str, here)
        component = columns[_known(name, columns, f"{here}: `name`")](f"{where}: `{name}`")
        if metric.get("filter", False) is not False:
            raise ConfigError(f"{here}: `filter`: expected false; got {shown(metric['filter'])}")
        shaping = _shaping(metric, here)
        weight = _get(metric, "weight", (int, float), here) if weighted else 1.0
        components.append({**component, "name": name, "weight": float(weight), "shaping": shaping})
    task = Task(
        name=f"molscore:{path.stem}", suite="molscore", components=components, aggregation=aggregation
    )
    _ = task.oracle  # raises for a reference or a pattern of another type, and for equal names
    return task


Make = Callable[[str], Table]  # the component, or what is wrong with it, for where it stands


def _columns(values: Table, where: str) -> dict[str, Make]:
    """By name, what computes each column. Raises ConfigError for a function that does not exist here."""
    found: dict[str, Make] = {}
    functions = _get(values, "scoring_functions", list, where)
    for number, function in enumerate(functions):
        here = f"{where}: scoring_functions.{number}"
        name = _get(function, "name", str, here)
        if function.get("run", True) is not True:
            continue
        parameters = _get(function, "parameters", dict, here)
        # Each function is read, used or not: MolScore runs all of them.
        makers = _FUNCTIONS[_known(name, _FUNCTIONS, f"{here}: `name`")]
        default = "desc" if "Descriptors" in name else None
        prefix = default if default and "prefix" not in parameters else _get(parameters, "prefix", str, here)
        for column, make in makers.items():
            found[f"{prefix.strip().replace(' ', '_')}_{column}"] = _bind(make, parameters)
    return found


def _bind(make: Callable[[Table, str], Table], parameters: Table) -> Make:
    return lambda where: make(parameters, where)


def _similarity(parameters: Table, where: str) -> Table:
    measure = parameters.get("similarity_measure", "Tanimoto")
    _known(measure, {"Tanimoto": 1}, f"{where}: `similarity_measure`")
    name = parameters.get("fp", "ECFP4")
    if all(key in parameters for key in ("radius", "features", "counts")):  # of older versions
        letter, counts = ("F" if parameters["features"] else "E"), ("c" if parameters["counts"] else "")
        name = f"{letter}CFP{2 * _get(parameters, 'radius', int, where)}{counts}"
    fingerprint = _FINGERPRINTS[_known(name, _FINGERPRINTS, f"{where}: `fp`")]
    return {"kind": "similarity", "fingerprint": fingerprint, **_references(parameters, where)}


def _levenshtein(parameters: Table, where: str) -> Table:
    return {"kind": "levenshtein", **_references(parameters, where)}


def _references(parameters: Table, where: str) -> Table:
    if parameters.get("thresh") is not None:
        raise ConfigError(f"{where}: `thresh`: expected null; got {shown(parameters['thresh'])}")
    method = _known(parameters.get("method", "mean"), _AMONG, f"{where}: `method`")
    return {"references": _get(parameters, "ref_smiles", list, where), "among": _AMONG[method]}


def _match(parameters: Table, where: str) -> Table:
    method = _known(parameters.get("method", "any"), {"any": 1, "all": 1}, f"{where}: `method`")
    return {"kind": "smarts", "patterns": _get(parameters, "smarts", list, where), "match": method}


def _absence(parameters: Table, where: str) -> Table:
    for key in ("az_filters", "mcf_filters", "pains_filters"):
        if parameters.get(key, False) is not False:
            raise ConfigError(f"{where}: `{key}`: expected false; got {shown(parameters[key])}")
    return {"kind": "smarts", "patterns": _get(parameters, "custom_filters", list, where), "match": "none"}


def _descriptor(component: Table) -> Callable[[Table, str], Table]:
    return lambda _parameters, _where: component


_ALL_DESCRIPTORS = {name: _descriptor(component) for name, component in _DESCRIPTORS.items()}
# Without MolScore's Isomer, which counts elements that the formula lacks, and GuacaMol's does not.
_FUNCTIONS: dict[str, dict[str, Callable[[Table, str], Table]]] = {
    "MolecularSimilarity": {"Sim": _similarity},
    "TanimotoSimilarity": {"Sim": _similarity},
    "LevenshteinSimilarity": {"Sim": _levenshtein},
    "SubstructureMatch": {"substruct_match": _match},
    "SubstructureFilters": {"substruct_filt": _absence},
    "MolecularDescriptors": _ALL_DESCRIPTORS,
    "RDKitDescriptors": _ALL_DESCRIPTORS,
}


def _shaping(metric: Table, where: str) -> Table:
    """The shaping of a metric's modifier."""
    modifier = _known(_get(metric, "modifier", str, where), _MODIFIERS, f"{where}: `modifier`")
    if modifier == "raw":
        return {"kind": "none"}
    here = f"{where}.parameters"
    parameters = _get(metric, "parameters", dict, where)
    objectives = _MODIFIERS[modifier]
    objective = _known(_get(parameters, "objective", str, here), objectives, f"{here}: `objective`")
    given = {key: float(_get(parameters, key, (int, float), here)) for key in objectives[objective]}
    return _MAKE_SHAPING[modifier](objective, given)


def _gauss(objective: str, given: Mapping[str, float]) -> Table:
    good = {"maximize": "above", "minimize": "below", "range": "near"}[objective]
    return {"kind": "gaussian", "center": given["mu"], "width": given["sigma"], "good": good}


def _lin_thresh(objective: str, given: Mapping[str, float]) -> Table:
    if objective == "maximize":
        return {"kind": "linear", "low": given["upper"] - given["buffer"], "high": given["upper"]}
    return {"kind": "reverse_linear", "low": given["lower"], "high": given["lower"] + given["buffer"]}


def _step(objective: str, given: Mapping[str, float]) -> Table:
    if objective == "maximize":
        return {"kind": "step", "low": given["upper"]}
    if objective == "minimize":
        return {"kind": "step", "high": given["lower"]}
    return {"kind": "step", "low": given["lower"], "high": given["upper"]}


def _sigmoid(objective: str, given: Mapping[str, float]) -> Table:
    """1/(1 + e^(−scale (x − c))) around c = upper − 5/scale, or falling around c = lower + 5/scale."""
    away, width = 5 / given["scale"], 10.0
    center = given["upper"] - away if objective == "maximize" else given["lower"] + away
    return {
        "kind": "sigmoid" if objective == "maximize" else "reverse_sigmoid",
        "low": center - width / 2,
        "high": center + width / 2,
        "k": given["scale"] * width / (10 * math.log(10)),
    }


# By modifier and objective, the parameters that it reads.
_MODIFIERS: dict[str, dict[str, tuple[str, ...]]] = {
    "raw": {},
    "gauss": dict.fromkeys(("maximize", "minimize", "range"), ("mu", "sigma")),
    "lin_thresh": {"maximize": ("upper", "buffer"), "minimize": ("lower", "buffer")},
    "step": {"maximize": ("upper",), "minimize": ("lower",), "range": ("lower", "upper")},
    "sigmoid": {"maximize": ("upper", "scale"), "minimize": ("lower", "scale")},
}
_MAKE_SHAPING = {"gauss": _gauss, "lin_thresh": _lin_thresh, "step": _step, "sigmoid": _sigmoid}


def _get(table: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A table's value of a type. Raises ConfigError that says what was expected where it is none."""
    value = table.get(key) if isinstance(table, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = {dict: "a table", list: "a list", str: "a text", int: "a whole number"}.get(
            kind, "a number"
        )
        raise ConfigError(f"{where}: `{key}`: expected {expected}; got {shown(value)}")
    return value


def _known(value: Any, known: Mapping[str, Any], where: str) -> str:
    """A known name. Raises ConfigError with all known names for others."""
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{where}: expected one of {', '.join(known) or 'none'}; got {shown(value)}")
    return value
