"""What the checks say of made-up logs of which all is known."""

import math
import re
from typing import Any

import pytest
import torch

from allmodes.audit.checks.findings import MissingError, NotApplicableError
from allmodes.audit.checks.ips_checks import extinct_outcomes
from allmodes.audit.checks.mara_checks import (
    bias_of_the_anchor,
    bound_on_beta,
    length_of_what_is_raised,
    size_of_the_bonus,
    target_of_mara,
)
from allmodes.audit.checks.optimum_checks import (
    evenness_of_the_optimum,
    flip_of_the_best_two,
    spread_of_equal_rewards,
)
from allmodes.audit.checks.setup_checks import (
    groups_without_difference,
    quantile_at_the_minimum,
    scaled_advantages,
    sums_and_means,
    truncated_responses,
    which_kl,
)
from allmodes.audit.checks.training_checks import falling_distinct, falling_entropy, rising_repeats
from allmodes.audit.config import AuditConfig
from allmodes.methods import METHODS, label_of
from allmodes.targets import flip_beta, mara_beta_bound, mara_target, reverse_kl_target
from audit_logs import evidence

OF_OPTIMA = (evenness_of_the_optimum, spread_of_equal_rewards, flip_of_the_best_two)


def drawn(
    counts: dict[str | None, int], rewards: dict[str | None, float], *, prompt: int = 0, **rest: Any
) -> list[Any]:
    """Samples of a prompt, as often as given, in a mixed order."""
    outcomes = [outcome for outcome, count in counts.items() for _ in range(count)]
    order = torch.randperm(len(outcomes), generator=torch.Generator().manual_seed(prompt)).tolist()
    return [
        {"prompt": prompt, "response": f"it is {outcomes[i]}", "outcome": outcomes[i],
         "reward": rewards[outcomes[i]], **rest}
        for i in order
    ]  # fmt: skip


def responses(*rows: tuple[str, float, float]) -> list[Any]:
    """Texts with their rewards and log-probabilities."""
    return [{"response": text, "reward": reward, "ref_logprob": logprob} for text, reward, logprob in rows]


ONE_TWO = drawn({"1": 344, "2": 56, None: 600}, {"1": 1.0, "2": 1.0, None: 0.0})


def test_an_uneven_reference_of_two_equal_answers() -> None:
    found = evenness_of_the_optimum(evidence(ONE_TWO, beta=0.01))
    share = 344 / 400
    assert found.state == "issue"
    assert found.numbers["good"] == 2
    assert found.numbers["top_share"].value == pytest.approx(share)
    assert found.numbers["log_ratio"].value == pytest.approx(math.log(344 / 56))
    assert found.numbers["effective"].value == pytest.approx(1 / (share**2 + (1 - share) ** 2))
    # The standard error of a share among 400 of 1000 samples, binomially.
    assert found.numbers["top_share"].error == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.3)
    assert "MARA" in found.remedy


def test_the_same_with_mara() -> None:
    settings = {"beta": 0.01, "transform": "mara", "threshold": 0.5}
    found = evenness_of_the_optimum(evidence(ONE_TWO, **settings))
    assert (found.state, found.remedy) == ("passed", "")
    assert found.numbers["effective"].value == pytest.approx(2)
    assert found.numbers["effective_of_reference"].value < 1.5
    assert found.numbers["log_ratio"].value == pytest.approx(0, abs=1e-12)
    assert spread_of_equal_rewards(evidence(ONE_TWO, **settings)).state == "passed"


def test_an_even_reference_passes() -> None:
    rows = drawn({"1": 201, "2": 199, None: 600}, {"1": 1.0, "2": 1.0, None: 0.0})
    for check in OF_OPTIMA:
        assert check(evidence(rows, beta=0.01)).state == "passed"


def test_another_beta_is_named_where_one_does_and_none_where_none_does() -> None:
    rewards = {"a": 1.0, "b": 0.98, "c": 0.0}
    found = evenness_of_the_optimum(
        evidence(drawn({"a": 50, "b": 50, "c": 100}, rewards), beta=0.002, good=0.9, trainer="trl")
    )
    named = re.search(r"At β = ([\d.e-]+) the optimum has an effective", found.remedy)
    assert named
    assert "change `beta`" in found.remedy
    again = evidence(drawn({"a": 50, "b": 50, "c": 100}, rewards), beta=float(named[1]), good=0.9)
    assert evenness_of_the_optimum(again).state == "passed"
    assert "No β is enough" in evenness_of_the_optimum(evidence(ONE_TWO, beta=0.01)).remedy


@pytest.mark.parametrize("without", ["", "outcome"])
def test_the_support_at_another_beta(without: str) -> None:
    # Invalid ones among them, whose number is the largest; and outcomes with several rewards.
    rows = drawn({"a": 20, None: 30, "b": 10}, {"a": 1.0, None: 0.0, "b": 0.5}, ref_logprob=-1.0)
    rows = [{k: v for k, v in row.items() if k != without} for row in rows]
    rows = [{**row, "reward": row["reward"] * (i % 3 > 0)} for i, row in enumerate(rows)]
    found = evidence(rows, beta=0.1)
    for beta in (0.01, 3.0):
        expected = found.support_of(found.support_rows, beta=beta)
        assert torch.equal(found.support_at(beta).rewards, expected.rewards)
        assert torch.equal(found.support_at(beta).first, expected.first)


def test_another_beta_is_measured_by_what_is_good_there() -> None:
    # At 0.001 an outcome that earns 1 in one of ten samples is good, too; at 0.1 it is not.
    rows = drawn({"a": 100, "b": 100, "c": 100}, {"a": 1.0, "b": 0.999, "c": 1.0})
    rows = [
        {**row, "reward": row["reward"] * (row["outcome"] != "c" or i % 10 == 0)}
        for i, row in enumerate(rows)
    ]
    found = evenness_of_the_optimum(evidence(rows, beta=0.0002, good=0.99))
    assert found.numbers["good"] == 3
    named = re.search(r"At β = ([\d.e-]+) the optimum has an effective", found.remedy)
    assert named
    again = evenness_of_the_optimum(evidence(rows, beta=float(named[1]), good=0.99))
    assert again.state == "passed"


