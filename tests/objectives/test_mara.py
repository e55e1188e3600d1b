"""MARA against a slow reference, its exact optimum, and all batches of a small policy."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import MaraResult, kl_in_rewards, mara_rewards
from allmodes.objectives.mara import Anchor
from tensors import close_with_nan, doubles

FIELDS = ("rewards", "anchor_rewards", "ref_logprobs", "anchor_index", "augmented", "bonus")
ANCHORS: tuple[Anchor, ...] = ("group", "leave_one_out")
PROPERTY = settings(deadline=None, max_examples=150)


@dataclass(frozen=True)
class Sample:
    group: int
    reward: float
    ref: float
    mask: bool
    tau: float


NAN, INF = math.nan, math.inf
SAMPLES = st.lists(
    st.builds(
        Sample,
        group=st.sampled_from([-7, -1, 0, 3, 10**12]),
        reward=st.sampled_from([NAN, 0.0, 0.5, 1.0]) | st.floats(-2, 2),
        ref=st.sampled_from([-3.0, -1.0, 0.0]) | st.floats(-60, 0),
        mask=st.sampled_from([True, True, True, False]),
        tau=st.sampled_from([0.0, 0.5, 0.5, 1.0, INF, -INF]),
    ),
    max_size=16,
)
BETAS = st.floats(1e-3, 5)
CAPS = st.none() | st.floats(0.01, 5)


def call(samples: list[Sample], *, beta: float, anchor: Anchor, cap: float | None = None) -> MaraResult:
    return mara_rewards(
        doubles([s.reward for s in samples]),
        doubles([s.ref for s in samples]),
        beta=beta,
        threshold=doubles([s.tau for s in samples]),
        group_ids=torch.tensor([s.group for s in samples], dtype=torch.long),
        anchor=anchor,
        mask=torch.tensor([s.mask for s in samples], dtype=torch.bool),
        max_gap_bonus=cap,
    )


def slow_mara(samples: list[Sample], *, beta: float, anchor: Anchor, cap: float | None) -> dict[str, Tensor]:
    """Equation 11 one sample at a time, with nothing but Python's max."""
    good = {i for i, s in enumerate(samples) if s.mask and s.reward >= s.tau}
    rows = []
    for i, sample in enumerate(samples):
        candidates = [j for j in good if samples[j].group == sample.group]
        if anchor == "leave_one_out":
            candidates = [j for j in candidates if j != i]
        if i not in good or not candidates:
            rows.append((sample.reward, sample.reward, sample.ref, -1, False, 0.0))
            continue
        z = max(candidates, key=lambda j: (samples[j].ref, samples[j].reward, -j))
        gap_bonus = beta * (samples[z].ref - sample.ref)
        if cap is not None:
            gap_bonus = min(gap_bonus, cap)
        augmented = samples[z].reward + gap_bonus
        rows.append(
            (
                augmented,
                samples[z].reward,
                sample.ref + gap_bonus / beta,
                z,
                True,
                augmented - sample.reward,
            )
        )
    columns = zip(*rows, strict=True) if rows else [()] * len(FIELDS)
    dtypes = {"anchor_index": torch.long, "augmented": torch.bool}
    return {
        name: torch.tensor(list(column), dtype=dtypes.get(name, torch.float64))
        for name, column in zip(FIELDS, columns, strict=True)
    }


@pytest.mark.parametrize("anchor", ANCHORS)
@PROPERTY
@given(samples=SAMPLES, beta=BETAS, cap=CAPS)
def test_equation_11(anchor: Anchor, samples: list[Sample], beta: float, cap: float | None) -> None:
    result = call(samples, beta=beta, anchor=anchor, cap=cap)
    for name, expected in slow_mara(samples, beta=beta, anchor=anchor, cap=cap).items():
        # (gap_bonus / β) · β loses a few last bits of numbers of up to 5 · 60
        close_with_nan(getattr(result, name), expected, 1e-11)


