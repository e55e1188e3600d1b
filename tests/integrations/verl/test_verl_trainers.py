"""Our trainers in verl itself, without Ray: its own advantages, from a queue in memory.

What a whole step makes of a batch is held against numbers of our own. `.ci/verl` runs this.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl")


import torch
import transfer_queue
import verl.trainer.ppo.v1 as v1
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1 import trainer_base

import allmodes.integrations.verl  # noqa: F401  # the plugin
from allmodes.errors import AllmodesWarning, ConfigError, RunError
from allmodes.integrations.verl.trainers import answers_of_rewards, own_fields, register
from allmodes.methods import METHODS, make_method
from method_cases import required
from verl_cases import DEFAULTS, RLOO

pytestmark = pytest.mark.filterwarnings("default")  # verl and what it imports warn of much

Make = Callable[..., Any]
BETA = 0.05


@pytest.fixture(scope="module")
def verl_defaults() -> Any:
    """verl's own configuration."""
    with initialize_config_dir(str(Path(v1.__file__).parents[2] / "config"), version_base=None):
        return compose("ppo_trainer")


@pytest.fixture
def make_config(verl_defaults: Any) -> Make:
    """verl's configuration with options changed; those of allmodes are new to it."""

    def make(changes: dict[str, Any] | None = None, **allmodes: Any) -> Any:
        config = copy.deepcopy(verl_defaults)
        OmegaConf.set_struct(config, False)
        for name, value in {
            **RLOO,
            "actor_rollout_ref.rollout.n": 4,
            "algorithm.kl_ctrl.kl_coef": BETA,
            "transfer_queue.enable": True,
            "data.train_batch_size": 4,
            **(changes or {}),
        }.items():
            OmegaConf.update(config, name, value)
        if allmodes:
            config.allmodes = allmodes
        return config

    return make


@pytest.fixture
def make_trainer(make_config: Make) -> Make:
    def make(changes: dict[str, Any] | None = None, **allmodes: Any) -> Any:
        config = make_config(changes, **allmodes)
        return v1.get_trainer_cls(config.trainer.v1.trainer_mode)(config)

    return make


class Queue:
    """Rows as verl's TransferQueue holds them: nested tensors, and whatever else in a stack."""

    def __init__(self, rows: dict[str, dict[str, Any]]) -> None:
        self.rows = rows
        self.gets: list[list[str]] = []

    def get(self, keys: Sequence[str], partition_id: str, select_fields: Sequence[str]) -> TensorDict:
        """Fields that nobody has put are left out, as verl's does."""
        assert partition_id == "train"
        self.gets.append(list(select_fields))
        there = [name for name in select_fields if all(name in self.rows[key] for key in keys)]
        found: dict[str, Any] = {}
        for name in there:
            values = [self.rows[key][name] for key in keys]
            if isinstance(values[0], Tensor):
                found[name] = torch.nested.as_nested_tensor(values, layout=torch.jagged)
            else:
                found[name] = NonTensorStack(*values)
        return TensorDict(found, batch_size=len(keys))

    def put(self, keys: Sequence[str], partition_id: str, fields: TensorDict) -> KVBatchMeta:
        for name, values in fields.items():
            for key, value in zip(keys, values.unbind(), strict=True):
                self.rows[key][name] = value.clone()
        return KVBatchMeta(partition_id=partition_id, keys=list(keys), tags=[{}] * len(keys))


