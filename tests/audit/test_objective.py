"""What an audit says of the optimum, beside exact optima of enumerated sequences: right, or not tested."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.audit import AuditConfig, run
from allmodes.audit.audit import Audit
from allmodes.audit.choices import KLForm
from allmodes.audit.prediction import Prediction
from allmodes.audit.reporting.compare import Comparison
from allmodes.targets import ips_target, mara_target, reverse_kl_target
from sequence_worlds import KL, optimum, trained

VOCABULARY, BETA = 5, 0.25
OF_RESPONSES: list[KLForm] = ["k1-in-reward", "sequence-k2-in-loss", "reinvent-loss"]
OF_TOKENS: dict[KLForm, KL] = {
    "k2-in-loss": "tokens", "k3-in-loss-corrected": "tokens", "k3-in-loss": "tokens-forward",
}  # fmt: skip


def world(tokens: int) -> tuple[Tensor, Tensor]:
    """log π_ref of all sequences, with four good ones in the ratios 0.436 : 0.263 : 0.154 : 0.1 : 0.047."""
    generator = torch.Generator().manual_seed(tokens)
    count = VOCABULARY**tokens
    weights = 0.5 * torch.rand(count, generator=generator, dtype=torch.float64)
    good = torch.randperm(count, generator=generator)[: 4 if tokens == 1 else 5]
    weights[good] = torch.tensor([0.436, 0.263, 0.154, 0.1, 0.047], dtype=torch.float64)[: len(good)] * 2
    return weights.log().log_softmax(0), torch.zeros(count, dtype=torch.float64).index_fill(0, good, 1.0)


def log_of(ref: Tensor, rewards: Tensor, tokens: int | None, policy: Tensor | None = None) -> list[Any]:
    """Every sequence once, with its log-probabilities: an audit normalises over what the log has."""
    rows: list[dict[str, Any]] = [
        {"response": str(number), "reward": float(reward), "ref_logprob": float(logprob)}
        for number, (reward, logprob) in enumerate(zip(rewards, ref, strict=True))
    ]
    for number, row in enumerate(rows):
        row |= {} if tokens is None else {"num_tokens": tokens}
        row |= {} if policy is None else {"policy_logprob": float(policy[number])}
    return rows


def audit_of(rows: list[Any], **settings: Any) -> Audit:
    return run(rows, AuditConfig.model_validate({"beta": BETA, "good": 0.5, **settings}))


def effective(logprobs: Tensor, rewards: Tensor) -> float:
    return float(1 / logprobs[rewards > 0].softmax(0).square().sum())


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("form", OF_RESPONSES)
def test_a_kl_of_whole_responses_has_the_predicted_optimum(form: KLForm, tokens: int) -> None:
    ref, rewards = world(tokens)
    exact = optimum(ref, rewards, beta=BETA, kl="sequence", vocabulary=VOCABULARY)
    found = audit_of(log_of(ref, rewards, tokens), kl=form).of("AM010")
    assert found.numbers["effective"].value == pytest.approx(effective(exact, rewards))
    assert "under the reverse KL of whole responses" in found.summary
    mara = audit_of(log_of(ref, rewards, tokens), kl=form, transform="mara", threshold=0.5)
    assert mara.of("AM010").numbers["effective"].value == pytest.approx(int(rewards.sum()))
    assert mara.of("AM041").state == "passed"


@pytest.mark.parametrize("form", OF_TOKENS)
def test_with_one_token_a_kl_per_token_has_it_too(form: KLForm) -> None:
    ref, rewards = world(1)
    rows = log_of(ref, rewards, 1)
    for transform, bonus in (("none", 0.0), ("mara", BETA * (ref[rewards > 0].max() - ref))):
        total = torch.where(rewards > 0, rewards + bonus, rewards)
        exact = optimum(ref, total, beta=BETA, kl=OF_TOKENS[form], vocabulary=VOCABULARY)
        audit = audit_of(rows, kl=form, transform=transform, threshold=0.5)
        found = audit.of("AM010").numbers
        assert found["effective"].value == pytest.approx(effective(exact, rewards))
        mass = audit.of("AM020").numbers
        if transform == "mara":
            assert mass["mass"].value == pytest.approx(float(exact[rewards > 0].exp().sum()))
    assert "responses have one token" in audit.of("AM010").summary
    given = audit_of(log_of(ref, rewards, None), kl=form, max_tokens=1).of("AM010")
    assert given.state != "skipped"


@pytest.mark.parametrize("tokens", [2, 3, None])
@pytest.mark.parametrize("form", OF_TOKENS)
def test_with_several_tokens_nothing_is_said_of_its_optimum(form: KLForm, tokens: int | None) -> None:
    ref, rewards = world(tokens or 2)
    rows = log_of(ref, rewards, tokens)
    # What would have been said is wrong: the exact optimum is another.
    exact = optimum(ref, rewards, beta=BETA, kl=OF_TOKENS[form], vocabulary=VOCABULARY)
    said = reverse_kl_target(ref, rewards, beta=BETA)
    assert float((exact.exp() - said.exp()).abs().sum()) / 2 > 0.05
    audit = audit_of(rows, kl=form, trainer="trl")
    for code in ("AM010", "AM011", "AM012"):
        found = audit.of(code)
        assert found.state == "skipped", code
        assert "tokens before it treated as fixed" in found.summary
        assert ("assumed" if tokens is None else f"up to {tokens} tokens") in found.summary
    assert audit.of("AM041").state == "tip"
    mara = audit_of(rows, kl=form, transform="mara", threshold=0.5, trainer="trl")
    for code in ("AM010", "AM020", "AM023"):
        assert mara.of(code).state == "skipped", code
    assert mara.of("AM041").state == "issue"
    assert "does not cancel" in mara.of("AM041").summary
    assert "per token" not in mara.of("AM041").remedy
    assert isinstance(mara.prediction, str)


@pytest.mark.parametrize("tokens", [2, 3])
def test_equal_rewards_do_not_keep_the_references_ratio_under_a_kl_per_token(tokens: int) -> None:
    ref, rewards = world(tokens)
    good = rewards > 0
    for kl, keeps in (("sequence", True), ("tokens", False)):
        found = trained(ref, rewards, beta=BETA, kl=kl, vocabulary=VOCABULARY, steps=600)  # type: ignore[arg-type]
        change = found[good] - ref[good]
        assert (float(change.max() - change.min()) < 0.05) == keeps


@pytest.mark.parametrize("transform", ["none", "mara"])
def test_what_is_trained_is_compared_with_the_prediction_where_there_is_one(transform: str) -> None:
    ref, rewards = world(2)
    bonus = torch.where(rewards > 0, BETA * (ref[rewards > 0].max() - ref), 0) * (transform == "mara")
    for kl, form in (("sequence", "k1-in-reward"), ("tokens", "k3-in-loss-corrected")):
        policy = optimum(ref, rewards + bonus, beta=BETA, kl=kl, vocabulary=VOCABULARY)  # type: ignore[arg-type]
        settings = {"kl": form, "transform": transform, "threshold": 0.5}
        prediction = audit_of(log_of(ref, rewards, 2, policy), **settings).prediction
        if kl == "sequence":
            assert isinstance(prediction, Prediction)
            assert prediction.distances[0] == pytest.approx(0, abs=1e-12)
            assert prediction.kl == "the reverse KL of whole responses"
        else:
            assert "tokens before it treated as fixed" in str(prediction)


def test_lengths_of_the_training_count_where_the_reference_has_none() -> None:
    outcomes = [
        {"response": str(i % 3), "outcome": str(i % 3), "reward": float(i % 3 > 0)} for i in range(60)
    ]
    lengths = {"one": 1, "two": 2}
    for name, tokens in lengths.items():
        after = [{**row, "num_tokens": tokens} for row in outcomes]
        config = AuditConfig(beta=BETA, good=0.5, kl="k3-in-loss-corrected")
        found = Comparison(first=run(outcomes), second=run(after, config), names=("base", name)).prediction
        assert isinstance(found, Prediction) == (tokens == 1)


def test_groups_of_the_training_count_and_not_those_of_the_reference() -> None:
    rewards = (1.0, 0.8, 0.6)
    base = [{"outcome": str(i % 3), "reward": rewards[i % 3], "step": 0} for i in range(60)]
    after = [{**row, "step": i // 4} for i, row in enumerate(base)]  # groups of 4
    config = AuditConfig(beta=0.0, good=0.5, transform="ips")
    found = Comparison(first=run(base), second=run(after, config), names=("base", "after")).prediction
    assert isinstance(found, Prediction)
    expected = ips_target(torch.tensor(rewards, dtype=torch.float64), group_size=3).exp()
    assert torch.allclose(found.predicted.sort().values, expected.sort().values, rtol=0, atol=1e-9)
    assert "optimum of groups of 4" in found.assumption


def test_some_lengths_do_not_show_that_all_are_one() -> None:
    ref, rewards = world(1)
    rows = log_of(ref, rewards, 1)
    del rows[0]["num_tokens"]
    assert audit_of(rows, kl="k2-in-loss").of("AM010").state == "skipped"


def test_without_a_form_of_the_kl_the_assumption_is_said() -> None:
    ref, rewards = world(2)
    for code in ("AM010", "AM011"):
        assert "assumes a KL of whole responses" in audit_of(log_of(ref, rewards, 2)).of(code).summary
        known = audit_of(log_of(ref, rewards, 2), kl="k1-in-reward").of(code)
        assert "assumes" not in known.summary


@pytest.mark.parametrize("trainer", ["trl", "verl", "openrlhf", "allmodes", None])
@pytest.mark.parametrize("form", ["k3-in-loss-corrected", "k1-in-reward", None])
def test_no_advice_combines_mara_with_a_kl_per_token(trainer: str | None, form: str | None) -> None:
    ref, rewards = world(2)
    for transform in ("none", "mara"):
        settings = {"kl": form, "transform": transform, "trainer": trainer, "scale_rewards": "group"}
        audit = audit_of(log_of(ref, rewards, 2), **settings)
        for finding in audit.findings:
            if "MARA" in finding.remedy or "mara" in finding.remedy:
                whole = (
                    "whole responses",
                    "RLOOTrainer",
                    "use_kl_in_reward",
                    "--algo.kl.estimator k1",
                    'kl = "reverse"',
                    "k1, summed",
                )
                assert any(words in finding.remedy for words in whole), finding.remedy
            assert "use_bias_correction_kl" not in finding.remedy


@pytest.mark.parametrize("entropy", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("has_outcomes", [True, False])
def test_an_entropy_bonus_has_its_own_optimum(entropy: float, *, has_outcomes: bool) -> None:
    ref, rewards = world(2)
    rows = log_of(ref, rewards, 2)
    rows = [{**row, "outcome": row["response"]} if has_outcomes else row for row in rows]
    settings = {"transform": "entropy", "entropy": entropy, "kl": "k1-in-reward"}
    found = audit_of(rows, **settings).of("AM010")
    exact = reverse_kl_target(ref, rewards, beta=BETA, entropy=entropy)
    assert found.numbers["effective"].value == pytest.approx(effective(exact, rewards))
    assert f"entropy bonus (η = {entropy:g})" in found.summary
    spread = audit_of(rows, **settings).of("AM011").numbers["spread"].value
    good = exact[rewards > 0]
    assert spread == pytest.approx(float(good.max() - good.min()))


def test_an_entropy_bonus_over_counted_outcomes_of_one_string_each() -> None:
    counts = {"a": 60, "b": 20, "c": 20}
    rows = [
        {"response": name, "outcome": name, "reward": float(name != "c")}
        for name, n in counts.items()
        for _ in range(n)
    ]
    settings = {"transform": "entropy", "entropy": 0.75, "kl": "k1-in-reward"}
    ref = torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64).log()
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    exact = reverse_kl_target(ref, rewards, beta=BETA, entropy=0.75)
    found = audit_of(rows, **settings).of("AM010")
    assert found.numbers["top_share"].value == pytest.approx(float(exact[0].exp() / exact[:2].exp().sum()))
    # With several strings an outcome the optimum depends on how many there are.
    several = [{**row, "response": f"{row['response']} {i % 2}"} for i, row in enumerate(rows)]
    found = audit_of(several, **settings).of("AM010")
    assert found.state == "skipped"
    assert "`ref_logprob`" in found.summary
    unknown = audit_of(rows, transform="entropy", kl="k1-in-reward").of("AM010")
    assert "give `--entropy`" in unknown.summary
    per_token = audit_of(rows, **{**settings, "kl": "k3-in-loss-corrected"}).of("AM010")
    assert per_token.state == "skipped"
    assert math.isfinite(audit_of(rows, **settings).of("AM011").numbers["spread"].value)


def test_maras_optimum_is_that_of_the_exact_target() -> None:
    ref, rewards = world(3)
    found = audit_of(log_of(ref, rewards, 3), kl="k1-in-reward", transform="mara", threshold=0.5).of("AM020")
    exact = mara_target(ref, rewards, beta=BETA, threshold=0.5).exp()
    assert found.numbers["mass"].value == pytest.approx(float(exact[rewards > 0].sum()))