def test_with_mara_in_use_the_remedy_is_its_threshold() -> None:
    rows = drawn({"a": 60, "b": 30, "c": 10}, {"a": 1.0, "b": 0.8, "c": 0.5})
    found = evenness_of_the_optimum(evidence(rows, beta=0.1, transform="mara", threshold=0.9, good=0.5))
    assert (found.state, found.numbers["good"]) == ("issue", 3)
    assert found.remedy.startswith("Lower τ: ")
    assert "with a reward of 0.9 or more equally likely, but a reward of 0.5 already" in found.remedy


def test_a_kl_without_a_gradient_is_none() -> None:
    without = evidence(ONE_TWO, beta=0.01, kl="k1-in-loss")
    found = evenness_of_the_optimum(without)
    assert found.state == "issue"
    assert "no KL acts" in found.summary
    assert found.numbers["best"].value == 2
    for check in OF_OPTIMA[1:]:
        with pytest.raises(NotApplicableError, match="k1 in the loss has no gradient"):
            check(without)
    with pytest.raises(MissingError, match="no gradient"):  # the bonus of MARA acts, and no KL beside it
        evenness_of_the_optimum(evidence(ONE_TWO, beta=0.01, kl="k1-in-loss", transform="mara"))
    ips = {"transform": "ips", "good": 0.5}
    at_zero, at_one = (
        evenness_of_the_optimum(evidence(ONE_TWO, **ips, **settings)).numbers["top_share"]
        for settings in ({"beta": 0.0}, {"beta": 1.0, "kl": "k1-in-loss"})
    )
    assert at_zero == at_one


def test_with_ips_the_optimum_is_proportional_to_reward() -> None:
    rows = drawn({"1": 344, "2": 56, None: 600}, {"1": 1.0, "2": 0.5, None: 0.0})
    found = evenness_of_the_optimum(evidence(rows, beta=0.0, transform="ips", good=0.5))
    assert found.numbers["top_share"].value == pytest.approx(2 / 3)
    below = drawn({"1": 5, "2": 5}, {"1": 1.0, "2": -0.5})
    with pytest.raises(NotApplicableError, match="IPS drives such outcomes to 0"):
        evenness_of_the_optimum(evidence(below, beta=0.0, transform="ips", good=0.5))


def test_what_has_no_meaning_without_a_kl() -> None:
    for check in (which_kl, scaled_advantages):
        with pytest.raises(NotApplicableError, match="β is 0"):
            check(evidence(ONE_TWO, beta=0.0, transform="mara", kl="k1-in-loss", scale_rewards="group"))


def test_a_small_difference_of_rewards_decides_at_a_low_beta() -> None:
    rewards = {"a": 1.0, "b": 0.98, "c": 0.0}
    rows = drawn({"a": 50, "b": 50, "c": 100}, rewards)
    low = evenness_of_the_optimum(evidence(rows, beta=0.002, good=0.9))
    exact = reverse_kl_target(
        torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64).log(),
        torch.tensor(list(rewards.values()), dtype=torch.float64),
        beta=0.002,
    ).exp()
    assert low.state == "issue"
    assert low.numbers["top_share"].value == pytest.approx(float(exact[0] / exact[:2].sum()))
    assert evenness_of_the_optimum(evidence(rows, beta=0.2, good=0.9)).state == "passed"


def test_several_prompts_are_averaged_and_resampled() -> None:
    rows = []
    for prompt in range(8):
        rows += drawn({"a": 80 + prompt, "b": 20, None: 50}, {"a": 1.0, "b": 1.0, None: 0.0}, prompt=prompt)
    found = evenness_of_the_optimum(evidence(rows, beta=0.1)).numbers["top_share"]
    shares = torch.tensor([(80 + p) / (100 + p) for p in range(8)], dtype=torch.float64)
    assert found.value == pytest.approx(float(shares.mean()))
    assert found.error == pytest.approx(float(shares.std(correction=0)) / math.sqrt(8), rel=0.1)


def test_each_figure_has_its_own_kind_of_error() -> None:
    # Two of eight prompts have good ones: these have the errors of samples, what all have that of prompts.
    rows = []
    for prompt in range(8):
        counts = {"a": 20 + prompt, "b": 20, None: 50} if prompt < 2 else {None: 50}
        rows += drawn(counts, {"a": 1.0, "b": 1.0, None: 0.0}, prompt=prompt)
    found = target_of_mara(evidence(rows, beta=0.5, threshold=0.5)).numbers
    weights = [(40 + prompt) * math.exp(2.0) for prompt in range(2)]
    masses = torch.tensor([weight / (weight + 50) for weight in weights] + [0.0] * 6).double()
    assert found["mass_without"].error == pytest.approx(float(masses.std(correction=0)) / math.sqrt(8))
    assert 0.05 < found["log_ratio_without"].error < 0.5  # a log-ratio has √(1/20 + 1/20) = 0.3, two have 0.2


@pytest.mark.parametrize(("skew", "state"), [(0.5, "passed"), (1.5, "tip"), (3.0, "issue")])
def test_responses_of_equal_reward(skew: float, state: str) -> None:
    rows = responses(("a", 1.0, -5.0), ("b", 1.0, -5.0 - skew), ("c", 0.9, -50.0), ("d", 0.0, -1.0))
    found = spread_of_equal_rewards(evidence(rows, good=0.5))
    assert found.state == state
    assert found.numbers["spread"].value == pytest.approx(skew)
    plain = evidence(rows, good=0.5, transform="ips")
    assert spread_of_equal_rewards(plain).state == "passed"


@pytest.mark.parametrize(("counts", "state"), [((9, 6, 3, 12), "passed"), ((90, 60, 30, 120), "tip")])
def test_a_spread_that_chance_could_make(counts: tuple[int, ...], state: str) -> None:
    # X² of (9, 6, 3, 12) against equal parts is 6 with 3 degrees of freedom, p = 0.11; tenfold it is 60.
    names = "abcd"
    rows = drawn(dict(zip(names, counts, strict=True)) | {None: 10}, dict.fromkeys(names, 1.0) | {None: 0.0})
    found = spread_of_equal_rewards(evidence(rows))
    assert found.state == state
    assert found.numbers["spread"].value == pytest.approx(math.log(4))


