import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.chem.design.replay import Remembered, ReplayBuffer


def molecule(smiles: str, reward: float, scaffold: str = "") -> Remembered:
    return Remembered(smiles, scaffold or smiles, reward)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_keeps_the_best_first() -> None:
    buffer = ReplayBuffer(3)
    buffer.add([molecule("a", 0.1), molecule("b", 0.9), molecule("c", 0.5)])
    buffer.add([molecule("d", 0.7), molecule("e", 0.05)])
    assert [entry.smiles for entry in buffer.entries] == ["b", "d", "c"]
    assert len(buffer) == 3


@settings(max_examples=100, deadline=None)
@given(
    batches=st.lists(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 5)), max_size=5)),
    size=st.integers(0, 5),
)
def test_equals_a_naive_buffer(batches: list[list[tuple[str, int]]], size: int) -> None:
    """Offer by offer: known molecules stay as they are, the earliest of equal rewards survive."""
    buffer, chosen = ReplayBuffer(size), ReplayBuffer(size)
    kept: list[Remembered] = []
    for batch in batches:
        offered = [molecule(smiles, float(reward)) for smiles, reward in batch]
        buffer.add(offered)
        first = [
            entry for at, entry in enumerate(offered) if entry.smiles not in {e.smiles for e in offered[:at]}
        ]
        chosen.add([entry for entry in first if entry.reward > chosen.least])
        assert chosen.entries == buffer.entries  # the others would not have entered
        for entry in offered:
            if entry.smiles not in {known.smiles for known in kept}:
                kept.append(entry)
        kept.sort(key=lambda entry: entry.reward, reverse=True)  # stable: earlier ones stay in front
        del kept[size:]
        assert buffer.entries == kept


def test_a_molecule_comes_once_and_keeps_its_first_reward() -> None:
    buffer = ReplayBuffer(5)
    buffer.add([molecule("CCO", 0.5), molecule("CCO", 0.9)])
    buffer.add([molecule("CCO", 0.7)])
    assert buffer.entries == [molecule("CCO", 0.5)]


def test_earlier_ones_win_ties() -> None:
    buffer = ReplayBuffer(2)
    buffer.add([molecule("first", 0.5)])
    buffer.add([molecule("second", 0.5), molecule("third", 0.5)])
    assert [entry.smiles for entry in buffer.entries] == ["first", "second"]


def test_size_zero_keeps_nothing() -> None:
    buffer = ReplayBuffer(0)
    buffer.add([molecule("C", 1.0)])
    assert len(buffer) == 0
    assert buffer.sample(3, generator(0)) == []


def test_purge_forgets_by_scaffold() -> None:
    buffer = ReplayBuffer(5)
    buffer.add([molecule("a", 0.9, "ring"), molecule("b", 0.8, "chain"), molecule("c", 0.7, "ring")])
    buffer.purge({"ring", "unheard of"})
    assert [entry.smiles for entry in buffer.entries] == ["b"]
    buffer.purge([])
    assert len(buffer) == 1
    buffer.add([molecule("a", 0.9, "ring")])  # forgotten, so it may come back
    assert len(buffer) == 2


def test_sampling_is_without_replacement_and_deterministic() -> None:
    buffer = ReplayBuffer(20)
    buffer.add([molecule(f"m{index}", index / 20) for index in range(20)])
    drawn = buffer.sample(8, generator(1))
    assert len({entry.smiles for entry in drawn}) == 8
    assert set(drawn) <= set(buffer.entries)
    assert buffer.sample(8, generator(1)) == drawn
    assert buffer.sample(8, generator(2)) != drawn
    assert sorted(entry.smiles for entry in buffer.sample(50, generator(3))) == sorted(
        entry.smiles for entry in buffer.entries
    )


def test_sampling_is_uniform() -> None:
    """2,000 draws of 1 of 4: chi-square with 3 degrees of freedom passes 30.7 for 1 seed in 10^6."""
    buffer = ReplayBuffer(4)
    buffer.add([molecule(f"m{index}", index / 4) for index in range(4)])
    source = generator(4)
    counts = Counter(buffer.sample(1, source)[0].smiles for _ in range(2000))
    assert sum((counts[f"m{index}"] - 500) ** 2 / 500 for index in range(4)) < 30.7


@pytest.mark.parametrize("size", [2, 5])
def test_state_survives_json_and_so_do_later_draws(size: int) -> None:
    buffer = ReplayBuffer(size)
    buffer.add([molecule("a", 0.1 + 0.2, "s"), molecule("b", 0.3, "s"), molecule("c", 1e-17, "t")])
    other = ReplayBuffer(size)
    other.restore(json.loads(json.dumps(buffer.state())))
    assert other.entries == buffer.entries
    assert other.sample(2, generator(5)) == buffer.sample(2, generator(5))
    for each in (buffer, other):
        each.add([molecule("d", 0.3, "u"), molecule("a", 0.9, "s")])
    assert other.entries == buffer.entries
