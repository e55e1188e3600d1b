"""Rows of a trainer's batch to samples and back, without a trainer."""

import math
import random

import pytest
import torch

from allmodes.errors import InputError
from allmodes.integrations.rows import Sessions, transform_rows
from allmodes.methods import MARA, BestOfN, EntropyBonus, Method, OutcomeMatching, Plain
from allmodes.objectives import BatchQuantile
from method_cases import cases, complete_batch

# Two prompts; the second response to the first has three rows, whose last one is not the last in the batch.
GROUPS = ["a", "a", "pad", "b", "a", "b", "a"]
SESSIONS = [0, 1, 0, 0, 1, 1, 1]
POSITIONS = [0, 2, 0, 0, 0, 0, 1]
PADDING = [False, False, True, False, False, False, False]
SCORES = [1.0, 1.0, 9.0, 0.0, 1.0, 1.0, 1.0]
MASK = [[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1]]


def sessions() -> Sessions:
    return Sessions(groups=GROUPS, sessions=SESSIONS, positions=POSITIONS, is_padding=PADDING)


def tokens(seed: int) -> torch.Tensor:
    return -torch.rand(7, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask() -> torch.Tensor:
    return torch.tensor(MASK)


def totals(values: torch.Tensor) -> list[float]:
    """Of the four samples, by hand: a0, a1 (rows 1, 4 and 6), b0, b1."""
    rows = [
        sum(v for v, m in zip(row, line, strict=True) if m)
        for row, line in zip(values.tolist(), MASK, strict=True)
    ]
    return [rows[0], rows[1] + rows[4] + rows[6], rows[3], rows[5]]


def test_samples_by_hand() -> None:
    found = sessions()
    assert found.count == 4
    assert found.last.tolist() == [0, 1, 3, 5]  # of a1 the row with the highest place, not the last one
    assert found.group_ids.tolist() == [0, 0, 1, 1]
    assert found.spread(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [1, 2, 0, 3, 2, 4, 2]
    assert found.sums(torch.arange(7.0)).tolist() == [0, 1 + 4 + 6, 3, 5]
    assert found.in_groups([*"wxyz"]) == [["w", "x"], ["y", "z"]]


def test_mara_by_hand() -> None:
    """Both answers of "a" are good, of "b" one: a bonus of β times the difference of whole responses."""
    ref = tokens(0)
    a0, a1, *_ = totals(ref)
    result = transform_rows(
        MARA(threshold=1.0),
        sessions(),
        scores=torch.tensor(SCORES),
        mask=mask(),
        ref_logprobs=ref,
        beta=0.5,
        answers=["x", "y", "no", None, "z", "x", "z"],
    )
    top = max(a0, a1)
    b0, b1 = 0.5 * (top - a0), 0.5 * (top - a1)
    assert result.values.tolist() == pytest.approx([b0, b1, 0, 0, b1, 0, b1], abs=1e-7)
    assert result.values.dtype == torch.float64
    assert max(b0, b1) > 0.1
    figures = result.figures
    assert figures["transform/augmented"] == pytest.approx(3 / 4)
    assert figures["transform/bonus_max"] == pytest.approx(max(b0, b1))
    assert figures["transform/empty"] == 0
    # The last rows of the samples say x, y, none, x.
    assert figures["answers/valid"] == 3 / 4
    assert figures["answers/distinct"] == 1.5
    assert figures["answers/entropy"] == pytest.approx(math.log(2) / 2)


def test_order_of_rows_and_padding_change_nothing() -> None:
    ref, order = tokens(1), list(range(7))
    random.Random(0).shuffle(order)

    def values(rows: list[int]) -> dict[int, float]:
        found = Sessions(
            groups=[GROUPS[i] for i in rows],
            sessions=[SESSIONS[i] for i in rows],
            positions=[POSITIONS[i] for i in rows],
            is_padding=[PADDING[i] for i in rows],
        )
        result = transform_rows(
            MARA(threshold=1.0),
            found,
            scores=torch.tensor(SCORES)[rows],
            mask=mask()[rows],
            ref_logprobs=ref[rows],
            beta=0.3,
        )
        return dict(zip(rows, result.values.tolist(), strict=True))

    whole = values(list(range(7)))
    assert order != sorted(order)
    assert values(order) == pytest.approx(whole)
    real = [row for row in range(7) if not PADDING[row]]
    assert values(real) == pytest.approx({row: whole[row] for row in real})


def test_tokens_that_are_masked_do_not_count() -> None:
    """Not even NaN, which some trainers leave behind the end of a response."""
    ref = tokens(2)
    broken = ref.masked_fill(mask() == 0, math.nan)
    first, second = (
        transform_rows(
            MARA(threshold=1.0),
            sessions(),
            scores=torch.tensor(SCORES),
            mask=mask(),
            ref_logprobs=x,
            beta=1.0,
        ).values
        for x in (ref, broken)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_reward_equal_to_the_threshold_is_good(dtype: torch.dtype) -> None:
    """The float32 of 0.9 is below 0.9."""
    scores = torch.tensor(SCORES, dtype=dtype) * 0.9
    result = transform_rows(
        MARA(threshold=0.9), sessions(), scores=scores, mask=mask(), ref_logprobs=tokens(0), beta=0.5
    )
    assert result.figures["transform/augmented"] == pytest.approx(3 / 4)


def test_scores_by_token_are_summed() -> None:
    by_token = torch.zeros(7, 3)
    by_token[:, 1] = torch.tensor(SCORES)
    settings = {"mask": mask(), "ref_logprobs": tokens(0), "beta": 0.5}
    whole, split = (
        transform_rows(MARA(threshold=1.0), sessions(), scores=scores, **settings).values
        for scores in (torch.tensor(SCORES), by_token)
    )
    assert torch.equal(whole, split)


def test_a_method_with_a_baseline_gives_advantages() -> None:
    result = transform_rows(BestOfN(k=2), sessions(), scores=torch.tensor(SCORES), mask=mask(), beta=0.0)
    # "b": k times the mean of max(r, r') - r' over the others; "a": both are 1.
    assert result.values.tolist() == pytest.approx([0, 0, 0, 0, 0, 2, 0])


def test_a_changed_reference_is_a_change_of_the_kl_in_the_reward() -> None:
    """MARA's Algorithm 2 has the optimum, and here the sum of reward and KL, of Algorithm 1."""
    ref = tokens(3)
    settings = {
        "scores": torch.tensor(SCORES),
        "mask": mask(),
        "ref_logprobs": ref,
        "beta": 0.7,
    }
    one, two = (
        transform_rows(MARA(threshold=1.0, algorithm=number), sessions(), **settings).values
        for number in (1, 2)
    )
    assert one.tolist() == pytest.approx(two.tolist(), abs=1e-6)
    assert float(one.abs().max()) > 0.1


def test_what_a_method_remembers_is_handed_on() -> None:
    method = MARA(threshold=BatchQuantile(0.5))
    kwargs = {"mask": mask(), "ref_logprobs": tokens(0), "beta": 0.5}
    first = transform_rows(method, sessions(), scores=torch.tensor(SCORES), **kwargs)
    equal = torch.ones(7)
    alone = transform_rows(method, sessions(), scores=torch.tensor(SCORES) + 1, state=first.state, **kwargs)
    assert first.state is not None
    assert alone.state is not None
    remembered = transform_rows(method, sessions(), scores=equal, state=first.state, **kwargs)
    assert remembered.figures["transform/threshold"] == first.figures["transform/threshold"]
    assert transform_rows(Plain(), sessions(), scores=equal, mask=mask(), beta=0.0).state is None


def test_prompts_are_known_again_in_a_later_batch() -> None:
    """By their messages: outcomes counted for a prompt count when it comes up again in another order."""
    method = OutcomeMatching(threshold=1.0)
    a, b = [{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]
    prompts = [a if group == "a" else b for group in GROUPS]
    kwargs = {"mask": mask(), "beta": 0.0, "answers": ["x", "x", None, "y", "x", "x", "x"]}
    scores = torch.ones(7)
    first = transform_rows(method, sessions(), scores=scores, prompts=prompts, **kwargs)
    swapped = [b if group == "a" else a for group in GROUPS]
    same = transform_rows(method, sessions(), scores=scores, prompts=prompts, state=first.state, **kwargs)
    other = transform_rows(method, sessions(), scores=scores, prompts=swapped, state=first.state, **kwargs)
    assert same.values[0] == 0  # the one outcome that is known of "a" has all of its share
    assert other.values[0] < 0  # of "b" two are
    with pytest.raises(InputError, match=r"^`prompt_ids` of the batch is needed"):
        transform_rows(method, sessions(), scores=scores, **kwargs)


@pytest.mark.parametrize("case", [pytest.param(method, id=name) for name, method in cases().items()])
def test_every_method_gives_what_it_gives_for_a_batch(case: Method) -> None:
    """One row a sample, consecutive groups: the batch itself. One token has all of a log-probability."""
    rewards = [0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 0.25, 1.0, 1.0, 0.0, 0.0, 1.0] * 2
    batch = complete_batch(rewards, group_size=12, empty=False)
    assert batch.lengths is not None
    assert batch.ref_logprobs is not None
    assert batch.logprobs is not None
    assert batch.outcome_ids is not None
    assert batch.prompt_ids is not None
    first = torch.tensor([1.0, 0, 0, 0])
    wanted = case(batch, beta=0.3)
    count = len(rewards)
    found = transform_rows(
        case,
        Sessions(groups=batch.group_ids.tolist(), sessions=list(range(count)), positions=[0] * count),
        scores=batch.rewards,
        mask=torch.arange(4) < batch.lengths[:, None],
        ref_logprobs=batch.ref_logprobs[:, None] * first,
        logprobs=batch.logprobs[:, None] * first,
        answers=[None if o < 0 else o for o in batch.outcome_ids.tolist()],
        prompts=[str(prompt) for prompt in batch.prompt_ids.tolist()],
        beta=0.3,
    )
    values = wanted.rewards if case.has_own_baseline else wanted.rewards - batch.rewards
    if wanted.ref_logprobs is not None:
        values = values + 0.3 * (wanted.ref_logprobs - batch.ref_logprobs)
    torch.testing.assert_close(found.values, values, rtol=0, atol=1e-12)
    assert (found.state is not None) == case.has_state
    for name, value in wanted.metrics.items():
        if value == value:
            assert found.figures[f"transform/{name}"] == pytest.approx(value)


def test_a_batch_of_padding_alone_is_left_as_it_is() -> None:
    nothing = Sessions(groups=["p"] * 2, sessions=[0, 1], positions=[0, 0], is_padding=[True, True])
    result = transform_rows(
        EntropyBonus(), nothing, scores=torch.zeros(2), mask=torch.zeros(2, 3), beta=0.0, state={"x": 1}
    )
    assert (result.values.tolist(), result.figures, result.state) == ([0, 0], {}, {"x": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"^rewards must be finite; got [^\n]*$"):
        transform_rows(Plain(), sessions(), scores=torch.tensor([value, *SCORES[1:]]), mask=mask(), beta=0.0)


def test_tensors_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"^`ref_logprobs` must have shape \(7, 3\) like `mask`"):
        transform_rows(
            MARA(threshold=1),
            sessions(),
            scores=torch.tensor(SCORES),
            mask=mask(),
            ref_logprobs=tokens(0)[:, :2],
            beta=1.0,
        )
