"""Export results as CSV, and as SDF with poses or drawings."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import rdDepictor

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.outcomes import regions_of
from allmodes.chem.design.results import RunResult, find_hits
from allmodes.chem.molecules import MAX_DRAWN_ATOMS, not_drawn
from allmodes.chem.oracles.components import DockingSettings, RetrosynthesisComponent
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.pose_figures import read_poses
from allmodes.reports.formatting import plural
from allmodes.reports.progress import console
from allmodes.runs.files import replacing

Columns = Mapping[str, str]  # values by the heads of their columns, all as text; "" where there is none


def evaluation_columns(oracle: OracleConfig, evaluation: Evaluation) -> dict[str, str]:
    """smiles, reward; raw value and score of each component; failure; steps and classes of a route.

    Numbers are written in full. steps and classes are empty without a route, and have the component's name
    before them where there are several that look for one.
    """
    columns = {"smiles": evaluation.smiles, "reward": _number(evaluation.reward)}
    for component in oracle.components:
        columns[f"{component.name} raw"] = _number(evaluation.raw.get(component.name))
        columns[f"{component.name} score"] = _number(evaluation.shaped.get(component.name))
    columns["failure"] = evaluation.failure or ""
    searching = [c.name for c in oracle.components if isinstance(c, RetrosynthesisComponent)]
    for name in searching:
        found = evaluation.details.get(name, {})
        before = f"{name} " if len(searching) > 1 else ""
        columns[f"{before}steps"] = str(found["steps"]) if found.get("solved") else ""
        columns[f"{before}classes"] = "; ".join(found["classes"]) if found.get("solved") else ""
    return columns


def write_csv(path: Path, heads: Sequence[str], rows: Iterable[Columns]) -> None:
    """Write rows to `path` whole; what a row lacks is empty. Raises `RunError` if it cannot be written."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, heads, restval="", lineterminator="\n")
        writer.writerow(
            {head: _cell(head) for head in heads}
        )  # the names of components, as a recipe has them
        writer.writerows({head: _cell(text) for head, text in row.items()} for row in rows)


def write_sdf(path: Path, oracle: OracleConfig, molecules: Iterable[tuple[str, Evaluation, Columns]]) -> None:
    """Write molecules, each with a title and its columns as properties, to `path` whole.

    Where the oracle keeps poses: every pose, best first, of the molecules that have any, with the properties
    that it was kept with. Else: a drawing of every molecule, in two dimensions, but of those that are too
    large to draw; their number is printed. Raises `RunError` if the file cannot be written.
    """
    left_out = 0
    docking = [c.name for c in oracle.components if isinstance(c, DockingSettings) and c.poses]
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for title, evaluation, columns in molecules:
            if docking:
                found = [
                    (name, pose)
                    for name in docking
                    for pose in read_poses(evaluation.details.get(name, {}).get("poses", ""))
                ]
            else:
                drawing = _drawing(evaluation.smiles)
                left_out += drawing is None
                found = [] if drawing is None else [("", drawing)]
            for name, molecule in found:
                properties = {**columns, **({"component": name} if len(docking) > 1 else {})}
                handle.write(_record(molecule, title, properties))
    if left_out:
        console.print(
            f"{plural(left_out, 'molecule')} not in {path}: too large to draw, for example more than "
            f"{MAX_DRAWN_ATOMS} atoms",
            markup=False,
        )


def write_hits(
    folder: Path,
    config: MoleculesConfig,
    results: Sequence[RunResult],
    ledgers: Mapping[tuple[str, int], Sequence[LedgerRow]],
) -> None:
    """Write hits.csv and hits.sdf: the hits of all runs, run by run, each run's best first.

    ledgers: by (algorithm, seed), as for the report. circle: the number, from 1, of the circle of its run
    that the hit is the best of. region: that of the hit, where the recipe names regions. Raises `RunError`
    when a file cannot be written.
    """
    heads = ["algorithm", "seed", "call", *evaluation_columns(config.oracle, _NOTHING), "circle"]
    heads.remove("failure")  # a hit has none
    regions = regions_of(config)
    if regions is not None:
        heads.append("region")
    rows: list[tuple[str, Evaluation, Columns]] = []
    for run in results:
        ledger = ledgers[run.algorithm, run.seed]
        for hit in find_hits(
            ledger, hit_threshold=config.hit_threshold, circle_distance=config.circle_distance
        ):
            columns = {
                "algorithm": run.algorithm,
                "seed": str(run.seed),
                "call": str(hit.row.call),
                **evaluation_columns(config.oracle, hit.row.evaluation),
                "circle": "" if hit.circle is None else str(hit.circle + 1),
            }
            del columns["failure"]
            if regions is not None:
                columns["region"] = regions.name_of(hit.row.evaluation.smiles) or ""
            title = f"{run.algorithm} seed {run.seed} call {hit.row.call}"
            rows.append((title, hit.row.evaluation, columns))
    write_csv(folder / "hits.csv", heads, (columns for _, _, columns in rows))
    write_sdf(folder / "hits.sdf", config.oracle, rows)


_NOTHING = Evaluation(smiles="", raw={}, shaped={}, reward=None, failure=None)


def _cell(text: str) -> str:
    """A text that is safe in a spreadsheet: text that it would run as a formula gets an apostrophe."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return "'" + text
    return text


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _drawing(smiles: str) -> Chem.Mol | None:
    molecule = Chem.MolFromSmiles(smiles)
    if not_drawn(molecule) is not None:
        return None
    rdDepictor.Compute2DCoords(molecule)
    return molecule


def _record(molecule: Chem.Mol, title: str, properties: Columns) -> str:
    """One record of an SDF. What would end a line, a property's name or the record is left out of texts."""
    molecule.SetProp("_Name", _line(title))
    for name, value in properties.items():
        if value:
            molecule.SetProp(_line(name).replace("<", "(").replace(">", ")"), _line(value))
    return Chem.SDWriter.GetText(molecule)


def _line(text: str) -> str:
    return " ".join(text.split()).replace("$$$$", "$$$")
