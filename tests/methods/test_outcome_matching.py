"""Outcome marginal matching against numbers by hand and a slow loop."""

import copy
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, Batch, OutcomeMatching, Result, State, state_from_json, state_to_json


def call(
    method: OutcomeMatching,
    rewards: list[float] | Tensor,
    outcomes: list[int] | Tensor,
    *,
    prompts: list[int] | Tensor | None = None,
    state: State | None = None,
) -> Result:
    rewards = torch.as_tensor(rewards, dtype=torch.float64)
    prompt_ids = torch.zeros(len(rewards), dtype=torch.long) if prompts is None else torch.as_tensor(prompts)
    return method(
        Batch(
            rewards=rewards,
            group_ids=prompt_ids,
            outcome_ids=torch.as_tensor(outcomes, dtype=torch.long),
            prompt_ids=prompt_ids,
        ),
        beta=0.0,
        state=state,
    )


def test_rewards_of_one_group_by_hand() -> None:
    # T = 4 good ones, two known outcomes: p̃ of a is (2 + .5)/4, that of b .5/4.
    found = call(OutcomeMatching(threshold=1.0), [1, 1, 1, 1, 0, 0], [7, 7, 7, 3, -1, 9]).rewards
    expected = [1 + math.log(0.5 / 0.625)] * 3 + [1 + math.log(0.5 / 0.125), 0, 0]
    assert expected[0] == pytest.approx(0.77685, abs=1e-5)
    assert expected[3] == pytest.approx(2.38629, abs=1e-5)
    assert found.tolist() == pytest.approx(expected, abs=1e-14)
    assert METHODS["outcome_matching"] is OutcomeMatching


def table(counts: dict[int, float]) -> dict[str, Tensor]:
    """The state of prompt 0 after many visits."""
    ids = sorted(counts)
    ones = torch.ones(len(ids), dtype=torch.float64)
    return {
        "prompt_ids": torch.zeros(len(ids), dtype=torch.long),
        "outcome_ids": torch.tensor(ids),
        "counts": torch.tensor([counts[i] for i in ids], dtype=torch.float64),
        "good": ones,
        "seen": ones,
        "reward_sums": ones,
        "multipliers": torch.zeros(len(ids), dtype=torch.float64),
    }


def test_guard_keeps_the_penalty_of_a_collapsed_prompt_by_hand() -> None:
    lost = table({0: 64.0} | dict.fromkeys(range(1, 16), 0.0))
    collapsed = call(OutcomeMatching(threshold=1.0), [1.0] * 8, [0] * 8, state=lost).rewards
    assert collapsed.tolist() == pytest.approx([0.426] * 8, abs=5e-4)
    found_again = call(OutcomeMatching(threshold=1.0), [1.0] * 8, [0] * 7 + [3], state=lost).rewards
    assert float(found_again[-1]) == pytest.approx(6.116, abs=5e-4)


# --- By hand. ---


def test_balanced_outcomes_have_equal_bonuses() -> None:
    found = call(OutcomeMatching(threshold=1.0), [1.0] * 6 + [0.0], [3, 9, 4, 4, 9, 3, 8]).rewards
    assert len(set(found[:6].tolist())) == 1
    # Without itself each has (1 + 1/3)/6 of the others, less than a third: noise must not look like surplus.
    assert float(found[0]) == pytest.approx(1 + math.log((1 / 3) / ((1 + 1 / 3) / 6)))


@pytest.mark.parametrize("pseudo_count", [1.0, 0.5])
def test_a_lone_new_outcome_has_the_share_of_the_pseudo_count(pseudo_count: float) -> None:
    method = OutcomeMatching(threshold=1.0, pseudo_count=pseudo_count, max_log_ratio=10)
    found = call(method, [1.0] * 5, [2, 2, 2, 2, 5]).rewards
    share = pseudo_count * 0.5 / (5 - 1 + pseudo_count)
    assert float(found[-1]) == pytest.approx(1 + math.log(0.5 / share))


