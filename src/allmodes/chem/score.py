"""Score a file of molecules with an oracle; a scoring that was killed goes on where it was."""

from collections.abc import Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from allmodes.chem.export import Columns, evaluation_columns, write_csv, write_sdf
from allmodes.chem.ledger import Ledger, read_ledger
from allmodes.chem.molecule_file import InputMolecule, Rejected, read_molecules, write_rejected
from allmodes.chem.oracles.inputs import oracle_inputs
from allmodes.chem.oracles.oracle import ComponentOracle, Oracle
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.oracles.store import ResultStore
from allmodes.chem.score_report import write_score_report
from allmodes.runs.experiment import refuse_other_settings, resume_experiment, saved_config, start_experiment
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder
from allmodes.runs.oracle_config import OracleConfig
from allmodes.runs.pages import require_report_extra
from allmodes.runs.progress import progress_bar, show_notes
from allmodes.runs.scoring_config import ScoringConfig

# Who computes, who remembers, and what is called a hit: no number depends on these.
_WITHOUT_EFFECT = ("oracle.workers", "oracle.ray", "oracle.store", "screen")
_NOT_READ = Evaluation(smiles="", raw={}, shaped={}, reward=None, failure=None)


def score_file(file: Path, oracle: OracleConfig, *, screen: float | None, out: Path) -> Path:
    """Score every molecule of a file and return the path of the report, `report.html` in folder `out`.

    Each distinct molecule is computed once, and committed to `ledger.sqlite` as soon as it is known. `out`
    gets scores.csv with a row for each line of the file, scores.sdf, and rejected.tsv with the lines that
    could not be read. screen: the reward from which a molecule is called a hit; None: none is. A folder that
    holds a scoring of the same file by the same oracle, finished or not, is gone on with.

    Raises `InputError` for a file that cannot be read, `ConfigError` for an oracle that cannot work, and
    `RunError` for a folder of another scoring, or one that cannot be written.
    """
    require_report_extra()
    config = ScoringConfig(oracle=oracle, screen=screen)
    begin = start_experiment
    if (out / "config.json").exists():
        then = saved_config(ScoringConfig, out).model_dump(mode="json")
        refuse_other_settings(out, then=then, now=config.model_dump(mode="json"), ignored=_WITHOUT_EFFECT)
        begin = resume_experiment
    molecules = read_molecules(file)
    inputs = {"file": file, **oracle_inputs(oracle)}
    with ExitStack() as stack:
        store = None if oracle.store is None else stack.enter_context(ResultStore(oracle.store))
        # Before anything is written: what cannot work leaves no folder behind.
        scorer = stack.enter_context(ComponentOracle(oracle, store=store))
        scorer.probe()
        show_notes(scorer.notes())
        return begin(config, out, inputs=inputs, run=partial(_run, scorer, file.name, molecules))


def _run(
    oracle: Oracle,
    file_name: str,
    molecules: Sequence[InputMolecule],
    config: ScoringConfig,
    folder: RunFolder,
) -> Path:
    out = folder.path
    write_text(out / "config.json", config.model_dump_json(indent=2) + "\n")  # the screen may be another now
    rejected = [
        Rejected(line=molecule.line, text=" ".join(molecule.text.split())[:200], reason=molecule.reason)
        for molecule in molecules
        if molecule.smiles is None
    ]
    write_rejected(out / "rejected.tsv", rejected)
    distinct = list(dict.fromkeys(molecule.smiles for molecule in molecules if molecule.smiles is not None))
    with Ledger(out / "ledger.sqlite") as ledger:
        _score_all(oracle, ledger, distinct)
        ledger.finish()
    rows = read_ledger(out / "ledger.sqlite")
    scored = {row.evaluation.smiles: row.evaluation for row in rows}
    lines = [
        (molecule, _NOT_READ if molecule.smiles is None else scored[molecule.smiles])
        for molecule in molecules
    ]
    heads = ["line", "name", *evaluation_columns(config.oracle, _NOT_READ)]
    table = [_columns(config.oracle, molecule, evaluation) for molecule, evaluation in lines]
    write_csv(out / "scores.csv", heads, table)
    write_sdf(
        out / "scores.sdf",
        config.oracle,
        (
            (molecule.name or evaluation.smiles, evaluation, columns)
            for (molecule, evaluation), columns in zip(lines, table, strict=True)
            if evaluation is not _NOT_READ
        ),
    )
    report = out / "report.html"
    write_score_report(report, config, file_name=file_name, molecules=molecules, rows=rows)
    return report


def _score_all(oracle: Oracle, ledger: Ledger, smiles: Sequence[str]) -> None:
    """Commit a result for each molecule, whichever is known first; what a killed scoring had is kept."""
    missing, failed, best = [], 0, None
    for line in smiles:
        ledger.begin(line, step=1)
        known = ledger.recovered(line)
        if known is None:
            missing.append(line)
        else:
            ledger.record(known)
    with progress_bar() as progress:
        before = len(smiles) - len(missing)
        note = f"{before:,} scored before" if before else ""
        task = progress.add_task("scoring", total=len(smiles), completed=before, note=note)
        for future in as_completed(oracle.submit(missing)):
            evaluation = future.result()
            ledger.record(evaluation)
            if evaluation.reward is None:
                failed += 1
            elif best is None or evaluation.reward > best:
                best = evaluation.reward
            note = f"best reward {best:.3f}" if best is not None else ""
            note += f"{', ' if note else ''}{failed:,} without a score" if failed else ""
            progress.update(task, advance=1, note=note)


def _columns(oracle: OracleConfig, molecule: InputMolecule, evaluation: Evaluation) -> Columns:
    columns = {"line": str(molecule.line), "name": molecule.name, **evaluation_columns(oracle, evaluation)}
    if molecule.smiles is None:
        columns["failure"] = f"input: malformed: {molecule.reason}"
    return columns
