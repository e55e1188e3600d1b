from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from allmodes.errors import RunError
from allmodes.runs.checkpoint import adam_state, load_checkpoint, restore_adam_state, save_checkpoint


def test_tensors_and_state_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.safetensors"
    tensors = {
        "float": torch.randn(3, 4, generator=torch.Generator().manual_seed(1)),
        "half": torch.tensor([1.5, -2.25]).half(),
        "bfloat": torch.tensor([1.5]).bfloat16(),
        "double": torch.tensor(0.1, dtype=torch.float64),
        "integer": torch.tensor([2**40]),
        "generator": torch.Generator().manual_seed(5).get_state(),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "empty": torch.zeros(0, 3),
    }
    state: dict[str, Any] = {"step": 3, "x": 0.1 + 0.2, "list": [None, True, "é\n"], "deep": {"a": {}}}
    save_checkpoint(path, tensors, state)
    got, got_state = load_checkpoint(path)
    assert got_state == state
    assert set(got) == set(tensors)
    for name, tensor in tensors.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_parameter_is_saved_without_its_graph(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", {"w": nn.Parameter(torch.ones(2))}, {})
    assert not load_checkpoint(tmp_path / "a")[0]["w"].requires_grad


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"a": torch.zeros(2)}, {"step": {1, 2}})
    tensors, state = load_checkpoint(path)
    assert (tensors["a"].tolist(), state) == ([1, 1], {"step": 1})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def _cut(path: Path) -> None:
    save_checkpoint(path, {"a": torch.ones(100)}, {"step": 1})
    path.write_bytes(path.read_bytes()[:-8])


def _pickled(path: Path) -> None:
    torch.save({"a": torch.ones(2)}, path)


def _foreign(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path)


def _no_json(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path, metadata={"state": "{'step': 1}"})


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda _: None, id="missing"),
        pytest.param(lambda path: path.mkdir(), id="folder"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("not a checkpoint at all"), id="text"),
        pytest.param(_cut, id="cut off"),
        pytest.param(_pickled, id="pickle"),
        pytest.param(_foreign, id="another program's"),
        pytest.param(_no_json, id="no JSON"),
    ],
)
def test_malformed_files(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    make(path)
    with pytest.raises(RunError, match="expected a safetensors file of allmodes") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = ((model(inputs).squeeze(1) - inputs.sum(1)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_restored_adam_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train(model, optimizer, range(5))
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {**model.state_dict(), **adam_state(optimizer)}, {})
    expected = train(model, optimizer, range(5, 12))

    def resumed(*, with_state: bool) -> list[Tensor]:
        tensors, _ = load_checkpoint(path)
        other = network()
        other_optimizer = torch.optim.Adam(other.parameters(), lr=0.01)
        other.load_state_dict({name: tensors[name] for name in other.state_dict()})
        if with_state:
            restore_adam_state(other_optimizer, tensors)
        return train(other, other_optimizer, range(5, 12))

    assert all(map(torch.equal, resumed(with_state=True), expected))
    assert not any(map(torch.equal, resumed(with_state=False), expected))


def test_adam_that_has_not_stepped_has_no_state() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    assert adam_state(optimizer) == {}
    restore_adam_state(optimizer, {"weight": torch.ones(1)})
    fresh_model = network()
    fresh = torch.optim.Adam(fresh_model.parameters(), lr=0.01)
    same = map(torch.equal, train(model, optimizer, range(3)), train(fresh_model, fresh, range(3)))
    assert all(same)


def test_restoring_keeps_the_settings_of_the_new_optimizer() -> None:
    model = network()
    old = torch.optim.Adam(model.parameters(), lr=0.5)
    train(model, old, range(1))
    new = torch.optim.Adam(model.parameters(), lr=0.125, betas=(0.5, 0.75))
    restore_adam_state(new, adam_state(old))
    assert new.param_groups[0]["lr"] == 0.125
    assert new.param_groups[0]["betas"] == (0.5, 0.75)
    assert float(new.state_dict()["state"][0]["step"]) == 1
