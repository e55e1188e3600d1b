"""The tasks of GuacaMol, PMO and MolExp, as oracles: each is a list of components and a mean.

PMO's 20 tasks that RDKit alone computes, two more of GuacaMol's second suite, and MolExp's with both kinds of
similarity. Numbers and molecules are the definitions' own; PMO takes GuacaMol's. Sources: Brown et al. 2019
(GuacaMol 0.5.5), Gao et al. 2022 (PMO), Thomas et al. 2025 (MolExp, arXiv 2501.19153).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, final

from allmodes.chem.oracles.config import OracleConfig
from allmodes.errors import InputError
from allmodes.runs.config import build_config

Values = Mapping[str, Any]
Suite = Literal["pmo", "guacamol", "molexp", "molscore"]


@final
@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task. targets: the molecules of which each should be found, of MolExp alone."""

    name: str
    suite: Suite
    components: Sequence[Values]
    aggregation: str = "geometric_mean"
    targets: tuple[str, ...] = ()

    @cached_property
    def oracle(self) -> OracleConfig:
        """How a molecule is scored."""
        values = {"components": list(self.components), "aggregation": self.aggregation}
        return build_config(OracleConfig, values, source=f"task {self.name}")


_CELECOXIB = "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"
_TROGLITAZONE = "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O"
_THIOTHIXENE = "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1"
_ARIPIPRAZOLE = "Clc4cccc(N3CCN(CCCCOc2ccc1c(NC(=O)CC1)c2)CC3)c4Cl"
_ALBUTEROL = "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1"
_MESTRANOL = "COc1ccc2[C@H]3CC[C@@]4(C)[C@@H](CC[C@@]4(O)C#C)[C@@H]3CCc2c1"
_CAMPHOR = "CC1(C)C2CCC1(C)C(=O)C2"
_MENTHOL = "CC(C)C1CCC(C)CC1O"
_TADALAFIL = "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C"
_SILDENAFIL = "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C"
_OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
_FEXOFENADINE = "CC(C)(C(=O)O)c1ccc(cc1)C(O)CCCN2CCC(CC2)C(O)(c3ccccc3)c4ccccc4"
_RANOLAZINE = "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2"
_PERINDOPRIL = "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"
_AMLODIPINE = r"Clc1ccccc1C2C(=C(/N/C(=C2/C(=O)OCC)COCCN)C)\C(=O)OC"
_SITAGLIPTIN = "Fc1cc(c(F)cc1F)CC(N)CC(=O)N3Cc2nnc(n2CC3)C(F)(F)F"
_ZALEPLON = "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"
_HOP = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"
_HOP_SCAFFOLD = "[#7]-c1n[c;h1]nc2[c;h1]c(-[#8])[c;h0][c;h1]c12"
# Of sitagliptin: Crippen's logP, polar surface, Bertz's complexity, as GuacaMol computes them at its start.
_SITAGLIPTIN_LOGP, _SITAGLIPTIN_TPSA, _SITAGLIPTIN_BERTZ = 2.0165, 77.04, 896.3804853871784


def _like(reference: str, fingerprint: str, **shaping: Any) -> Values:
    """Similarity to a molecule, as it is or shaped."""
    shaped = {"shaping": shaping} if shaping else {}
    return {"kind": "similarity", "references": [reference], "fingerprint": fingerprint, **shaped}


def _up_to(similarity: float) -> dict[str, Any]:
    """1 from a similarity on, in proportion to it below."""
    return {"kind": "linear", "high": similarity}


def _bell(kind: str, center: float, width: float, good: str = "near", **keys: Any) -> Values:
    shaping = {"kind": "gaussian", "center": center, "width": width, "good": good}
    return {"kind": kind, "shaping": shaping, **keys}


def _smarts(name: str, pattern: str, match: str = "any") -> Values:
    return {"kind": "smarts", "name": name, "patterns": [pattern], "match": match}


def _pmo(name: str, *components: Values, mean: str = "geometric_mean") -> Task:
    return Task(name=name, suite="pmo", components=components, aggregation=mean)


