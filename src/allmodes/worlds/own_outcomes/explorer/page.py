"""The explorer's page: one HTML file with its style, its programs and a user's outcomes in it."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allmodes.checks import check_positive
from allmodes.errors import InputError, RunError
from allmodes.methods import KL, Method, recipe_fields
from allmodes.reports.pages import made_by
from allmodes.reports.plotting import distinct_colors
from allmodes.runs.files import write_text
from allmodes.worlds.own_outcomes.explorer.snippets import trl_snippet, verl_snippet
from allmodes.worlds.own_outcomes.objectives import Objective, objectives_of
from allmodes.worlds.own_outcomes.table import OutcomeTable, read_outcomes

_FOLDER = Path(__file__).parent
_ENGINE = ("numerics.js", "optima.js", "outcomes.js", "worker.js")  # what also runs beside the page
_VIEW = ("state.js", "choice.js", "bars.js", "warnings.js", "view.js")
_MOST_OUTCOMES = 100_000  # as in outcomes.js
_SIGN = '<meta name="generator" content="allmodes explore">'  # a page of this command may be replaced
_LARGEST_GROUP = 64  # group sizes that methods are asked for a warning


def write_explorer(
    file: Path, *, out: Path, beta: float, threshold: float | None, kl: KL, normalise: bool
) -> None:
    """Write the explorer of a file of outcomes as one HTML page that needs no network.

    Raises InputError for a wrong file, or one of more than 100,000 outcomes, and RunError if `out` is a
    file that is no such page, or cannot be written.
    """
    check_positive("beta", beta)
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"`threshold` must be a finite number; got {threshold}")
    table = read_outcomes(file, normalise=normalise)
    if len(table.names) > _MOST_OUTCOMES:
        raise InputError(
            f"{file}: expected at most {_MOST_OUTCOMES:,} outcomes for a page; got {len(table.names):,}; "
            "`allmodes target` takes any number"
        )
    if out.exists() and not (out.is_file() and _SIGN.encode() in out.read_bytes()[:4096]):
        raise RunError(f"{out}: expected a new file, or a page of `allmodes explore`; choose another --out")
    choice = {"beta": beta, "tau": threshold, "kl": kl}
    write_text(out, explorer_page(table, name=file.name, normalise=normalise, choice=choice))


def explorer_page(table: OutcomeTable, *, name: str, normalise: bool, choice: Mapping[str, Any]) -> str:
    """The page. name: of the file, for the command. choice: beta, tau (None leaves it to the page) and kl."""
    data = {
        "file": name,
        "isRescaled": normalise,
        "names": table.names,
        "rewards": table.rewards.tolist(),
        "logRef": [value if math.isfinite(value) else None for value in table.ref_logprobs.tolist()],
        "choice": choice,
        "methods": method_records(),
    }
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    engine, view = (
        "".join((_FOLDER / script).read_text(encoding="utf-8") for script in scripts)
        for scripts in (_ENGINE, _VIEW)
    )
    made, made_with = made_by()
    parts = {
        "sign": _SIGN,
        "policy": "; ".join(
            (
                "default-src 'none'",
                f"style-src {_hash(style)}",
                f"script-src {_hash(engine)} {_hash(view)}",
                "worker-src blob:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        "made": html.escape(made),
        "made_with": html.escape(made_with),
        "style": style,
        "data": _embedded(data),
        "engine": engine,
        "view": view,
    }
    template = (_FOLDER / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\[\[(\w+)\]\]", lambda found: parts[found[1]], template)  # once: data may hold any text


def method_records() -> list[dict[str, Any]]:
    """What the page knows of each of `METHODS`, and of MARA with the rewards for a forward KL."""
    objectives: list[Objective] = []
    for objective in objectives_of(["all"], 1.0):
        objectives += [objective] if objective.corrected is None else [objective, objective.corrected]
    colors = distinct_colors({objective.name: objective.method.color for objective in objectives})
    return [_record(objective, colors[objective.name]) for objective in objectives]


def _record(objective: Objective, color: str) -> dict[str, Any]:
    method, fields = objective.method, recipe_fields(type(objective.method))
    kls: tuple[KL, ...] = ("reverse", "forward")
    return {
        "name": objective.name if objective.is_corrected else method.name,
        "label": f"{method.label}, {objective.label}" if objective.is_corrected else objective.label,
        "color": color,
        "law": method.law,
        "source": method.source,
        "takesThreshold": "threshold" in fields,
        "forwardOnly": objective.is_corrected,
        "settings": {key: getattr(method, key) for key in fields if key != "threshold"},
        "minGroup": method.min_group_size,
        "groupWarnings": _group_warnings(method),
        "trl": {kl: trl_snippet(method, kl) for kl in kls},
        "verl": {kl: verl_snippet(method, kl) for kl in kls},
    }


def _group_warnings(method: Method) -> dict[int, str]:
    found = {size: method.group_warning(size) for size in range(1, _LARGEST_GROUP + 1)}
    return {size: warning for size, warning in found.items() if warning is not None}


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that no element of a page can end: a name such as </script> is only text."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    """The source expression that lets this very text run and no other."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
