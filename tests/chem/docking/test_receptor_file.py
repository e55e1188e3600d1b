import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from allmodes.chem.docking.box import Box
from allmodes.chem.docking.receptor_file import ATOM_TYPES, check_receptor
from allmodes.errors import ConfigError

BOX = Box((10.0, -5.0, 30.0), (12.0, 12.0, 12.0))


def test_a_good_receptor_is_read_atom_by_atom(pocket: Path) -> None:
    atoms = check_receptor(pocket, BOX, where="here")
    assert len(atoms) == 40
    assert sum(atom.kind == "OA" for atom in atoms) == 8
    assert all(
        abs(sum((x - c) ** 2 for x, c in zip(a.xyz, BOX.center, strict=True)) ** 0.5 - 5.5) < 0.01
        for a in atoms
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:38] + "    x.xx" + line[46:], "line 4: expected three coordinates; got"),
        (lambda line: line[:38] + "     inf" + line[46:], "line 4: expected three coordinates; got"),
        (
            lambda line: line[:77] + "Xx",
            "line 4: expected an AutoDock atom type in columns 78 and 79; got 'Xx'",
        ),
        (lambda line: line[:77], "line 4: expected an AutoDock atom type in columns 78 and 79; got ''"),
        (lambda line: line[:68] + "  much  " + line[76:], "line 4: expected a charge in columns 69 to 76"),
        (lambda _: "ROOT", "line 4: expected a rigid receptor; got ROOT"),
        (lambda _: "BRANCH   1   2", "line 4: expected a rigid receptor; got BRANCH"),
        (lambda _: "ENDMDL", "line 4: expected one receptor; got several models"),
        (lambda _: "<html>", "line 4: expected ATOM, HETATM, REMARK, TER or END; got '<html>'"),
    ],
)
def test_a_bad_line_is_named(change: Callable[[str], str], message: str, pocket: Path) -> None:
    lines = pocket.read_text().splitlines()
    lines[3] = change(lines[3])
    pocket.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        check_receptor(pocket, BOX, where="component 'docking': `receptor`")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"component 'docking': `receptor`: {pocket}: ")


def test_a_receptor_that_is_missing_no_pdbqt_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file; got no"):
        check_receptor(tmp_path / "gone.pdbqt", BOX, where="here")
    with pytest.raises(ConfigError, match="expected a PDBQT file"):
        check_receptor(tmp_path / "gone.pdb", BOX, where="here")
    (tmp_path / "empty.pdbqt").write_text("REMARK nothing\n")
    with pytest.raises(ConfigError, match="got no heavy atom"):
        check_receptor(tmp_path / "empty.pdbqt", BOX, where="here")


def test_a_box_that_no_atom_reaches_is_refused(pocket: Path) -> None:
    """The shell ends 5.5 Å from its centre: from a box of ±6 Å, 20 Å away, that is 20 − 5.5 − 6 = 8.5 Å."""
    with pytest.raises(ConfigError, match=r"expected atoms within 8 Å of the box .*; the nearest is 8\.\d Å"):
        check_receptor(pocket, Box((30.0, -5.0, 30.0), (12.0, 12.0, 12.0)), where="here")
    check_receptor(pocket, Box((29.0, -5.0, 30.0), (12.0, 12.0, 12.0)), where="here")


def test_vina_takes_every_atom_type_that_passes(tmp_path: Path) -> None:
    """In a process of its own: Vina ends it when it does not."""
    line = "ATOM  {:5d}  X   ALA A   1    {:8.3f}   0.000   0.000  1.00  0.00    +0.000 {:<2}\n"
    path = tmp_path / "all.pdbqt"
    path.write_text("".join(line.format(i, 3.0 * i, kind) for i, kind in enumerate(sorted(ATOM_TYPES), 1)))
    check_receptor(path, Box((10.0, 0.0, 0.0), BOX.size), where="here")
    code = "import sys, vina; vina.Vina(cpu=1, seed=1, verbosity=0).set_receptor(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: data.replace(b"\n", b"\r"),
        gzip.compress,
    ],
    ids=["BOM", "UTF-16", "CR", "gzip"],
)
def test_what_an_engine_would_read_otherwise_is_refused(
    change: Callable[[bytes], bytes], pocket: Path
) -> None:
    pocket.write_bytes(change(pocket.read_bytes()))
    with pytest.raises(
        ConfigError, match=r"here: .*pocket\.pdbqt: expected uncompressed plain text"
    ) as caught:
        check_receptor(pocket, BOX, where="here")
    assert "\n" not in str(caught.value)


def test_a_remark_in_latin_1_harms_nobody(pocket: Path) -> None:
    pocket.write_bytes("REMARK  Müller\r\n".encode("latin-1") + pocket.read_bytes())
    assert len(check_receptor(pocket, BOX, where="here")) == 40
