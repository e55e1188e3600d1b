"""Docking as a component of the oracle: created once in a worker process, then called per SMILES."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmodes.chem.docking.box import Box, make_box
from allmodes.chem.docking.receptor_file import check_receptor
from allmodes.chem.oracles.results import Scored
from allmodes.errors import ConfigError
from allmodes.extras import require

if TYPE_CHECKING:  # meeko may be missing, which is to be a configuration's error
    from allmodes.chem.docking.ligand import Ligand
    from allmodes.chem.docking.poses import Pose


def make_docking_scorer(component: dict[str, Any]) -> Callable[[str], Scored]:
    """The scorer of a dumped `DockingComponent`: Vina's best score in kcal/mol.

    Its details: {"torsions": int}, and {"poses": SDF} when poses are asked for. Raises `ConfigError` for a
    receptor, box or installation that cannot work.
    """
    receptor, box = _place(component, "vina")
    from allmodes.chem.docking.vina_engine import VinaEngine

    engine = VinaEngine(receptor, box, exhaustiveness=component["exhaustiveness"], seed=component["seed"])
    return _scorer(component, lambda ligand: engine.dock(ligand, poses=component["poses"]))


def make_external_docking_scorer(component: dict[str, Any]) -> Callable[[str], Scored]:
    """The scorer of a dumped `ExternalDockingComponent`: the lowest score of its poses, in kcal/mol.

    Details and errors as for `make_docking_scorer`; `ConfigError`, too, for a command that cannot work.
    """
    receptor, box = _place(component)
    from allmodes.chem.docking.external import ExternalEngine

    engine = ExternalEngine(
        component["command"],
        receptor,
        box,
        exhaustiveness=component["exhaustiveness"],
        seed=component["seed"],
        where=f"component {component['name']!r}: `command`",
    )

    def dock(ligand: "Ligand") -> tuple[float, Sequence["Pose"]]:
        poses = engine.dock(ligand)
        return poses[0].score, poses

    return _scorer(component, dock)


def _place(component: dict[str, Any], *packages: str) -> tuple[Path, Box]:
    """The checked docking box; also checks that the packages for docking are installed."""
    where = f"component {component['name']!r}:"
    require(f"{where} docking needs", "meeko", "gemmi", "scipy", *packages, extras="docking")
    for key in ("seed", "exhaustiveness"):
        if component[key] >= 2**31:
            raise ConfigError(f"{where} `{key}`: expected a number below 2³¹; got {component[key]}")
    box = make_box(component["box"], where=f"{where} `box")
    receptor = Path(component["receptor"])
    check_receptor(receptor, box, where=f"{where} `receptor`")
    return receptor, box


def _scorer(
    component: dict[str, Any], dock: "Callable[[Ligand], tuple[float, Sequence[Pose]]]"
) -> Callable[[str], Scored]:
    from allmodes.chem.docking.ligand import prepare_ligand
    from allmodes.chem.docking.poses import write_poses

    kept = component["poses"]

    def score(smiles: str) -> Scored:
        ligand = prepare_ligand(
            smiles, protonation=component["protonation"], max_torsions=component["max_torsions"]
        )
        value, poses = dock(ligand)
        details: dict[str, Any] = {"torsions": ligand.torsions}
        if kept:
            details["poses"] = write_poses(poses[:kept], ligand=ligand)
        return Scored(value, details)

    return score