@pytest.mark.parametrize(("x2", "is_chance"), [(11.2, True), (11.5, False)])
def test_the_limit_of_chance_is_the_99th_percentile(x2: float, *, is_chance: bool) -> None:
    # The 99th percentile of χ² with 3 degrees of freedom is 11.34: four counts, of which two are raised.
    shift = math.sqrt(x2 * 10_000 / 2)
    counts = [round(10_000 + shift), round(10_000 - shift), 10_000, 10_000]
    names = "abcd"
    rows = drawn(dict(zip(names, counts, strict=True)) | {None: 10}, dict.fromkeys(names, 1.0) | {None: 0.0})
    assert ("by chance" in spread_of_equal_rewards(evidence(rows)).summary) == is_chance


def test_large_rewards_are_no_ties() -> None:
    rows = responses(("a", 3e9, -5.0), ("b", 2e9, -8.0), ("c", 2e9, -8.5), ("d", 0.0, -1.0))
    assert spread_of_equal_rewards(evidence(rows, good=1e9)).numbers["spread"].value == pytest.approx(0.5)


def test_a_spread_needs_two_of_one_reward() -> None:
    rows = [
        {"response": text, "reward": reward, "ref_logprob": -3.0} for text, reward in (("a", 1.0), ("b", 0.9))
    ]
    assert spread_of_equal_rewards(evidence(rows, good=0.5)).state == "not applicable"


@pytest.mark.parametrize(("beta", "state"), [(0.13, "tip"), (0.01, "passed"), (2.0, "passed")])
def test_the_beta_at_which_two_change_places(beta: float, state: str) -> None:
    rows = [
        {"response": "better", "reward": 1.0, "ref_logprob": -4.0},
        {"response": "likelier", "reward": 0.75, "ref_logprob": -2.1},
        {"response": "bad", "reward": 0.0, "ref_logprob": -0.5},
    ]
    found = flip_of_the_best_two(evidence(rows, beta=beta, good=0.5))
    assert found.state == state
    exact = flip_beta(*(torch.tensor(value).double() for value in (1.0, 0.75, -4.0, -2.1)))
    assert found.numbers["flip_beta"].value == pytest.approx(float(exact))


def test_the_flips_of_several_prompts_have_a_geometric_mean_and_an_error() -> None:
    gaps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]
    rows = [
        {"prompt": prompt, "response": text, "reward": reward, "ref_logprob": logprob}
        for prompt, gap in enumerate(gaps)
        for text, reward, logprob in (
            ("better", 1.0, -5.0),
            ("likelier", 0.75, -5.0 + gap),
            ("bad", 0.0, -9.0),
        )
    ]
    found = flip_of_the_best_two(evidence(rows, beta=0.01, good=0.5)).numbers["flip_beta"]
    logs = torch.tensor([0.25 / gap for gap in gaps], dtype=torch.float64).log()
    assert found.value == pytest.approx(float(logs.mean().exp()))
    assert found.error == pytest.approx(
        found.value * float(logs.std(correction=0)) / math.sqrt(len(gaps)), rel=0.1
    )


def test_no_beta_makes_the_better_and_likelier_one_lose() -> None:
    rows = [
        {"response": "a", "reward": 1.0, "ref_logprob": -1.0},
        {"response": "b", "reward": 0.9, "ref_logprob": -2.0},
    ]
    found = flip_of_the_best_two(evidence(rows, beta=0.1, good=0.5))
    assert (found.state, found.numbers["flip_beta"]) == ("passed", None)


def test_without_a_kl_every_mixture_of_the_best_is_an_optimum() -> None:
    several = evidence(ONE_TWO, beta=0.0, trainer="trl")
    found = evenness_of_the_optimum(several)
    assert (found.state, found.numbers["best"].value) == ("issue", 2)
    assert "Set `beta` above 0" in found.remedy
    alone = evidence(drawn({"a": 5, "b": 5}, {"a": 1.0, "b": 0.9}), beta=0.0, good=0.5)
    assert evenness_of_the_optimum(alone).state == "tip"
    for check in (*OF_OPTIMA[1:], target_of_mara, size_of_the_bonus, bound_on_beta):
        with pytest.raises(NotApplicableError, match="β is 0"):
            check(several)


def test_one_good_sample_alone() -> None:
    rows = drawn({"a": 5, "b": 5}, {"a": 1.0, "b": 0.0})
    for check in OF_OPTIMA:
        assert check(evidence(rows, beta=0.1)).state == "not applicable"


LACKS = [
    ([{"response": "a"}], {"beta": 0.1}, "no column `reward`"),
    (ONE_TWO, {}, "give `--beta`"),
    ([{"response": "a", "reward": 1.0}] * 3, {"beta": 0.1}, "all samples have the same reward"),
    ([{"response": str(i), "reward": float(i)} for i in range(9)], {"beta": 0.1}, "no column `outcome`"),
    ([{"outcome": str(i), "reward": float(i)} for i in range(9)], {"beta": 0.1}, "rarely repeat"),
    (ONE_TWO, {"beta": 0.1, "transform": "other"}, "'other' is not known"),
    (ONE_TWO, {"beta": 0.1, "transform": "best-of-n"}, "best of N is not known"),
    (ONE_TWO, {"beta": 0.1, "kl": "k3-in-reward"}, "gradient of neither KL"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "settings", "lacks"), LACKS)
def test_what_is_not_known_is_said(rows: list[Any], settings: dict[str, Any], lacks: str) -> None:
    with pytest.raises(MissingError, match=lacks):
        evenness_of_the_optimum(evidence(rows, **settings))


def test_only_the_first_step_is_the_reference() -> None:
    later = drawn({"1": 1, "2": 999}, {"1": 1.0, "2": 1.0}, step=2)
    rows = [{**row, "step": 1} for row in ONE_TWO] + later
    now, before = (evenness_of_the_optimum(evidence(r, beta=0.1)).numbers for r in (rows, ONE_TWO))
    assert now["top_share"].value == before["top_share"].value


