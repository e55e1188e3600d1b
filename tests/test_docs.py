"""The code in the documentation runs and does what is said beside it."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    ("guide", "place", "count"),
    [
        ("choosing-an-objective", 0, 5),
        ("choosing-an-objective", 1, 3),
        ("outcome-matching", 0, 1),
        ("hypospace", 0, 3),
    ],
)
def test_the_guide_prints_what_it_says(
    guide: str, place: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    example = blocks(f"docs/guide/{guide}.md", "python")[place]
    exec(example, {})
    said = re.findall(r"print\(.*\)  # (.*)", example)
    assert len(said) == count
    assert capsys.readouterr().out.splitlines() == said


def test_the_guide_to_own_tasks_shows_the_examples() -> None:
    for language, suffix in (("python", ".py"), ("toml", ".toml")):
        for shown, name in zip(blocks("docs/guide/own-tasks.md", language), ("reward", "task"), strict=True):
            assert shown in (ROOT / "examples" / f"own_{name}{suffix}").read_text(encoding="utf-8")


def test_the_recipe_with_puzzles_is_one() -> None:
    import tomllib

    from allmodes.runs.config import build_config
    from allmodes.text.config import TextConfig

    (recipe,) = blocks("docs/guide/reasoning-gym.md", "toml")
    config = build_config(TextConfig, tomllib.loads(recipe), source="docs")
    assert config.task.kind == "reasoning_gym"


def test_both_own_oracles_score_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rdkit")
    import tomllib

    from allmodes.chem.oracles.config import OracleConfig
    from allmodes.chem.oracles.oracle import ComponentOracle
    from allmodes.runs.config import build_config

    function, program = blocks("docs/own-oracle.md", "python")
    (tmp_path / "my_oracle.py").write_text(function)
    (tmp_path / "my_program.py").write_text(program)
    components = []
    for text in blocks("docs/own-oracle.md", "toml"):
        components += tomllib.loads(text)["oracle"]["components"]
    assert [component["kind"] for component in components] == ["function", "process"]
    components[1]["command"][0] = sys.executable
    monkeypatch.chdir(tmp_path)
    config = build_config(OracleConfig, {"components": components}, source="docs")
    with ComponentOracle(config) as oracle:
        good, fragments = oracle.evaluate(["Clc1ccncc1N", "CC.CN"])
    assert good.raw == {"halogens": 1.0, "nitrogens": 2.0}
    assert good.shaped["halogens"] == 1.0
    assert 0 < good.shaped["nitrogens"] < 0.5
    assert fragments.failure == "nitrogens: raised: more than one fragment"
    assert fragments.reward is None


def test_the_shipped_recipe_parses_and_runs_a_few_steps(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    from rich.console import Console

    from allmodes.chem.config import MoleculesConfig
    from allmodes.chem.design.design import new_design
    from allmodes.chem.reporting.summary import print_design
    from allmodes.runs.config import apply_flags, build_config, read_config_file

    recipe = ROOT / "recipes" / "molecules.toml"
    values = apply_flags(read_config_file(recipe), ["--budget", "70", "--seeds", "0", "--threads", "1"])
    config = build_config(MoleculesConfig, values, source=str(recipe))
    report = new_design(config, tmp_path / "run")
    assert report.stat().st_size > 10_000
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [(row["algorithm"], row["calls"]) for row in results] == [
        ("reinvent", 70),
        ("outcome_matching-reinvent", 70),
    ]
    assert [len(row["regions"]) for row in results] == [7, 7]
    assert "<h2>Regions kept</h2>" in report.read_text(encoding="utf-8")
    # What the command prints at the end.
    printed = io.StringIO()
    print_design(tmp_path / "run", Console(file=printed, width=80))
    lines = printed.getvalue().splitlines()
    assert lines[0].split() == ["algorithm", "Regions", "Yield", "OB100", "IntDiv1", "#Circles"]
    for line, name, row in zip(lines[2:], ("REINVENT", "OMM-REINVENT"), results, strict=False):
        assert line.split()[:3] == [name, "0", str(row["hits"])]
    assert "Regions: of 7, those with at least 20 hits." in printed.getvalue()
    assert "a hit has a reward of at least 0.8." in printed.getvalue()


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(
            r"\]\((?!https?:)([^)#]+)[^)]*\)", text
        ):  # a SMARTS in a block looks like one
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_claim_that_does_not_hold_is_in_the_index() -> None:
    """Each item that has a verdict "no" or "partly" in its code's own words is named in a bold row."""
    index = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
    bold = [line for line in index.splitlines() if "**no**" in line or "**partly**" in line]
    doubtful = {
        *("fig5", "fig8", "workshop-fig4", "workshop-fig5", "workshop-fig6", "ips-fig1", "ips-table1"),
        *("mara-fig6", "mara-fig10", "ips-fig3", "ips-table4", "ips-table4-world", "ips-theorem3.1"),
        *("ips-theorem4.1", "beyond"),
    }
    for item in doubtful:
        assert any(f"`{item}`" in line for line in bold), item
    from allmodes.paper.catalogue import ITEMS

    for item in ITEMS:
        assert f"`{item.name}`" in index, item.name


def test_the_citation_is_of_this_version_and_of_the_papers_that_the_project_names() -> None:
    yaml = pytest.importorskip("yaml")
    import tomllib

    from allmodes import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])
    papers = {paper["url"] for paper in citation["references"]}
    assert papers == set(project["urls"].values())


def test_the_wishes_of_the_guide_to_molecules_score_as_said() -> None:
    pytest.importorskip("rdkit")
    import tomllib

    from allmodes.chem.oracles.config import OracleConfig
    from allmodes.chem.oracles.oracle import ComponentOracle
    from allmodes.runs.config import build_config

    celecoxib = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
    losartan = "CCCCc1nc(Cl)c(CO)n1Cc1ccc(cc1)-c1ccccc1-c1nnn[nH]1"
    nitro = "NS(=O)(=O)c1ccc(cc1)[N+](=O)[O-]"
    oracles = [text for text in blocks("docs/guide/molecules.md", "toml") if "components" in text]
    assert len(oracles) == 4
    rewards = []
    for text in oracles:
        config = build_config(OracleConfig, tomllib.loads(text)["oracle"], source="docs")
        with ComponentOracle(config) as oracle:
            rewards.append([one.reward for one in oracle.evaluate([celecoxib, losartan, nitro])])
    either, both, required, range_ = rewards
    assert either[:2] == [1.0, 1.0]
    assert either[2] is not None
    assert either[2] < 0.5
    assert both[1] == pytest.approx(both[0] ** 0.5)  # s^(1/3) and s^(2/3): losartan counts twice
    assert [bool(reward) for reward in required] == [True, False, False]
    assert [reward is not None and reward > 0.3 for reward in range_] == [True, True, False]


def test_the_guide_to_molecules_shares_a_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rdkit")
    pytest.importorskip("huggingface_hub")
    (example,) = blocks("docs/guide/molecules.md", "python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)
    model, again = names["model"], names["again"]
    assert again.sample(2, seed=1) == model.sample(2, seed=1)  # type: ignore[attr-defined]
    assert str(model.sample(2, seed=1)) in capsys.readouterr().out  # type: ignore[attr-defined]
