"""An experiment from recipe to report: files, resuming, processes, untrusted text."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("matplotlib")

from rich.console import Console

from allmodes.errors import AllmodesWarning, ConfigError, RunError
from allmodes.methods import IPS, MARA, METHODS, AlphaDPG
from allmodes.metrics import count_entropy
from allmodes.runs.config import apply_flags, build_config, read_config_file
from allmodes.text.config import TextConfig
from allmodes.text.experiment import check_training_files, new_training, resume_training
from allmodes.text.models import load_model
from allmodes.text.reporting import report
from allmodes.text.reporting.results import Arm, TextResult, load_result
from allmodes.text.reporting.summary import print_training
from method_cases import build
from pages import without_origin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Make = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmodes.reports.progress.console", Console(quiet=True))


def contents(folder: Path) -> dict[str, bytes | str]:
    """What must be the same in two runs of the same configuration."""
    files = (
        "metrics.jsonl", "samples.jsonl", "audit.json", "generations.jsonl", "result.json", "report.html",
    )  # fmt: skip
    return {
        str(path.relative_to(folder)): (
            without_origin(path.read_text("utf-8")) if path.name == "report.html" else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.name in files
    }


def test_one_two_from_recipe_to_report(
    one_two_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped recipe with its stand-in, which here is a copy of one made before."""
    made = []

    def copy(out: Path) -> dict[str, float]:
        made.append(out)
        subprocess.run(["cp", "-r", str(one_two_model), str(out)], check=True)
        return {}

    monkeypatch.setattr("allmodes.text.experiment.make_stand_in", copy)
    recipe = ROOT / "recipes" / "one-two.toml"
    flags = ["--steps", "2", "--group_size", "8", "--samples", "30", "--workers", "1"]
    config = build_config(TextConfig, apply_flags(read_config_file(recipe), flags), source="recipe")
    page = new_training(config, tmp_path / "run").read_text(encoding="utf-8")
    assert made == [tmp_path / "run" / "base"]
    runs = {path.parent.name for path in (tmp_path / "run").glob("*/result.json")}
    assert runs == {"base"} | {
        f"{where}-{method}-0.01-{seed}"
        for where in ("rloo-reverse", "grpo-reverse", "grpo-token-forward")
        for method in ("vanilla", "mara")
        for seed in (0, 1)
    }
    for run in runs:
        lines = (tmp_path / "run" / run / "generations.jsonl").read_text(encoding="utf-8").splitlines()
        result = load_result(tmp_path / "run" / run / "result.json")
        assert len(lines) == result.samples == 30
        assert sum(result.answers.values()) == sum(json.loads(line)["correct"] for line in lines)
        assert not (tmp_path / "run" / run / "trainer").exists()
    for name in ("training", "answers"):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "run" / f"{name}.svg").read_bytes().startswith(b"<?xml")
    assert page.count("<svg") == 2
    assert "stand-in" in page
    assert len(re.findall(r"MARA against vanilla", page)) == 3
    # What the command prints at the end.
    printed = io.StringIO()
    print_training(tmp_path / "run", Console(file=printed, width=80))
    table, _, sentences = printed.getvalue().partition("\n\n")
    rows = table.splitlines()[2:]
    assert len(rows) == 6
    assert all(re.search(r"\d\.\d{3} ± \d\.\d{3}", row) for row in rows)  # reward, over both seeds
    assert "± is the standard deviation over 2 seeds" in sentences
    assert sentences.count("MARA against vanilla") == 3
    # Nothing is fetched when the page is opened.
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", page)
    with pytest.raises(RunError, match="already holds a run"):
        new_training(config, tmp_path / "run")


def test_flowrl_from_configuration_to_report(make_text_config: Make, tmp_path: Path) -> None:
    """Beside RLOO, which has one method more; and killed after a checkpoint, with the same end."""
    config = make_text_config(
        trainer=["rloo", "flowrl"], kl=["reverse", "token-forward"], method=["vanilla", "max_rl"], steps=3,
        flowrl={"method": "vanilla", "head_learning_rate": 0.01},
    )  # fmt: skip
    page = new_training(config, tmp_path / "run").read_text(encoding="utf-8")
    names = {path.parent.name for path in (tmp_path / "run").glob("*/result.json")}
    flow = "flowrl-reverse-vanilla-0.1-0"
    assert names == {"base", "rloo-reverse-vanilla-0.1-0", "rloo-reverse-max_rl-0.1-0", flow}
    rows = (tmp_path / "run" / flow / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all("flow/log_partition" in json.loads(row) for row in rows)
    assert "FlowRL, reverse KL" in page
    assert "trajectory-balance" in page
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "run", killed)
    shutil.rmtree(killed / flow)
    resume_training(killed)
    assert contents(killed / flow) == contents(tmp_path / "run" / flow)