def test_wrong_unscored_and_keyless_samples_neither_change_nor_count() -> None:
    method = OutcomeMatching(threshold=1.0)
    first = call(method, [1.0, 1, 1, 1], [7, 7, 7, 3])
    others = ([0.2, math.nan, 5.0, 0.0], [1, 7, -1, 2])
    mixed = call(method, [1.0, 1, 1, 1, *others[0]], [7, 7, 7, 3, *others[1]])
    assert torch.equal(mixed.rewards[:4], first.rewards)
    torch.testing.assert_close(mixed.rewards[4:], torch.tensor(others[0]).double(), equal_nan=True)
    assert remembered(mixed.state) == remembered(first.state) | {(0, 1): 0, (0, 2): 0}
    after = call(method, *others, state=first.state)
    assert remembered(after.state) == remembered(first.state) | {(0, 1): 0, (0, 2): 0}


def test_memory_keeps_four_samples_an_outcome_and_their_ratios_after_the_rewards() -> None:
    method = OutcomeMatching(threshold=1.0)
    state = call(method, [1.0] * 16, [1] * 12 + [2] * 4).state  # T = 16, K = 2: 8 stay
    assert remembered(state) == pytest.approx({(0, 1): 6, (0, 2): 2})
    found = call(method, [1.0] * 2, [2, 2], state=state)
    # The old counts, with the batch but not yet shrunk: p̃ = (2 + 2 − 1 + .5)/(8 + 2).
    assert found.rewards.tolist() == pytest.approx([1 + math.log(0.5 / 0.35)] * 2)
    assert remembered(found.state) == pytest.approx({(0, 1): 6 * 0.8, (0, 2): 4 * 0.8})
    # A third outcome makes the memory 12; the first is known although this batch lacks it.
    found = call(method, [1.0] * 2, [2, 3], state=state)
    assert float(found.rewards[1]) == pytest.approx(1 + math.log((1 / 3) / ((1 / 3) / 10)))
    assert remembered(found.state) == pytest.approx({(0, 1): 6, (0, 2): 3, (0, 3): 1})


def test_memory_of_none_counts_the_batch_alone() -> None:
    method = OutcomeMatching(threshold=1.0, per_outcome=0)
    state = call(method, [1.0] * 16, [1] * 12 + [2] * 4).state
    again = call(method, [1.0] * 4, [1, 1, 1, 2], state=state).rewards
    torch.testing.assert_close(again, call(method, [1.0] * 4, [1, 1, 1, 2]).rewards)


def test_an_outcome_stays_known_after_any_time() -> None:
    method = OutcomeMatching(threshold=1.0)
    state = call(method, [1.0] * 2, [1, 2]).state
    for _ in range(330):  # shrunk tenfold each time: below the least float64
        state = call(method, [1.0] * 72, [1] * 72, state=state).state
    assert remembered(state)[0, 1] == pytest.approx(8)  # 4 for each of two
    found = call(method, [1.0] * 8, [1] * 8, state=state).rewards
    assert (found < 0.6).all()


def test_counts_are_of_the_prompt_not_of_the_group() -> None:
    method, outcomes = OutcomeMatching(threshold=1.0), torch.tensor([7, 7, 7, 3])
    ids: dict[str, Any] = {"outcome_ids": outcomes, "prompt_ids": torch.full((4,), 11)}
    rewards = torch.ones(4, dtype=torch.float64)
    one = method(Batch(rewards=rewards, group_ids=torch.zeros(4).long(), **ids), beta=0.0)
    two = method(Batch(rewards=rewards, group_ids=torch.tensor([0, 0, 1, 1]), **ids), beta=0.0)
    assert torch.equal(one.rewards, two.rewards)
    apart = call(method, rewards, outcomes, prompts=[11, 11, 12, 12]).rewards
    assert apart.tolist() == pytest.approx([1 + math.log(1 / 1)] * 2 + [1 + math.log(0.5 / 0.25)] * 2)


