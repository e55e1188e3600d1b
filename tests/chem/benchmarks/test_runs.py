"""Benchmarks as runs: figures by hand, every run once, a kill in between, one line for bad input."""

import json
import math
import shutil
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from rich.console import Console

from allmodes.chem.benchmarks import find_task, runs, score, tasks_of
from allmodes.chem.benchmarks.measures import Figures, measure
from allmodes.chem.benchmarks.published import PUBLISHED
from allmodes.chem.benchmarks.runs import Benchmark, make_benchmark, run_benchmark
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design import grid
from allmodes.chem.design.design import Job
from allmodes.chem.design.ledger import LedgerRow, read_ledger
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.benchmark_report import print_benchmark, write_benchmark
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.runs.config import build_config, read_config_file
from processes import start_command
from run_files import rows_so_far


def recipe_of(prior: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "molecules",
        "algorithm": ["reinvent", "mara"],
        "seeds": [0],
        "budget": 32,
        "hit_threshold": 0.05,
        "prior": str(prior),
        "batch_size": 16,
        "learning_rate": 1e-2,
        "checkpoint_every": 1,
        **changes,
    }


def small(prior: Path, *tasks: str, name: runs.Name = "pmo", **changes: Any) -> Benchmark:
    return make_benchmark(name, tasks or ("median1",), recipe_of(prior, **changes), source="test")


def ledger(rewards: dict[str, float | None]) -> list[LedgerRow]:
    """A ledger of SMILES with their scores, None for a failure, in the order of the calls."""
    return [
        LedgerRow(
            call=call,
            step=1,
            evaluation=Evaluation(smiles=smiles, raw={}, shaped={}, reward=reward, failure=None),
            penalised_reward=None,
        )
        for call, (smiles, reward) in enumerate(rewards.items(), start=1)
    ]


def figures_of(rewards: dict[str, float | None], *, task: str = "median1", threshold: float = 0.5) -> Figures:
    return measure(
        find_task(task), ledger(rewards), seed=3, budget=1000, threshold=threshold, circle_distance=0.75
    )


def test_figures_of_a_ledger_written_by_hand() -> None:
    """Scores of alcohols that rise with the call; three rings, two with one scaffold; one failure."""
    rings = ["CC1CCCCC1", "c1ccncc1CO", "CCc1cccnc1", "CCO"]
    rewards: dict[str, float | None] = {"C" * n + "O": n / 1000 for n in range(3, 200)}
    rewards |= dict(zip(rings, (0.9, 0.8, 0.7, 0.6), strict=True)) | {"CCN": None}
    found = figures_of(rewards)
    values = [0.0 if reward is None else reward for reward in rewards.values()]
    assert (found.seed, found.calls, found.failed, found.hits) == (3, len(rewards), 1, 4)
    assert found.scaffolds == 3  # cyclohexane, pyridine, none
    assert found.circles == 3  # the two pyridines are near each other
    for k, auc, top in ((1, found.auc_top1, found.top1), (10, found.auc_top10, found.top10)):
        after = [sum(sorted(values[:n])[-k:]) / k for n in (100, 200, len(values))]
        area = 100 * after[0] / 2 + 100 * (after[0] + after[1]) / 2
        area += (len(values) - 200) * (after[1] + after[2]) / 2 + (1000 - len(values)) * after[2]
        assert auc == pytest.approx(area / 1000)
        assert top == pytest.approx(after[2])
    assert found.nearest == ()
    assert found.coverage is None


def test_diversity_is_the_mean_over_pairs_of_the_hundred_best() -> None:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    best = ["C" * n + "O" for n in range(1, 101)]
    rewards: dict[str, float | None] = dict.fromkeys(best, 0.9) | {"c1ccccc1": 0.1, "CS": None}
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in best]
    pairs = [1 - DataStructs.TanimotoSimilarity(a, b) for i, a in enumerate(prints) for b in prints[i + 1 :]]
    assert figures_of(rewards).diversity == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert figures_of({"C": 0.5}).diversity is None
    nothing = figures_of({})
    assert (nothing.auc_top10, nothing.top10, nothing.diversity, nothing.hits) == (0.0, None, None, 0)


