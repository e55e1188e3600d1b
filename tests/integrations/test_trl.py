"""Trainers with a transform: TRL's own without one; with one, its rewards and nothing else changed."""

import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

trl = pytest.importorskip("trl")
# ruff: noqa: E402

from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import nanstd

from allmodes.errors import ConfigError, InputError
from allmodes.integrations import (
    IPS,
    MARA,
    BestOfN,
    EntropyBonus,
    RewardTransform,
    TransformResult,
    Unlikeliness,
)
from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer, completion_text
from allmodes.objectives import (
    BatchQuantile,
    GroupQuantile,
    best_of_n_rewards,
    ips_rewards,
    mara_rewards,
    outcome_ref_logprobs,
    unlikeliness_rewards,
)
from allmodes.targets import mara_target, reverse_kl_target
from trl_cases import (
    OURS,
    PROMPTS,
    THEIRS,
    Inputs,
    by_hand,
    even_share,
    group_ids,
    ids_of,
    last,
    outcome,
    parameters,
    rewards_of,
    score,
    sequence_logprobs,
    set_completions,
    texts_of,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

# --- Without a transform ---


@pytest.mark.parametrize("arguments", [{}, {"outcome_key": outcome}], ids=["alone", "answers logged"])
def test_without_a_transform_training_is_trl_s_own_bit_for_bit(
    arguments: dict[str, Any], kind: str, build: Callable[..., Any]
) -> None:
    theirs = build(THEIRS[kind])
    theirs.train()
    ours = build(OURS[kind], **arguments)  # only now: building a trainer seeds the generator
    start = parameters(ours)
    ours.train()
    end = parameters(ours)
    assert all(torch.equal(value, end[name]) for name, value in parameters(theirs).items())
    assert any(not torch.equal(value, end[name]) for name, value in start.items())
    for one, other in zip(theirs.state.log_history[:3], ours.state.log_history[:3], strict=True):
        more = {f"answers/{name}" for name in ("valid", "distinct", "entropy")} if arguments else set()
        assert one.keys() | more == other.keys()
        assert all(one[key] == other[key] for key in one if "time" not in key)


# --- The rewards that reach the advantages ---


@pytest.mark.parametrize("anchor", ["group", "leave_one_out"])
def test_advantages_are_those_of_mara_on_the_reference_s_log_probabilities(
    kind: str, anchor: Any, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    trainer = build(OURS[kind], transform=MARA(threshold=GroupQuantile(0.3), anchor=anchor))
    batch = score(trainer, inputs)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    rewards, ref_logprobs = rewards_of(batch), sequence_logprobs(reference, batch)
    log_ratio = sequence_logprobs(trainer.model, batch) - ref_logprobs
    assert float(log_ratio.abs().max()) > 0.5  # the policy is not the reference
    result = mara_rewards(
        rewards,
        ref_logprobs,
        beta=0.1,
        threshold=GroupQuantile(0.3)(rewards, group_ids()),
        group_ids=group_ids(),
        anchor=anchor,
    )
    assert 0 < int(result.augmented.sum()) < 12
    torch.testing.assert_close(
        batch["advantages"].double(), by_hand(kind, result.rewards, log_ratio), atol=2e-5, rtol=1e-5
    )
    bonus = result.bonus[result.augmented]
    assert last(trainer, "transform/augmented") == pytest.approx(float(result.augmented.double().mean()))
    assert last(trainer, "transform/bonus_mean") == pytest.approx(float(bonus.mean()), abs=1e-5)
    assert last(trainer, "transform/bonus_max") == pytest.approx(float(bonus.max()), abs=1e-5)
    anchors = ref_logprobs[result.anchor_index[result.augmented]]
    assert last(trainer, "transform/anchor_ref_logprob") == pytest.approx(float(anchors.mean()), abs=1e-4)


@pytest.mark.parametrize("iterations", [1, 2])  # with 2, GRPO too makes a pass of the policy
def test_mara_on_outcomes(
    kind: str, iterations: int, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    trainer = build(
        OURS[kind], {"num_iterations": iterations}, transform=MARA(threshold=0.25, outcome_key=outcome)
    )
    batch = score(trainer, inputs)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    rewards, ref_logprobs = rewards_of(batch), sequence_logprobs(reference, batch)
    logprobs = sequence_logprobs(trainer.model, batch)
    ids = ids_of([outcome(text) for text in texts_of(tiny_model, batch)])
    of_outcomes = outcome_ref_logprobs(ref_logprobs, logprobs, ids, group_ids=group_ids())
    result = mara_rewards(
        rewards, of_outcomes, beta=0.1, threshold=0.25, group_ids=group_ids(), mask=ids >= 0
    )
    expected = by_hand(kind, result.rewards, logprobs - ref_logprobs)
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=2e-5, rtol=1e-5)


def test_ips(kind: str, build: Callable[..., Any], inputs: Inputs, tiny_model: Path) -> None:
    key: Callable[[str], str | None] = lambda text: text[:1] or None  # noqa: E731
    trainer = build(OURS[kind], {"beta": 0.0}, transform=IPS(outcome_key=key))
    batch = score(trainer, inputs)
    ids = ids_of([key(text) for text in texts_of(tiny_model, batch)])
    expected = ips_rewards(rewards_of(batch), ids, group_ids=group_ids()).rewards
    assert not torch.equal(expected, rewards_of(batch) * 4)  # some outcome came twice
    torch.testing.assert_close(
        batch["advantages"].double(), by_hand(kind, expected, torch.zeros(12)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("k", [None, 2])
def test_best_of_n_has_its_own_baseline(
    kind: str, k: int | None, build: Callable[..., Any], inputs: Inputs
) -> None:
    trainer = build(OURS[kind], {"beta": 0.0}, transform=BestOfN(k))
    batch = score(trainer, inputs)
    expected = (k or 4) * best_of_n_rewards(rewards_of(batch), k=k, group_ids=group_ids())
    assert float(expected.max()) > 0
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=1e-5, rtol=1e-5)
    assert list(trainer._logs["advantages"]) == pytest.approx(batch["advantages"].tolist(), abs=1e-6)


@pytest.mark.parametrize("lora", [False, True])
def test_unlikeliness_ranks_by_the_policy(
    kind: str, lora: bool, build: Callable[..., Any], inputs: Inputs
) -> None:
    peft = {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"])} if lora else {}
    trainer = build(OURS[kind], transform=Unlikeliness(0.5), **peft)
    batch = score(trainer, inputs)
    logprobs = sequence_logprobs(trainer.model, batch)
    expected = unlikeliness_rewards(
        rewards_of(batch),
        logprobs / batch["completion_mask"].sum(1),
        strength=0.5,
        group_ids=group_ids(),
    )
    if kind == "rloo":
        old = batch["old_logps"].double()
        reference = trainer.model.get_base_model() if lora else trainer.ref_model
        if lora:
            with trainer.model.disable_adapter():
                log_ratio = old - sequence_logprobs(trainer.model, batch)
        else:
            log_ratio = old - sequence_logprobs(reference, batch)
    else:
        log_ratio = torch.zeros(12)
    torch.testing.assert_close(
        batch["advantages"].double(), by_hand(kind, expected, log_ratio), atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    "settings", [{}, {"num_iterations": 2}, {"beta": 0.0}], ids=["", "two iterations", "no KL"]
)
def test_the_entropy_bonus_is_of_the_policy_over_the_whole_completion(
    kind: str, settings: dict[str, Any], build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    beta = settings.get("beta", 0.1)
    if kind == "grpo" and beta == 0:  # TRL computes log π_θ there for samples that serve twice
        settings = {**settings, "num_iterations": 2}
    trainer = build(OURS[kind], settings, transform=EntropyBonus(0.2))
    batch = score(trainer, inputs)
    logprobs = sequence_logprobs(trainer.model, batch)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    log_ratio = logprobs - sequence_logprobs(reference, batch)
    expected = by_hand(kind, rewards_of(batch) - 0.2 * logprobs, log_ratio, beta=beta)
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=2e-5, rtol=1e-5)
    assert last(trainer, "transform/sequence_entropy") == pytest.approx(-float(logprobs.mean()), abs=1e-4)
    assert last(trainer, "reward") == pytest.approx(float(rewards_of(batch).mean()), abs=1e-6)


def test_several_reward_functions_and_weights(
    kind: str, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    def length(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        return [len(ids) / 8 if index % 3 else None for index, ids in enumerate(completion_ids)]

    settings = {"reward_weights": [1.0, 0.5]}
    trainer = build(
        OURS[kind], settings, reward_funcs=[even_share, length], transform=MARA(threshold=BatchQuantile(0.3))
    )
    batch = score(trainer, inputs)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    ref_logprobs = sequence_logprobs(reference, batch)
    second = torch.tensor([x or 0.0 for x in length([m[m > 0] for m in batch["completion_mask"]])])
    rewards = (rewards_of(batch).float() + 0.5 * second).double()
    tau = BatchQuantile(0.3)(rewards)
    result = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=tau, group_ids=group_ids())
    expected = by_hand(kind, result.rewards, sequence_logprobs(trainer.model, batch) - ref_logprobs)
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=2e-5, rtol=1e-5)
    assert last(trainer, "reward") == pytest.approx(float(rewards.mean()), abs=1e-6)


@pytest.mark.parametrize("transform", [None, MARA(threshold=0.5), EntropyBonus(0.5)])
def test_training_ends_at_the_exact_optimum(
    transform: RewardTransform | None, kind: str, build: Callable[..., Any], tiny_model: Path
) -> None:
    """One token a completion: the optimum over the vocabulary is known, with the transform and without."""

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(ids[0] in (6, 7, 8, 9)) for ids in completion_ids]

    settings = {
        "max_completion_length": 1,
        "per_device_train_batch_size": 96,
        "num_generations": 96,
        "max_steps": 125,
        "learning_rate": 6e-3,
        "beta": 0.25,
        "logging_strategy": "no",
    }
    trainer = build(
        OURS[kind],
        settings,
        reward_funcs=reward,
        transform=transform,
        train_dataset=Dataset.from_dict({"prompt": ["a b"]}),
    )
    trainer.train()
    prompt = torch.tensor([AutoTokenizer.from_pretrained(tiny_model)("a b")["input_ids"]])
    with torch.no_grad():
        reference = AutoModelForCausalLM.from_pretrained(tiny_model)(prompt).logits[0, -1].log_softmax(-1)
        policy = trainer.model(prompt).logits[0, -1].softmax(-1)
    rewards = torch.zeros(len(policy))
    rewards[6:10] = 1
    wanted = {
        None: reverse_kl_target(reference, rewards, beta=0.25),
        MARA: mara_target(reference, rewards, beta=0.25, threshold=0.5),
        EntropyBonus: reverse_kl_target(reference, rewards, beta=0.25, entropy=0.5),
    }
    distance = {key: 0.5 * float((policy - target.exp()).abs().sum()) for key, target in wanted.items()}
    own = None if transform is None else type(transform)
    assert distance[own] < 0.1
    assert min(value for key, value in distance.items() if key is not own) > 0.2


# --- What is logged ---


@pytest.mark.parametrize("same", [False, True], ids=["rewards differ", "some groups alike"])
def test_logged_rewards_are_what_trl_logs_and_nothing_is_added_but_the_transform(
    kind: str, same: bool, build: Callable[..., Any], inputs: Inputs
) -> None:
    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        values = even_share(completion_ids)
        return [0.5] * 4 + values[4:] if same else values

    theirs = build(THEIRS[kind], reward_funcs=reward)
    ours = build(OURS[kind], reward_funcs=reward, transform=MARA(threshold=0.25))
    one, other = score(theirs, inputs, drift=0.0), score(ours, inputs, drift=0.0)
    assert torch.equal(one["completion_ids"], other["completion_ids"])
    assert not torch.allclose(one["advantages"], other["advantages"])
    expected, got = theirs._metrics["train"], ours._metrics["train"]
    if same:
        assert expected["frac_reward_zero_std"][-1] > 0
    own = {name for name in got if name.startswith("transform/")}
    if kind == "grpo":
        own.add("kl")  # TRL's is logged where it is computed, in the loss
        assert got["kl"] == [pytest.approx(0, abs=1e-6)]  # the policy has not moved
    assert own - {"kl"} == {
        f"transform/{name}"
        for name in (
            "augmented",
            "bonus_mean",
            "bonus_max",
            "gap_bonus_max",
            "anchor_ref_logprob",
            "groups_without_anchor",
            "groups_without_threshold",
            "threshold",
            "empty",
            "unscorable",
        )
    }
    assert {name: got[name] for name in got if name not in own} == dict(expected)
    assert ours._logs["rewards"] == theirs._logs["rewards"]


def test_logged_zero_spread_counts_the_kl_as_trl_does(build: Callable[..., Any], inputs: Inputs) -> None:
    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [0.5] * len(completion_ids)

    runs = [build(c, reward_funcs=reward, **a) for c, a in ((THEIRS["rloo"], {}), (RLOOTrainer, _MARA))]
    for trainer in runs:
        score(trainer, inputs)
    assert last(runs[0], "frac_reward_zero_std") == last(runs[1], "frac_reward_zero_std")


_MARA = {"transform": MARA(threshold=0.25)}


def answers_by_hand(texts: list[str], *, group: int = 4) -> dict[str, float]:
    """valid, distinct, entropy of the test's `outcome`, one group after the other."""
    groups = [[outcome(text) for text in texts[i : i + group]] for i in range(0, len(texts), group)]
    valid = [[answer for answer in found if answer] for found in groups]
    entropies = []
    for found in filter(None, valid):
        shares = [found.count(answer) / len(found) for answer in set(found)]
        entropies.append(-sum(share * math.log(share) for share in shares))
    return {
        "answers/valid": sum(map(len, valid)) / len(texts),
        "answers/distinct": sum(len(set(found)) for found in valid) / len(valid),
        "answers/entropy": sum(entropies) / len(entropies),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"outcome_key": outcome},
        {"outcome_key": outcome, "transform": MARA(threshold=0.25)},
        {"outcome_key": outcome, "transform": IPS(outcome_key=len)},
        {"transform": IPS(outcome_key=outcome)},
    ],
    ids=["no transform", "without a key", "with another key", "the transform's key"],
)
def test_answers_are_logged(
    arguments: dict[str, Any], kind: str, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    trainer = build(OURS[kind], **arguments)
    # The second group is a a ab and one without an answer; the third has no answer but one.
    rows = [[6 + row, 7, 1] for row in range(4)]
    rows += [[6, 6, 1], [6, 1], [7, 6, 1], [1], [1], [1], [8, 1], [1]]
    set_completions(trainer, rows)
    texts = texts_of(tiny_model, score(trainer, inputs))
    logged = {name: values for name, values in trainer._metrics["train"].items() if "answers/" in name}
    assert logged == {name: pytest.approx([value]) for name, value in answers_by_hand(texts).items()}
    assert logged["answers/valid"] == [pytest.approx(8 / 12)]
    assert logged["answers/distinct"] == [pytest.approx((4 + 2 + 1) / 3)]


def test_a_key_for_the_log_leaves_the_transform_s_own_in_place(
    kind: str, build: Callable[..., Any], inputs: Inputs
) -> None:
    transform = IPS(outcome_key=outcome)
    alone = score(build(OURS[kind], transform=transform), inputs)
    logging = score(build(OURS[kind], transform=transform, outcome_key=lambda text: text[:1]), inputs)
    assert torch.equal(alone["advantages"], logging["advantages"])


def test_where_no_answer_is_valid_the_entropy_is_left_out_of_the_log(
    kind: str, build: Callable[..., Any]
) -> None:
    trainer = build(OURS[kind], {"max_steps": 1}, outcome_key=lambda _: None)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert (logged["answers/valid"], logged["answers/distinct"]) == (0, 0)
    assert logged["answers/entropy"] is None  # as TRL writes any figure without a value


def test_evaluation_logs_answers_in_its_own_groups(kind: str, build: Callable[..., Any]) -> None:
    data = Dataset.from_dict({"prompt": PROMPTS * 2})
    trainer = build(
        OURS[kind], {"num_generations_eval": 2}, eval_dataset=data, outcome_key=outcome, transform=None
    )
    set_completions(trainer, [[6, 1], [6, 1], [6, 1], [7, 1], [8, 1], [1]] * 2)
    trainer.evaluate()
    logged = trainer.state.log_history[-1]
    assert logged["eval_answers/valid"] == pytest.approx(5 / 6)
    assert logged["eval_answers/distinct"] == pytest.approx((1 + 2 + 1) / 3)
    assert logged["eval_answers/entropy"] == pytest.approx(math.log(2) / 3)


@pytest.mark.parametrize(
    "arguments",
    [{"outcome_key": str.split}, {"transform": IPS(outcome_key=str.split)}],  # pyright: ignore
)
def test_a_key_that_returns_a_list_stops_the_run(
    arguments: dict[str, Any], kind: str, build: Callable[..., Any], inputs: Inputs
) -> None:
    with pytest.raises(InputError, match=r"must return something hashable, .* of type list"):
        score(build(OURS[kind], **arguments), inputs)


@pytest.mark.parametrize("settings", [{"num_generations_eval": 2}, {}])
def test_evaluation_logs_the_transform_too(
    kind: str, settings: dict[str, Any], build: Callable[..., Any]
) -> None:
    data = Dataset.from_dict({"prompt": PROMPTS * 2})
    trainer = build(OURS[kind], settings, eval_dataset=data, transform=MARA(threshold=0.25))
    logged = trainer.evaluate()
    assert 0 <= logged["eval_reward"] <= 1
    assert "eval_transform/augmented" in trainer.state.log_history[-1] | logged


def test_accumulated_and_repeated_steps(kind: str, build: Callable[..., Any]) -> None:
    """One generation of 24 rows serves two steps of two accumulated batches, twice."""
    settings = {
        "per_device_train_batch_size": 6,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,
        "num_iterations": 2,
        "max_steps": 5,
    }
    trainer = build(OURS[kind], settings, transform=MARA(threshold=BatchQuantile(0.4)))
    trainer.train()
    generated = ["transform/augmented" in entry for entry in trainer.state.log_history[:5]]
    assert generated == [True, False, False, False, True]


# --- PEFT ---


def test_lora_s_reference_is_the_base_model(
    kind: str, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    adapter = LoraConfig(target_modules=["q_proj", "v_proj"])
    trainer = build(OURS[kind], transform=MARA(threshold=0.25), peft_config=adapter)
    batch = score(trainer, inputs, drift=1.0)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    _check_mara(kind, trainer, batch, reference)


def test_a_trained_adapter_s_reference_is_its_copy(
    kind: str, build: Callable[..., Any], inputs: Inputs, tiny_model: Path, tmp_path: Path
) -> None:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(target_modules=["q_proj", "v_proj"])
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(2))
    model.save_pretrained(tmp_path / "adapter")
    reference = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "adapter"
    ).eval()
    processing = AutoTokenizer.from_pretrained(tiny_model)
    trainer = build(OURS[kind], model=model, transform=MARA(threshold=0.25), processing_class=processing)
    batch = score(trainer, inputs)
    _check_mara(kind, trainer, batch, reference)


def _check_mara(kind: str, trainer: Any, batch: dict[str, Any], reference: Any) -> None:
    rewards, ref_logprobs = rewards_of(batch), sequence_logprobs(reference, batch)
    log_ratio = sequence_logprobs(trainer.model, batch) - ref_logprobs
    assert float(log_ratio.abs().max()) > 0.1
    result = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.25, group_ids=group_ids())
    torch.testing.assert_close(
        batch["advantages"].double(), by_hand(kind, result.rewards, log_ratio), atol=2e-5, rtol=1e-5
    )