def test_an_outcome_that_was_mostly_judged_wrong_is_not_paid() -> None:
    state = call(OutcomeMatching(threshold=1.0), [1.0, 1, 0, 0], [1, 1, 2, 2]).state
    rewards, outcomes = [1.0, 1.0, 1.0], [1, 2, 2]  # 2 of 4 good is not more than half
    found = call(OutcomeMatching(threshold=1.0), rewards, outcomes, state=state)
    assert found.rewards[1:].tolist() == [1, 1]
    assert remembered(found.state) == {(0, 1): 3, (0, 2): 0}
    assert found.metrics["overruled"] == pytest.approx(2 / 3)
    found = call(OutcomeMatching(threshold=1.0, min_good_share=0), rewards, outcomes, state=state)
    # Known now: 1 with 2 + 1, 2 with 2 of 5: p̃ of 2 is (1 + .5)/5.
    assert found.rewards[1:].tolist() == pytest.approx([1 + math.log(0.5 / 0.3)] * 2)


def test_shares_in_proportion_to_reward_by_hand() -> None:
    method = OutcomeMatching(threshold=0.5, target="reward", max_log_ratio=10)
    found = call(method, [0.9, 0.7, 0.8, 0.1], [1, 1, 2, 3])  # w = .8, .8: means of sightings
    assert found.rewards.tolist() == pytest.approx(
        [1 + math.log(0.5 / (1.5 / 3))] * 2 + [1 + math.log(0.5 / (0.5 / 3))] + [0.1]
    )
    found = call(method, [1.0, 0.5], [4, 5], state=found.state)  # w = .8, .8, 1, .5 with memory 2, 1, 0, 0
    g = torch.tensor([1.0, 0.5]) / 3.1
    assert found.rewards.tolist() == pytest.approx((1 + (g / (g / 5)).log()).tolist())
    assert call(OutcomeMatching(threshold=3.0, target="reward"), [3.0], [1]).rewards.tolist() == [3.0]


def test_tempered_shares_by_hand() -> None:
    method = OutcomeMatching(threshold=0.5, target="tempered", temperature=0.2)
    found = call(method, [1.0, 0.8, 0.8], [1, 2, 2]).rewards
    g = 1 / (1 + math.e)
    expected = [1 + math.log((1 - g) / ((1 - g) / 3))] + [1 + math.log(g / ((1 + g) / 3))] * 2
    assert found.tolist() == pytest.approx(expected)


def test_strength_gap_and_limit_scale_the_bonus() -> None:
    plain = call(OutcomeMatching(threshold=1.0), [1.0] * 4, [7, 7, 7, 3]).rewards - 1
    scaled = OutcomeMatching(threshold=1.0, strength=0.5, reward_gap=3.0)
    torch.testing.assert_close(call(scaled, [1.0] * 4, [7, 7, 7, 3]).rewards - 1, 1.5 * plain)
    limited = OutcomeMatching(threshold=1.0, max_log_ratio=0.1)
    assert call(limited, [1.0] * 4, [7, 7, 7, 3]).rewards.tolist() == pytest.approx([0.9] * 3 + [1.1])


