"""Studies: figures from ledgers written by hand, every run once, and a kill in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import DataStructs
from rdkit.Chem import MolFromSmiles, rdFingerprintGenerator
from scipy import stats

import run_files
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design import grid
from allmodes.chem.design.design import Job, run_inputs
from allmodes.chem.design.ledger import Ledger, read_ledger
from allmodes.chem.design.results import RunResult
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.policies.policy import RecurrentPolicy, save_policy
from allmodes.chem.policies.tokenizer import SPECIAL_TOKENS, SmilesTokenizer
from allmodes.chem.surrogate import fit_surrogate
from allmodes.errors import ConfigError, RunError
from allmodes.paper import study as module
from allmodes.paper.study import Row, Study, study
from allmodes.paper.study_settings import (
    GRPO,
    IPS_ARMS,
    IPS_GRPO,
    MARA_80,
    MARA_85,
    MARA_ARMS,
    PAPER,
    QUICK,
    REINVENT,
    Arm,
    Settings,
    run_config,
    with_receptor,
)
from allmodes.runs.config import apply_scale, build_config, read_config_file
from run_files import rows_so_far

RECIPES = Path(__file__).parents[2] / "recipes"
MARA = Arm(name="MARA", algorithm="mara", settings=(("threshold", 0.4),))

ORACLE = """
import sys, time
for line in sys.stdin:
    time.sleep({pause})
    print(min(1.0, line.count("{atom}") / 4 + 0.05 * line.count("N")), flush=True)
"""


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights over atoms of which any chain is a molecule."""
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = RecurrentPolicy(7, cell="gru", hidden_size=16, num_layers=1, embedding_size=8)
    save_policy(path, policy, SmilesTokenizer((*SPECIAL_TOKENS, "C", "N", "O", "S")))
    return path


def small(folder: Path, prior: Path, *, pause: float = 0.0) -> Settings:
    """Two tasks that programs score, and two arms."""
    components = {}
    for task, atom in (("oxygen", "O"), ("sulfur", "S")):
        (folder / f"{task}.py").write_text(ORACLE.format(atom=atom, pause=pause))
        command = [sys.executable, str(folder / f"{task}.py")]
        components[task] = ({"name": "program", "kind": "process", "command": command},)
    return replace(
        QUICK,
        tasks=("oxygen", "sulfur"),
        arms=(REINVENT, MARA),
        seeds=(0, 1),
        screens=(0.25, 0.5),
        components=components,
        budget=40,
        batch_size=8,
        learning_rate=1e-2,
        filter_from=0.4,
        prior=prior,
        precision="float32",
        checkpoint_every=2,
        workers=1,
    )


