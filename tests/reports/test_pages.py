"""The last line of every page: date, command, version and commit."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

import allmodes
from allmodes.errors import RunError
from allmodes.reports.pages import made_by, render_page
from allmodes.reports.plotting import figure_style, inline_svg
from allmodes.runs.provenance import provenance

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def footer(**settings: Any) -> str:
    template = Path(allmodes.__file__).parent / "reports" / "templates" / "page.html"
    page = render_page(template, title="", lead="", remarks=(), colours={"one": "#000000"}, **settings)
    return re.findall(r"<footer.*?</footer>", page)[0]


def test_a_page_tells_date_command_version_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/somebody/.venv/bin/allmodes", "audit", "my log.jsonl", "<b>"])
    line = footer()
    commit = provenance()["git_commit"]
    known = "" if commit is None else f", commit {commit}"
    assert re.search(rf"Made by allmodes {re.escape(allmodes.__version__ + known)}, {DATE}, with <code", line)
    assert "allmodes audit &#39;my log.jsonl&#39; &#39;&lt;b&gt;&#39;</code>" in line
    assert "somebody" not in line


def test_the_page_of_a_run_tells_its_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/allmodes", "run", "molecules"])
    facts = {
        **provenance(),
        "date": "2025-01-02 03:04:05 UTC",
        "git_commit": "abc-dirty",
        "allmodes": "0.0.1",
    }
    (tmp_path / "provenance.json").write_text(json.dumps(facts))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/allmodes", "run", "--resume", "x"])
    expected = "allmodes 0.0.1, commit abc-dirty, 2025-01-02 03:04:05 UTC"
    assert made_by(tmp_path) == (expected, "allmodes run molecules")
    assert f"{expected}, with <code" in footer(run=tmp_path)

    changed = {**facts, "changes": [{"when": "2025-01-03 00:00:00 UTC"}]}
    (tmp_path / "provenance.json").write_text(json.dumps(changed))
    assert made_by(tmp_path)[0] == f"{expected}, settings or inputs changed 2025-01-03 00:00:00 UTC"

    del facts["date"]  # of an older version
    (tmp_path / "provenance.json").write_text(json.dumps(facts))
    assert made_by(tmp_path)[0] == "allmodes 0.0.1, commit abc-dirty"


def test_a_folder_without_a_run_tells_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert made_by(tmp_path)[1] == "train.py"


@pytest.mark.parametrize("content", ["[]", "{}", '{"allmodes": "1", "command": 3}', "{"])
def test_a_damaged_provenance_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(RunError, match=r"provenance.json is damaged: expected what .*; .+"):
        made_by(tmp_path)


WIDE = """{% extends "page.html" %}
{% from "macros.html" import cells, definitions, drawing, headings, named with context %}
{% block content %}
<h2>Results</h2>
<div class="scroll"><table class="numbers compact">
<thead><tr><th>Method</th>{{ headings(names) }}</tr></thead>
<tbody><tr><td>{{ named("one") }}</td>{{ cells(names) }}</tr></tbody>
</table></div>
<figure class="curves">{{ drawing(figure) }}<figcaption>Caption</figcaption></figure>
<dl>{{ definitions([("a" * 30, "b" * 300)]) }}</dl>
{% endblock %}"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_wide_tables_and_figures_scroll_by_themselves_at_400_px(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    monkeypatch.setattr(sys, "argv", ["allmodes", "run", "recipe" * 40])
    (tmp_path / "wide.html").write_text(WIDE)
    with figure_style() as figure_class:
        figure = figure_class(figsize=(10, 2))
        figure.subplots(1, 3)
        svg = inline_svg(figure)
    names = [f"column {number}" for number in range(20)]
    values = {"title": "T" * 60, "lead": "", "remarks": (), "colours": {"one": "#000000"}}
    page = render_page(tmp_path / "wide.html", names=names, figure=svg, **values)
    (tmp_path / "page.html").write_text(page)
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 400, "height": 800})
        tab.goto((tmp_path / "page.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == 400
        widths = tab.evaluate(
            "[...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, e.scrollWidth])"
        )
        assert all(inner > outer + 100 for outer, inner in widths)
        assert tab.evaluate("document.querySelector('svg').getBoundingClientRect().width") == 0.85 * 960
        browser.close()
