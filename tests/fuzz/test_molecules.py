"""Damaged files of molecules, receptors, templates and weights: readers take them, or say one line."""

import functools
import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")

import torch
from rdkit import Chem

from allmodes.chem.molecule_file import read_molecules
from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.policies.policy import load_policy, make_policy, save_policy
from allmodes.chem.policies.pretrain import read_smiles
from allmodes.chem.policies.tokenizer import SmilesTokenizer
from allmodes.chem.surrogate import fit_surrogate, load_surrogate
from fuzzing import check_call, check_command, damage_bytes, fuzz, pick

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
SMILES = (
    "CCO ethanol",
    "c1ccccc1O phenol",
    "CC(=O)Oc1ccccc1C(=O)O",
    "[Na+].[Cl-]",
    "N[C@@H](C)C(=O)O",
    "C1CC1",
)
PIECES = (
    "C", "c", "(", ")", "[", "]", "1", "%99", "=", "#", ".", "@", "/", "\\", "[13CH4]", "[999C]", "[Xx]", "*",
    "[H]", "C1CC1", ":", "->", ">>", "$", "~", "[C+99]", "%(100)", "{", "[#6]", "é", "|", "a",
)  # fmt: skip


def _molecules(rng: random.Random) -> tuple[str, bytes]:
    suffix = rng.choice([".smi", ".smi.gz", ".csv", ".sdf", ".txt"])
    if suffix == ".sdf":
        blocks = [Chem.MolToMolBlock(Chem.MolFromSmiles(text.split()[0])) for text in SMILES]
        return suffix, "".join(f"{block}$$$$\n" for block in blocks).encode()
    if suffix == ".csv":
        rows = "".join(",".join([*text.split(), ""][:2]) + f",{rng.random():.2f}\n" for text in SMILES)
        return suffix, f"smiles,name,score\n{rows}".encode()
    return suffix, "".join(f"{text}\n" for text in SMILES).encode()


def _damaged(rng: random.Random, suffix: str, data: bytes) -> bytes:
    data = damage_bytes(rng, data)
    if suffix.endswith(".gz"):
        data = gzip.compress(data)
        return damage_bytes(rng, data) if rng.random() < 0.3 else data
    return data


@pytest.mark.parametrize(
    "read", [read_molecules, functools.partial(read_smiles, max_tokens=100)], ids=["molecules", "smiles"]
)
def test_damaged_files_of_molecules(read: Callable[[Path], Any], tmp_path: Path) -> None:
    def attempt(rng: random.Random) -> None:
        suffix, data = _molecules(rng)
        path = tmp_path / f"molecules{suffix}"
        path.write_bytes(_damaged(rng, suffix, data))
        check_call(read, path)

    fuzz("files of molecules", 60, attempt)


def test_made_up_smiles() -> None:
    """What is no molecule is None; what is one has a spelling that is its own."""

    def attempt(rng: random.Random) -> None:
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 30)))
        found = canonical_smiles(text)
        assert found is None or canonical_smiles(found) == found, text

    fuzz("SMILES", 300, attempt)


def test_damaged_scores_of_a_surrogate(tmp_path: Path) -> None:
    rows = "".join(f"{'C' * (i + 1)}O,{i % 7 - 3.5}\n" for i in range(40))
    data = f"smiles,docking raw\n{rows}".encode()

    def attempt(rng: random.Random) -> None:
        path = tmp_path / "scores.csv"
        path.write_bytes(damage_bytes(rng, data))
        column = rng.choice(["docking raw", "docking raw", "smiles", "", "nothing"])
        check_call(fit_surrogate, path, tmp_path / "surrogate.safetensors", column=column, target="x")

    fuzz("scores", 8, attempt)


def test_damaged_weights(tmp_path: Path) -> None:
    tokenizer = SmilesTokenizer.from_smiles(["CCO", "c1ccccc1"])
    torch.manual_seed(0)
    policy = make_policy(
        len(tokenizer), cell="lstm", precision="float32", hidden_size=4, num_layers=1, embedding_size=4
    )
    save_policy(tmp_path / "policy.safetensors", policy, tokenizer)
    data = (tmp_path / "policy.safetensors").read_bytes()

    def attempt(rng: random.Random) -> None:
        path = tmp_path / "damaged.safetensors"
        head = 8 + int.from_bytes(data[:8], "little")
        is_head = rng.random() < 0.7
        path.write_bytes(damage_bytes(rng, data[:head]) + data[head:] if is_head else damage_bytes(rng, data))
        check_call(rng.choice([load_policy, load_surrogate]), path)

    fuzz("weights", 100, attempt)


