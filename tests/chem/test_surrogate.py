"""A surrogate against a regression solved otherwise, and what it says of its own error."""

import csv
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator
from scipy import stats

from allmodes.chem import surrogate
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.surrogate import fit_surrogate, load_surrogate
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.runs.checkpoint import save_checkpoint


@pytest.fixture
def molecules(molecules_file: Path) -> list[str]:
    lines = molecules_file.read_text().splitlines()
    return [Chem.CanonSmiles(line.split()[0]) for line in lines]


def write(path: Path, rows: list[tuple[str, Any]], column: str = "docking raw") -> Path:
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows([("smiles", column), *rows])
    return path


def heavy_atoms(smiles: str) -> float:
    return -0.2 * Chem.MolFromSmiles(smiles).GetNumHeavyAtoms()


def test_a_rule_that_is_linear_in_a_descriptor_is_found(molecules: list[str], tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [(smiles, heavy_atoms(smiles)) for smiles in molecules])
    card = fit_surrogate(file, tmp_path / "s.safetensors", column="docking raw", target="atoms")
    assert card.molecules == len(set(molecules))
    assert card.r2 > 0.9
    predict, loaded = load_surrogate(tmp_path / "s.safetensors")
    assert loaded == card
    assert predict(molecules[3]) == pytest.approx(heavy_atoms(molecules[3]), abs=4 * card.rmse)


def test_the_card_is_of_held_out_molecules(molecules: list[str], tmp_path: Path) -> None:
    """Noise cannot be predicted: in-sample it looks as if it could, held out it does not."""
    noise = torch.randn(len(molecules), generator=torch.Generator().manual_seed(1)).tolist()
    file = write(tmp_path / "a.csv", list(zip(molecules, noise, strict=True)))
    card = fit_surrogate(file, tmp_path / "s.safetensors", column="docking raw", target="noise")
    assert card.rmse > 0.9 * card.spread
    assert card.r2 == pytest.approx(1 - (card.rmse / card.spread) ** 2)
    assert abs(card.rank_correlation) < 0.4


def test_the_fit_is_ridge_regression(molecules: list[str], tmp_path: Path) -> None:
    """The primal normal equations, solved by numpy, with the penalty that the card names."""
    scores = [heavy_atoms(smiles) + math.sin(index) for index, smiles in enumerate(molecules)]
    file = write(tmp_path / "a.csv", list(zip(molecules, scores, strict=True)))
    card = fit_surrogate(file, tmp_path / "s.safetensors", column="docking raw", target="t")
    by_smiles = dict(zip(molecules, scores, strict=True))
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)

    def features(smiles: str) -> np.ndarray:
        molecule = Chem.MolFromSmiles(smiles)
        counts = np.log1p(generator.GetCountFingerprintAsNumPy(molecule).astype(float))
        described = [describe(molecule) for describe in surrogate._DESCRIPTORS]
        assert described[0] == Descriptors.HeavyAtomCount(molecule)  # type: ignore[attr-defined]
        return np.concatenate([counts, described])

    x, y = np.stack([features(smiles) for smiles in by_smiles]), np.array(list(by_smiles.values()))
    spread = x.std(0)
    kept = spread > 0
    z = (x - x.mean(0))[:, kept] / spread[kept]
    z[:, : kept[:2048].sum()] *= 0.1
    weights = np.linalg.solve(z.T @ z + card.penalty * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    predict, _ = load_surrogate(tmp_path / "s.safetensors")
    expected = z @ weights + y.mean()
    assert [predict(smiles) for smiles in by_smiles] == pytest.approx(expected.tolist(), abs=1e-8)


def test_rank_correlation_is_spearmans() -> None:
    one = torch.tensor([3.0, 1.0, 2.0, 2.0, 5.0, 2.0])
    other = torch.tensor([1.0, 0.0, 4.0, 1.0, 9.0, 1.0])
    expected = stats.spearmanr(one.numpy(), other.numpy()).statistic
    assert surrogate._rank_correlation(one, other) == pytest.approx(expected)


def test_rows_without_a_score_are_left_out(molecules: list[str], tmp_path: Path) -> None:
    rows: list[tuple[str, Any]] = [(smiles, heavy_atoms(smiles)) for smiles in molecules]
    bad = [("CCCCO", ""), ("CCCCN", "failed"), ("CCCCC", "nan"), ("no molecule", -3.0)]
    cards = [
        fit_surrogate(write(tmp_path / "a.csv", lines), tmp_path / "s", column="docking raw", target="t")
        for lines in (rows, rows[:20] + bad + rows[20:])
    ]
    assert cards[0] == cards[1]


def test_it_is_a_component_of_the_oracle(molecules: list[str], tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [(smiles, heavy_atoms(smiles)) for smiles in molecules])
    fit_surrogate(file, tmp_path / "s.safetensors", column="docking raw", target="t")
    shaping = {"kind": "reverse_sigmoid", "low": -16.0, "high": 0.0, "k": 0.15}
    component = {"kind": "surrogate", "model": tmp_path / "s.safetensors", "shaping": shaping}
    config = OracleConfig.model_validate({"components": [component]})
    with ComponentOracle(config) as oracle:
        good, bad = oracle.evaluate([molecules[0], "no molecule"])
    assert good.raw["surrogate"] == pytest.approx(load_surrogate(tmp_path / "s.safetensors")[0](molecules[0]))
    assert bad.failure is not None
    assert "RDKit cannot read" in bad.failure


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("smiles,other\nC,1\n", "expected the columns smiles and docking raw; got smiles, other"),
        (
            "smiles,docking raw\nC,1\nCC,2\n",
            "with a number in `docking raw`; got 2",
        ),
        ("", "expected a column `smiles`; got an empty file"),
        ("smiles,docking raw\nC,1\nCX,2\nCC,\nCN,nan\n", "; got 1 and 3 rows without a molecule or a number"),
    ],
)
def test_a_file_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        fit_surrogate(tmp_path / "a.csv", tmp_path / "s", column="docking raw", target="t")
    with pytest.raises(InputError, match="cannot read"):
        fit_surrogate(tmp_path / "none.csv", tmp_path / "s", column="docking raw", target="t")