def weighted(*, drift: float) -> list[Any]:
    """Steps of 50 samples; answer 1 becomes likelier under the policy, and log-probabilities say how much."""
    generator = torch.Generator().manual_seed(0)
    q = torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)
    rows = []
    for step in range(40):
        p = q * torch.tensor([math.exp(drift * step), 1.0, 1.0])
        p = p / p.sum()
        rows += [
            {"step": step, "outcome": ("1", "2", None)[answer], "response": str(answer),
             "reward": float(answer < 2), "ref_logprob": float(q[answer].log()),
             "policy_logprob": float(p[answer].log())}
            for answer in torch.multinomial(p, 50, replacement=True, generator=generator).tolist()
        ]  # fmt: skip
    return rows


def test_later_samples_are_weighted_to_the_reference() -> None:
    rows = weighted(drift=0.02)
    log = evidence(rows, beta=0.1, good=0.5)
    pooled = evenness_of_the_optimum(log).numbers["top_share"]
    first = evenness_of_the_optimum(evidence(rows[:50], beta=0.1, good=0.5)).numbers["top_share"]
    assert len(log.reference.rows) == 2000  # all are worth enough
    assert pooled.error < first.error / 3
    # Five standard errors: false alarms of one in a million. Unweighted, the share would be 0.88.
    assert abs(pooled.value - 0.5 / 0.6) < 5 * pooled.error
    unweighted = [{k: v for k, v in row.items() if k not in ("step", "policy_logprob")} for row in rows]
    biased = evenness_of_the_optimum(evidence(unweighted, beta=0.1, good=0.5)).numbers["top_share"]
    assert biased.value - 0.5 / 0.6 > 5 * biased.error


def test_samples_that_are_worth_little_are_left_out() -> None:
    log = evidence(weighted(drift=0.2), beta=0.1, good=0.5)
    steps = log.log.steps
    assert steps is not None
    last = int(steps[log.reference.rows].max())
    assert 3 < last < 30
    weights = log.reference.weights[log.reference.rows]
    assert float(weights.sum() ** 2 / weights.square().sum()) >= 0.8 * len(weights)
    assert evidence(weighted(drift=0.2)[:50]).reference.weights.eq(1).all()


def test_molecules_that_hardly_come_twice_are_told_apart_by_their_log_probabilities() -> None:
    rows = [
        {"response": f"C{i}", "outcome": f"C{i}", "reward": 1.0 if i < 4 else 0.0, "ref_logprob": -20.0 - i}
        for i in range(9)
    ]
    found = spread_of_equal_rewards(evidence(rows, good=0.5))
    assert found.numbers["spread"].value == pytest.approx(3.0)


MARA = {"transform": "mara", "threshold": 0.5}


def test_the_target_of_mara() -> None:
    rewards = {"a": 1.0, "b": 0.9, "c": 0.2}
    rows = drawn({"a": 20, "b": 30, "c": 50}, rewards)
    found = target_of_mara(evidence(rows, beta=0.3, **MARA))
    ref = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    values = torch.tensor(list(rewards.values()), dtype=torch.float64)
    assert found.state == "passed"
    assert found.numbers["good"].value == 2
    assert found.numbers["mass"].value == pytest.approx(
        float(mara_target(ref, values, beta=0.3, threshold=0.5)[:2].exp().sum())
    )
    plain = reverse_kl_target(ref, values, beta=0.3)
    assert found.numbers["mass_without"].value == pytest.approx(float(plain[:2].exp().sum()))
    assert found.numbers["log_ratio"].value == pytest.approx(0, abs=1e-12)
    assert found.numbers["log_ratio_without"].value == pytest.approx(abs(float(plain[0] - plain[1])))


def test_prompts_that_come_later_do_not_count_as_prompts_without_good_samples() -> None:
    rows = drawn({"a": 20, "b": 30, "c": 50}, {"a": 1.0, "b": 0.9, "c": 0.2}, step=0)
    later = drawn({"a": 20, "b": 30, "c": 50}, {"a": 1.0, "b": 0.9, "c": 0.2}, prompt=1, step=1)
    found = target_of_mara(evidence(rows + later, beta=0.3, **MARA))
    assert found.numbers["good"].value == 2


@pytest.mark.parametrize(("transform", "state"), [("mara", "tip"), ("none", "not applicable")])
def test_mara_has_nothing_to_do_where_one_is_good(transform: str, state: str) -> None:
    rows = drawn({"a": 20, "c": 50}, {"a": 1.0, "c": 0.2})
    found = target_of_mara(evidence(rows, beta=0.3, transform=transform, threshold=0.5))
    assert (found.state, found.numbers["prompts_without_two"]) == (state, 1.0)


BONUS = responses(("a", 1.0, -5.0), ("b", 0.8, -25.0), ("c", 0.6, -45.0), ("d", 0.0, -1.0))


@pytest.mark.parametrize(("beta", "state"), [(0.01, "passed"), (0.1, "tip")])
def test_the_size_of_the_bonus(beta: float, state: str) -> None:
    found = size_of_the_bonus(evidence(BONUS, beta=beta, **MARA))
    assert found.state == state
    assert found.numbers["median"] == pytest.approx(beta * 20)
    assert found.numbers["largest"] == pytest.approx(beta * 40)
    assert found.numbers["percentile_95"] == pytest.approx(beta * 38)
    assert found.numbers["extent_of_rewards"] == 1.0
    assert size_of_the_bonus(evidence(BONUS, beta=beta, threshold=0.5)).state == "not applicable"


def test_a_bonus_needs_something_good() -> None:
    with pytest.raises(NotApplicableError, match="no response has a reward of 2 or more"):
        size_of_the_bonus(evidence(BONUS, beta=0.1, transform="mara", threshold=2.0))


LONGER = responses(*((str(i), 1.0, -5.0 - 20 * i) for i in range(5)), ("bad", 0.0, -1.0))


