"""`allmodes benchmark`: public tasks of molecular design for all methods and seeds, in one table and page."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from allmodes.cli.program import same_command, say_how_to_continue
from allmodes.cli.recipes import find_recipe
from allmodes.errors import InputError
from allmodes.extras import require

if TYPE_CHECKING:
    from allmodes.chem.benchmarks.runs import Name

benchmark = tyro.extras.SubcommandApp()


@benchmark.command(name="pmo")
def benchmark_pmo(
    *,
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    budget: int | None = None,
    threshold: float | None = None,
    recipe: Path = Path("pmo"),
    out: Path = Path("runs/pmo"),
    workers: int = 1,
) -> None:
    """PMO: AUC of the best molecules over 10,000 oracle calls, on the 20 tasks that RDKit computes.

    The same command resumes after a stop. Tasks, methods and seeds can be added later in the same folder.

    Args:
        tasks: names such as celecoxib_rediscovery, or molscore:FILE, a MolScore configuration; all 20 if left
            out.
        methods: such as reinvent mara grpo, or METHOD-LOSS; those of the recipe if left out.
        seeds: those of the recipe if left out.
        budget: oracle calls of each run; that of the recipe if left out.
        threshold: smallest score of molecules that count for circles and scaffolds; the recipe's
            hit_threshold if left out. Another threshold needs no new run.
        recipe: a recipe of molecules, by name or file, for all other settings; its oracle is not used.
        out: folder for runs, results.json and report.html.
        workers: runs at a time, each on one thread.
    """
    _run("pmo", tasks, methods, seeds, budget, threshold, recipe, out, workers)


@benchmark.command(name="molexp")
def benchmark_molexp(
    *,
    tasks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    budget: int | None = None,
    threshold: float | None = None,
    recipe: Path = Path("pmo"),
    out: Path = Path("runs/molexp"),
    workers: int = 1,
) -> None:
    """MolExp and MolExpL: several dissimilar targets at once, all of which should be found.

    The same command resumes after a stop. Tasks, methods and seeds can be added later in the same folder.

    Args:
        tasks: names such as molexp_egfr (fingerprints) or molexpl_egfr (texts); all eight if left out.
        methods: such as reinvent mara grpo, or METHOD-LOSS; those of the recipe if left out.
        seeds: those of the recipe if left out.
        budget: oracle calls of each run; that of the recipe if left out.
        threshold: smallest score of molecules that count for circles and scaffolds; the recipe's
            hit_threshold if left out. Another threshold needs no new run.
        recipe: a recipe of molecules, by name or file, for all other settings; its oracle is not used.
        out: folder for runs, results.json and report.html.
        workers: runs at a time, each on one thread.
    """
    _run("molexp", tasks, methods, seeds, budget, threshold, recipe, out, workers)


def _run(
    name: "Name",
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    budget: int | None,
    threshold: float | None,
    recipe: Path,
    out: Path,
    workers: int,
) -> None:
    require("molecules need", "rdkit", extras="chem,report")
    from rich.console import Console

    from allmodes.chem.benchmarks.runs import make_benchmark, run_benchmark
    from allmodes.chem.config import MoleculesConfig
    from allmodes.chem.reporting.benchmark_report import print_benchmark, write_benchmark
    from allmodes.reports.pages import require_report_extra
    from allmodes.runs.config import apply_scale, read_config_file

    if workers < 1:
        raise InputError(f"--workers: expected at least 1; got {workers}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold: expected a number from 0 to 1; got {threshold:g}")
    require_report_extra()
    file = find_recipe(recipe)
    values = apply_scale(read_config_file(file), None, MoleculesConfig)
    if methods:
        values = {key: value for key, value in values.items() if key not in ("loss", "method")}
        values["algorithm"] = list(methods)
    if seeds:
        values["seeds"] = list(seeds)
    if budget is not None:
        values["budget"] = budget
    made = make_benchmark(
        name, tasks, values, source=str(file), threshold=threshold, recipe_folder=file.parent
    )
    with say_how_to_continue(same_command):
        results = run_benchmark(made, out, workers=workers)
    report = write_benchmark(out, made, results)
    print_benchmark(made, results, Console())
    print(f"report: {report}")
