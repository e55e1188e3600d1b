"""Score a file of molecules with an oracle; a killed scoring resumes where it was."""

from collections.abc import Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from allmodes.chem.design.ledger import Ledger, read_ledger
from allmodes.chem.molecule_file import InputMolecule, Rejected, read_molecules, write_rejected
from allmodes.chem.oracles.config import OracleConfig, has_plain_program, oracle_inputs
from allmodes.chem.oracles.inputs import check_oracle_files
from allmodes.chem.oracles.oracle import ComponentOracle, Oracle
from allmodes.chem.oracles.results import Evaluation, StrayLineError
from allmodes.chem.oracles.store import ResultStore
from allmodes.chem.reporting.export import Columns, evaluation_columns, write_csv, write_sdf
from allmodes.chem.reporting.score_report import write_score_report
from allmodes.chem.scoring_config import ScoringConfig
from allmodes.reports.pages import require_report_extra
from allmodes.reports.progress import progress_bar, show_notes
from allmodes.runs.experiment import refuse_other_settings, resume_experiment, saved_config, start_experiment
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder

# Who computes, who remembers, and what is called a hit ("screen" in older folders): no number needs these.
_WITHOUT_EFFECT = ("oracle.workers", "oracle.ray", "oracle.store", "hit_threshold", "screen")
_PART = 64  # molecules for each worker
_NOT_READ = Evaluation(smiles="", raw={}, shaped={}, reward=None, failure=None)


def score_file(file: Path, oracle: OracleConfig, *, hit_threshold: float | None, out: Path) -> Path:
    """Score every molecule of a file and return the path of the report, `report.html` in folder `out`.

    Each distinct molecule is computed once, and committed to `ledger.sqlite` as soon as it is known. `out`
    gets scores.csv with a row for each line of the file, scores.sdf, and rejected.tsv with the lines that
    could not be read. hit_threshold: smallest reward of a hit; None: there are no hits. In a
    folder that holds a scoring of the same file by the same oracle, finished or not, that is resumed.

    Raises `InputError` for a file that cannot be read, `ConfigError` for an oracle that cannot work, and
    `RunError` for a folder of another scoring, or one that cannot be written.
    """
    require_report_extra()
    config = ScoringConfig(oracle=oracle, hit_threshold=hit_threshold)
    begin = start_experiment
    if (out / "config.json").exists():
        then = saved_config(ScoringConfig, out).model_dump(mode="json")
        refuse_other_settings(out, then=then, now=config.model_dump(mode="json"), ignored=_WITHOUT_EFFECT)
        begin = partial(resume_experiment, free=_WITHOUT_EFFECT)
    molecules = read_molecules(file)
    inputs = {"file": file, **oracle_inputs(oracle)}
    check_oracle_files(oracle)
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
    write_text(
        out / "config.json", config.model_dump_json(indent=2) + "\n"
    )  # the hit threshold may be another now
    rejected = [
        Rejected(line=molecule.line, text=" ".join(molecule.text.split())[:200], reason=molecule.reason)
        for molecule in molecules
        if molecule.smiles is None
    ]
    write_rejected(out / "rejected.tsv", rejected)
    distinct = list(dict.fromkeys(molecule.smiles for molecule in molecules if molecule.smiles is not None))
    size, trusted = len(distinct), None
    if has_plain_program(config.oracle.components):
        # In parts: one is complete when its answers are known to be those of its molecules.
        size = _PART * config.oracle.workers
        trusted = None if (out / "scores.csv").exists() else _parts_done(out / "ledger.sqlite")
    parts = [distinct[start : start + size] for start in range(0, len(distinct), size)]
    with Ledger(out / "ledger.sqlite", trusted_steps=trusted) as ledger:
        _score_all(oracle, ledger, parts)
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


def _parts_done(path: Path) -> int:
    """The last part of an interrupted scoring that is complete for certain: the next has begun."""
    return max((row.step for row in read_ledger(path)), default=1) - 1 if path.exists() else 0


def _score_all(oracle: Oracle, ledger: Ledger, parts: Sequence[Sequence[str]]) -> None:
    """Commit a result for each molecule, whichever is known first; what a killed scoring had is kept.

    Raises `StrayLineError` if answers may belong to other molecules, and then keeps no result of that
    part; where that turns out at the very end, none at all.
    """
    with progress_bar() as progress:
        task = progress.add_task("scoring", total=sum(map(len, parts)), note="")
        before, failed, best = 0, 0, None
        for step, part in enumerate(parts, start=1):
            calls_before, missing = ledger.calls, []
            for line in part:
                ledger.begin(line, step=step)
                known = ledger.recovered(line)
                if known is None:
                    missing.append(line)
                else:
                    ledger.record(known)
            before += len(part) - len(missing)
            progress.update(task, advance=len(part) - len(missing))
            try:
                for future in as_completed(oracle.submit(missing)):
                    evaluation = future.result()
                    ledger.record(evaluation)
                    if evaluation.reward is None:
                        failed += 1
                    elif best is None or evaluation.reward > best:
                        best = evaluation.reward
                    notes = [f"{before:,} scored before"] if before else []
                    notes += [] if best is None else [f"best reward {best:.3f}"]
                    notes += [f"{failed:,} without a score"] if failed else []
                    progress.update(task, advance=1, note=", ".join(notes))
            except StrayLineError:
                ledger.forget(after=calls_before)
                raise
        try:
            oracle.finish()
        except StrayLineError:
            ledger.forget(after=0)
            raise


def _columns(oracle: OracleConfig, molecule: InputMolecule, evaluation: Evaluation) -> Columns:
    columns = {"line": str(molecule.line), "name": molecule.name, **evaluation_columns(oracle, evaluation)}
    if molecule.smiles is None:
        columns["failure"] = f"input: malformed: {molecule.reason}"
    return columns
