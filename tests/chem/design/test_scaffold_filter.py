import json

import pytest

from allmodes.chem.design.scaffold_filter import ScaffoldFilter, scaffold_key

BENZENES = ["Cc1ccccc1", "CCc1ccccc1", "CCCc1ccccc1", "Oc1ccccc1", "Nc1ccccc1"]


def penalise(scaffold_filter: ScaffoldFilter, rewards: dict[str, float]) -> dict[str, float]:
    return scaffold_filter.penalise(rewards, {smiles: scaffold_key(smiles) for smiles in rewards})


@pytest.mark.parametrize("bucket_size", [1, 3, 5])
def test_the_bucket_holds_exactly_its_size_in_sampled_order(bucket_size: int) -> None:
    scaffold_filter = ScaffoldFilter(bucket_size=bucket_size, min_reward=0.5)
    got = penalise(scaffold_filter, dict.fromkeys(BENZENES, 0.9))
    assert list(got) == BENZENES
    assert list(got.values()) == [0.9] * bucket_size + [0.0] * (5 - bucket_size)
    assert scaffold_filter.full() == {"c1ccccc1"}


def test_full_means_that_the_last_place_is_taken() -> None:
    scaffold_filter = ScaffoldFilter(bucket_size=2, min_reward=0.5)
    penalise(scaffold_filter, {BENZENES[0]: 0.9})
    assert scaffold_filter.full() == set()
    penalise(scaffold_filter, {BENZENES[1]: 0.9})
    assert scaffold_filter.full() == {"c1ccccc1"}


def test_only_good_molecules_fill_buckets_and_are_penalised() -> None:
    scaffold_filter = ScaffoldFilter(bucket_size=1, min_reward=0.5)
    poor = dict.fromkeys(BENZENES, 0.49)
    assert penalise(scaffold_filter, poor) == poor
    assert scaffold_filter.full() == set()
    assert penalise(scaffold_filter, {BENZENES[0]: 0.5}) == {BENZENES[0]: 0.5}  # the limit itself is good
    assert penalise(scaffold_filter, {BENZENES[1]: 0.5, BENZENES[2]: 0.49}) == {
        BENZENES[1]: 0.0,
        BENZENES[2]: 0.49,
    }


def test_scaffolds_have_buckets_of_their_own() -> None:
    scaffold_filter = ScaffoldFilter(bucket_size=1, min_reward=0.5)
    got = penalise(scaffold_filter, {"Cc1ccccc1": 0.9, "Cc1ccncc1": 0.8, "CCc1ccncc1": 0.7})
    assert got == {"Cc1ccccc1": 0.9, "Cc1ccncc1": 0.8, "CCc1ccncc1": 0.0}


def test_a_molecule_counts_again_in_every_batch() -> None:
    scaffold_filter = ScaffoldFilter(bucket_size=3, min_reward=0.5)
    got = [penalise(scaffold_filter, {"Cc1ccccc1": 0.9})["Cc1ccccc1"] for _ in range(5)]
    assert got == [0.9, 0.9, 0.9, 0.0, 0.0]


def test_acyclic_molecules_stand_for_themselves() -> None:
    assert scaffold_key("CCCO") == "CCCO"
    assert scaffold_key("CCc1ccccc1") == "c1ccccc1"
    scaffold_filter = ScaffoldFilter(bucket_size=1, min_reward=0.5)
    chains = {"CCO": 0.9, "CCCO": 0.9, "CCCCO": 0.9}
    assert penalise(scaffold_filter, chains) == chains
    assert penalise(scaffold_filter, chains) == dict.fromkeys(chains, 0.0)


def test_state_survives_json() -> None:
    scaffold_filter = ScaffoldFilter(bucket_size=2, min_reward=0.5)
    penalise(scaffold_filter, {"Cc1ccccc1": 0.9, "CCO": 0.9})
    other = ScaffoldFilter(bucket_size=2, min_reward=0.5)
    other.restore(json.loads(json.dumps(scaffold_filter.state())))
    batch = dict.fromkeys([*BENZENES[1:], "CCO"], 0.8)
    assert penalise(other, batch) == penalise(scaffold_filter, batch)
    assert other.full() == scaffold_filter.full() == {"c1ccccc1", "CCO"}
