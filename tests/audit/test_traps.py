"""Logs with one trap each: a clean log raises nothing, and each planted trap raises its own check alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from allmodes.audit import CHECKS, run
from allmodes.audit.config import AuditConfig

SETTINGS = {
    "trainer": "trl", "beta": 0.01, "transform": "mara", "threshold": 0.5, "kl": "k1-in-reward",
    "scale_rewards": "none", "group_size": 16, "max_tokens": 64,
}  # fmt: skip


def clean_log(*, prompts: int = 12, steps: int = 40, group: int = 16) -> list[dict[str, Any]]:
    """Four good answers, about equally likely, and three bad ones, of all lengths; nothing changes."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.16, 0.15, 0.14, 0.15, 0.15, 0.13, 0.12])

    def drawn(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    rows = []
    for step in range(steps):
        for prompt in range(prompts):
            for answer in torch.multinomial(weights, group, replacement=True, generator=generator).tolist():
                tokens = drawn(4, 60)
                rows.append(
                    {
                        "prompt": f"question {prompt}",
                        "response": f"{answer}, said in {tokens} tokens of kind {drawn(0, 10**6)}",
                        "outcome": str(answer),
                        "reward": float(answer < 4),
                        "ref_logprob": -1.5 * tokens - (drawn(0, 5) if step else 0),
                        "policy_logprob": -1.5 * tokens if step == 0 else -1.4 * tokens - drawn(0, 5),
                        "step": step,
                        "num_tokens": tokens,
                        "truncated": False,
                    }
                )
    return rows


CLEAN = clean_log()


def raised(rows: list[dict[str, Any]], **settings: Any) -> set[str]:
    audit = run(rows, AuditConfig.model_validate({**SETTINGS, **settings}))
    return {finding.code for finding in audit.findings if finding.state in ("issue", "tip")}


def test_a_clean_log_raises_nothing_and_skips_nothing() -> None:
    audit = run(CLEAN, AuditConfig.model_validate(SETTINGS))
    assert {f.code: f.summary for f in audit.findings if f.state in ("issue", "tip", "skipped")} == {}
    assert [f.code for f in audit.findings] == [check.code for check in CHECKS]
    assert all(f.summary for f in audit.findings)
    assert not any(f.remedy for f in audit.findings)


def with_value(name: str, value: Callable[[int, dict[str, Any]], Any]) -> Any:
    return lambda rows: [{**row, name: value(index, row)} for index, row in enumerate(rows)]


def moved(answers: str, to: str, *, but_every: int, **rest: Any) -> Any:
    """Samples of some answers become those of another, but for every so many."""
    return lambda rows: [
        {**row, "outcome": to, **rest} if row["outcome"] in answers and index % but_every else row
        for index, row in enumerate(rows)
    ]


def graded(rewards: dict[str, float]) -> Any:
    return with_value("reward", lambda i, row: rewards.get(row["outcome"], 0.0))


def at_once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without steps, so that all samples tell what the reference is."""
    hidden = ("step", "ref_logprob", "policy_logprob")
    return [{name: value for name, value in row.items() if name not in hidden} for row in rows]


def unequal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer 0 is two to three times as likely as other good ones."""
    answers = [
        "0" if row["outcome"] in "123" and i % 4 == 0 else row["outcome"] for i, row in enumerate(rows)
    ]
    return [{**row, "outcome": answer} for row, answer in zip(at_once(rows), answers, strict=True)]


def near_the_flip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer 1 is better by 0.01 than answer 0, which is three times as likely: they flip at 0.01/log 3."""
    rewards = {"0": 0.99, "1": 1.0, "2": 0.98, "3": 0.98}
    return graded(rewards)(moved("1", "0", but_every=2)(at_once(rows)))


def lean(index: int, row: dict[str, Any]) -> str:
    """Every other answer becomes 0 late; the rest are as different as they were."""
    return "0" if late(row) and index % 2 else row["outcome"]


def invalid(index: int, row: dict[str, Any]) -> str | None:
    return None if late(row) and index % 2 else row["outcome"]


def the_same(index: int, row: dict[str, Any]) -> str:
    return "the same" if late(row) else row["response"]


def late(row: dict[str, Any]) -> bool:
    return row["step"] >= 25


def poorer(index: int) -> str:
    """A response that no other of its group repeats, and that has nothing else of its own."""
    return f"{index % 16}, said in 9 tokens of kind 7"


def paired(index: int) -> str:
    """A response of many words, the same for two samples of a group."""
    return " ".join(f"word{(index // 2) * 40 + i}" for i in range(40))


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log-probabilities of the reference alone, per token."""
    return [
        {**{name: value for name, value in row.items() if name != "policy_logprob"},
         "ref_logprob": row["ref_logprob"] / row["num_tokens"]}
        for row in rows
    ]  # fmt: skip


def without_outcomes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "outcome"} for row in rows]


