import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem

from allmodes.chem.docking.box import Box
from allmodes.chem.docking.external import ExternalEngine
from allmodes.chem.docking.ligand import prepare_ligand
from allmodes.chem.docking.scorer import make_external_docking_scorer
from allmodes.chem.oracles.components import DockingComponent, ExternalDockingComponent
from allmodes.chem.oracles.results import UnscorableError
from allmodes.errors import ConfigError

MakeComponent = Callable[..., dict[str, Any]]
ACID = "C[C@@H](C(=O)O)c1ccc(CN)cc1"
WAYS = {
    "QuickVina, a file": ("pdbqt", ()),
    "Vina's line alone, its remarks lost": ("pdbqt-bare", ()),
    "smina as PDBQT": ("pdbqt-smina", ()),
    "QuickVina2-GPU, folders": (
        "directory",
        ("--ligand_directory", "{ligand_directory}", "--output_directory", "{output_directory}"),
    ),
    "smina, SDF to SDF": ("sdf", ("--ligand", "{ligand_sdf}", "--out", "{out_sdf}")),
    "gnina, PDBQT to SDF": ("sdf", ("--ligand", "{ligand}", "--out", "{out_sdf}")),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_best_pose_comes_back_from_every_format(way: str, external: MakeComponent) -> None:
    mode, arguments = WAYS[way]
    scored = make_external_docking_scorer(external(mode, *arguments, poses=2))(ACID)
    assert scored.value == -6.25
    supplier = Chem.SDMolSupplier()
    supplier.SetData(scored.details["poses"], removeHs=False)
    poses = list(supplier)
    assert [float(pose.GetProp("docking_score")) for pose in poses] == [-6.25, -5.4]
    prepared = prepare_ligand(ACID, protonation="ph7.4", max_torsions=15)
    assert scored.details["torsions"] == prepared.torsions
    start = heavy_places(prepared.molecule, prepared.docked_as)
    for pose, shift in zip(poses, ((-4, 0, 0), (1, 2, 3)), strict=True):
        assert np.abs(heavy_places(pose, prepared.docked_as) - start - shift).max() < 2e-3
        assert pose.GetNumAtoms() == prepared.molecule.GetNumAtoms()
        Chem.AssignStereochemistryFrom3D(pose)
        assert Chem.MolToSmiles(Chem.RemoveHs(pose)) == prepared.docked_as


def heavy_places(molecule: Chem.Mol, smiles: str) -> np.ndarray:
    """The places of the heavy atoms, in the order of a SMILES."""
    bare = Chem.RemoveHs(molecule)
    return bare.GetConformer().GetPositions()[list(bare.GetSubstructMatch(Chem.MolFromSmiles(smiles)))]


def test_only_as_many_poses_as_asked_for_are_kept(external: MakeComponent) -> None:
    scored = make_external_docking_scorer(external("pdbqt", poses=1))(ACID)
    assert scored.details["poses"].count("$$$$") == 1
    assert set(make_external_docking_scorer(external("pdbqt"))(ACID).details) == {"torsions"}


@pytest.mark.parametrize(
    ("mode", "arguments", "kind", "words"),
    [
        ("crash", (), "died", "ended with exit code 1; it said: reading the ligand .* no luck today"),
        ("die", (), "died", "ended with signal 9"),
        ("silent", (), "malformed", "expected one file of poses.*; got 0; it said: 0 poses written"),
        ("pdbqt-nonsense", (), "malformed", "expected poses; got none"),
        ("pdbqt-unscored", (), "malformed", "expected a line REMARK VINA RESULT"),
        ("pdbqt-words", (), "malformed", "expected a score; got 'best'"),
        ("pdbqt-nan", (), "not_finite", "expected finite scores; got"),
        ("pdbqt-short", (), "malformed", "expected the atoms of"),
        ("pdbqt-torn", (), "malformed", r"got a bond of \d\.\d\d Å as"),
        ("pdbqt-stars", (), "malformed", r"expected three coordinates; got '\*+'"),
        (
            "sdf-unscored",
            ("--ligand", "{ligand_sdf}", "--out", "{out_sdf}"),
            "malformed",
            "minimizedAffinity; got none",
        ),
        (
            "sdf-other",
            ("--ligand", "{ligand_sdf}", "--out", "{out_sdf}"),
            "malformed",
            "expected the atoms of",
        ),
        (
            "pdbqt",
            ("--ligand", "{ligand}", "--out", "{out_sdf}"),
            "malformed",
            "expected poses; got none|with coordinates",
        ),
    ],
)
def test_an_engine_that_fails_gives_a_failure_and_its_last_words(
    mode: str, arguments: tuple[str, ...], kind: str, words: str, external: MakeComponent
) -> None:
    score = make_external_docking_scorer(external(mode, *arguments))
    with pytest.raises(UnscorableError, match=words) as caught:
        score(ACID)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ("no-such-program", "{receptor}", "{ligand}", "{out}"),
            "expected a program that can be run; got 'no-such-",
        ),
        ((sys.executable, "{receptor}", "{ligand}", "{output}"), "got '{output}'"),
        ((sys.executable, "{receptor}", "{ligand}", "{out}", "{seed:>3}"), "got '{seed:>3}'"),
        ((sys.executable, "{receptor}", "{ligand}", "{out}", "{}"), "got '{}'"),
        ((sys.executable, "{receptor.parent}", "{ligand}", "{out}"), "got '{receptor.parent}'"),
        (
            (sys.executable, "{receptor", "{ligand}", "{out}"),
            "expected placeholders in braces; got '{receptor'",
        ),
        ((sys.executable, "{ligand}", "{out}"), r"expected {receptor} in it"),
        (
            (sys.executable, "{receptor}", "{out}"),
            r"expected one of {ligand}, {ligand_sdf}, {ligand_directory} in it",
        ),
        (
            (sys.executable, "{receptor}", "{ligand}"),
            r"expected one of {out}, {out_sdf}, {output_directory} in it",
        ),
    ],
)
def test_a_wrong_command_is_an_error_of_the_configuration(
    command: tuple[str, ...], words: str, external: MakeComponent
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_external_docking_scorer({**external("pdbqt"), "command": list(command)})
    assert str(caught.value).startswith("component 'external_docking': `command`: ")
    assert words in str(caught.value)


def test_the_guide_s_components_are_ones() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "docking.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)]
    docking, smina, quickvina = blocks
    DockingComponent(**docking["oracle"]["components"][0])
    values = smina["oracle"]["components"][0]
    for command in (values["command"], quickvina["command"]):
        component = ExternalDockingComponent(**{**values, "command": command})
        ExternalEngine(
            [sys.executable, *component.command[1:]],
            Path("receptor.pdbqt"),
            Box((0.0, 0.0, 0.0), (20.0, 20.0, 20.0)),
            exhaustiveness=8,
            seed=1,
            where="`command`",
        )


def test_braces_can_be_written_and_no_shell_reads_the_command(
    tmp_path: Path, external: MakeComponent
) -> None:
    component = external("pdbqt")
    witness = tmp_path / "witness"
    component["command"] += ["--note", "{{x}}; touch " + str(witness)]
    assert make_external_docking_scorer(component)(ACID).value == -6.25
    assert not witness.exists()


def test_a_relative_receptor_and_program_are_found_from_the_engine_s_own_folder(
    monkeypatch: pytest.MonkeyPatch, pocket: Path, stand_in: Path, external: MakeComponent
) -> None:
    component = external("pdbqt")
    monkeypatch.chdir(pocket.parent)
    stand_in.write_text(f"#!{sys.executable}\n{stand_in.read_text()}")
    stand_in.chmod(0o755)
    component["receptor"] = pocket.name
    component["command"] = [f"./{stand_in.name}", *component["command"][2:]]
    assert make_external_docking_scorer(component)(ACID).value == -6.25


def test_the_engine_does_not_read_the_worker_s_input(external: MakeComponent) -> None:
    """There the next molecules wait; the stand-in gives up when it gets any."""
    reading, writing = os.pipe()
    os.write(writing, b"CCO\nCCN\n")
    os.close(writing)
    own = os.dup(0)
    os.dup2(reading, 0)
    try:
        assert make_external_docking_scorer(external("pdbqt"))(ACID).value == -6.25
        assert os.read(0, 4) == b"CCO\n"
    finally:
        os.dup2(own, 0)
        os.close(own)
        os.close(reading)


def test_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, external: MakeComponent
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    score = make_external_docking_scorer(external("pdbqt"))
    score(ACID)
    with pytest.raises(UnscorableError):
        make_external_docking_scorer(external("crash"))(ACID)
    assert list(scratch.iterdir()) == []


def test_an_engine_ends_with_the_group_of_its_worker(tmp_path: Path, external: MakeComponent) -> None:
    """The oracle ends a worker over its time limit by its process group; the engine must be of that group."""
    component = external("pdbqt")
    slow = tmp_path / "slow.py"
    slow.write_text(
        f"import os, time; open({str(tmp_path / 'group')!r}, 'w').write(str(os.getpgrp())); time.sleep(60)"
    )
    component["command"][1] = str(slow)
    code = (
        "import sys, json\nfrom allmodes.chem.docking.scorer import make_external_docking_scorer as make\n"
        "make(json.loads(sys.argv[1]))('CCO')"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, json.dumps(component)], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "group").exists() or not (tmp_path / "group").read_text():
            assert time.monotonic() < deadline
            assert worker.poll() is None
            time.sleep(0.05)
        assert int((tmp_path / "group").read_text()) == worker.pid
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