# --- Several processes, checkpoints ---


def test_two_processes_find_the_anchors_the_counts_the_memory_and_the_loss_of_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    """GRPO's trainer and RLOO's, one after the other in the same processes."""
    script = Path(__file__).parent / "two_processes.py"
    path = os.pathsep.join([str(script.parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    folders = tmp_path / "one", tmp_path / "two"
    for command, folder in zip(([sys.executable], launch), folders, strict=True):
        folder.mkdir()
        run = subprocess.run(
            [*command, str(script), str(tiny_model), str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
    for name in OURS:
        _check_both(name, *folders)


def _check_both(name: str, one_process: Path, two_processes: Path) -> None:
    found = []
    for folder in (one_process, two_processes):
        lines = (folder / name / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        assert (folder / name / "audit.json").exists()
        results = json.loads((folder / f"{name}.json").read_text())
        found.append((results, [json.loads(line) for line in lines]))
    (one, samples), (two, others) = found
    assert [row["step"] for row in samples] == [0] * 12 + [1] * 12 + [2] * 12
    assert "policy_logprob" in samples[0]
    for left, right in zip(samples, others, strict=True):
        for key in {"ref_logprob", "policy_logprob"} & set(left):
            assert left.pop(key) == pytest.approx(right.pop(key), abs=1e-4)
        assert left == right
    assert 0 < one["mara"]["log"][0]["transform/augmented"] < 1
    assert one["ips"]["log"][0]["transform/distinct_outcomes"] < 4
    assert 0 < one["mara"]["log"][0]["answers/valid"] < 1 < one["mara"]["log"][0]["answers/distinct"]
    assert one.keys() == two.keys() >= {"mara", "ips"}
    for method, results in one.items():
        _check_the_same(results, two[method])


def _check_the_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert torch.tensor(one["advantages"]).shape == (3, 12)
    torch.testing.assert_close(
        torch.tensor(one["advantages"]), torch.tensor(two["advantages"]), atol=2e-5, rtol=1e-4
    )
    for left, right in zip(one["log"], two["log"], strict=True):
        assert left == pytest.approx(right, abs=2e-5, rel=1e-4)
    torch.testing.assert_close(
        torch.tensor(one["parameters"]), torch.tensor(two["parameters"]), atol=1e-5, rtol=1e-4
    )
    assert two["states"] == one["states"] * 2  # of each process, and nothing for a method without one
    assert None not in one["states"]


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    kind: str, build: Callable[..., Any], tmp_path: Path
) -> None:
    settings = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps"}
    transform = MARA(threshold=BatchQuantile(0.4))
    whole = build(OURS[kind], {**settings, "output_dir": str(tmp_path / "whole")}, transform=transform)
    whole.train()
    rest = build(OURS[kind], {**settings, "output_dir": str(tmp_path / "rest")}, transform=transform)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    end = parameters(rest)
    assert all(torch.equal(value, end[name]) for name, value in parameters(whole).items())
    assert (
        rest.state.log_history[3]["transform/augmented"] == whole.state.log_history[3]["transform/augmented"]
    )


class _Successes:
    """Rewards: of the first batch one in each group, of later ones all."""

    __name__ = "successes"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, completions: list[Any], **_: Any) -> list[float]:
        self.calls += 1
        return [float(self.calls > 1 or row % 4 == 0) for row in range(len(completions))]


@pytest.mark.parametrize("threshold", [BatchQuantile(0.9), GroupQuantile(0.9)])
def test_a_quantile_is_remembered_when_every_sample_has_succeeded(
    threshold: Any, kind: str, build: Callable[..., Any], tmp_path: Path
) -> None:
    settings = {"max_steps": 4, "save_steps": 1, "save_strategy": "steps", "shuffle_dataset": False}
    data = Dataset.from_dict({"prompt": PROMPTS})  # each prompt in every step
    arguments = {"transform": MARA(threshold=threshold), "train_dataset": data, "eval_dataset": data}

    def run(name: str, reward: _Successes) -> Any:
        return build(
            OURS[kind], {**settings, "output_dir": str(tmp_path / name)}, reward_funcs=reward, **arguments
        )

    whole = run("whole", _Successes())
    whole.train()
    logged = [entry["transform/augmented"] for entry in whole.state.log_history[:4]]
    assert logged == [0.25, 1, 1, 1]
    # A new trainer knows nothing of it but from the checkpoint; the first call's batch is not its own.
    later = _Successes()
    later.calls = 1
    rest = run("rest", later)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert all(torch.equal(v, parameters(rest)[name]) for name, v in parameters(whole).items())


@pytest.mark.filterwarnings("ignore:MARA left this batch as it was")
def test_evaluation_teaches_a_threshold_nothing(kind: str, build: Callable[..., Any], inputs: Inputs) -> None:
    """One evaluation with both rewards, then a training batch of successes alone."""
    data = Dataset.from_dict({"prompt": PROMPTS})
    reward, mara = _Successes(), MARA(threshold=BatchQuantile(0.9))
    trainer = build(OURS[kind], reward_funcs=reward, transform=mara, eval_dataset=data)
    trainer.evaluate()
    assert trainer.state.log_history[-1]["eval_transform/augmented"] > 0
    score(trainer, inputs)
    assert last(trainer, "transform/groups_without_threshold") == 1


# --- Wrong configurations, before any model is loaded ---


@pytest.mark.parametrize(
    ("name", "settings", "arguments", "message"),
    [
        (
            "grpo",
            {"beta": 0.0},
            {},
            r"^MARA needs the reference model: `beta` must be above 0; got GRPOConfig",
        ),
        ("rloo", {"beta": 0.0}, {}, r"^MARA needs the reference model: .* got RLOOConfig\(beta=0.0\)$"),
        (
            "grpo",
            {"scale_rewards": "group"},
            {},
            r"`scale_rewards` must be 'none' for MARA, .*; got 'group'.*RLOOTrainer",
        ),
        ("grpo", {"scale_rewards": "batch"}, {}, r"`scale_rewards` must be 'none' for MARA, .*; got 'batch'"),
        (
            "grpo",
            {"multi_objective_aggregation": "normalize_then_sum"},
            {},
            r"`multi_objective_aggregation` must be 'sum_then_normalize'; got 'normalize_then_sum'",
        ),
        (
            "grpo",
            {"scale_rewards": "group"},
            {"transform": EntropyBonus(0.1)},
            r"`scale_rewards` must be 'none' for EntropyBonus, .*; got 'group'.*RLOOTrainer",
        ),
        (
            "rloo",
            {},
            {"transform": None, "outcome_key": "answer"},
            r"^`outcome_key` must be a function from a completion's text to its answer; got 'answer'$",
        ),
        ("rloo", {"reward_clip_range": (0.0, 1.0)}, {}, r"`reward_clip_range` would clip"),
        ("rloo", {}, {"kl": "forward"}, r"`kl` must be 'reverse' for RLOOTrainer"),
        ("grpo", {}, {"kl": "backward"}, r"`kl` must be one of"),
        ("grpo", {"beta": 0.0}, {"transform": None, "kl": "forward"}, r"no effect with beta=0"),
        (
            "grpo",
            {},
            {"transform": "mara"},
            r"`transform` must be a RewardTransform such as MARA; got 'mara'",
        ),
        ("grpo", {"scale_rewards": "group"}, {"transform": BestOfN()}, r"has its own baseline"),
        ("rloo", {"normalize_advantages": True}, {"transform": BestOfN()}, r"has its own baseline"),
        ("rloo", {}, {"transform": BestOfN(5)}, r"needs at least 5 .* RLOOConfig\(num_generations=4\)$"),
    ],
)
def test_a_configuration_that_breaks_the_transform_is_refused(
    name: str,
    settings: dict[str, Any],
    arguments: dict[str, Any],
    message: str,
    build: Callable[..., Any],
) -> None:
    with pytest.raises((ConfigError, InputError), match=message) as caught:
        build(
            OURS[name], settings, **{"model": "no/such-model", "transform": MARA(threshold=0.5), **arguments}
        )
    assert "\n" not in str(caught.value)


def test_scaling_is_allowed_where_it_breaks_nothing(build: Callable[..., Any], inputs: Inputs) -> None:
    key = IPS(outcome_key=outcome)
    score(build(GRPOTrainer, {"scale_rewards": "group", "beta": 0.0}, transform=key), inputs)
    transform = MARA(threshold=0.25)
    batch = score(build(RLOOTrainer, {"normalize_advantages": True}, transform=transform), inputs)
    assert float(batch["advantages"].std()) == pytest.approx(1, abs=0.01)
    score(build(RLOOTrainer, {"normalize_advantages": True}, transform=EntropyBonus(0.1)), inputs)


@pytest.mark.parametrize(
    ("kl", "corrected"),
    [("reverse", True), ("forward", False), ("token-reverse", True), ("token-forward", False), (None, True)],
)
def test_kl_switch(kl: Any, corrected: bool, build: Callable[..., Any]) -> None:
    assert build(GRPOTrainer, kl=kl, transform=Unlikeliness(0.5)).args.use_bias_correction_kl is corrected


# --- Bad rewards and completions ---


def _reward(value: Callable[[int], Any], *, rows: int = 12) -> Callable[..., list[Any]]:
    def reward(**_: Any) -> list[Any]:
        return [value(row) for row in range(rows)]

    return reward


def _raise(row: int) -> float:
    raise KeyError(f"no answer for {row}")


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (_reward(_raise), KeyError, "no answer for 0"),
        (_reward(float, rows=5), ValueError, "returned 5 rewards, but 12 were expected"),
        (_reward(lambda row: float("inf") if row == 3 else 1.0), InputError, "rewards must be finite"),
    ],
)
def test_a_broken_reward_function_stops_the_run(
    kind: str,
    reward: Callable[..., Any],
    error: type[Exception],
    message: str,
    build: Callable[..., Any],
    inputs: Inputs,
) -> None:
    trainer = build(OURS[kind], reward_funcs=reward, transform=MARA(threshold=0.5))
    with pytest.raises(error, match=message):
        score(trainer, inputs)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_unscorable_samples_are_counted_and_teach_nothing(
    kind: str, missing: Any, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    reward = _reward(lambda row: missing if row in (0, 5) else row / 12)
    trainer = build(OURS[kind], reward_funcs=reward, transform=MARA(threshold=0.1))
    batch = score(trainer, inputs)
    scored = torch.tensor([row not in (0, 5) for row in range(12)])
    assert batch["advantages"][~scored].tolist() == [0, 0]
    assert last(trainer, "transform/unscorable") == pytest.approx(2 / 12)
    assert last(trainer, "reward") == pytest.approx(sum(r for r in range(12) if r not in (0, 5)) / 120)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    ref_logprobs = sequence_logprobs(reference, batch)
    rewards = (torch.arange(12) / 12).double().masked_fill(~scored, torch.nan)
    new = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.1, group_ids=group_ids()).rewards
    new = new - 0.1 * (sequence_logprobs(trainer.model, batch) - ref_logprobs)
    for group in range(3):
        own = (group_ids() == group) & scored
        values, count = new[own], int(own.sum())
        baseline = values.mean() if kind == "grpo" else (values.sum() - values) / (count - 1)
        torch.testing.assert_close(batch["advantages"][own].double(), values - baseline, atol=2e-5, rtol=1e-5)


def test_a_batch_without_any_reward_moves_nothing(
    kind: str, build: Callable[..., Any], inputs: Inputs
) -> None:
    trainer = build(
        OURS[kind], reward_funcs=_reward(lambda _: None), transform=MARA(threshold=BatchQuantile(0.9))
    )
    batch = score(trainer, inputs)
    assert batch["advantages"].tolist() == [0] * 12
    assert last(trainer, "transform/unscorable") == 1
    assert last(trainer, "transform/groups_without_anchor") == 1


@pytest.mark.filterwarnings("ignore:MARA left this batch as it was")
@pytest.mark.parametrize(
    ("value", "threshold"), [(1.0, BatchQuantile(0.9)), (0.2, 0.5)], ids=["all equal", "none good"]
)
def test_nothing_good_is_counted_and_leaves_rewards_alone(
    kind: str,
    value: float,
    threshold: Any,
    build: Callable[..., Any],
    inputs: Inputs,
    tiny_model: Path,
) -> None:
    reward = _reward(lambda _: value)
    ours = build(OURS[kind], reward_funcs=reward, transform=MARA(threshold=threshold))
    batch = score(ours, inputs)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    log_ratio = sequence_logprobs(ours.model, batch) - sequence_logprobs(reference, batch)
    expected = by_hand(kind, torch.full((12,), value), log_ratio)  # nothing but the KL
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=2e-5, rtol=1e-5)
    assert last(ours, "transform/augmented") == 0
    assert last(ours, "transform/groups_without_anchor") == 1


def test_empty_completions_are_never_anchors(
    kind: str, build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    settings = {"mask_truncated_completions": True}
    trainer = build(OURS[kind], settings, reward_funcs=_reward(lambda _: 1.0), transform=MARA(threshold=0.5))
    # Row 0 of each group never ends: TRL masks it, and its log-probability over no tokens is 0.
    rows = [
        [6 + (row + i) % 10 for i in range(3 + row % 4)] + ([] if row % 4 == 0 else [1]) for row in range(12)
    ]
    set_completions(trainer, rows)
    batch = score(trainer, inputs)
    cut = torch.arange(12) % 4 == 0
    assert (batch["completion_mask"].sum(1) == 0).tolist() == cut.tolist()
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    ref_logprobs = sequence_logprobs(reference, batch)
    result = mara_rewards(
        torch.ones(12).double(), ref_logprobs, beta=0.1, threshold=0.5, group_ids=group_ids(), mask=~cut
    )
    expected = by_hand(kind, result.rewards, sequence_logprobs(trainer.model, batch) - ref_logprobs)
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=2e-5, rtol=1e-5)
    assert last(trainer, "transform/empty") == pytest.approx(0.25)
    assert last(trainer, "transform/augmented") == pytest.approx(0.75)
    assert last(trainer, "transform/anchor_ref_logprob") < -1


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func':UserWarning")
def test_tokens_of_tools_and_environments_do_not_count(
    build: Callable[..., Any], inputs: Inputs, tiny_model: Path
) -> None:
    rows = [[6 + (row + i) % 10 for i in range(3 + row % 4)] + [1] for row in range(12)]
    written = [[int(i != 1) for i in range(len(ids))] for ids in rows]

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        tokenizer = trainer.processing_class
        return {
            "prompt_ids": tokenizer(prompts)["input_ids"],
            "completion_ids": rows,
            "logprobs": None,
            "env_mask": written,
        }

    trainer = build(GRPOTrainer, transform=MARA(threshold=0.0), rollout_func=rollout)
    batch = score(trainer, inputs)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model).eval()

    def written_logprobs(model: Any) -> Tensor:
        totals = []
        for item, ids in zip(inputs, rows, strict=True):
            prompt = AutoTokenizer.from_pretrained(tiny_model)(item["prompt"])["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
            each = logits.log_softmax(-1).gather(1, torch.tensor(ids).unsqueeze(1)).squeeze(1)
            totals.append(each[[i for i in range(len(ids)) if i != 1]].sum())
        return torch.stack(totals)

    ref_logprobs = written_logprobs(reference)
    result = mara_rewards(
        torch.tensor(even_share(rows)).double(),
        ref_logprobs,
        beta=0.1,
        threshold=0.0,
        group_ids=group_ids(),
    )
    expected = by_hand("grpo", result.rewards, written_logprobs(trainer.model) - ref_logprobs)
    torch.testing.assert_close(batch["advantages"].double(), expected, atol=2e-5, rtol=1e-5)


class _Forgets(RewardTransform):
    """Loses a reward."""

    def __call__(self, batch: Any, *, beta: float) -> TransformResult:
        rewards = batch.rewards.clone()
        rewards[2] = torch.nan
        return TransformResult(rewards=rewards, metrics={})


def test_a_transform_that_loses_a_reward_is_stopped(build: Callable[..., Any], inputs: Inputs) -> None:
    trainer = build(GRPOTrainer, reward_funcs=_reward(lambda _: 1.0), transform=_Forgets())
    with pytest.raises(InputError, match=r"^_Forgets returned nan for a reward of 1.0$"):
        score(trainer, inputs)


def test_conversations(kind: str, build: Callable[..., Any]) -> None:
    seen: list[str] = []

    def key(text: str) -> str:
        seen.append(text)
        return text

    trainer = build(OURS[kind], transform=IPS(outcome_key=key))
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    set_completions(trainer, [[6 + row, 7, 1] for row in range(4)] * 3)
    score(trainer, [{"prompt": turn} for turn in turns for _ in range(4)])
    assert seen == ["ab", "bb", "cb", "db"] * 3


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("a b", "a b"),
        ([{"role": "assistant", "content": "a"}], "a"),
        ([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "t"}, {"content": "b"}], "b"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}], "a"),
        ([{"role": "assistant", "content": None}], ""),
        ([], ""),
    ],
)
def test_completion_text(completion: Any, text: str) -> None:
    assert completion_text(completion) == text


