"""The page, the record and the screen of an audit: complete, offline, and safe from what a model wrote."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from allmodes.audit.audit import CHECKS, Audit, run
from allmodes.audit.checks.findings import STATES, NotApplicableError
from allmodes.audit.command import Reading, audit_path, compare_paths
from allmodes.audit.config import AuditConfig
from allmodes.audit.reporting.figures import draw_optimum
from allmodes.audit.reporting.report import code_spans, write_report
from allmodes.audit.reporting.terminal_summary import print_summary
from allmodes.methods import METHODS

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

EVIL = "<script>alert('x')</script>\x1b[31m$\\frac{a}$"
REWARDS: dict[Any, float] = {"a": 1.0, EVIL: 0.9, None: 0.0}


def rows(*, steps: int = 6, share: float = 0.5) -> list[dict[str, Any]]:
    """Groups of 8 for two prompts; the share of the first answer rises from step to step."""
    found = []
    for step in range(steps):
        for prompt in ("q", EVIL):
            for i in range(8):
                is_first = i < 8 * min(1.0, share + step / steps)
                outcome = None if i == 7 else "a" if is_first else EVIL
                found.append(
                    {"prompt": prompt, "response": f"it is {outcome}, {i}", "outcome": outcome,
                     "reward": REWARDS[outcome], "step": step, "num_tokens": 4 + i, "truncated": False}
                )  # fmt: skip
    return found


def audit_of(samples: list[dict[str, Any]], **settings: Any) -> Audit:
    return run(samples, AuditConfig.model_validate({"beta": 0.1, "good": 0.5, "trainer": "trl", **settings}))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    path = write_report(audit_of(rows()), folder, name="log <b>")
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_the_page_has_every_check_and_all_pictures(page: str) -> None:
    for check in CHECKS:
        assert check.code in page
        assert check.title.replace("'", "&#39;") in page
    assert page.count("<svg") == 4
    for words in ("What to change", "The optimum", "Over training", "Prediction and observation"):
        assert words in page


def test_the_page_needs_nothing_from_outside_and_runs_nothing(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.names
    assert all(link.startswith("#") for link in tags.links)
    assert "default-src 'none'" in page
    assert "\x1b" not in page
    assert "<script" not in page
    assert "log &lt;b&gt;" in page


def test_the_record_is_the_page_in_numbers(tmp_path: Path) -> None:
    audit = audit_of(rows())
    write_report(audit, tmp_path, name="log")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert [found["code"] for found in record["findings"]] == [check.code for check in CHECKS]
    assert record["counts"] == {state: sum(f.state == state for f in audit.findings) for state in STATES}
    estimate = audit.of("AM010").numbers["top_share"]
    found = next(f for f in record["findings"] if f["code"] == "AM010")["numbers"]["top_share"]
    assert found == {"value": estimate.value, "error": estimate.error}
    assert record["log"]["samples"] == len(rows())
    assert len(record["training"]["entropy"]["windows"]) == 6
    assert record["prediction"]["after"] == "steps 5 to 5"
    assert record["settings"] == {"beta": 0.1, "good": 0.5, "trainer": "trl"}


def test_a_log_that_says_little_has_a_page_all_the_same(tmp_path: Path) -> None:
    audit = run([{"response": "r"}, {"response": "s"}])
    text = write_report(audit, tmp_path, name="log").read_text(encoding="utf-8")
    assert "Nothing, as far as the checks could be tested" in text
    assert "<svg" not in text
    assert audit.counts["skipped"] > 10


def screen(audit: Audit, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_summary(audit, console, name="log")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_screen_names_each_check_once_in_its_state() -> None:
    audit = audit_of(rows())
    text = screen(audit)
    for finding in audit.findings:
        is_raised = finding.state in ("issue", "tip")
        assert text.count(finding.code) - text.count(f"({finding.code})") >= 1
        if is_raised:
            assert f"{finding.state} {finding.code}" in text
    assert "Predicted:" in text
    assert len(text.splitlines()) < 60
    assert "\x1b" not in text


def test_all_checks_have_their_titles_on_the_screen() -> None:
    text = " ".join(screen(audit_of(rows()), width=400).split())
    for check in CHECKS:
        assert f"{check.code} {check.title}" in text


VERDICTS: list[tuple[dict[str, Any], str, str]] = [
    ({"beta": 0.01, "kl": "k1-in-reward"}, "yes", "effective number of 1 ± 6e-05 of 2 good outcomes"),
    (
        {"beta": 1.0, "kl": "k1-in-reward", "transform": "mara"},
        "no",
        "effective number of 2 of 2 good outcomes",
    ),
    ({"beta": 0.0}, "yes", "β is 0. Nothing brings back"),
    ({"beta": None}, "not known", "give `--beta`"),
    ({"kl": "k3-in-loss-corrected"}, "not known", "tokens before it treated as fixed"),
    ({"good": 1.0, "kl": "k1-in-reward"}, "not known", "No prompt has two good outcomes"),
]


@pytest.mark.parametrize(("settings", "answer", "why"), VERDICTS)
def test_the_first_line_says_whether_the_objective_collapses(
    settings: dict[str, Any], answer: str, why: str, tmp_path: Path
) -> None:
    audit = audit_of(rows(), **settings)
    first = f"Will this objective collapse? {answer.capitalize()}"
    line = screen(audit, width=2000).splitlines()[0]
    assert line.startswith(f"{first}. ")
    assert why in line
    assert "Over training diversity has " in line
    assert audit.summary().startswith(first)
    page = write_report(audit, tmp_path, name="log").read_text(encoding="utf-8")
    assert f"<h1>{first}</h1>" in page
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["verdict"]["answer"] == answer
    assert f"collapse: {answer};" in repr(audit)


def test_too_few_samples_are_no_answer() -> None:
    samples = [
        {"prompt": "q", "response": name, "outcome": name, "reward": float(name != "bad")}
        for name, count in (("a", 6), ("b", 1), ("bad", 3))
        for _ in range(count)
    ]
    audit = run(samples, AuditConfig(beta=0.1, good=0.5, kl="k1-in-reward"))
    assert audit.of("AM010").state == "passed"  # not clearly below the bar
    line = screen(audit, width=2000).splitlines()[0]
    assert line.startswith("Will this objective collapse? Not known. ")
    assert "more samples would decide it" in line
    many = run(samples * 50, AuditConfig(beta=0.1, good=0.5, kl="k1-in-reward"))
    assert screen(many, width=2000).startswith("Will this objective collapse? Yes. ")


def test_an_audit_is_shown_shortly_and_safely() -> None:
    audit = audit_of(rows())
    assert len(repr(audit)) < 300
    assert "96 samples of 2 prompts" in repr(audit)
    assert "tensor" not in repr(audit) + audit.summary()
    fragment = audit._repr_html_()
    assert "<script" not in fragment
    assert "Will this objective collapse?" in fragment
    for finding in audit.findings:
        assert (finding.code in fragment) or finding.state not in ("issue", "tip")


def test_code_between_backticks() -> None:
    assert str(code_spans("set `beta` to <1>")) == "set <code>beta</code> to &lt;1&gt;"
    assert str(code_spans("`<b>`")) == "<code>&lt;b&gt;</code>"
    assert str(code_spans("a ` alone")) == "a ` alone"


def write(path: Path, samples: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in samples))
    return path


def test_two_logs(tmp_path: Path) -> None:
    base = [{k: v for k, v in row.items() if k != "step"} for row in rows(steps=8)]
    after = [{**row, "outcome": "a", "reward": 1.0} for row in base]
    paths = write(tmp_path / "base.jsonl", base), write(tmp_path / "after.jsonl", after)
    console = Console(file=io.StringIO(), width=100)
    found = compare_paths(paths, {"beta": 0.1, "good": 0.5}, Reading(), out=tmp_path / "out", console=console)
    assert len(found.log) == len(after)
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [log["log"]["name"] for log in record["logs"]] == ["base.jsonl", "after.jsonl"]
    difference = record["differences"]["reward"]
    assert difference["second"]["value"] == 1.0
    assert difference["first"]["value"] < 1.0
    figures = record["prediction"]["figures"]
    assert figures["share of the likeliest good item"]["observed"]["value"] == 1.0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in text
    assert "base.jsonl and after.jsonl" in text
    assert "Predicted:" in console.file.getvalue()  # type: ignore[attr-defined]


def test_settings_beside_a_runs_samples_and_flags_that_win(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    write(run_folder / "samples.jsonl", rows())
    write(run_folder / "metrics.jsonl", [{"step": 1, "reward": 0.0}])  # another file of the run
    settings = {"beta": 0.5, "transform": "mara", "threshold": 0.7, "trainer": "trl"}
    bonus = {"beta": 0.5, "transform": "entropy", "entropy": 0.1}
    (run_folder / "audit.json").write_text(json.dumps(settings))
    console = Console(file=io.StringIO())
    audit = audit_path(run_folder, {}, Reading(), out=tmp_path / "one", console=console)
    assert (audit.config.beta, audit.config.threshold) == (0.5, 0.7)
    assert len(audit.log) == len(rows())
    flags = {"beta": 0.1, "threshold_quantile": 0.9}
    other = audit_path(run_folder / "samples.jsonl", flags, Reading(), out=tmp_path / "two", console=console)
    assert (other.config.beta, other.config.threshold, other.config.threshold_quantile) == (0.1, None, 0.9)
    assert other.config.transform == "mara"
    (run_folder / "audit.json").write_text(json.dumps(bonus))
    third = audit_path(run_folder, {}, Reading(), out=tmp_path / "four", console=console)
    assert (third.config.transform, third.config.entropy) == ("entropy", 0.1)
    plain = audit_path(run_folder, {"transform": "none"}, Reading(), out=tmp_path / "five", console=console)
    assert (plain.config.transform, plain.config.entropy) == ("none", None)
    copy = write(tmp_path / "elsewhere" / "log.jsonl", rows())
    assert audit_path(copy, {}, Reading(), out=tmp_path / "three", console=console).config == AuditConfig()


def test_pictures_hold_no_words_of_a_model_as_mathematics(tmp_path: Path) -> None:
    samples = [row for row in rows() if row["prompt"] == "q"]  # one prompt: outcomes have lines of their own
    text = write_report(audit_of(samples), tmp_path, name="log").read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    assert not re.search(r"<script", text)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["no transform", "MARA"]),
        ({"transform": "vanilla"}, ["no transform", "MARA"]),
        ({"transform": "mara", "threshold": 0.95}, ["no transform", "MARA"]),
        ({"transform": "ips"}, ["no transform", "MARA", "IPS"]),
        (
            {"transform": "mara+entropy", "entropy": 0.1},
            ["no transform", "MARA", "MARA + entropy bonus (η = 0.1)"],
        ),
    ],
)
def test_each_method_has_its_own_colour_and_its_own_optimum(
    settings: dict[str, Any], names: list[str]
) -> None:
    samples = [{**row, "response": str(row["outcome"]), "ref_logprob": -1.0} for row in rows()]
    audit = audit_of(samples, **settings)
    left, right = draw_optimum(audit.evidence).axes
    lines = {line.get_label(): line for line in right.get_lines() if not line.get_label().startswith("_")}
    colors = [line.get_color() for line in lines.values()]
    assert list(lines) == names
    assert colors[:2] == [METHODS["vanilla"].color, METHODS["mara"].color]
    assert len({*colors}) == len(colors)  # darker where two methods share one
    if settings.get("transform") == "ips":
        assert colors[2] == METHODS["ips"].color
    own = lines[names[-1] if len(names) > 2 or "mara" in settings.values() else names[0]]
    (optimum,) = [line for line in left.get_lines() if line.get_label() == "optimum"]
    assert optimum.get_color() == own.get_color()
    at_beta = own.get_ydata()[len(own.get_ydata()) // 2]
    assert at_beta == pytest.approx(audit.of("AM010").numbers["effective"].value, rel=1e-6)


def test_an_optimum_without_a_kl_is_drawn_without_one() -> None:
    samples = [{**row, "response": str(row["outcome"])} for row in rows()]
    settings: dict[str, Any] = {"beta": 0.0, "transform": "ips", "group_size": 8}
    left, right = draw_optimum(audit_of(samples, **settings).evidence).axes
    assert [line.get_label() for line in left.get_lines()] == ["reference", "optimum"]
    assert not right.get_visible()
    with pytest.raises(NotApplicableError, match="β is 0"):
        draw_optimum(audit_of(samples, beta=0.0).evidence)