@pytest.mark.parametrize("anchor", ANCHORS)
@PROPERTY
@given(samples=SAMPLES, beta=BETAS, data=st.data())
def test_the_order_of_samples_and_the_names_of_groups_do_not_matter(
    anchor: Anchor, samples: list[Sample], beta: float, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(samples))))
    names = dict(zip([-7, -1, 0, 3, 10**12], data.draw(st.permutations([0, 1, 2, 3, 4])), strict=True))
    before = call(samples, beta=beta, anchor=anchor)
    shuffled = [samples[i] for i in order]
    renamed = [Sample(names[s.group], s.reward, s.ref, s.mask, s.tau) for s in shuffled]
    after = call(renamed, beta=beta, anchor=anchor)
    for name in ("rewards", "anchor_rewards", "ref_logprobs", "augmented", "bonus"):
        expected = getattr(before, name)[torch.tensor(order, dtype=torch.long)]
        close_with_nan(getattr(after, name).double(), expected.double(), 0)  # to the last bit


@pytest.mark.parametrize("anchor", ANCHORS)
@PROPERTY
@given(samples=SAMPLES, beta=BETAS)
def test_rewards_below_the_threshold_are_untouched_to_the_last_bit(
    anchor: Anchor, samples: list[Sample], beta: float
) -> None:
    result = call(samples, beta=beta, anchor=anchor)
    for i, sample in enumerate(samples):
        if not (sample.mask and sample.reward >= sample.tau):
            assert not bool(result.augmented[i])
            close_with_nan(result.rewards[i], doubles([sample.reward])[0], 0)
            close_with_nan(result.ref_logprobs[i], doubles([sample.ref])[0], 0)
            assert float(result.bonus[i]) == 0
            assert int(result.anchor_index[i]) == -1


@pytest.mark.parametrize("anchor", ANCHORS)
def test_a_threshold_above_every_reward_changes_nothing(anchor: Anchor) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, ref_logprobs = torch.randn(2, 64, generator=generator)
    for threshold in (float(rewards.max()) + 1, math.inf):
        result = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=threshold, anchor=anchor)
        assert torch.equal(result.rewards, rewards)
        assert torch.equal(result.anchor_rewards, rewards)
        assert torch.equal(result.ref_logprobs, ref_logprobs)
        assert not bool(result.augmented.any())
        assert torch.equal(result.bonus, torch.zeros(64))


def test_a_group_by_hand() -> None:
    """τ = .5 and β = .1; the likeliest good sample is the second, with the smaller reward."""
    rewards, ref_logprobs = doubles([1.0, 0.6, 0.2, 0.9]), doubles([-9.0, -4.0, -1.0, -6.0])
    result = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.5)
    close_with_nan(result.rewards, doubles([0.6 + 0.5, 0.6, 0.2, 0.6 + 0.2]))
    assert result.anchor_index.tolist() == [1, 1, -1, 1]
    close_with_nan(result.bonus, doubles([0.1, 0.0, 0.0, -0.1]))
    close_with_nan(result.ref_logprobs, doubles([-4.0, -4.0, -1.0, -4.0]))
    close_with_nan(result.anchor_rewards, doubles([0.6, 0.6, 0.2, 0.6]))
    alone = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.5, anchor="leave_one_out")
    assert alone.anchor_index.tolist() == [1, 3, -1, 1]
    close_with_nan(alone.rewards, doubles([0.6 + 0.5, 0.9 - 0.2, 0.2, 0.6 + 0.2]))


def test_ties_for_the_anchor_go_to_the_highest_reward_then_to_the_lowest_index() -> None:
    rewards = doubles([0.6, 0.8, 0.8, 0.7])
    ref_logprobs = doubles([-2.0, -2.0, -2.0, -5.0])
    result = mara_rewards(rewards, ref_logprobs, beta=1, threshold=0.5)
    assert result.anchor_index.tolist() == [1, 1, 1, 1]
    close_with_nan(result.rewards, doubles([0.8, 0.8, 0.8, 3.8]))
    others = mara_rewards(rewards, ref_logprobs, beta=1, threshold=0.5, anchor="leave_one_out")
    assert others.anchor_index.tolist() == [1, 2, 1, 1]


def test_a_reward_equal_to_the_threshold_is_good() -> None:
    """Also in float32, where τ = .1 is not the number .1."""
    rewards = torch.tensor([0.1, 0.1, 0.0])
    result = mara_rewards(rewards, torch.tensor([-1.0, -2.0, -3.0]), beta=1, threshold=0.1)
    assert result.augmented.tolist() == [True, True, False]
    assert result.rewards.dtype == torch.float32


