"""AM010 of every method: its own optimum to float precision, or "not tested" with one reason."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from allmodes.audit import AuditConfig, run
from allmodes.audit.audit import Audit
from allmodes.audit.checks.findings import Finding
from allmodes.errors import InputError
from allmodes.methods import METHODS, make_method, method_names, recipe_fields
from allmodes.runs.config import build_config

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


def audit_of(name: str, **given: Any) -> Audit:
    """Settings of a method go in as a user gives them: τ and η by flags of their own, others by name."""
    every = {key: value for part in method_names(name) for key, value in settings_of(part).items()}
    own = {key: every.pop(key) for key in ("threshold", "entropy") if key in every}
    config = {"transform": name, "kl": "k1-in-reward", "beta": BETA, "good": GOOD, **own, **given}
    return run(rows(), AuditConfig.model_validate({**config, "settings": every or None}))


def exact(name: str, *, beta: float) -> torch.Tensor | None:
    method = make_method(name, {part: settings_of(part) for part in method_names(name)})
    return method.optimum(REF, REWARDS, beta=beta, outcome_ids=torch.arange(len(REF)))


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