@pytest.mark.parametrize("name", ["molexp_ap", "molexpl_ap"])
def test_coverage_is_the_product_of_the_best_similarity_to_each_target(name: str) -> None:
    """Independent of the rewards: two molecules that are near one target each, and one target itself."""
    task = find_task(name)
    molecules = ["CN1CCN(CCCN2c3ccccc3Sc3ccccc32)CC1", "O=C(CCCN1CCCCC1)c1ccc(F)cc1", "CCO"]
    single = [max(score_alone(name, target, molecules)) for target in task.targets]
    found = figures_of(dict.fromkeys(molecules, 0.5), task=name)
    assert found.nearest == pytest.approx(single)
    assert 0 < (found.coverage or 0) == pytest.approx(math.prod(single))
    assert found.found == 0
    whole = figures_of(dict.fromkeys([*molecules, task.targets[1]], 0.5), task=name)
    assert (whole.found, whole.coverage) == (1, pytest.approx(single[0]))


def score_alone(name: str, target: str, molecules: list[str]) -> list[float]:
    """The task's own component with one target alone."""
    (component,) = find_task(name).components
    oracle = replace(
        find_task(name), components=({**component, "references": [target]},), name="alone"
    ).oracle
    scorer = oracle.components[0].make_scorer()
    return [float(scorer(smiles)) for smiles in molecules]  # pyright: ignore[reportArgumentType]


def test_published_sums() -> None:
    reinvent = PUBLISHED[0]
    assert set(reinvent.tasks) == set(tasks_of("pmo"))
    assert reinvent.total == pytest.approx(11.60, abs=0.02)
    assert [one.label for one in PUBLISHED] == ["REINVENT", "Graph GA", "Mol GA", "Genetic GFN", "f-RAG"]


def test_two_tasks_with_two_methods_and_a_page(tmp_path: Path, tiny_prior: Path) -> None:
    benchmark = small(tiny_prior, "median1", "isomers_c7h8n2o2", checkpoint_every=20)
    out = tmp_path / "out"
    results = run_benchmark(benchmark, out)
    names = [f"{task}-{arm}-0" for task in ("isomers_c7h8n2o2", "median1") for arm in ("mara", "reinvent")]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == names
    for (task, method), figures in results.items():
        assert [one.seed for one in figures] == [0]
        for one in figures:
            rows = read_ledger(out / f"{task}-{method}-{one.seed}" / f"{method}-{one.seed}" / "ledger.sqlite")
            rewards = [row.evaluation.reward for row in rows]
            assert rewards == pytest.approx(score(task, [row.evaluation.smiles for row in rows]))
            assert one.calls == len(rows) == 32
            assert one.hits == sum(reward is not None and reward >= 0.05 for reward in rewards)
    page = write_benchmark(out, benchmark, results).read_text()
    for text in ("REINVENT, published", "0.356", "1.208", "Lee et al. 2024", "cannot be compared", "camphor"):
        assert text in page or text in page.replace("\n", " "), text
    saved = json.loads((out / "results.json").read_text())
    assert len(saved["results"]) == 4
    entry = saved["results"][0]
    assert (entry.pop("task"), entry.pop("method")) == ("median1", "reinvent")
    assert Figures.from_json(entry) == results["median1", "reinvent"][0]
    with (tmp_path / "terminal").open("w") as file:
        print_benchmark(benchmark, results, Console(file=file, width=200))
    printed = (tmp_path / "terminal").read_text()
    assert "AUC of the top 10, by task" in printed
    assert "REINVENT, published" in printed
    assert "1.208" in printed


