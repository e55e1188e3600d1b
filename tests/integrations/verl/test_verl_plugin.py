"""The plugin, without verl: what it waits for, and what it does then, on modules that stand in for verl's."""

import subprocess
import sys
from pathlib import Path

import pytest

REGISTER = """
import sys, types, warnings
trainers = types.ModuleType("allmodes.integrations.verl.trainers")
trainers.register = lambda v1: print("registered", v1.NAME)
def check_options(config):
    print("checked", config["allmodes"])
trainers.check_options = check_options
sys.modules["allmodes.integrations.verl.trainers"] = trainers
"""
PACKAGES = {
    "verl": "",
    "verl/trainer": "",
    "verl/trainer/ppo": "",
    "verl/trainer/ppo/v1": "NAME = 'v1'\n",
    "verl/utils": "",
}
CONFIG = '''
def validate_config(config, use_critic):
    """verl's."""
    return f"validated {use_critic}"
'''


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A package with the names of verl's modules that the plugin waits for."""
    for name, code in PACKAGES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code, encoding="utf-8")
    (tmp_path / "verl/utils/config.py").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def run(folder: Path, code: str) -> list[str]:
    """What a new process prints, with the stand-in for verl and for our trainers."""
    path = f"import sys; sys.path.insert(0, {str(folder)!r})"
    found = subprocess.run(
        [sys.executable, "-c", path + REGISTER + code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


PLUGIN = "import allmodes.integrations.verl\nprint('plugin')\n"
TRAINERS = "import verl.trainer.ppo.v1\n"


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (PLUGIN + "import verl\n" + TRAINERS, ["plugin", "registered v1"]),
        (TRAINERS + PLUGIN, ["registered v1", "plugin"]),
        (PLUGIN + TRAINERS + TRAINERS + PLUGIN, ["plugin", "registered v1", "plugin"]),
        (PLUGIN + "import verl\n", ["plugin"]),
    ],
)
def test_trainers_are_added_once_and_when_verl_s_are_there(
    stand_in: Path, code: str, printed: list[str]
) -> None:
    assert run(stand_in, code) == printed


CHECK = """
from verl.utils.config import validate_config
class Options(dict):
    trainer = {"v1": {"trainer_mode": MODE}}
print(validate_config(Options(CONFIG), use_critic=False), validate_config.__doc__)
"""


@pytest.mark.parametrize(
    ("mode", "config", "is_checked"),
    [
        ("sync", {}, False),
        ("sync", {"allmodes": "x"}, True),
        ("allmodes_sync", {"allmodes": None}, True),
    ],
)
def test_options_are_checked_before_verl_s_own_check(
    stand_in: Path, mode: str, config: dict[str, str], is_checked: bool
) -> None:
    code = CHECK.replace("MODE", repr(mode)).replace("CONFIG", repr(config))
    checked = [f"checked {config.get('allmodes')}"] if is_checked else []
    assert run(stand_in, "import allmodes.integrations.verl\n" + code) == [
        *checked,
        "validated False verl's.",
    ]


def test_the_plugin_imports_nothing_of_weight(stand_in: Path) -> None:
    """It is imported in each of verl's processes, whether they train or not."""
    code = (
        "del sys.modules['allmodes.integrations.verl.trainers']\nimport allmodes.integrations.verl\n"
        "heavy = {'transformers', 'trl', 'ray', 'pydantic', 'omegaconf', 'rich', 'verl'}\n"
        "print(sorted(heavy & set(sys.modules)), 'allmodes.integrations.verl.trainers' in sys.modules)\n"
    )
    assert run(stand_in, code) == ["[] False"]
