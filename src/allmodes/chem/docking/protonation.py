"""The likeliest protonation state of a molecule in water at pH 7.4, from groups with known pKa.

Three sources: pKa by class of group (`_ACIDS`, `_BASES`); for phenols the Hammett equation with constants for
phenols; for aliphatic amines increments of their substituents (both after Perrin, Dempsey and Serjeant, pKa
Prediction for Organic Acids and Bases, 1981; constants refitted to the measured values of simple members).
Sites are decided one after the other, the most acidic and the most basic first, and each charge shifts the
pKa of nearby sites: a piperazine takes one proton. Groups of no class stay neutral, and tautomers stay as
they are drawn.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TypeVar

from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize

PH = 7.4

_ValueT = TypeVar("_ValueT")

# Acids: name, SMARTS whose first atom loses the proton, pKa of a typical member. The first class that matches
# an atom counts. None: never an acid, even if a later class matches.
_ACIDS: tuple[tuple[str, str, float | None], ...] = (
    ("peracid", "[OX2H]-[OX2]", None),
    ("carboxylic acid", "[OX2H]-[CX3]=[OX1]", 4.2),
    ("thio acid", "[SX2H]-[CX3]=[OX1,SX1]", 3.3),
    ("thio acid", "[OX2H]-[CX3]=[SX1]", 3.3),
    ("sulfonic or sulfuric acid", "[OX2H]-[SX4]=[OX1]", -1.5),
    ("sulfinic acid", "[OX2H]-[SX3]=[OX1]", 2.0),
    ("phosphorus acid", "[OX2H]-[PX4]=[OX1,SX1]", 2.0),
    ("thiophosphoric acid", "[SX2H]-[PX4]=[OX1,SX1]", 2.0),
    ("N-hydroxyimide", "[OX2H]-[NX3](-[CX3]=[OX1])-[CX3]=[OX1]", 6.3),
    ("N-hydroxytriazole", "[OX2H]-[nX3]:[nX2]:[nX2]", 4.6),
    ("N-hydroxypyridone or -thione", "[OX2H]-[nX3]:c=[OX1,SX1]", 5.5),
    ("oxicam", "[OX2H]-[CX3;R]=[CX3;R](-[CX3](=O)-N)-[NX3;R]-[SX4;R](=O)=O", 5.0),
    ("enol of a cyanoketone", "[OX2H]-[CX3]=[CX3](-C#N)-[CX3]=[OX1]", 4.0),
    ("vinylogous acid in a ring", "[OX2H]-[CX3;R]=[CX3;R]-[CX3;R]=[OX1]", 4.5),
    ("vinylogous acid in an aromatic ring", "[OX2H]-c1:c:c(=[OX1]):a:a:a:1", 5.0),
    ("vinylogous acid in an aromatic ring", "[OX2H]-c1:c:c(=[OX1]):a:n:1", 5.0),
    ("tropolone", "[OX2H]-[#6;r7]~[#6;r7]=[OX1]", 6.9),
    ("3-hydroxyisoxazole or -thiazole", "[OX2H]-c1:[nX2]:[o,s]:*:*:1", 5.0),
    ("perfluoro-tert-alkanol", "[OX2H]-[CX4](C(F)(F)F)(C(F)(F)F)C(F)(F)F", 5.4),
    ("tetrazole", "[nX3H]1:[n]:[n]:[n]:c:1", 4.9),
    ("tetrazole", "[nX3H]1:[n]:[n]:c:[n]:1", 4.9),
    ("oxadiazolone or thiadiazolone", "[nX3H]1:c(=[OX1,SX1]):[o,s]:[nX2]:c:1", 6.1),
    ("isoxazolone or isothiazolone", "[nX3H]1:[o,s]:c:c:c:1=[OX1]", 5.0),
    ("uric acid", "[nX3H]1:c(=O):[nX3]:c(=O):c2:c:1:[nX3]:c(=O):[nX3]:2", 5.4),
    ("disulfonimide", "[NX3H](-[SX4](=O)=O)-[SX4](=O)=O", 1.0),
    ("acyl sulfonamide, sulfonylurea", "[NX3;H1,H2](-[CX3]=[OX1,SX1])-[SX4](=O)=O", 4.5),
    ("acyl sulfonamide in an aromatic ring", "[nX3H](:c=[OX1]):[#16X4](=O)=O", 3.0),
    ("N-cyano or N-nitro amide", "[NX3;H1,H2](-[$(C#N),$([N+](=O)[O-])])-[CX3,SX4]=[OX1]", 4.0),
    ("sulfonamide of perfluoroalkane", "[NX3;H2,$([NX3H]-[#6;!X4])]-[SX4](=O)(=O)-[CX4](F)F", 5.5),
    ("sulfonamide of a dialkylpyrimidine", "[NX3H](-[SX4](=O)=O)-c1:n:c([CX4]):c:c([CX4]):n:1", None),
    ("sulfonamide of a diazine", "[NX3H](-[SX4](=O)=O)-[c;r6;$(c1:n:a:a:a:n:1),$(c1:n:n:a:a:a:1)]", 6.4),
    ("sulfonamide of a diazine", "[NX3H](-[SX4](=O)=O)-[c;r6;$(c1:n:a:n:a:a:1),$(c1:n:a:a:n:a:1)]", 6.4),
    ("sulfonamide of an azole", "[NX3H](-[SX4](=O)=O)-[c;r5]:[nX2]", 6.0),
    ("sulfonamide of an azole", "[NX3H](-[SX4](=O)=O)-[c;r5]:a:[nX2]", 6.0),
    ("sulfonanilide with a nitro group", "[NX3H](-[SX4](=O)=O)-c1:c([N+](=O)[O-]):c:c:c:c:1", 6.3),
    ("sulfonanilide with a nitro group", "[NX3H](-[SX4](=O)=O)-c1:c:c:c([N+](=O)[O-]):c:c:1", 6.3),
    ("thiazolidinedione, rhodanine", "[NX3H;R]1-C(=[OX1,SX1])-[S,O]-[#6]-C1=[OX1,SX1]", 6.4),
    ("nitrouracil", "[nX3H]1:c(=O):[nX3]:c:c([N+](=O)[O-]):c:1=O", 5.3),
    ("mercaptotetrazole, mercaptobenzothiazole", "[SX2H]-[c;$(c1:n:n:n:n:1),$(c1:n:c:c:s:1)]", 6.5),
    ("arenethiol", "[SX2H]-[c;r6;!$(c:n);!$(c1:c:c:n:c:c:1)]", 6.5),
)  # fmt: skip

# Nitrogen that is not basic although it looks so: patterns for the atom itself and for neighbours of C=N.
_WITHDRAWN = "$([#7]-C#N),$([#7]-S(=O)=O),$([#7]-[N+](=O)[O-]),$([#7]-C(=[OX1,SX1])[OX2,SX2])"
_DONOR = "[NX3;+0;!$(N-[C,S,P]=[O,S,N]);!$(N-[!#6;!#1]);!$(N-C#N);!$(N-[a]-,:[N,n]);!$(N(-a)-a)]"
_PLAIN = "[c;!$(c-[F,Cl,Br,I,$([N+]),$(C#N),$(C=O),$(S=O),$(C(F)F)])]"
_ALKYL = "[CX4;!$(C~[!#6;!#1]);!$(C-C~[!#6;!#1])]"
_ALKYLATED = f"[cH,$(c-{_ALKYL})]"

# Bases other than aliphatic amines: name, SMARTS whose first atom takes the proton, pKa of the cation.
_BASES: tuple[tuple[str, str, float | None], ...] = (
    ("guanidine or amidine of low basicity", f"[NX2;{_WITHDRAWN}]=[CX3]", None),
    ("guanidine or amidine of low basicity", f"[NX2]=[CX3]-[NX3;{_WITHDRAWN}]", None),
    ("acyl guanidine in a ring", "[NX2;R]=[CX3;R](-N)-[NX3;R]-[CX3;R]=[OX1]", None),
    ("acyl guanidine in a ring", "[NX2;R](-[CX3;R]=[OX1])=[CX3](-N)-N", None),
    ("diacyl guanidine", "[NX2;$(N-C=O)]=[CX3]-[NX3]-C=O", None),
    ("amidoxime", "[NX2;$(N-[#8])]=[CX3]", None),
    ("N-hydroxyamidine", "[NX2]=[CX3]-[NX3]-[OX2]", None),
    ("guanidine on an azole or diazine", "[NX2;$(N-[c;r5]:n),$(N-c(:n):n)]=[CX3](-N)-N", None),
    ("guanidine on an azole or diazine", "[NX2]=[CX3](-N)-[NX3]-[c;$([r5]:n),$(c(:n):n)]", None),
    ("acyl guanidine", "[NX2;$(N-C=O)]=[CX3](-[NX3])-[NX3]", 8.2),
    ("acyl guanidine", "[NX2]=[CX3](-[NX3])-[NX3]-C=O", 8.2),
    ("guanidine", "[NX2;!$(N-C=O)]=[CX3](-[NX3])-[NX3]", 12.5),
    ("N-aryl or N-acyl isourea or isothiourea", "[NX2;$(N-[c,$(C=O)])]=[CX3](-[NX3])-[SX2,OX2]", None),
    ("N-aryl or N-acyl isourea or isothiourea", "[NX2]=[CX3](-[SX2,OX2])-[NX3]-[c,$(C=O)]", None),
    ("isourea or isothiourea", "[NX2;!$(N-[!#6;!#1])]=[CX3](-[NX3;!$(N-[!#6;!#1])])-[SX2,OX2]", 9.3),
    ("acyl amidine, amidrazone", "[NX2;$(N-[!#6;!#1]),$(N-[C,S]=O)]=[CX3]", None),
    ("acyl amidine, amidrazone", "[NX2]=[CX3]-[NX3;$(N-[!#6;!#1]),$(N-[C,S]=O)]", None),
    ("N-aryl benzamidine", "[NX2;$(N-a)]=[CX3](-a)-[NX3]", None),
    ("N-aryl benzamidine", "[NX2]=[CX3](-a)-[NX3]-a", None),
    ("amidine with a conjugated carbonyl", "[NX2]=[CX3](-[NX3])-[CX3]=[OX1]", None),
    ("N-aryl amidine", "[NX2;$(N-a)]=[CX3](-[#6,#1])-[NX3]", 8.3),
    ("N-aryl amidine", "[NX2]=[CX3](-[#6,#1])-[NX3]-a", 8.3),
    ("amidine", "[NX2]=[CX3;!$(C(=N)(N)~[!#6;!#7])]-[NX3]", 11.8),
    ("4-aminopyridine", f"[nX2;+0]1:{_PLAIN}:{_PLAIN}:c(-{_DONOR}):{_PLAIN}:{_PLAIN}:1", 9.2),
    ("5-azaindole", f"[nX2;+0]1:{_PLAIN}:{_PLAIN}:c2:[nX3;!$(n-[C,S]=O)]:[cH]:[cH]:c:2:{_PLAIN}:1", 8.3),
    ("6-azaindole", f"[nX2;+0]1:{_PLAIN}:{_PLAIN}:c2:[cH]:[cH]:[nX3;!$(n-[C,S]=O)]:c:2:{_PLAIN}:1", 8.0),
    ("1-aminoisoquinoline", f"[nX2;+0]1:c(-{_DONOR}):c2:c:c:c:c:c:2:{_PLAIN}:{_PLAIN}:1", 7.6),
    ("2-amino-4-alkylpyridine", f"[nX2;+0]1:c(-[NX3;H2]):{_PLAIN}:c({_ALKYL}):{_PLAIN}:{_PLAIN}:1", 7.5),
    ("2-aminobenzimidazole", f"[nX2;+0]1:c(-{_DONOR}):[nX3]:c2:{':'.join([_PLAIN] * 4)}:c:2:1", 7.5),
    ("2,4-diaminoquinazoline", f"[nX2;+0]1:c(-{_DONOR}):n:c(-{_DONOR}):c2:c:c:c:c:c:2:1", 7.9),
    ("2-aminoimidazole", f"[nX2;+0]1:c(-{_DONOR}):[nX3]:{_PLAIN}:{_PLAIN}:1", 8.4),
    ("2-alkylimidazole", f"[nX2;+0]1:c({_ALKYL}):[nX3;H1,$(n-[CX4])]:{_ALKYLATED}:{_ALKYLATED}:1", 7.8),
    ("4-alkylimidazole", f"[nX2;+0]1:[cH]:[nX3;H1,$(n-{_ALKYL})]:{_ALKYLATED}:c({_ALKYL}):1", 7.5),
    ("4-alkylimidazole", f"[nX2;+0]1:[cH]:[nX3;H1,$(n-{_ALKYL})]:c({_ALKYL}):[cH]:1", 7.5),
    ("alkylhydrazine", "[NX3;H1;$(N-[CX4])]-[NX3;H2]", 7.9),
    ("hydrazine", "[NX3;H2]-[NX3;H2]", 8.1),
)  # fmt: skip

# Hammett constants of phenols, ortho (apparent), meta and para: SMARTS of a substituent's first atom.
_PHENOL, _RHO = 9.92, 2.23
_SIGMAS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("[OX1-]", (-1.0, -0.5, -1.0)),
    ("[N+](=O)[O-]", (1.22, 0.71, 1.24)),
    ("[NX4+]", (0.9, 0.88, 0.8)),
    ("C#N", (1.37, 0.59, 0.88)),
    ("[CX3H]=[OX1]", (0.70, 0.41, 1.03)),
    ("[CX3](=O)[OX2H]", (-1.4, 0.10, 0.25)),
    ("[CX3](=O)[OX2]", (0.0, 0.36, 0.65)),
    ("[CX3](=O)[#7]", (0.6, 0.3, 0.6)),
    ("[CX3](=O)[#6]", (-0.1, 0.38, 0.84)),
    ("[CX3]=[CX3]-[CX3]=O", (0.1, 0.2, 0.4)),
    ("[CX4](F)F", (0.6, 0.43, 0.56)),
    ("[SX4](=O)(=O)[OX2H]", (0.4, 0.3, 0.45)),
    ("[SX4](=O)=O", (0.9, 0.64, 0.94)),
    ("[SX3]=O", (0.6, 0.5, 0.7)),
    ("[NX2]=[NX2]", (0.5, 0.3, 0.76)),
    ("[NX2]=O", (1.0, 0.6, 1.3)),
    ("F", (0.53, 0.34, 0.06)),
    ("Cl", (0.63, 0.37, 0.24)),
    ("Br", (0.68, 0.39, 0.26)),
    ("I", (0.65, 0.35, 0.28)),
    ("[OX2]", (0.0, 0.10, -0.15)),
    ("[NX3]-[C,S]=O", (0.3, 0.2, 0.2)),
    ("[NX3]", (0.1, 0.0, -0.17)),
    ("[CX4]", (-0.13, -0.06, -0.15)),
    ("a", (0.1, 0.05, 0.1)),
)
_AZA = (-0.8, 0.62, -0.5)  # nitrogen in the ring
_FUSED = 0.1

# pKa of aliphatic amines by their number of hydrogens, and corrections to it.
_AMINE = "[NX3;+0;!$(N~[!#6;!#1]);!$(N-[#6;!X4])]"
_AMINES = {3: 9.2, 2: 10.65, 1: 11.05, 0: 10.3}
_METHYL, _RING, _BRIDGE, _AZIRIDINE = -0.2, 0.1, 0.5, -2.8
# Substituents on carbons next to the nitrogen, by SMARTS of the first atom; all but the strongest count less.
_ALPHA: tuple[tuple[str, float], ...] = (
    ("[c;$(c:n)]", -2.0), ("a", -1.3), ("C#N", -5.3), ("C#C", -2.4), ("[CX3]=[CX3]", -0.9),
    ("[CX3](=O)[OX2H]", -0.9), ("[CX3](=O)[OX2]", -2.9), ("[CX3](=O)[#7]", -2.6), ("[CX3]=O", -2.5),
    ("[CX3]=N", -2.0), ("[SX4](=O)=O", -5.0), ("[#8]", -3.5), ("[#16]", -2.0), ("[#7]", -2.2),
    ("[F,Cl,Br,I]", -5.0),
)  # fmt: skip
# One carbon further; two carbons further the effect is multiplied by _FURTHER.
_BETA: tuple[tuple[str, float], ...] = (
    ("a", -0.7), ("[F,Cl,Br,I]", -1.6), ("[OX2H]", -0.85), ("[OX2]-C=O", -1.8), ("[OX2]", -1.3),
    ("[#7]-C=[O,S]", -1.6), ("[#7]-S(=O)=O", -1.9), ("[#7;$([#7]-[c;$(c(:n):n)])]", -1.3), ("[#7]", -0.95),
    ("C#N", -2.7), ("C#C", -0.8), ("[CX3]=[CX3]", -0.4), ("[CX3](=O)[OX2H]", -0.3), ("[CX3]=O", -1.4),
    ("[SX4](=O)=O", -3.0), ("[SX3]=O", -1.8), ("[SX2]", -0.9), ("[N+](=O)[O-]", -3.5),
)  # fmt: skip
_WEAKER, _FURTHER = 0.7, 0.4
# Change of another base's pKa by a cation, for each path of this many bonds between them.
_CATION = {1: -10.0, 2: -8.0, 3: -3.0, 4: -1.7, 5: -0.9}
_CONJUGATED = -8.0  # the same if all atoms between them are conjugated, as in a biguanide
_CLOSE = 4  # within this many bonds, two acids of conjugated systems count as one

_UNCHARGER = rdMolStandardize.Uncharger(canonicalOrder=True, force=True)


def protonated(molecule: Chem.Mol) -> Chem.Mol:
    """The molecule in its likeliest state at pH 7.4, from any input state. The input is not changed."""
    neutral = Chem.MolFromSmiles(Chem.MolToSmiles(_UNCHARGER.uncharge(molecule)))
    if neutral is None:
        return molecule
    state = Chem.RWMol(neutral)
    for atom in _acid_sites(neutral):
        _charge(state.GetAtomWithIdx(atom), -1)
    for atom in _base_sites(neutral):
        _charge(state.GetAtomWithIdx(atom), 1)
    Chem.SanitizeMol(state)
    return state.GetMol()


def _charge(atom: Chem.Atom, charge: int) -> None:
    atom.SetFormalCharge(atom.GetFormalCharge() + charge)
    if atom.GetIsAromatic() or atom.GetNoImplicit():  # RDKit counts the hydrogens of other atoms itself
        atom.SetNumExplicitHs(atom.GetTotalNumHs() + charge)


def _acid_sites(molecule: Chem.Mol) -> list[int]:
    """The atoms that lose a proton."""
    alone = _matches(molecule, "[OX2H,SX2H;$(*-C=[O,S]),$(*-[S,P])]")
    second = _matches(molecule, "[OX2H;$(*-P([OX2H])=O);!$(*-P-[#7]);!$(*-P-[CX4;!$(C(F)F)])]")
    phosphori = _matches(molecule, "P")
    sites: list[int] = []
    found = _classified(molecule, _ACIDS)
    for atom, pka in sorted(found.items(), key=lambda item: item[1]):
        if pka >= PH:
            continue
        if atom in alone:
            phosphorus = [one for one in _neighbours(molecule, atom) if one in phosphori]
            charged = sum(other in sites for one in phosphorus for other in _neighbours(molecule, one))
            if charged > (atom in second):
                continue
        elif any(_bonds_between(molecule, atom, other) <= _CLOSE for other in sites if other not in alone):
            continue  # acids of one conjugated system: the second is much weaker
        sites.append(atom)
    return sites + _phenol_sites(molecule, taken=set(found), charged=sites)


def _bonds_between(molecule: Chem.Mol, atom: int, other: int) -> int:
    return len(Chem.GetShortestPath(molecule, atom, other)) - 1


def _neighbours(molecule: Chem.Mol, atom: int) -> list[int]:
    return [other.GetIdx() for other in molecule.GetAtomWithIdx(atom).GetNeighbors()]


def _phenol_sites(molecule: Chem.Mol, *, taken: set[int], charged: Sequence[int]) -> list[int]:
    """Phenols that lose a proton, the most acidic first; each charge weakens the others of its ring."""
    state = Chem.RWMol(molecule)
    for atom in charged:
        state.GetAtomWithIdx(atom).SetFormalCharge(-1)
    state.UpdatePropertyCache(strict=False)
    waiting = _matches(molecule, "[OX2H]-[c;r6]") - taken
    sites: list[int] = []
    while waiting:
        pka, atom = min((_phenol_pka(state, atom), atom) for atom in waiting)
        if pka >= PH:
            break
        waiting.remove(atom)
        sites.append(atom)
        state.GetAtomWithIdx(atom).SetFormalCharge(-1)
        state.UpdatePropertyCache(strict=False)
    return sites


def _phenol_pka(molecule: Chem.Mol, oxygen: int) -> float:
    """The Hammett equation, pKa = 9.92 − 2.23 Σσ, over the other five atoms of the ring."""
    (carbon,) = (atom.GetIdx() for atom in molecule.GetAtomWithIdx(oxygen).GetNeighbors())
    rings = [ring for ring in molecule.GetRingInfo().AtomRings() if carbon in ring and len(ring) == 6]
    if not rings:
        return _PHENOL
    ring = rings[0]
    start = ring.index(carbon)
    total = 0.0
    for step in range(1, 6):
        place = (0, 1, 2, 1, 0)[step - 1]  # ortho, meta, para, meta, ortho
        atom = molecule.GetAtomWithIdx(ring[(start + step) % 6])
        if atom.GetAtomicNum() == 7:
            total += _AZA[place]
            continue
        for other in atom.GetNeighbors():
            if other.GetIdx() in ring:
                continue
            if molecule.GetRingInfo().AreAtomsInSameRing(atom.GetIdx(), other.GetIdx()):
                total += _FUSED
            else:
                total += _first(molecule, other.GetIdx(), _SIGMAS, (0.0, 0.0, 0.0))[place]
    return _PHENOL - _RHO * total


def _base_sites(molecule: Chem.Mol) -> list[int]:
    """The atoms that take a proton, the most basic first; each lowers the pKa of bases near it."""
    left = {atom: pka for atom, pka in _classified(molecule, _BASES).items() if math.isfinite(pka)}
    left |= {atom: _amine_pka(molecule, atom) for atom in _matches(molecule, _AMINE)}
    for atom in molecule.GetAtoms():  # permanent charges
        if atom.GetFormalCharge() > 0 and atom.GetAtomicNum() == 7 and atom.GetTotalDegree() == 4:
            _weaken(molecule, left, atom.GetIdx())
    sites: list[int] = []
    while left:
        atom = max(left, key=lambda atom: (left[atom], -atom))
        if left[atom] < PH:
            break
        del left[atom]
        sites.append(atom)
        _weaken(molecule, left, atom)
    return sites


def _weaken(molecule: Chem.Mol, pkas: dict[int, float], cation: int) -> None:
    for path in _paths(molecule, cation, max(_CATION)):
        if path[-1] in pkas:
            between = [_is_saturated(molecule, atom) for atom in path[1:-1]]
            pkas[path[-1]] += _CATION[len(path) - 1] if any(between) else _CONJUGATED


def _amine_pka(molecule: Chem.Mol, nitrogen: int) -> float:
    """The pKa of an aliphatic amine's cation, by the increments of its substituents."""
    amine = molecule.GetAtomWithIdx(nitrogen)
    pka = _AMINES[amine.GetTotalNumHs()]
    pka += _METHYL * sum(atom.GetTotalNumHs() == 3 for atom in amine.GetNeighbors())
    if amine.IsInRing():
        pka += _AZIRIDINE if amine.IsInRingSize(3) else _RING
        pka += _BRIDGE * (molecule.GetRingInfo().NumAtomRings(nitrogen) > 1)
    alpha = [0.0]
    for path in _paths(molecule, nitrogen, 4):
        # Effects pass through saturated carbon; a substituent from a multiple bond or heteroatom on counts
        # as a whole.
        if not all(_is_saturated(molecule, atom) for atom in path[1:-1]):
            continue
        if len(path) == 3:
            alpha.append(_first(molecule, path[-1], _ALPHA, 0.0))
        elif len(path) > 3:
            share = 1.0 if len(path) == 4 else _FURTHER
            pka += share * _first(molecule, path[-1], _BETA, 0.0)
    strongest = min(alpha)
    return pka + strongest + _WEAKER * (sum(alpha) - strongest)