def test_the_bonus_goes_to_long_responses() -> None:
    rows = [{**row, "num_tokens": 2 + 9 * i} for i, row in enumerate(LONGER)]
    found = length_of_what_is_raised(evidence(rows, beta=0.1, **MARA))
    assert found.state == "tip"
    assert found.numbers["correlation"] == pytest.approx(1.0)
    assert found.numbers["reward_per_token"] == pytest.approx(0.1 * 20 / 9)
    short = [{**row, "num_tokens": 90 - 9 * i} for i, row in enumerate(LONGER)]
    assert length_of_what_is_raised(evidence(short, beta=0.1, **MARA)).state == "passed"
    same = [{**row, "num_tokens": 5} for row in LONGER]
    for lacking in (same, rows[2:], ONE_TWO):
        with pytest.raises(
            NotApplicableError, match=r"have the same length, or there are fewer than four|has no influence"
        ):
            length_of_what_is_raised(evidence(lacking, beta=0.1, **MARA))
    with pytest.raises(MissingError, match="`num_tokens`"):
        length_of_what_is_raised(evidence(LONGER, beta=0.1, **MARA))


def test_short_responses_with_the_bonus_exactly() -> None:
    rows = [{**row, "num_tokens": 92 - 9 * i} for i, row in enumerate(LONGER)]
    assert length_of_what_is_raised(evidence(rows, beta=0.1, **MARA)).numbers["correlation"] == pytest.approx(
        -1
    )


def test_tau_of_mara_and_what_is_good_are_two_things() -> None:
    rows = drawn({"a": 20, "b": 30, "c": 50}, {"a": 1.0, "b": 0.9, "c": 0.6})
    found = evidence(rows, beta=0.1, transform="mara", threshold=0.85, good=0.5)
    assert (found.tau, found.good_from) == (0.85, 0.5)
    assert target_of_mara(found).numbers["good"].value == 2
    assert evenness_of_the_optimum(found).numbers["good"] == 3
    assert evidence(rows, threshold_quantile=0.6).tau == 0.9
    assert evidence(rows, good=0.6).tau == 0.6


def test_a_correlation_of_few_responses_is_none() -> None:
    # Of five responses r = 0.7 is within two standard errors of 0, of fifty it is not.
    noise = [0.0, 1.6, 0.4, 1.2, 2.8]
    few = [
        {
            "response": str(i),
            "reward": 1.0,
            "ref_logprob": -5.0 - 20 * noise[i % 5],
            "num_tokens": 2 + 9 * (i % 5),
        }
        for i in range(50)
    ]
    bad = [{"response": "bad", "reward": 0.0, "ref_logprob": -1.0, "num_tokens": 3}]
    one, many = (length_of_what_is_raised(evidence(rows + bad, beta=0.1, **MARA)) for rows in (few[:5], few))
    assert one.numbers["correlation"] == pytest.approx(many.numbers["correlation"], abs=0.01)
    assert one.numbers["correlation"] > 0.5
    assert (one.state, many.state) == ("passed", "tip")


@pytest.mark.parametrize(("beta", "state"), [(0.05, "passed"), (0.06, "issue")])
def test_the_bound_on_beta(beta: float, state: str) -> None:
    # The counter-example of MARA's Remark B.3: only below 0.0527 the good ones are above all others.
    rows = drawn({"a": 600, "b": 300, "c": 90, "d": 10}, {"a": 0.9, "b": 0.8, "c": 1.0, "d": 1.0})
    found = bound_on_beta(evidence(rows, beta=beta, transform="mara", threshold=0.95))
    exact = mara_beta_bound(
        torch.tensor([0.6, 0.3, 0.09, 0.01], dtype=torch.float64).log(),
        torch.tensor([0.9, 0.8, 1.0, 1.0], dtype=torch.float64),
        threshold=0.95,
    )
    assert found.state == state
    assert found.numbers["smallest_bound"] == pytest.approx(float(exact))
    assert bound_on_beta(evidence(rows, beta=beta, threshold=0.95)).state == "not applicable"
    with pytest.raises(NotApplicableError, match="no outcome has a reward of 2 or more"):
        bound_on_beta(evidence(rows, beta=beta, threshold=2.0))


def test_one_prompt_of_many_above_the_bound_is_a_tip() -> None:
    rewards: dict[str | None, float] = {"a": 0.9, "b": 1.0}
    rows = drawn({"a": 95, "b": 5}, rewards)
    for prompt in range(1, 20):
        rows += drawn({"a": 40, "b": 60}, rewards, prompt=prompt)
    found = bound_on_beta(evidence(rows, beta=0.1, transform="mara", threshold=0.95))
    assert (found.state, found.numbers["prompts_above"]) == ("tip", 1)
    assert "Any β works" in bound_on_beta(evidence(rows[100:], beta=0.1, threshold=0.95)).summary


@pytest.mark.parametrize(("size", "state"), [(2, "tip"), (64, "passed")])
def test_the_anchors_bias_in_small_groups(size: int, state: str) -> None:
    found = bias_of_the_anchor(evidence(ONE_TWO, beta=0.1, group_size=size, **MARA))
    likely, rare, invalid = 0.344, 0.056, 0.6
    gap = math.log(likely / rare)
    # Given the rare one, the anchor is the likely one unless none of the others is.
    assert found.numbers["bias"].value == pytest.approx(gap * (rare + invalid) ** (size - 1))
    assert found.state == state


def test_the_group_size_is_read_off_the_log() -> None:
    rows = [
        {"prompt": prompt, "response": str(i), "outcome": str(i % 2), "reward": 1.0, "step": step}
        for step in range(3) for prompt in range(4) for i in range(8 if step else 6)
    ]  # fmt: skip
    assert evidence(rows).group_size == 8
    assert evidence(rows, group_size=5).group_size == 5
    with pytest.raises(MissingError, match="--group-size"):
        _ = evidence(ONE_TWO).group_size
    with pytest.raises(MissingError, match="one sample of a prompt"):
        _ = evidence([{**row, "prompt": i} for i, row in enumerate(rows)]).group_size


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"transform": "none", "scale_rewards": "group"}, "not applicable"),
        ({"scale_rewards": "group"}, "not applicable"),
        ({"transform": "mara", "scale_rewards": "group"}, "issue"),
        ({"transform": "other", "scale_rewards": "batch", "kl": "k3-in-loss"}, "tip"),
        ({"transform": "entropy", "scale_rewards": "batch", "kl": "k3-in-loss"}, "tip"),
        ({"transform": "ips", "scale_rewards": "batch", "kl": "k3-in-loss"}, "passed"),
        ({"transform": "mara", "scale_rewards": "group", "kl": "k1-in-reward"}, "passed"),
        ({"transform": "mara", "scale_rewards": "none"}, "passed"),
    ],
)
def test_scaled_advantages_and_transforms(settings: dict[str, Any], state: str) -> None:
    found = scaled_advantages(evidence(ONE_TWO, trainer="trl", **settings))
    assert found.state == state
    # A bonus for whole responses needs their KL as well, unless that is known to be in use.
    needs_kl = state in ("issue", "tip") and settings["transform"] != "other"
    assert ('`scale_rewards="none"`' in found.remedy) == (state == "tip" and not needs_kl)
    assert ("RLOOTrainer" in found.remedy) == (state in ("issue", "tip"))


