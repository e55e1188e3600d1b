"""The log for an audit: what is in it against what was computed apart, and that it changes nothing."""

import inspect
import json
import logging
import math
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

trl = pytest.importorskip("trl")
# ruff: noqa: E402

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from allmodes.audit.config import AuditConfig
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.integrations import IPS, MARA, BestOfN, EntropyBonus, Unlikeliness
from allmodes.integrations.answers import answer_name
from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.integrations.trl_audit import AuditLog
from allmodes.integrations.trl_audit_settings import audit_settings
from allmodes.objectives import BatchQuantile, Constant, GroupQuantile
from allmodes.text.likelihood import ids_logprobs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

TRAINERS = {
    "GRPO of TRL's": trl.GRPOTrainer,
    "RLOO of TRL's": trl.RLOOTrainer,
    "GRPO of ours": GRPOTrainer,
    "RLOO of ours": RLOOTrainer,
}
PROMPTS = ["a b", "c d e", "f"]
Rows = list[dict[str, Any]]


class Reward:
    """The share of even tokens in tenths; it keeps what it is asked, and the weights of the policy then."""

    __name__ = "reward"

    def __init__(self) -> None:
        self.trainer: Any = None
        self.ids: list[list[list[int]]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def __call__(self, completion_ids: list[list[int]], **_: Any) -> list[float]:
        self.ids.append(completion_ids)
        weights = self.trainer.model.state_dict()
        self.weights.append({name: value.clone() for name, value in weights.items()})
        return [round(10 * sum(token % 2 == 0 for token in ids) / len(ids)) / 10 for ids in completion_ids]


@pytest.fixture
def build(tiny_model: Path, make_config: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """(trainer class, settings, log's arguments, **trainer's) → trainer with a log in tmp_path / "audit"."""

    def make(trainer: type, settings: dict[str, Any] | None = None, log: Any = (), **arguments: Any) -> Any:
        reward = Reward()
        defaults: dict[str, Any] = {
            "model": str(tiny_model),
            "reward_funcs": reward,
            "args": make_config(trainer, **{"max_steps": 1, **(settings or {})}),
            "train_dataset": Dataset.from_dict({"prompt": PROMPTS * 4}),
        }
        made = trainer(**{**defaults, **arguments})
        reward.trainer = made
        if log is not None:
            made.add_callback(AuditLog(made, tmp_path / "audit", **dict(log)))
        return made

    return make


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], Rows]:
    """() → the rows of the log."""

    def read() -> Rows:
        lines = (tmp_path / "audit" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return read


def ours(trainer: type) -> dict[str, Any]:
    """A transform for trainers that take one."""
    return {"transform": MARA(threshold=0.25)} if trainer in (GRPOTrainer, RLOOTrainer) else {}


def set_completions(trainer: Any, make: Callable[[int], list[list[int]]]) -> None:
    """Let the trainer find the completions that `make` gives for its step instead of samples."""
    is_grpo = isinstance(trainer, trl.GRPOTrainer)

    def turn(*_: Any, **__: Any) -> Any:
        found = make(trainer.state.global_step)
        return (found, None) if is_grpo else found

    trainer._generate_single_turn = turn


def logprobs(model: Any, folder: Path, rows: Rows, ids: list[list[int]]) -> list[float]:
    """log p of completions by a forward pass without padding, one row at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
    with torch.no_grad():
        pairs = zip(prompts, ids, strict=True)
        return [float(ids_logprobs(model, prompt, [own], batch_size=1)) for prompt, own in pairs]


# --- What is in a row ---


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_rows_are_the_samples_with_their_log_probabilities(
    trainer: type, build: Callable[..., Any], rows: Callable[[], Rows], tiny_model: Path
) -> None:
    made = build(trainer, {"max_steps": 3, "learning_rate": 3e-2}, **ours(trainer))
    made.train()
    found, reward = rows(), made.reward_funcs[0]
    ids = [own for batch in reward.ids for own in batch]
    assert [row["step"] for row in found] == [0] * 12 + [1] * 12 + [2] * 12
    assert [row["prompt"] for row in found[::4]] == [row["prompt"] for row in found[3::4]]
    assert sorted({row["prompt"] for row in found[:12]}) == PROMPTS
    texts = AutoTokenizer.from_pretrained(tiny_model).batch_decode(ids, skip_special_tokens=True)
    assert [row["response"] for row in found] == texts
    assert [row["num_tokens"] for row in found] == [len(own) for own in ids]
    assert [row["truncated"] for row in found] == [own[-1] not in (0, 1) for own in ids]
    shares = [sum(token % 2 == 0 for token in own) / len(own) for own in ids]
    assert [row["reward"] for row in found] == [round(10 * share) / 10 for share in shares]  # not float32's
    reference = AutoModelForCausalLM.from_pretrained(tiny_model)
    expected = logprobs(reference, tiny_model, found, ids)
    assert [row["ref_logprob"] for row in found] == pytest.approx(expected, abs=1e-4)
    has_policy = trainer is not trl.GRPOTrainer  # which makes no pass of the policy
    assert all(("policy_logprob" in row) == has_policy for row in found)
    if has_policy:
        assert [row["policy_logprob"] for row in found[:12]] == pytest.approx(expected[:12], abs=1e-4)
        policy = AutoModelForCausalLM.from_pretrained(tiny_model)
        policy.load_state_dict(reward.weights[2])
        own = logprobs(policy, tiny_model, found[24:], ids[24:])
        assert max(abs(a - b) for a, b in zip(own, expected[24:], strict=True)) > 0.1
        assert [row["policy_logprob"] for row in found[24:]] == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_the_log_changes_nothing(
    trainer: type, build: Callable[..., Any], tmp_path: Path, rows: Callable[[], Rows]
) -> None:
    def train(log: Any) -> tuple[dict[str, Any], Rows]:
        made = build(trainer, {"max_steps": 2}, log, **ours(trainer))
        made.train()
        return made.model.state_dict(), made.state.log_history

    weights, history = train(None)
    logged_weights, logged_history = train({"outcome_key": str, "warn_every": 1})
    assert len(rows()) == 24
    assert all(torch.equal(value, logged_weights[name]) for name, value in weights.items())
    for one, other in zip(history[:2], logged_history[:2], strict=True):
        assert one.keys() == other.keys()
        assert all(one[key] == other[key] for key in one if "time" not in key)


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_rewards_are_weighted_sums_and_null_where_no_function_gives_one(
    trainer: type, build: Callable[..., Any], rows: Callable[[], Rows]
) -> None:
    def first(prompts: list[str], **_: Any) -> list[float | None]:
        return [None if i in (0, 1) else 0.3 * i for i in range(len(prompts))]

    def second(prompts: list[str], **_: Any) -> list[float | None]:
        return [None if i in (1, 2) else 1.0 for i in range(len(prompts))]

    build(trainer, {"reward_weights": [2.0, -0.5]}, reward_funcs=[first, second], **ours(trainer)).train()
    expected = [-0.5, None, 1.2] + [0.6 * i - 0.5 for i in range(3, 12)]
    assert [row["reward"] for row in rows()] == pytest.approx(expected, abs=1e-6)


def test_what_a_reward_function_gives_that_is_not_finite_is_null(
    build: Callable[..., Any], rows: Callable[[], Rows]
) -> None:
    def reward(prompts: list[str], **_: Any) -> list[float]:
        return [math.inf, math.nan] + [0.5] * (len(prompts) - 2)

    build(trl.RLOOTrainer, reward_funcs=reward).train()
    assert [row["reward"] for row in rows()] == [None, None] + [0.5] * 10


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_without_a_kl_there_is_no_reference(
    trainer: type, build: Callable[..., Any], rows: Callable[[], Rows], tiny_model: Path, tmp_path: Path
) -> None:
    made = build(trainer, {"beta": 0.0})
    made.train()
    found, ids = rows(), made.reward_funcs[0].ids[0]
    assert not any("ref_logprob" in row for row in found)
    assert [row["num_tokens"] for row in found] == [len(own) for own in ids]
    is_rloo = issubclass(trainer, trl.RLOOTrainer)
    assert all(("policy_logprob" in row) == is_rloo for row in found)
    if is_rloo:
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        expected = logprobs(base, tiny_model, found, ids)
        assert [row["policy_logprob"] for row in found] == pytest.approx(expected, abs=1e-4)
    settings = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert settings["beta"] == 0
    assert "kl" not in settings


def test_grpo_s_own_pass_of_the_policy_is_logged_where_it_makes_one(
    build: Callable[..., Any], rows: Callable[[], Rows]
) -> None:
    build(trl.GRPOTrainer, {"num_iterations": 2, "max_steps": 4}).train()
    found = rows()
    assert [row["step"] for row in found] == [0] * 12 + [2] * 12  # each generation serves two updates
    gaps = [abs(row["policy_logprob"] - row["ref_logprob"]) for row in found]
    assert max(gaps[:12]) < 1e-4
    assert max(gaps[12:]) > 1e-3


@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, RLOOTrainer])
def test_the_reference_of_an_adapter_is_the_model_without_it(
    trainer: type, build: Callable[..., Any], rows: Callable[[], Rows], tiny_model: Path
) -> None:
    adapter = LoraConfig(target_modules=["q_proj", "v_proj"])
    made = build(trainer, {"max_steps": 3, "learning_rate": 0.1}, peft_config=adapter)
    made.train()
    found, reward = rows(), made.reward_funcs[0]
    reference = AutoModelForCausalLM.from_pretrained(tiny_model)
    expected = logprobs(reference, tiny_model, found[24:], reward.ids[2])
    assert [row["ref_logprob"] for row in found[24:]] == pytest.approx(expected, abs=1e-4)
    moved = [value for name, value in reward.weights[2].items() if "lora_B" in name]
    assert min(float(value.abs().max()) for value in moved) > 0
    if trainer is RLOOTrainer:
        gaps = [abs(row["policy_logprob"] - row["ref_logprob"]) for row in found[24:]]
        assert max(gaps) > 0.01


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_a_completion_without_an_end_is_truncated(
    trainer: type, is_masked: bool, build: Callable[..., Any], rows: Callable[[], Rows]
) -> None:
    made = build(trainer, {"mask_truncated_completions": is_masked}, **ours(trainer))
    set_completions(made, lambda _: [[6, 7] + ([] if row % 4 == 0 else [1]) for row in range(12)])
    made.train()
    cut, whole = rows()[::4], [row for row in rows() if not row["truncated"]]
    assert len(whole) == 9
    assert {row["num_tokens"] for row in whole} == {3}
    assert all(row["ref_logprob"] < 0 for row in whole)
    # What is masked has no token, and no log-probability: 0 would be that of a sure response.
    assert {row["num_tokens"] for row in cut} == {0 if is_masked else 2}
    assert all((row["ref_logprob"] is None) == is_masked for row in cut)


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func':UserWarning")
@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, GRPOTrainer])
def test_tokens_of_tools_do_not_count(
    trainer: type, build: Callable[..., Any], rows: Callable[[], Rows], tiny_model: Path
) -> None:
    ids = [[6 + row % 10, 7, 8, 1] for row in range(12)]

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        prompt_ids = trainer.processing_class(prompts)["input_ids"]
        masks = [[1, 0, 1, 1]] * 12
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": None, "env_mask": masks}

    build(trainer, rollout_func=rollout).train()
    found = rows()
    assert {row["num_tokens"] for row in found} == {3}
    reference = AutoModelForCausalLM.from_pretrained(tiny_model)
    whole = logprobs(reference, tiny_model, found, ids)
    # log p of the second token given the first, which is not the model's to answer for.
    until = [logprobs(reference, tiny_model, found, [own[:end] for own in ids]) for end in (1, 2)]
    expected = [w - (two - one) for w, one, two in zip(whole, *until, strict=True)]
    assert [row["ref_logprob"] for row in found] == pytest.approx(expected, abs=1e-4)


def first_letter(text: str) -> str | None:
    return text[:1] or None


@pytest.mark.parametrize(
    ("arguments", "log"),
    [
        ({"transform": IPS(outcome_key=first_letter)}, {}),
        ({"transform": IPS(outcome_key=first_letter), "outcome_key": len}, {}),
        ({"transform": MARA(threshold=0.5, outcome_key=len)}, {"outcome_key": first_letter}),
        ({"transform": MARA(threshold=0.5), "outcome_key": first_letter}, {}),
        ({}, {"outcome_key": first_letter}),
    ],
    ids=["the transform's", "not the trainer's", "its own first", "else the trainer's", "its own"],
)
def test_outcomes(
    arguments: dict[str, Any], log: dict[str, Any], build: Callable[..., Any], rows: Callable[[], Rows]
) -> None:
    made = build(RLOOTrainer, None, log, **arguments)
    set_completions(made, lambda _: [[6 + row, 1] if row % 3 else [1] for row in range(10)] + [[6, 1]] * 2)
    made.train()
    assert [row["outcome"] for row in rows()] == [
        None,
        "b",
        "c",
        None,
        "e",
        "f",
        None,
        "h",
        "i",
        None,
        "a",
        "a",
    ]


def test_without_a_key_there_is_no_outcome(build: Callable[..., Any], rows: Callable[[], Rows]) -> None:
    build(RLOOTrainer, **ours(RLOOTrainer)).train()
    assert not any("outcome" in row for row in rows())


def test_conversations_stay_what_they_are(build: Callable[..., Any], rows: Callable[[], Rows]) -> None:
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    made = build(trl.GRPOTrainer, train_dataset=Dataset.from_dict({"prompt": turns * 4}))
    set_completions(made, lambda _: [[6, 7, 1]] * 12)
    made.train()
    assert {row["response"] for row in rows()} == {"ab"}
    assert [row["prompt"] for row in rows()[::4]] == [row["prompt"] for row in rows()[3::4]]
    assert all(row["prompt"] in turns for row in rows())


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_evaluation_is_not_training(
    trainer: type, build: Callable[..., Any], rows: Callable[[], Rows]
) -> None:
    data = Dataset.from_dict({"prompt": PROMPTS * 4})
    settings = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}
    made = build(trainer, settings, eval_dataset=data, **ours(trainer))
    made.train()
    assert len(made.reward_funcs[0].ids) > 2
    assert [row["step"] for row in rows()] == [0] * 12 + [1] * 12


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (None, None),
        ("a", "a"),
        (3, "3"),
        ((1, "x", None), "(1, x, None)"),
        (frozenset({"b", "a", "c"}), "{a, b, c}"),
    ],
)
def test_an_answer_has_one_name_in_every_process(answer: Any, name: str | None) -> None:
    assert answer_name(answer) == name


@pytest.mark.parametrize(
    ("logp", "written"), [(1e-8, 0.0), (math.nan, None), (-math.inf, None)], ids=["sure", "nan", "impossible"]
)
def test_log_probabilities_are_finite_and_not_positive(
    logp: float, written: float | None, build: Callable[..., Any], rows: Callable[[], Rows], tmp_path: Path
) -> None:
    made = build(trl.GRPOTrainer, None, None)
    run = made._get_per_token_logps_and_entropies
    made._get_per_token_logps_and_entropies = lambda model, *args, **kwargs: (
        (torch.full_like(found[0], logp), *found[1:])
        if (found := run(model, *args, **kwargs)) and model is made.ref_model
        else found
    )
    made.add_callback(AuditLog(made, tmp_path / "audit"))
    made.train()
    assert [row["ref_logprob"] for row in rows()] == [written] * 12


# --- Settings ---


def _expected(kind: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = {"trainer": "trl", "beta": 0.1, "group_size": 4, "max_tokens": 8, "transform": "none"}
    own |= {"scale_rewards": "none", "kl": "k1-in-reward" if kind == "rloo" else "k3-in-loss-corrected"}
    if settings.get("beta") == 0:
        del own["kl"]
        own["beta"] = 0.0
    return own | more


@pytest.mark.parametrize(
    ("kind", "settings", "arguments", "more"),
    [
        *(
            (kind, {"beta": beta, **scaled}, {}, {"scale_rewards": scaling})
            for beta in (0.0, 0.1)
            for kind, scaled, scaling in (
                ("grpo", {"scale_rewards": True}, "group"),
                ("grpo", {"scale_rewards": "batch"}, "batch"),
                ("grpo", {"scale_rewards": False}, "none"),
                ("grpo", {"multi_objective_aggregation": "normalize_then_sum"}, "batch"),
                ("rloo", {"normalize_advantages": True}, "batch"),
                ("rloo", {}, "none"),
            )
        ),
        ("grpo", {"use_bias_correction_kl": False}, {}, {"kl": "k3-in-loss"}),
        ("grpo", {}, {"kl": "forward"}, {"kl": "k3-in-loss"}),
        *(
            (kind, {}, {"transform": transform}, more)
            for kind, (transform, more) in product(
                ("grpo", "rloo"),
                [
                    (MARA(threshold=1), {"transform": "mara", "threshold": 1.0}),
                    (MARA(threshold=Constant(0.5)), {"transform": "mara", "threshold": 0.5}),
                    (MARA(threshold=GroupQuantile(0.7)), {"transform": "mara", "threshold_quantile": 0.7}),
                    (MARA(threshold=BatchQuantile(0.9)), {"transform": "mara", "threshold_quantile": 0.9}),
                    (MARA(threshold=math.inf), {"transform": "mara"}),
                    (MARA(threshold=lambda rewards, group_ids=None: rewards), {"transform": "mara"}),
                    (IPS(outcome_key=str), {"transform": "ips"}),
                    (BestOfN(), {"transform": "best_of_n"}),
                    (EntropyBonus(0.1), {"transform": "entropy", "entropy": 0.1}),
                    (Unlikeliness(0.25), {"transform": "unlikeliness"}),
                ],
            )
        ),
    ],
)
def test_settings_are_those_of_an_audit(
    kind: str,
    settings: dict[str, Any],
    arguments: dict[str, Any],
    more: dict[str, Any],
    build: Callable[..., Any],
) -> None:
    classes = {"grpo": (trl.GRPOTrainer, GRPOTrainer), "rloo": (trl.RLOOTrainer, RLOOTrainer)}[kind]
    for trainer in classes[bool(arguments) :]:
        found = audit_settings(build(trainer, settings, None, **arguments))
        if isinstance(arguments.get("transform"), MARA | EntropyBonus):
            more = {"kl": "k1-in-reward", **more}  # GRPO of ours has it there for these
        assert found == _expected(kind, settings, **more)
        AuditConfig.model_validate(json.loads(json.dumps(found)))


# --- Going on, and other people's folders ---


@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, RLOOTrainer])
def test_a_run_that_goes_on_has_the_log_of_one_that_was_never_cut(
    trainer: type, build: Callable[..., Any], tmp_path: Path
) -> None:
    settings = {
        "max_steps": 4,
        "save_steps": 2,
        "save_strategy": "steps",
        "output_dir": str(tmp_path / "run"),
    }
    build(trainer, settings, **ours(trainer)).train()
    log = tmp_path / "audit" / "samples.jsonl"
    whole = log.read_bytes()
    rest = build(trainer, settings, **ours(trainer))
    log.write_bytes(whole[:-60])  # as a kill leaves it
    rest.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert log.read_bytes() == whole
    assert sorted(path.name for path in log.parent.iterdir()) == ["audit.json", "samples.jsonl"]


def test_a_new_run_does_not_touch_another_s_log_but_where_it_may(
    build: Callable[..., Any], tmp_path: Path, rows: Callable[[], Rows]
) -> None:
    folder = tmp_path / "audit"
    build(trl.GRPOTrainer).train()
    before = (folder / "samples.jsonl").read_bytes()
    (folder / "audit.json").unlink()
    with pytest.raises(RunError, match=r"samples.jsonl holds the log of another run: .* begins at step 0$"):
        build(trl.GRPOTrainer).train()
    assert (folder / "samples.jsonl").read_bytes() == before
    assert not (folder / "audit.json").exists()
    build(trl.GRPOTrainer, {"beta": 0.0}, {"overwrite": True}).train()
    assert len(rows()) == 12
    assert "ref_logprob" not in rows()[0]


def test_a_log_that_cannot_be_written_stops_training(build: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "samples.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"^cannot write .*samples.jsonl: No space left on device$"):
        build(trl.RLOOTrainer).train()
    shutil.rmtree(tmp_path / "audit")
    (tmp_path / "audit").write_text("a file")
    with pytest.raises(RunError, match=r"^cannot write .*audit.json: "):
        build(trl.RLOOTrainer).train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warn_every": 0}, r"^`warn_every` must be at least 1 step; got 0$"),
        ({"outcome_key": "answer"}, r"^`outcome_key` must be a function .*; got 'answer'$"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, build: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        build(trl.RLOOTrainer, None, arguments)


def test_a_trainer_that_passes_the_log_by_is_stopped(build: Callable[..., Any], tmp_path: Path) -> None:
    made = build(trl.RLOOTrainer, None, None)
    made._generate_and_score_completions = lambda inputs: {"inputs": inputs}
    AuditLog(made, tmp_path / "audit")
    made.model.train()
    with pytest.raises(RunError, match=r"^TRL .* did not call `_calculate_rewards`: no sample was logged$"):
        made._generate_and_score_completions([])


def test_other_trainers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^`trainer` must be a GRPOTrainer or an RLOOTrainer; got int$"):
        AuditLog(1, "audit")


# --- Warnings ---


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_a_collapse_is_warned_of_once(
    trainer: type, build: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = build(trainer, {"max_steps": 6, "logging_strategy": "no"}, {"warn_every": 2}, **ours(trainer))
    set_completions(made, lambda step: [[6 + row * (step < 2), 1] for row in range(4)] * 3)
    with caplog.at_level(logging.WARNING, logger="allmodes.audit"):
        made.train()
    said = [record.getMessage() for record in caplog.records if record.name == "allmodes.audit"]
    codes = [message.split()[0] for message in said]
    assert len(set(codes)) == len(codes)
    entropy = said[codes.index("AM050")]
    assert entropy.startswith("AM050 Entropy of outcomes over training: ")
    assert "and is 0 in steps" in entropy  # the summary
    assert "raise `beta`" in entropy  # the remedy, in TRL's words
    assert not any("\n" in message for message in said)


def test_the_first_samples_predict_and_later_ones_say_how_far_it_has_come(
    build: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"max_steps": 4, "logging_strategy": "no", "beta": 0.0}
    made = build(trl.GRPOTrainer, settings, {"warn_every": 4, "outcome_key": lambda text: text})
    set_completions(made, lambda step: [[6 + row * (step < 2), 1] for row in range(4)] * 3)
    with caplog.at_level(logging.INFO, logger="allmodes.audit"):
        made.train()
    said = [record for record in caplog.records if record.name == "allmodes.audit"]
    assert said[0].getMessage().startswith("step 0: Will this objective collapse? ")
    assert not any(record.getMessage().startswith("step 0: ") for record in said[1:])
    with_kl = build(trl.RLOOTrainer, {**settings, "beta": 0.1}, {"warn_every": 4, "overwrite": True})
    set_completions(with_kl, lambda step: [[6 + row * (step < 2), 1] for row in range(4)] * 3)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="allmodes.audit"):
        with_kl.train()
    later = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step 4: ")]
    assert len(later) == 1
    assert " at the reference, " in later[0]
    assert "Total variation distance to the optimum " in later[0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("nothing to see"), []),
        (RuntimeError("a fault\nof ours"), ["the audit failed: RuntimeError: a fault of ours"]),
    ],
)
def test_an_audit_that_fails_does_not_stop_training(
    error: Exception,
    said: list[str],
    build: Callable[..., Any],
    rows: Callable[[], Rows],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("allmodes.integrations.trl_audit.audit_source", fail)
    made = build(trl.RLOOTrainer, {"max_steps": 2}, {"warn_every": 1})
    with caplog.at_level(logging.WARNING, logger="allmodes.audit"):
        made.train()
    assert [record.getMessage() for record in caplog.records if record.name == "allmodes.audit"] == said
    assert len(rows()) == 24


def test_a_log_without_a_reward_is_audited_too(build: Callable[..., Any], rows: Callable[[], Rows]) -> None:
    unscorable = {"reward_funcs": lambda prompts, **_: [None] * len(prompts)}
    build(trl.RLOOTrainer, {"max_steps": 2}, {"warn_every": 1}, **unscorable).train()
    assert [row["reward"] for row in rows()] == [None] * 24


# --- The names of TRL's that this rests on ---


def _source(trainer: type, method: str) -> str:
    return inspect.getsource(getattr(trainer, method))


@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, trl.RLOOTrainer])
def test_trl_calls_what_is_stood_between(trainer: type) -> None:
    scored = _source(trainer, "_generate_and_score_completions")
    assert scored.count("self._calculate_rewards(inputs, prompts, completions, completion_ids_list)") == 1
    assert scored.count("self._generate(prompts)") == 1
    assert "self._generate_and_score_completions(" in _source(trainer, "_prepare_inputs")
    generated = _source(trainer, "_generate")
    assert "ids[-1] not in eos_and_pad for ids in completion_ids" in generated
    assert "self.eos_token_ids" in generated or "[self._tokenizer.eos_token_id, " in generated


def test_trl_s_trainers_have_the_attributes_that_are_read(build: Callable[..., Any]) -> None:
    for trainer in (trl.GRPOTrainer, trl.RLOOTrainer):
        made = build(trainer, None, None)
        assert (len(made.reward_funcs), made.max_completion_length) == (1, 8)
        assert made._tokenizer.pad_token_id == 0
        assert made.accelerator.is_main_process
        assert isinstance(made.model.training, bool)
    assert "normalize_advantages" not in trl.GRPOConfig.__dataclass_fields__
