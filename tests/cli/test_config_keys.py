"""Every key of a recipe is explained: in its model, in the reference, and by `allmodes run RECIPE --help`."""

import re
from pathlib import Path

import pytest

from allmodes.chem.config import MoleculesConfig
from allmodes.cli.config_keys import Key, KeyTable, tables_of, write_page
from allmodes.runs.config import Config
from allmodes.text.config import TextConfig

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "configuration.md"


def all_models(model: type[Config] = Config) -> list[type[Config]]:
    below = [one for inner in model.__subclasses__() for one in all_models(inner)]
    return below if model is Config else [model, *below]


@pytest.mark.parametrize("model", [MoleculesConfig, TextConfig])
def test_every_key_of_a_recipe_has_its_line(model: type[Config]) -> None:
    tables = list(tables_of(model))
    missing = [f"{table.path}.{key.name}" for table in tables for key in table.keys if not key.text]
    assert missing == []
    assert all(table.text for table in tables)
    assert all(key.text.endswith(".") for table in tables for key in table.keys)


def test_no_key_is_left_out() -> None:
    """By another route: all fields of all models that a recipe reaches are in the reference."""
    page = PAGE.read_text(encoding="utf-8")
    for model in (MoleculesConfig, TextConfig):
        reached = str(model.model_json_schema()["$defs"].keys() | {model.__name__})
        for one in all_models():
            if one.__module__.startswith("allmodes.") and f"'{one.__name__}'" in reached:
                for name in one.model_fields:
                    assert re.search(rf"[`.]{name}[`.]", page), (one.__name__, name)


def test_the_reference_is_as_the_models_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == write_page(), (
        "python -m allmodes.cli.config_keys > docs/guide/configuration.md"
    )


def find(tables: list[KeyTable], path: str, name: str, kind: str | None = None) -> Key:
    return next(
        key
        for table in tables
        for key in table.keys
        if (table.path, key.name) == (path, name) and (kind is None or kind in table.kinds)
    )


def test_types_and_defaults_read_as_they_are_written() -> None:
    tables = list(tables_of(MoleculesConfig))
    budget, seeds = find(tables, "", "budget"), find(tables, "", "seeds")
    assert (budget.type, budget.default) == ("whole number > 0", None)
    assert (seeds.type, seeds.default) == ("list: whole number ≥ 0", "[0]")
    threshold = find(tables, "methods.mara", "threshold")
    assert threshold.type == "number from 0 to 1 or table { batch_quantile }"
    assert find(tables, "methods.mara.threshold", "batch_quantile").type == "number from 0 to 1"
    assert find(tables, "oracle.components.NAME.box", "center").type == "list of 3: number"
    assert find(tables, "", "precision").default == '"float32"'
    assert find(tables, "", "prior").default == "none"


def test_a_default_of_one_kind_alone_stands_there() -> None:
    tables = list(tables_of(MoleculesConfig))
    assert find(tables, "oracle.components.NAME", "time_limit").default == "30"
    assert find(tables, "oracle.components.NAME", "time_limit", "docking").default == "120"
    with pytest.raises(StopIteration):
        find(tables, "oracle.components.NAME", "time_limit", "qed")
