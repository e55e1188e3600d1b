import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import allmodes
from allmodes.cli import main
from allmodes.runs.flag_lists import FORMS

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py

RECIPE = """
kind = "molecules"
algorithm = "mara"
budget = 20
screen = 0.5

[oracle]
components = [{ kind = "qed" }]
"""

ROOT = Path(__file__).parents[1]

NUMBERS = [
    ["0", "1", "2"],
    ["0,1,2"],
    ["[0,1,2]"],
    ["[0,", "1,", "2]"],
    ["0, 1, 2"],
    ["0 1 2"],
]

SMALL = [
    "--hidden-size",
    "8",
    "--num-layers",
    "1",
    "--embedding-size",
    "4",
    "--epochs",
    "1",
    "--num-samples",
    "5",
]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten chains of carbon."""
    path = tmp_path / "data.smi"
    path.write_text("".join("C" * (count + 1) + "\n" for count in range(10)))
    return path


def assert_one_line(error: str, *words: object) -> None:
    lines = error.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("allmodes: ")
    for word in words:
        assert str(word) in lines[0]


# Help


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["run", "chem"]),
        (["-h"], ["run", "chem"]),
        (["run", "--help"], ["PATH", "--out", "--dry-run", "--resume"]),
        (["chem", "--help"], ["pretrain"]),
        (
            ["chem", "pretrain", "--help"],
            ["PATH", "--out", "--hidden-size", "--checkpoint-every", "--num-samples"],
        ),
    ],
)
def test_help(arguments: list[str], words: list[str], command: Command) -> None:
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    for word in words:
        assert word in out


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["chem"], ["chem", "pretrain"], ["chem", "pretrain", "x"]]
)
def test_unknown_or_incomplete_commands(arguments: list[str], command: Command) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert err
    assert "Traceback" not in err


# allmodes run


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--budgt", "5"], ["`budgt`", "unknown key"]),
        (["--budget", "many"], ["`budget`", "'many'"]),
        (["--budget"], ["--budget", "value"]),
        (["--methods.mara.threshold", "nan"], ["`methods.mara.threshold", "nan"]),
        (["--mara.threshold", "nan"], ["`methods.mara.threshold", "nan"]),
        (["--oracle.components", '[{kind = "magic"}]'], ["`oracle.components.0.kind`", "'magic'"]),
        (["stray"], ["'stray'"]),
        (["--budget", "5", "stray"], ["`budget`", "'stray'"]),
    ],
)
def test_a_wrong_key_is_one_line_and_exit_code_2(
    flags: list[str], words: list[str], command: Command, recipe: Path
) -> None:
    code, out, err = command("run", recipe, *flags)
    assert (code, out) == (2, "")
    assert_one_line(err, *words)
    assert [path.name for path in recipe.parent.iterdir()] == ["recipe.toml"]  # no run was started


def test_a_missing_prior(command: Command, recipe: Path) -> None:
    pytest.importorskip("rdkit")
    code, _, err = command("run", recipe, "--prior", "missing.safetensors")
    assert code == 2
    assert_one_line(err, "`prior`", "missing.safetensors")
    assert [path.name for path in recipe.parent.iterdir()] == ["recipe.toml"]


def test_a_wrong_key_in_the_file_is_named_with_the_file(command: Command, recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("screen", "scren"))
    code, _, err = command("run", recipe)
    assert code == 2
    assert_one_line(err, recipe)


@pytest.mark.parametrize("text", ["budget = = 3", "\x00"])
def test_a_broken_recipe(text: str, command: Command, recipe: Path) -> None:
    recipe.write_text(text)
    code, _, err = command("run", recipe)
    assert code == 2
    assert_one_line(err, recipe, "TOML")


def test_a_missing_recipe(command: Command) -> None:
    code, _, err = command("run", "missing.toml")
    assert code == 2
    assert_one_line(err, "missing.toml")


def test_run_needs_a_recipe(command: Command) -> None:
    code, _, err = command("run")
    assert code == 2
    assert_one_line(err, "recipe", "--resume")


@pytest.mark.parametrize("more", [["recipe.toml"], ["--out", "x"], ["--dry-run"], ["--budget", "5"]])
def test_resume_takes_nothing_else(more: list[str], command: Command, recipe: Path) -> None:
    assert recipe.name == "recipe.toml"
    code, _, err = command("run", "--resume", "folder", *more)
    assert code == 2
    assert_one_line(err, "--resume")


def test_resume_of_what_is_no_run(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    (tmp_path / "empty").mkdir()
    for folder in ("missing", "empty"):
        code, _, err = command("run", "--resume", folder)
        assert code == 2
        assert_one_line(err, "--resume", folder)


def test_dry_run_prints_the_resolved_configuration_and_writes_nothing(
    command: Command, recipe: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rdkit")
    assert command("chem", "pretrain", data, "--out", "prior", *SMALL)[0] == 0
    before = sorted(tmp_path.iterdir())
    prior = Path("prior") / "prior.safetensors"
    for arguments in (
        [recipe, "--dry-run", "--prior", prior, "--budget", "7", "--methods.mara.threshold=0.3"],
        [recipe, "--prior", prior, "--budget", "7", "--mara.threshold=0.3", "--dry-run"],
    ):
        code, out, err = command("run", *arguments)
        assert (code, err) == (0, "")
        config = json.loads(out)
        assert (config["budget"], config["methods"]["mara"]["threshold"]) == (7, 0.3)
        assert config["hit_threshold"] == 0.5
        assert config["sigma"] == 128.0
    assert sorted(tmp_path.iterdir()) == before


def test_flags_may_stand_before_the_recipe(command: Command, recipe: Path) -> None:
    """The error is the one that the flags ask for, not one about the order."""
    code, _, err = command("run", "--budget", "many", recipe)
    assert code == 2
    assert_one_line(err, "`budget`", "'many'")


def test_a_recipe_may_stand_behind_several_values(command: Command, recipe: Path) -> None:
    code, _, err = command("run", "--seeds", "0", "x", recipe)
    assert code == 2
    assert_one_line(err, "`seeds.1`", "'x'", FORMS)


# Recipes by name


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as a wheel has it, with its recipes and without a clone around it."""
    package = tmp_path / "site-packages" / "allmodes"
    shutil.copytree(ROOT / "recipes", package / "recipes")
    monkeypatch.setattr("allmodes.cli.recipes.__file__", str(package / "cli" / "recipes.py"))
    return package


