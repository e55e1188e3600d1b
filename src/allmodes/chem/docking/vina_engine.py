"""AutoDock Vina through its Python package, on one core, its maps computed once."""

import math
from pathlib import Path
from typing import final

from vina import Vina

from allmodes.chem.docking.box import Box
from allmodes.chem.docking.ligand import Ligand
from allmodes.chem.docking.poses import Pose, heavy_places, read_pdbqt
from allmodes.chem.oracles.results import UnscorableError

# The number of minima that Vina keeps while it searches: its default, and the same however many poses are
# asked for, so that asking for poses does not change the score.
SEARCHED_POSES = 20
# Poses worse than the best by more than this, in kcal/mol, are not given: Vina's default.
ENERGY_RANGE = 3.0
# Vina rounds the box up to whole steps of its grid, 0.375 Å.
MARGIN = 0.4


@final
class VinaEngine:
    """Vina's scoring function and search around one receptor and box.

    The same ligand gives the same result whatever was docked before: every search starts from the seed.
    """

    def __init__(self, receptor: Path, box: Box, *, exhaustiveness: int, seed: int) -> None:
        self._vina = Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
        self._exhaustiveness = exhaustiveness
        self._box = box
        self._vina.set_receptor(str(receptor))
        # Without a ligand yet, these are the maps of every atom type.
        self._vina.compute_vina_maps(center=list(box.center), box_size=list(box.size))

    def dock(self, ligand: Ligand, *, poses: int) -> tuple[float, list[Pose]]:
        """The best score in kcal/mol, and up to `poses` poses within 3 kcal/mol of it, best first.

        Raises `UnscorableError`: "unsuitable" for a ligand that does not fit into the box, "not_finite" for a
        score that is no number.
        """
        self._vina.set_ligand_from_string(ligand.pdbqt)
        self._vina.dock(exhaustiveness=self._exhaustiveness, n_poses=SEARCHED_POSES)
        energies = self._vina.energies(n_poses=1, energy_range=ENERGY_RANGE)
        if len(energies) == 0:
            raise UnscorableError("unsuitable", f"Vina found no pose of {ligand.docked_as} inside the box")
        score = float(energies[0][0])
        if not math.isfinite(score):
            raise UnscorableError("not_finite", f"Vina's score of {ligand.docked_as} is {score}")
        text = str(self._vina.poses(n_poses=max(poses, 1), energy_range=ENERGY_RANGE))
        beyond = max(map(self._box.distance, heavy_places(text.split("ENDMDL")[0])))
        if beyond > MARGIN:  # its score is then Vina's penalty of some million kcal/mol an ångström
            raise UnscorableError(
                "unsuitable", f"{ligand.docked_as} does not fit into the box; it juts out by {beyond:.1f} Å"
            )
        return score, read_pdbqt(text, ligand=ligand) if poses else []
