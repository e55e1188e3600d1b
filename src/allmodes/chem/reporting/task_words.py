"""An oracle in the words of a report: its components, what stands in for something else, and its numbers."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from allmodes.chem.oracles.config import (
    Component,
    DockingSettings,
    DoubleSigmoidShaping,
    ExternalDockingComponent,
    FunctionComponent,
    NoShaping,
    OracleConfig,
    ProcessComponent,
    RetrosynthesisComponent,
    Shaping,
    SimilarityComponent,
    SmartsComponent,
    StepShaping,
    SurrogateComponent,
    ValueMappingShaping,
)
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.oracles.store import STORED_KINDS
from allmodes.chem.surrogate import load_surrogate, shipped_surrogate
from allmodes.errors import RunError
from allmodes.reports.formatting import NBSP, listing, plural

_PROPERTIES = {
    "qed": "QED, drug-likeness from 0 to 1",
    "sa_score": "synthetic accessibility, from 1 (easy) to 10 (hard)",
    "logp": "logP after Wildman and Crippen",
    "weight": "molecular weight",
    "tpsa": "topological polar surface area",
    "hbd": "hydrogen-bond donors",
    "rings": "rings",
}
_PROTONATION = {"ph7.4": "protonated as at pH 7.4", "as_written": "protonated as written"}


def describe_component(component: Component) -> dict[str, str]:
    """A row of the table of components: name, raw value, shaping, weight; files without folders."""
    if isinstance(component, SimilarityComponent):
        what = "similarity to " + ", ".join(component.references)
    elif isinstance(component, SmartsComponent):
        what = "matches " + " or ".join(component.patterns)
    elif isinstance(component, FunctionComponent):
        what = f"function {component.function}"
    elif isinstance(component, ProcessComponent):
        what = f"program {_command(component.command)}"
    elif isinstance(component, DockingSettings):
        what = _docking(component)
    elif isinstance(component, RetrosynthesisComponent):
        what = _retrosynthesis(component)
    elif isinstance(component, SurrogateComponent):
        what = _surrogate(component)
    else:
        what = _PROPERTIES.get(component.kind, component.kind)
    return {
        "name": component.name,
        "what": what,
        "shaping": _shaping(component.shaping),
        "weight": _number(component.weight),
    }


def describe_aggregation(oracle: OracleConfig) -> str:
    """How the scores of the components become the reward."""
    how = oracle.aggregation.replace("_", " ")
    if len({component.weight for component in oracle.components} | {1.0}) == 1:
        return f"The reward is the {how} of the scores."
    if oracle.aggregation == "product":
        return "The reward is the product of the scores, each to the power of its weight."
    return f"The reward is the weighted {how} of the scores."


def is_stand_in(component: Component) -> bool:
    """Whether a component's routes end in what stands in for a real catalogue: the shipped stock."""
    return isinstance(component, RetrosynthesisComponent) and component.stock is None


def labels(oracle: OracleConfig) -> dict[str, str]:
    """By name, how results of each component are headed: a stand-in is called one."""
    return {c.name: c.name + _stands_in(c) for c in oracle.components}


def _stands_in(component: Component) -> str:
    if isinstance(component, SurrogateComponent):
        return " (stand-in)"
    return " (stand-in stock)" if is_stand_in(component) else ""


def oracle_remarks(oracle: OracleConfig) -> list[str]:
    """What a reader must know before believing the numbers."""
    remarks = []
    docking = [f"“{c.name}”" for c in oracle.components if isinstance(c, DockingSettings)]
    if docking:
        remarks.append(f"{listing(docking)}: docking scores, a stand-in for measured affinity.")
    regressions = [f"“{c.name}”" for c in oracle.components if isinstance(c, SurrogateComponent)]
    if regressions:
        remarks.append(
            f"{listing(regressions)}: predicted by a regression, a stand-in for the scorer that it "
            "was fitted to."
        )
    shipped = [f"“{c.name}”" for c in oracle.components if is_stand_in(c)]
    if shipped:
        remarks.append(
            f"{listing(shipped)}: routes end in the stock that comes with allmodes, a stand-in for a "
            "supplier's catalogue. A route shows how a molecule could be made from it, not that anybody "
            "sells what it begins with."
        )
    return remarks


def _surrogate(component: SurrogateComponent) -> str:
    path = shipped_surrogate() if component.model is None else component.model
    try:
        card = load_surrogate(path)[1]
    except RunError:  # moved since the run: the rest of the report is worth having
        return f"surrogate {path.name}, which cannot be read"
    return (
        f"surrogate {path.name}: ridge regression, fitted to {card.target} of "
        f"{plural(card.molecules, 'molecule')}; held-out error (RMSE) {card.rmse:.2f} where the scores have "
        f"a standard deviation of {card.spread:.2f}, R² {card.r2:.2f}"
    )