RECIPES = (
    *("all-amide", "creative", "hypospace-boolean", "hypospace-causal", "hypospace-voxels", "molecules"),
    *("molecules-mara", "one-two", "one-two-smollm2", "pmo", "synth"),
)


def test_the_wheel_brings_the_recipes() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"]["recipes"] == "allmodes/recipes"


@pytest.mark.parametrize("place", ["a clone", "a wheel"])
def test_run_alone_lists_the_recipes(place: str, command: Command, request: pytest.FixtureRequest) -> None:
    if place == "a wheel":
        request.getfixturevalue("installed")
    code, out, err = command("run")
    assert code == 2
    assert_one_line(err, "a recipe", "--resume")
    for name in RECIPES:
        assert f"  {name} " in out
    assert "Design drug-like molecules by seven reactions with plain REINVENT" in " ".join(out.split())


@pytest.mark.parametrize("name", ["molecules", "recipes/molecules.toml", "molecules.toml"])
def test_a_recipe_by_name_from_any_folder(name: str, command: Command, installed: Path) -> None:
    for arguments in ([name, "--budget", "many"], ["--seeds", "0", "1", name, "--budget", "many"]):
        code, _, err = command("run", *arguments)
        assert code == 2
        assert_one_line(err, installed / "recipes" / "molecules.toml", "`budget`", "'many'")


def test_a_file_wins_over_a_name_and_a_folder_does_not(
    command: Command, recipe: Path, tmp_path: Path, installed: Path
) -> None:
    (tmp_path / "molecules").mkdir()
    assert str(installed) in command("run", "molecules", "--budget", "many")[2]
    recipe.rename(tmp_path / "synth.toml")
    assert str(installed) not in command("run", "synth.toml", "--budget", "many")[2]


def test_an_unknown_recipe_names_those_that_there_are(command: Command) -> None:
    code, _, err = command("run", "moleculs")
    assert code == 2
    assert_one_line(err, "moleculs", ", ".join(RECIPES))