def test_what_is_done_is_not_done_again_and_more_may_join(
    tmp_path: Path, tiny_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = run_benchmark(small(tiny_prior, algorithm=["reinvent"]), out)
    done: list[str] = []
    real = grid.run_job

    def spy(config: MoleculesConfig, job: Job, on_step: Any) -> None:
        done.append(job.path.name)
        real(config, job, on_step)

    monkeypatch.setattr(grid, "run_job", spy)
    both = run_benchmark(small(tiny_prior), out)
    assert both["median1", "reinvent"] == first["median1", "reinvent"]
    assert done == ["mara-0"]
    again = run_benchmark(replace(small(tiny_prior), threshold=0.01), out)
    assert again["median1", "mara"][0].hits > both["median1", "mara"][0].hits
    assert run_benchmark(small(tiny_prior), out) == both
    assert done == ["mara-0"]


def test_folders_of_something_else_are_refused_in_one_line(tmp_path: Path, tiny_prior: Path) -> None:
    out = tmp_path / "out"
    run_benchmark(small(tiny_prior, algorithm=["reinvent"]), out)
    with pytest.raises(
        RunError, match=r"out holds results of other settings: `sigma`: expected 128.0; got 5"
    ):
        run_benchmark(small(tiny_prior, sigma=500.0), out)
    with pytest.raises(RunError, match='`benchmark`: expected "pmo"; got "molexp"'):
        run_benchmark(small(tiny_prior, "molexp_ap", name="molexp"), out)
    with pytest.raises(RunError, match="already holds a run"):
        run_benchmark(small(tiny_prior), out / "median1-reinvent-0")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.html").write_text("mine")
    with pytest.raises(RunError, match="expected a folder without results of another run"):
        run_benchmark(small(tiny_prior), tmp_path / "other")
    shutil.move(out, tmp_path / "moved")
    run_benchmark(small(tiny_prior, algorithm=["reinvent"]), tmp_path / "moved")


def test_what_cannot_work_is_said_before_anything_is_written(tmp_path: Path, tiny_prior: Path) -> None:
    with pytest.raises(InputError, match="got 'medina1'; did you mean median1"):
        small(tiny_prior, "medina1")
    with pytest.raises(InputError, match="tasks: expected each once; got median1 twice"):
        small(tiny_prior, "median1", "median1")
    with pytest.raises(ConfigError, match="`stop_at_hits`: expected none"):
        small(tiny_prior, stop_at_hits=5)
    with pytest.raises(ConfigError, match=r"`algorithm.0`: expected one of"):
        small(tiny_prior, algorithm=["graph_ga"])
    with pytest.raises(ConfigError, match="`prior`"):
        run_benchmark(small(tmp_path / "missing.safetensors"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def start(out: Path, recipe: Path, log: Path) -> BaseProcess:
    flags = ("--tasks", "molexp_ap", "--recipe", recipe, "--out", out)
    return start_command("benchmark", "molexp", *flags, log=log)


def test_killed_and_called_again_equals_uninterrupted(tmp_path: Path, tiny_prior: Path) -> None:
    """By the command: progress without a terminal, the table, and the same ledgers as in one go."""
    values = recipe_of(tiny_prior, budget=96, algorithm=["mara"])
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    benchmark = small(tiny_prior, "molexp_ap", name="molexp", budget=96, algorithm=["mara"])
    whole = run_benchmark(benchmark, tmp_path / "whole")
    out = tmp_path / "killed"
    log = tmp_path / "printed.txt"
    process = start(out, tmp_path / "recipe.json", log)
    ledger_path = out / "molexp_ap-mara-0" / "mara-0" / "ledger.sqlite"
    deadline = time.monotonic() + 120
    while rows_so_far(ledger_path) < 20:  # of 96
        assert process.is_alive(), log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not (ledger_path.parent / "result.json").exists()
    again = start(out, tmp_path / "recipe.json", log)
    again.join()
    printed = log.read_text(encoding="utf-8")
    assert again.exitcode == 0, printed
    assert "MolExp score, by task" in printed
    assert "oracle calls: 96/96 (100 %)" in printed
    assert run_benchmark(benchmark, out) == whole
    name = "molexp_ap-mara-0/mara-0/ledger.sqlite"
    assert read_ledger(out / name) == read_ledger(tmp_path / "whole" / name)


def test_the_shipped_recipe_is_the_task_that_it_shows() -> None:
    path = Path(__file__).parents[3] / "recipes" / "pmo.toml"
    values = read_config_file(path)
    made = make_benchmark("pmo", (), values, source="pmo")
    assert [task.name for task in made.tasks] == list(tasks_of("pmo"))
    own = build_config(MoleculesConfig, values, source="pmo")
    assert own.oracle == find_task("celecoxib_rediscovery").oracle
    assert (made.config.sigma, made.config.learning_rate, made.config.batch_size) == (500.0, 5e-4, 64)
