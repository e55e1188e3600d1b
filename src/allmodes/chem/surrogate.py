"""A surrogate for a slow scorer: ridge regression on molecules that it has scored."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import QED, Crippen, rdFingerprintGenerator, rdMolDescriptors
from torch import Tensor

from allmodes.chem.molecule_records import read_records
from allmodes.chem.molecules import MoleculeError, spelling
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.reports.formatting import plural
from allmodes.reports.progress import console, tracked
from allmodes.runs.checkpoint import load_checkpoint, save_checkpoint

_FORMAT = "allmodes-surrogate-1"
_BITS = 2048
_FOLDS = 5
_LEAST = 50  # molecules; with fewer there is no held-out error worth the name
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DESCRIPTORS: tuple[Callable[[Chem.Mol], float], ...] = (
    lambda molecule: molecule.GetNumHeavyAtoms(),
    lambda molecule: math.sqrt(molecule.GetNumHeavyAtoms()),
    Crippen.MolLogP,  # pyright: ignore[reportAttributeAccessIssue]
    rdMolDescriptors.CalcTPSA,
    rdMolDescriptors.CalcNumRotatableBonds,
    rdMolDescriptors.CalcNumRings,
    rdMolDescriptors.CalcNumAromaticRings,
    rdMolDescriptors.CalcNumHBD,
    rdMolDescriptors.CalcNumHBA,
    rdMolDescriptors.CalcFractionCSP3,
    QED.qed,
)


@final
@dataclass(frozen=True, kw_only=True)
class SurrogateCard:
    """The card of a surrogate: the scorer that it replaces, and its error on held-out molecules.

    Five-fold cross-validation, each molecule predicted once by a fit that did not see it. rmse and
    mean_error (of absolute values) in units of the score; r2 and rank_correlation (Spearman) against it;
    spread: the scores' own standard deviation, which is the rmse of a constant.
    """

    target: str
    molecules: int
    penalty: float
    rmse: float
    mean_error: float
    r2: float
    rank_correlation: float
    spread: float


def fit_surrogate(file: Path, out: Path, *, column: str, target: str) -> SurrogateCard:
    """Fit a surrogate to a table with a column of SMILES and `column`, or an SDF; write it to `out`.

    Rows without a molecule or a number are left out, and counted: a failure is no score. target: words for
    what is stood in for. Raises `InputError` for a file that cannot be used, and `RunError` if `out` cannot
    be written.
    """
    smiles, scores = _read(file, column)
    features = torch.stack([_features(line) for line in tracked(smiles, "fingerprints", total=len(smiles))])
    spread = float(scores.std(correction=0))
    if spread == 0:
        raise InputError(f"{file}: `{column}`: expected scores that differ; all are {float(scores[0]):g}")
    folds = torch.tensor([_fold(line) for line in smiles])
    predictions = {
        penalty: _cross_validate(features, scores, folds, penalty=penalty)
        for penalty in tracked(_PENALTIES, "cross-validation", total=len(_PENALTIES))
    }
    penalty = min(predictions, key=lambda p: float((predictions[p] - scores).square().mean()))
    held_out = predictions[penalty]
    rmse = float((held_out - scores).square().mean().sqrt())
    card = SurrogateCard(
        target=target,
        molecules=len(smiles),
        penalty=penalty,
        rmse=rmse,
        mean_error=float((held_out - scores).abs().mean()),
        r2=1 - (rmse / spread) ** 2,
        rank_correlation=_rank_correlation(held_out, scores),
        spread=spread,
    )
    save_checkpoint(out, _fit(features, scores, penalty=penalty), {"format": _FORMAT, "card": asdict(card)})
    return card


def shipped_surrogate() -> Path:
    """The surrogate that comes with allmodes: Vina's scores against ClpP, at exhaustiveness 1."""
    return Path(str(files("allmodes.chem") / "surrogates" / "clpp-vina.safetensors"))


