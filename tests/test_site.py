"""What the site makes of docstrings and notebooks; `make docs` builds all of it in CI."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def docstrings(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("trl")  # its integration is one of the packages that texts lead to
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module("docstrings")


DOCSTRING = """Give every good sample the same height.

z = argmax_{i: R(y_i) ≥ τ} log π_ref(y_i)
r̄_i = R(z)   where R(y_i) ≥ τ

rewards, ref_logprobs: (N,), nats. A NaN stays NaN. mask: (N,), False keeps a sample out.

>>> mara_rewards(rewards, ref_logprobs)
tensor([1.])
"""


def test_a_docstring_is_prose_formulas_and_examples(docstrings: Any) -> None:
    rst = docstrings.to_rst(inspect.cleandoc(DOCSTRING), ["rewards", "ref_logprobs", "mask"])
    assert rst == (
        "Give every good sample the same height.\n\n"
        # Lines of a formula stay lines, and nothing in them is escaped.
        "::\n\n    z = argmax_{i: R(y_i) ≥ τ} log π_ref(y_i)\n    r̄_i = R(z)   where R(y_i) ≥ τ\n\n"
        "``rewards``, ``ref_logprobs``: (N,), nats. A NaN stays NaN. "
        "``mask``: (N,), False keeps a sample out.\n\n"
        ">>> mara_rewards(rewards, ref_logprobs)\ntensor([1.])\n"
    )


@pytest.mark.parametrize(
    ("text", "rst"),
    [
        ("A name_ and a * b|c.", "A name\\_ and a \\* b\\|c.\n"),
        ("The *least* likely.", "The *least* likely.\n"),
        (
            "Use `entropy_rewards` or `other`s.",
            ":py:obj:`entropy_rewards <allmodes.objectives.entropy_rewards>`",
        ),
        ("One.\n\n    code(1)", "One.\n\n::\n\n    code(1)\n"),
    ],
)
def test_marks_of_restructuredtext_are_text(docstrings: Any, text: str, rst: str) -> None:
    assert rst in docstrings.to_rst(text)


def test_a_notebook_shows_its_text_its_code_and_what_that_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    notebooks = importlib.import_module("notebooks")
    script = "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1\n\n# %%\nprint(x + 1)\n"
    assert notebooks.to_markdown(script) == (
        "# Title\n\nText.\n\n```python\nx = 1\n```\n\n```python\nprint(x + 1)\n```\n\n```text\n2\n```\n"
    )
    with pytest.raises(ZeroDivisionError):  # a notebook that fails stops the build
        notebooks.to_markdown("# %%\n1 / 0\n")
