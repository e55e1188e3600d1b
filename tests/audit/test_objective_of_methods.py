"""AM010 of every method: its own optimum to float precision, or "not tested" with one reason."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from allmodes.audit import AuditConfig, run
from allmodes.audit.audit import Audit
from allmodes.audit.checks.findings import Finding, MissingError
from allmodes.audit.checks.optimum_checks import evenness_of_the_optimum
from allmodes.audit.evidence import Evidence
from allmodes.audit.logs.log import read_log
from allmodes.audit.logs.sources import RecordSource
from allmodes.errors import ConfigError, InputError
from allmodes.methods import METHODS, AlphaDPG, make_method, method_names, recipe_fields
from allmodes.runs.config import build_config
from enumerated_groups import logits_of, relative_gains

BETA, GOOD = 0.25, 0.4
COUNTS = {"a": (48, 1.0), "b": (24, 1.0), "c": (12, 0.5), "d": (12, 0.0)}  # samples and reward
REF = torch.tensor([count / 96 for count, _ in COUNTS.values()], dtype=torch.float64).log()
REWARDS = torch.tensor([reward for _, reward in COUNTS.values()], dtype=torch.float64)
# No number of these is a default, so that one that is lost on its way changes the optimum.
VALUES: dict[str, float] = {"entropy": 0.13, "temperature": 0.7, "threshold": GOOD}
COMPOSED = ["mara+entropy", "ips+entropy"]
NAMES = [*METHODS, *COMPOSED]


def rows() -> list[dict[str, Any]]:
    """Every outcome as often as the reference draws it: one string of one token each."""
    return [
        {
            "response": name,
            "outcome": name,
            "reward": reward,
            "num_tokens": 1,
            "ref_logprob": math.log(n / 96),
        }
        for name, (n, reward) in COUNTS.items()
        for _ in range(n)
    ]


def settings_of(part: str) -> dict[str, float]:
    """The settings of a method that VALUES has, and a number for others without a default."""
    fields = recipe_fields(METHODS[part])
    needed = [key for key, field in fields.items() if field.default is dataclasses.MISSING]
    return {key: VALUES.get(key, 0.5) for key in {*needed, *VALUES} if key in fields}


def config_of(name: str, **given: Any) -> AuditConfig:
    """Settings of a method go in as a user gives them: τ and η by flags of their own, others by name."""
    every = {key: value for part in method_names(name) for key, value in settings_of(part).items()}
    own = {key: every.pop(key) for key in ("threshold", "entropy") if key in every}
    config = {"transform": name, "kl": "k1-in-reward", "beta": BETA, "good": GOOD, **own, **given}
    return AuditConfig.model_validate({**config, "settings": every or None})


def audit_of(name: str, **given: Any) -> Audit:
    return run(rows(), config_of(name, **given))


def exact(name: str, *, beta: float, group_size: int | None = None) -> torch.Tensor | None:
    method = make_method(name, {part: settings_of(part) for part in method_names(name)})
    ids = torch.arange(len(REF))
    return method.optimum(REF, REWARDS, beta=beta, outcome_ids=ids, group_size=group_size)


def is_one_reason(found: Finding) -> bool:
    return found.summary.startswith("Not tested: ") and "\n" not in found.summary and not found.remedy


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_the_methods_own_or_not_tested(name: str) -> None:
    found, wanted = audit_of(name).of("AM010"), exact(name, beta=BETA)
    if wanted is None:
        assert found.state == "skipped"
        assert is_one_reason(found)
        assert "the optimum with" in found.summary
        return
    good = wanted[REWARDS >= GOOD]
    shares = good.softmax(0)
    assert found.numbers["good"] == 3
    assert found.numbers["top_share"].value == pytest.approx(float(shares.max()), rel=1e-9)
    assert found.numbers["effective"].value == pytest.approx(float(1 / shares.square().sum()), rel=1e-9)
    assert found.numbers["log_ratio"].value == pytest.approx(float(good.max() - good.min()), abs=1e-9)


def test_an_optimum_is_known_for_most_methods() -> None:
    known = [name for name in NAMES if exact(name, beta=BETA) is not None]
    assert len(known) > len(NAMES) / 2  # else the test above would pass with nothing tested


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_that_of_groups_of_their_size_where_it_is_known(name: str) -> None:
    large, wanted = exact(name, beta=BETA), exact(name, beta=BETA, group_size=4)
    if large is None:
        return
    evidence = Evidence(read_log(RecordSource(rows()), dict), config_of(name, group_size=4))
    found = evidence.optimum(evidence.support)[evidence.support.first.argsort()].exp()
    if wanted is None:
        assert torch.allclose(found, large.exp(), rtol=0, atol=1e-9)
        assert "optimum of large groups; that of groups of 4 is not known" in evidence.assumption
        return
    assert torch.allclose(found, wanted.exp(), rtol=0, atol=1e-9)
    is_same = torch.allclose(large.exp(), wanted.exp(), rtol=0, atol=1e-9)
    assert evidence.assumption == ("" if is_same else " This is the optimum of groups of 4.")
    unknown = Evidence(read_log(RecordSource(rows()), dict), config_of(name))
    assert ("--group-size" in unknown.assumption) == (not is_same)


SIZE = 4
TABLE = {"a": (48, 1.0), "b": (24, 0.8), "c": (24, 0.6)}


def rows_in_steps() -> list[dict[str, Any]]:
    """Four samples of a prompt in each step, of a policy that has not moved from its reference."""
    outcomes = [name for name, (n, _) in TABLE.items() for _ in range(n)]
    order = torch.randperm(len(outcomes), generator=torch.Generator().manual_seed(0)).tolist()
    return [
        {
            "step": place // SIZE,
            "response": outcomes[i],
            "outcome": outcomes[i],
            "reward": TABLE[outcomes[i]][1],
            "num_tokens": 1,
            "ref_logprob": math.log(TABLE[outcomes[i]][0] / 96),
            "policy_logprob": math.log(TABLE[outcomes[i]][0] / 96),
        }
        for place, i in enumerate(order)
    ]


@pytest.mark.parametrize(("name", "beta"), [("ips", 0.0), ("darling", 0.0), ("darling", BETA)])
def test_the_optimum_is_where_all_groups_of_four_leave_the_policy(name: str, beta: float) -> None:
    """The group size is read off the log; the expected update over all 3⁴ groups moves nothing."""
    config = AuditConfig.model_validate({"transform": name, "beta": beta, "kl": "k1-in-reward", "good": 0.5})
    evidence = Evidence(read_log(RecordSource(rows_in_steps()), dict), config)
    assert evidence.group_size == SIZE
    support = evidence.support
    p = evidence.optimum(support).exp()
    method, ref = make_method(name), support.ref_logprobs
    assert torch.allclose(ref.exp().sort().values, torch.tensor([0.25, 0.25, 0.5]).double())

    def gains(logprobs: torch.Tensor) -> torch.Tensor:
        policy = logits_of(*logprobs.exp().tolist())
        return relative_gains(method, policy, support.rewards, size=SIZE, ref=ref, beta=beta)

    assert float(gains(p.log()).abs().max()) < 1e-6
    large = method.optimum(ref, support.rewards, beta=beta)
    assert large is not None
    assert float(gains(large).abs().max()) > 1e-3  # that of large groups is another
    found = evenness_of_the_optimum(evidence)
    assert found.numbers["top_share"].value == pytest.approx(float(p.max()), rel=1e-9)
    assert "This is the optimum of groups of 4." in found.summary


def test_groups_that_leave_nothing_of_a_method_have_no_optimum() -> None:
    config = AuditConfig.model_validate({"transform": "ips", "beta": 0.0, "good": 0.5, "group_size": 2})
    with pytest.raises(MissingError, match="in groups of 2"):
        evenness_of_the_optimum(Evidence(read_log(RecordSource(rows_in_steps()), dict), config))


def test_a_threshold_that_is_not_given_is_what_is_good_for_compositions_too() -> None:
    given = {"transform": "mara+entropy", "entropy": 0.13, "beta": BETA, "kl": "k1-in-reward", "good": GOOD}
    found = run(rows(), AuditConfig.model_validate(given)).of("AM010")
    assert found.numbers["effective"].value == pytest.approx(3)  # τ is what is good, not 1


@pytest.mark.parametrize("given", [{"beta": 0.0, "group_size": 2}, {"kl": "k3-in-loss"}])
@pytest.mark.parametrize("name", [*NAMES, "other", "none"])
def test_no_check_fails_for_any_method(name: str, given: dict[str, Any]) -> None:
    if name in METHODS or name in COMPOSED:
        audit = audit_of(name, **given)
    else:
        audit = run(rows(), AuditConfig.model_validate({"transform": name, "beta": BETA, **given}))
    for finding in audit.findings:
        assert finding.summary
        assert finding.state != "skipped" or is_one_reason(finding), finding.code


@pytest.mark.parametrize("name", ["nothing", "mara+nothing", "mara+", "mara+other"])
def test_an_unknown_name_is_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(AuditConfig, {"transform": name}, source="flags")
    message = str(caught.value)
    assert "transform" in message
    assert name in message
    assert all(known in message for known in METHODS)
    assert len(message.strip().splitlines()) == 1


def test_a_method_that_does_without_its_threshold_says_so() -> None:
    bare = AuditConfig.model_validate(
        {"transform": "alpha_dpg", "settings": {"threshold": "none", "alpha": 0.25}, "good": GOOD}
    )
    assert bare.method(threshold=GOOD) == AlphaDPG(threshold=None, alpha=0.25)
    assert not bare.lacks("threshold")
    with pytest.raises(ConfigError, match=r"`settings`: .*threshold"):
        build_config(AuditConfig, {"transform": "mara", "settings": {"threshold": "none"}}, source="audit")


def test_trl_and_molecules_tell_an_audit_of_a_method_without_a_threshold() -> None:
    pytest.importorskip("trl")
    pytest.importorskip("rdkit")
    from allmodes.chem.design.audit_settings import audit_settings
    from allmodes.integrations.trl_audit_settings import _other_settings
    from molecule_settings import molecule_config

    told = {"threshold": "none", "alpha": 0.25}
    assert _other_settings(AlphaDPG(alpha=0.25)) == told
    assert "threshold" not in _other_settings(AlphaDPG(threshold=0.5))
    config = molecule_config(loss="grpo", method="alpha_dpg", methods={"alpha_dpg": told})
    settings = audit_settings(config, config.arms[0])
    assert (settings["settings"], settings.get("threshold")) == (told, None)
    assert AuditConfig.model_validate(settings).method(threshold=GOOD) == AlphaDPG(alpha=0.25)
