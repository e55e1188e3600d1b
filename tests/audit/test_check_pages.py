"""Every check has its page, and no page names a state, a flag or an option that there is not."""

import inspect
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from allmodes.audit import CHECKS, run
from allmodes.audit.checks.findings import STATES
from allmodes.audit.choices import Trainer
from allmodes.audit.config import AuditConfig
from allmodes.audit.trainer_options import Setting, option
from allmodes.cli.audit import Columns, audit

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
    "no division": "no scaling", "KL of whole responses": "sequence KL",
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
    assert re.findall(r"\]\((?!\.\./)(.*?)\)", text) == [f"{code}.md" for code in CODES]
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


def test_pages_whose_remedies_name_options_have_a_table_of_them() -> None:
    with_table = {code for code in CODES if any(table[0][0] == "trainer" for table in tables(page(code)))}
    assert with_table >= {"AM010", "AM012", "AM024", "AM030", "AM040", "AM041", "AM043", "AM050"}


def log(*, with_steps: bool, without: str = "") -> list[dict[str, Any]]:
    """Five answers that are unequally likely, in groups of 8; the last steps have one answer left."""
    rows = []
    for step in range(4 if with_steps else 1):
        for prompt in range(4):
            for i in range(8):
                answer = 0 if step == 3 else max(0, i - 3)
                row = {
                    "prompt": prompt,
                    "response": f"{'well, ' * answer}it is {answer}",
                    "outcome": str(answer),
                    "reward": [1.0, 1.0, 0.9, 0.2, 0.0][answer] if i != 6 else 0.0,
                    "ref_logprob": -1.5 * (3 + 2 * answer),
                    "num_tokens": 3 + 2 * answer,
                    **({"step": step} if with_steps else {}),
                }
                rows.append({name: value for name, value in row.items() if name != without})
    return rows


def counted(*outcomes: tuple[int, float], prompts: int = 5, **rest: Any) -> list[dict[str, Any]]:
    """Outcomes of prompts that are all alike: how often each comes, and its reward."""
    drawn = [(name, reward) for name, (count, reward) in enumerate(outcomes) for _ in range(count)]
    return [
        {"prompt": prompt, "response": f"{name} {i}", "outcome": str(name), "reward": reward, **rest}
        for prompt in range(prompts)
        for i, (name, reward) in enumerate(drawn)
    ]


def weighted(gap: float) -> list[dict[str, Any]]:
    """Samples of which every ninth is so many nats less likely under the policy that drew them."""
    rows = counted((9, 0.0), (9, 1.0), ref_logprob=-3.0)
    return [{**row, "policy_logprob": -3.0 - gap * (i % 9 == 0)} for i, row in enumerate(rows)]


def told_apart(*num_tokens: int, ref_logprobs: list[float]) -> list[dict[str, Any]]:
    """Responses that are all good, with their lengths, and one that is not."""
    return [
        {"response": str(i), "reward": float(i > 0), "ref_logprob": ref, "num_tokens": n}
        for i, (n, ref) in enumerate(zip((1, *num_tokens), (-1.0, *ref_logprobs), strict=True))
    ]


def course(*different: int) -> list[dict[str, Any]]:
    """Steps with so many different answers in each group of 8; rewards are equal within it, and fall."""
    return [
        {"step": step, "prompt": prompt, "response": f"{'so ' * (i % n)}.", "outcome": str(i % n),
         "reward": 1.0 - 0.1 * step - 0.01 * prompt}
        for step, n in enumerate(different)
        for prompt in range(10)
        for i in range(8)
    ]  # fmt: skip


def drifting(*levels: tuple[float, float]) -> list[dict[str, Any]]:
    """Steps with an entropy a token and a KL to the reference, both in nats; prompts differ a little."""
    return [
        {"step": step, "prompt": prompt, "response": f"{step} {i}", "reward": float(i), "num_tokens": 10,
         "policy_logprob": -10 * (entropy + 0.01 * prompt),
         "ref_logprob": -10 * (entropy + 0.01 * prompt) - kl - 0.01 * prompt}
        for step, (entropy, kl) in enumerate(levels)
        for prompt in range(10)
        for i in range(2)
    ]  # fmt: skip