def _pdb() -> str:
    """Three residues of a protein, an ion, water and a ligand, none where a real one would be."""
    atoms = [("ATOM", name, residue, "A", number, element)
             for number, residue in ((1, "GLY"), (2, "ALA"), (3, "SER"))
             for name, element in (("N", "N"), ("CA", "C"), ("C", "C"), ("O", "O"))]  # fmt: skip
    atoms += [("HETATM", "ZN", "ZN", "A", 4, "ZN"), ("HETATM", "O", "HOH", "A", 5, "O")]
    atoms += [("HETATM", f"C{i}", "LIG", "A", 6, "C") for i in range(1, 5)]
    lines = [
        f"{kind:<6}{serial:5d}  {name:<3} {residue:>3} {chain}{number:4d}    "
        f"{serial * 1.3:8.3f}{serial % 3:8.3f}{serial % 5:8.3f}  1.00 10.00          {element:>2}"
        for serial, (kind, name, residue, chain, number, element) in enumerate(atoms, 1)
    ]
    return "\n".join([*lines, "TER", "END", ""])


def _pdbqt() -> str:
    lines = [
        f"{line[:70]}{-0.1:+6.3f} {line[77].strip() or 'C'}"
        for line in _pdb().splitlines()
        if "ATOM  " in line
    ]
    return "\n".join([*lines, "TER", ""])


def test_damaged_receptors(tmp_path: Path) -> None:
    pytest.importorskip("gemmi")
    from allmodes.chem.docking.box import Box, ligand_center
    from allmodes.chem.docking.receptor_file import check_receptor
    from allmodes.chem.docking.receptor_parts import split_structure

    box = Box(center=(5.0, 1.0, 2.0), size=(20.0, 20.0, 20.0))
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))

    def attempt(rng: random.Random) -> None:
        suffix, text = rng.choice([(".pdb", _pdb()), (".pdbqt", _pdbqt()), (".sdf", block)])
        if rng.random() < 0.5:  # a field of fixed width
            lines = text.split("\n")
            at, column = rng.randrange(len(lines)), rng.choice([0, 6, 12, 17, 21, 22, 30, 38, 46, 54, 76])
            word = rng.choice(
                ["     nan", "     inf", "********", " 9999999", "        ", "-1e30   ", "ABCDEFGH"]
            )
            lines[at] = lines[at][:column] + word + lines[at][column + 8 :]
            text = "\n".join(lines)
        data = damage_bytes(rng, text.encode()) if rng.random() < 0.7 else text.encode()
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(data)
        if suffix == ".pdb":
            check_call(
                split_structure,
                path,
                ligand=rng.choice([None, "LIG", "XXX"]),
                chains=pick(rng, ["A", "Z"], 1),
            )
        if suffix == ".pdbqt":
            check_call(check_receptor, path, box, where="`receptor`")
        check_call(ligand_center, path, where="`reference_ligand`")

    fuzz("receptors", 100, attempt)


def test_damaged_templates_and_stocks(tmp_path: Path) -> None:
    pytest.importorskip("syntheseus")
    from allmodes.chem.retrosynthesis.stock import load_stock
    from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates

    templates = shipped_templates().read_bytes()
    stock = "".join(f"{text}\n" for text in SMILES).encode()

    def attempt(rng: random.Random) -> None:
        (tmp_path / "damaged.toml").write_bytes(damage_bytes(rng, templates))
        check_call(load_templates, tmp_path / "damaged.toml")
        (tmp_path / "damaged.smi").write_bytes(damage_bytes(rng, stock))
        check_call(load_stock, tmp_path / "damaged.smi")

    fuzz("templates and stocks", 8, attempt)


def test_flags_of_a_pretraining(command: Command, tmp_path: Path) -> None:
    (tmp_path / "molecules.smi").write_text(
        "".join(f"{'C' * (i % 9 + 1)}{'O' * (i // 9 + 1)}\n" for i in range(40))
    )
    small = {
        "hidden-size": "4",
        "num-layers": "1",
        "embedding-size": "4",
        "epochs": "0.1",
        "num-samples": "4",
    }
    names = (*small, "state-size", "batch-size", "learning-rate", "validation-fraction", "max-tokens", "seed",
             "checkpoint-every", "cell", "precision")  # fmt: skip
    values = (
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "nan",
        "inf",
        "1e30",
        "1e-320",
        "9" * 30,
        str(2**64),
        "x",
        "",
        "gru",
    )

    def attempt(rng: random.Random) -> None:
        flags = small | {name: rng.choice(values) for name in pick(rng, names, 3)}
        out = f"out{rng.randrange(10**9)}"
        check_command(
            command,
            "chem",
            "pretrain",
            "molecules.smi",
            "--out",
            out,
            *(f"--{k}={v}" for k, v in flags.items()),
        )

    fuzz("flags of a pretraining", 12, attempt)
