"""`allmodes audit` as users call it: files, flags, exit codes, and what it says of bad input."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from allmodes.audit.choices import Format, Summary
from allmodes.audit.config import AuditConfig
from allmodes.cli.audit import audit

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py


def rows(count: int = 64) -> list[dict[str, Any]]:
    """Of two answers that are equally good one comes thrice as often, and a third is wrong; in steps of 8."""
    answers = [3 if i % 5 == 0 else 1 if i % 4 else 2 for i in range(count)]
    return [
        {
            "question": "q",
            "text": f"{i}: the answer is {answer}.",
            "points": float(answer < 3),
            "when": i // 8,
        }
        for i, answer in enumerate(answers)
    ]


NAMES = ["--columns.prompt", "question", "--columns.response", "text", "--columns.reward", "points"]
PATTERN = ["--outcome-pattern", r"answer is (\d+)"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def test_columns_by_other_names_and_outcomes_by_a_pattern(command: Command, log: Path) -> None:
    code, out, _ = command("audit", log, *NAMES, "--columns.step", "when", *PATTERN, "--beta", 0.1)
    assert code == 0
    assert "64 samples of 1 prompt in steps 0 to 7" in out.replace("\xa0", " ")
    record = json.loads(Path("runs/audit/log/report.json").read_text())
    assert Path("runs/audit/log/report.html").exists()
    assert record["log"]["columns"]["outcome"] == r"answer is (\d+) in text"
    assert record["settings"] == {"beta": 0.1}
    states = {finding["code"]: finding["state"] for finding in record["findings"]}
    assert states["AM010"] != "skipped"
    assert states["AM041"] == "skipped"


@pytest.mark.parametrize("beside", [False, True])
def test_settings_of_a_method_by_flag_and_beside_the_log(
    command: Command, log: Path, *, beside: bool
) -> None:
    method = {
        "transform": "outcome_matching",
        "settings": {"strength": 0.4, "per_outcome": 3, "target": "reward"},
    }
    flags = [
        "--transform",
        method["transform"],
        "--settings",
        "strength",
        0.4,
        "per_outcome",
        3,
        "target",
        "reward",
    ]
    if beside:
        log.with_name("audit.json").write_text(json.dumps(method))
    place = log.parent if beside else log
    call = [place, *NAMES, *PATTERN, "--beta", 0.1, "--threshold", 0.5, *([] if beside else flags)]
    code, _, err = command("audit", *call, "--out", "out")
    assert code == 0, err
    assert json.loads(Path("out/report.json").read_text())["settings"]["settings"] == method["settings"]
    assert "outcome_matching: target" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [(["strenth", 1], "strenth"), (["strength", "much"], "strength"), (["strength", -1], "-1")],
)
def test_a_wrong_setting_of_a_method_is_one_line(
    given: list[Any], said: str, command: Command, log: Path
) -> None:
    code, _, err = command("audit", log, *NAMES, "--transform", "outcome_matching", "--settings", *given)
    assert code != 0
    assert said in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_what_is_demanded_and_raised_or_not_tested_fails(command: Command, log: Path) -> None:
    call = ["audit", log, *NAMES, *PATTERN, "--beta", 0.1]
    assert command(*call, "--fail-on", "AM001", "AM002")[0] == 0
    code, _, err = command(*call, "--fail-on", "AM001", "AM050")
    assert code == 1
    assert re.search(r"^allmodes: --fail-on: AM050 \(not tested\) .* no column `step`\.$", err, re.MULTILINE)
    code, _, err = command(*call, "--beta", "0", "--fail-on", "issue")
    assert code == 1
    assert "AM010 (issue)" in err
    code, _, err = command(*call, "--fail-on", "AM1")
    assert code == 2
    assert "got 'AM1'" in err


def test_the_demo_finds_that_its_objective_collapses(command: Command) -> None:
    code, out, _ = command("audit", "--demo", "--fail-on", "AM001")
    assert code == 0
    assert out.startswith("Will this objective collapse? Yes.")
    assert "audit LOG --beta BETA" in out
    assert Path("runs/audit/demo/report.html").exists()
    settings = json.loads(Path("runs/audit/demo/report.json").read_text())["settings"]
    assert settings == {"beta": 0.05, "kl": "k1-in-reward"}


def test_a_summary_in_markdown_stands_alone_on_standard_output(command: Command, log: Path) -> None:
    code, out, err = command("audit", log, *NAMES, *PATTERN, "--beta", 0, "--summary", "markdown")
    assert code == 0
    assert out.startswith("## Will this objective collapse? Yes.\n")
    assert "report: " not in out
    assert "report: runs/audit/log/report.html" in err


def test_two_logs(command: Command, log: Path) -> None:
    code, out, _ = command("audit", "--compare", log, log, *NAMES, *PATTERN, "--beta", 0.1, "--out", "both")
    assert code == 0
    assert "Predicted:" in out
    assert Path("both/report.html").exists()


def test_logs_of_one_name_are_told_apart_by_their_folders(command: Command, log: Path) -> None:
    folders = [log.parent / name / "log" for name in ("base", "trained")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "samples.jsonl").write_text(log.read_text())
    paths = [folder / "samples.jsonl" for folder in folders]
    assert command("audit", "--compare", *paths, *NAMES, *PATTERN, "--out", "both")[0] == 0
    page, record = Path("both/report.html").read_text(), json.loads(Path("both/report.json").read_text())
    assert [one["log"]["name"] for one in record["logs"]] == [
        "base/log/samples.jsonl", "trained/log/samples.jsonl",
    ]  # fmt: skip
    assert str(log.parent) not in page  # a report is shared, and a home folder is not


def test_rewards_of_trl_with_their_weights(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "trl.jsonl"
    samples = [
        {"step": 1, "prompt": "p", "completion": str(i), "a": 1.0, "b": float(i), "advantage": 0.0}
        for i in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in samples))
    assert command("audit", path, "--rewards", "a", "1", "b", "0.5")[0] == 0
    record = json.loads(Path("runs/audit/trl/report.json").read_text())
    assert record["log"]["format"] == "trl"
    assert record["log"]["columns"]["reward"] == "a + 0.5 × b"


def test_the_flags_choices_are_those_of_the_settings() -> None:
    # Written out in the command, which imports no configuration before it runs.
    flags = {name: parameter.annotation for name, parameter in inspect.signature(audit).parameters.items()}
    for name in ("trainer", "kl", "scale_rewards", "transform"):
        assert choices(flags[name]) == choices(AuditConfig.model_fields[name].annotation), name
    assert choices(flags["format"]) == set(get_args(Format))
    assert flags["summary"] == Summary
    assert set(AuditConfig.model_fields) <= flags.keys()


def choices(annotation: Any) -> set[str]:
    return {choice for part in get_args(annotation) for choice in get_args(part)}


BAD = [
    (["missing.jsonl"], "expected a log of samples; missing.jsonl does not exist"),
    ([], "expected a log or --compare FIRST SECOND; got neither"),
    (["log.jsonl", "--compare", "log.jsonl", "log.jsonl"], "got both"),
    (["log.jsonl", "--demo"], "--demo: expected no log; got one"),
    (["--compare", "log.jsonl", "log.jsonl", "--summary", "markdown"], "expected one log; got two"),
    (["log.jsonl", "--beta", "-1"], "`beta`: expected greater than or equal to 0; got -1"),
    (["log.jsonl", "--entropy", "0.1"], "`entropy`: expected only with `transform` 'entropy'; got None"),
    (["log.jsonl", "--threshold", "1", "--threshold-quantile", "0.9"], "got both"),
    (["log.jsonl", "--columns.reward", "gone"], "`columns.reward`: expected a column of the log"),
    (["log.jsonl", "--outcome-pattern", "("], "`outcome_pattern`: expected a regular expression"),
    (["log.jsonl", "--outcome-pattern", "x"], "`outcome_pattern`: expected a log with responses"),
    (["empty.jsonl"], "expected at least one sample; got an empty log"),
    (["broken.jsonl"], "expected samples; got none that can be used: not JSON: 2, first at line 1"),
    (["log.txt"], "expected a file of one of the kinds"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, command: Command, log: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text("no\nnor this\n")
    (tmp_path / "log.txt").write_text("text")
    code, out, err = command("audit", *arguments)
    assert code == 2
    assert words in err.splitlines()[-1]
    assert "Traceback" not in out + err


def test_bad_rows_are_counted_and_named(command: Command, tmp_path: Path) -> None:
    good = [json.dumps({"response": f"r{i}", "reward": 1.0, "ref_logprob": -3.0}) for i in range(200)]
    lines = [
        *good[:100],
        '{"response": "r", "reward": NaN}',
        '{"response": "r", "reward": "much"}',
        '{"response": 5, "reward": 1.0}',
        '{"response": "r", "reward": 1.0, "ref_logprob": 0.5}',
        *good[100:],
        '{"response": "cut o',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    code, out, _ = command("audit", "log.jsonl")
    assert code == 0
    words = " ".join(out.split())
    for part in (
        "5 of 205 rows were left out",
        "`reward` is NaN or infinite: 1, first at line 101",
        "`reward` is not a number: 1, first at line 102",
        "`response` is neither a text nor a conversation: 1, first at line 103",
        "`ref_logprob` is positive: expected a log-probability: 1, first at line 104",
        "cut off at the end of the file: 1, first at line 205",
    ):
        assert part in words


WITHOUT_REPORTS = """
import sys
from importlib.abc import MetaPathFinder


class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "jinja2", "markupsafe"):
            raise ModuleNotFoundError(name)


import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: (
    None if name.partition(".")[0] in ("matplotlib", "jinja2", "markupsafe") else found(name, *more)
)
sys.meta_path.insert(0, Blocked())
from allmodes.cli import main
sys.argv = ["allmodes", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("code", "expected", "compared"), [("AM010", 1, False), ("AM001", 0, True)])
def test_without_the_report_extra_the_screen_and_the_exit_code_are_the_same(
    code: str,
    expected: int,
    compared: bool,
    log: Path,
) -> None:
    logs = ["--compare", str(log), str(log)] if compared else [str(log)]
    call = [*logs, *NAMES, *PATTERN, "--beta", "0", "--fail-on", code, "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_REPORTS, "audit", *call],
        cwd=log.parent, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    assert "Will this objective collapse? Yes." in " ".join(done.stdout.split())
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("report: ")]
    assert line.startswith("report: out/report.json (without report.html: the report needs ")
    assert json.loads((log.parent / "out" / "report.json").read_text())
    assert not (log.parent / "out" / "report.html").exists()
    if expected:
        assert "--fail-on: AM010 (issue)" in done.stderr