@pytest.mark.parametrize("transform", [*METHODS, "mara+entropy", "darling+entropy"])
def test_scaled_advantages_speak_of_the_method_in_use(transform: str) -> None:
    settings = {"transform": transform, "scale_rewards": "group", "kl": "k2-in-loss", "beta": 0.1}
    found = scaled_advantages(evidence(ONE_TWO, max_tokens=1, **settings))
    method = AuditConfig.model_validate(settings).method()
    assert method is not None
    if transform == "vanilla":
        assert found.state == "not applicable"
        return
    assert (found.state == "passed") == method.optimum_survives_std_normalization
    assert label_of(transform) in found.summary
    assert ("MARA" in found.summary) == ("MARA" in label_of(transform))


@pytest.mark.parametrize("transform", ["darling", "batch_exploration", "ucpo", "max_rl"])
@pytest.mark.parametrize("kl", [{"kl": "k1-in-reward"}, {"beta": 0.0}])
def test_a_deviation_of_each_group_matters_without_a_kl_beside_it(transform: str, kl: dict[str, Any]) -> None:
    """One factor for all groups is another learning rate; one for each of them is another optimum."""
    for scale, state in (("group", "tip"), ("batch", "passed"), ("none", "passed")):
        found = scaled_advantages(evidence(ONE_TWO, transform=transform, scale_rewards=scale, **kl))
        assert found.state == state
        assert ("no division of advantages" in found.remedy) == (state == "tip")


@pytest.mark.parametrize("transform", ["mara", "tempered", "mara+entropy"])
def test_no_division_is_enough_with_a_kl_of_whole_responses(transform: str) -> None:
    settings = {"transform": transform, "scale_rewards": "group", "trainer": "trl"}
    for kl, is_enough in (("sequence-k2-in-loss", True), ("k3-in-loss-corrected", False), (None, False)):
        found = scaled_advantages(evidence(ONE_TWO, kl=kl, **settings))
        assert ('`scale_rewards="none"`' in found.remedy) == is_enough


def test_scaling_that_is_not_known() -> None:
    with pytest.raises(MissingError, match="--scale-rewards"):
        scaled_advantages(evidence(ONE_TWO, transform="mara"))


@pytest.mark.parametrize(
    ("form", "plain", "mara"),
    [
        ("k1-in-reward", "passed", "passed"),
        ("sequence-k2-in-loss", "passed", "passed"),
        ("reinvent-loss", "passed", "passed"),
        ("k2-in-loss", "tip", "issue"),
        ("k3-in-loss-corrected", "tip", "issue"),
        ("k3-in-loss", "tip", "issue"),
        ("k1-in-loss", "issue", "issue"),
        ("k3-in-reward", "issue", "issue"),
    ],
)
def test_which_kl_an_estimator_is(form: str, plain: str, mara: str) -> None:
    found = which_kl(evidence(ONE_TWO, kl=form, trainer="trl"))
    assert found.state == plain
    assert ("RLOOTrainer" in found.remedy) == (plain != "passed")
    assert "use_bias_correction_kl" not in found.remedy
    assert which_kl(evidence(ONE_TWO, kl=form, transform="mara")).state == mara
    with pytest.raises(MissingError, match="--kl"):
        which_kl(evidence(ONE_TWO))


