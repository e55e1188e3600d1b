"""Stocks: what counts as being in one, what is read, what is refused."""

import gzip
import hashlib
from pathlib import Path

import pytest
from rdkit import Chem
from syntheseus.interface.molecule import Molecule

from allmodes.chem.retrosynthesis import stock as stock_module
from allmodes.chem.retrosynthesis.default_stock import default_stock
from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.stock import Stock, load_stock, shipped_stock, stock_of, write_stock
from allmodes.chem.retrosynthesis.templates import TemplateSet
from allmodes.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_stock(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("smiles", "standard"),
    [
        ("OCC", "CCO"),
        ("C[NH3+]", "CN"),
        ("CC(=O)[O-]", "CC(=O)O"),
        ("[NH3+][C@@H](C)C([O-])=O", "C[C@H](N)C(=O)O"),
        ("C[N+](C)(C)C", "C[N+](C)(C)C"),
        ("C[N+](=O)[O-]", "C[N+](=O)[O-]"),
        ("CN=[N+]=[N-]", "CN=[N+]=[N-]"),
        ("c1cc[nH+]cc1", "c1ccncc1"),
    ],
)
def test_acids_amines_and_their_ions_are_one(smiles: str, standard: str) -> None:
    assert standard_smiles(Chem.MolFromSmiles(smiles)) == standard


def test_a_file_is_read_in_any_spelling_plain_and_gzipped(tmp_path: Path) -> None:
    text = "OCC ethanol 12.50\n\n# a comment\nC1=CC=CC=C1\tbenzene\r\n  CN  \nCCO\n"
    plain = load_stock(write(tmp_path / "a.smi", text))
    (tmp_path / "a.smi.gz").write_bytes(gzip.compress(text.encode()))
    packed = load_stock(tmp_path / "a.smi.gz")
    for found in (plain, packed):
        assert set(found.entries) == {"CCO", "c1ccccc1", "CN"}
        assert len(found) == 3
        assert found.is_purchasable(Molecule("CCO"))
        assert not found.is_purchasable(Molecule("CCC"))


def test_a_salt_stands_for_its_largest_fragment_with_carbon(tmp_path: Path) -> None:
    lines = "Cl.CCN\n[Na+].CC(=O)[O-]\nC[NH3+].F[P-](F)(F)(F)(F)F\nCC(O)=O.NCCc1ccccc1\n"
    assert set(load_stock(write(tmp_path / "salts.smi", lines)).entries) == {
        *("CCN", "CC(=O)O", "CN", "NCCc1ccccc1")
    }


def test_stereochemistry_that_is_asked_for_must_be_there_and_what_is_left_open_may_be_any() -> None:
    found = stock_of(["C[C@H](N)c1ccccc1", "CC(O)c1ccccc1", "C/C=C/CN"])
    assert "C[C@H](N)c1ccccc1" in found
    assert "CC(N)c1ccccc1" in found  # any hand will do
    assert "C[C@@H](N)c1ccccc1" not in found
    assert "CC(O)c1ccccc1" in found
    assert "C[C@H](O)c1ccccc1" not in found  # a racemate is not one hand
    assert "CC=CCN" in found
    assert "C/C=C\\CN" not in found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("CC(", "CC("),
        ("no-smiles here", "no-smiles"),
        ("c1cccc1", "c1cccc1"),
        ("C(C)(C)(C)(C)C", "C(C)(C)(C)(C)C"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, text: str) -> None:
    path = write(tmp_path / "bad.smi", f"CCO\n\n{line}\nCC\n")
    why = "RDKit cannot read it as SMILES"
    assert error_of(path) == f"`stock`: {path}: line 3: expected a molecule; got {text!r}: {why}"


RACEMATES = {
    "no stereo": "CC(N)c1ccccc1",
    "and": "C[C@H](N)c1ccccc1 |&1:1|",
    "or": "C[C@H](N)c1ccccc1 |o1:1|",
    "relative": "C[C@H](N)c1ccccc1 |r|",
    "both hands": "C[C@H](N)c1ccccc1.C[C@@H](N)c1ccccc1",
    "both hands, with an acid": "C[C@H](N)c1ccccc1.C[C@@H]([NH3+])c1ccccc1.[Cl-]",
    "mapped": "[CH3:1][C@H:2](N)c1ccccc1 |&1:1|",
}


