"""Reports: one HTML file that explains itself, offline."""

import importlib.util
from pathlib import Path
from typing import Any

import allmodes
from allmodes.errors import ConfigError


def require_report_extra() -> None:
    """Raise `ConfigError` when what reports are made with is not installed."""
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the report needs `pip install allmodes[report]`; {missing[0]} is not installed")


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
