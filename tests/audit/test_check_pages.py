"""Every check has its page, and no page names a state, a flag or an option that there is not."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from allmodes.audit import CHECKS, run
from allmodes.audit.findings import STATES
from allmodes.audit.words import Setting, option
from allmodes.cli.audit import Columns, audit
from allmodes.runs.audit_config import AuditConfig, Trainer

FOLDER = Path(__file__).parents[2] / "docs" / "checks"
CODES = [check.code for check in CHECKS]
NAMES = {state: "not tested" if state == "skipped" else state for state in STATES}
ORDER = ["passed", "tip", "issue", "not applicable", "not tested"]
TRAINERS: dict[str, Trainer] = {
    "TRL": "trl", "verl": "verl", "OpenRLHF": "openrlhf", "REINVENT 4": "reinvent", "Saturn": "saturn",
    "allmodes": "allmodes",
}  # fmt: skip
SETTINGS: dict[str, Setting] = {
    "β": "beta", "MARA": "mara", "group size": "group size", "longest response": "length",
    "no division": "no scaling", "reverse KL": "reverse KL",
}  # fmt: skip
SECTIONS = [
    "What it asks", "What it needs", "What it says", "Why it matters", "What to change", "What it cannot see"
]  # fmt: skip


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, its head first, without the line below it."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    rows = [[line.strip("|").split("|") for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for row in (head, *body)] for head, _, *body in rows]


def documented(code: str) -> list[str]:
    """The states that a page has a line for."""
    (table,) = (rows for rows in tables(page(code)) if rows[0][0] == "state")
    return [state for state, _ in table[1:]]


def flags(text: str) -> set[str]:
    return {flag.rstrip(".-") for flag in re.findall(r"(?<![-\w])--[a-zA-Z][\w.-]*", text)}


def test_each_check_has_a_page_and_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", *(f"{code}.md" for code in CODES)}


@pytest.mark.parametrize("check", CHECKS, ids=CODES)
def test_a_page_has_its_checks_title_and_all_sections(check: Any) -> None:
    text = page(check.code)
    assert text.splitlines()[0] == f"# {check.code}: {check.title}"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert set(re.findall(r"AM\d{3}", text)) <= set(CODES)


def test_the_index_lists_and_links_all_checks_and_nothing_else() -> None:
    text = page("README")
    rows = [row for table in tables(text) if table[0][0] == "code" for row in table[1:]]
    assert [row[:2] for row in rows] == [[f"[{c.code}]({c.code}.md)", c.title] for c in CHECKS]
    assert all(len(row) == 3 and row[2] for row in rows)
    assert re.findall(r"\]\((.*?)\)", text) == [f"{code}.md" for code in CODES]
    assert [row[0] for row in next(t for t in tables(text) if t[0][0] == "state")[1:]] == list(NAMES.values())


@pytest.mark.parametrize("code", CODES)
def test_a_page_documents_states_by_their_names(code: str) -> None:
    found = documented(code)
    assert set(ORDER) == set(NAMES.values())
    assert "passed" in found
    assert found == sorted(found, key=ORDER.index)


@pytest.mark.parametrize("name", ["README", *CODES])
def test_every_flag_on_a_page_is_one_of_the_command(name: str) -> None:
    own = {f"--{name.replace('_', '-')}" for name in inspect.signature(audit).parameters}
    own |= {f"--columns.{field.name}" for field in fields(Columns)} | {"--columns.NAME"}
    of_trainers = {
        flag
        for what in get_args(Setting)
        for trainer in get_args(Trainer)
        for flag in flags(option(what, trainer))
    }
    assert flags(page(name)) <= own - {"--log", "--columns"} | of_trainers


@pytest.mark.parametrize("code", CODES)
def test_a_page_names_options_as_the_remedies_do(code: str) -> None:
    for (_, what), *rows in (table for table in tables(page(code)) if table[0][0] == "trainer"):
        setting = SETTINGS[what]
        plain = option(setting, None)
        named = {name: option(setting, trainer) for name, trainer in TRAINERS.items()}
        assert dict(rows) == {name: words for name, words in named.items() if words != plain}


def log(*, with_steps: bool) -> list[dict[str, Any]]:
    """Five answers that are unequally likely, in groups of 8; the last steps have one answer left."""
    rows = []
    for step in range(4 if with_steps else 1):
        for prompt in range(4):
            for i in range(8):
                answer = 0 if step == 3 else max(0, i - 3)
                rows.append(
                    {
                        "prompt": prompt,
                        "response": f"{'well, ' * answer}it is {answer}",
                        "outcome": str(answer),
                        "reward": [1.0, 1.0, 0.9, 0.2, 0.0][answer] if i != 6 else 0.0,
                        "ref_logprob": -1.5 * (3 + 2 * answer),
                        "num_tokens": 3 + 2 * answer,
                        **({"step": step} if with_steps else {}),
                    }
                )
    return rows


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta": 0.0, "kl": "k1-in-loss", "max_tokens": 11},
        {"beta": 0.001, "kl": "k3-in-loss", "transform": "none", "good": 0.5, "group_size": 2},
        {"beta": 5.0, "kl": "k3-in-loss", "transform": "mara", "threshold": 0.5, "scale_rewards": "group"},
        {"beta": 0.1, "transform": "mara", "threshold_quantile": 0.1, "scale_rewards": "none", "good": 1.0},
        {"beta": 0.0, "transform": "ips", "group_size": 4, "good": 0.5},
        {"beta": 0.1, "transform": "other"},
    ],
)
@pytest.mark.parametrize(
    ("with_steps", "without"), [(True, ""), (True, "outcome"), (False, "ref_logprob"), (False, "reward")]
)
def test_no_check_answers_with_a_state_that_its_page_has_not(
    settings: dict[str, Any], *, with_steps: bool, without: str
) -> None:
    rows = [{k: v for k, v in row.items() if k != without} for row in log(with_steps=with_steps)]
    for finding in run(rows, AuditConfig.model_validate(settings)).findings:
        assert NAMES[finding.state] in documented(finding.code), f"{finding.code}: {finding.summary}"
