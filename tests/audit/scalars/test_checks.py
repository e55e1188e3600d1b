"""What is said of logs of means: as of samples where the question is the same, and never that all is well."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allmodes.audit import AuditConfig, run
from allmodes.audit.reporting.overview import verdict, verdict_line
from allmodes.audit.scalars.audit import ScalarAudit, audit_scalars
from allmodes.audit.scalars.checks import ASK
from allmodes.audit.scalars.log import plain_row, read_scalars
from allmodes.integrations.answers import answer_figures

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py


def audit(rows: list[dict[str, Any]], *, is_whole: bool = True, **settings: Any) -> ScalarAudit:
    named = ((f"row {i}", plain_row(row, "step")) for i, row in enumerate(rows, start=1))
    log = read_scalars(named, path="log", container="trainer_state.json", is_whole=is_whole)
    return audit_scalars(log, AuditConfig.model_validate(settings))


def falling(name: str, last: float, **rest: float) -> list[dict[str, Any]]:
    """40 steps in which a figure falls from 1 in a line, with a little noise."""
    return [
        {"step": i, name: 1 - (1 - last) * i / 39 + 0.001 * (i % 2), "frac_reward_zero_std": 0.0, **rest}
        for i in range(40)
    ]


def test_the_same_training_as_samples_and_as_means() -> None:
    # One group of 8 in each step, from four answers to one.
    answers = [[i % max(1, 4 - step // 4) for i in range(8)] for step in range(16)]
    samples = [
        {"step": step, "prompt": "p", "response": f"it is {answer}", "outcome": str(answer),
         "reward": float(answer == 0), "truncated": answer == 3}
        for step, group in enumerate(answers)
        for answer in group
    ]  # fmt: skip
    means = []
    for step, group in enumerate(answers):
        figures = answer_figures(group, group_size=8)
        means.append(
            {
                "step": step,
                "answers/entropy": figures["entropy"],
                "answers/distinct": figures["distinct"],
                "frac_reward_zero_std": float(len(set(group)) == 1),
                "completions/clipped_ratio": group.count(3) / 8,
                "reward": group.count(0) / 8,
            }
        )
    of_samples, of_means = run(samples), audit(means)
    for code in ("AM042", "AM043", "AM050", "AM051"):
        one, other = of_samples.of(code), of_means.of(code)
        assert one.state == other.state, code
        for key in one.numbers.keys() & {"share", "first", "last", "p"}:
            scale = 8 if code == "AM051" and key in ("first", "last") else 1  # a share of 8, and a number
            assert other.numbers[key] == pytest.approx(scale * one.numbers[key]), (code, key)
    assert of_means.of("AM050").state == "issue"
    assert "(AM050, AM051)" in verdict_line(of_means)


@pytest.mark.parametrize(
    ("column", "code"), [("answers/entropy", "AM050"), ("answers/distinct", "AM051"), ("entropy", "AM054")]
)
@pytest.mark.parametrize(("last", "state"), [(1.0, "passed"), (0.9, "passed"), (0.7, "tip"), (0.3, "issue")])
def test_a_figure_of_diversity_that_falls(column: str, code: str, last: float, state: str) -> None:
    assert audit(falling(column, last)).of(code).state == state


@pytest.mark.parametrize(("share", "state"), [(0.5, "passed"), (0.6, "tip"), (0.95, "issue")])
def test_groups_with_equal_rewards(share: float, state: str) -> None:
    rows = [{"step": i, "frac_reward_zero_std": share + 0.01 * (-1) ** i} for i in range(4)]
    found = audit(rows).of("AM042")
    assert (found.state, found.numbers["share"]) == (state, pytest.approx(share))


@pytest.mark.parametrize(
    ("last", "state"), [(lambda i: 0.1 * i, "tip"), (lambda i: 0.1 * min(i, 20), "passed")]
)
def test_a_kl_that_still_rises(last: Callable[[int], float], state: str) -> None:
    rows = [{"step": i, "kl": last(i) + 0.001 * (i % 3), "frac_reward_zero_std": 0.0} for i in range(60)]
    assert audit(rows).of("AM055").state == state


def test_what_means_do_not_tell_is_not_tested_and_never_fine() -> None:
    found = audit(falling("entropy", 1.0, reward=1.0, kl=0.1), beta=0.1, kl="k1-in-reward")
    for finding in found.findings:
        if finding.code not in ASK or finding.code in ("AM010", "AM050", "AM051", "AM060"):
            assert finding.state == "skipped", finding.code
            assert "log samples with `log_completions=True`" in finding.summary
    answer, reason = verdict(found)
    assert (answer, reason[:41]) == ("not known", "The log holds means, not samples; log sam")
    assert "(AM054); the entropy of outcomes is not known." in verdict_line(found)
    assert found.of("AM041").state == "passed"
    assert "the mean reward was 1" in found.of("AM060").summary


@pytest.mark.parametrize(
    ("rows", "settings", "is_whole", "answer"),
    [
        (falling("reward", 1.0), {}, True, "yes"),  # TRL logs `kl` where β is not 0
        (falling("reward", 1.0), {"beta": 0.1}, True, "not known"),
        (falling("reward", 1.0), {"beta": 0.0}, True, "yes"),
        (falling("reward", 1.0), {"beta": 0.0, "transform": "ips"}, True, "not known"),
        (falling("reward", 1.0), {}, False, "not known"),  # a chart may have left it out
        (falling("reward", 1.0, kl=0.0), {}, False, "yes"),  # never computed: a trained policy moves
        (falling("reward", 1.0, kl=0.0)[:9], {}, True, "not known"),
        (falling("reward", 1.0, kl=0.1), {}, True, "not known"),
        (falling("critic/score/mean", 1.0), {}, True, "yes"),
        (falling("critic/score/mean", 1.0, **{"actor/kl_loss": 0.1}), {}, True, "not known"),
    ],
)
def test_without_a_kl_the_answer_is_yes(
    rows: list[dict[str, Any]], settings: dict[str, Any], is_whole: bool, answer: str
) -> None:
    found = audit(rows, is_whole=is_whole, **settings)
    assert verdict(found)[0] == answer
    if answer == "yes" and "beta" not in settings:
        assert any("β is taken as 0" in remark for remark in found.remarks)
        assert found.of("AM055").state == "not applicable"


def test_beta_is_read_from_a_log_that_has_it() -> None:
    rows = falling("critic/score/mean", 1.0, **{"actor/kl_loss": 0.1, "actor/kl_coef": 0.02})
    assert audit(rows).config.beta == 0.02
    assert audit(rows, beta=0.5).config.beta == 0.5
    assert audit(rows).config.trainer == "verl"


def test_rows_and_steps_that_are_at_fault_are_named() -> None:
    rows = falling("reward", 1.0)
    found = audit([*rows[:30], {**rows[30], "reward": float("nan")}, *rows[25:]])
    assert found.of("AM001").summary == (
        "1 of 46 rows hold unusable values: `reward` is NaN or infinite: 1, first at row 31."
    )
    assert found.of("AM002").state == "issue"
    assert "The steps go back 1 time, the first from 30 to 25." in found.of("AM002").summary


def state_file(path: Path, **rest: float) -> Path:
    path.write_text(json.dumps({"log_history": falling("entropy", 0.3, reward=0.5, **rest)}))
    return path


def test_the_command_on_a_trainers_state(command: Command, tmp_path: Path) -> None:
    path = state_file(tmp_path / "trainer_state.json", kl=0.1)
    code, out, _ = command("audit", path, "--beta", 0.1, "--out", "out")
    said = " ".join(out.split())
    assert code == 0
    assert said.startswith("Will this objective collapse? Not known. The log holds means, not samples;")
    assert "means of 40 logged steps in steps 0 to 39" in said
    report = json.loads(Path("out/report.json").read_text())
    assert (report["log"]["format"], report["log"]["samples"], report["log"]["rows"]) == ("means", 0, 40)
    assert report["log"]["columns"]["token_entropy"] == "entropy"
    page = Path("out/report.html").read_text()
    assert "Entropy of tokens" in page
    assert command("audit", path, "--beta", 0.1, "--fail-on", "AM001")[0] == 0
    assert command("audit", path, "--beta", 0.1, "--fail-on", "AM010")[0] == 1  # not tested is no pass
    assert command("audit", path, "--beta", 0.1, "--fail-on", "issue")[0] == 1  # AM054


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compare", "trainer_state.json", "trainer_state.json"], "expected two logs of samples"),
        (["trainer_state.json", "--model", "m"], "--model and --policy: expected a log of samples"),
        (["metrics.jsonl", "--format", "means", "--rewards", "a", "1"], "expected no --columns, --rewards"),
        (["few.jsonl", "--format", "means"], "such as reward, entropy or kl; got loss"),
        (["trainer_state.json", "--columns.reward", "r"], "expected"),
    ],
)
def test_what_a_log_of_means_cannot_do_is_one_line(
    arguments: list[str], said: str, command: Command, tmp_path: Path
) -> None:
    state_file(tmp_path / "trainer_state.json")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n')
    (tmp_path / "few.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    code, out, err = command("audit", *arguments)
    assert code == 2
    assert said in err.splitlines()[-1]
    assert "Traceback" not in out + err


def test_a_format_takes_rows_as_means(command: Command, tmp_path: Path) -> None:
    rows = [{"step": i, "reward": 0.5, "kl": 0.1} for i in range(8)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for flags, samples in (([], 8), (["--format", "means"], 0)):
        assert command("audit", "log.jsonl", *flags, "--out", f"out{samples}")[0] == 0
        assert json.loads(Path(f"out{samples}/report.json").read_text())["log"]["samples"] == samples
