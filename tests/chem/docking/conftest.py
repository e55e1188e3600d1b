"""A pocket small enough to dock into within a second, and a program that stands in for docking engines."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.oracles.components import DockingComponent, ExternalDockingComponent

CENTER = (10.0, -5.0, 30.0)


def pocket_lines() -> list[str]:
    """A shell of 40 atoms, 5.5 Å around the centre: carbons, and an acceptor after every fifth."""
    lines = ["REMARK  a made-up pocket"]
    golden = math.pi * (3 - math.sqrt(5))
    for number in range(40):
        height = 1 - 2 * (number + 0.5) / 48  # 48, so that the shell is open at the bottom
        radius = math.sqrt(1 - height**2)
        x, y, z = (
            middle + 5.5 * part
            for middle, part in zip(
                CENTER,
                (radius * math.cos(golden * number), radius * math.sin(golden * number), height),
                strict=True,
            )
        )
        kind, name = ("OA", "O") if number % 5 == 4 else ("C", "C")
        lines.append(
            f"ATOM  {number + 1:5d}  {name:<3} ALA A{number // 5 + 1:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00    {-0.1:+6.3f} {kind:<2}"
        )
    return [*lines, "TER", "END"]


@pytest.fixture
def pocket(tmp_path: Path) -> Path:
    path = tmp_path / "pocket.pdbqt"
    path.write_text("\n".join(pocket_lines()) + "\n")
    return path


@pytest.fixture
def component(pocket: Path) -> dict[str, Any]:
    return DockingComponent(
        kind="docking", receptor=pocket, box={"center": CENTER, "size": 12.0}, exhaustiveness=1
    ).model_dump(mode="json")


# What smina's, gnina's and QuickVina's documentation and published output show, for a ligand that is moved
# by (1, 2, 3), and by (−4, 0, 0) with a better score. It insists on the PDBQT that they are given.
STAND_IN = r'''
import os, sys
mode, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
if sys.stdin.read():
    sys.exit("the input is not mine")
if mode == "crash":
    print("reading the ligand ..."); sys.exit("PDBQT parsing error: no luck today")
if mode == "die":
    os.kill(os.getpid(), 9)
receptor = open(options["--receptor"]).read()
assert "ATOM" in receptor and "ROOT" not in receptor
sizes = [float(options["--size_" + axis]) for axis in "xyz"]
center = [float(options["--center_" + axis]) for axis in "xyz"]
assert sizes == [12.0, 12.0, 12.0] and center == [10.0, -5.0, 30.0], (sizes, center)
assert int(options["--seed"]) == 7 and int(options["--exhaustiveness"]) == 3
path = options.get("--ligand")
if "--ligand_directory" in options:
    (name,) = os.listdir(options["--ligand_directory"])
    path = os.path.join(options["--ligand_directory"], name)

def read_pdbqt(text):
    """Branches nested and closed, one ROOT, TORSDOF last, atoms numbered from 1 in fixed columns."""
    open_, atoms, root, torsions = [], [], 0, None
    for line in text.splitlines():
        word = line.split()[0]
        assert torsions is None, "something after TORSDOF"
        if word == "REMARK":
            continue
        if word == "ROOT":
            root += 1; open_.append("ROOT")
        elif word == "ENDROOT":
            assert open_.pop() == "ROOT"
        elif word == "BRANCH":
            open_.append(tuple(line.split()[1:3]))
        elif word == "ENDBRANCH":
            assert open_.pop() == tuple(line.split()[1:3])
        elif word == "ATOM":
            assert open_, "an atom outside ROOT and BRANCH"
            assert int(line[6:11]) == len(atoms) + 1
            place = [float(line[start:start + 8]) for start in (30, 38, 46)]
            float(line[68:76])
            assert line[77:79].strip() in {"C", "A", "N", "NA", "OA", "S", "SA", "HD", "F", "Cl", "Br"}
            atoms.append((line, place))
        elif word == "TORSDOF":
            torsions = int(line.split()[1])
        else:
            raise AssertionError(line)
    assert root == 1 and not open_ and torsions is not None
    return atoms

def moved(line, shift):
    place = [float(line[start:start + 8]) for start in (30, 38, 46)]
    return line[:30] + "".join(f"{x + s:8.3f}" for x, s in zip(place, shift)) + line[54:]

SHIFTS = [((1, 2, 3), -5.4), ((-4, 0, 0), -6.25)]
if mode == "silent":
    print("0 poses written"); sys.exit(0)
if mode.startswith("pdbqt") or mode == "directory":
    text = open(path).read()
    read_pdbqt(text)
    out = ""
    for number, (shift, score) in enumerate(SHIFTS, start=1):
        out += f"MODEL {number}\n"
        if mode == "pdbqt-smina":
            out += f"REMARK minimizedAffinity {score:.8g}\n"
        elif mode == "pdbqt-nan":
            out += "REMARK VINA RESULT:       nan      0.000      0.000\n"
        elif mode == "pdbqt-words":
            out += "REMARK VINA RESULT:      best      0.000      0.000\n"
        elif mode != "pdbqt-unscored":
            out += f"REMARK VINA RESULT:    {score:6.2f}      0.000      0.000\n"
        lines = [moved(line, shift) if line.startswith("ATOM") else line for line in text.splitlines()]
        if mode == "pdbqt-bare":
            lines = [line for line in lines if not line.startswith("REMARK")]
        if mode == "pdbqt-short":
            lines = [line for line in lines if line[:11] != "ATOM      2"]
        if mode == "pdbqt-torn":
            lines = [moved(line, (0, 0, 1.0)) if line[:11] == "ATOM      2" else line for line in lines]
        if mode == "pdbqt-stars":
            lines = [l[:30] + "*" * 24 + l[54:] if l[:11] == "ATOM      2" else l for l in lines]
        out += "\n".join(lines) + "\nENDMDL\n"
    if mode == "directory":
        base = os.path.splitext(name)[0]
        open(os.path.join(options["--output_directory"], base + "_out.pdbqt"), "w").write(out)
        open(os.path.join(options["--output_directory"], "gpu.log"), "w").write("done")
    else:
        open(options["--out"], "w").write("\0\1nonsense" if mode == "pdbqt-nonsense" else out)
elif mode.startswith("sdf"):
    if path.endswith(".sdf"):
        block = open(path).read().split("$$$$")[0].splitlines()
        count, bonds = int(block[3][:3]), int(block[3][3:6])
        atoms = [([float(l[i:i + 10]) for i in (0, 10, 20)], l[31:34].strip()) for l in block[4:4 + count]]
        rest = block[4 + count:4 + count + bonds]
    else:
        elements = {"A": "C", "NA": "N", "OA": "O", "SA": "S", "HD": "H"}
        atoms = [
            (place, elements.get(line[77:79].strip(), line[77:79].strip()))
            for line, place in read_pdbqt(open(path).read())
        ]
        # Open Babel makes bonds of distances here, all single.
        near = lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5 < 1.85
        rest = [
            f"{i + 1:3d}{j + 1:3d}  1  0"
            for i in range(len(atoms)) for j in range(i + 1, len(atoms)) if near(atoms[i][0], atoms[j][0])
        ]
    if mode == "sdf-other":
        atoms[0] = (atoms[0][0], "Br")
    out = ""
    for shift, score in SHIFTS:
        out += "\n OpenBabel09012512003D\n\n"
        out += f"{len(atoms):3d}{len(rest):3d}  0  0  1  0  0  0  0  0999 V2000\n"
        for place, element in atoms:
            out += "".join(f"{x + s:10.4f}" for x, s in zip(place, shift))
            out += f" {element:<3} 0  0" + "  0" * 10 + "\n"
        out += "\n".join(rest) + "\nM  END\n"
        if mode != "sdf-unscored":
            out += f">  <minimizedAffinity>\n{score}\n\n"
        out += ">  <CNNscore>\n0.81\n\n>  <CNNaffinity>\n6.1\n\n$$$$\n"
    open(options["--out"], "w").write(out)
print("mode |   affinity\n   1       -5.4")
'''


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "engine.py"
    path.write_text(STAND_IN)
    return path


@pytest.fixture
def external(stand_in: Path, pocket: Path) -> Any:
    """The component of the stand-in in one of its moods."""

    def make(mode: str, *arguments: str, poses: int = 0) -> dict[str, Any]:
        places = [
            part
            for axis in "xyz"
            for part in (f"--center_{axis}", f"{{center_{axis}}}", f"--size_{axis}", f"{{size_{axis}}}")
        ]
        own = arguments or ("--ligand", "{ligand}", "--out", "{out}")
        return ExternalDockingComponent(
            kind="external_docking",
            receptor=pocket,
            box={"center": CENTER, "size": 12.0},
            exhaustiveness=3,
            seed=7,
            poses=poses,
            command=(
                *(sys.executable, str(stand_in), mode, "--receptor", "{receptor}", *own, *places),
                *("--seed", "{seed}", "--exhaustiveness", "{exhaustiveness}"),
            ),
        ).model_dump(mode="json")

    return make