def test_a_lone_good_sample_keeps_its_reward_under_leave_one_out() -> None:
    rewards, ref_logprobs = doubles([0.9, 0.1, 0.8, 0.7, 0.6]), doubles([-5.0, -1.0, -2.0, -3.0, -4.0])
    result = mara_rewards(
        rewards,
        ref_logprobs,
        beta=0.5,
        threshold=0.5,
        group_ids=torch.tensor([4, 4, -2, 4, 9]),
        anchor="leave_one_out",
    )
    assert result.augmented.tolist() == [True, False, False, True, False]
    close_with_nan(result.rewards, doubles([0.7 + 0.5 * 2, 0.1, 0.8, 0.9 - 0.5 * 2, 0.6]))
    assert torch.equal(result.rewards[[1, 2, 4]], rewards[[1, 2, 4]])


def test_a_nan_reward_is_never_an_anchor_never_augmented_and_stays_nan() -> None:
    rewards, ref_logprobs = doubles([NAN, 0.8, 0.9]), doubles([-1.0, -2.0, -3.0])
    result = mara_rewards(rewards, ref_logprobs, beta=1, threshold=-math.inf)
    assert result.anchor_index.tolist() == [-1, 1, 1]
    close_with_nan(result.rewards, doubles([NAN, 0.8, 1.8]), 0)
    close_with_nan(result.bonus, doubles([0.0, 0.0, 0.9]))


@pytest.mark.parametrize("anchor", ANCHORS)
def test_an_empty_completion_is_kept_out_by_the_mask(anchor: Anchor) -> None:
    """Its log π_ref = 0 would win every argmax."""
    rewards, ref_logprobs = doubles([1.0, 1.0, 0.7, 0.2]), doubles([-4.0, 0.0, -9.0, -2.0])
    mask = ref_logprobs < 0
    unmasked = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.5, anchor=anchor)
    assert int(unmasked.anchor_index[2]) == 1
    result = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.5, anchor=anchor, mask=mask)
    without = mara_rewards(rewards[mask], ref_logprobs[mask], beta=0.1, threshold=0.5, anchor=anchor)
    assert torch.equal(result.rewards[mask], without.rewards)
    assert float(result.rewards[1]) == 1.0
    assert 1 not in result.anchor_index.tolist()


def test_the_cap_bounds_the_gap_bonus_and_nothing_else() -> None:
    rewards, ref_logprobs = doubles([0.8, 0.9, 1.0]), doubles([-1.0, -2.0, -300.0])
    plain = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.5)
    capped = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.5, max_gap_bonus=3.0)
    close_with_nan(plain.rewards, doubles([0.8, 0.8 + 0.1, 0.8 + 29.9]))
    close_with_nan(capped.rewards, doubles([0.8, 0.8 + 0.1, 0.8 + 3.0]))


@pytest.mark.parametrize("anchor", ANCHORS)
@PROPERTY
@given(samples=SAMPLES, beta=BETAS, cap=CAPS)
def test_algorithm_2_is_algorithm_1_with_the_kl_in_the_reward(
    anchor: Anchor, samples: list[Sample], beta: float, cap: float | None
) -> None:
    """(R(z), log π_ref(z)) and (r̄, log π_ref) give one KL-regularised reward, whatever the policy."""
    result = call(samples, beta=beta, anchor=anchor, cap=cap)
    ref_logprobs = doubles([s.ref for s in samples])
    logprobs = torch.linspace(-30, -1, len(samples), dtype=torch.float64)
    first = kl_in_rewards(result.rewards, logprobs, ref_logprobs, beta=beta)
    second = kl_in_rewards(result.anchor_rewards, logprobs, result.ref_logprobs, beta=beta)
    close_with_nan(second, first, 1e-11)
    close_with_nan(
        result.bonus, torch.where(result.augmented, result.rewards - doubles([s.reward for s in samples]), 0)
    )


def test_algorithm_2_gives_every_good_sample_the_pair_of_the_anchor() -> None:
    rewards, ref_logprobs = doubles([0.9, 0.3, 0.8]), doubles([-7.0, -1.0, -3.0])
    result = mara_rewards(rewards, ref_logprobs, beta=0.01, threshold=0.5)
    close_with_nan(result.ref_logprobs, doubles([-3.0, -1.0, -3.0]))
    close_with_nan(result.anchor_rewards, doubles([0.8, 0.3, 0.8]), 0)