def _is_saturated(molecule: Chem.Mol, atom: int) -> bool:
    carbon = molecule.GetAtomWithIdx(atom)
    return carbon.GetAtomicNum() == 6 and carbon.GetTotalDegree() == 4


def _paths(molecule: Chem.Mol, start: int, most: int) -> Iterator[tuple[int, ...]]:
    """All simple paths of up to `most` bonds from an atom, as tuples of atoms."""
    ends = [(start,)]
    for _ in range(most):
        ends = [
            (*path, other.GetIdx())
            for path in ends
            for other in molecule.GetAtomWithIdx(path[-1]).GetNeighbors()
            if other.GetIdx() not in path
        ]
        yield from ends


def _classified(molecule: Chem.Mol, classes: Sequence[tuple[str, str, float | None]]) -> dict[int, float]:
    """By atom, the pKa of the first class that it belongs to; infinite if it is no acid or base."""
    found: dict[int, float] = {}
    for _, smarts, pka in classes:
        for atom in sorted(_matches(molecule, smarts)):
            found.setdefault(atom, math.inf if pka is None else pka)
    return found


def _first(
    molecule: Chem.Mol, atom: int, classes: Sequence[tuple[str, _ValueT]], default: _ValueT
) -> _ValueT:
    return next((value for smarts, value in classes if atom in _matches(molecule, smarts)), default)


def _matches(molecule: Chem.Mol, smarts: str) -> set[int]:
    """The atoms that the first atom of a SMARTS matches."""
    return {
        match[0] for match in molecule.GetSubstructMatches(_query(smarts), uniquify=False, maxMatches=100_000)
    }


@cache
def _query(smarts: str) -> Chem.Mol:
    return Chem.MolFromSmarts(smarts)
