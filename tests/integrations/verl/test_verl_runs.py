"""verl's own command from end to end on processors: Ray, its queue, FSDP2 on gloo, rollout, rewards, updates.

Advantages are held against numbers of our own, made by numpy of what the trainer had. `.ci/verl` runs this.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl")

import torch

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "verl"
BETA = 0.05

Record = dict[str, Any]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rough model of the 1-2 task, and its data."""
    folder = tmp_path_factory.mktemp("one-two")
    subprocess.run([sys.executable, str(EXAMPLE / "one_two_data.py"), str(folder), "60"], check=True)
    return folder


def command(task: Path, name: str, *options: str, ranks: int = 1) -> "subprocess.CompletedProcess[str]":
    """A run of verl's command, whose plugin is found by the entry point of the installed allmodes."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "tests" / "helpers"),
        "RANKS": str(ranks),
        "RECORD": str(task / f"{name}-records"),
    }
    return subprocess.run(
        [
            str(EXAMPLE / "one_two.sh"), str(task), name, "trainer.total_training_steps=2",
            "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=verl_record.Manager", *options,
        ],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def train(task: Path, name: str, *options: str, ranks: int = 1) -> list[Record]:
    """What the trainer held after the advantages of each of two steps."""
    run = command(task, name, "trainer.v1.trainer_mode=allmodes_sync", *options, ranks=ranks)
    assert run.returncode == 0, f"{run.stdout[-8000:]}\n{run.stderr[-8000:]}"
    folder = task / f"{name}-records"
    return [torch.load(folder / f"{step}.pt", weights_only=True) for step in (1, 2)]


def sums(record: Record, name: str) -> np.ndarray:
    """Of the tokens that the model wrote, of each row, in float64."""
    masks = record["response_mask"]
    return np.array(
        [float((row.double() * mask).sum()) for row, mask in zip(record[name], masks, strict=True)]
    )


def groups(record: Record) -> list[list[int]]:
    """Rows by prompt, without padding."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(record["keys"]):
        if not record["is_padding"][row]:
            found[key.rsplit("_", 2)[0]].append(row)
    return list(found.values())


def error(record: Record, wanted: np.ndarray) -> float:
    """Largest difference from the trainer's advantages, over all tokens."""
    rows = zip(record["advantages"], record["response_mask"], wanted, strict=True)
    return max(float((found.double() - value * mask).abs().max()) for found, mask, value in rows)


def check_step(record: Record, *, padding: int) -> None:
    """What holds whatever the method."""
    assert (record["mode"], record["trainer"]) == ("sync", "AllmodesPPOTrainerSync")
    assert record["buffer"] == "ReplayBuffer"
    assert sum(record["is_padding"]) == padding
    assert sorted(map(len, groups(record))) == [8] * 4
    # The engine has the weights of the trainer.
    real = [row for row in range(len(record["keys"])) if not record["is_padding"][row]]
    for row in real:
        gap = record["old_log_probs"][row] - record["rollout_log_probs"][row]
        assert float((gap * record["response_mask"][row]).abs().max()) < 1e-4
    answers = [[record["answers"][row] or None for row in group] for group in groups(record)]
    valid = [answer for group in answers for answer in group if answer is not None]
    assert record["metrics"]["answers/valid"] == pytest.approx(len(valid) / len(real))
    distinct = [len(set(group) - {None}) for group in answers]
    assert record["metrics"]["answers/distinct"] == pytest.approx(np.mean(distinct))


def logged(task: Path, name: str) -> list[dict[str, float]]:
    """verl's own log, by step."""
    lines = (task / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["data"] for line in lines]


