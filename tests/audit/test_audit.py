"""All checks over one log: a clean log raises none, and each planted trap raises its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from allmodes.audit import CHECKS, run
from allmodes.errors import InputError
from allmodes.runs.audit_config import AuditConfig

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


def skewed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer 0 for three of four samples of the other good answers."""
    return [
        {**row, "outcome": "0"} if row["outcome"] in "123" and index % 8 else row
        for index, row in enumerate(rows)
    ]


def with_value(name: str, value: Callable[[int, dict[str, Any]], Any]) -> Any:
    return lambda rows: [{**row, name: value(index, row)} for index, row in enumerate(rows)]


def late(row: dict[str, Any]) -> bool:
    return row["step"] >= 25


QUANTILE = {"threshold": None, "threshold_quantile": 0.9, "good": 0.5, "transform": "none"}


def poorer(index: int) -> str:
    """A response that no other of its group repeats, and that has nothing else of its own."""
    return f"{index % 16}, said in 9 tokens of kind 7"


def mean_later(index: int, row: dict[str, Any]) -> float:
    """A mean over tokens, from step 1 on: at step 0 policy and reference are one."""
    return -1 - (index % 9) / 9 if row["step"] else row["ref_logprob"]


# Each trap: what is done to the log, what is set, and exactly which checks raise.
TRAPS: list[tuple[str, Any, dict[str, Any], set[str]]] = [
    ("none, without a transform", lambda rows: rows, {"transform": "none"}, set()),
    ("uneven optimum", skewed, {"transform": "none"}, {"AM010", "AM011"}),
    ("one good answer", with_value("reward", lambda i, row: float(row["outcome"] == "0")), {}, {"AM020"}),
    ("scaled", lambda rows: rows, {"scale_rewards": "group", "kl": "k3-in-loss-corrected"}, {"AM040"}),
    ("forward KL", lambda rows: rows, {"kl": "k3-in-loss"}, {"AM041"}),
    ("idle", with_value("reward", lambda i, row: 1.0 if row["step"] % 4 else row["reward"]), {}, {"AM042"}),
    ("truncated", with_value("truncated", lambda i, row: i % 8 == 0), {}, {"AM043"}),
    ("quantile", with_value("reward", lambda i, row: float(i % 20 == 0)), QUANTILE, {"AM044"}),
    ("means", with_value("policy_logprob", mean_later), {}, {"AM045"}),
    ("late", lambda rows: [row for row in rows if row["step"] > 9], {}, {"AM003"}),
    ("twice", lambda rows: rows[:2000] + rows[1800:2000] + rows[2000:], {}, {"AM002"}),
    ("broken", with_value("reward", lambda i, row: row["reward"] if i % 50 else "much"), {}, {"AM001"}),
    ("collapse", with_value("outcome", lambda i, row: "0" if late(row) else row["outcome"]), {},
     {"AM050", "AM051"}),
    ("repeats", with_value("response", lambda i, row: "the same" if late(row) else row["response"]), {},
     {"AM052", "AM053"}),
    ("fewer words", with_value("response", lambda i, row: poorer(i) if late(row) else row["response"]), {},
     {"AM052"}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "settings", "codes"), [t[1:] for t in TRAPS], ids=[t[0] for t in TRAPS])
def test_a_planted_trap_raises_its_own_check(change: Any, settings: dict[str, Any], codes: set[str]) -> None:
    assert raised(change(CLEAN), **settings) == codes


def test_a_finding_by_its_code() -> None:
    audit = run(CLEAN)
    assert audit.of("AM010").state == "skipped"
    assert "give `--beta`" in audit.of("AM010").summary
    with pytest.raises(InputError, match=r"expected one of AM001, .*; got 'AM999'"):
        audit.of("AM999")


def test_records_by_other_names() -> None:
    rows = [{"question": "q", "text": str(i), "points": float(i % 2)} for i in range(8)]
    audit = run(rows, columns={"prompt": "question", "response": "text", "reward": "points"})
    assert audit.columns.sources["reward"] == "points"
    assert audit.log.rewards is not None


@pytest.mark.parametrize("records", [[], [1, 2]])
def test_nothing_to_audit(records: list[Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        run(records)


def test_codes_are_unique() -> None:
    codes = [check.code for check in CHECKS]
    assert sorted(set(codes)) == codes