def _molexp(family: str, *targets: str) -> list[Task]:
    """Similarity to the nearest of several targets: by fingerprint, and by the text of the SMILES."""
    by_print = {"kind": "similarity", "references": targets, "fingerprint": "ECFP4"}
    by_text = {"kind": "levenshtein", "references": targets}
    return [
        Task(name=f"{suite}_{family}", suite="molexp", components=(component,), targets=targets)
        for suite, component in (("molexp", by_print), ("molexpl", by_text))
    ]


_PMO = (
    _pmo("albuterol_similarity", _like(_ALBUTEROL, "FCFP4", **_up_to(0.75))),
    _pmo(
        "amlodipine_mpo",
        _like(_AMLODIPINE, "ECFP4"),
        _bell("rings", 3, 0.5),
    ),
    _pmo("celecoxib_rediscovery", _like(_CELECOXIB, "ECFP4")),
    _pmo(
        "deco_hop",
        _like(_HOP, "PHCO", **_up_to(0.85)),
        _smarts("no sulfone", "CS([#6])(=O)=O", "none"),
        _smarts("no benzothiazole", "[#7]-c1ccc2ncsc2c1", "none"),
        _smarts("scaffold", _HOP_SCAFFOLD),
        mean="arithmetic_mean",
    ),
    _pmo(
        "fexofenadine_mpo",
        _like(_FEXOFENADINE, "AP", **_up_to(0.8)),
        _bell("tpsa", 90, 10, "above"),
        _bell("logp", 4, 1, "below"),
    ),
    _pmo("isomers_c7h8n2o2", {"kind": "isomer", "formula": "C7H8N2O2"}),
    _pmo("isomers_c9h10n2o2pf2cl", {"kind": "isomer", "formula": "C9H10N2O2PF2Cl"}),
    _pmo(
        "median1",
        {**_like(_CAMPHOR, "ECFP4"), "name": "camphor"},
        {**_like(_MENTHOL, "ECFP4"), "name": "menthol"},
    ),
    _pmo(
        "median2",
        {**_like(_TADALAFIL, "ECFP6"), "name": "tadalafil"},
        {**_like(_SILDENAFIL, "ECFP6"), "name": "sildenafil"},
    ),
    _pmo("mestranol_similarity", _like(_MESTRANOL, "AP", **_up_to(0.75))),
    _pmo(
        "osimertinib_mpo",
        {**_like(_OSIMERTINIB, "FCFP4", **_up_to(0.8)), "name": "similar"},
        {**_bell("similarity", 0.85, 0.1, "below", references=[_OSIMERTINIB], fingerprint="ECFP6"),
         "name": "not too similar"},
        _bell("tpsa", 100, 10, "above"),
        _bell("logp", 1, 1, "below"),
    ),
    _pmo(
        "perindopril_mpo",
        _like(_PERINDOPRIL, "ECFP4"),
        _bell("aromatic_rings", 2, 0.5),
    ),
    _pmo("qed", {"kind": "qed"}),
    _pmo(
        "ranolazine_mpo",
        _like(_RANOLAZINE, "AP", **_up_to(0.7)),
        _bell("logp", 7, 1, "above"),
        _bell("tpsa", 95, 20, "above"),
        _bell("atoms", 1, 1, element="F"),
    ),
    _pmo(
        "scaffold_hop",
        _like(_HOP, "PHCO", **_up_to(0.75)),
        _smarts(
            "decoration",
            "[#6]-[#6]-[#6]-[#8]-[#6]~[#6]~[#6]~[#6]~[#6]-[#7]-c1ccc2ncsc2c1",
        ),
        _smarts("other scaffold", _HOP_SCAFFOLD, "none"),
        mean="arithmetic_mean",
    ),
    _pmo(
        "sitagliptin_mpo",
        _bell("similarity", 0, 0.1, references=[_SITAGLIPTIN], fingerprint="ECFP4"),
        _bell("logp", _SITAGLIPTIN_LOGP, 0.2),
        _bell("tpsa", _SITAGLIPTIN_TPSA, 5),
        {"kind": "isomer", "formula": "C16H15F6N5O"},
    ),
    _pmo("thiothixene_rediscovery", _like(_THIOTHIXENE, "ECFP4")),
    _pmo("troglitazone_rediscovery", _like(_TROGLITAZONE, "ECFP4")),
    _pmo(
        "valsartan_smarts",
        _smarts("valsartan", "CN(C=O)Cc1ccc(c2ccccc2)cc1"),
        _bell("logp", _SITAGLIPTIN_LOGP, 0.2),
        _bell("tpsa", _SITAGLIPTIN_TPSA, 5),
        _bell("bertz", _SITAGLIPTIN_BERTZ, 30),
    ),
    _pmo(
        "zaleplon_mpo",
        _like(_ZALEPLON, "ECFP4"),
        {"kind": "isomer", "formula": "C19H17N3O2"},
    ),
)  # fmt: skip