# --- The names of TRL's that this rests on ---


@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, trl.RLOOTrainer])
def test_trl_has_the_methods_that_are_overridden(trainer: type) -> None:
    def names(method: str) -> list[str]:
        return list(inspect.signature(getattr(trainer, method)).parameters)

    own = names("_get_per_token_logps_and_entropies")
    # Of TRL 1.14 the GRPO trainer's passes them on as `*args`.
    assert own[:3] == ["self", "model", "args"] or own[:5] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
    ]
    assert names("_generate_and_score_completions") == ["self", "inputs"]
    assert names("_calculate_rewards") == ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert names("_generate") == ["self", "prompts"]
    assert names("_generate_single_turn")[:2] == ["self", "prompt_ids"]
    assert "args" in names("__init__")


def _source(trainer: type, method: str) -> str:
    lines = inspect.getsource(getattr(trainer, method)).splitlines()
    return "\n".join(line.strip() for line in lines)


@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, trl.RLOOTrainer])
def test_trl_scores_in_the_order_that_is_relied_on(trainer: type) -> None:
    scored = _source(trainer, "_generate_and_score_completions")
    # Policy first, then reference, then rewards, which are weighted twice (advantages, log).
    assert scored.index("old_per_token_logps, _, _ =") < scored.index("ref_per_token_logps, _, _ =")
    assert scored.index("ref_per_token_logps, _, _ =") < scored.index("self._calculate_rewards(")
    assert scored.count("prompt_completion_ids,\nattention_mask,\nlogits_to_keep,\n") == 3
    assert scored.count("self.reward_weights.to(") >= 2
    assert "len(self.reward_func_names)" not in scored
    for metric in ("reward", "reward_std", "frac_reward_zero_std"):
        assert scored.count(f'self._metrics[mode]["{metric}"].append(') == 1
    assert 'mode = "train" if self.model.training else "eval"' in scored
    assert 'self._logs["advantages"].extend(all_process_advantages.tolist())' in scored
    assert 'adapter_name="ref" if "ref" in model.peft_config else None' in scored
    assert "gather(rewards_per_func)" in _source(trainer, "_calculate_rewards")
    # What has no value in any batch, such as an entropy of no answers, is not a NaN in the log.
    assert "if not math.isnan(" in _source(trainer, "log")