def test_mara_with_rloo_on_two_ranks_with_padding(task: Path) -> None:
    """32 responses and mini-batches of 24 make 16 rows of padding, and verl puts rows in another order."""
    records = train(
        task, "mara", "+allmodes.method=mara", "+allmodes.mara.threshold=1.0",
        "+allmodes.outcome.field=answer", f"algorithm.kl_ctrl.kl_coef={BETA}",
        "actor_rollout_ref.actor.ppo_mini_batch_size=3",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4", ranks=2,
    )  # fmt: skip
    augmented = 0
    for record, line in zip(records, logged(task, "mara"), strict=True):
        check_step(record, padding=16)
        reward, ref, old = (sums(record, name) for name in ("rm_scores", "ref_log_prob", "old_log_probs"))
        wanted = np.zeros(len(reward))
        for group in groups(record):
            good = [row for row in group if reward[row] >= 1]
            new = reward.copy()
            if good:
                anchor = max(good, key=lambda row: ref[row])
                new[good] = reward[anchor] + BETA * (ref[anchor] - ref[good])
                augmented += sum(new[good] != reward[good])
            worth = (new - BETA * (old - ref))[group]
            wanted[group] = (worth - worth.mean()) * len(group) / (len(group) - 1)
        assert error(record, wanted) < 1e-5
        # What is logged as reward is raw: the score, less verl's own KL.
        real = [row for row in range(len(reward)) if not record["is_padding"][row]]
        raw = reward - BETA * (old - ref)
        assert line["critic/score/mean"] == pytest.approx(reward[real].mean(), abs=1e-6)
        assert line["critic/rewards/mean"] == pytest.approx(raw[real].mean(), abs=1e-6)
        assert line["transform/augmented"] == pytest.approx(reward[real].mean(), abs=1e-6)
    assert augmented > 0
    assert float(np.abs(sums(records[1], "old_log_probs") - sums(records[1], "ref_log_prob")).max()) > 1e-3


def test_our_own_method_with_grpo_and_a_kl_in_the_loss(task: Path) -> None:
    """Its memory goes from step to step, and into verl's checkpoints."""
    records = train(
        task, "omm", "+allmodes.method=outcome_matching", "+allmodes.outcome_matching.threshold=1.0",
        "+allmodes.outcome.field=answer", "algorithm.adv_estimator=grpo", "algorithm.use_kl_in_reward=False",
        "actor_rollout_ref.actor.use_kl_loss=True", "actor_rollout_ref.actor.kl_loss_type=k3+",
        "trainer.save_freq=1",
    )  # fmt: skip
    memory: dict[str, float] = {}
    paid = 0
    for step, record in enumerate(records, 1):
        check_step(record, padding=0)
        reward = sums(record, "rm_scores")
        real = [row for group in groups(record) for row in group]
        answer = {row: record["answers"][row] for row in real}
        good = [row for row in real if reward[row] >= 1]
        # All prompts are one text, so that all groups count together.
        counts = {name: sum(answer[row] == name for row in good) for name in ("1", "2")}
        known = {name for name in counts if counts[name] or name in memory}
        seen = {name: memory.get(name, 0.0) + counts[name] for name in known}
        share, whole = 1 / max(len(known), 1), sum(seen.values())
        mean = sum(
            (seen[n] + share) / (whole + 1) * np.log(share * (whole + 1) / (seen[n] + share)) for n in known
        )
        shift = max(0.0, -mean - 0.5)
        new = reward.copy()
        for row in good:
            rest = (seen[answer[row]] - 1 + share) / whole
            new[row] += np.clip(np.log(share / rest), -3, 3) + shift
            paid += new[row] != reward[row]
        wanted = np.zeros(len(reward))
        for group in groups(record):
            deviation = new[group].std(ddof=1)
            if deviation < 1e-3:  # all equal: verl divides rounding by 1e-6
                assert all(float(record["advantages"][row].abs().max()) < 0.5 for row in group)
                wanted[group] = [float(record["advantages"][row][0]) for row in group]
            else:
                wanted[group] = (new[group] - new[group].mean()) / (deviation + 1e-6)
        assert error(record, wanted) < 1e-4
        memory = {name: seen[name] * min(1.0, 4 * len(known) / whole) for name in known}
        saved = json.loads((task / f"omm-checkpoints/global_step_{step}/allmodes.json").read_text())
        assert saved["method"] == "outcome_matching"
        assert sorted(saved["state"]["counts"]["values"]) == pytest.approx(sorted(memory.values()), rel=1e-6)
    assert paid > 0
    assert [line["transform/empty"] for line in logged(task, "omm")] == [0, 0]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            ("trainer.v1.trainer_mode=allmodes_sync", "+allmodes.method=mara", "+allmodes.mara.threshold=1",
             "algorithm.use_kl_in_reward=False"),
            "MARA needs the reference model, which verl loads only for a KL: set "
            "`algorithm.use_kl_in_reward=True`",
        ),
        (("+allmodes.method=vanilla",), "`trainer.v1.trainer_mode` must be one of allmodes_sync, "),
    ],
)  # fmt: skip
def test_a_refused_configuration_starts_nothing(task: Path, options: tuple[str, ...], wanted: str) -> None:
    run = command(task, "refused", *options)
    assert run.returncode != 0
    assert wanted in run.stderr, run.stderr
    assert "allmodes.errors.ConfigError: " in run.stderr
    assert "Started a local Ray instance" not in run.stdout + run.stderr
