"""`allmodes run --dry-run --no-execute` checks a recipe and runs nothing that it names."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
HEAD = 'kind = "molecules"\nalgorithm = "mara"\nbudget = 20\nscreen = 0.5\n'


def recipe(tmp_path: Path, component: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(f"{HEAD}[[oracle.components]]\n{component}\n")
    return path


@pytest.mark.parametrize("component", ['kind = "function"\nfunction = "opened:score"',
                                       'kind = "process"\ncommand = ["./program"]'])  # fmt: skip
def test_nothing_is_run(component: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "opened.py").write_text("open('ran', 'w').close()\ndef score(smiles):\n    return 0.5\n")
    (tmp_path / "program").write_text("#!/bin/sh\ntouch ran\nread line\necho 0.5\n")
    (tmp_path / "program").chmod(0o755)
    path = recipe(tmp_path, component)
    before = sorted(tmp_path.iterdir())
    code, out, err = command("run", path, "--dry-run", "--no-execute")
    assert (code, err) == (0, "")
    assert json.loads(out)["budget"] == 20
    assert sorted(tmp_path.iterdir()) == before
    assert command("run", path, "--dry-run")[0] == 0  # which runs it
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("component", "words"),
    [
        ('kind = "process"\ncommand = ["./missing"]', "component 'process': `command`: expected a program"),
        ('kind = "smarts"\npatterns = ["(("]', "component 'smarts': `patterns`: expected SMARTS"),
        ('kind = "similarity"\nreferences = ["(("]', "component 'similarity': `references`: expected SMILES"),
        ('kind = "docking"\nreceptor = "missing.pdbqt"\nbox = { center = [0, 0, 0] }',
         "component 'docking': `receptor`: expected a file; got"),
        ('kind = "retrosynthesis"\nstock = "missing.smi"', "'retrosynthesis': `stock`: expected a file"),
        ('kind = "qed"\nwrong = 1', "`oracle.components.0.wrong`: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_without_running_anything(
    component: str, words: str, tmp_path: Path, command: Command
) -> None:
    code, out, err = command("run", recipe(tmp_path, component), "--dry-run", "--no-execute")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.filterwarnings("always::allmodes.errors.AllmodesWarning")
@pytest.mark.parametrize("kind", ["docking", "external_docking"])
def test_a_box_that_cannot_hold_its_own_ligand_is_warned_of(
    kind: str, tmp_path: Path, command: Command
) -> None:
    atom = "HETATM    1  C   LIG A   1       0.000   0.000{z:8.3f}  1.00  0.00           C\n"
    (tmp_path / "rod.pdb").write_text(atom.format(z=-15.0) + atom.format(z=15.0))
    (tmp_path / "receptor.pdbqt").write_text("")
    component = f'kind = "{kind}"\nreceptor = "receptor.pdbqt"\nbox.reference_ligand = "rod.pdb"\n'
    component += 'command = ["echo", "{receptor}", "{ligand}", "{out}"]' if kind == "external_docking" else ""
    path = recipe(tmp_path, component)
    code, out, err = command("run", path, "--dry-run", "--no-execute")
    assert code == 0
    assert json.loads(out)["budget"] == 20
    assert err.startswith(f"allmodes: warning: component '{kind}': `box.size`: the reference ligand ")
    assert err.endswith("rod.pdb extends beyond its box by 5.0 Å; [20, 20, 38] holds it\n")
    assert err.count("\n") == 1
    path.write_text(path.read_text().replace(component, component + "\nbox.size = [20, 20, 38]"))
    code, _, err = command("run", path, "--dry-run", "--no-execute")
    assert (code, err) == (0, "")


def test_a_language_models_recipe_is_checked_without_its_models(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("trl")
    path = tmp_path / "recipe.toml"
    path.write_text(
        'kind = "text"\nmodel = "nobody/nothing"\ntrainer = "rloo"\nkl = "reverse"\nmethod = "mara"\n'
        "beta = 0.1\nsteps = 1\ngroup_size = 4\nlearning_rate = 1e-3\nmax_tokens = 8\n"
        '[task]\nkind = "creative"\nprompts = "prompts.jsonl"\nreward_model = "nobody/nothing"\n'
    )
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Name a fruit."}\n')
    code, out, _ = command("run", path, "--dry-run", "--no-execute")
    assert code == 0
    assert json.loads(out)["task"]["reward_model"] == "nobody/nothing"
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    code, _, err = command("run", path, "--dry-run", "--no-execute")
    assert code == 2
    assert "line 1: expected the key `prompt`" in err


@pytest.mark.parametrize(
    "task",
    [
        'kind = "python"\nmodule = "opened:Task"',
        'kind = "reward"\nprompts = "prompts.jsonl"\nfunction = "opened:reward"',
    ],
)
def test_a_users_own_task_is_not_imported(task: str, tmp_path: Path, command: Command) -> None:
    pytest.importorskip("trl")
    path = tmp_path / "recipe.toml"
    path.write_text(
        'kind = "text"\nmodel = "nobody/nothing"\ntrainer = "rloo"\nkl = "reverse"\nmethod = "mara"\n'
        "beta = 0.1\nsteps = 1\ngroup_size = 4\nlearning_rate = 1e-3\nmax_tokens = 8\n"
        f"[task]\n{task}\n"
    )
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Name a fruit."}\n')
    (tmp_path / "opened.py").write_text("open('ran', 'w').close()\n")
    assert command("run", path, "--dry-run", "--no-execute")[0] == 0
    assert not (tmp_path / "ran").exists()
    code, _, err = command("run", path, "--dry-run")  # which imports it
    assert code == 2
    assert "`: expected 'Task' in 'opened'" in err or "`: expected 'reward' in 'opened'" in err
    sys.modules.pop("opened")


def test_it_takes_both_flags(tmp_path: Path, command: Command) -> None:
    code, _, err = command("run", recipe(tmp_path, 'kind = "qed"'), "--no-execute")
    assert code == 2
    assert "--no-execute: expected only with --dry-run" in err


@pytest.mark.parametrize("name", ["x" * 300 + ".toml", "x" * 300 + "/y.toml", "\udcff" * 300 + ".toml"])
def test_a_path_that_no_file_system_takes_is_one_line(name: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "data.csv").write_text("reward,probability\n1,1\n")
    (tmp_path / "data.smi").write_text("CCO\nCCC\n")
    path = recipe(tmp_path, 'kind = "qed"')
    for arguments in (
        ["run", name],
        ["run", path, "--out", name],
        ["run", path, "--prior", name, "--dry-run"],
        ["run", "--resume", name],
        ["target", name],
        ["target", "data.csv", "--out", name],
        ["evaluate", name],
        ["audit", name],
        ["audit", "--compare", name, name],
        ["chem", "pretrain", name, "--out", "out"],
        ["chem", "pretrain", "data.smi", "--out", name],
        ["chem", "score", name, "--oracle", path, "--out", "out"],
        ["chem", "score", "data.smi", "--oracle", name, "--out", "out"],
        ["chem", "receptor", name, "--out", "out"],
        ["chem", "surrogate", name, "--out", "out"],
    ):
        code, _, err = command(*arguments)
        assert code in (1, 2), arguments
        assert err.count("allmodes: ") == 1, (arguments, err)
        assert len(err.splitlines()[-1]) < 1200, arguments