def groups(*rewards: tuple[float | None, ...]) -> list[Any]:
    """Each group is a prompt; two of them make a step."""
    return [
        {"prompt": number, "step": number // 2, "response": "r", "reward": reward}
        for number, group in enumerate(rewards)
        for reward in group
    ]


@pytest.mark.parametrize(
    ("rewards", "share", "state"),
    [
        (((1.0, 0.0), (0.0, 0.0), (1.0, 0.5, None)), 1 / 3, "passed"),
        (((1.0, 1.0), (0.0, 0.0, None), (1.0, 0.5)), 2 / 3, "tip"),
        (((1.0, 1.0), (0.0, 0.0)), 1.0, "issue"),
        (((1.0, 1.0), (0.0, None), (0.5, 0.4)), 0.5, "passed"),
    ],
)
def test_groups_without_a_difference(rewards: Any, share: float, state: str) -> None:
    found = groups_without_difference(evidence(groups(*rewards)))
    assert (found.state, found.numbers["share"]) == (state, pytest.approx(share))


def test_the_same_prompt_in_another_step_is_another_group() -> None:
    rows = [{"prompt": 0, "step": step, "reward": float(step)} for step in (1, 1, 2, 2)]
    assert groups_without_difference(evidence(rows)).numbers == {"share": 1.0, "groups": 2}
    with pytest.raises(MissingError, match="two samples"):
        groups_without_difference(evidence([{"prompt": i, "reward": 1.0} for i in range(3)]))


@pytest.mark.parametrize(("cut", "state"), [(5, "passed"), (10, "tip"), (30, "issue")])
def test_truncated_responses(cut: int, state: str) -> None:
    flagged = [{"response": "r", "truncated": i < cut} for i in range(100)]
    counted = [{"response": "r", "num_tokens": 16 if i < cut else 15} for i in range(100)]
    for found in (
        truncated_responses(evidence([*flagged, {"response": "not known"}], trainer="verl")),
        truncated_responses(evidence(counted, max_tokens=16, trainer="verl")),
    ):
        assert (found.state, found.numbers["share"]) == (state, cut / 100)
        assert ("data.max_response_length" in found.remedy) == (state != "passed")


def test_truncation_that_is_not_known() -> None:
    with pytest.raises(MissingError, match="no column `truncated` and no column `num_tokens`"):
        truncated_responses(evidence(ONE_TWO))
    with pytest.raises(MissingError, match="--max-tokens"):
        truncated_responses(evidence([{"response": "r", "num_tokens": 3}]))


def test_a_quantile_that_is_the_smallest_reward() -> None:
    # Of the first batch one in twenty succeeds, of the second half: its 0.9 quantile is 0, and 1.
    rows = [{"step": 1, "reward": float(i < 1)} for i in range(20)]
    rows += [{"step": 2, "reward": float(i < 10)} for i in range(20)]
    found = quantile_at_the_minimum(evidence(rows, threshold_quantile=0.9))
    assert (found.state, found.numbers) == ("issue", {"share": 0.5, "batches": 2})
    good = quantile_at_the_minimum(evidence(rows[20:], threshold_quantile=0.9))
    assert (good.state, good.remedy) == ("passed", "")
    assert quantile_at_the_minimum(evidence(rows)).state == "not applicable"
    without_steps = [{"reward": float(i < 1)} for i in range(20)]
    assert quantile_at_the_minimum(evidence(without_steps, threshold_quantile=0.9)).state == "issue"


def test_samples_without_a_step_are_of_no_group() -> None:
    rows = [{"step": i // 4, "reward": float(i % 2)} for i in range(40)]
    lost = [{"step": None, "reward": 1.0} for _ in range(40)]
    for check, settings in (
        (groups_without_difference, {}),
        (quantile_at_the_minimum, {"threshold_quantile": 0.9}),
    ):
        whole = check(evidence(rows, **settings))
        assert check(evidence(rows + lost, **settings)).numbers == whole.numbers
        with pytest.raises(MissingError):
            check(evidence([{"step": 1, "reward": None, "response": "r"}, *lost], **settings))


def test_without_mara_nothing_is_said_of_its_anchor() -> None:
    rows = [{"reward": 1.0, "truncated": i < 9} for i in range(10)]
    for settings, words in (({}, "no answer"), ({"transform": "mara"}, "anchor")):
        assert words in truncated_responses(evidence(rows, **settings)).summary
    assert truncated_responses(evidence([{**row, "truncated": False} for row in rows])).summary.endswith(
        "off."
    )


def lengths(*, ref_is_mean: bool, policy_is_mean: bool) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(200):
        tokens = int(torch.randint(5, 200, (), generator=generator))
        ref, policy = (-tokens * (1 + float(torch.rand((), generator=generator))) for _ in range(2))
        rows.append(
            {
                "response": "r",
                "num_tokens": tokens,
                "ref_logprob": ref / tokens if ref_is_mean else ref,
                "policy_logprob": policy / tokens if policy_is_mean else policy,
            }
        )
    return rows


@pytest.mark.parametrize("ref_is_mean", [False, True])
@pytest.mark.parametrize("policy_is_mean", [False, True])
def test_log_probabilities_that_are_means(*, ref_is_mean: bool, policy_is_mean: bool) -> None:
    found = sums_and_means(evidence(lengths(ref_is_mean=ref_is_mean, policy_is_mean=policy_is_mean)))
    assert found.state == ("issue" if ref_is_mean or policy_is_mean else "passed")
    assert ("ref_logprob" in found.remedy) == ref_is_mean
    assert ("policy_logprob" in found.remedy) == policy_is_mean
    assert found.numbers["exponents"]["ref_logprob"].value == pytest.approx(
        0.0 if ref_is_mean else 1.0, abs=0.1
    )


def powers(ref: float, policy: float) -> list[Any]:
    """Log-probabilities that go with powers of the length."""
    return [
        {"response": "r", "num_tokens": n, "ref_logprob": -(n**ref), "policy_logprob": -(n**policy)}
        for n in range(5, 200, 2)
    ]


@pytest.mark.parametrize(
    ("ref", "policy", "means"),
    [
        (1.0, 0.9, ""),
        (0.4, 0.5, ""),
        (1.2, 0.4, "policy"),
        (0.4, 1.2, "ref"),
        (1.0, 0.1, "policy"),
        (0.1, 1.0, "ref"),
    ],
)
def test_a_mean_beside_a_sum(ref: float, policy: float, means: str) -> None:
    found = sums_and_means(evidence(powers(ref, policy)))
    assert found.numbers["ratio"].value == pytest.approx(ref - policy)
    assert found.state == ("issue" if means else "passed")
    for name in ("ref", "policy"):
        assert (f"{name}_logprob" in found.remedy) == (name == means)


def test_what_training_does_to_lengths_is_left_out() -> None:
    rows = [{**row, "step": step} for step in range(10) for row in powers(1.0, 0.0 if step else 1.0)]
    found = sums_and_means(evidence(rows))
    assert found.numbers["exponents"]["policy_logprob"].value == pytest.approx(1)
    assert found.state == "passed"


def test_lengths_that_do_not_tell() -> None:
    rows = lengths(ref_is_mean=False, policy_is_mean=False)
    for lacking in ([{**row, "num_tokens": 7} for row in rows], rows[:10]):
        with pytest.raises(MissingError, match="of different lengths"):
            sums_and_means(evidence(lacking))
    with pytest.raises(MissingError, match="`num_tokens`"):
        sums_and_means(evidence(ONE_TWO))


FIVE = {"a": 1.0, "b": 0.8, "c": 0.6, "d": 0.4, "e": 0.2}


@pytest.mark.parametrize(
    ("size", "extinct", "state"),
    # A group of 4 without a baseline loses two of these outcomes, of 8 one, of 16 none (IPS, equation 9).
    [(5, 2, "issue"), (9, 1, "tip"), (17, 0, "passed")],
)
def test_outcomes_that_go_extinct(size: int, extinct: int, state: str) -> None:
    rows = drawn(dict.fromkeys(FIVE, 10), FIVE)
    found = extinct_outcomes(evidence(rows, transform="ips", group_size=size, good=0.3))
    assert (found.state, found.numbers["outcomes"], found.numbers["extinct"]) == (state, 5, extinct)
    assert found.numbers["good_extinct"] == max(0, extinct - 1)
    assert extinct_outcomes(evidence(rows, group_size=size, good=0.3)).state == "not applicable"
    held = extinct_outcomes(evidence(rows, transform="ips", group_size=size, good=0.3, beta=0.01))
    assert held.state == ("passed" if state == "passed" else "tip")


def test_what_is_good_does_not_hang_on_rounding() -> None:
    # As float32, which TRL's rewards are, 0.7 is a little less.
    rewards = dict.fromkeys("abcdefgh", 1.0) | {"low": float(torch.tensor(0.7))}
    assert rewards["low"] < 0.7
    rows = drawn(dict.fromkeys(rewards, 3), rewards)
    held = extinct_outcomes(evidence(rows, transform="ips", group_size=4, good=0.7))
    assert held.numbers["good_extinct"] == held.numbers["extinct"] > 0
    settings = {"beta": 0.1, "good": 0.7}
    assert evenness_of_the_optimum(evidence(rows, **settings)).numbers["good"] == len(rewards)
    assert evenness_of_the_optimum(evidence(rows, **settings | {"good": 0.7001})).numbers["good"] == 8


def test_rewards_and_groups_that_scaling_cannot_have() -> None:
    rows = drawn({"a": 5, "b": 5}, {"a": 1.0, "b": -0.5})
    for settings in ({"group_size": 8}, {"group_size": 2}):
        used, unused = (
            extinct_outcomes(evidence(rows if settings["group_size"] == 8 else ONE_TWO, **more, **settings))
            for more in ({"transform": "ips"}, {})
        )
        assert (used.state, unused.state) == ("issue", "not applicable")
        assert used.remedy
        assert not unused.remedy


@pytest.mark.parametrize("name", ["ips", "darling", "batch_exploration", "batch_exploration+entropy"])
def test_groups_of_two_that_restore_no_diversity(name: str) -> None:
    found = extinct_outcomes(evidence(ONE_TWO, transform=name, group_size=2))
    assert found.state == "issue"
    assert "keeps no diversity in groups of 2" in found.summary
    assert "Raise" in found.remedy
    # A fact of the method and the group, whatever the log has.
    assert extinct_outcomes(evidence(BONUS, transform=name, group_size=2)).summary == found.summary
    if name != "ips":
        assert extinct_outcomes(evidence(ONE_TWO, transform=name, group_size=8)).state == "not applicable"


def test_scaling_of_nothing_or_of_responses() -> None:
    rows = drawn({"a": 5, "b": 5}, {"a": 0.0, "b": 0.0})
    assert extinct_outcomes(evidence(rows, group_size=8, good=1.0)).state == "not applicable"
    with pytest.raises(MissingError, match="no column `outcome`"):
        extinct_outcomes(evidence(BONUS, group_size=8))


OVER_TRAINING = (falling_entropy, falling_distinct, rising_repeats)


def training(share: Any, *, steps: int = 200, group: int = 16, **rest: Any) -> list[Any]:
    """A prompt's groups; share(t): how probable answer 1 is at time t of 0 to 1, the others are 2 to 9."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for step in range(steps):
        for _ in range(group):
            is_one = float(torch.rand((), generator=generator)) < share(step / steps)
            answer = 1 if is_one else int(torch.randint(2, 10, (), generator=generator))
            rows.append({"step": step, "outcome": answer, "response": f"{answer}", "reward": 1.0, **rest})
    return rows


def test_nothing_changes() -> None:
    rows = training(lambda t: 0.2)
    for check in OVER_TRAINING:
        found = check(evidence(rows))
        assert (found.state, found.remedy) == ("passed", "")
        assert found.numbers["last"] == pytest.approx(found.numbers["first"], abs=0.1)


def test_a_collapse_is_seen_with_the_step_where_it_happens() -> None:
    rows = training(lambda t: 0.2 if t < 0.6 else 0.98)
    for check in OVER_TRAINING:
        found = check(evidence(rows, trainer="trl"))
        assert found.state == "issue"
        assert found.numbers["p"] < 1e-6
        assert found.numbers["changes"] == [120]
        assert "transform=MARA" in found.remedy


def test_a_slow_loss_is_a_tip() -> None:
    rows = training(lambda t: 0.2 + 0.35 * t)
    assert falling_entropy(evidence(rows)).state == "tip"


def test_the_figures_of_the_ends() -> None:
    # Two answers, always in equal parts, then one alone: entropies log 2 and 0, by hand.
    rows = [
        {"step": step, "prompt": p, "outcome": (i % 2) * (step < 2), "response": "same"}
        for step in range(4) for p in range(3) for i in range(4)
    ]  # fmt: skip
    entropy, distinct = (check(evidence(rows)).numbers for check in (falling_entropy, falling_distinct))
    assert (entropy["first"], entropy["last"]) == (pytest.approx(math.log(2)), 0)
    assert (distinct["first"], distinct["last"]) == (0.5, 0.25)
    assert entropy["changes"] == [2]
    repeats = rising_repeats(evidence(rows))
    assert (repeats.state, repeats.numbers["first"], repeats.numbers["last"]) == ("passed", 0.75, 0.75)


def test_responses_stand_for_outcomes_where_none_are_named() -> None:
    rows = training(lambda t: 0.2 if t < 0.5 else 0.99)
    unnamed = [{name: value for name, value in row.items() if name != "outcome"} for row in rows]
    named, found = (falling_entropy(evidence(r)) for r in (rows, unnamed))
    assert found.numbers == named.numbers


def test_too_little_to_compare() -> None:
    few = training(lambda t: 0.5, steps=3)
    with pytest.raises(MissingError, match="too few groups or steps"):
        falling_entropy(evidence(few))
    with pytest.raises(MissingError, match="`step`"):
        falling_entropy(evidence(ONE_TWO))
    with pytest.raises(MissingError, match="no column `outcome` and no column `response`"):
        falling_entropy(evidence([{"step": i, "reward": 1.0} for i in range(9)]))