def test_help_on_a_recipe_lists_its_keys_with_its_values(command: Command, installed: Path) -> None:
    code, out, err = command("run", "molecules", "--help")
    assert (code, err) == (0, "")
    assert "--resume" in out
    for line in (
        "  --budget  whole number > 0 (must be given; here 1000)",
        "      Oracle calls of each run, counted exactly; one call is one new molecule.",
        "  --methods.mara.threshold  number from 0 to 1 or table { batch_quantile }",
        "  --oracle.workers  whole number > 0 (default 1)",
        "  --oracle.components.NAME.exhaustiveness  whole number > 0 (default 8)",
        "  --threads  whole number > 0 (default none)",
    ):
        assert line in out.splitlines(), line
    assert all(len(line) <= 80 for line in out.partition("each is also a flag:")[2].splitlines())


def test_a_missing_receptor_points_to_what_makes_one(command: Command) -> None:
    pytest.importorskip("rdkit")
    code, _, err = command("run", "synth", "--dry-run", "--no-execute")
    assert code == 2
    assert_one_line(err, "`receptor`", "receptor.pdbqt", "`allmodes chem receptor PDB_FILE --out FOLDER`")


# Lists


@pytest.mark.parametrize("tokens", NUMBERS)
def test_commands_take_all_forms_of_a_list(
    tokens: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, ...]] = []
    monkeypatch.setattr(
        "allmodes.worlds.own_outcomes.report.explain_file", lambda *_, betas, **__: seen.append(betas)
    )
    monkeypatch.setattr(
        "allmodes.text.evaluation.evaluate.evaluate_file", lambda *_, ks, **__: seen.append(ks)
    )
    for arguments in (
        ["target", "file.csv", "--beta", *tokens],
        ["target", "--beta", *tokens, "--kl", "both", "file.csv"],
        ["target", "file.csv", f"--beta={tokens[0]}", *tokens[1:]],
        ["evaluate", "file.jsonl", "--k", *tokens],
    ):
        assert command(*arguments)[0] == 0, arguments
    assert seen == [(0, 1, 2)] * 4


def test_two_logs_whatever_their_names_hold(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    seen: list[tuple[Path, Path]] = []
    monkeypatch.setattr("allmodes.audit.command.compare_paths", lambda paths, *_, **__: seen.append(paths))
    monkeypatch.setattr("allmodes.audit.command.fail_on_findings", lambda *_: None)
    (tmp_path / "a,b").touch()
    (tmp_path / "[c]").touch()
    for tokens in (["a,b", "[c]"], ['["a,b", "[c]"]'], ['["a,b",', '"[c]"]']):
        assert command("audit", "--compare", *tokens)[0] == 0, tokens
    assert seen == [(Path("a,b"), Path("[c]"))] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["target", "file.csv", "--beta", "0.1", "x"], ["--beta", "a number", "'x'", FORMS]),
        (["audit", "--compare", "one"], ["--compare", "expected 2 values", "got 1", FORMS]),
        (["audit", "--rewards", "a", "1", "b"], ["--rewards", "after each name", "'a 1 b'"]),
        (["audit", "log", "--kl", "k9"], ["--kl", "'k9'", "'k1-in-reward', 'k3-in-reward'"]),
    ],
)
def test_what_a_flag_does_not_take(arguments: list[str], words: list[str], command: Command) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    text = " ".join(err.replace("│", " ").split())
    for word in words:
        assert word in text
    for leak in ("None", "[bold]", "NoneType"):
        assert leak not in text


@pytest.mark.parametrize(
    "name", ["audit", "target", "evaluate", "paper", "run", "chem receptor", "chem score"]
)
def test_help_shows_what_to_write(name: str, command: Command) -> None:
    _, out, _ = command(*name.split(), "--help")
    assert "None" not in out


# allmodes chem pretrain


def test_pretrain_says_what_it_made(command: Command, data: Path) -> None:
    pytest.importorskip("rdkit")
    code, out, _ = command("chem", "pretrain", data, "--out", "prior", *SMALL)
    assert code == 0
    for key in (
        "validation_nll: ",
        "validity: ",
        "uniqueness: ",
        "novelty: ",
        "prior: prior/prior.safetensors",
    ):
        assert key in out
    assert Path("prior/prior.safetensors").is_file()
    assert "--hidden-size 8" in Path("prior/model_card.md").read_text()


def test_pretrain_on_a_missing_file(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    code, _, err = command("chem", "pretrain", "missing.smi", "--out", "prior")
    assert code == 2
    assert_one_line(err, "missing.smi")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"name,value\nabc,1\n", b"\x89PNG\r\n\x1a\n\x00\xff", b"", b"\n\n"])
