"""Recipes take the settings of every method, and know none by name."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import field_validator

from allmodes.errors import ConfigError
from allmodes.methods import IPS, MARA, METHODS, UCPO, AlphaDPG, EntropyBonus, Then, recipe_fields
from allmodes.objectives import BatchQuantile
from allmodes.runs.config import Config, apply_flags, build_config, one_or_several, read_config_file
from allmodes.runs.method_settings import MethodName, MethodTables, method_tables, move_old_tables

_Tables = method_tables(threshold=0.8, level="outcomes")


class Recipe(Config):
    method: tuple[MethodName, ...] = ("mara",)
    methods: _Tables = _Tables()  # pyright: ignore[reportInvalidTypeForm]
    seed: int = 0
    _several = field_validator("method", mode="before")(one_or_several)

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        return cast("dict[str, Any]", move_old_tables(values))


def built(values: dict[str, Any]) -> MethodTables:
    methods = build_config(Recipe, values, source="recipe").methods
    assert isinstance(methods, MethodTables)
    return methods


def test_each_method_of_the_registry_has_a_table_with_its_settings_docs_and_defaults() -> None:
    fields = _Tables.model_fields
    assert list(fields) == list(METHODS)
    for name, method in METHODS.items():
        table = fields[name].annotation
        assert isinstance(table, type)
        assert issubclass(table, Config)
        assert list(table.model_fields) == list(recipe_fields(method))
        assert all(field.description for field in table.model_fields.values())
        assert isinstance(built({}).make(name), method)


def test_settings_reach_the_method_and_defaults_of_the_recipe_are_used() -> None:
    assert built({}).make("mara") == MARA(threshold=0.8, level="outcomes")
    values = {"methods": {"mara": {"threshold": {"batch_quantile": 0.9}, "max_gap_bonus": 2.0}}}
    assert built(values).make("mara") == MARA(
        threshold=BatchQuantile(0.9), level="outcomes", max_gap_bonus=2.0
    )
    both = built({"methods": {"entropy": {"entropy": 0.5}}}).make("ips+entropy")
    assert isinstance(both, Then)
    assert both.methods == (IPS(), EntropyBonus(0.5))


def test_none_is_said_where_a_recipe_has_a_default_and_the_method_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('method = "alpha_dpg"\n[methods.alpha_dpg]\nthreshold = "none"\nalpha = 0.25\n')
    read = read_config_file(recipe)
    assert built(read).make("alpha_dpg") == AlphaDPG(threshold=None, alpha=0.25)
    assert built({}).make("alpha_dpg") == AlphaDPG(threshold=0.8)
    flags = ["--methods.alpha_dpg.threshold", "none"]
    assert built(apply_flags({}, flags, Recipe)).make("alpha_dpg") == AlphaDPG()
    saved = json.loads(json.dumps({"methods": built(read).model_dump(mode="json")}))  # as run folders have it
    assert built(saved).make("alpha_dpg") == AlphaDPG(threshold=None, alpha=0.25)
    # Elsewhere "none" is a choice of its own, or wrong.
    assert built({"methods": {"ucpo": {"scale": "none"}}}).make("ucpo") == UCPO(threshold=0.8, scale="none")


def test_tables_of_the_last_version_are_moved() -> None:
    old = {"mara": {"threshold": 0.3}, "entropy": 0.2, "methods": {"ips": {"min_probability": 0.1}}}
    tables = built(old)
    assert tables.make("mara") == MARA(threshold=0.3, level="outcomes")
    assert tables.make("entropy") == EntropyBonus(0.2)
    assert tables.make("ips") == IPS(min_probability=0.1)


def test_a_table_that_held_more_than_the_method_s_settings_keeps_the_rest() -> None:
    old = {"ips": {"min_probability": 0.1, "outcome": "scaffold"}, "mara": {"tau": 1}}
    assert move_old_tables(old, shared=("ips",)) == {
        "ips": {"outcome": "scaffold"},
        "methods": {"ips": {"min_probability": 0.1}, "mara": {"tau": 1}},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": {"ips": {"min_probability": 2.0}}}, "methods.ips.min_probability.*equal to 1; got 2"),
        ({"methods": {"mara": {"anchor": "none"}}}, "methods.mara.anchor.*'group'.*got 'none'"),
        ({"methods": {"mara": {"threshold": "0.8"}}}, "methods.mara.threshold.*got '0.8'"),
        ({"methods": {"mara": {"tau": 1}}}, "methods.mara.tau"),
        ({"methods": {"mara": {"threshold": "none"}}}, "methods.mara.threshold.*got 'none'"),
        ({"methods": {"alpha_dpg": {"threshold": "no"}}}, "methods.alpha_dpg.threshold.*got 'no'"),
        ({"methods": {"maras": {"threshold": 1}}}, "methods.maras"),
        (
            {"methods": {"mara": {"threshold": 1}}, "mara": {"threshold": 2}},
            "only one of `mara.threshold` and its new name",
        ),
        ({"mara": 3}, "`mara`: unknown key; did you mean methods.mara"),
        ({"mara": {"tau": 1}}, "`methods.mara.tau`: unknown key; expected one of threshold, "),
        ({"methods": 3, "mara": {"threshold": 1}}, "`methods`: expected a table; got 3"),
        ({"methods": {"mara": 3}, "mara": {"threshold": 1}}, "`methods.mara`: expected a table; got 3"),
        ({"methods": {"vanilla": {"x": 1}}}, "`methods.vanilla.x`: unknown key; expected no key here"),
        ({"method": "mora"}, "method.*one of vanilla, mara, .*got 'mora'"),
        ({"method": "mara+mora"}, "method.*one of vanilla, mara, .*got 'mara"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        built(values)
    assert "\n" not in str(caught.value)
