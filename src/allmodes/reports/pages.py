"""Reports: one HTML file that explains itself, offline."""

from pathlib import Path
from typing import Any

import allmodes
from allmodes.extras import require


def require_report_extra() -> None:
    """Raise `ConfigError` when what reports are made with is not installed."""
    require("the report needs", "jinja2", "matplotlib", extras="report")


def render_page(template: Path, **values: Any) -> str:
    """The page of a template with its values, each escaped unless the template says otherwise.

    A template extends `page.html`, which wants title, lead, remarks and colours, and may use `version`.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent / "templates"]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(version=allmodes.__version__, **values)