def runs_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def spy_on_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the runs that are done from here on."""
    done: list[str] = []
    real = grid.run_job

    def spy(config: MoleculesConfig, job: Job, on_step: Any) -> None:
        done.append(job.path.parent.name)
        real(config, job, on_step)

    monkeypatch.setattr(grid, "run_job", spy)
    return done


Plan = Callable[[MoleculesConfig, Job], list[float | None]]


def by_hand(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    """Runs with the rewards that a plan gives, None for a failure, of chains of 1, 2, 3 ... carbons."""

    def run(config: MoleculesConfig, job: Job, on_step: Any) -> None:
        job.path.mkdir(parents=True)
        rewards = plan(config, job)
        with Ledger(job.path / "ledger.sqlite") as ledger:
            for call, reward in enumerate(rewards, start=1):
                smiles, failure = "C" * call, None if reward is not None else "program: died: exit code 1"
                ledger.begin(smiles, step=1)
                ledger.record(Evaluation(smiles=smiles, raw={}, shaped={}, reward=reward, failure=failure))
            ledger.finish()
        result = RunResult(
            algorithm=job.arm.name, seed=job.seed, stopped_by="budget", steps=7, calls=len(rewards),
            hits=0, ob100=None, intdiv1=None, circles=0, failures={}, collapsed_at_step=3,
        )  # fmt: skip
        (job.path / "result.json").write_text(json.dumps(result.as_json()))
        (job.path / "timing.jsonl").touch()
        on_step(None)

    monkeypatch.setattr(grid, "run_job", run)


def result(**values: Any) -> RunResult:
    known: dict[str, Any] = {"hits": 0, "ob100": None, "intdiv1": None, "circles": 0} | values
    return RunResult(
        algorithm="x",
        seed=0,
        stopped_by="budget",
        steps=1,
        calls=1,
        failures={},
        collapsed_at_step=None,
        **known,
    )


def row(arm: str, **values: Any) -> Row:
    """A row with a value of each seed for each metric that is named."""
    runs = [result(**dict(zip(values, seed, strict=True))) for seed in zip(*values.values(), strict=True)]
    return Row(task="SYNTH", screen=0.8, sigma=128.0, arm=arm, runs=tuple(runs))


def test_yield_and_ob100_of_ledgers_written_by_hand(
    tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every second call from the third on is a hit of the lower screen, every tenth one of the higher.
    rewards = [None if c == 1 else 0.5 if c % 10 == 0 else 0.25 if c % 2 else 0.1 for c in range(1, 241)]
    by_hand(monkeypatch, lambda config, job: rewards[: 240 - job.seed])
    steps: list[int] = []
    settings = replace(small(tmp_path, prior), arms=(REINVENT,), tasks=("oxygen",), screens=(0.25, 0.5))
    found = study(settings, tmp_path / "work", advance=steps.append)
    assert steps == [1, 1]
    low, high = found.rows
    # Odd calls from 3 to 239 are 119, tens from 10 to 240 are 24; the second run ends before call 240.
    assert low.seeds("hits") == (119 + 24, 119 + 23)
    assert high.seeds("hits") == (24, 23)
    good = [c for c in range(3, 241) if c % 10 == 0 or c % 2]
    assert low.seeds("ob100") == (good[99], good[99])
    assert good[99] == 169
    assert high.seeds("ob100") == (None, None)
    assert low.runs[0].failures == {"program: died": 1}
    assert (low.runs[0].steps, low.runs[0].collapsed_at_step, low.runs[1].seed) == (7, 3, 1)
    assert (low.summary("hits").mean, low.summary("hits").std) == (142.5, pytest.approx(0.5**0.5))  # pyright: ignore
    assert high.summary("ob100") is None


def test_diversity_is_of_the_hits_at_the_screen(
    tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand(monkeypatch, lambda config, job: [0.1, 0.3, 0.9, 0.1, 0.3, 0.6])
    found = study(
        replace(small(tmp_path, prior), arms=(REINVENT,), tasks=("oxygen",), seeds=(0,)), tmp_path / "work"
    )
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    for at, lengths in zip(found.rows, [(2, 3, 5, 6), (3, 6)], strict=True):
        prints = [generator.GetFingerprint(MolFromSmiles("C" * n)) for n in lengths]
        same = [DataStructs.TanimotoSimilarity(a, b) for a in prints for b in prints]
        assert at.runs[0].intdiv1 == pytest.approx(1 - sum(same) / len(same))
    # Best first: propane; hexane and pentane share few environments with it, and are near each other.
    assert found.rows[0].runs[0].circles == greedy([3, 6, 2, 5])
    assert found.rows[1].runs[0].circles == greedy([3, 6])


def greedy(lengths: list[int]) -> int:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    centres: list[Any] = []
    for n in lengths:
        mine = generator.GetFingerprint(MolFromSmiles("C" * n))
        if all(1 - DataStructs.TanimotoSimilarity(mine, other) > 0.75 for other in centres):
            centres.append(mine)
    return len(centres)


def test_means_deviations_and_tests_agree_with_scipy() -> None:
    ours = row("MARA", hits=[6834, 6700, 6911], ob100=[1015, 990, 1100], intdiv1=[0.76, 0.75, 0.77])
    theirs = row("REINVENT", hits=[6569, 6400, 6800], ob100=[1042, 1100, 1010], intdiv1=[0.77, 0.76, 0.79])
    for metric in ("hits", "ob100", "intdiv1"):
        mine, others = ours.defined(metric), theirs.defined(metric)
        summary = ours.summary(metric)
        assert summary is not None
        assert summary.mean == pytest.approx(np.mean(mine))
        assert summary.std == pytest.approx(np.std(mine, ddof=1))
        better = "less" if metric == "ob100" else "greater"
        expected = stats.ttest_ind(mine, others, equal_var=False, alternative=better).pvalue
        assert ours.p_better(theirs, metric) == pytest.approx(expected, abs=1e-9)
        assert theirs.p_better(ours, metric) == pytest.approx(1 - expected, abs=1e-9)


def test_a_seed_without_a_value_forbids_the_test() -> None:
    ours = row("MARA", ob100=[900, None, 1000])
    theirs = row("REINVENT", ob100=[1500, 1600, 1700])
    assert np.isnan(ours.p_better(theirs, "ob100"))
    assert np.isnan(theirs.p_better(ours, "ob100"))
    summary = ours.summary("ob100")
    assert summary is not None
    assert (summary.mean, summary.count) == (950, 2)
    assert ours.seeds("ob100") == (900, None, 1000)
    alone = row("MARA", hits=[5])
    assert np.isnan(alone.p_better(row("REINVENT", hits=[4]), "hits"))
    assert np.isnan(row("a", hits=[0, 0]).p_better(row("b", hits=[0, 0]), "hits"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prior: Path) -> tuple[Path, Settings, Study]:
    """A study with real runs."""
    folder = tmp_path_factory.mktemp("finished")
    settings = small(folder, prior)
    return folder / "work", settings, study(settings, folder / "work")


def test_every_task_arm_and_seed_is_a_run_of_its_own(finished: tuple[Path, Settings, Study]) -> None:
    folder, settings, found = finished
    names = [
        f"{task}-{arm}-sigma-128-seed-{seed}"
        for task in ("oxygen", "sulfur")
        for arm in ("mara", "reinvent")
        for seed in (0, 1)
    ]
    assert runs_of(folder) == names
    assert [(r.task, r.screen, r.arm) for r in found.rows] == [
        (task, screen, arm)
        for screen in (0.25, 0.5)
        for task in ("oxygen", "sulfur")
        for arm in ("REINVENT", "MARA")
    ]
    ledgers = {}
    for name in names:
        (path,) = (folder / name).glob("*/ledger.sqlite")
        ledgers[name] = [entry.evaluation.smiles for entry in read_ledger(path)]
        assert len(ledgers[name]) == settings.budget
        saved = json.loads((folder / name / "config.json").read_text())
        assert saved["methods"]["mara"]["threshold"] == (0.4 if "mara" in name else 0.8)
        assert saved["oracle"]["store"] == str(folder / "evaluations.sqlite")
        assert not list((folder / name).rglob("checkpoint*"))
    # Seeds differ, and so do algorithms once they have learnt from the first batch.
    assert len({tuple(lines) for lines in ledgers.values()}) == len(names)
    first = found.row("sulfur", screen=0.5, sigma=128.0, arm=MARA)
    assert found.reference(first) is found.row("sulfur", screen=0.5, sigma=128.0, arm=REINVENT)
    assert first.runs[1].seed == 1
    assert found.surrogate is None


def test_every_screen_reads_the_same_ledger(finished: tuple[Path, Settings, Study]) -> None:
    folder, _, found = finished
    for at in found.rows:
        for run in at.runs:
            name = f"{at.task}-{run.algorithm}-sigma-128-seed-{run.seed}"
            ledger = read_ledger(folder / name / f"{run.algorithm}-{run.seed}" / "ledger.sqlite")
            rewards = [entry.evaluation.reward for entry in ledger]
            assert run.hits == sum(reward is not None and reward >= at.screen for reward in rewards)
            assert run.algorithm == ("reinvent" if at.arm == "REINVENT" else "mara")
    assert any(run.hits for at in found.rows for run in at.runs)


def test_what_is_done_is_not_done_again(
    finished: tuple[Path, Settings, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings, found = finished
    done = spy_on_runs(monkeypatch)
    monkeypatch.setattr(module, "check_design", lambda config: pytest.fail("nothing was to be run"))
    assert study(settings, folder) == found
    part = study(replace(settings, tasks=("sulfur",), seeds=(1,)), folder)
    assert [at.runs for at in part.rows] == [(at.runs[1],) for at in found.rows if at.task == "sulfur"]
    assert done == []


def test_runs_that_two_studies_share_are_done_once(
    tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = spy_on_runs(monkeypatch)
    settings = replace(small(tmp_path, prior), tasks=("oxygen",), seeds=(0,), budget=16)
    mara = study(settings, tmp_path / "work")
    assert done == ["oxygen-reinvent-sigma-128-seed-0", "oxygen-mara-sigma-128-seed-0"]
    done.clear()
    ips = study(replace(settings, arms=IPS_ARMS), tmp_path / "work")
    assert done == ["oxygen-grpo-sigma-128-seed-0", "oxygen-ips-grpo-sigma-128-seed-0"]
    assert [at.runs for at in ips.rows if at.arm == "REINVENT"] == [
        at.runs for at in mara.rows if at.arm == "REINVENT"
    ]


def test_a_new_screen_needs_no_new_run(tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(monkeypatch, lambda config, job: [0.3, 0.6, 0.7, None])
    settings = replace(small(tmp_path, prior), arms=(REINVENT,), tasks=("oxygen",), seeds=(0,))
    study(settings, tmp_path / "work")
    monkeypatch.setattr(grid, "run_job", lambda *_: pytest.fail("it has been run"))
    found = study(replace(settings, screens=(0.25, 0.65)), tmp_path / "work")
    assert [at.runs[0].hits for at in found.rows] == [3, 1]


def test_sigmas_are_run_at_by_the_arms_that_want_them(
    tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand(monkeypatch, lambda config, job: [0.3 if config.sigma == 256 else 0.1])
    once = replace(MARA, name="MARA (τ = 0.4)", sigmas=(128.0,))
    settings = replace(
        small(tmp_path, prior), arms=(REINVENT, once), sigmas=(128.0, 256.0), tasks=("oxygen",)
    )
    found = study(replace(settings, seeds=(3,)), tmp_path / "work")
    assert runs_of(tmp_path / "work") == [
        "oxygen-mara-tau-0.4-sigma-128-seed-3",
        "oxygen-reinvent-sigma-128-seed-3",
        "oxygen-reinvent-sigma-256-seed-3",
    ]
    hits = {(at.sigma, at.arm): at.runs[0].hits for at in found.rows if at.screen == 0.25}
    assert hits == {(128.0, "REINVENT"): 0, (128.0, "MARA (τ = 0.4)"): 0, (256.0, "REINVENT"): 1}


def test_a_folder_of_other_settings_is_refused(
    tmp_path: Path, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand(monkeypatch, lambda config, job: [0.5])
    own = tmp_path / "own.safetensors"
    shutil.copy(prior, own)
    settings = replace(small(tmp_path, own), tasks=("oxygen",), seeds=(0,), arms=(REINVENT,))
    study(settings, tmp_path / "work")
    with pytest.raises(
        RunError, match=r"seed-0 holds results of other settings: `budget`: expected 40; got 41;"
    ):
        study(replace(settings, budget=41), tmp_path / "work")
    entry = {**settings.components["oxygen"][0], "time_limit": 3.0}
    with pytest.raises(RunError, match=r"`oracle.components.0.time_limit`: expected 30.0; got 3.0"):
        study(replace(settings, components={"oxygen": (entry,)}), tmp_path / "work")
    shutil.move(tmp_path / "work", tmp_path / "moved")
    study(settings, tmp_path / "moved")
    save_policy(own, RecurrentPolicy(5, cell="gru", hidden_size=4, num_layers=1, embedding_size=4),
                SmilesTokenizer((*SPECIAL_TOKENS, "C", "N")))  # fmt: skip
    with pytest.raises(RunError, match=r"`prior`: .*own\.safetensors has changed since the run began"):
        study(settings, tmp_path / "moved")


def test_what_cannot_work_is_said_before_anything_is_written(tmp_path: Path, prior: Path) -> None:
    settings = small(tmp_path, prior)
    with pytest.raises(ConfigError, match="`prior`: expected a policy file"):
        study(replace(settings, prior=tmp_path / "missing"), tmp_path / "work")
    broken = {**settings.components, "sulfur": ({"name": "program", "kind": "process", "command": ["gone"]},)}
    with pytest.raises(ConfigError, match="expected a program to run; got 'gone'"):
        study(replace(settings, components=broken), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_the_surrogates_card_comes_with_the_study_and_another_surrogate_is_another_study(
    tmp_path: Path, prior: Path, molecules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand(monkeypatch, lambda config, job: [0.5])
    monkeypatch.setattr(module, "check_design", lambda config: None)
    model, table = tmp_path / "s.safetensors", tmp_path / "scores.csv"
    table.write_text("smiles,score\n" + "".join(f"{line},{-len(line)}\n" for line in molecules))
    card = fit_surrogate(table, model, column="score", target="length")
    entry = {"name": "docking", "kind": "surrogate", "model": str(model)}
    settings = replace(small(tmp_path, prior), components={"oxygen": (entry,)}, tasks=("oxygen",))
    assert settings.docking == "surrogate"
    assert study(settings, tmp_path / "work").surrogate == card
    table.write_text("smiles,score\n" + "".join(f"{line},{len(line)}\n" for line in molecules))
    fit_surrogate(table, model, column="score", target="length")
    with pytest.raises(RunError, match=r"`docking\.model`: .* has changed since the run began"):
        study(settings, tmp_path / "work")


def test_what_comes_with_allmodes_counts_as_an_input() -> None:
    from allmodes.chem.retrosynthesis.stock import shipped_stock
    from allmodes.chem.retrosynthesis.template_file import shipped_templates
    from allmodes.chem.surrogate import shipped_surrogate

    config = run_config(PAPER, task="SYNTH", arm=REINVENT, sigma=128.0, seed=0, store=None)
    inputs = run_inputs(config)
    assert inputs.pop("prior").name == "zinc250k-lstm.safetensors"
    assert inputs == {
        "docking.model": shipped_surrogate(),
        "synthesis.stock": shipped_stock(),
        "synthesis.templates": shipped_templates(),
    }
    assert all(path.is_file() for path in inputs.values())


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = {tests!r}
from test_study import small, study
if __name__ == "__main__":
    folder = Path({folder!r})
    settings = small(folder, Path({prior!r}), pause=0.01)
    settings = replace(settings, tasks=("oxygen",), seeds=(0,), workers={workers})
    study(settings, folder / "work")
"""


