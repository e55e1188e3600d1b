"""Speed of docking: preparing ligands, and what the component adds to AutoDock Vina's own time.

Prepared ligands: 200 molecules sampled from the shipped prior (or the lines of a SMILES file), from SMILES to
PDBQT, in milliseconds; the limit is a median of 50. Docking: the component's time a molecule, preparation
and poses included, against the same search by the bare engine on the PDBQT that is already there, one after
the other on the same molecule, exhaustiveness 1, one core; the limit is 1.10. Both searches start from one
seed and do the same work, and their scores are compared. Wall times on a machine that does other work wander
by more than that, so the processor's time stands beside them.

Run: python benchmarks/docking.py RECEPTOR.pdbqt REFERENCE_LIGAND [FILE.smi]
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prior_molecules import sampled
from vina import Vina

from allmodes.chem.docking.box import make_box
from allmodes.chem.docking.ligand import prepare_ligand
from allmodes.chem.docking.scorer import make_docking_scorer
from allmodes.chem.docking.vina_engine import SEARCHED_POSES
from allmodes.chem.oracles.config import DockingComponent
from allmodes.chem.oracles.results import UnscorableError

PREPARED, DOCKED = 200, 12


def measured(work: Callable[[], float]) -> tuple[float, float, float]:
    """What the work gives, its seconds on the wall, its seconds on the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    value = work()
    return value, time.perf_counter() - wall, time.process_time() - processor


def time_preparation(smiles: list[str]) -> list[str]:
    """Print the milliseconds a ligand; give back what can be docked."""
    prepare_ligand("c1ccccc1C(=O)NCC", protonation="ph7.4", max_torsions=15)  # what is loaded once
    walls, processors, good = [], [], []
    kinds: dict[str, int] = {}
    for line in smiles:
        wall, processor = time.perf_counter(), time.process_time()
        try:
            prepare_ligand(line, protonation="ph7.4", max_torsions=15)
            good.append(line)
        except UnscorableError as error:
            kinds[error.kind] = kinds.get(error.kind, 0) + 1
        walls.append(1000 * (time.perf_counter() - wall))
        processors.append(1000 * (time.process_time() - processor))
    for name, times in (("wall", walls), ("processor", processors)):
        high = statistics.quantiles(times, n=20)[-1]
        median = statistics.median(times)
        print(
            f"prepared, {name:9}: median {median:5.1f} ms, p95 {high:5.1f} ms a ligand; "
            f"median / limit of 50 ms {median / 50:.2f}"
        )
    print(f"prepared: {len(good)} of {len(smiles)}; failures by kind {kinds}")
    return good


def time_docking(receptor: Path, reference: Path, smiles: list[str]) -> None:
    """Print the component's time over the engine's own."""
    component = DockingComponent(
        kind="docking", receptor=receptor, box={"reference_ligand": reference}, exhaustiveness=1, poses=1
    ).model_dump(mode="json")
    box = make_box(component["box"], where="`box")
    engine = Vina(cpu=1, seed=component["seed"], verbosity=0)
    engine.set_receptor(str(receptor))
    engine.compute_vina_maps(list(box.center), list(box.size))
    start = time.perf_counter()
    score = make_docking_scorer(component)
    print(f"component made (receptor checked, maps computed): {time.perf_counter() - start:.2f} s, once")

    def bare(pdbqt: str) -> float:
        engine.set_ligand_from_string(pdbqt)
        engine.dock(exhaustiveness=1, n_poses=SEARCHED_POSES)
        return float(engine.energies(n_poses=1)[0][0])

    totals = {"component": [0.0, 0.0], "engine": [0.0, 0.0]}
    for number, line in enumerate(smiles):
        pdbqt = prepare_ligand(line, protonation="ph7.4", max_torsions=15).pdbqt
        works = {"component": lambda s=line: score(s).value, "engine": lambda p=pdbqt: bare(p)}
        # Each goes first every other time.
        order = list(works) if number % 2 else list(reversed(works))
        values = {}
        for name in order:
            values[name], wall, processor = measured(works[name])
            totals[name][0] += wall
            totals[name][1] += processor
        if values["component"] != values["engine"]:
            raise SystemExit(f"different scores for {line}: {values}")
    for index, name in enumerate(("wall", "processor")):
        ours, own = totals["component"][index], totals["engine"][index]
        print(
            f"docked, {name:9}: {ours / len(smiles):5.2f} s a molecule, "
            f"engine alone {own / len(smiles):5.2f} s; ratio {ours / own:.3f}"
        )
    print(f"docked: {len(smiles)} molecules, equal scores by both")


def main() -> None:
    """Print both."""
    if len(sys.argv) < 3:
        raise SystemExit("Run: python benchmarks/docking.py RECEPTOR.pdbqt REFERENCE_LIGAND [FILE.smi]")
    receptor, reference, *files = map(Path, sys.argv[1:])
    smiles = sampled(PREPARED)
    if files:
        smiles = [line.split()[0] for line in files[0].read_text().splitlines() if line.strip()]
    good = time_preparation(smiles)
    time_docking(receptor, reference, good[:DOCKED])


if __name__ == "__main__":
    main()
