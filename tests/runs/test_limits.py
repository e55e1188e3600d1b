"""What no configuration may hold: numbers beyond every use, values no file can hold, endless tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from allmodes.audit.config import AuditConfig
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.scoring_config import ScoringConfig
from allmodes.errors import ConfigError, one_line, shown
from allmodes.runs.config import Config, apply_flags, build_config, check_scales, read_config_file
from allmodes.text.config import TextConfig

MOLECULES: dict[str, Any] = {
    "kind": "molecules",
    "algorithm": "mara",
    "budget": 10,
    "hit_threshold": 0.5,
    "oracle": {"components": [{"kind": "qed"}]},
}
TEXT: dict[str, Any] = {
    "kind": "text",
    "task": "one_two",
    "trainer": "rloo",
    "kl": "reverse",
    "method": "mara",
    "beta": 0.1,
    "steps": 1,
    "group_size": 4,
    "learning_rate": 1e-3,
    "max_tokens": 8,
}


def refused(model: type[Config], values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        build_config(model, values, source="recipe")
    return str(caught.value)


def read(tmp_path: Path, name: str, text: str) -> dict[str, Any]:
    (tmp_path / name).write_text(text)
    return read_config_file(tmp_path / name)


# Numbers


def numbers_of(schema: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        return [found for part in schema for found in numbers_of(part, key)]
    if not isinstance(schema, dict):
        return []
    own = [(key, schema)] if schema.get("type") in ("integer", "number") else []
    return own + [found for name, part in schema.items() for found in numbers_of(part, f"{key}.{name}")]


@pytest.mark.parametrize("model", [MoleculesConfig, TextConfig, AuditConfig, ScoringConfig])
def test_every_number_has_limits(model: type[Config]) -> None:
    numbers = numbers_of(model.model_json_schema(), "")
    assert numbers
    for key, number in numbers:
        assert {"minimum", "exclusiveMinimum"} & number.keys(), key
        assert {"maximum", "exclusiveMaximum"} & number.keys(), key


@pytest.mark.parametrize(
    ("base", "changes", "key"),
    [
        (MOLECULES, {"batch_size": 10**30}, "batch_size"),
        (MOLECULES, {"workers": 10**30}, "workers"),
        (MOLECULES, {"threads": 10**6}, "threads"),
        (MOLECULES, {"learning_rate": 1e30}, "learning_rate"),
        (MOLECULES, {"sigma": 1e30}, "sigma"),
        (MOLECULES, {"hit_threshold": 80.0}, "hit_threshold"),
        (MOLECULES, {"hit_threshold": -0.1}, "hit_threshold"),
        (MOLECULES, {"mara": {"threshold": 1.01}}, "methods.mara.threshold"),
        (MOLECULES, {"mara": {"threshold": -1.0}}, "methods.mara.threshold"),
        (MOLECULES, {"scaffold_filter": {"min_reward": 7}}, "scaffold_filter.min_reward"),
        (TEXT, {"group_size": 10**20}, "group_size"),
        (TEXT, {"sample_batch": 10**9}, "sample_batch"),
        (TEXT, {"learning_rate": 1e30}, "learning_rate"),
        (TEXT, {"seeds": [2**64]}, "seeds.0"),
        (TEXT, {"mara": {"threshold": 5.0}}, "methods.mara.threshold"),
    ],
)
def test_a_number_beyond_every_use_is_refused(
    base: dict[str, Any], changes: dict[str, Any], key: str
) -> None:
    model = MoleculesConfig if base is MOLECULES else TextConfig
    build_config(model, base, source="recipe")
    message = refused(model, {**base, **changes})
    assert f"`{key}" in message
    assert "expected" in message
    assert "got" in message


def test_the_range_of_a_reward_model_is_unknown_and_its_threshold_free() -> None:
    task = {"kind": "creative", "prompts": "prompts.jsonl", "reward_model": "somebody/reward"}
    values = {**TEXT, "task": task, "model": "somebody/model", "mara": {"threshold": -12.5}}
    assert build_config(TextConfig, values, source="recipe").methods.mara.threshold == -12.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 10**30}, "`batch_size`: expected less than or equal to 1,000,000; got 1"),
        ({"seeds": [10**30]}, "`seeds.0`: expected less than 2,147,483,648; got 1"),
        (
            {"oracle": {"components": [{"kind": "qed", "shaping": {"kind": "step", "low": -1e31}}]}},
            "to -1e+30; got -1e+31",
        ),
    ],
)
def test_a_limit_is_written_as_people_read_it(changes: dict[str, Any], words: str) -> None:
    assert words in refused(MoleculesConfig, {**MOLECULES, **changes})


# Files


def test_yaml_aliases_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="at most 100,000 values"):
        read(tmp_path, "recipe.yaml", "\n".join(lines))
    merges = ["a0: &a0 {x: 1}"]
    merges += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="at most 100,000 values"):
        read(tmp_path, "recipe.yaml", "\n".join(merges))


def test_yaml_aliases_that_end_are_read(tmp_path: Path) -> None:
    text = "one: &one {x: 1}\ntwo: *one\nthree: {<<: *one, y: 2}\n"
    assert read(tmp_path, "recipe.yaml", text) == {
        "one": {"x": 1},
        "two": {"x": 1},
        "three": {"x": 1, "y": 2},
    }


def test_numbers_are_keys_in_yaml_too(tmp_path: Path) -> None:
    assert read(tmp_path, "recipe.yaml", "mapping: {0: 0.1, 1.5: 0.2}") == {"mapping": {"0": 0.1, "1.5": 0.2}}


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"])
def test_a_yaml_alias_within_itself_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, "recipe.yaml", text)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!bool maybe",
        "a: !!int ''",
        "a: !!timestamp never",
        "a: !!float x",
        "a: !!binary x",
        "a: !!binary aGVsbG8=",
        "a: !!set {b, c}",
        "? [a, b]\n: c",
        "null: a",
        "true: a",
        "a: .nan",
        "a: .inf",
        'a: "\\0"',
        "a: !!python/object:os.system x",
        "a: {b: 1, b: 2}",
        "- a",
        "",
        "a: " + "[" * 5000,
        "a: " + "[" * 40 + "]" * 40,
    ],
)
def test_yaml_that_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: .*expected"):
        read(tmp_path, "recipe.yaml", text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 1' + "0" * 400 + "}",
        '{"a": 1' + "0" * 5000 + "}",
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"a": "\\u0000"}',
        '{"a": ' + "[" * 100_000,
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_json_that_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.json: .*expected"):
        read(tmp_path, "recipe.json", text)


def test_a_configuration_without_end_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 1,048,576 bytes"):
        read(tmp_path, "recipe.toml", "# " + "x" * (1 << 20))


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    assert read(tmp_path, "recipe.toml", "\ufeffa = 1") == {"a": 1}


# Flags, scales, messages


@pytest.mark.parametrize(
    "flag", ["0x" + "f" * 5000, "nan", '"\\u0000"', "[" * 40 + "]" * 40, "1" * 400], ids=lambda flag: flag[:8]
)
def test_a_flag_that_is_no_value_is_one_line(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"flags: `hit_threshold.*expected .*; got") as caught:
        apply_flags(MOLECULES, ["--hit_threshold", flag])
    assert len(str(caught.value)) < 300


def test_a_flag_of_more_digits_than_python_reads_is_a_text() -> None:
    assert isinstance(apply_flags(MOLECULES, ["--hit_threshold", "1" * 5000])["hit_threshold"], str)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"budgett": 5}, "`budgett`: unknown key; did you mean budget?"),
        ({"budget": 10**30}, "`budget`: expected less than"),
        ({"oracle": {"components": {"qed": {"exhaustiveness": 1}}}}, "`oracle.components.0.exhaustiveness`"),
    ],
)
def test_a_scale_that_is_not_chosen_is_checked(table: dict[str, Any], words: str) -> None:
    recipe = {**MOLECULES, "scale": {"quick": {"budget": 5}, "paper": table}}
    with pytest.raises(ConfigError) as caught:
        check_scales(MoleculesConfig, recipe, but=None, source="recipe")
    assert str(caught.value).startswith(f"recipe, scale.paper: {words}")
    check_scales(MoleculesConfig, recipe, but="paper", source="recipe")


def test_a_key_that_a_flag_must_give_is_no_fault_of_a_scale() -> None:
    recipe = {key: value for key, value in MOLECULES.items() if key != "budget"}
    scales = {"quick": {"hit_threshold": 0.6}, "paper": {"hit_threshold": 0.7}}
    check_scales(MoleculesConfig, {**recipe, "scale": scales}, but=None, source="recipe")


@pytest.mark.parametrize(
    "values",
    [
        {**MOLECULES, "precision": "x" * 100_000},
        {**MOLECULES, "x" * 100_000: 1},
        {**MOLECULES, "seeds": ["x" * 100_000]},
        {**MOLECULES, "oracle": {"components": [{"kind": "x" * 100_000}]}},
        {**MOLECULES, "oracle": {"components": [{"kind": "qed", "name": ":" * 100_000}]}},
    ],
)
def test_a_message_repeats_the_beginning_of_a_long_value(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(MoleculesConfig, values, source="recipe")
    assert len(one_line(caught.value)) <= 1000


def test_a_value_is_shown_as_python_writes_it_as_long_as_it_is_short() -> None:
    assert shown("a") == "'a'"
    assert shown([1, 2]) == "[1, 2]"
    assert shown("a" * 100_000) == "'" + "a" * 59 + "... (100,002 characters)"
    assert shown(10**6000) == "a very large int"


# Code


@pytest.mark.parametrize(
    "changes",
    [
        {"trl": {"trust_remote_code": True}},
        {"trl": {"model_init_kwargs": {"trust_remote_code": True}}},
        {"trl": {"a": [{"trust_remote_code": "yes"}]}},
        {"chat_template": {"trust_remote_code": 1}},
    ],
)
def test_a_recipe_cannot_have_the_code_of_a_model_run(changes: dict[str, Any]) -> None:
    assert "no trust_remote_code" in refused(TextConfig, {**TEXT, **changes})
    assert json.dumps(changes)  # as a file would hold it


@pytest.mark.parametrize("key", ["hub_token", "push_to_hub_token"])
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(key: str) -> None:
    message = refused(TextConfig, {**TEXT, "trl": {key: "hf_1234"}})
    assert f"no `trl.{key}`" in message
    assert "hf_1234" not in message