def test_trl_s_settings_that_are_checked() -> None:
    grpo, rloo = trl.GRPOConfig.__dataclass_fields__, trl.RLOOConfig.__dataclass_fields__
    both = {"beta", "num_generations", "num_generations_eval", "gradient_checkpointing_kwargs"}
    assert both | {"scale_rewards", "multi_objective_aggregation", "use_bias_correction_kl"} <= grpo.keys()
    assert both | {"reward_clip_range", "normalize_advantages"} <= rloo.keys()
    assert "return prompt_ids, completion_ids, tool_mask," in _source(trl.GRPOTrainer, "_generate")
    assert "self.args.use_bias_correction_kl" in _source(trl.GRPOTrainer, "_compute_loss")


def test_a_trainer_of_trl_s_has_the_attributes_that_are_read(kind: str, build: Callable[..., Any]) -> None:
    trainer = build(THEIRS[kind], {"beta": 0.1, "num_generations_eval": 2})
    assert (trainer.beta, trainer.num_generations, trainer.num_generations_eval) == (0.1, 4, 2)
    assert trainer.reward_weights.tolist() == [1]
    assert trainer.ref_model is not None
    assert trainer.accelerator.process_index == 0
    assert trainer._metrics.keys() == {"train", "eval"}
    assert hasattr(trainer._logs["advantages"], "extend")
    assert kind == "rloo" or trainer.scale_rewards == "none"


def test_trl_s_helpers_do_what_is_relied_on(tiny_model: Path) -> None:
    values = torch.tensor([[1.0, torch.nan, 3.0], [2.0, 2.0, 2.0]])
    assert nanstd(values, dim=1).tolist() == pytest.approx([2**0.5, 0])
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.gradient_checkpointing_enable()
    with disable_gradient_checkpointing(model, None):
        assert not model.is_gradient_checkpointing
    assert model.is_gradient_checkpointing