@PROPERTY
@given(
    outcomes=st.lists(st.tuples(st.floats(-8, 0), st.floats(-1, 1)), min_size=2, max_size=8),
    beta=st.floats(0.05, 2),
    threshold=st.sampled_from([-1.0, 0.0, 0.3]),
)
def test_the_optimum_is_uniform_above_the_threshold(
    outcomes: list[tuple[float, float]], beta: float, threshold: float
) -> None:
    """Remark B.3: π_ref(z) exp(R(z)/β) above τ and π_ref(y) exp(R(y)/β) below, up to one constant."""
    ref_logprobs = doubles([ref for ref, _ in outcomes]).log_softmax(0)
    rewards = doubles([reward for _, reward in outcomes])
    augmented = mara_rewards(rewards, ref_logprobs, beta=beta, threshold=threshold).rewards
    optimum = (ref_logprobs + augmented / beta).log_softmax(0)
    good = rewards >= threshold
    heights = ref_logprobs + rewards / beta
    if bool(good.any()):
        # with full support z is the likeliest good outcome of all (of these, the best)
        top = float(ref_logprobs[good].max())
        anchor_reward = float(rewards[good & (ref_logprobs == top)].max())
        heights = torch.where(good, top + anchor_reward / beta, heights)
        close_with_nan(optimum[good], optimum[good][:1].expand(int(good.sum())))
    close_with_nan(optimum, heights.log_softmax(0))


@pytest.mark.parametrize("anchor", ANCHORS)
def test_empty_batch(anchor: Anchor) -> None:
    for group_ids in (None, torch.empty(0, dtype=torch.long)):
        empty = torch.empty(0)
        result = mara_rewards(empty, empty, beta=1, threshold=0, group_ids=group_ids, anchor=anchor)
        assert all(getattr(result, name).shape == (0,) for name in FIELDS)


def test_no_group_ids_is_one_group() -> None:
    generator = torch.Generator().manual_seed(2)
    rewards, ref_logprobs = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    one = mara_rewards(rewards, ref_logprobs, beta=0.2, threshold=0.1)
    ids = torch.full((40,), -5, dtype=torch.int32)
    assert torch.equal(
        one.rewards, mara_rewards(rewards, ref_logprobs, beta=0.2, threshold=0.1, group_ids=ids).rewards
    )


def test_a_threshold_of_each_sample_decides_for_that_sample() -> None:
    rewards, ref_logprobs = doubles([0.5, 0.5, 0.5]), doubles([-1.0, -2.0, -3.0])
    result = mara_rewards(rewards, ref_logprobs, beta=1, threshold=doubles([0.6, 0.4, 0.5]))
    assert result.augmented.tolist() == [False, True, True]
    assert result.anchor_index.tolist() == [-1, 1, 1]


# --- what batches do to the anchor, by enumeration of all batches ---------------------------------------

GOOD_REWARDS = [0.9, 0.7, 1.0, 0.1, 0.3]  # τ = .5: outcomes 0, 1 and 2 are good
REF = [0.02, 0.3, 0.1, 0.5, 0.08]
POLICY = [0.25, 0.05, 0.2, 0.4, 0.1]
BETA, TAU, GOOD = 0.4, 0.5, [0, 1, 2]


def heights_given_first(
    rewards: list[float], anchor: Anchor, batch: int, *, with_company: bool
) -> list[float]:
    """E[r̄(y₁) + β log π_ref(y₁) | y₁ = a] for every good a, over all other samples of the batch.

    With `with_company` also given that another sample of the batch is good. This is the height that the
    KL-regularised optimum gives to a.
    """
    others = torch.cartesian_prod(*[torch.arange(len(REF))] * (batch - 1)).view(-1, batch - 1)
    weights = doubles(POLICY)[others].prod(1)
    if with_company:
        weights = weights * torch.isin(others, torch.tensor(GOOD)).any(1)
    heights = []
    for first in GOOD:
        batches = torch.cat([torch.full((len(others), 1), first), others], dim=1)
        ref_logprobs = doubles(REF).log()[batches]
        result = mara_rewards(
            doubles(rewards)[batches].flatten(),
            ref_logprobs.flatten(),
            beta=BETA,
            threshold=TAU,
            group_ids=torch.arange(len(batches)).repeat_interleave(batch),
            anchor=anchor,
        )
        height = result.rewards.view_as(batches)[:, 0] + BETA * ref_logprobs[:, 0]
        heights.append(float((weights * height).sum() / weights.sum()))
    return heights


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_leave_one_out_gives_every_good_outcome_the_same_expected_height(batch: int) -> None:
    """It is E[R(z) + β log π_ref(z)] over the *other* samples, given that one of them is good."""
    total, mass = 0.0, 0.0
    for others in itertools.product(range(5), repeat=batch - 1):
        candidates = [y for y in others if y in GOOD]
        if candidates:
            z = max(candidates, key=lambda y: REF[y])
            weight = math.prod(POLICY[y] for y in others)
            total += weight * (GOOD_REWARDS[z] + BETA * math.log(REF[z]))
            mass += weight
    heights = heights_given_first(GOOD_REWARDS, "leave_one_out", batch, with_company=True)
    assert heights == pytest.approx([total / mass] * 3, abs=1e-12)


