import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from allmodes.chem.arms import Arm
from allmodes.chem.config import MoleculesConfig
from allmodes.errors import ConfigError, InputError
from allmodes.methods import MARA, EntropyBonus, Unlikeliness
from allmodes.objectives import BatchQuantile
from allmodes.runs.config import (
    Config,
    apply_flags,
    apply_scale,
    build_config,
    read_config_file,
)
from allmodes.runs.method_settings import BatchQuantileThreshold
from allmodes.text.config import TextConfig


class Inner(Config):
    rate: float = 0.1
    name: str = "inner"


class Example(Config):
    count: int = Field(default=3, ge=1)
    flag: bool = False
    values: tuple[int, ...] = ()
    folder: Path | None = None
    inner: Inner = Inner()


RECIPE: dict[str, Any] = {
    "kind": "molecules",
    "algorithm": ["reinvent", "mara"],
    "budget": 1000,
    "hit_threshold": 0.8,
    "mara": {"threshold": {"batch_quantile": 0.9}},
    "oracle": {
        "aggregation": "product",
        "components": [
            {"kind": "qed"},
            {"kind": "weight", "shaping": {"kind": "step", "high": 500}, "name": "light"},
        ],
    },
}

RECIPE_TOML = """
kind = "molecules"
algorithm = ["reinvent", "mara"]
budget = 1000
hit_threshold = 0.8
mara.threshold = { batch_quantile = 0.9 }

[oracle]
aggregation = "product"

[[oracle.components]]
kind = "qed"

[[oracle.components]]
kind = "weight"
name = "light"
shaping = { kind = "step", high = 500 }
"""