def oracle_settings(oracle: OracleConfig) -> list[tuple[str, str]]:
    """Settings of the oracle that are no component's."""
    where = "" if oracle.ray is None else ", through Ray"
    settings = [("Oracle workers", f"{plural(oracle.workers, 'molecule')} scored at once{where}")]
    if any(component.kind in STORED_KINDS for component in oracle.components):
        settings.append(("Results store", _store(oracle.store)))
    return settings


def raw_values(oracle: OracleConfig, evaluation: Evaluation) -> list[tuple[str, str]]:
    """Label and raw value of each component that has one, in the order of the configuration."""
    return [(label, short(evaluation.raw[n])) for n, label in labels(oracle).items() if n in evaluation.raw]


def short(value: float) -> str:
    """A number in three digits or so, with a true minus sign."""
    whole = value.is_integer() or 1000 <= abs(value) < 1e9
    text = f"{value:,.0f}" if whole else f"{value:#.3g}".removesuffix(".")
    return text.replace("-", "−")


def without_folders(text: str) -> str:
    """The text with absolute paths cut down to their last part: a report is shared, a home folder is not."""
    return re.sub(r"(?:(?<=^)|(?<=[\s'\"(=]))/(?:[^\s/'\"]+/)+", "…/", text)


def _command(words: Sequence[str]) -> str:
    return " ".join(PurePath(part).name or part for part in words)


def _docking(component: DockingSettings) -> str:
    if isinstance(component, ExternalDockingComponent):
        engine = f"best score of {_command(component.command)} in kcal/mol"
    else:
        engine = "best AutoDock Vina score in kcal/mol"
    box = component.box
    sides = (box.size,) * 3 if isinstance(box.size, float | int) else box.size
    if box.center is None:
        middle = "the middle of " + (box.reference_ligand.name if box.reference_ligand else "")
    else:
        middle = f"({', '.join(map(_number, box.center))})"
    return (
        f"{engine}; receptor {component.receptor.name}; box of "
        f"{f'{NBSP}×{NBSP}'.join(f'{side:g}' for side in sides)}{NBSP}Å around {middle}; "
        f"exhaustiveness {component.exhaustiveness}, seed {component.seed}; "
        f"{_PROTONATION[component.protonation]}; at most {plural(component.max_torsions, 'torsion')}"
    )


def _retrosynthesis(component: RetrosynthesisComponent) -> str:
    stock = component.stock.name if component.stock else "shipped: a stand-in for a catalogue"
    templates = component.templates.name if component.templates else "shipped with allmodes"
    source = f"templates: {templates}" if component.model is None else f"model: {component.model.name}"
    allowed = " or ".join(component.reactions) or "any"
    return (
        f"1 when Retro* finds a route to purchasable molecules, else 0; stock: {stock}; {source}; "
        f"reactions: {allowed}; at most {plural(component.max_steps, 'reaction')} in a row and "
        f"{plural(component.max_expansions, 'molecule')} taken apart"
    )


def _store(store: str | None) -> str:
    """Where results are kept, without folder, host or password."""
    if store is None:
        return "of this run alone"
    scheme, is_url, rest = store.partition("://")
    if is_url and not scheme.startswith("sqlite"):
        return f"shared, a {'PostgreSQL' if scheme.startswith('postgresql') else scheme} database"
    return f"shared, {PurePath(rest if is_url else store).name}"


def _shaping(shaping: Shaping) -> str:
    if isinstance(shaping, NoShaping):
        return "none: the raw value is the score"
    if isinstance(shaping, ValueMappingShaping):
        scores = (f"{_number(float(text))} to {_number(score)}" for text, score in shaping.mapping.items())
        return f"value mapping: {', '.join(scores)}; any other value is a failure"
    low, high = (None if value is None else _number(value) for value in (shaping.low, shaping.high))
    if isinstance(shaping, StepShaping):
        bound = (
            f"from {low} up" if high is None else f"up to {high}" if low is None else f"from {low} to {high}"
        )
        return f"step: 1 {bound}, else 0"
    if isinstance(shaping, DoubleSigmoidShaping):
        rise, fall = (
            _number(steepness / shaping.coef_div) for steepness in (shaping.coef_si, shaping.coef_se)
        )
        return f"double sigmoid: high from {low} to {high}, low beyond (steepness {rise} and {fall})"
    below, above = ("low", "high") if shaping.kind == "sigmoid" else ("high", "low")
    kind = shaping.kind.replace("_", " ")
    return f"{kind}: {below} below {low}, {above} above {high} (k = {shaping.k:g})"


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