@pytest.mark.parametrize("batch", [2, 3, 4])
@pytest.mark.parametrize("with_company", [True, False])
def test_the_group_anchor_favours_likely_outcomes(batch: int, with_company: bool) -> None:
    """Equal rewards: the expected height rises with π_ref, for z is at least as likely as the sample."""
    equal = [1.0, 1.0, 1.0, 0.1, 0.3]
    rare, likely, middle = heights_given_first(equal, "group", batch, with_company=with_company)
    assert rare + 0.01 < middle
    assert middle + 0.01 < likely


def test_a_sample_without_company_is_where_leave_one_out_is_not_level() -> None:
    """A lone good sample keeps its reward, so the height of likely outcomes is larger by P(alone) there."""
    equal = [1.0, 1.0, 1.0, 0.1, 0.3]
    level = heights_given_first(equal, "leave_one_out", 2, with_company=True)[0]
    alone = sum(POLICY[y] for y in range(5) if y not in GOOD)
    for outcome, height in zip(
        GOOD, heights_given_first(equal, "leave_one_out", 2, with_company=False), strict=True
    ):
        own = 1.0 + BETA * math.log(REF[outcome])
        assert height == pytest.approx(alone * own + (1 - alone) * level, abs=1e-12)


def fixed_point_ratio(batch: int) -> float:
    """The same by order statistics: no batch is enumerated, and MARA's code is not asked.

    With outcomes sorted by π_ref, z of the others is outcome k with probability F(k)^(G−1) − F(k−1)^(G−1).
    """
    log_q = [-6 * k / 19 for k in reversed(range(20))]
    policy = [1 / 20] * 20
    for _ in range(400):
        cumulative = [sum(policy[: k + 1]) ** (batch - 1) for k in range(20)]
        best = [cumulative[k] - (cumulative[k - 1] if k else 0) for k in range(20)]
        heights = [sum(b * max(x, y) for b, y in zip(best, log_q, strict=True)) for x in log_q]
        powers = [math.sqrt(p * math.exp(h)) for p, h in zip(policy, heights, strict=True)]
        policy = [power / sum(powers) for power in powers]
    return max(policy) / min(policy)


@pytest.mark.parametrize(
    ("anchor", "batch", "ratio"), [("group", 2, 6.752), ("group", 4, 2.580), ("leave_one_out", 2, 1.0)]
)
def test_largest_over_smallest_mass_at_the_fixed_point(anchor: Anchor, batch: int, ratio: float) -> None:
    """20 good outcomes, log π_ref evenly over 6 nats: p ∝ π_ref exp(E[r̄]/β), with batches from p itself."""
    ref_logprobs = torch.linspace(0, -6, 20, dtype=torch.float64).log_softmax(0)
    batches = torch.cartesian_prod(*[torch.arange(20)] * batch)
    result = mara_rewards(
        torch.ones(batches.numel(), dtype=torch.float64),
        ref_logprobs[batches].flatten(),
        beta=1,
        threshold=0.5,
        group_ids=torch.arange(len(batches)).repeat_interleave(batch),
        anchor=anchor,
    )
    first = result.rewards.view_as(batches)[:, 0].view(20, -1)  # r̄ of y₁ = a: (a, other samples)
    others = batches.view(20, -1, batch)[0, :, 1:]
    policy = ref_logprobs.exp()
    for _ in range(100):
        expected = first @ policy[others].prod(1)
        policy = (0.5 * policy.log() + 0.5 * (ref_logprobs + expected)).softmax(0)
    reached = float(policy.max() / policy.min())
    assert reached == pytest.approx(ratio, abs=1e-3 if anchor == "group" else 1e-9)
    if anchor == "group":
        assert reached == pytest.approx(fixed_point_ratio(batch), abs=1e-8)