def test_multipliers_by_hand() -> None:
    method = OutcomeMatching(threshold=1.0, dual_rate=0.01)
    first = call(method, [1.0, 1, 1, 1, 0], [7, 7, 7, 3, 9])
    assert torch.equal(first.rewards, call(OutcomeMatching(threshold=1.0), *SKEWED).rewards)
    # C = 4, G = 5: η/G (4 − 6) and η/G (4 − 2), less their mean under s = (3.5, 1.5)/5.
    raised = torch.tensor([0.01 / 5 * 2, 0.01 / 5 * -2], dtype=torch.float64)
    expected = raised - (raised * torch.tensor([0.3, 0.7], dtype=torch.float64)).sum()
    assert column(first.state, "multipliers")[:2].tolist() == pytest.approx(expected.tolist())
    second = call(method, *SKEWED, state=first.state).rewards
    without = call(OutcomeMatching(threshold=1.0), *SKEWED, state=first.state).rewards
    assert (second - without).tolist() == pytest.approx([*expected[[1, 1, 1, 0]].tolist(), 0])
    state = first.state
    for _ in range(10):
        state = call(OutcomeMatching(threshold=1.0, dual_rate=5.0), *SKEWED, state=state).state
    assert column(state, "multipliers").abs().max() == 2


SKEWED = ([1.0, 1, 1, 1, 0], [7, 7, 7, 3, 9])


def column(state: State | None, name: str) -> Tensor:
    assert state is not None
    return state[name]


def remembered(state: State | None) -> dict[tuple[int, int], float]:
    """Counts by prompt and outcome."""
    ids = zip(column(state, "prompt_ids").tolist(), column(state, "outcome_ids").tolist(), strict=True)
    return dict(zip(ids, column(state, "counts").tolist(), strict=True))


# --- Against a slow loop. ---


@dataclass
class Slow:
    """The same, one sample after another."""

    method: OutcomeMatching
    counts: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    verdicts: dict[int, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(dict))
    multipliers: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def __call__(self, rewards: list[float], outcomes: list[int], prompts: list[int]) -> list[float]:
        new = list(rewards)
        for prompt in sorted(set(prompts)):
            rows = [i for i, p in enumerate(prompts) if p == prompt and rewards[i] == rewards[i]]
            for i, value in self.visit(prompt, rows, rewards, outcomes).items():
                new[i] = value
        return new

    def weight(self, reward: float) -> float:
        m = self.method
        return {"uniform": 1.0, "reward": reward, "tempered": math.exp(reward / m.temperature)}[m.target]

    def visit(
        self, prompt: int, rows: list[int], rewards: list[float], outcomes: list[int]
    ) -> dict[int, float]:
        m, counts, verdicts = self.method, self.counts[prompt], self.verdicts[prompt]
        for i in rows:
            if outcomes[i] >= 0:
                verdict = verdicts.setdefault(outcomes[i], [0, 0, 0.0])  # good, seen, sum of good rewards
                verdict[1] += 1
                if rewards[i] >= m.threshold:
                    verdict[0] += 1
                    verdict[2] += rewards[i]
        known = [o for o, (good, seen, _) in verdicts.items() if good > m.min_good_share * seen]
        paid = [i for i in rows if outcomes[i] in known and rewards[i] >= m.threshold]
        drawn = Counter(outcomes[i] for i in paid)
        weights = {o: self.weight(verdicts[o][2] / verdicts[o][0]) for o in known}
        g = {o: weights[o] / sum(weights.values()) for o in known}
        n = {o: counts.get(o, 0) + drawn[o] for o in known}
        total, e = sum(n.values()), m.pseudo_count
        s = {o: (n[o] + e * g[o]) / (total + e) for o in known}
        lam = self.multipliers[prompt]

        def bonus(o: int, share: float) -> float:
            ratio = math.log(g[o] / share)
            return m.strength * max(-m.max_log_ratio, min(m.max_log_ratio, ratio)) + lam.get(o, 0)

        shift = max(0, -sum(s[o] * bonus(o, s[o]) for o in known) - m.max_penalty)
        new: dict[int, float] = {}
        for i in paid:
            o = outcomes[i]
            share = (n[o] - 1 + e * g[o]) / (total - 1 + e)
            base = rewards[i] if m.target == "uniform" else max(m.threshold, m.reward_gap)
            new[i] = base + m.reward_gap * (bonus(o, share) + shift)
        if paid:
            for o, extra in drawn.items():
                counts[o] = counts.get(o, 0) + extra
            scale = min(1, m.per_outcome * len(counts) / sum(counts.values()))
            self.counts[prompt] = {o: scale * count for o, count in counts.items()}
            raised = {
                o: lam.get(o, 0) + m.dual_rate / len(rows) * (len(paid) - drawn[o] / g[o]) for o in known
            }
            average = sum(s[o] * raised[o] for o in known)
            self.multipliers[prompt] = {o: max(-2, min(2, raised[o] - average)) for o in known}
        return new


