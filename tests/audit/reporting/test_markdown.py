"""The summary in Markdown says what the terminal's does, and nothing of a log is obeyed in it."""

import re

from allmodes.audit import AuditConfig, run
from allmodes.audit.reporting.markdown_summary import _text, markdown_summary
from allmodes.audit.reporting.overview import verdict_line

HOSTILE = "<img src=x> | [a](http://b) *c* `d"


def test_every_check_is_named_once_and_the_answer_stands_first() -> None:
    rows = [
        {"step": step, "prompt": HOSTILE, "outcome": str(i % (3 - step)), "reward": float(i % (3 - step) < 2)}
        for step in range(2)
        for i in range(12)
    ]
    audit = run(rows, AuditConfig(beta=0.0))
    text = markdown_summary(audit, name=HOSTILE)
    assert text.startswith("## Will this objective collapse? Yes.\n\n")
    assert text.endswith("\n")
    assert verdict_line(audit).split(". ")[1][:20] in text
    heads = re.findall(r"^(?:\| (?:issue|tip) \| |- [*a-z ]+: )((?:AM\d+(?:, )?)+)", text, re.MULTILINE)
    assert sorted(", ".join(heads).split(", ")) == [finding.code for finding in audit.findings]
    assert f"{audit.counts['skipped']} not tested" in text
    assert "<img" not in text
    assert r"&lt;img src=x&gt; \| \[a\](http://b) \*c\* \`d: 24 samples" in text


def test_backticks_in_pairs_are_code_and_others_are_text() -> None:
    assert _text("set `a|b_c` above 0_1") == r"set `a\|b_c` above 0\_1"
    assert _text("a ` b\nc") == r"a \` b c"
    assert _text("x" * 900).count("x") < 900