# --- errors -----------------------------------------------------------------------------------------------


def test_errors_say_expected_and_got() -> None:
    good = torch.zeros(4)
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\); got \(2, 2\)"):
        mara_rewards(torch.zeros(2, 2), torch.zeros(2, 2), beta=1, threshold=0)
    with pytest.raises(InputError, match=r"`rewards` must be floating point; got torch.int64"):
        mara_rewards(torch.zeros(4, dtype=torch.long), good, beta=1, threshold=0)
    with pytest.raises(InputError, match=r"`ref_logprobs` must have shape \(4,\) like `rewards`; got \(3,\)"):
        mara_rewards(good, torch.zeros(3), beta=1, threshold=0)
    with pytest.raises(InputError, match=r"`group_ids` must have shape \(4,\)"):
        mara_rewards(good, good, beta=1, threshold=0, group_ids=torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match=r"`group_ids` must hold integers; got torch\.float32"):
        mara_rewards(good, good, beta=1, threshold=0, group_ids=good)
    with pytest.raises(InputError, match=r"`mask` must have shape \(4,\)"):
        mara_rewards(good, good, beta=1, threshold=0, mask=torch.ones(1, dtype=torch.bool))
    with pytest.raises(InputError, match=r"`mask` must be boolean; got torch\.float32"):
        mara_rewards(good, good, beta=1, threshold=0, mask=good)
    with pytest.raises(InputError, match=r"`threshold` must have shape \(4,\)"):
        mara_rewards(good, good, beta=1, threshold=torch.zeros(1))
    for threshold in (math.nan, torch.tensor([0, 0, math.nan, 0])):
        with pytest.raises(InputError, match="`threshold` must not be NaN"):
            mara_rewards(good, good, beta=1, threshold=threshold)
    for beta in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="`beta` must be a finite number above 0"):
            mara_rewards(good, good, beta=beta, threshold=0)
    for cap in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="`max_gap_bonus` must be a finite number above 0"):
            mara_rewards(good, good, beta=1, threshold=0, max_gap_bonus=cap)
    with pytest.raises(
        InputError, match=r"`anchor` must be one of \('group', 'leave_one_out'\); got 'batch'"
    ):
        mara_rewards(good, good, beta=1, threshold=0, anchor="batch")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_a_ref_logprob_that_is_not_finite_is_refused_only_at_a_good_sample(value: float) -> None:
    rewards = doubles([0.0, 1.0, 0.0, 1.0, 1.0])
    ref_logprobs = doubles([-1.0, -2.0, -3.0, value, -5.0])
    with pytest.raises(InputError, match=r"`ref_logprobs.*must be finite; got"):
        mara_rewards(rewards, ref_logprobs, beta=1, threshold=0.5)
    mask = torch.tensor([True, True, True, False, True])
    for bad_rewards, bad_mask in ((doubles([0.0, 1.0, 0.0, 0.0, 1.0]), None), (rewards, mask)):
        for anchor in ANCHORS:
            result = mara_rewards(
                bad_rewards, ref_logprobs, beta=1, threshold=0.5, mask=bad_mask, anchor=anchor
            )
            assert torch.equal(result.rewards[[0, 2, 3]], bad_rewards[[0, 2, 3]])
            assert bool(torch.isfinite(result.rewards).all())
            assert bool(torch.isfinite(result.bonus).all())
            close_with_nan(result.ref_logprobs[3], doubles([value])[0], 0)


def test_the_error_names_the_place_in_the_batch_and_not_among_the_good_samples() -> None:
    ref_logprobs = doubles([-1.0, -2.0, -3.0, -math.inf, -5.0])
    with pytest.raises(InputError, match="at index 3"):
        mara_rewards(doubles([0.0, 1.0, 0.0, 1.0, 1.0]), ref_logprobs, beta=1, threshold=0.5)


def test_finite_at_extremes() -> None:
    """Rewards and gaps of a million nats stay finite in float32, and the anchor keeps its own reward."""
    rewards = torch.tensor([1e6, 1e6, -1e6])
    result = mara_rewards(rewards, torch.tensor([-1e6, -1e-6, -1.0]), beta=1e3, threshold=0)
    assert bool(torch.isfinite(result.rewards).all())
    assert float(result.rewards[1]) == 1e6
    assert float(result.rewards[0]) == pytest.approx(1e6 + 1e9)