PLAIN = {"transform": "none", "threshold": None, "good": 0.5}
QUANTILE = {**PLAIN, "threshold_quantile": 0.9}
IPS = {**PLAIN, "transform": "ips", "good": 0.3, "group_size": 5}
# Each trap: what is done to the log, what is set, and exactly which check raises; where one figure cannot
# fall without another, both.
TRAPS: list[tuple[str, Any, dict[str, Any], set[str]]] = [
    ("none, without a transform", lambda rows: rows, PLAIN, set()),
    ("rows that cannot be used", with_value("reward", lambda i, row: row["reward"] if i % 50 else "much"), {},
     {"AM001"}),
    ("written twice", lambda rows: rows[:2000] + rows[1800:2000] + rows[2000:], {}, {"AM002"}),
    ("begins late", lambda rows: [row for row in rows if row["step"] > 9], {}, {"AM003"}),
    ("rewards too far apart for β", graded({"0": 1.0, "1": 0.95, "2": 0.9, "3": 0.9}), PLAIN, {"AM010"}),
    ("unequal reference", unequal, PLAIN, {"AM011"}),
    ("both", moved("123", "0", but_every=8), PLAIN, {"AM010", "AM011"}),
    ("the best two near their flip", near_the_flip, PLAIN, {"AM012"}),
    ("one good answer", with_value("reward", lambda i, row: float(row["outcome"] == "0")), {}, {"AM020"}),
    ("large bonus", moved("123", "0", but_every=16), {"beta": 0.8}, {"AM021"}),
    ("bonus by length", without_outcomes, {"group_size": 4096}, {"AM022"}),
    ("β above the bound", moved("0123", "4", but_every=3, reward=0.0), {"beta": 0.6}, {"AM023"}),
    ("small groups", moved("123", "0", but_every=8), {"group_size": 2}, {"AM024"}),
    ("small groups and IPS", graded({"0": 1.0, "1": 0.8, "2": 0.6, "3": 0.4, "4": 0.2}), IPS, {"AM030"}),
    ("groups of two and DARLING", lambda rows: rows, {**PLAIN, "transform": "darling", "group_size": 2},
     {"AM030"}),
    ("scaled", lambda rows: rows, {"scale_rewards": "group", "kl": "k3-in-loss-corrected"},
     {"AM040", "AM041"}),
    ("KL per token with MARA", lambda rows: rows, {"kl": "k3-in-loss-corrected"}, {"AM041"}),
    ("KL per token", lambda rows: rows, {**PLAIN, "kl": "k2-in-loss"}, {"AM041"}),
    ("forward KL", lambda rows: rows, {"kl": "k3-in-loss"}, {"AM041"}),
    ("idle", with_value("reward", lambda i, row: 1.0 if row["step"] % 4 else row["reward"]), {}, {"AM042"}),
    ("truncated", with_value("truncated", lambda i, row: i % 8 == 0), {}, {"AM043"}),
    ("quantile", with_value("reward", lambda i, row: float(i % 20 == 0)), QUANTILE, {"AM044"}),
    ("means", means, {}, {"AM045"}),
    ("one answer in two", with_value("outcome", lean), {}, {"AM050"}),
    ("collapse", with_value("outcome", lambda i, row: "0" if late(row) else row["outcome"]), {},
     {"AM050", "AM051"}),
    ("fewer valid answers", with_value("outcome", invalid), {}, {"AM051"}),
    ("fewer words", with_value("response", lambda i, row: poorer(i) if late(row) else row["response"]), {},
     {"AM052"}),
    ("repeats", with_value("response", lambda i, row: paired(i) if late(row) else row["response"]), {},
     {"AM053"}),
    ("the same again", with_value("response", the_same), {}, {"AM052", "AM053"}),
    ("worse", with_value("reward", lambda i, row: row["reward"] * (0.8 if late(row) else 1)), {}, {"AM060"}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "settings", "codes"), [t[1:] for t in TRAPS], ids=[t[0] for t in TRAPS])
def test_a_planted_trap_raises_its_own_check(change: Any, settings: dict[str, Any], codes: set[str]) -> None:
    assert raised(change(CLEAN), **settings) == codes
