"""Audits of samples in memory."""

from typing import Any

import pytest

from allmodes.audit import CHECKS, run
from allmodes.errors import InputError


def test_a_finding_by_its_code() -> None:
    audit = run([{"response": str(i), "outcome": str(i % 2), "reward": float(i % 2)} for i in range(8)])
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