@pytest.mark.parametrize("text", RACEMATES.values(), ids=RACEMATES)
@pytest.mark.parametrize("ending", ["smi", "csv", "sdf"])
def test_a_racemate_is_no_enantiomer_however_it_is_written(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "sdf":
        molecule = Chem.MolFromSmiles(text.replace("|r|", "|&1:1|"))  # a molfile knows groups alone
        write(path, Chem.MolToV3KMolBlock(molecule) + "$$$$\n")
    else:
        write(path, f"{text} name\n" if ending == "smi" else f'id,SMILES\n1,"{text}"\n')
    found = load_stock(path)
    assert set(found.entries) == {"CC(N)c1ccccc1"}
    assert "C[C@H](N)c1ccccc1" not in found
    assert "C[C@@H](N)c1ccccc1" not in found


def test_one_hand_stays_one_hand_and_an_isotope_is_another_molecule() -> None:
    found = stock_of(["C[C@H](N)c1ccccc1.Cl", "C[C@H](O)F |a:1|", "[13CH3][OH:1]", "C[C@H](N)Cl.C[C@H](N)Cl"])
    assert set(found.entries) == {"C[C@H](N)c1ccccc1", "C[C@H](O)F", "[13CH3]O", "C[C@H](N)Cl"}
    assert "CO" not in found


def test_a_table_and_an_sdf_are_read_as_what_they_are(tmp_path: Path) -> None:
    table = '"ChEMBL ID";"Name";"Smiles"\r\n"1";"a;b";"OCC"\r\n"2";"";"CN"\r\n'
    assert set(load_stock(write(tmp_path / "a.csv", table)).entries) == {"CCO", "CN"}
    records = [Chem.MolToMolBlock(Chem.MolFromSmiles(text)) for text in ("OCC", "CN")]
    sdf = "".join(f"{record}> <formula>\nC\n\n> <code>\nCN\n\n$$$$\n" for record in records[:1])
    assert set(load_stock(write(tmp_path / "a.sdf", sdf)).entries) == {"CCO"}
    bad = sdf + "\n\n\nhello\nM  END\n$$$$\n"
    assert "line 18: expected a molecule; got '': RDKit cannot" in error_of(write(tmp_path / "bad.sdf", bad))


def test_a_molecule_that_rdkit_cannot_stand_costs_one_entry(tmp_path: Path) -> None:
    found = load_stock(write(tmp_path / "long.smi", f"CCO\n{'C' * 20_000}\n{'C' * 600}\nCN\n"))
    assert set(found.entries) == {"CCO", "CN"}
    assert found.left_out == 2
    assert found.first_left_out == "line 2: 20,000 characters, more than 4,000"


def test_a_valence_that_rdkit_does_not_know_costs_one_entry(tmp_path: Path) -> None:
    found = load_stock(write(tmp_path / "odd.smi", "CCO\n[O-][IH2+3](O)(O)(O)(O)O\n"))
    assert set(found.entries) == {"CCO"}
    assert found.left_out == 1
    assert found.first_left_out == "line 2: a valence that RDKit does not know"


def test_a_file_without_molecules_or_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for text in ("", "\n\n", "# nothing\n"):
        assert "expected at least one molecule; got none" in error_of(write(tmp_path / "none.smi", text))
    assert "No such file" in error_of(tmp_path / "missing.smi")
    assert "it is not compressed as its name says" in error_of(write(tmp_path / "not.smi.gz", "CCO\n"))
    (tmp_path / "cut.smi.gz").write_bytes(gzip.compress(b"CCO\n" * 9999)[:-20])
    assert "cut.smi.gz: Compressed file ended" in error_of(tmp_path / "cut.smi.gz")
    (tmp_path / "binary.smi").write_bytes(b"\xff\xff\x00")
    assert "binary.smi: line 1: expected a molecule; got" in error_of(tmp_path / "binary.smi")


def test_a_written_stock_comes_back_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    smiles = ["C[C@H](N)c1ccccc1", "CCO", "CC(O)c1ccccc1"]
    write_stock(stock_of(smiles), tmp_path / "a.smi.gz")
    write_stock(stock_of(reversed(smiles)), tmp_path / "b.smi.gz")
    assert (tmp_path / "a.smi.gz").read_bytes() == (tmp_path / "b.smi.gz").read_bytes()
    back = load_stock(tmp_path / "a.smi.gz")
    assert dict(back.entries) == dict(stock_of(smiles).entries)
    assert "CC(N)c1ccccc1" in back


def test_a_written_stock_is_read_again_when_it_or_rdkit_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.smi.gz"
    write_stock(stock_of(["CCO", "CN"]), path)
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress((text + "OC(=O)C\n").encode()))
    assert set(load_stock(path).entries) == {"CCO", "CN", "CC(=O)O"}
    path.write_bytes(gzip.compress((text + "CC(\n").encode()))
    assert "line 4: expected a molecule; got 'CC('" in error_of(path)
    path.write_bytes(gzip.compress(text.encode()))

    def refuse(_: str) -> None:
        raise AssertionError("read by RDKit although it was prepared")

    with monkeypatch.context() as patched:
        patched.setattr(stock_module, "standard_smiles", refuse)
        assert len(load_stock(path)) == 2
        patched.setattr(stock_module.rdBase, "rdkitVersion", "1999.1.1")
        with pytest.raises(AssertionError, match="although"):
            load_stock(path)