RECIPE_YAML = """
kind: molecules
algorithm: [reinvent, mara]
budget: 1000
hit_threshold: 0.8
mara:
  threshold: {batch_quantile: 0.9}
oracle:
  aggregation: product
  components:
    - kind: qed
    - kind: weight
      name: light
      shaping: {kind: step, high: 500}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def molecules(**changes: Any) -> MoleculesConfig:
    return build_config(MoleculesConfig, {**RECIPE, **changes}, source="recipe.toml")


# Files


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    assert read_config_file(write(tmp_path, "recipe.toml", RECIPE_TOML)) == RECIPE
    assert read_config_file(write(tmp_path, "recipe.json", json.dumps(RECIPE))) == RECIPE


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.yml"])
def test_yaml_says_the_same(tmp_path: Path, name: str) -> None:
    pytest.importorskip("yaml")
    assert read_config_file(write(tmp_path, name, RECIPE_YAML)) == RECIPE


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "budget = \n", ["TOML", "line 1"]),
        ("a.toml", "[oracle\nx = 1\n", ["TOML", "line 1"]),
        ("a.toml", "budget = 1\nbudget = 2\n", ["TOML", "line 2"]),
        ("a.json", '{"budget": }', ["JSON", "line 1"]),
        ("a.json", "", ["JSON"]),
        ("a.json", "[1, 2]", ["table", "list"]),
        ("a.json", "null", ["table", "NoneType"]),
        ("a.txt", "budget = 1\n", [".toml, .yaml, .yml or .json", "'.txt'"]),
        ("a", "budget = 1\n", [".toml", "''"]),
    ],
)
def test_broken_files_have_one_line_that_says_what_is_wrong(
    name: str, text: str, words: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


@pytest.mark.parametrize(
    "text", ["a: [1, 2\nb: 3\n", "a:\n\t- 1\n", "- 1\n- 2\n", "", "a: 2024-13-45\n", "a: *b"]
)
def test_broken_yaml(text: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = write(tmp_path, "a.yaml", text)
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_cannot_name_python_objects(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    target = tmp_path / "made"
    path = write(tmp_path, "a.yaml", f"a: !!python/object/apply:os.mkdir ['{target}']\n")
    with pytest.raises(ConfigError):
        read_config_file(path)
    assert not target.exists()


def test_unreadable_files(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", tmp_path, binary):
        with pytest.raises(ConfigError) as caught:
            read_config_file(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


# Flags


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--count", "5"], {"count": 5}),
        (["--count=5"], {"count": 5}),
        (["--inner.rate", "1e-4"], {"inner": {"rate": 1e-4}}),
        (["--inner.rate=0.5", "--inner.name", "x"], {"inner": {"rate": 0.5, "name": "x"}}),
        (["--values", "[0, 1]"], {"values": [0, 1]}),
        (["--values=[0,1]"], {"values": [0, 1]}),
        (["--flag", "true"], {"flag": True}),
        (["--folder", "a/b.safetensors"], {"folder": "a/b.safetensors"}),
        (["--name=a=b"], {"name": "a=b"}),
        (["--name="], {"name": ""}),
        (["--screen", "-1.5"], {"screen": -1.5}),
        (["--name", '"5"'], {"name": "5"}),
        (["--inner", '{rate = 2.0, name = "y"}'], {"inner": {"rate": 2.0, "name": "y"}}),
        (["--batch-size", "8"], {"batch_size": 8}),
        (["--scaffold-filter.bucket-size", "8"], {"scaffold_filter": {"bucket_size": 8}}),
        (["--count", "1", "--count", "2"], {"count": 2}),
        ([], {}),
    ],
)
def test_flags(flags: list[str], expected: dict[str, Any]) -> None:
    assert apply_flags({}, flags) == expected


def test_default_then_file_then_flag(tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", "count = 5\ninner.rate = 0.5\n")
    values = read_config_file(path)
    merged = apply_flags(values, ["--inner.rate", "0.7"])
    config = build_config(Example, merged, source="a.toml")
    assert (config.flag, config.count, config.inner.rate) == (False, 5, 0.7)
    assert config.inner.name == "inner"
    assert values["inner"]["rate"] == 0.5  # what the file said is left as it is
    assert build_config(Example, {}, source="").count == 3


def test_a_flag_beside_another_key_of_the_same_table() -> None:
    merged = apply_flags({"inner": {"name": "file"}}, ["--inner.rate", "0.7"])
    assert merged == {"inner": {"name": "file", "rate": 0.7}}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["count", "5"], ["--budget 1000", "'count'"]),
        (["-c", "5"], ["'-c'"]),
        (["--count"], ["--count", "value", "none"]),
        (["--count", "--flag", "true"], ["--count", "none"]),
    ],
)
def test_wrong_flags(flags: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_flags({"count": 3, "values": [1, 2]}, flags)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "flags", [["--no-such", "5"], ["--", "5"], ["--inner..rate", "1"], ["--inner.nope", "1"], ["--.", "1"]]
)
def test_a_flag_that_names_no_key_is_refused_in_the_end(flags: list[str]) -> None:
    with pytest.raises(ConfigError):
        build_config(Example, apply_flags({}, flags), source="flags")


# Models


def test_a_recipe_and_its_defaults() -> None:
    config = molecules()
    assert [arm.name for arm in config.arms] == ["reinvent", "mara"]
    assert config.methods.mara.threshold == BatchQuantileThreshold(batch_quantile=0.9)
    assert (config.seeds, config.sigma, config.learning_rate, config.batch_size) == ((0,), 128.0, 1e-4, 64)
    assert (config.replay.size, config.replay.sample, config.replay.augmentation_rounds) == (100, 10, 2)
    assert [component.name for component in config.oracle.components] == ["qed", "light"]
    assert config.oracle.failed == "exclude"
    assert config.scaffold_filter is None


def test_one_algorithm_and_one_seed_need_no_list() -> None:
    config = molecules(algorithm="mara", seeds=7)
    assert (config.arms, config.seeds) == ((Arm("reinvent", "mara"),), (7,))


def test_the_resolved_config_reads_back_as_itself() -> None:
    config = molecules(prior="prior.safetensors", seeds=[1, 2])
    again = build_config(MoleculesConfig, json.loads(config.model_dump_json()), source="config.json")
    assert again == config


def test_configs_are_frozen() -> None:
    config = molecules()
    with pytest.raises(ValidationError):
        config.budget = 5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        config.replay.size = 5  # pyright: ignore[reportAttributeAccessIssue]
    assert (config.budget, config.replay.size) == (1000, 100)


QED = {"kind": "qed"}


def oracle(*components: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"oracle": {"components": list(components), **rest}}


def shaping(**values: Any) -> dict[str, Any]:
    return oracle({**QED, "shaping": values})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"budget": "many"}, ["`budget`", "integer", "'many'"], id="text for a number"),
        pytest.param({"budget": 0}, ["`budget`", "greater than 0", "got 0"], id="zero"),
        pytest.param({"budget": 1.5}, ["`budget`", "integer", "1.5"], id="fraction"),
        pytest.param({"budget": None}, ["`budget`", "got None"], id="null"),
        pytest.param({"hit_threshold": math.nan}, ["`hit_threshold`", "finite", "nan"], id="NaN"),
        pytest.param({"sigma": math.inf}, ["`sigma`", "finite", "inf"], id="infinity"),
        pytest.param(
            {"mara": {"threshold": math.nan}}, ["`methods.mara.threshold", "finite", "nan"], id="inner NaN"
        ),
        pytest.param({"kind": "proteins"}, ["`kind`", "'molecules'", "'proteins'"], id="kind"),
        pytest.param({"algorithm": "ppo"}, ["`algorithm", "reinvent, mara", "'ppo'"], id="algorithm"),
        pytest.param({"algorithm": []}, ["`algorithm`", "[]"], id="no algorithm"),
        pytest.param({"algorithm": ["mara", "mara"]}, ["`algorithm`", "once", "mara"], id="algorithm twice"),
        pytest.param({"seeds": [1, 1]}, ["`seeds`", "once", "[1, 1]"], id="seed twice"),
        pytest.param({"seeds": [-1]}, ["`seeds.0`", "-1"], id="negative seed"),
        pytest.param({"seeds": [2**31]}, ["`seeds.0`", str(2**31)], id="large seed"),
        pytest.param({"circle_distance": 1.2}, ["`circle_distance`", "1", "1.2"], id="no fraction"),
        pytest.param({"oracle": {}}, ["`oracle.components`", "value", "none"], id="missing"),
        pytest.param({"oracle": 5}, ["`oracle`", "got 5"], id="number for a table"),
        pytest.param(oracle(), ["`oracle.components`", "[]"], id="no component"),
        pytest.param(oracle({"name": "x"}), ["`oracle.components.0.kind`", "none"], id="no kind"),
        pytest.param(
            oracle(QED, {"kind": "magic"}), ["`oracle.components.1.kind`", "'qed'", "'magic'"], id="component"
        ),
        pytest.param(
            oracle({"kind": "a\nb"}), ["`oracle.components.0.kind`", "'qed'"], id="kind of two lines"
        ),
        pytest.param(oracle(QED, QED), ["`oracle.components`", "'qed' comes twice"], id="name twice"),
        pytest.param(oracle({"kind": "smarts"}), ["`oracle.components.0.patterns`", "none"], id="patterns"),
        pytest.param(
            oracle({"kind": "function", "function": "no colon"}),
            ["`oracle.components.0.function`"],
            id="function",
        ),
        pytest.param(oracle(QED, failed="ignore"), ["`oracle.failed`", "'exclude'", "'ignore'"], id="failed"),
        pytest.param(oracle({**QED, "time_limit": 0}), ["`oracle.components.0.time_limit`", "0"], id="limit"),
        pytest.param(shaping(kind="sigmoid", low=0, high=1), ["shaping.k`", "none"], id="no k"),
        pytest.param(
            shaping(kind="sigmoid", low=1, high=1, k=1), ["0.shaping`", "low < high", "1.0"], id="order"
        ),
        pytest.param(shaping(kind="step"), ["0.shaping`", "at least one of low and high"], id="no bound"),
        pytest.param(
            shaping(kind="steps"), ["`oracle.components.0.shaping.kind`", "'step'", "'steps'"], id="shaping"
        ),
        pytest.param({"prior": 5}, ["`prior`", "path", "5"], id="path"),
        pytest.param(
            {"mara": {"anchor": "best"}}, ["`methods.mara.anchor`", "'group'", "'best'"], id="anchor"
        ),
    ],
)
def test_a_wrong_recipe_has_one_line_with_key_expected_and_got(
    changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        molecules(**changes)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("recipe.toml: `")
    for word in [*words, "expected", "got"]:
        assert word in message


def test_of_several_wrong_keys_the_first_is_named_however_deep_the_others_are() -> None:
    box = {"kind": "docking", "receptor": "r.pdbqt", "box": {"center": [0, 0, 0], "size": [1, 2, "x"]}}
    with pytest.raises(ConfigError, match=r"`oracle\.components\.0\.shaping\.kind`: .* got 'steps'$"):
        molecules(**oracle({**QED, "shaping": {"kind": "steps", "high": 3}}, box))
    with pytest.raises(ConfigError, match=r"`oracle\.components\.0\.box\.size\.2`: .* got 'x'$"):
        molecules(**oracle(box, {**QED, "shaping": {"kind": "steps", "high": 3}}))


SCAFFOLDS = {"bucket_size": 5, "min_rewards": 0.2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgt": 5}, "`budgt`: unknown key; did you mean budget?"),
        (
            {"mara": {"treshold": 1}},
            "`methods.mara.treshold`: unknown key; did you mean methods.mara.threshold?",
        ),
        ({"treshold": 1}, "`treshold`: unknown key; did you mean hit_threshold?"),
        ({"threshold": 1}, "`threshold`: unknown key; did you mean methods.mara.threshold?"),
        (
            {"scaffold_filter": SCAFFOLDS},
            "`scaffold_filter.min_rewards`: unknown key; did you mean scaff",
        ),
        (
            oracle({**QED, "weigth": 1}),
            "`oracle.components.0.weigth`: unknown key; did you mean oracle.",
        ),
        (
            oracle({**QED, "nonsense": 1}),
            "`oracle.components.0.nonsense`: unknown key; expected one of n",
        ),
        (
            shaping(kind="double_sigmoid", low=1, high=3, k=1),
            "`oracle.components.0.shaping.k`: unknown key; expected one of kind, low, high, coef_div",
        ),
        ({"replay": {"x": 5}}, "`replay.x`: unknown key; expected one of size, sample, augmentation_rounds"),
        (
            {"nonsense": 5},
            "`nonsense`: unknown key; expected one of kind, loss, method, algorithm, seeds, budget",
        ),
    ],
)
def test_an_unknown_key_names_the_one_that_was_meant(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        molecules(**changes)
    assert str(caught.value).startswith(f"recipe.toml: {message}")
    assert "patterns" not in str(caught.value)  # a key of another kind of component


@pytest.mark.parametrize("key", ["kind", "budget", "hit_threshold", "oracle"])
def test_a_missing_key_is_named(key: str) -> None:
    values = {name: value for name, value in RECIPE.items() if name != key}
    with pytest.raises(ConfigError, match=f"`{key}`: expected a value; got none"):
        build_config(MoleculesConfig, values, source="recipe.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [("budget", "500"), ("budget", True), ("hit_threshold", "0.8"), ("seeds", True), ("sigma", True)],
)
def test_types_are_not_converted_in_silence(key: str, value: object) -> None:
    """`--budget '"500"'` or `budget = true` is a slip of the pen."""
    with pytest.raises(ConfigError, match=f"`{key}"):
        molecules(**{key: value})


def test_whole_numbers_are_welcome_where_a_fraction_may_stand() -> None:
    assert molecules(hit_threshold=1, sigma=64).sigma == 64.0


def test_config_errors_are_input_errors() -> None:
    assert issubclass(ConfigError, InputError)
    assert issubclass(ConfigError, ValueError)


def test_a_flag_for_a_part_wins_over_a_single_value_in_the_file() -> None:
    values = {"mara": {"threshold": 0.5, "anchor": "group"}}
    merged = apply_flags(values, ["--mara.threshold.batch_quantile", "0.9"])
    assert merged == {"mara": {"threshold": {"batch_quantile": 0.9}, "anchor": "group"}}
    assert values["mara"]["threshold"] == 0.5


@pytest.mark.parametrize(("text", "value"), [(".5", 0.5), ("5.", 5.0), ("-.5e-3", -0.0005), (".x", ".x")])
def test_numbers_that_toml_does_not_know_are_numbers(text: str, value: object) -> None:
    assert apply_flags({}, [f"--beta={text}"]) == {"beta": value}


TEXT = {
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "three"}, r"`task.kind`: expected one of .*'one_two', 'creative', .*; got 'three'"),
        ({"kl": "forward"}, r"expected kl 'reverse' with trainer 'rloo', .*; `kl` is 'forward'$"),
        ({"trainer": "grpo", "kl": "forward"}, r"expected kl 'reverse' or 'token-forward' .* method 'mara'"),
        ({"trainer": "grpo", "kl": "forward", "method": "entropy"}, r"method 'entropy', .*has 'forward'$"),
        ({"trainer": "grpo", "scale_rewards": True}, r"expected scale_rewards = false with method 'mara'"),
        ({"method": "best_of_n", "scale_rewards": True}, r"expected scale_rewards = false .*'best_of_n'"),
        (
            {"method": "max_rl", "scale_rewards": True},
            r"scale_rewards = false with method 'max_rl', which has",
        ),
        (
            {"method": ["mara", "alpha_dpg"], "trainer": "grpo", "kl": ["reverse", "token-forward"]},
            r"expected kl 'reverse' alone .*method 'alpha_dpg', .*; `kl` has 'token-forward'$",
        ),
        ({"method": "max_rl+mara"}, r"expected settings of `methods` that fit .*MaxRL .*must come last"),
        ({"method": "mora"}, r"`method.*`: expected one of vanilla, mara, .*; got 'mora'"),
        ({"methods": {"ucpo": {"threshold": 7.0}}}, r"expected `methods.ucpo.threshold` between 0 and 1, "),
        ({"updates_per_step": 3}, r"expected prompts_per_step × group_size = 4 to be a multiple .* = 3$"),
        ({"micro_batch": 3}, r"expected the 4 completions of an update to be a multiple of micro_batch = 3$"),
        ({"group_size": 1}, r"`group_size`: expected .* 2; got 1"),
        ({"beta": [0.1, 0.1]}, r"`beta`: expected each value once"),
        ({"beta": 0}, r"`beta.*`: expected greater than 0; got 0"),
        ({"chat_template": {"tokenize": True}}, r"`chat_template`: expected settings of the template alone"),
        (
            {"task": {"kind": "creative", "prompts": "p", "reward_model": "r"}},
            r"expected `model` with task 'creative'",
        ),
    ],
)
def test_training_that_cannot_work_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_config(TextConfig, {**TEXT, **changes}, source="recipe.toml")
    assert str(caught.value).startswith("recipe.toml: ")
    assert "\n" not in str(caught.value)


def test_single_values_stand_for_lists_of_one() -> None:
    config = build_config(TextConfig, TEXT, source="recipe.toml")
    assert (config.trainer, config.kl, config.method, config.beta) == (
        ("rloo",),
        ("reverse",),
        ("mara",),
        (0.1,),
    )
    assert config.task.kind == "one_two"


SCALED: dict[str, Any] = {
    "budget": 10,
    "oracle": {"components": [{"name": "docking", "seed": 1}, {"kind": "qed"}]},
    "scale": {
        "quick": {"budget": 5, "seeds": [0]},
        "paper": {"oracle": {"components": {"docking": {"seed": 2}, "qed": {"name": "drug-likeness"}}}},
    },
}


def test_a_scale_is_laid_over_the_recipe_key_by_key() -> None:
    quick = apply_scale(SCALED, None)
    assert quick == {"budget": 5, "seeds": [0], "oracle": SCALED["oracle"]}
    assert apply_scale(SCALED, "quick") == quick
    paper = apply_scale(SCALED, "paper")
    components = [{"name": "docking", "seed": 2}, {"kind": "qed", "name": "drug-likeness"}]
    assert paper == {"budget": 10, "oracle": {"components": components}}
    assert SCALED["oracle"]["components"][0]["seed"] == 1  # the recipe itself stays as it was
    assert apply_scale({"budget": 10}, None) == {"budget": 10}


@pytest.mark.parametrize(
    ("values", "scale", "message"),
    [
        (SCALED, "huge", "--scale: expected one of quick, paper; got 'huge'"),
        ({"budget": 10}, "paper", "--scale: expected none, since this recipe has no scales; got 'paper'"),
        ({"scale": 3}, None, "`scale`: expected a table of tables"),
        (
            {**SCALED, "scale": {"quick": {"oracle": {"components": {"vina": {"seed": 2}}}}}},
            None,
            "expected the name of an entry, one of docking, qed; got 'vina'",
        ),
        (
            {**SCALED, "scale": {"quick": {"oracle": {"components": {"docking": 2}}}}},
            None,
            "expected a key after the name of an entry; got only 'docking'",
        ),
    ],
)
def test_a_scale_that_is_not_there(values: dict[str, Any], scale: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        apply_scale(values, scale)


def test_flags_find_entries_of_a_list_by_name() -> None:
    flags = ["--oracle.components.docking.seed", "7", "--oracle.components.qed.name=mine"]
    got = apply_flags(SCALED, flags)["oracle"]["components"]
    assert got == [{"name": "docking", "seed": 7}, {"kind": "qed", "name": "mine"}]


def test_recipes_of_the_last_version_are_read_as_they_were_meant() -> None:
    """A recipe, flags over it, and the config.json of a run folder."""
    old = {**TEXT, "mara": {"threshold": 0.7, "level": "strings"}, "entropy": 0.2, "unlikeliness": 0.5}
    now = {
        **TEXT,
        "methods": {
            "mara": {"threshold": 0.85, "level": "strings"},
            "entropy": {"entropy": 0.3},
            "unlikeliness": {"strength": 0.5},
        },
    }
    merged = apply_flags(old, ["--mara.threshold", "0.85", "--entropy", "0.3"], TextConfig)
    assert build_config(TextConfig, merged, source="old") == build_config(TextConfig, now, source="now")
    file = Path(__file__).parents[1] / "data" / "one_two_config_before_methods.json"
    saved = build_config(TextConfig, read_config_file(file), source=str(file))
    assert saved.methods.make("mara") == MARA(threshold=BatchQuantile(0.9), anchor="leave_one_out")
    assert saved.methods.make("entropy") == EntropyBonus(0.02)
    assert saved.methods.make("unlikeliness") == Unlikeliness(0.5)
    again = build_config(TextConfig, json.loads(saved.model_dump_json()), source="config.json")
    assert again == saved
