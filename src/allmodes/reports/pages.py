"""Reports as single HTML files that work offline."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from allmodes.errors import RunError, one_line
from allmodes.extras import require
from allmodes.runs.provenance import PROVENANCE, origin, shown_command


def require_report_extra() -> None:
    """Raise `ConfigError` if the packages for reports are not installed."""
    require("the report needs", "jinja2", "matplotlib", extras="report")


def render_page(template: Path, *, run: Path | None = None, **values: Any) -> str:
    """Render a template with its values, each escaped unless the template says otherwise.

    A template extends `page.html`, which needs title, lead, remarks and colours. run: the folder of the
    page's run, whose start is given in the last line; that of this process if it is None.
    """
    made, command = made_by(run)
    page = _environment(template.parent).get_template(template.name)
    return page.render(made=made, command=command, **values)


@cache
def _environment(folder: Path) -> Any:
    """Of the templates of a folder. It keeps those that it has read, since most pages share most of them."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent / "templates"]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def made_by(run: Path | None = None) -> tuple[str, str]:
    """Version, commit and date as a text, and the command: of a run's start, else of this process.

    A resumed run has those of its start, so its page is that of one that was never stopped. Raises RunError
    for a damaged provenance.json.
    """
    file = None if run is None else run / PROVENANCE
    try:
        facts = (
            origin() if file is None or not file.exists() else json.loads(file.read_text(encoding="utf-8"))
        )
        parts = [f"allmodes {facts['allmodes']}"]
        if facts.get("git_commit") is not None:
            parts.append(f"commit {facts['git_commit']}")
        if "date" in facts:  # older versions did not write it
            parts.append(facts["date"])
        if changes := facts.get("changes"):
            parts.append(f"settings or inputs changed {changes[-1]['when']}")
        return ", ".join(parts), shown_command(facts["command"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file} is damaged: expected what `allmodes run` writes; {one_line(error)}"
        ) from error