@pytest.mark.parametrize(
    "method",
    [
        OutcomeMatching(threshold=0.6),
        OutcomeMatching(threshold=0.6, min_good_share=0, strength=0.3, reward_gap=2.0, max_penalty=0.05),
        OutcomeMatching(threshold=0.6, per_outcome=1.5, pseudo_count=0.3, max_log_ratio=0.7),
        OutcomeMatching(threshold=0.6, target="reward", dual_rate=0.05),
        OutcomeMatching(threshold=0.6, target="tempered", temperature=0.3, dual_rate=2.0),
    ],
)
def test_rewards_and_memory_are_those_of_a_slow_loop(method: OutcomeMatching) -> None:
    generator = torch.Generator().manual_seed(0)
    slow, state = Slow(method), None
    for step in range(40):
        count = 24
        prompts = torch.randint(0, 5, (count,), generator=generator) * 10**17 - 3
        outcomes = torch.randint(-1, 6, (count,), generator=generator)
        outcomes[(torch.rand(count, generator=generator) < 0.4) & (outcomes >= 0)] = 2
        outcomes[outcomes > 0] = outcomes[outcomes > 0] * 10**17 + step % 2 * (outcomes[outcomes > 0] == 5)
        good = torch.rand(count, generator=generator) < torch.where(outcomes % 3 == 0, 0.3, 0.8)
        rewards = torch.where(good, 0.6, 0.0) + 0.4 * torch.rand(count, generator=generator)
        rewards = rewards.double().masked_fill(torch.rand(count, generator=generator) < 0.05, math.nan)
        result = call(method, rewards, outcomes, prompts=prompts, state=state)
        expected = slow(rewards.tolist(), outcomes.tolist(), prompts.tolist())
        assert result.rewards.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
        state = result.state
    counts = {(p, o): c for p, of in slow.counts.items() for o, c in of.items()}
    assert {pair: c for pair, c in remembered(state).items() if c} == pytest.approx(counts, abs=1e-12)
    pairs = list(remembered(state))
    assert all(one < other for one, other in pairwise(pairs))
    multipliers = dict(zip(pairs, column(state, "multipliers").tolist(), strict=True))
    for prompt, of in slow.multipliers.items():
        for outcome, value in of.items():
            assert multipliers[prompt, outcome] == pytest.approx(value, abs=1e-12)


# --- Invariances. ---


def random_batch(seed: int, count: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randint(0, 3, (count,), generator=generator).double() / 2
    outcomes = torch.randint(-1, 5, (count,), generator=generator)
    return rewards, outcomes, torch.randint(0, 4, (count,), generator=generator)


@pytest.mark.parametrize("target", ["uniform", "tempered"])
def test_order_names_and_ranks_change_nothing(target: str) -> None:
    method = OutcomeMatching(threshold=0.5, target=target, dual_rate=0.1)  # pyright: ignore[reportArgumentType]
    state = other = renamed = None
    new_names = torch.tensor([40, 2**62, 7, 900, 3, -1])  # the last is of outcome −1
    new_prompts = torch.tensor([50, 8, 2**61, -2])
    for seed in range(6):
        rewards, outcomes, prompts = random_batch(seed)
        order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(seed))
        result = call(method, rewards, outcomes, prompts=prompts, state=state)
        # Processes gather in another order.
        moved = call(method, rewards[order], outcomes[order], prompts=prompts[order], state=other)
        torch.testing.assert_close(moved.rewards, result.rewards[order], rtol=0, atol=1e-13)
        named = call(method, rewards, new_names[outcomes], prompts=new_prompts[prompts], state=renamed)
        torch.testing.assert_close(named.rewards, result.rewards, rtol=0, atol=1e-13)
        state, other, renamed = result.state, moved.state, named.state
    assert remembered(other) == pytest.approx(remembered(state))


