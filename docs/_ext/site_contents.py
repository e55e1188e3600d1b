"""The table of contents of the site: page → caption → the pages below it, in order."""

from pathlib import Path

DOCS = Path(__file__).parents[1]


def _others(folder: str) -> list[str]:
    return sorted(path.stem for path in (DOCS / folder).glob("*.md") if path.stem != "README")


CONTENTS: dict[str, dict[str, list[str]]] = {
    "index": {
        "Tutorials": [
            "tutorials/see-the-optimum",
            "tutorials/fix-grpo",
            "tutorials/trl",
            "guide/verl",
            "guide/synth",
            "tutorials/audit-your-log",
        ],
        "Notebooks": ["notebooks/own_outcomes", "notebooks/small_world", "notebooks/audit_log"],
        "Objectives and methods": [
            "guide/choosing-an-objective",
            "guide/explorer",
            "guide/outcome-matching",
            "guide/flowrl",
        ],
        "Language models": [
            "guide/own-tasks",
            "guide/real-models",
            "guide/warm-start",
            "guide/trl",
            "guide/hypospace",
            "guide/reasoning-gym",
            "guide/noveltybench",
        ],
        "Molecules": [
            "own-oracle",
            "guide/docking",
            "guide/retrosynthesis",
            "guide/molecules",
            "guide/scoring",
            "guide/benchmarks",
        ],
        "Audits": ["guide/audit", "guide/samples", "guide/audit-beside-others", "checks/README"],
        "Reference": ["faq", "glossary", "guide/configuration", "api/README", "paper_index"],
        "Results": ["demo", "one-two", "audit", "synth", "methods-compared"],
        "Background": ["architecture", "decisions/README", "contributing"],
    },
    "api/README": {
        "": ["targets", "objectives", "metrics", "methods", "integrations", "tasks", "audit", "chem"],
    },
    "checks/README": {"": _others("checks")},
    "decisions/README": {"": _others("decisions")},
}