def test_columns_are_found_in_any_case_with_any_delimiter_and_in_an_sdf(
    molecules: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = write(tmp_path / "a.csv", [(smiles, heavy_atoms(smiles)) for smiles in molecules])
    expected = fit_surrogate(plain, tmp_path / "a", column="docking raw", target="t")
    rows = [f'"x; y";"{smiles}";"{heavy_atoms(smiles)}"' for smiles in molecules]
    (tmp_path / "b.csv").write_text("\r".join(['"Name";"Smiles";"Docking_Raw"', *rows, '"";"CX";"1"']))
    capfd.readouterr()
    card = fit_surrogate(tmp_path / "b.csv", tmp_path / "b", column="docking raw", target="t")
    assert card == expected
    assert "1 row without a molecule or a number in `docking raw` left out" in capfd.readouterr().err
    records = (
        f"{Chem.MolToMolBlock(Chem.MolFromSmiles(smiles))}> <docking raw>\n{heavy_atoms(smiles)}\n\n$$$$\n"
        for smiles in molecules
    )
    (tmp_path / "c.sdf").write_text("".join(records))
    assert fit_surrogate(tmp_path / "c.sdf", tmp_path / "c", column="docking raw", target="t") == expected


def test_another_file_is_no_surrogate(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, {"x": torch.zeros(1)}, {"format": "allmodes-policy-1"})
    with pytest.raises(RunError, match="expected a surrogate of format"):
        load_surrogate(path)
    config = OracleConfig.model_validate({"components": [{"kind": "surrogate", "model": path}]})
    with (
        pytest.raises(ConfigError, match=r"component 'surrogate': `model`: .*expected a surrogate"),
        ComponentOracle(config),
    ):
        pass


def test_the_shipped_surrogate_is_what_the_shipped_molecules_make(tmp_path: Path) -> None:
    shipped = surrogate.shipped_surrogate()
    predict, card = load_surrogate(shipped)
    again = fit_surrogate(
        shipped.with_suffix(".csv"), tmp_path / "s", column="docking raw", target=card.target
    )
    for name, value in asdict(card).items():
        expected = pytest.approx(value) if isinstance(value, float) else value
        assert getattr(again, name) == expected, name
    assert "ClpP" in card.target
    stated = shipped.with_suffix(".md").read_text()
    assert f"{card.rmse:.3f}".removeprefix("0") in stated
    assert f"{card.molecules:,}" in stated
    with open(shipped.with_suffix(".csv"), newline="") as handle:
        rows = list(csv.DictReader(handle))
    errors = [predict(row["smiles"]) - float(row["docking raw"]) for row in rows[:100]]
    assert sum(map(abs, errors)) / 100 < card.mean_error  # it has seen these