def start(folder: Path, prior: Path, *, workers: int) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    tests = [str(Path(__file__).parent), str(Path(run_files.__file__).parent)]
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=tests, folder=str(folder), prior=str(prior), workers=workers))
    return subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)


def test_killed_and_run_again_equals_uninterrupted(tmp_path: Path, prior: Path) -> None:
    study(replace(small(tmp_path, prior), tasks=("oxygen",), seeds=(0,)), tmp_path / "whole")
    process = start(tmp_path / "killed", prior, workers=1)
    work = tmp_path / "killed" / "work"
    second = work / "oxygen-mara-sigma-128-seed-0" / "mara-0" / "ledger.sqlite"
    deadline = time.monotonic() + 120
    while rows_so_far(second) < 27:  # of 40: after its first checkpoint, in a batch
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (second.parent / "result.json").exists()
    assert runs_of(work) == ["oxygen-mara-sigma-128-seed-0", "oxygen-reinvent-sigma-128-seed-0"]
    kept = (work / "oxygen-reinvent-sigma-128-seed-0" / "screens.json").stat().st_mtime_ns
    time.sleep(0.5)  # the program notices that its parent is gone

    again = start(tmp_path / "killed", prior, workers=2)
    assert again.wait() == 0, again.communicate()
    again.communicate()
    assert (work / "oxygen-reinvent-sigma-128-seed-0" / "screens.json").stat().st_mtime_ns == kept
    assert runs_of(work) == runs_of(tmp_path / "whole")
    for name in runs_of(work):
        ledgers = [next((place / name).glob("*/ledger.sqlite")) for place in (work, tmp_path / "whole")]
        assert read_ledger(ledgers[0]) == read_ledger(ledgers[1])
        assert (
            len({(place / name / "screens.json").read_bytes() for place in (work, tmp_path / "whole")}) == 1
        )