def test_a_killed_run_ends_as_if_nothing_had_happened(
    make_text_config: Make, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """Killed in a process of its own; this one runs it whole, and resumes."""
    config = make_text_config(method=["vanilla", "mara"], steps=12, checkpoint_every=3)
    (tmp_path / "recipe.json").write_text(config.model_dump_json())
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "allmodes.cli", "run", str(tmp_path / "recipe.json"), "--out", str(killed)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    metrics = killed / "rloo-reverse-mara-0.1-0" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 7):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "report.html").exists()
    assert command("run", tmp_path / "recipe.json", "--out", whole)[0] == 0
    code, printed, _ = command("run", "--resume", killed)
    assert code == 0
    assert printed.endswith(f"\nreport: {killed / 'report.html'}\n")  # below the main figures
    assert contents(killed) == contents(whole)
    assert len(contents(whole)) == 2 * 5 + 2 + 1


def test_results_do_not_depend_on_the_number_of_processes(make_text_config: Make, tmp_path: Path) -> None:
    method = ["vanilla", "mara"]
    new_training(make_text_config(method=method, steps=2), tmp_path / "one")
    new_training(make_text_config(method=method, steps=2, workers=2), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_base_model_is_another_run(
    make_text_config: Make, one_two_model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    subprocess.run(["cp", "-r", str(one_two_model), str(base)], check=True)
    new_training(make_text_config(model=str(base), steps=1), tmp_path / "run")
    model = load_model(str(base))
    model.model.norm.weight.data[0] += 1
    model.save_pretrained(base)
    with pytest.raises(RunError, match=r"`model/model.safetensors`: .* has changed since the run began"):
        resume_training(tmp_path / "run")


def test_the_creative_recipe_runs_with_local_models(
    one_two_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped recipe with other names, sizes and precision; its judges have random weights."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    reward_model = AutoModelForSequenceClassification.from_pretrained(one_two_model, num_labels=1)
    reward_model.save_pretrained(tmp_path / "reward")
    judge = AutoModelForSequenceClassification.from_pretrained(one_two_model, num_labels=2)
    judge.save_pretrained(tmp_path / "judge")
    for name in ("reward", "judge"):
        AutoTokenizer.from_pretrained(one_two_model).save_pretrained(tmp_path / name)
    prompts = (ROOT / "tests" / "data" / "creative_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    long = json.dumps({"prompt": "word " * 900})
    lines = [long, prompts[0], *prompts[:3]]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    flags = f"""--model {one_two_model} --task.reward_model {tmp_path / "reward"}
        --task.prompts prompts.jsonl --task.max_prompts 4 --task.embedder stand-in
        --task.judge {{"model"="judge","threshold"=0.5,"tokenizer"="{one_two_model}"}}
        --sample_prompts 3 --steps 2 --prompts_per_step 2 --group_size 4 --micro_batch 2
        --max_tokens 6 --samples 3
        --precision float32 --gradient_checkpointing false --save_model true --threads 1""".split()
    recipe = ROOT / "recipes" / "creative.toml"
    config = build_config(TextConfig, apply_flags(read_config_file(recipe), flags), source="recipe")
    page = new_training(config, tmp_path / "run").read_text(encoding="utf-8")
    assert "Distinct answers" in page
    assert not (tmp_path / "run" / "answers.png").exists()
    result = load_result(tmp_path / "run" / "rloo-reverse-mara-0.01-0" / "result.json")
    assert (result.samples, result.answers) == (9, {})
    assert 1 <= result.metrics["distinct_classes"] <= 3
    AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "run" / "rloo-reverse-mara-0.01-0" / "model"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "no/such-model"},
            r"`model`: expected a tokenizer by Hugging Face name, .*; got 'no/such",
        ),
        (
            {"task": {"kind": "creative", "prompts": "none.jsonl", "reward_model": "x"}},
            r"cannot read none\.jsonl: No such file",
        ),
        ({"trl": {"learning_rate": 1.0}}, r"`trl.learning_rate`: expected a setting that no other key makes"),
        (
            {"trainer": ["grpo"], "trl": {"importance_sampling_level": "sequence"}},
            r"`trl`: `importance_sampling_level` must be 'token' for MARA",
        ),
        (
            {"trl": {"reward_clip_range": [0.0, 1.0]}},
            r"`trl`: `reward_clip_range` would clip the transformed rewards of MARA",
        ),
        (
            {
                "method": ["mara+darling"],
                "task": {"kind": "creative", "prompts": "none", "reward_model": "x"},
            },
            r"cannot read none",  # DARLING sees what MARA made
        ),
        (
            {"method": ["ips"], "task": {"kind": "creative", "prompts": "p", "reward_model": "x"}},
            r"`method`: expected one that takes rewards of any sign, .*; got 'ips'",
        ),
    ],
)
def test_what_would_fail_later_is_said_first(
    changes: dict[str, Any], message: str, make_text_config: Make, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        new_training(make_text_config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", [*METHODS, "mara+entropy", "ips+max_rl"])
def test_the_shipped_recipe_takes_every_method_or_refuses_it_in_one_line(method: str) -> None:
    recipe = read_config_file(ROOT / "recipes" / "one-two.toml")

    def check(*flags: str) -> None:
        values = apply_flags(recipe, ["--method", method, *flags], TextConfig)
        check_training_files(build_config(TextConfig, values, source="recipe"))

    if build(method).contains_kl:
        with pytest.raises(ConfigError, match=rf"expected kl 'reverse' alone .* method '{method}'") as caught:
            check()
        assert "\n" not in str(caught.value)
        check("--kl", "reverse")
    else:
        check()


def test_groups_that_are_too_small_for_a_method_are_warned_of(make_text_config: Make) -> None:
    config = make_text_config(method=["ips"], group_size=2)
    with pytest.warns(
        AllmodesWarning, match=r"IPS keeps no diversity in groups of 2: .*; got group_size = 2$"
    ):
        check_training_files(config)
    check_training_files(make_text_config(method=["ips"], group_size=4))  # a warning would be an error


def result(seed: int, ones: int, twos: int, **changes: Any) -> TextResult:
    arm = Arm(**{"trainer": "rloo", "kl": "reverse", "method": "vanilla", "beta": 0.1, **changes})
    total = ones + twos
    entropy = {} if total == 0 else {"answer_entropy": count_entropy([ones, twos])}
    return TextResult(
        arm=arm, seed=seed, samples=100, unscored=0, reward=total / 100, answers={"1": ones, "2": twos},
        metrics={"valid_answers": total / 100, **entropy},
    )  # fmt: skip


@pytest.fixture
def make_report(make_text_config: Make, tmp_path: Path) -> Callable[..., str]:
    def make(results: list[TextResult], text: str = "plain", **changes: Any) -> str:
        config = make_text_config(**{"method": ["vanilla", "mara"], "seeds": [0, 1], **changes})
        rows = [{"step": 1, "reward": 0.5, "counts": {"1": 2}}, {"step": 2, "reward": None, "counts": {}}]
        for each in results:
            assert each.arm is not None
            folder = tmp_path / f"{each.arm.folder_name}-{each.seed}"
            folder.mkdir(exist_ok=True)
            line = json.dumps({"prompt": "p", "response": text})
            (folder / "generations.jsonl").write_text(line + "\n", encoding="utf-8")
        metrics = {(each.arm, each.seed): rows for each in results if each.arm is not None}
        base = result(0, 30, 6)
        path = report.write_report(
            tmp_path,
            config,
            base=base,
            base_model=None,
            results=results,
            metrics=metrics,
            prompts={"used": 1, "too_long": 3, "duplicates": 2},
        )
        return path.read_text(encoding="utf-8")

    return make


def cells(page: str, heading: str) -> list[list[str]]:
    table = page[page.index(heading) :]
    rows = re.findall(r"<tr>(.*?)</tr>", table[table.index("<tbody>") : table.index("</tbody>")], re.DOTALL)
    return [
        [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", row)] for row in rows
    ]


def test_a_trainer_with_one_of_the_methods_has_nothing_to_compare(make_report: Callable[..., str]) -> None:
    page = make_report(
        [
            result(seed, 90 + 3 * seed, 5, trainer=trainer, method=method)
            for trainer, method in (("rloo", "vanilla"), ("rloo", "mara"), ("flowrl", "vanilla"))
            for seed in (0, 1)
        ],
        trainer=["rloo", "flowrl"],
        flowrl={"method": "vanilla"},
    )
    assert "FlowRL, reverse KL, β\xa0=\xa00.1: vanilla is the only arm: there is nothing" in page
    assert "RLOO, reverse KL, β\xa0=\xa00.1: MARA against vanilla" in page


def test_the_report_says_what_the_numbers_say(make_report: Callable[..., str]) -> None:
    """Vanilla: 96 and 98 ones of 100; MARA: 50 and 52. Means, deviations and the Welch test by hand."""
    page = make_report(
        [
            result(0, 96, 4),
            result(1, 98, 2),
            result(0, 50, 50, method="mara"),
            result(1, 52, 48, method="mara"),
        ]
    )
    vanilla, mara = cells(page, "<h3>RLOO, reverse KL</h3>")
    assert vanilla == ["vanilla", "0.1", "1.000 ± 0.000", "0.133 ± 0.049", "0.96, 0.98", "2 of 2", "", ""]
    assert mara[:6] == ["MARA", "0.1", "1.000 ± 0.000", "0.693 ± 0.001", "0.50, 0.52", "0 of 2"]
    assert mara[6] == "–"  # both rewards are constant: nothing to test
    assert float(mara[7]) == pytest.approx(0.020, abs=0.001)
    assert "higher entropy of valid answers, 0.69 and 0.13 (p = 0.020)" in page.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    seeds = cells(page, "<h2>Every seed</h2>")
    assert seeds[0][:1] + seeds[0][4:] == ["base model", "0.360", "0.360", "0.451", "30", "6", "0 of 100"]
    assert [row[7:9] for row in seeds[1:]] == [["96", "4"], ["98", "2"], ["50", "50"], ["52", "48"]]


def test_each_strength_of_the_kl_is_compared_by_itself(make_report: Callable[..., str]) -> None:
    """Vanilla's share of ones is 0.9 at β = 0.05 and 0.6 at 0.2; MARA's 0.5 at both."""
    ones = {("vanilla", 0.05): 90, ("vanilla", 0.2): 60, ("mara", 0.05): 50, ("mara", 0.2): 50}
    page = make_report(
        [
            result(seed, count + seed, 100 - count - seed, method=method, beta=beta)
            for (method, beta), count in ones.items()
            for seed in (0, 1)
        ],
        beta=[0.05, 0.2],
    )
    rows = cells(page, "<h3>RLOO, reverse KL</h3>")
    assert [row[:2] + row[4:5] for row in rows] == [
        ["vanilla", "0.05", "0.90, 0.91"], ["MARA", "0.05", "0.50, 0.51"],
        ["vanilla", "0.2", "0.60, 0.61"], ["MARA", "0.2", "0.50, 0.51"],
    ]  # fmt: skip
    tests = [float(row[7]) for row in rows if row[0] == "MARA"]  # Welch's, of the seeds' entropies
    assert tests == pytest.approx([0.0095, 0.0303], abs=0.0006)
    text = page.replace("\N{NO-BREAK SPACE}", " ")
    for beta, means in (("0.05", "0.69 and 0.31"), ("0.2", "0.69 and 0.67")):
        assert re.search(
            rf"β = {beta}: MARA against vanilla: .*higher entropy of valid answers, {means}", text
        )


def test_a_run_without_valid_answers_counts_as_collapsed(make_report: Callable[..., str]) -> None:
    page = make_report(
        [
            result(0, 60, 30),
            result(1, 0, 0),
            result(0, 40, 40, method="mara"),
            result(1, 40, 40, method="mara"),
        ]
    )
    vanilla, mara = cells(page, "<h3>RLOO, reverse KL</h3>")
    assert vanilla[3:6] == ["0.637 (1 without)", "0.67, –", "1 of 2"]
    assert mara[7] == "–"


def test_what_a_model_wrote_is_text_and_nothing_else(make_report: Callable[..., str]) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\n{{ 7 * 7 }}" + "x" * 500
    page = make_report(
        [result(seed, 50, 50, method=m) for m in ("vanilla", "mara") for seed in (0, 1)], hostile
    )
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;�[31m↵{{ 7 * 7 }}xxx" in page
    assert "x" * 201 not in page
    assert "\x1b" not in page


def test_a_report_asks_the_methods_for_their_names_colours_and_settings(
    make_report: Callable[..., str],
) -> None:
    names = ["mara", "mara+entropy", "alpha_dpg", "ips"]
    trained = [result(seed, 50, 50, trainer="grpo", method=name) for name in names for seed in (0, 1)]
    page = make_report(trained, method=names, trainer=["grpo"], group_size=2)
    labels = {"MARA": MARA.color, "α-DPG": AlphaDPG.color, "IPS": IPS.color}
    for label, colour in labels.items():
        assert f'<span class="dot" style="background: {colour}"></span>{label}</td>' in page
    [mixed] = set(re.findall(r'background: (#\w{6})"></span>MARA \+ entropy bonus</td>', page))
    assert mixed not in labels.values()  # a shade of MARA's: both are in one figure
    text = re.sub(r"\s+", " ", re.sub(r"<.*?>", "", page))
    assert "The outcomes of MARA, MARA + entropy bonus and IPS are answers, not strings" in text
    assert "For MARA and MARA + entropy bonus the log-probability of an answer" in text
    assert "With IPS GRPO has TRL's own KL" in text.replace(
        "&#39;", "'"
    )  # MARA's and α-DPG's are in the reward
    assert "IPS keeps no diversity in groups of 2" in text
    assert "GRPO's KL per token treats" not in text.replace("&#39;", "'")
    assert "threshold τ = 0.5; anchor: group; uniform over outcomes" in text
