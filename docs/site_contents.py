"""The table of contents of the site: page → caption → the pages below it, in order."""

from pathlib import Path

DOCS = Path(__file__).parent


def _others(folder: str) -> list[str]:
    return sorted(path.stem for path in (DOCS / folder).glob("*.md") if path.stem != "README")


CONTENTS: dict[str, dict[str, list[str]]] = {
    "index": {
        "Guides": [
            "guide/choosing-an-objective",
            "guide/explorer",
            "guide/outcome-matching",
            "guide/own-tasks",
            "guide/real-models",
            "guide/warm-start",
            "guide/trl",
            "guide/verl",
            "guide/flowrl",
            "guide/hypospace",
            "guide/reasoning-gym",
            "guide/noveltybench",
            "guide/audit",
            "guide/audit-beside-others",
            "guide/samples",
            "guide/synth",
            "guide/docking",
            "guide/retrosynthesis",
            "guide/molecules",
            "guide/scoring",
            "own-oracle",
            "guide/benchmarks",
        ],
        "Reference": [
            "api/README",
            "guide/configuration",
            "checks/README",
            "paper_index",
        ],
        "Results": ["demo", "one-two", "audit", "synth", "methods-compared"],
        "Background": ["architecture", "decisions/README", "contributing"],
    },
    "api/README": {
        "": ["targets", "objectives", "metrics", "methods", "integrations", "tasks", "audit", "chem"],
    },
    "checks/README": {"": _others("checks")},
    "decisions/README": {"": _others("decisions")},
}