def test_prompts_do_not_know_each_other() -> None:
    method, state, states = OutcomeMatching(threshold=0.5), None, [None] * 4
    for seed in range(4):
        rewards, outcomes, prompts = random_batch(seed)
        together = call(method, rewards, outcomes, prompts=prompts, state=state)
        for prompt in range(4):
            rows = prompts == prompt
            alone = call(method, rewards[rows], outcomes[rows], prompts=prompts[rows], state=states[prompt])
            assert torch.equal(alone.rewards, together.rewards[rows])
            states[prompt] = alone.state  # pyright: ignore[reportArgumentType, reportCallIssue]
        state = together.state


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit() -> None:
    method = OutcomeMatching(threshold=0.5, target="reward", dual_rate=0.03)
    state = resumed = None
    for seed in range(12):
        rewards, outcomes, prompts = random_batch(seed)
        one = call(method, rewards, outcomes, prompts=prompts, state=state)
        two = call(method, rewards, outcomes, prompts=prompts, state=resumed)
        assert torch.equal(one.rewards, two.rewards)
        state, resumed = one.state, state_from_json(state_to_json(two.state))
    assert state_to_json(state) == state_to_json(resumed)


def test_a_call_leaves_the_state_it_was_given() -> None:
    """So a trainer that drops the new one, as in evaluation, has changed nothing."""
    method = OutcomeMatching(threshold=0.5, dual_rate=0.1)
    state = call(method, *SKEWED).state
    before = copy.deepcopy(state)
    call(method, [1.0, 1, 0.0], [7, 8, 3], state=state)
    assert state_to_json(state) == state_to_json(before)


def test_float32_rewards_meet_their_threshold() -> None:
    batch = Batch(
        rewards=torch.tensor([0.9, 0.9, 0.9]),
        group_ids=torch.zeros(3).long(),
        outcome_ids=torch.tensor([1, 1, 2]),
        prompt_ids=torch.zeros(3).long(),
    )
    result = OutcomeMatching(threshold=0.9)(batch, beta=0.0)
    assert result.metrics["paid"] == 1
    assert result.rewards.dtype == torch.float32


# --- What it asks for. ---


def test_it_asks_for_prompts_and_outcomes() -> None:
    rewards, ids = torch.ones(2), torch.zeros(2).long()
    with pytest.raises(InputError, match="`prompt_ids` of the batch is needed"):
        OutcomeMatching(threshold=1.0)(Batch(rewards=rewards, group_ids=ids, outcome_ids=ids), beta=0.0)
    with pytest.raises(InputError, match="`outcome_ids` of the batch is needed"):
        OutcomeMatching(threshold=1.0)(Batch(rewards=rewards, group_ids=ids, prompt_ids=ids), beta=0.0)


def test_shares_of_rewards_need_positive_finite_ones() -> None:
    with pytest.raises(InputError, match="`threshold` must be above 0"):
        OutcomeMatching(threshold=0.0, target="reward")
    with pytest.raises(InputError, match="must be finite"):
        call(OutcomeMatching(threshold=0.5, target="tempered"), [1.0, math.inf], [1, 2])


def test_it_describes_what_was_chosen() -> None:
    assert OutcomeMatching(threshold=0.5).describe() == "threshold τ = 0.5; strength 1"
    about = OutcomeMatching(threshold=0.5, target="tempered", dual_rate=0.002, min_good_share=0).describe()
    assert "temperature 1" in about
    assert "dual rate 0.002" in about