def load_surrogate(path: Path) -> tuple[Callable[[str], float], SurrogateCard]:
    """The surrogate in a file, as a function of a SMILES, and its card. Raises `RunError` if it is none."""
    tensors, state = load_checkpoint(path)
    if state.get("format") != _FORMAT:
        raise RunError(f"{path}: expected a surrogate of format {_FORMAT!r}; got {state.get('format')!r}")

    def predict(smiles: str) -> float:
        return float(_predict(_features(smiles), tensors))

    return predict, SurrogateCard(**state["card"])


def make_surrogate_scorer(component: dict[str, Any]) -> Callable[[str], float]:
    """The scorer of a dumped `SurrogateComponent`. Raises `ConfigError` for a file that is none."""
    path = shipped_surrogate() if component["model"] is None else Path(component["model"])
    try:
        return load_surrogate(path)[0]
    except RunError as error:
        raise ConfigError(f"component {component['name']!r}: `model`: {error}") from error


def _read(file: Path, column: str) -> tuple[list[str], Tensor]:
    scores: dict[str, float] = {}
    without = 0
    for record in read_records(file, column=column):
        score = _number(record.value)
        try:
            smiles = None if score is None else spelling(record.molecule())
        except MoleculeError:
            smiles = None
        if smiles is None or score is None:
            without += 1
        else:
            scores[smiles] = score
    if len(scores) < _LEAST:
        left_out = f" and {plural(without, 'row')} without a molecule or a number" if without else ""
        raise InputError(
            f"{file}: expected at least {_LEAST} molecules with a number in `{column}`; "
            f"got {len(scores)}{left_out}"
        )
    if without:
        console.print(f"{plural(without, 'row')} without a molecule or a number in `{column}` left out")
    return list(scores), torch.tensor(list(scores.values()), dtype=torch.float64)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_GENERATOR = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=_BITS)


def _features(smiles: str) -> Tensor:
    """Counts of hashed Morgan environments, as log(1 + n), and descriptors; (2048 + 11,), float64."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"RDKit cannot read {smiles!r}")
    counts = np.log1p(_GENERATOR.GetCountFingerprintAsNumPy(molecule).astype(np.float64))
    descriptors = np.array([float(describe(molecule)) for describe in _DESCRIPTORS])
    return torch.from_numpy(np.concatenate([counts, descriptors]))


def _fold(smiles: str) -> int:
    """The fold of a molecule: always the same, and the same for its stereoisomers, whose features agree."""
    flat = Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)
    return int(hashlib.sha256(flat.encode()).hexdigest(), 16) % _FOLDS


def _fit(features: Tensor, scores: Tensor, *, penalty: float) -> dict[str, Tensor]:
    """Ridge regression on standardised columns; a column that never changes has no weight.

    w = Xᵀ (X Xᵀ + λ 1)⁻¹ (y − ȳ), the dual form of (Xᵀ X + λ 1)⁻¹ Xᵀ (y − ȳ)
    """
    mean, spread = features.mean(0), features.std(0, correction=0)
    scale = torch.where(spread > 0, 1 / spread, 0.0)
    scale[:_BITS] *= 0.1  # of 2048 columns: so that they do not drown the descriptors
    centred = (features - mean) * scale
    kernel = centred @ centred.T + penalty * torch.eye(len(scores), dtype=scores.dtype)
    weights = centred.T @ torch.linalg.solve(kernel, scores - scores.mean())
    return {"weights": weights * scale, "mean": mean, "intercept": scores.mean()}


def _predict(features: Tensor, fit: dict[str, Tensor]) -> Tensor:
    return (features - fit["mean"]) @ fit["weights"] + fit["intercept"]


def _cross_validate(features: Tensor, scores: Tensor, folds: Tensor, *, penalty: float) -> Tensor:
    predictions = torch.empty_like(scores)
    for fold in range(_FOLDS):
        held_out = folds == fold
        fit = _fit(features[~held_out], scores[~held_out], penalty=penalty)
        predictions[held_out] = _predict(features[held_out], fit)
    return predictions


def _rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's: Pearson's of the ranks, with the mean rank for ties."""
    ranks = torch.stack([_ranks(one), _ranks(other)])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).to(values.dtype)
    return (last - (counts - 1) / 2)[inverse]