def rows_of(seed: int = 0) -> tuple[dict[str, dict[str, Any]], list[str], list[dict[str, Any]]]:
    """Two prompts with four responses each, one in three rows, and two rows of padding, in random order."""
    generator = torch.Generator().manual_seed(seed)
    keys = [f"{uid}_{session}_0" for uid in ("u_1", "v") for session in range(4)]
    keys += ["u_1_2_1", "u_1_2_2", "padff_0_0", "padff_1_0"]
    keys = [keys[i] for i in torch.randperm(len(keys), generator=generator).tolist()]
    words, rows, tags = ["one", "two", "", "one"], {}, []
    for key in keys:
        uid, session, index = key.rsplit("_", 2)
        is_padding = uid.startswith("pad")
        length = 1 if is_padding else int(torch.randint(2, 6, (1,), generator=generator))
        mask = torch.zeros(length) if is_padding else torch.ones(length)
        if index == "1":
            mask[0] = 0  # a tool's
        word, score = words[int(session)], [1.0, 1.0, 0.0, 0.5][int(session)]

        def logprobs(size: int = length) -> Tensor:
            return -torch.rand(size, generator=generator) - 0.1

        scores = torch.zeros(length)
        scores[-1] = 0 if is_padding else score
        rows[key] = {
            "uid": uid,
            "response_mask": mask,
            "rm_scores": scores,
            "rollout_log_probs": logprobs(),
            "old_log_probs": logprobs(),
            "ref_log_prob": logprobs(),
            "responses": torch.arange(length) + 10 * int(session),
            "extra_fields": {"reward_extra_info": {"answer": word, "score": score}},
            "raw_prompt": [{"role": "user", "content": uid}],
        }
        tags.append({"is_padding": True} if is_padding else {"status": "success"})
    return rows, keys, tags


def run(
    trainer: Any,
    monkeypatch: pytest.MonkeyPatch,
    queue: Queue,
    keys: list[str],
    tags: list[dict[str, Any]],
) -> dict[str, Any]:
    """verl's whole step from log-probabilities to advantages; its metrics."""
    monkeypatch.setattr(transfer_queue, "kv_batch_get", queue.get)
    monkeypatch.setattr(transfer_queue, "kv_batch_put", queue.put)
    metrics: dict[str, Any] = {}
    trainer._compute_advantage(KVBatchMeta(partition_id="train", keys=keys, tags=tags), metrics)
    return metrics


def total(row: dict[str, Any], name: str) -> float:
    return float((row[name].double() * row["response_mask"]).sum())


# --- A whole step, by hand ---


@pytest.mark.parametrize("estimator", ["rloo", "rloo_vectorized", "grpo"])
@pytest.mark.parametrize("seed", [0, 1])
def test_mara_s_advantages(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, estimator: str, seed: int
) -> None:
    """Padding, a session of three rows, random order; the KL of whole responses on each of its rows."""
    trainer = make_trainer(
        {"algorithm.adv_estimator": estimator, "algorithm.norm_adv_by_std_in_grpo": False},
        method="mara",
        mara={"threshold": 0.5},
        outcome={"field": "answer"},
    )
    rows, keys, tags = rows_of(seed)
    queue = Queue({key: dict(row) for key, row in rows.items()})
    metrics = run(trainer, monkeypatch, queue, keys, tags)
    for uid in ("u_1", "v"):
        own = {s: [k for k in keys if k.startswith(f"{uid}_{s}_")] for s in range(4)}
        ref = {s: sum(total(rows[k], "ref_log_prob") for k in own[s]) for s in own}
        old = {s: sum(total(rows[k], "old_log_probs") for k in own[s]) for s in own}
        reward = {0: 1.0, 1: 1.0, 2: 0.0, 3: 0.5}
        anchor = max((0, 1, 3), key=lambda s: ref[s])
        new = {s: reward[anchor] + BETA * (ref[anchor] - ref[s]) if s != 2 else reward[s] for s in own}
        worth = {s: new[s] - BETA * (old[s] - ref[s]) for s in own}
        each = [worth[s] for s in own for _ in (own[s] if estimator != "grpo" else own[s][:1])]
        n, mean = len(each), float(np.mean(each))
        for s, mine in own.items():
            wanted = (worth[s] - mean) * (n / (n - 1) if estimator != "grpo" else 1)
            for key in mine:
                row = queue.rows[key]
                expected = wanted * rows[key]["response_mask"]
                torch.testing.assert_close(row["advantages"], expected.float(), atol=2e-6, rtol=0)
                # What is logged stays raw: the score less verl's own KL.
                kl = (rows[key]["old_log_probs"] - rows[key]["ref_log_prob"]) * rows[key]["response_mask"]
                torch.testing.assert_close(row["token_level_rewards"], rows[key]["rm_scores"] - BETA * kl)
                assert torch.equal(row["rm_scores"], rows[key]["rm_scores"])
    for key in keys:
        if key.startswith("pad"):
            assert not queue.rows[key]["advantages"].any()
    assert metrics["actor/reward_kl_penalty_coeff"] == BETA
    assert metrics["transform/augmented"] == 6 / 8
    assert metrics["answers/valid"] == 6 / 8
    assert metrics["answers/distinct"] == 2


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("estimator", ["rloo", "grpo", "opo"])
def test_every_method_trains_and_leaves_the_raw_rewards(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, name: str, estimator: str
) -> None:
    given = required(METHODS[name])
    method = make_method(name, {name: given})
    trainer = make_trainer(
        {"algorithm.adv_estimator": estimator, "algorithm.norm_adv_by_std_in_grpo": False},
        **{"method": name, "outcome": {"field": "answer"}, name: given},
    )
    rows, keys, tags = rows_of()
    queue = Queue({key: dict(row) for key, row in rows.items()})
    run(trainer, monkeypatch, queue, keys, tags)
    stock = Queue({key: dict(row) for key, row in rows.items()})
    plain = make_trainer(
        {
            "algorithm.adv_estimator": estimator,
            "algorithm.norm_adv_by_std_in_grpo": False,
            "trainer.v1.trainer_mode": "sync",
        }
    )
    assert type(plain) is v1.PPOTrainerSync
    run(plain, monkeypatch, stock, keys, tags)
    for key in keys:
        mine, verls = queue.rows[key], stock.rows[key]
        assert torch.equal(mine["token_level_rewards"], verls["token_level_rewards"])
        assert torch.equal(mine["rm_scores"], verls["rm_scores"])
        if key.startswith("pad"):  # of which verl's "opo" makes NaN, with and without us
            torch.testing.assert_close(mine["advantages"], verls["advantages"], equal_nan=True)
            continue
        assert torch.equal(mine["returns"], mine["advantages"])
        assert bool(mine["advantages"].isfinite().all())
    real = [key for key in keys if not key.startswith("pad")]
    same = all(torch.equal(queue.rows[k]["advantages"], stock.rows[k]["advantages"]) for k in real)
    assert same == (name == "vanilla")
    assert (trainer._state is not None) == method.has_state


