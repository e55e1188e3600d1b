"""Files of molecules: tables, SDF and lists, whatever wrote them."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pytest
from rdkit import Chem

from allmodes.chem.molecule_file import InputMolecule, read_molecules
from allmodes.errors import InputError

FILE = """\
OCC ethanol, absolute
CCO\tspirit of wine
not-a-smiles name

CCS thiol
C(O)O
"""


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def seen(molecules: list[InputMolecule]) -> list[tuple[int, str, str | None]]:
    return [(molecule.line, molecule.name, molecule.smiles) for molecule in molecules]


def sdf(*molecules: str, title: str = "", v3000: bool = False, properties: str = "") -> str:
    write = Chem.MolToV3KMolBlock if v3000 else Chem.MolToMolBlock
    blocks = (write(Chem.MolFromSmiles(text)) for text in molecules)
    return "".join(title + block + properties + "$$$$\n" for block in blocks)


def test_every_line_is_kept_in_order_with_its_name(tmp_path: Path) -> None:
    expected = [
        (1, "ethanol, absolute", "CCO"),
        (2, "spirit of wine", "CCO"),
        (3, "name", None),
        (4, "", None),
        (5, "thiol", "CCS"),
        (6, "", "OCO"),
    ]
    molecules = read_molecules(written(tmp_path / "a.smi", FILE))
    assert seen(molecules) == expected
    assert [molecule.reason for molecule in molecules] == [
        "", "", "RDKit cannot read it as SMILES", "no SMILES", "", "",
    ]  # fmt: skip
    windows = tmp_path / "b.smi"
    windows.write_bytes(b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode())
    assert seen(read_molecules(windows)) == expected
    packed = tmp_path / "c.smi.gz"
    packed.write_bytes(gzip.compress(FILE.encode(), mtime=0))
    assert seen(read_molecules(packed)) == expected


def test_csv_is_read_by_its_columns_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    text = '\ufeffid,Name , SMILES\n1,"a ""b"",\nc",OCC\n2,d\n3,e,?\n4,,CO\n'
    found = read_molecules(written(tmp_path / "a.csv", text))
    assert seen(found) == [(2, 'a "b",\nc', "CCO"), (4, "d", None), (5, "e", None), (6, "4", "CO")]
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(b"smiles\nCCO\n", mtime=0))
    assert seen(read_molecules(packed)) == [(2, "", "CCO")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"smiles,Smiles\nCCO,C\n", "line 1: expected one column `smiles`; got 'smiles', 'Smiles'"),
        ("a.csv", b"A SMILES,B SMILES\nCCO,C\n", "got 'A SMILES', 'B SMILES'"),
        ("a.csv", b"CCO,ethanol\nCCN,x\n", "line 1: expected a column `smiles`; got 'CCO', 'ethanol'"),
        ("a.csv", b"", "a.csv: line 1: expected a column `smiles`; got an empty file"),
        ("a.smi", b"", "a.smi: expected one SMILES a line, .*; got an empty file"),
        ("a.csv", b'smiles\nCCO\n"C\n', "line 3: expected a table with commas"),
        ("a.smi", b"hello\n\n", "got no molecule on 2 lines; line 1: RDKit cannot read it as SMILES"),
        ("a.smi.gz", gzip.compress(b"CCO\n" * 99, mtime=0)[:-9], "cannot read .*a.smi.gz"),
        ("a.smi.gz", b"CCO\n", "cannot read .*a.smi.gz"),
        ("a.sdf", b"CCO\nCC\n", "a.sdf: expected an SDF; got no line `M  END`"),
        ("a.sdf", b"\n\n\nhello\nM  END\n", "1 line; line 1: RDKit cannot read it as a molfile"),
        ("a.mol2", b"# x\n@<TRIPOS>MOLECULE\nC\n1 0\n@<TRIPOS>ATOM\n1 C 0 0 0 C.3\n", "got Mol2: convert it"),
        ("a.smi", b"@<TRIPOS>MOLECULE\nC\n", "got Mol2: convert it first"),
        ("a.xyz", b"1\n\nC 0.0 0.0 0.0\n", "got XYZ coordinates"),
        ("a.smi", b"HETATM    1  C1  LIG A   1       0.000   0.000   0.000\nEND\n", "got a PDB file"),
        ("a.smi", b"data_x\n_cell 1\n", "got a CIF file"),
        ("a.txt", b"InChI=1S/CH4/h1H4\n", "got InChI"),
        ("a.smi", b"<!DOCTYPE html>\nC\n", "got XML or a web page"),
        ("a.smi", b'{"smiles": "C"}\nC\n', "got JSON"),
        ("a.rxn", b"$RXN\n\n\n\n  1  1\n$MOL\n\n\n\n  0  0\nM  END\n", "got a file of reactions"),
    ],
)
def test_a_file_without_molecules_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_molecules(tmp_path / name)
    with pytest.raises(InputError, match=r"no\.smi"):
        read_molecules(tmp_path / "no.smi")


def test_line_ends_and_encodings_change_nothing(tmp_path: Path) -> None:
    texts = {
        "a.smi": "OCC größer\nnot-a-smiles\nCCN b\n",
        "a.csv": "name,SMILES\ngrößer,OCC\n,not-a-smiles\nb,CCN\n",
        "a.sdf": sdf("CCO", "CCN", title="größer"),
    }
    for name, text in texts.items():
        expected = seen(read_molecules(written(tmp_path / name, text)))
        assert expected[0][1:] == ("größer", "CCO")
        for end in ("\r", "\r\n"):
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"):
                path = written(tmp_path / name, text.replace("\n", end).encode(encoding))
                assert seen(read_molecules(path)) == expected, (name, end, encoding)
    mixed = read_molecules(written(tmp_path / "b.smi", "CCO a\rCCN b\r\nCCC c\nC d\r"))
    assert [(line, name) for line, name, _ in seen(mixed)] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_what_a_file_is_does_not_hang_on_its_name(tmp_path: Path) -> None:
    properties = ">  <name_of_it>\nC\n\n> 7 <code> (3)\nCN\nCC\n\n"
    records = [(1, "", "CCO"), (16, "", "CN")]
    for v3000 in (False, True):
        text = sdf("CCO", "CN", v3000=v3000, properties=properties)
        for name in ("a.sdf", "a.SDF", "a.smi", "a.txt", "molecules"):
            found = seen(read_molecules(written(tmp_path / name, text)))
            assert [row[1:] for row in found] == [row[1:] for row in records], name
            assert found[0][0] == 1
        for pack, ending in ((gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")):
            found = read_molecules(written(tmp_path / f"a.sdf.{ending}", pack(text.encode())))
            assert [molecule.smiles for molecule in found] == ["CCO", "CN"]
            found = read_molecules(written(tmp_path / "packed.sdf", pack(text.encode())))
            assert [molecule.smiles for molecule in found] == ["CCO", "CN"]
    assert seen(read_molecules(written(tmp_path / "b.csv", "smiles\nCCO\n"))) == [(2, "", "CCO")]
    assert seen(read_molecules(written(tmp_path / "b.txt", "id;smiles\nx;CCO\n"))) == [(2, "x", "CCO")]
    with zipfile.ZipFile(tmp_path / "c.smi", "w") as archive:
        archive.writestr("a.smi", "CCO\n")
    with pytest.raises(InputError, match="got a zip archive"):
        read_molecules(tmp_path / "c.smi")


def test_a_record_of_an_sdf_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    good = sdf("CCO", title="ethanol", properties="> <id>\n7\n\n")
    nameless = sdf("CN", properties="> <ID>\nx-1\n\n")
    bad = "broken\n\n\n 99 99  0  0  0  0  0  0  0  0999 V2000\nM  END\n> <a>\nCC\n\n$$$$\n"
    valence = sdf("C").replace(" C   0", " F   0").replace("  1  0  0", "  1  0  0")
    cut = sdf("CCCC")[:-60]
    found = read_molecules(written(tmp_path / "a.sdf", good + bad + nameless + valence + "\n\n" + cut))
    lines = (good + bad + nameless + valence).splitlines()
    starts = [1, *(number + 2 for number, line in enumerate(lines) if line == "$$$$")]
    assert [molecule.line for molecule in found] == starts
    names = [molecule.name for molecule in found]
    assert [molecule.smiles for molecule in found] == ["CCO", None, "CN", "F", None]
    assert names[:3] == ["ethanol", "broken", "x-1"]
    assert found[1].reason == found[4].reason == "RDKit cannot read it as a molfile"
    single = sdf("CCO").removesuffix("$$$$\n")
    assert seen(read_molecules(written(tmp_path / "a.mol", single))) == [(1, "", "CCO")]


CHEMBL = (
    '"ChEMBL ID";"Name";"Molecular Weight";"Smiles"\n'
    '"CHEMBL25";"ASPIRIN; ""acid""";"180.16";"CC(=O)Oc1ccccc1C(=O)O"\n'
    '"CHEMBL1";"";"";"[Na+].[Cl-]"\n'
    '"CHEMBL2";"";"1,5";""\n'
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.csv",
            CHEMBL,
            [
                (2, 'ASPIRIN; "acid"', "CC(=O)Oc1ccccc1C(=O)O"),
                (3, "CHEMBL1", "[Cl-].[Na+]"),
                (4, "CHEMBL2", None),
            ],
        ),
        ("a.tsv", "zinc_id\tsmiles\tlogp\nZ1\tCCO\t1\n", [(2, "Z1", "CCO")]),
        ("a.tsv", "smiles\nCCO\n", [(2, "", "CCO")]),
        ("a.txt", "smiles zinc_id\nCCO ZINC1\nCC ZINC2\n", [(2, "ZINC1", "CCO"), (3, "ZINC2", "CC")]),
        ("a.smi", "SMILES\nCCO\n", [(2, "", "CCO")]),
        ("a.smi", "id canonical_smiles\n7 CCO\n", [(2, "7", "CCO")]),
        ("a.smi", "smiles name\nC[C@H](O)F |&1:1| rac one\n", [(2, "rac one", "CC(O)F")]),
        ("a.csv", "ID|Ligand SMILES\n1|CCO\n", [(2, "1", "CCO")]),
        ("a.csv", "CanonicalSMILES,IsomericSMILES\nCC(O)F,C[C@H](O)F\n", [(2, "", "C[C@H](O)F")]),
        ("a.csv", "# made by x\n# y\nsmiles,smiles_source\nCCO,C\n\n,\n", [(4, "", "CCO")]),
        ("a.csv", 'smiles\n"C[C@H](O)[C@H](F)Cl |&1:1,3|"\n', [(2, "", "CC(O)C(F)Cl")]),
        ("a.csv", "smiles,x\nCCO\nCN,1,2\n", [(2, "", "CCO"), (3, "", "CN")]),
        ("a.smi", "C smiles\nN nothing\n", [(1, "smiles", "C"), (2, "nothing", "N")]),
        ("a.smi", "# a note\nCCO a\n  # another\nCN b\n", [(2, "a", "CCO"), (4, "b", "CN")]),
        (
            "a.smi",
            "C[C@H](O)F |&1:1| rac\nC[C@H](O)F\tone\nC[C@H](O)F |o1:1|\nC |odd name",
            [(1, "rac", "CC(O)F"), (2, "one", "C[C@H](O)F"), (3, "", "CC(O)F"), (4, "|odd name", "C")],
        ),
    ],
)
def test_tables_and_lists_as_people_have_them(
    tmp_path: Path, name: str, text: str, expected: list[tuple[int, str, str | None]]
) -> None:
    assert seen(read_molecules(written(tmp_path / name, text))) == expected


def test_a_molecule_or_a_cell_that_is_too_large_costs_its_line(tmp_path: Path) -> None:
    rows = ["CCO", "C" * 20_000, "C" * 200_000, "C" * 501, "CN"]
    for name, head in (("a.smi", ""), ("a.csv", "smiles\n"), ("b.csv", "id,smiles\n")):
        before = "x," if name == "b.csv" else ""
        found = read_molecules(written(tmp_path / name, head + "".join(f"{before}{row}\n" for row in rows)))
        assert [molecule.smiles for molecule in found] == ["CCO", None, None, None, "CN"]
        assert [molecule.reason for molecule in found] == [
            "", "20,000 characters, more than 4,000", "200,000 characters, more than 4,000",
            "501 heavy atoms, more than 500", "",
        ]  # fmt: skip
        assert max(len(molecule.text) for molecule in found) == 200