_GUACAMOL = (
    Task(
        name="aripiprazole_similarity",
        suite="guacamol",
        components=(_like(_ARIPIPRAZOLE, "ECFP4", **_up_to(0.75)),),
    ),
    Task(name="isomers_c11h24", suite="guacamol", components=({"kind": "isomer", "formula": "C11H24"},)),
)

_MOLEXP = (
    *_molexp(
        "ap",
        "CN1CCN(CCCN2c3ccccc3Sc3ccc(Cl)cc32)CC1",
        "CN1CCN2c3c(cccc31)C1CN(CCCC(=O)c3ccc(F)cc3)CCC12",
    ),
    *_molexp(
        "a2a",
        "CCCN1c2c([nH]c(n2)c3ccc(cc3)OCC(=O)NCCN)C(=O)N(C1=O)CCC",
        "CC(C)(C)CC(=O)Nc1c(cc(cc1F)C(=O)Nc2nccs2)F",
        "Cc1cc(cc(n1)Cl)c2c(nc(nn2)N)c3ccc(cc3)F",
    ),
    *_molexp(
        "bace1",
        "NC1=NC(c2cccc(-c3cncnc3)c2)(c2ccnc(C(F)F)c2)c2cccc(F)c21",
        "NC1=NC2(c3cc(NC(=O)c4ccc(F)cn4)ccc3F)COCC2CS1",
        "CC#Cc1cncc(-c2ccc3c(c2)C2(N=C(C)C(N)=N2)C2(CCC(OC)CC2)C3)c1",
    ),
    *_molexp(
        "egfr",
        "COc1cc2ncnc(Nc3ccc(F)c(Cl)c3)c2cc1NC(=O)C=CCN1CCCCC1",
        "C=CC(=O)N1CCC(Oc2nc(Nc3ccc(N4CCC(N5CCN(C)CC5)CC4)cc3)c(C(N)=O)nc2CC)C1",
        "Cc1cc(C(=O)Nc2nc3cccc(Cl)c3n2C2CCCCN(C(=O)C=CCN(C)C)C2)ccn1",
        "C=CC(=O)Nc1cc(Nc2nccc(-n3cc(CN(C)C)c(-c4ccccc4)n3)n2)c(OC)cc1N1CCOCC1",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (*_PMO, *_GUACAMOL, *_MOLEXP)}
"""Every task by its name."""

# PMO's other three are predictions of models that were pickled with an old scikit-learn.
_MODELS = ("drd2", "gsk3b", "jnk3")


def tasks_of(suite: Suite) -> tuple[str, ...]:
    """The names of a suite's tasks, in order; PMO's are the 20 that RDKit alone computes.

    >>> tasks_of("molexp")[:2]
    ('molexp_ap', 'molexpl_ap')
    """
    return tuple(task.name for task in TASKS.values() if task.suite == suite)


def find_task(name: str) -> Task:
    """The task of a name, or of a MolScore configuration, "molscore:FILE".

    Raises InputError for a name that no task has, ConfigError for a configuration that cannot be read.

    >>> find_task("celecoxib_rediscovery").suite
    'pmo'
    """
    kind, colon, file = name.partition(":")
    if kind == "molscore" and colon:
        from allmodes.chem.benchmarks.molscore import read_molscore

        return read_molscore(file)
    if name in TASKS:
        return TASKS[name]
    if name in _MODELS:
        raise InputError(
            f"task {name!r} cannot be computed here: PMO scores it with a pickled model of scikit-learn; "
            "expected one of the 20 tasks that RDKit computes"
        )
    close = get_close_matches(name.lower(), TASKS, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(TASKS)}"
    raise InputError(f"expected the name of a benchmark task, or molscore:FILE; got {name!r}; {hint}")
