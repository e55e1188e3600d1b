"""Describe an oracle in a report: components, caveats, and numbers."""

import re
from pathlib import PurePath

from allmodes.chem.oracles.components import ComponentConfig
from allmodes.chem.oracles.config import OracleConfig, has_stored
from allmodes.chem.oracles.results import Evaluation
from allmodes.reports.formatting import listing, number, plural


def describe_component(component: ComponentConfig) -> dict[str, str]:
    """A row of the table of components: name, raw value, shaping, weight; files without folders."""
    return {
        "name": component.name,
        "what": component.describe(),
        "shaping": component.shaping.describe(),
        "weight": number(component.weight),
    }


def describe_aggregation(oracle: OracleConfig) -> str:
    """How the scores of the components become the reward."""
    how = oracle.aggregation.replace("_", " ")
    if len({component.weight for component in oracle.components} | {1.0}) == 1:
        return f"The reward is the {how} of the scores."
    if oracle.aggregation == "product":
        return "The reward is the product of the scores, each to the power of its weight."
    return f"The reward is the weighted {how} of the scores."


def labels(oracle: OracleConfig) -> dict[str, str]:
    """The heading of each component's results by name, with a mark for stand-ins."""
    return {component.name: component.name + component.mark for component in oracle.components}


def oracle_remarks(oracle: OracleConfig) -> list[str]:
    """Caveats about the numbers."""
    named: dict[str, list[str]] = {}
    for component in oracle.components:
        if component.caveat:
            named.setdefault(component.caveat, []).append(f"“{component.name}”")
    return [f"{listing(names)}: {caveat}" for caveat, names in named.items()]


def oracle_settings(oracle: OracleConfig) -> list[tuple[str, str]]:
    """Settings of the oracle that are no component's."""
    where = "" if oracle.ray is None else ", through Ray"
    settings = [("Oracle workers", f"{plural(oracle.workers, 'molecule')} scored at once{where}")]
    if has_stored(oracle.components):
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


def _store(store: str | None) -> str:
    """Where results are kept, without folder, host or password."""
    if store is None:
        return "only for this run"
    scheme, is_url, rest = store.partition("://")
    if is_url and not scheme.startswith("sqlite"):
        return f"shared, a {'PostgreSQL' if scheme.startswith('postgresql') else scheme} database"
    return f"shared, {PurePath(rest if is_url else store).name}"