MARA = {"transform": "mara", "threshold": 0.5, "beta": 0.1}
IPS = {"transform": "ips", "good": 0.3}
DISTINCT = [{"reward": float(i)} for i in range(200)]
BAD = {"reward": "none"}
FIVE = counted(*((20, reward / 5) for reward in range(1, 6)), prompts=1)
PASSING_KLS = ("k1-in-reward", "k2-in-loss", "k3-in-loss-corrected", "reinvent-loss")
ABOVE = counted((95, 0.9), (5, 1.0), prompts=1)
BELOW = [{**row, "prompt": row["prompt"] + 1} for row in counted((4, 0.9), (6, 1.0), prompts=10)]
# The settings of each are tried with whole logs, and with such as lack a column.
SETTINGS_OF_ALL: list[dict[str, Any]] = [
    {},
    {"beta": 0.0, "kl": "k1-in-loss", "max_tokens": 11},
    {"beta": 0.001, "kl": "k3-in-loss", "transform": "none", "good": 0.5, "group_size": 2},
    {"beta": 5.0, "kl": "k3-in-loss", "transform": "mara", "threshold": 0.5, "scale_rewards": "group"},
    {"beta": 0.1, "transform": "mara", "threshold_quantile": 0.1, "scale_rewards": "none", "good": 1.0},
    {"beta": 0.0, "transform": "ips", "group_size": 4, "good": 0.5},
    {"beta": 0.1, "transform": "other"},
]
CASES: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
    *(
        (log(with_steps=False, without=without), settings)
        for settings in SETTINGS_OF_ALL
        for without in ("ref_logprob", "outcome", "reward")
    ),
    *((log(with_steps=True, without=without), SETTINGS_OF_ALL[-1]) for without in ("", "outcome")),
    # Rows that are left out or there twice; samples that the reference has not drawn.
    ([*DISTINCT, *DISTINCT[-8:], BAD], {}),
    ([*DISTINCT, *DISTINCT, *[BAD] * 50], {}),
    *((weighted(gap), {}) for gap in (0.0, 1.2, 5.0)),
    (counted((9, 0.0), (9, 1.0), step=7), {"threshold_quantile": 0.9}),
    # Good outcomes in equal parts, 6 : 1, with two rare ones beside them, and with two that change places.
    (counted((9, 0.0), (50, 1.0), (50, 1.0)), {**MARA, "group_size": 2}),
    (counted((9, 0.0), (86, 1.0), (14, 1.0)), {"beta": 0.1}),
    (counted((9, 0.0), (48, 1.0), (48, 1.0), (2, 1.0), (2, 1.0)), {"beta": 0.1}),
    (counted((9, 0.0), (20, 1.0), (80, 0.9)), {"beta": 0.07, "good": 0.5}),
    # MARA: lengths, the bound of a prompt of eleven, small groups.
    (told_apart(20, 12, 30, 2, 9, ref_logprobs=[-5.0, -9.0, -2.0, -3.0, -4.0]), MARA),
    ([*ABOVE, *BELOW], {**MARA, "threshold": 0.95}),
    (ABOVE, {**MARA, "threshold": 0.95}),
    (counted((60, 0.0), (34, 1.0), (6, 1.0)), {**MARA, "group_size": 2}),
    # IPS: groups that lose good outcomes, with and without a KL, and that lose others, or none.
    (FIVE, {**IPS, "group_size": 5}),
    (FIVE, {**IPS, "group_size": 5, "beta": 0.01}),
    (FIVE, {**IPS, "group_size": 9}),
    (FIVE, {**IPS, "group_size": 17}),
    (counted((9, 0.0), prompts=1), {**IPS, "group_size": 8}),
    # The setup.
    *((DISTINCT[:1], {"beta": 0.1, "kl": kl}) for kl in PASSING_KLS),
    (DISTINCT[:1], {"beta": 0.1, "transform": "other", "scale_rewards": "batch"}),
    *(
        ([{"step": i // 2, "reward": i % 2 * float(i < 2 * mixed)} for i in range(20)], {})
        for mixed in (0, 3, 9)
    ),
    *(([{"reward": 1.0, "truncated": i < cut} for i in range(10)], {}) for cut in (0, 1, 9)),
    ([{"reward": 1.0, "num_tokens": 5 + i, "ref_logprob": -1.5} for i in range(40)], {}),
    # Over training.
    (course(4, 4, 4, 4), {}),
    (course(4, 4, 3, 2), {}),
    (course(6, 6, 5, 4), {}),
    (drifting((1.0, 0.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)), {}),
    (drifting((1.0, 0.0), (0.9, 0.5), (0.75, 1.0), (0.7, 1.5)), {}),
    (drifting((1.0, 0.0), (0.8, 1.0), (0.5, 1.0), (0.3, 1.0)), {"beta": 0.0}),
]


@cache
def answers() -> dict[str, dict[str, str]]:
    """By check the states that it has answered with in all cases, and what it said there."""
    found: dict[str, dict[str, str]] = {code: {} for code in CODES}
    for rows, settings in CASES:
        for finding in run(rows, AuditConfig.model_validate(settings)).findings:
            found[finding.code][NAMES[finding.state]] = finding.summary
    return found


@pytest.mark.parametrize("code", CODES)
def test_a_page_documents_the_states_that_its_check_answers_with(code: str) -> None:
    assert set(documented(code)) == set(answers()[code]), answers()[code]