def test_the_shipped_stock_is_what_its_generator_makes(stock: Stock) -> None:
    """A sample of it, and by its hash that lists and file belong together.

    When the lists were changed: write the file anew, as default_stock.py says, and put the new hashes here.
    """
    sample = default_stock(every=50)
    assert sample.left_out == 0
    assert 1_000 < len(sample) <= len(stock) / 25
    assert sample.entries.items() <= stock.entries.items()
    for found in (sample, stock):  # both hands of each centre, and the molecule that leaves it open
        assert 0.1 < sum("@" in smiles for smiles in found.entries) / len(found) < 0.4
    lists = shipped_stock().with_name("default_stock.toml").read_bytes()
    _, body = gzip.decompress(shipped_stock().read_bytes()).split(b"\n", 1)
    assert [hashlib.sha256(part).hexdigest()[:16] for part in (lists, body)] == [
        "d4896f5abf361795",
        "e2e7c0c5456f6786",
    ]


def test_the_shipped_stock_is_small_and_of_small_molecules(stock: Stock, templates: TemplateSet) -> None:
    assert 20_000 <= len(stock) <= 60_000
    assert shipped_stock().stat().st_size < 500_000
    some = [Chem.MolFromSmiles(smiles) for smiles in sorted(stock.entries)[::97]]
    assert all(map(templates.allows, some))
    assert all(molecule.GetNumAtoms() <= 26 for molecule in some)


@pytest.mark.parametrize(
    "smiles",
    [
        *("Nc1ccc(F)cc1", "O=C(O)c1ccccc1", "C1COCCN1", "OB(O)c1ccncc1", "CC(C)(C)OC(=O)NC(C)C(=O)O"),
        *("O=Cc1ccsc1", "C[C@H](N)c1ccccc1", "C[C@@H](N)c1ccccc1", "O=S(=O)(Cl)c1ccc(Cl)cc1", "BrCC1CC1"),
        *("Clc1ncccn1", "C#CCN", "NNc1ccccc1", "c1ccc(N2CCNCC2)cc1", "Nc1ccccc1N", "CC(=O)CC(C)=O"),
    ],
)
def test_the_shipped_stock_holds_what_every_catalogue_does(stock: Stock, smiles: str) -> None:
    assert Chem.CanonSmiles(smiles) in stock


@pytest.mark.parametrize("smiles", ["O=C(NCc1ccccc1)c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O", "NCO", "CC(O)N"])
def test_the_shipped_stock_holds_no_product_and_nothing_that_would_not_keep(
    stock: Stock, smiles: str
) -> None:
    assert Chem.CanonSmiles(smiles) not in stock
