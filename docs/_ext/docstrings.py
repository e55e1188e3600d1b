"""Docstrings as reStructuredText. They are plain text with four kinds of paragraphs, which this separates.

An example begins with >>>; what is indented is code; what does not end as a sentence does is a formula; all
else is prose, in which `name` is code, *word* is stressed, and arguments before a colon are code, too.
"""

import importlib
import inspect
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


PACKAGES = (
    "allmodes.targets",
    "allmodes.objectives",
    "allmodes.metrics",
    "allmodes.methods",
    "allmodes.tasks",
    "allmodes.audit",
    "allmodes.integrations.trl",
)
# Public name → where it is, so that a name in a text leads to its entry.
PUBLIC = {
    name: f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__
}


def to_rst(docstring: str, arguments: Collection[str] = ()) -> str:
    """The docstring, without common indentation, as reStructuredText; `arguments` are the object's."""
    first, *rest = re.split(r"\n\s*\n", docstring.strip("\n"))
    return (
        "\n\n".join(
            [
                _prose(first, arguments if ": " in first else ()),
                *(_paragraph(text, arguments) for text in rest),
            ]
        )
        + "\n"
    )


def _paragraph(text: str, arguments: Collection[str]) -> str:
    if text.startswith(">>>"):
        return text
    if text.startswith(" "):
        return f"::\n\n{text}"
    if text.endswith((".", ":", "?")):
        return _prose(text, arguments)
    return "::\n\n" + "\n".join(f"    {line}" for line in text.splitlines())


def _prose(text: str, arguments: Collection[str]) -> str:
    if arguments:
        name = "(?:" + "|".join(map(re.escape, arguments)) + ")"
        text = re.sub(
            rf"(?<![\w.])({name}(?:, {name}|,\n{name}| and {name})*):(?=\s)",
            lambda found: (
                re.sub(r"\w+", lambda one: one[0] if one[0] == "and" else f"`{one[0]}`", found[1]) + ":"
            ),
            text,
        )
    parts = text.split("`")
    parts[0::2] = map(_escaped, parts[0::2])
    parts[1::2] = [
        f":py:obj:`{p} <{PUBLIC[p]}>`" if p in PUBLIC and p not in arguments else f"``{p}``"
        for p in parts[1::2]
    ]
    # Without a blank reStructuredText would not see where a marked word ends.
    for place in range(1, len(parts), 2):
        if re.match(r"\w", parts[place + 1]):
            parts[place + 1] = "\\ " + parts[place + 1]
    return "".join(parts)


def _escaped(text: str) -> str:
    stressed = r"(?<!\S)\*(\w[^*\n]*\w)\*"
    pieces = re.split(stressed, text)
    pieces[0::2] = [re.sub(r"([\\*_|])", r"\\\1", piece) for piece in pieces[0::2]]
    pieces[1::2] = [f"*{piece}*" for piece in pieces[1::2]]
    return "".join(pieces)


def read_docstring(
    app: "Sphinx", what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Sphinx's event autodoc-process-docstring."""
    if any(lines):
        lines[:] = to_rst("\n".join(lines), _arguments(obj)).splitlines()


def _arguments(obj: object) -> list[str]:
    """Longest first, so that none is found inside of another."""
    fields = getattr(obj, "model_fields", None)
    names = list(fields) if fields else list(inspect.signature(obj).parameters) if callable(obj) else []
    return sorted(names, key=len, reverse=True)


def read_signature(
    app: "Sphinx",
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Sphinx's event autodoc-process-signature: none for protocols, nor for tables of a recipe's keys."""
    is_table = hasattr(obj, "model_fields")
    is_protocol = getattr(obj, "_is_protocol", False)
    if is_table or is_protocol:
        return "", None
    # A default that has no spelling, such as <factory>, would keep Sphinx from reading the signature.
    return signature and re.sub(r"<[^<>]*>", "...", signature), returned
