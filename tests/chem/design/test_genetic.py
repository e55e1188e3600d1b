"""Offspring: molecules that are valid and new, the same for the same seed, and scored within the budget."""

import json
import random
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors

from allmodes.chem.design.design import new_design, resume_design
from allmodes.chem.design.genetic import _EDITS, _closed, _open, crossover, make_offspring, mutate
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.molecules import canonical_smiles
from allmodes.errors import ConfigError
from interruption import interrupted_after
from molecule_settings import training_config

CELECOXIB = "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1"
PARENTS = [
    CELECOXIB,
    "CCCCc1nc(Cl)c(CO)n1Cc1ccc(-c2ccccc2-c2nnn[nH]2)cc1",
    "CC(C)Cc1ccc([C@@H](C)C(=O)O)cc1",
    "O=C([O-])c1ccccc1Nc1ccccc1",
    "CCO",
]


def rings_of(smiles: str) -> list[int]:
    molecule = Chem.MolFromSmiles(smiles)  # which owns the rings
    return [len(ring) for ring in molecule.GetRingInfo().AtomRings()]


def test_offspring_are_new_valid_molecules_and_the_same_for_the_same_seed() -> None:
    parents = [str(canonical_smiles(line)) for line in PARENTS]
    first = make_offspring(parents, 60, is_known=lambda _: False, mutation=0.5, seed=3)
    assert len(first) == len(set(first)) == 60
    assert not set(first) & set(parents)
    assert [canonical_smiles(line) for line in first] == first
    assert all("." not in line and max(rings_of(line), default=0) <= 7 for line in first)
    assert make_offspring(parents, 60, is_known=lambda _: False, mutation=0.5, seed=3) == first
    assert make_offspring(parents, 60, is_known=lambda _: False, mutation=0.5, seed=4) != first
    others = make_offspring(parents, 60, is_known=first.__contains__, mutation=0.5, seed=3)
    assert not set(others) & set(first)


def test_the_best_are_parents_most_often() -> None:
    """Of two parents the first has 1 / 0.02 of 1 / 0.02 + 1 / 1.02 of the draws: 98 %."""
    parents = ["C" * 12, "FC(F)(F)F"]
    made = make_offspring(parents, 40, is_known=lambda _: False, mutation=1.0, seed=0)
    assert sum("F" in line and "CCCC" not in line for line in made) <= 4


@pytest.mark.parametrize("edit", _EDITS, ids=lambda edit: edit.__name__)
def test_each_edit_changes_what_its_name_says(edit: object) -> None:
    atoms = {"_append_atom": 1, "_insert_atom": 1, "_delete_atom": -1}.get(edit.__name__, 0)  # type: ignore[attr-defined]
    rings = {"_close_ring": 1, "_open_ring": -1}.get(edit.__name__, 0)  # type: ignore[attr-defined]
    rng = random.Random(1)
    found = set()
    for smiles in PARENTS[:4] * 10:
        molecule = _open(smiles)
        before = Chem.MolFromSmiles(smiles)
        changed = _closed(molecule) if edit(molecule, rng) else None  # type: ignore[operator]
        if changed is None or changed == canonical_smiles(smiles):
            continue
        after = Chem.MolFromSmiles(changed)
        assert after.GetNumHeavyAtoms() - before.GetNumHeavyAtoms() == atoms
        assert (after.GetNumBonds() - before.GetNumBonds()) == atoms + rings
        found.add(changed)
    assert len(found) >= 4


def test_a_child_by_crossover_is_made_of_both_parents() -> None:
    """Bromines mark the one, iodines the other; each bond that is cut is single, so no valence changes."""
    one, two = "Brc1ccc(CCC2CCC(Br)CC2)cc1", "IC1CCN(CCc2ccc(I)cc2)CC1"
    rng = random.Random(0)
    children = [crossover(one, two, rng=rng) for _ in range(60)]
    made = [child for child in children if child is not None]
    assert len(made) > 30
    mixed = [child for child in made if "Br" in child and "I" in child]
    assert len(mixed) > 15
    for child in made:
        molecule = Chem.MolFromSmiles(child)
        assert Descriptors.NumRadicalElectrons(molecule) == 0
        assert child.count("Br") <= 2
        assert child.count("I") <= 2