def test_every_shipped_setting_is_a_valid_configuration() -> None:
    for settings in (PAPER, QUICK, replace(PAPER, arms=IPS_ARMS), replace(QUICK, arms=IPS_ARMS)):
        for task in settings.tasks:
            for arm in settings.arms:
                for sigma in settings.sigmas:
                    config = run_config(settings, task=task, arm=arm, sigma=sigma, seed=4, store="/x.sqlite")
                    assert (config.algorithm, config.seeds) == ((arm.algorithm,), (4,))
                    assert (config.sigma, config.hit_threshold, config.threads) == (sigma, 0.8, 1)
                    assert config.methods.mara.threshold == dict(arm.settings).get("threshold", 0.8)
                    assert config.oracle.store == "/x.sqlite"
    assert (PAPER.budget, PAPER.seeds, PAPER.batch_size, PAPER.learning_rate) == (
        10_000,
        (0, 1, 2, 3, 4),
        64,
        1e-4,
    )
    assert (PAPER.sigmas, PAPER.screens) == ((128.0, 256.0, 512.0), (0.8, 0.85))
    assert MARA_ARMS == (REINVENT, MARA_80, MARA_85)
    assert IPS_ARMS == (REINVENT, GRPO, IPS_GRPO)
    assert (
        *(dict(arm.settings)["threshold"] for arm in (MARA_80, MARA_85)),
        MARA_80.sigmas,
        MARA_85.sigmas,
    ) == (
        0.8,
        0.85,
        None,
        (128.0,),
    )
    assert [arm.algorithm for arm in (REINVENT, MARA_80, GRPO, IPS_GRPO)] == [
        "reinvent",
        "mara",
        "grpo",
        "ips-grpo",
    ]


