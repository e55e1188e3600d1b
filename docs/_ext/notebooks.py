"""Notebooks as pages: Python files in the percent format, executed when the site is built.

A cell begins with `# %%`, or with `# %% [markdown]` where it is text. What code prints stands below it.
"""

import contextlib
import io
import re
from typing import Any


def to_markdown(script: str) -> str:
    """Text as it is, code in blocks, each with what it printed when all cells were run in order."""
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = []
    for kind, body in cells(script):
        if kind == "[markdown]":
            parts.append(re.sub(r"^# ?", "", body, flags=re.MULTILINE))
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(body, "<notebook>", "exec"), names)  # noqa: S102  # the file is one of the documentation
        parts.append(f"```python\n{body}\n```")
        if printed.getvalue():
            parts.append(f"```text\n{printed.getvalue().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def cells(script: str) -> list[tuple[str, str]]:
    """Kind and content of each cell: "[markdown]" or ""."""
    pieces = re.split(r"^# %%(.*)\n", script, flags=re.MULTILINE)
    return [(kind.strip(), body.strip()) for kind, body in zip(pieces[1::2], pieces[2::2], strict=True)]