def test_pretrain_on_a_file_without_molecules(content: bytes, command: Command, tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    (tmp_path / "bad.smi").write_bytes(content)
    code, _, err = command("chem", "pretrain", "bad.smi", "--out", "prior")
    assert code == 2
    *progress, last = err.splitlines()
    assert last.startswith("allmodes: bad.smi: expected one SMILES a line")
    assert not any(line.startswith("allmodes:") for line in progress)
    assert "Traceback" not in err
    assert not (tmp_path / "prior").exists()


def test_pretrain_into_a_folder_of_another_run(command: Command, data: Path) -> None:
    pytest.importorskip("rdkit")
    assert command("chem", "pretrain", data, "--out", "prior", *SMALL)[0] == 0
    code, _, err = command("chem", "pretrain", data, "--out", "prior", *SMALL, "--seed", "1")
    assert code == 1
    assert err.splitlines()[-1].startswith("allmodes: prior holds another run: expected seed = 1; got 0")


def test_pretrain_into_what_is_no_folder(command: Command, data: Path) -> None:
    pytest.importorskip("rdkit")
    for out in (data, data / "below"):
        code, _, err = command("chem", "pretrain", data, "--out", out, *SMALL)
        assert code == 1
        assert err.splitlines()[-1].startswith(f"allmodes: cannot write to run folder {out}")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--num-samples", "0"),
        ("--batch-size", "0"),
        ("--checkpoint-every", "0"),
        ("--hidden-size", "0"),
        ("--num-layers", "0"),
        ("--embedding-size", "-1"),
        ("--epochs", "-1"),
        ("--learning-rate", "nan"),
        ("--learning-rate", "-1"),
        ("--validation-fraction", "1.5"),
        ("--validation-fraction", "-0.5"),
    ],
)
def test_pretrain_with_a_setting_that_cannot_work(
    flag: str, value: str, command: Command, data: Path
) -> None:
    pytest.importorskip("rdkit")
    code, _, err = command("chem", "pretrain", data, "--out", "prior", *SMALL, flag, value)
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith("allmodes: ")
    assert flag[2:].replace("-", "_") in last.replace("-", "_")
    assert value in last


@pytest.mark.parametrize("called", ["on the path", "by its path", "as a module"])
def test_ctrl_c_names_the_command_that_resumes(
    called: str, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rdkit")
    folder = recipe.parent
    monkeypatch.chdir(folder)
    program = folder / "bin" / "allmodes"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent) if called == "on the path" else "")
    names = {"on the path": str(program), "by its path": "bin/allmodes", "as a module": "/cli/__main__.py"}
    shown = {"on the path": "allmodes", "by its path": "bin/allmodes",
             "as a module": f"{sys.executable} -m allmodes.cli"}  # fmt: skip

    def interrupted(config: object, out: Path) -> None:
        out.mkdir(parents=True)
        (out / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("allmodes.chem.design.design.new_design", interrupted)
    monkeypatch.setattr(sys, "argv", [names[called], "run", "recipe.toml", "--out", "my runs/1"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    expected = f"allmodes: interrupted; resume with `{shown[called]} run --resume 'my runs/1'`\n"
    assert capsys.readouterr().err == expected


def test_ctrl_c_before_a_run_has_begun(
    command: Command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rdkit")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("allmodes.chem.design.design.new_design", interrupted)
    code, _, err = command("run", recipe)
    assert code == 130
    assert_one_line(err, "interrupted; no run was started")


def test_ctrl_c_of_a_command_that_continues(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rdkit")

    def interrupted(*_: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("allmodes.chem.policies.pretrain.pretrain", interrupted)
    code, _, err = command("chem", "pretrain", data, "--out", "prior")
    assert code == 130
    assert_one_line(err, "interrupted; run the same command again to resume")


def test_version(command: Command) -> None:
    assert command("--version") == (0, f"allmodes {allmodes.__version__}\n", "")


def test_the_installed_command(tmp_path: Path) -> None:
    """The exit code and the one line, as a shell sees them."""
    call = [sys.executable, "-c", "from allmodes.cli import main; main()", "run", "missing.toml"]
    result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert_one_line(result.stderr, "missing.toml")
