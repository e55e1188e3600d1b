"""Hit pages of a report: a drawing, all values, the docked pose and the route of one molecule each."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from rdkit import Chem

from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.results import Hit
from allmodes.chem.oracles.components import DockingSettings, RetrosynthesisComponent
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.figures import draw_molecule
from allmodes.chem.reporting.oracle_description import labels, short
from allmodes.chem.reporting.pose_figures import Frame, common_frame, draw_pose, read_poses
from allmodes.chem.retrosynthesis.drawing import draw_route
from allmodes.reports.formatting import listing, plural


@final
@dataclass(frozen=True, kw_only=True)
class HitPage:
    """What one page shows.

    anchor: its address in the file, of letters, digits and hyphens. origin: where the molecule is from.
    """

    anchor: str
    title: str
    origin: str
    evaluation: Evaluation


def worth_a_page(hits: Sequence[Hit], *, most: int) -> list[LedgerRow]:
    """Up to `most` hits, given best first: the best of each circle first, then the others."""
    centres = [hit.row for hit in hits if hit.circle is not None]
    others = [hit.row for hit in hits if hit.circle is None]
    return [*centres, *others][:most]


def render_hits(oracle: OracleConfig, pages: Sequence[HitPage]) -> list[dict[str, Any]]:
    """The values of each page for the template `hits.html`; all poses of a component share one view."""
    docking = [c.name for c in oracle.components if isinstance(c, DockingSettings)]
    poses = {
        (page.anchor, name): read_poses(text)
        for page in pages
        for name in docking
        if (text := page.evaluation.details.get(name, {}).get("poses"))
    }
    frames = {}
    for name in docking:
        best = [found[0] for (_, of), found in poses.items() if of == name and found]
        if best:
            frames[name] = common_frame(best)
    return [
        {
            "anchor": page.anchor,
            "title": page.title,
            "origin": page.origin,
            "smiles": page.evaluation.smiles,
            "svg": draw_molecule(page.evaluation.smiles, width=460, height=300, bond=32),
            "reward": f"{page.evaluation.reward:.3f}",
            "values": _values(oracle, page.evaluation),
            "poses": [
                _pose(page, name, poses[page.anchor, name], frames.get(name))
                for name in docking
                if (page.anchor, name) in poses
            ],
            "routes": _routes(oracle, page.evaluation),
        }
        for page in pages
    ]


def _values(oracle: OracleConfig, evaluation: Evaluation) -> list[dict[str, str]]:
    return [
        {
            "name": label,
            "raw": short(evaluation.raw[name]),
            "score": f"{evaluation.shaped[name]:.3f}",
            "width": f"{100 * evaluation.shaped[name]:.1f}",
        }
        for name, label in labels(oracle).items()
    ]


def _pose(page: HitPage, name: str, poses: Sequence[Chem.Mol], frame: Frame | None) -> dict[str, Any]:
    text = page.evaluation.details[name]["poses"]
    scores = [pose.GetProp("docking_score") for pose in poses if pose.HasProp("docking_score")]
    return {
        "name": name,
        "svg": draw_pose(poses[0], frame) if poses and frame is not None else None,
        "caption": f"Best of {plural(len(poses), 'pose')}" if len(poses) > 1 else "The only pose kept",
        "scores": listing([short(float(score)) for score in scores]),
        "link": "data:chemical/x-mdl-sdfile;base64," + base64.b64encode(text.encode()).decode(),
        "file": f"{page.anchor}.sdf",
    }


def _routes(oracle: OracleConfig, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Each retrosynthesis component's answer as text, and its drawing where there is a route."""
    routes = []
    for component in oracle.components:
        found = evaluation.details.get(component.name)
        if not isinstance(component, RetrosynthesisComponent) or not found:
            continue
        if not found["solved"]:
            words = "No route was found within the limits of the search."
        elif found["steps"] == 0:
            words = "The stock holds the molecule itself: no step is needed."
        else:
            words = f"{plural(found['steps'], 'step')}: {listing(found['classes'])}."
        routes.append(
            {
                "name": component.name,
                "words": words,
                "svg": draw_route(found["route"]) if found["solved"] and found["steps"] else None,
                "is_stand_in": component.has_shipped_stock,
            }
        )
    return routes
