"""The main figures of a finished training, for a terminal."""

from pathlib import Path

from rich.console import Console

from allmodes.reports.tables import print_table
from allmodes.runs.experiment import saved_config
from allmodes.text.base_statistics import load_base_model
from allmodes.text.config import TextConfig
from allmodes.text.reporting.report import result_tables, result_verdicts
from allmodes.text.reporting.results import load_result
from allmodes.text.reporting.views import view_of


def print_training(folder: Path, console: Console) -> None:
    """Each method's figures as mean ± standard deviation over its seeds, and what their tests say."""
    config = saved_config(TextConfig, folder)
    base = load_result(folder / "base" / "result.json")
    view = view_of(base)
    paths = sorted(folder.glob("*/result.json"))
    results = [load_result(path) for path in paths if path.parent.name != "base"]
    results.sort(key=lambda result: config.seeds.index(result.seed))
    rows = [
        (table["name"], row["beta"], row["method"], *row["cells"])
        for table in result_tables(config, results, view)
        for row in table["rows"]
    ]
    headings = ("training", "β", "method", *view.headings)
    print_table(console, headings, rows, texts=("training", "method"))
    seeds = len(config.seeds)
    note = f"The base model has a reward of {base.reward:.3f}."
    if seeds > 1:
        note += f" ± is the standard deviation over {seeds} seeds."
    model = load_base_model(folder / "base")
    shares = [] if model is None else [f"Base model: {model.base.describe()}."]
    if model is not None and model.before is not None:
        shares.insert(0, f"Before the warm start: {model.before.describe()}.")
    for line in ("", note, *shares, *result_verdicts(config, results, view)):
        console.print(line, markup=False, highlight=False)