def test_no_ring_is_bridged_over_an_aromatic_one() -> None:
    assert _closed(_open("CC(C)Cc1ccc2cc1C2(C)C(=O)O")) is None
    assert _closed(_open("C1CC2CCC1C2")) is not None  # norbornane
    assert _closed(_open("c1ccc2ccccc2c1")) is not None


def test_what_cannot_be_cut_or_changed_gives_nothing() -> None:
    rng = random.Random(0)
    assert crossover("C", "N", rng=rng) is None
    assert mutate("[Na+]", rng=rng) is None
    assert make_offspring([], 5, is_known=lambda _: False, mutation=0.5, seed=1) == []
    assert make_offspring(["C"], 5, is_known=lambda _: True, mutation=0.5, seed=1) == []


def test_selection_of_offspring_climbs() -> None:
    """Without any policy: the best of 30 generations is more like celecoxib than the best of its parents."""
    from allmodes.chem.benchmarks import score

    known = dict(zip(PARENTS[1:], score("celecoxib_rediscovery", PARENTS[1:]), strict=True))
    start = max(known.values())
    for seed in range(30):
        best = sorted(known, key=lambda line: -known[line])[:10]
        new = make_offspring(best, 20, is_known=known.__contains__, mutation=0.5, seed=seed)
        known |= dict(zip(new, score("celecoxib_rediscovery", new), strict=True))
    assert max(known.values()) > start + 0.15


GENETIC = {"offspring": 6, "mutation": 0.5}


def test_offspring_are_calls_within_the_budget_and_fill_the_replay_buffer(
    tiny_prior: Path, tmp_path: Path
) -> None:
    config = training_config(tiny_prior, budget=101, genetic=GENETIC, replay={"size": 30, "sample": 8})
    new_design(config, tmp_path / "run")
    run = tmp_path / "run/reinvent-0"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    made = [row.get("offspring", 0) for row in rows]
    assert made[0] == 0  # no parents before the first update
    assert 0 < made[1] <= 6  # some have tokens that the agent does not know
    assert all(row["new_share"] <= 1 for row in rows)
    ledger = read_ledger(run / "ledger.sqlite")
    assert [row.call for row in ledger] == list(range(1, 102))
    sampled = {
        json.loads(line)["outcome"] for line in (run / "samples.jsonl").read_text().splitlines()
    }  # of the agent
    born = [row.evaluation.smiles for row in ledger if row.evaluation.smiles not in sampled]
    assert len(born) >= sum(row.get("offspring", 0) for row in rows[:-1])
    policy_tokens = {"C", "N", "O", "S"}
    assert all(set(line) <= policy_tokens for line in born)  # what the agent can write


def test_an_interrupted_run_with_offspring_equals_the_uninterrupted(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batches, and their offspring, on their way at the checkpoint."""
    config = training_config(
        tiny_prior, budget=130, genetic=GENETIC, lookahead=2, checkpoint_every=3, seeds=[5]
    )
    new_design(config, tmp_path / "whole")
    with interrupted_after(monkeypatch, step=5):
        new_design(config, tmp_path / "killed")
    resume_design(tmp_path / "killed")
    whole, killed = (tmp_path / name / "reinvent-5" for name in ("whole", "killed"))
    assert (whole / "metrics.jsonl").read_text() == (killed / "metrics.jsonl").read_text()
    assert read_ledger(whole / "ledger.sqlite") == read_ledger(killed / "ledger.sqlite")


def test_offspring_need_a_buffer_of_two(tiny_prior: Path) -> None:
    with pytest.raises(ConfigError, match=r"`replay.size` of at least 2 with \[genetic\]; got 1"):
        training_config(tiny_prior, genetic=GENETIC, replay={"size": 1})
