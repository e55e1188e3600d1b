"""Recipes of molecules: losses × methods, and keys and flags of the last version."""

from typing import Any

import pytest

from allmodes.chem.arms import Arm, parse_arm
from allmodes.chem.config import MoleculesConfig
from allmodes.errors import ConfigError
from allmodes.runs.config import apply_flags, build_config

BASE = {"kind": "molecules", "budget": 10, "oracle": {"components": [{"kind": "qed"}]}}
NOW = {**BASE, "hit_threshold": 0.5, "loss": ["reinvent", "grpo"], "method": ["vanilla", "mara", "ips"]}
BEFORE = {
    **BASE,
    "screen": 0.5,
    "algorithm": ["reinvent", "mara", "grpo", "ips-grpo"],
    "mara": {"threshold": 0.7},
    "ips": {"outcome": "cluster", "min_probability": 0.1},
}


def config_of(values: dict[str, Any], *flags: str) -> MoleculesConfig:
    return build_config(MoleculesConfig, apply_flags(values, flags, MoleculesConfig), source="test")


def test_each_loss_is_run_with_each_method() -> None:
    names = [(arm.name, arm.label) for arm in config_of(NOW).arms]
    assert names == [
        ("reinvent", "REINVENT"),
        ("mara", "MARA"),
        ("ips-reinvent", "IPS-REINVENT"),
        ("grpo", "GRPO"),
        ("mara-grpo", "MARA-GRPO"),
        ("ips-grpo", "IPS-GRPO"),
    ]
    assert all(parse_arm(arm.name) == arm for arm in config_of(NOW).arms)


@pytest.mark.parametrize("values", [BEFORE, NOW])
def test_keys_and_flags_of_the_last_version_say_the_same_as_todays(values: dict[str, Any]) -> None:
    old = config_of(values, "--mara.threshold", "0.6", "--ips.outcome", "molecule", "--screen", "0.4",
                    "--ips.min_probability", "0.2", "--algorithm", "mara")  # fmt: skip
    new = config_of(values, "--methods.mara.threshold", "0.6", "--outcomes.outcome", "molecule",
                    "--hit_threshold", "0.4", "--methods.ips.min_probability", "0.2", "--method", "mara",
                    "--loss", "reinvent")  # fmt: skip
    assert old.arms == new.arms == (Arm("reinvent", "mara"),)
    same = ("methods", "outcomes", "hit_threshold")
    assert [getattr(old, key) for key in same] == [getattr(new, key) for key in same]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": "mara"}, "`algorithm`, or `loss` and `method`; got both"),
        ({"screen": 0.4}, "only one of `screen` and its new name `hit_threshold`"),
        ({"method": "best_of_n", "methods": {"best_of_n": {"k": 99}}}, "`batch_size` of at least 99; got 64"),
        ({"outcomes": {"outcome": "region"}}, '`regions`, the name of a component, with `outcome` "region"'),
        ({"outcomes": {"regions": "x"}}, "`outcomes.regions`, a component's name: one of 'qed'; got 'x'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_config(MoleculesConfig, {**NOW, **changes}, source="test")
