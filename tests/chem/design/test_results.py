import json
import math

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.results import Hit, RunResult, find_hits, result_of
from allmodes.chem.oracles.results import Evaluation


def make_rows(scores: list[tuple[str, float | None]], failure: str = "qed: raised: no") -> list[LedgerRow]:
    return [
        LedgerRow(
            call=index + 1,
            step=index // 4 + 1,
            evaluation=Evaluation(
                smiles=smiles,
                raw={},
                shaped={},
                reward=reward,
                failure=failure if reward is None else None,
            ),
            penalised_reward=0.0,  # the scaffold filter plays no part in what is a hit
        )
        for index, (smiles, reward) in enumerate(scores)
    ]


@pytest.fixture
def rows(molecules: list[str]) -> list[LedgerRow]:
    """A ledger of the own molecules: rewards in steps of .1 so that ties abound, each ninth a failure."""
    scores = [
        (smiles, None if index % 9 == 4 else (7 * index) % 11 / 10) for index, smiles in enumerate(molecules)
    ]
    return make_rows(scores)


def distances(smiles: list[str]) -> list[list[float]]:
    """By RDKit, one pair at a time."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(line)) for line in smiles]
    return [[1 - DataStructs.TanimotoSimilarity(one, two) for two in prints] for one in prints]


def test_hits_are_best_first_and_earlier_ones_win_ties(rows: list[LedgerRow]) -> None:
    hits = find_hits(rows, hit_threshold=0.5, circle_distance=0.75)
    scored = [(row, row.evaluation.reward) for row in rows if row.evaluation.reward is not None]
    expected = sorted([(-reward, row.call) for row, reward in scored if reward >= 0.5])
    assert [hit.row.call for hit in hits] == [call for _, call in expected]
    assert len({reward for reward, _ in expected}) < len(expected)  # there are ties
    assert any(reward == 0.5 for _, reward in scored)  # and one at the limit


@pytest.mark.parametrize("distance", [0.0, 0.5, 0.75, 0.9, 1.0])
def test_circles_equal_a_naive_greedy_packing(rows: list[LedgerRow], distance: float) -> None:
    hits = find_hits(rows, hit_threshold=0.3, circle_distance=distance)
    table = distances([hit.row.evaluation.smiles for hit in hits])
    kept: list[int] = []
    for index in range(len(hits)):
        if all(table[index][other] > distance for other in kept):
            kept.append(index)
    expected = [kept.index(index) if index in kept else None for index in range(len(hits))]
    assert [hit.circle for hit in hits] == expected
    if distance < 1:
        assert hits[0].circle == 0
        assert len(kept) > 3
    else:
        assert kept == [0]  # nothing is farther than 1


def test_no_hits() -> None:
    rows = make_rows([("CCO", 0.4), ("CCN", None)])
    assert find_hits(rows, hit_threshold=0.5, circle_distance=0.75) == []
    assert find_hits([], hit_threshold=0.5, circle_distance=0.75) == []


def figures(rows: list[LedgerRow], hits: list[Hit], screen: float) -> RunResult:
    return result_of(
        rows,
        hits,
        algorithm="mara",
        seed=3,
        stopped_by="budget",
        steps=12,
        collapsed_at_step=7,
        hit_threshold=screen,
    )


def test_figures_of_a_run(rows: list[LedgerRow]) -> None:
    hits = find_hits(rows, hit_threshold=0.5, circle_distance=0.75)
    result = figures(rows, hits, 0.5)
    table = distances([hit.row.evaluation.smiles for hit in hits])
    similar = [1 - distance for line in table for distance in line]
    assert (result.algorithm, result.seed, result.stopped_by) == ("mara", 3, "budget")
    assert (result.steps, result.collapsed_at_step) == (12, 7)
    assert result.calls == 62
    assert result.hits == len(hits)
    assert result.ob100 is None
    assert result.intdiv1 == pytest.approx(1 - sum(similar) / len(hits) ** 2, abs=1e-6)
    assert result.circles == sum(hit.circle is not None for hit in hits)
    assert 1 < result.circles < result.hits
    assert result.failures == {"qed: raised": 7}
    assert RunResult(**json.loads(json.dumps(result.as_json()))) == result


def test_ob100_counts_calls_to_the_hundredth_hit() -> None:
    scores: list[tuple[str, float | None]] = [("C" * (n + 1), 0.9) for n in range(130)]
    scores[10] = (scores[10][0], None)
    scores[20] = (scores[20][0], 0.1)
    scores[101] = (scores[101][0], 0.1)  # calls 1 to 101 hold 99 hits, call 103 the hundredth
    rows = make_rows(scores)
    assert figures(rows, [], 0.5).ob100 == 103
    assert figures(rows[:102], [], 0.5).ob100 is None
    assert figures(rows[:103], [], 0.5).hits == 100


def test_failures_are_counted_by_component_and_kind() -> None:
    rows = [
        *make_rows([("C", None)], "dock: timed_out: no answer within 30 s"),
        *make_rows([("CC", None)], "dock: timed_out: no answer within 30 s; does: it flush"),
        *make_rows([("CCC", None)], "dock: raised: ValueError: x"),
        *make_rows([("CCCC", None)], "qed: raised: ValueError: x"),
        *make_rows([("CCCCC", 0.5)]),
    ]
    assert figures(rows, [], 0.9).failures == {"dock: timed_out": 2, "dock: raised": 1, "qed: raised": 1}


def test_figures_of_a_run_without_hits_or_calls() -> None:
    nothing = figures([], [], 0.5)
    assert (nothing.calls, nothing.hits, nothing.circles, nothing.failures) == (0, 0, 0, {})
    assert nothing.ob100 is None
    assert nothing.intdiv1 is None
    one = make_rows([("CCO", 1.0)])
    result = figures(one, find_hits(one, hit_threshold=0.5, circle_distance=0.75), 0.5)
    assert (result.hits, result.circles) == (1, 1)
    assert result.intdiv1 == pytest.approx(0)
    assert not math.isnan(result.intdiv1 or 0)