@pytest.mark.parametrize(("task", "recipe"), [("SYNTH", "synth"), ("ALL-AMIDE", "all-amide")])
def test_the_tasks_are_those_of_the_recipes_but_for_docking(task: str, recipe: str) -> None:
    values = apply_scale(read_config_file(RECIPES / f"{recipe}.toml"), "paper")
    expected = build_config(MoleculesConfig, values, source=recipe)
    found = run_config(PAPER, task=task, arm=MARA_80, sigma=128.0, seed=0, store=None)
    docking, *rest = expected.oracle.components
    assert found.oracle.components[1:] == tuple(rest)
    assert found.oracle.components[0].kind == "surrogate"
    assert found.oracle.components[0].shaping == docking.shaping
    same = (
        "budget", "hit_threshold", "batch_size", "max_tokens", "sigma", "learning_rate", "methods", "replay",
        "scaffold_filter", "lookahead", "precision", "collapse", "stop_at_hits",
    )  # fmt: skip
    assert {key: getattr(found, key) for key in same} == {key: getattr(expected, key) for key in same}
    assert (found.oracle.aggregation, found.oracle.failed) == (
        expected.oracle.aggregation,
        expected.oracle.failed,
    )
    assert expected.seeds == PAPER.seeds


def test_a_receptor_puts_vina_in_the_place_of_the_surrogate(tmp_path: Path) -> None:
    (tmp_path / "receptor.pdbqt").write_text("")
    with pytest.raises(ConfigError, match=r"receptor: expected a folder .* without reference_ligand\.pdb"):
        with_receptor(PAPER, tmp_path)
    (tmp_path / "reference_ligand.pdb").write_text("")
    settings = with_receptor(PAPER, tmp_path)
    assert (PAPER.docking, settings.docking) == ("surrogate", "docking")
    for task in settings.tasks:
        docked, plain = (
            run_config(s, task=task, arm=REINVENT, sigma=128.0, seed=0, store=None).oracle.components
            for s in (settings, PAPER)
        )
        assert docked[1:] == plain[1:]
        vina = docked[0].model_dump()
        assert (vina["kind"], vina["name"], vina["exhaustiveness"]) == ("docking", "docking", 1)
        assert vina["receptor"] == tmp_path / "receptor.pdbqt"
        assert vina["box"]["reference_ligand"] == tmp_path / "reference_ligand.pdb"
        assert vina["box"]["size"] == 20.0
        assert docked[0].shaping == plain[0].shaping
