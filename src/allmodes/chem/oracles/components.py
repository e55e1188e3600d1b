"""Scorers that run in the oracle's worker process: RDKit's, a user's function, docking, retrosynthesis."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdkit import Chem, DataStructs, RDConfig
from rdkit.Chem import QED, Descriptors, rdFingerprintGenerator, rdMolDescriptors

from allmodes.chem.molecules import MoleculeError, parse_smiles
from allmodes.chem.oracles.results import Scored, UnscorableError
from allmodes.errors import ConfigError

Scorer = Callable[[str], float | Scored]


def make_scorer(component: dict[str, Any]) -> Scorer:
    """The scorer of a component's configuration. Raises `ConfigError` for one that cannot work."""
    kind = component["kind"]
    if kind == "similarity":
        return _similarity(component)
    if kind == "smarts":
        return _smarts(component)
    if kind == "function":
        return _function(component)
    if kind == "docking":
        from allmodes.chem.docking.scorer import make_docking_scorer

        return make_docking_scorer(component)
    if kind == "external_docking":
        from allmodes.chem.docking.scorer import make_external_docking_scorer

        return make_external_docking_scorer(component)
    if kind == "retrosynthesis":
        from allmodes.chem.retrosynthesis.scorer import make_retrosynthesis_scorer

        return make_retrosynthesis_scorer(component)
    if kind == "surrogate":
        from allmodes.chem.surrogate import make_surrogate_scorer

        return make_surrogate_scorer(component)
    compute = _properties()[kind]
    return lambda smiles: float(compute(_molecule(smiles)))


def _molecule(smiles: str) -> Chem.Mol:
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"RDKit cannot read {smiles!r}")
    return molecule


def _properties() -> dict[str, Callable[[Chem.Mol], float]]:
    # RDKit ships the SA score as a contributed script, outside its package.
    sys.path.append(str(Path(RDConfig.RDContribDir) / "SA_Score"))
    sa_score = importlib.import_module("sascorer")
    return {
        "qed": QED.qed,
        "hbd": rdMolDescriptors.CalcNumHBD,
        "sa_score": sa_score.calculateScore,
        "logp": lambda molecule: rdMolDescriptors.CalcCrippenDescriptors(molecule)[0],
        "weight": Descriptors.MolWt,  # pyright: ignore[reportAttributeAccessIssue]
        "tpsa": rdMolDescriptors.CalcTPSA,
        "rings": rdMolDescriptors.CalcNumRings,
    }


def _similarity(component: dict[str, Any]) -> Scorer:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    references = []
    for text in component["references"]:
        try:
            references.append(generator.GetFingerprint(parse_smiles(text)))
        except MoleculeError as error:
            where = f"component {component['name']!r}: `references`:"
            raise ConfigError(f"{where} expected SMILES; got {text[:100]!r}: {error}") from error

    def score(smiles: str) -> float:
        fingerprint = generator.GetFingerprint(_molecule(smiles))
        return max(DataStructs.BulkTanimotoSimilarity(fingerprint, references))

    return score


def _smarts(component: dict[str, Any]) -> Scorer:
    patterns = []
    for text in component["patterns"]:
        pattern = Chem.MolFromSmarts(text)
        if pattern is None:
            raise ConfigError(f"component {component['name']!r}: `patterns`: expected SMARTS; got {text!r}")
        patterns.append(pattern)
    return lambda smiles: float(any(map(_molecule(smiles).HasSubstructMatch, patterns)))


def _function(component: dict[str, Any]) -> Scorer:
    module_name, _, function_name = component["function"].partition(":")
    where = f"component {component['name']!r}: `function`:"
    sys.path.insert(0, "")  # the folder that the run was started in, under PYTHONSAFEPATH too
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where} cannot import {module_name!r}; {reason}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(
            f"{where} expected a function {function_name!r} in {module_name!r}; got {function!r}"
        )

    def score(smiles: str) -> float:
        value: Any = function(smiles)
        if value is None:
            raise UnscorableError("not_finite", "expected a number; got None")
        try:
            return float(value)
        except OverflowError as error:
            raise UnscorableError("not_finite", "expected a finite number; got a larger integer") from error
        except (TypeError, ValueError) as error:
            raise UnscorableError("malformed", f"expected a number; got {type(value).__name__}") from error

    return score
