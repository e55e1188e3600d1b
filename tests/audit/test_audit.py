"""Audits of samples in memory."""

from collections.abc import Iterator
from typing import Any

import pytest

from allmodes.audit import CHECKS, run
from allmodes.audit.audit import audit_source
from allmodes.audit.config import AuditConfig
from allmodes.audit.logs.formats import map_columns
from allmodes.audit.logs.reading import merged_row
from allmodes.audit.logs.sources import RecordSource
from allmodes.errors import InputError
from allmodes.metrics import ead
from allmodes.metrics.text import words


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


def test_a_column_that_the_first_rows_lack() -> None:
    rows = [{"prompt": "p", "step": 0}, {"prompt": "p", "reward": None}]
    audit = run(rows + [{"response": str(i), "reward": float(i % 2), "outcome": None} for i in range(8)])
    assert set(audit.columns.sources) == {"prompt", "step", "response", "reward", "outcome"}
    assert audit.log.rewards is not None
    assert audit.log.rewards.nansum() == 4


def test_ngrams_of_a_large_group_are_those_of_its_first_samples() -> None:
    texts = [f"sample {i} of many" for i in range(256)] + ["the same again"] * 200
    rows = [
        {"response": text, "step": step, "prompt": p} for step in range(2) for text in texts for p in "ab"
    ]
    values = run(rows).evidence.curves.series("ead")[1]
    expected = ead([words(text) for text in texts[:256]], vocabulary_size=50257)
    assert values.tolist() == pytest.approx([expected] * 4)


def test_a_log_that_is_cut_while_it_is_read() -> None:
    rows = [{"response": str(i), "step": i // 8, "reward": 1.0} for i in range(64)]

    class Shrinking(list[dict[str, Any]]):
        """Whole until n-grams are counted, for which texts are read again."""

        passes = 0

        def __iter__(self) -> Iterator[dict[str, Any]]:
            self.passes += 1
            return iter(self[:60] if self.passes > 2 else self[:])

    source = RecordSource([])
    source._records = Shrinking(rows)
    with pytest.raises(InputError, match="its rows changed"):
        audit_source(source, map_columns(merged_row(source)), AuditConfig())


@pytest.mark.parametrize("records", [[], [1, 2]])
def test_nothing_to_audit(records: list[Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        run(records)


def test_codes_are_unique() -> None:
    codes = [check.code for check in CHECKS]
    assert sorted(set(codes)) == codes