def _advantage(queue: Queue, key: str) -> float:
    """Of the first token that the model wrote."""
    row = queue.rows[key]
    return float(row["advantages"][row["response_mask"].bool()][0])


def test_advantages_of_best_of_n_are_added_to_verl_s_of_the_kl(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, keys, tags = rows_of()
    rows = {key: row for key, row in rows.items() if key in [f"v_{s}_0" for s in range(4)]}
    keys, tags = list(rows), [{}] * 4
    queue = Queue({key: dict(row) for key, row in rows.items()})
    trainer = make_trainer(method="best_of_n", best_of_n={"k": 2})
    run(trainer, monkeypatch, queue, keys, tags)
    kl = {key: total(row, "old_log_probs") - total(row, "ref_log_prob") for key, row in rows.items()}
    reward = {key: float(row["rm_scores"].sum()) for key, row in rows.items()}
    for key in keys:
        others = [other for other in keys if other != key]
        gain = 2 * np.mean([max(reward[key], reward[o]) - reward[o] for o in others])
        held = -BETA * (kl[key] - np.mean([kl[o] for o in others]))
        assert _advantage(queue, key) == pytest.approx(gain + held, abs=2e-6)


def test_alpha_dpg_holds_its_kl_itself(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever β verl has: its KL is taken out of what the estimator sees, and stays in what is logged."""
    found = []
    for beta in (0.05, 5.0):
        rows, keys, tags = rows_of()
        queue = Queue(rows)
        trainer = make_trainer(
            {"algorithm.kl_ctrl.kl_coef": beta}, method="alpha_dpg", alpha_dpg={"threshold": 0.5}
        )
        metrics = run(trainer, monkeypatch, queue, keys, tags)
        assert metrics["actor/reward_kl_penalty_coeff"] == beta
        found.append(torch.cat([queue.rows[key]["advantages"] for key in sorted(keys)]))
    assert torch.equal(*found)
    assert found[0].any()


# --- The traps of verl, one by one ---


@pytest.mark.parametrize(
    ("mode", "buffer"), [("sync", "ReplayBuffer"), ("colocate_async", "ReplayBufferAsync")]
)
def test_verl_sees_its_own_name_of_the_mode(make_trainer: Make, mode: str, buffer: str) -> None:
    """It compares the mode with "sync" in six places: another buffer and other checkpoints hang on that."""
    trainer = make_trainer({"trainer.v1.trainer_mode": f"allmodes_{mode}"}, method="vanilla")
    assert trainer.config.trainer.v1.trainer_mode == trainer.trainer_mode == mode
    assert type(trainer.replay_buffer).__name__ == buffer
    stock = make_trainer({"trainer.v1.trainer_mode": mode})
    assert type(stock.replay_buffer) is type(trainer.replay_buffer)


def test_raw_scores_are_no_reward_s_alias(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a KL in the reward verl's token-level rewards are its scores."""
    rows, keys, tags = rows_of()
    queue = Queue({key: dict(row) for key, row in rows.items()})
    changes = {"algorithm.use_kl_in_reward": False}
    trainer = make_trainer(changes, method="ips", outcome={"field": "answer"})
    seen: dict[str, Tensor] = {}
    stock = trainer_base.compute_advantage_for_multi_trajectories

    def spy(data: Any, **kwargs: Any) -> Any:
        seen["scores"], seen["rewards"] = (
            data.batch[f"token_level_{name}"].clone() for name in ("scores", "rewards")
        )
        result = stock(data, **kwargs)
        seen["result"] = result.batch
        return result

    monkeypatch.setattr(trainer_base, "compute_advantage_for_multi_trajectories", spy)
    run(trainer, monkeypatch, queue, keys, tags)
    assert not torch.equal(seen["scores"], seen["rewards"])
    assert torch.equal(seen["result"]["token_level_scores"], seen["scores"])
    assert torch.equal(seen["result"]["token_level_rewards"], seen["scores"])
    assert trainer_base.compute_advantage_for_multi_trajectories is spy  # put back


def test_the_policy_that_drew_the_samples_is_the_engine_s(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entropy bonus of η is −η log π: that of `rollout_log_probs`, else of `old_log_probs`."""
    settings = {"method": "entropy", "entropy": {"entropy": 0.5}}
    changes = {"algorithm.use_kl_in_reward": False}
    for name in ("rollout_log_probs", "old_log_probs"):
        rows, _, _ = rows_of()
        keys = [f"v_{s}_0" for s in range(4)]
        own = {key: dict(rows[key]) for key in keys}
        if name == "old_log_probs":
            for row in own.values():
                del row["rollout_log_probs"]
        queue = Queue({key: dict(row) for key, row in own.items()})
        run(make_trainer(changes, **settings), monkeypatch, queue, keys, [{}] * 4)
        worth = {k: float(own[k]["rm_scores"].sum()) - 0.5 * total(own[k], name) for k in keys}
        for key in keys:
            rest = np.mean([worth[o] for o in keys if o != key])
            assert _advantage(queue, key) == pytest.approx(worth[key] - rest, abs=2e-6)


def test_samples_that_verl_rejects_are_not_empty(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rollout correction sets masks to 0 before advantages; the method sees the mask from before."""
    changes = {
        "algorithm.rollout_correction": {
            "rollout_is": None,
            "rollout_is_threshold": 2.0,
            "rollout_rs": "seq_mean_k1",
            "rollout_rs_threshold": 1.02,
            "bypass_mode": False,
        },
    }
    rows, keys, tags = rows_of()
    queue = Queue({key: dict(row) for key, row in rows.items()})
    trainer = make_trainer(changes, method="mara", mara={"threshold": 0.5})
    metrics = run(trainer, monkeypatch, queue, keys, tags)
    rejected = [
        key for key in keys if rows[key]["response_mask"].any() and not queue.rows[key]["response_mask"].any()
    ]
    assert rejected, "no sample was rejected: the test shows nothing"
    assert metrics["transform/empty"] == 0
    assert metrics["transform/augmented"] == 6 / 8
    assert not any(queue.rows[key]["advantages"].any() for key in rejected)


def test_an_adaptive_beta_is_that_of_the_batch(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, keys, tags = rows_of()
    queue = Queue({key: dict(row) for key, row in rows.items()})
    trainer = make_trainer(method="mara", mara={"threshold": 0.5})
    trainer.kl_ctrl_in_reward = core_algos.AdaptiveKLController(BETA, target_kl=1e-4, horizon=20)
    metrics = run(trainer, monkeypatch, queue, keys, tags)
    assert trainer.kl_ctrl_in_reward.value != BETA  # that of the next batch
    # The bonus of the first batch is β times the largest gap of log π_ref.
    own = {
        s: sum(total(rows[k], "ref_log_prob") for k in keys if k.startswith(f"u_1_{s}_")) for s in range(4)
    }
    other = {s: total(rows[f"v_{s}_0"], "ref_log_prob") for s in range(4)}
    gaps = [max(ref[s] for s in (0, 1, 3)) - min(ref[s] for s in (0, 1, 3)) for ref in (own, other)]
    assert metrics["transform/gap_bonus_max"] == pytest.approx(BETA * max(gaps), rel=1e-6)


@pytest.mark.parametrize("kind", ["list", "array", "stack"])
def test_fields_that_are_no_tensors_come_as_whatever_sequence(
    monkeypatch: pytest.MonkeyPatch, make_trainer: Make, kind: str
) -> None:
    class LinkedList(list[Any]):
        """As tensordict's: without `tolist`."""

    extra = [{"reward_extra_info": {"answer": word}} for word in ("one", "two")]
    prompts = [[{"role": "user", "content": "a"}]] * 2

    def as_kind(values: list[Any]) -> Any:
        if kind == "list":
            return LinkedList(values)
        if kind == "stack":
            return NonTensorStack(*values)
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array

    data = {
        "response_mask": torch.nested.as_nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.jagged),
        "extra_fields": as_kind(extra),
        "raw_prompt": as_kind(prompts),
    }
    monkeypatch.setattr(transfer_queue, "kv_batch_get", lambda **_: data)
    settings = {"outcome_matching": {"threshold": 1.0}, "outcome": {"field": "answer"}}
    plan = make_trainer(method="outcome_matching", **settings).plan
    fields = own_fields(KVBatchMeta(partition_id="train", keys=["a", "b"], tags=[{}, {}]), plan)
    assert fields["mask"].tolist() == [[1, 1], [1, 0]]
    assert answers_of_rewards(fields["extra"], "answer", [True, True]) == ["one", "two"]
    assert fields["prompts"] == prompts


# --- Answers ---


def test_answers_of_the_text_are_of_what_the_model_wrote(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tokens of tools, with a mask of 0, are not in the text, nor is padding."""
    (tmp_path / "key.py").write_text(
        "from pathlib import Path\nseen = Path(__file__).with_name('seen')\n"
        "def key(text):\n    seen.write_text((seen.read_text() if seen.exists() else '') + text + '\\n')\n"
        "    return text.split()[0] if text else None\n",
        encoding="utf-8",
    )
    trainer = make_trainer(method="ips", outcome={"function": f"{tmp_path / 'key.py'}:key"})

    class Tokenizer:
        def decode(self, ids: Tensor, *, skip_special_tokens: bool) -> str:
            assert skip_special_tokens
            return " ".join(map(str, ids.tolist()))

    trainer.tokenizer = Tokenizer()
    rows, keys, tags = rows_of()
    run(trainer, monkeypatch, Queue(rows), keys, tags)
    seen = (tmp_path / "seen").read_text(encoding="utf-8").splitlines()
    masked = next(key for key in keys if key == "u_1_2_1")
    written = rows[masked]["responses"][rows[masked]["response_mask"].bool()]
    assert " ".join(map(str, written.tolist())) in seen
    assert len(written) == len(rows[masked]["responses"]) - 1


@pytest.mark.parametrize(
    ("extra", "got"),
    [
        ({"reward_extra_info": {"score": 1.0, "acc": 1.0}}, "acc, score"),
        ({"reward_extra_info": {}}, "only a number"),
        ({}, "only a number"),
        (None, "only a number"),
    ],
)
def test_a_field_that_is_not_there_is_one_line(extra: Any, got: str) -> None:
    wanted = rf"^`allmodes.outcome.field=answer` must be a key of [^\n]*; got {got}$"
    with pytest.raises(ConfigError, match=wanted):
        answers_of_rewards([extra], "answer", [True])
    assert answers_of_rewards([extra], "answer", [False]) == [None]  # padding


def test_none_and_an_empty_text_are_no_answer() -> None:
    values = ["a", "", None, 0, 1.5, ("a", 1)]
    extra = [{"reward_extra_info": {"answer": value}} for value in values]
    found = answers_of_rewards(extra, "answer", [True] * len(values))
    assert found == ["a", None, None, 0, 1.5, ("a", 1)]


# --- What a method remembers ---


def _checkpointing(trainer: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, step: int) -> list[bool]:
    """verl's own checkpoints without workers; whether our file was there when verl wrote its last one."""
    order: list[bool] = []
    trainer.config.trainer.default_local_dir = str(folder)
    trainer.global_steps = step

    def save(self: Any) -> None:
        order.append((folder / f"global_step_{step}" / "allmodes.json").is_file())
        (folder / "latest_checkpointed_iteration.txt").write_text(str(step))

    def load(self: Any) -> None:
        self.global_steps = 0 if self.config.trainer.resume_mode == "disable" else step

    monkeypatch.setattr(v1.PPOTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(v1.PPOTrainer, "_load_checkpoint", load)
    return order


OMM = {
    "method": "outcome_matching",
    "outcome_matching": {"threshold": 0.5},
    "outcome": {"field": "answer"},
}


@pytest.mark.parametrize("resume_mode", ["auto", "resume_path"])
def test_a_resumed_run_is_the_uninterrupted_one(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resume_mode: str
) -> None:
    def step(trainer: Any, seed: int) -> list[Tensor]:
        rows, keys, tags = rows_of(seed)
        run(trainer, monkeypatch, Queue(rows), keys, tags)
        return [rows[key]["advantages"] for key in sorted(keys)]

    whole = make_trainer(**OMM)
    step(whole, 0)
    order = _checkpointing(whole, monkeypatch, tmp_path, 7)
    whole._save_checkpoint()
    assert order == [True]
    wanted = step(whole, 1)

    changes = {
        "trainer.resume_mode": resume_mode,
        "trainer.resume_from_path": str(tmp_path / "global_step_7"),
    }
    rest = make_trainer(changes, **OMM)
    _checkpointing(rest, monkeypatch, tmp_path, 7)
    rest._load_checkpoint()
    assert all(map(torch.equal, step(rest, 1), wanted))
    fresh = make_trainer({"trainer.resume_mode": "disable"}, **OMM)
    _checkpointing(fresh, monkeypatch, tmp_path, 7)
    fresh._load_checkpoint()
    assert not all(map(torch.equal, step(fresh, 1), wanted))


def test_a_checkpoint_without_a_memory_is_warned_of(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = make_trainer(**OMM)
    _checkpointing(trainer, monkeypatch, tmp_path, 3)
    with pytest.warns(AllmodesWarning, match=r"allmodes.json is not there: [^\n]*$"):
        trainer._load_checkpoint()
    assert trainer._state is None
    (tmp_path / "global_step_3").mkdir()
    other = {"method": "mara", "state": {"last": 1.0}}
    (tmp_path / "global_step_3" / "allmodes.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"has the state of 'mara', not of 'outcome_matching'"):
        trainer._load_checkpoint()
    assert trainer._state is None


def test_a_method_without_a_memory_writes_no_file(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = make_trainer(method="vanilla")
    assert _checkpointing(trainer, monkeypatch, tmp_path, 1) == []
    trainer._save_checkpoint()
    trainer._load_checkpoint()
    assert [file.name for file in tmp_path.iterdir()] == ["latest_checkpointed_iteration.txt"]


# --- What verl must be ---


def test_the_options_that_we_look_at_are_verl_s(verl_defaults: Any) -> None:
    """Their names, and their defaults, which `verl_cases` tells the tests without verl."""
    for name, value in DEFAULTS.items():
        if name == "algorithm.filter_groups":
            assert OmegaConf.select(verl_defaults, f"{name}.enable", default=False) is False
            continue
        assert OmegaConf.select(verl_defaults, name, throw_on_missing=True) == value, name


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "separate_async"])
def test_verl_s_trainers_have_ours_beside_them(mode: str) -> None:
    stock, ours = v1.get_trainer_cls(mode), v1.get_trainer_cls(f"allmodes_{mode}")
    assert issubclass(ours, stock)
    assert ours.__module__ == "allmodes.integrations.verl.trainers"
    assert not stock.__name__.startswith("Allmodes")


def test_an_advantage_that_is_not_computed_is_noticed(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(method="vanilla")
    monkeypatch.setattr(v1.PPOTrainer, "_compute_advantage", lambda self, batch, metrics: batch)
    rows, keys, tags = rows_of()
    with pytest.raises(RunError, match=r"^verl did not call `compute_advantage_for_multi_trajectories`"):
        run(trainer, monkeypatch, Queue(rows), keys, tags)


@pytest.mark.parametrize("name", ["register_trainer", "trainer_base"])
def test_another_verl_is_warned_of_and_stays_as_it_is(name: str) -> None:
    class Other:
        get_trainer_cls = staticmethod(v1.get_trainer_cls)
        register_trainer = staticmethod(lambda _: pytest.fail("registered"))
        trainer_base = v1.trainer_base

    delattr(Other, name)
    with pytest.warns(AllmodesWarning, match=r"^allmodes needs verl>=0.9,<0.10"):
        register(Other)


def test_verl_s_kl_in_the_reward_is_the_log_ratio() -> None:
    logprobs, reference = -torch.rand(3, 4), -torch.rand(3, 4)
    for name in ("kl", "k1", "kl+", "k1+"):
        torch.testing.assert_close(
            core_algos.kl_penalty(logprobs, reference, name), logprobs - reference, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("name", ["rloo", "rloo_vectorized", "opo", "grpo", "grpo_vectorized"])
def test_verl_s_estimators_do_what_we_take_them_to_do(name: str) -> None:
    """A baseline, by our own numbers; and division by a deviation where the settings say so."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(6, 3, generator=generator)
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0]])
    index = np.array(["a", "a", "b", "b", "a", "b"], dtype=object)
    function = core_algos.get_adv_estimator_fn(name)
    # As verl's `compute_advantage` calls all but "grpo": without the option of the deviation.
    own = {"norm_adv_by_std_in_grpo": False} if name == "grpo" else {"config": None}
    found, _ = function(token_level_rewards=rewards.clone(), response_mask=mask, index=index, **own)
    sums, lengths = rewards.sum(1).double(), mask.sum(1).double()
    for group in ("a", "b"):
        at = [i for i in range(6) if index[i] == group]
        for i in at:
            mean = float(np.mean([sums[j] for j in at]))
            wanted = float(sums[i]) - mean
            if name.startswith("rloo"):
                wanted *= len(at) / (len(at) - 1)
            if name == "opo":
                wanted = float(sums[i] - (sums[at] * lengths[at]).sum() / lengths[at].sum())
            if name == "grpo_vectorized":
                wanted /= float(np.std([sums[j] for j in at], ddof=1)) + 1e-6
            torch.testing.assert_close(found[i], (wanted * mask[i]).float(), atol=1e-5, rtol=1e-5)


PLUGIN = (
    "import sys, verl; "
    "print(sorted({'verl.trainer.ppo.v1', 'allmodes.integrations.verl.trainers'} & set(sys.modules)))"
)
TRAINERS = (
    "; from verl.trainer.ppo.v1 import get_trainer_cls; print(get_trainer_cls('allmodes_sync').__name__)"
)


def test_the_plugin_waits_for_verl_s_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "allmodes.integrations.verl")
    run = subprocess.run(
        [sys.executable, "-c", PLUGIN + TRAINERS], capture_output=True, text=True, check=False
    )
    assert run.stdout.split("\n")[:2] == ["[]", "AllmodesPPOTrainerSync"], run.stderr


def test_without_the_plugin_verl_does_not_know_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run goes on without the method."""
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.delenv("VERL_USE_EXTERNAL_MODULES", raising=False)
    run = subprocess.run(
        [sys.executable, "-c", PLUGIN + TRAINERS], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1].startswith("ValueError: Unknown trainer 'allmodes_sync'.")
