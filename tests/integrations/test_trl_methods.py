"""Every method of METHODS through TRL's trainers: rewards, needs and memory. A new one needs no line here."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

trl = pytest.importorskip("trl")
# ruff: noqa: E402

from datasets import Dataset
from transformers import AutoModelForCausalLM

import allmodes.integrations
from allmodes.audit.config import AuditConfig
from allmodes.errors import ConfigError, InputError
from allmodes.integrations.batches import method_name, prompt_key
from allmodes.integrations.trl_audit_settings import audit_settings
from allmodes.integrations.trl_settings import check_grpo_settings, check_settings
from allmodes.methods import IPS, MARA, METHODS, Batch, EntropyBonus, Method, Result, Then, stable_ids
from allmodes.objectives import BatchQuantile, GroupQuantile
from method_cases import COMPOSITIONS, cases
from method_cases import build as make
from trl_cases import (
    OURS,
    PROMPTS,
    Inputs,
    by_hand,
    group_ids,
    last,
    outcome,
    parameters,
    rewards_of,
    score,
    sequence_logprobs,
    texts_of,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

Make = Callable[..., Any]
NAMES = [*METHODS, *COMPOSITIONS]
BETA = 0.1


def batch_of(trainer: Any, generated: dict[str, Any], model: Path) -> Batch:
    """What a method must have been given, computed apart."""
    reference = AutoModelForCausalLM.from_pretrained(model).eval()
    return Batch(
        rewards=rewards_of(generated),
        group_ids=group_ids(),
        lengths=generated["completion_mask"].sum(1),
        ref_logprobs=sequence_logprobs(reference, generated),
        logprobs=sequence_logprobs(trainer.model, generated),
        outcome_ids=stable_ids([outcome(text) for text in texts_of(model, generated)]),
        prompt_ids=stable_ids([prompt for prompt in PROMPTS for _ in range(4)]),
    )


def advantages(kind: str, method: Method, batch: Batch, new: Tensor) -> Tensor:
    """R̄ less its baseline, and the KL of whole responses with a baseline of its own where it is a reward."""
    assert batch.logprobs is not None
    assert batch.ref_logprobs is not None
    rewards = new if method.has_own_baseline else by_hand(kind, new, torch.zeros(12))
    if method.contains_kl or (kind == "grpo" and not method.needs_sequence_kl):
        return rewards
    return rewards + by_hand(kind, torch.zeros(12), batch.logprobs - batch.ref_logprobs, beta=BETA)


@pytest.mark.parametrize("name", NAMES)
def test_advantages_are_those_of_the_method_and_training_goes_through(
    name: str, kind: str, build: Make, inputs: Inputs, tiny_model: Path
) -> None:
    method = make(name)
    trainer = build(OURS[kind], {"max_steps": 2}, transform=method, outcome_key=outcome)
    generated = score(trainer, inputs)
    batch = batch_of(trainer, generated, tiny_model)
    result = method(batch, beta=BETA)
    expected = advantages(kind, method, batch, result.rewards)
    torch.testing.assert_close(generated["advantages"].double(), expected, atol=2e-5, rtol=1e-4)
    for figure, value in result.metrics.items():
        logged = trainer._metrics["train"][f"transform/{figure}"]
        assert logged == [pytest.approx(value, abs=1e-4, rel=1e-4, nan_ok=True)]
    start = parameters(trainer)
    trainer.train()
    assert trainer.state.global_step == 2
    assert all(bool(value.isfinite().all()) for value in parameters(trainer).values())
    assert any(not torch.equal(value, parameters(trainer)[n]) for n, value in start.items())


@pytest.mark.parametrize("case", [pytest.param(method, id=name) for name, method in cases().items()])
def test_scaling_is_refused_where_the_method_says_that_it_moves_the_optimum(
    case: Method, make_config: Make
) -> None:
    config = make_config(trl.GRPOTrainer, scale_rewards="group", num_generations=12)
    check_settings(config, transform=case, kl=None, outcome_key=outcome)
    if case.optimum_survives_std_normalization:
        check_grpo_settings(config, transform=case, kl=None)
        return
    with pytest.raises(ConfigError, match=r"^`scale_rewards` must be 'none' for [^\n]*$"):
        check_grpo_settings(config, transform=case, kl=None)


@pytest.mark.parametrize("case", [pytest.param(method, id=name) for name, method in cases().items()])
def test_a_method_that_lacks_outcomes_a_kl_or_samples_is_refused_in_one_line(
    case: Method, make_config: Make, kind: str
) -> None:
    def refusal(*, outcome_key: Any = outcome, **settings: Any) -> str | None:
        try:
            config = make_config(OURS[kind], **{"num_generations": 12, **settings})
            check_settings(config, transform=case, kl=None, outcome_key=outcome_key)
        except ConfigError as error:
            return str(error)
        return None

    assert refusal() is None
    assert not any("\n" in (text or "") for text in (refusal(outcome_key=None), refusal(beta=0.0)))
    without_key = refusal(outcome_key=None)
    assert (without_key is not None) == case.needs_outcomes
    assert without_key is None or "give the trainer `outcome_key`" in without_key
    needs_kl = case.needs_reference or case.contains_kl or case.changes_reference
    assert (refusal(beta=0.0) is not None) == needs_kl
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        assert (refusal(num_generations=2) is not None) == (case.min_group_size > 2)
    said, wanted = [str(one.message) for one in seen], case.group_warning(2)
    assert len(said) == (wanted is not None and case.min_group_size <= 2)
    assert all(text.startswith(f"{wanted}; got ") and "num_generations=2" in text for text in said)


@pytest.mark.parametrize("name", NAMES)
def test_an_audit_is_told_of_every_method(name: str, kind: str, build: Make) -> None:
    trainer = build(OURS[kind], transform=make(name), outcome_key=outcome)
    found = audit_settings(trainer)
    assert found["transform"] == ("none" if name == "vanilla" else name)
    AuditConfig.model_validate(json.loads(json.dumps(found)))


@pytest.mark.parametrize("case", [pytest.param(method, id=name) for name, method in cases().items()])
def test_an_audit_has_the_method_that_was_trained(case: Method, build: Make) -> None:
    """As far as a recipe could say it: with its key, and a quantile as τ, it cannot."""
    trainer = SimpleNamespace(
        args=SimpleNamespace(normalize_advantages=False), transform=case, beta=0.1, num_generations=4,
        max_completion_length=8,
    )  # fmt: skip
    config = AuditConfig.model_validate(json.loads(json.dumps(audit_settings(trainer))))
    found = config.method(threshold=config.threshold or 0.0)
    parts = getattr(case, "methods", (case,))
    in_recipe = all(
        getattr(part, field.name) == field.default
        for part in parts
        for field in fields(part)
        if not field.metadata.get("in_recipes", False)
    )
    if in_recipe and config.threshold_quantile is None and not config.lacks("threshold"):
        assert found is not None
        assert found.describe() == case.describe()


# --- Outcomes, the KL, the reference ---


def test_outcomes_are_those_of_the_trainer_where_the_method_has_no_key(
    kind: str, build: Make, inputs: Inputs
) -> None:
    def found(method: Method, **arguments: Any) -> Tensor:
        return score(build(OURS[kind], transform=method, **arguments), inputs)["advantages"]

    own = found(IPS(outcome_key=outcome))
    assert torch.equal(own, found(IPS(), outcome_key=outcome))
    assert torch.equal(own, found(IPS(outcome_key=outcome), outcome_key=len))  # for the log alone
    assert not torch.equal(own, found(IPS(), outcome_key=len))


@pytest.mark.parametrize("kl", ["token-reverse", "token-forward", "forward"])
def test_a_method_that_holds_the_kl_takes_no_other(kl: Any, build: Make) -> None:
    with pytest.raises(ConfigError, match=rf"^`kl` must be 'reverse' for IPS, .*; got '{kl}'$"):
        build(OURS["grpo"], transform=IPS(kl_first=True), outcome_key=outcome, kl=kl, model="none")


def test_a_changed_reference_needs_a_kl_in_the_reward(build: Make) -> None:
    arguments = {"transform": MARA(threshold=0.5, algorithm=2), "model": "no/such-model"}
    with (
        pytest.warns(UserWarning, match="is per token"),
        pytest.raises(ConfigError, match=r"^`kl` must be 'reverse' for MARA, which changes the reference"),
    ):
        build(OURS["grpo"], kl="token-reverse", **arguments)


def test_no_method_both_holds_a_kl_and_changes_its_reference(kind: str, build: Make) -> None:
    both = Then(MARA(threshold=0.5, algorithm=2), IPS(kl_first=True))
    with pytest.raises(ConfigError, match=r"^Then must not both hold a KL .*; got MARA \(.*then IPS$"):
        build(OURS[kind], transform=both, outcome_key=outcome, model="no/such-model")


def test_algorithm_2_ends_at_the_advantages_of_algorithm_1(kind: str, build: Make, inputs: Inputs) -> None:
    """The bonus is in the reward, or in the reference of the KL: their sum is the same."""
    one, two = (
        score(build(OURS[kind], transform=MARA(threshold=0.25, algorithm=n)), inputs)["advantages"]
        for n in (1, 2)
    )
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_a_kl_that_the_rewards_hold_is_in_no_loss_and_is_logged(
    kind: str, build: Make, inputs: Inputs
) -> None:
    """At advantages of zero nothing but a KL could move the policy."""
    trainer = build(OURS[kind], transform=IPS(kl_first=True), outcome_key=outcome)
    generated = score(trainer, inputs)
    assert len(trainer._metrics["train"]["kl"]) == 1
    assert last(trainer, "kl") != 0
    generated["advantages"] = torch.zeros(12)
    trainer.current_gradient_accumulation_steps = 1
    trainer._compute_loss(trainer.model, generated).backward()
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


# --- What a method remembers ---


@dataclass(frozen=True)
class _Counts(Method):
    """Adds the number of batches before: what a stateful method is at least."""

    @property
    def has_state(self) -> bool:
        return True

    @property
    def needs_prompts(self) -> bool:
        return True

    def __call__(self, batch: Batch, *, beta: Any, state: Any = None) -> Result:
        seen = {} if state is None else state["seen"]
        assert batch.prompt_ids is not None
        found = {str(prompt): float(seen.get(str(prompt), 0) + 1) for prompt in batch.prompt_ids.tolist()}
        new = batch.rewards + torch.tensor([seen.get(str(p), 0) for p in batch.prompt_ids.tolist()])
        state = {"seen": {**seen, **found}, "last": batch.rewards}
        return Result(rewards=new, metrics={"seen": sum(found.values())}, state=state)


CHECKPOINTS = {"max_steps": 3, "save_steps": 2, "save_strategy": "steps", "shuffle_dataset": False}


def test_what_is_remembered_survives_a_checkpoint_and_evaluation_teaches_nothing(
    kind: str, build: Make, tmp_path: Path
) -> None:
    data = Dataset.from_dict({"prompt": PROMPTS})

    def run(name: str, **more: Any) -> Any:
        settings = {**CHECKPOINTS, "output_dir": str(tmp_path / name), **more}
        return build(OURS[kind], settings, transform=_Counts(), train_dataset=data, eval_dataset=data)

    whole = run("whole", eval_strategy="steps", eval_steps=1)
    whole.train()
    logged = [e["transform/seen"] for e in whole.state.log_history if "transform/seen" in e]
    assert logged == [3, 6, 9]
    rest = run("rest")
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert [e["transform/seen"] for e in rest.state.log_history if "transform/seen" in e][-1] == 9


def _rewrite_state(checkpoint: Path, attributes: dict[str, Any]) -> None:
    path = checkpoint / "trainer_state.json"
    saved = json.loads(path.read_text())
    saved["stateful_callbacks"]["TransformState"]["attributes"] = attributes
    path.write_text(json.dumps(saved))


@pytest.mark.parametrize(
    ("threshold", "old", "warning"),
    [
        (BatchQuantile(0.4), {"value": {"": [5.0, 0.0]}}, None),
        (BatchQuantile(0.4), {"value": None}, None),
        (GroupQuantile(0.4), {"value": {"0123456789abcdef": [5.0, 0.0]}}, "earlier version"),
        (BatchQuantile(0.4), {"saved": {"method": "mara+entropy", "state": {"0": {}}}}, "'mara+entropy'"),
    ],
    ids=["batch", "nothing yet", "prompts", "another method"],
)
def test_checkpoints_of_the_last_version_and_of_other_methods(
    threshold: Any, old: dict[str, Any], warning: Any, build: Make, tmp_path: Path
) -> None:
    def run(name: str) -> Any:
        settings = {**CHECKPOINTS, "output_dir": str(tmp_path / name)}
        reward: Any = lambda completions, **_: [1.0] * len(completions)  # noqa: E731  # which names no τ
        mara = MARA(threshold=threshold)
        return build(OURS["rloo"], settings, transform=mara, reward_funcs=reward)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run("whole").train()
    _rewrite_state(tmp_path / "whole" / "checkpoint-2", old)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rest = run("rest")
        rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    said = [str(w.message) for w in caught if "starts without its earlier state" in str(w.message)]
    assert [warning in line and "\n" not in line for line in said] == ([] if warning is None else [True])
    tau = rest.state.log_history[-2].get("transform/threshold")
    assert tau == (5.0 if old.get("value") and warning is None else None)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (MARA(threshold=1), "mara"),
        (Then(MARA(threshold=1), EntropyBonus()), "mara+entropy"),
        (Then(IPS(), Then(MARA(threshold=1), EntropyBonus())), "ips+mara+entropy"),
        (_Counts(), "_Counts"),
    ],
)
def test_a_method_has_one_name(method: Method, name: str) -> None:
    assert method_name(method) == name


class _Picture:
    def __init__(self, pixels: bytes) -> None:
        self.pixels = pixels

    def tobytes(self) -> bytes:
        return self.pixels


def test_a_prompt_is_known_again() -> None:
    turns = [{"role": "user", "content": [{"type": "image", "image": _Picture(b"ab")}]}]
    same = [{"content": [{"image": _Picture(b"ab"), "type": "image"}], "role": "user"}]
    other = [{"role": "user", "content": [{"type": "image", "image": _Picture(b"ac")}]}]
    assert prompt_key(turns) == prompt_key(same) != prompt_key(other)
    assert prompt_key("a") != prompt_key("b")
    with pytest.raises(InputError, match=r"must consist of texts, numbers or images, .* got object"):
        prompt_key([{"role": "user", "content": object()}])


# --- Names ---


def test_all_methods_are_public_names_of_the_integrations() -> None:
    for method in METHODS.values():
        assert getattr(allmodes.integrations, method.__name__) is method
        assert method.__name__ in allmodes.integrations.__all__
    found = allmodes.integrations
    assert (found.RewardTransform, found.TransformBatch, found.TransformResult) == (Method, Batch, Result)


def test_the_methods_need_no_trainer() -> None:
    code = (
        "import sys, allmodes.integrations; print(sorted({'trl', 'transformers', 'peft'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
