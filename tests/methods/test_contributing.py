"""The example of a method in CONTRIBUTING.md is one module and one line: it works as it stands there."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import METHODS, Method, make_method
from allmodes.runs.method_settings import method_tables
from allmodes.targets import reverse_kl_target
from method_cases import complete_batch, some_rewards, variants

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def powered(monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    blocks = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module: Any = ModuleType("powered")
    exec(compile(blocks[0], "powered.py", "exec"), vars(module))
    monkeypatch.setitem(METHODS, "powered", module.Powered)
    return module.Powered


def test_the_example_is_a_method(powered: type[Method]) -> None:
    rewards = some_rewards(8)
    for method in variants(powered).values():
        batch, power = complete_batch(rewards), vars(method)["power"]
        assert torch.equal(method(batch, beta=0.1).rewards, rewards**power)
        reference = torch.full((8,), 1 / 8, dtype=torch.float64).log()
        found = method.optimum(reference, rewards, beta=0.5)
        assert found is not None
        assert torch.equal(found, reverse_kl_target(reference, rewards**power, beta=0.5))
        with pytest.raises(InputError, match="rewards must not be negative for powered rewards"):
            method(complete_batch([-1.0, 1.0]), beta=0.1)


def test_one_line_registers_it(powered: type[Method]) -> None:
    assert (
        make_method("powered+entropy", {"powered": {"power": 3.0}}).describe().startswith("powered rewards")
    )
    tables = method_tables().model_validate({"powered": {"power": 3.0}})
    assert tables.make("powered") == make_method("powered", {"powered": {"power": 3.0}})
