"""The design loop with a tiny random prior: its rules, and what must not change."""

import json
import math
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from allmodes.audit.config import AuditConfig
from allmodes.chem.arms import parse_arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.design import new_design, resume_design
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.policies.policy import load_policy, pad_tokens, save_policy
from allmodes.errors import ConfigError, RunError
from allmodes.runs.checkpoint import load_checkpoint
from molecule_settings import training_config

ORACLE = {
    "components": [{"kind": "tpsa", "shaping": {"kind": "sigmoid", "low": 0.0, "high": 80.0, "k": 0.5}}]
}


def settings(prior: Path, **changes: Any) -> MoleculesConfig:
    values = {
        "algorithm": "reinvent",
        "budget": 120,
        "learning_rate": 1e-2,
        "checkpoint_every": 3,
        "oracle": ORACLE,
        "scaffold_filter": {"min_reward": 0.5, "bucket_size": 2},
        **changes,
    }
    return training_config(prior, **values)


def design(out: Path, config: MoleculesConfig) -> Path:
    new_design(config, out)
    return out


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_mara_with_a_threshold_above_every_reward_is_reinvent_bit_for_bit(
    tiny_prior: Path, tmp_path: Path
) -> None:
    config = settings(tiny_prior, algorithm=["reinvent", "mara"])
    unreachable = config.methods.mara.model_copy(update={"threshold": 1.5})  # no recipe may say so
    methods = config.methods.model_copy(update={"mara": unreachable})
    config = config.model_copy(update={"methods": methods})
    out = design(tmp_path / "run", config)
    reinvent, mara = metrics(out / "reinvent-0"), metrics(out / "mara-0")
    own = mara[0].keys() - reinvent[0].keys()  # MARA's own figures
    assert all(row["augmented"] == 0 for row in mara)
    assert reinvent == [{key: row[key] for key in row if key not in own} for row in mara]
    rows = [read_ledger(out / f"{name}-0/ledger.sqlite") for name in ("reinvent", "mara")]
    assert rows[0] == rows[1]
    agents = [load_checkpoint(out / f"{name}-0/agent.safetensors")[0] for name in ("reinvent", "mara")]
    assert all(torch.equal(agents[0][name], agents[1][name]) for name in agents[0])


def test_mara_with_a_threshold_in_reach_changes_the_run(tiny_prior: Path, tmp_path: Path) -> None:
    config = settings(tiny_prior, algorithm=["reinvent", "mara"], mara={"threshold": 0.3})
    out = design(tmp_path / "run", config)
    first = metrics(out / "mara-0")[0]
    assert first["augmented"] > 0
    assert first["bonus_mean"] != 0
    # Both see the same first batch; from the second on the agents differ.
    reinvent = metrics(out / "reinvent-0")
    assert reinvent[0]["agent_nll"] == first["agent_nll"]
    assert reinvent[1]["agent_nll"] != metrics(out / "mara-0")[1]["agent_nll"]


@pytest.mark.parametrize("algorithm", ["reinvent", "mara"])
@pytest.mark.parametrize("anchor", ["group", "leave_one_out"])
def test_budget_is_never_passed_and_each_molecule_is_scored_once(
    algorithm: str, anchor: str, tiny_prior: Path, tmp_path: Path
) -> None:
    calls = tmp_path / "calls.txt"
    counting_oracle(tmp_path, calls)
    config = settings(
        tiny_prior,
        algorithm=algorithm,
        budget=101,  # no multiple of the batch size
        mara={"threshold": {"batch_quantile": 0.5}, "anchor": anchor},
        oracle={"components": [{"kind": "process", "command": ["python3", str(tmp_path / "count.py")]}]},
    )
    out = design(tmp_path / "run", config)
    rows = read_ledger(out / f"{algorithm}-0/ledger.sqlite")
    probe, *asked = calls.read_text().split()
    assert probe == "CCO"  # asked once before the run, outside of every budget
    assert [row.call for row in rows] == list(range(1, 102))
    assert asked == [row.evaluation.smiles for row in rows]
    assert len(set(asked)) == 101
    assert all(canonical_smiles(smiles) == smiles for smiles in asked)


def counting_oracle(folder: Path, calls: Path) -> None:
    (folder / "count.py").write_text(
        "import sys\n"
        "for line in sys.stdin:\n"
        f"    open({str(calls)!r}, 'a').write(line)\n"
        "    print(min(1.0, line.count('O') / 4), flush=True)\n"
    )


def test_the_agent_learns(tiny_prior: Path, tmp_path: Path) -> None:
    out = design(tmp_path / "run", settings(tiny_prior, budget=400, sigma=20.0))
    rewards = [row["mean_reward"] for row in metrics(out / "reinvent-0")]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1


def test_failures_are_in_the_ledger_and_out_of_the_update(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(
        "import sys, json\n"
        "for line in sys.stdin:\n"
        "    bad = line.count('S') > 1\n"
        "    print(json.dumps({'error': 'two sulfurs'} if bad else 0.5), flush=True)\n"
    )
    component = {"kind": "process", "name": "mine", "command": ["python3", str(tmp_path / "fails.py")]}
    out = design(tmp_path / "run", settings(tiny_prior, oracle={"components": [component]}))
    rows = read_ledger(out / "reinvent-0/ledger.sqlite")
    failed = [row for row in rows if row.evaluation.failure is not None]
    assert 0 < len(failed) < len(rows)
    for row in rows:
        assert (row.evaluation.smiles.upper().count("S") > 1) == (row.evaluation.reward is None)
    assert {row.evaluation.failure for row in failed} == {"mine: raised: two sulfurs"}
    assert all(row.penalised_reward is None for row in failed)
    result = json.loads((out / "reinvent-0/result.json").read_text())
    assert result["failures"] == {"mine: raised": len(failed)}
    assert sum(row["failures"] for row in metrics(out / "reinvent-0")) == len(failed)


def test_failed_zero_is_a_choice_that_changes_training(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(
        "import sys\nfor line in sys.stdin:\n    print('0.9' if 'O' in line else 'null', flush=True)\n"
    )
    component = {"kind": "process", "command": ["python3", str(tmp_path / "half.py")]}
    losses = {}
    for failed in ("exclude", "zero"):
        oracle = {"components": [component], "failed": failed}
        out = design(tmp_path / failed, settings(tiny_prior, oracle=oracle, budget=40))
        losses[failed] = metrics(out / "reinvent-0")[0]["loss"]
        rows = read_ledger(out / "reinvent-0/ledger.sqlite")
        assert any(row.evaluation.reward is None for row in rows)  # the ledger never says 0
    assert losses["exclude"] != losses["zero"]


def test_an_oracle_that_fails_for_all_stops_the_run_and_says_why(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import sys\nfor line in sys.stdin:\n    print('null', flush=True)\n")
    component = {"kind": "process", "name": "mine", "command": ["python3", str(tmp_path / "broken.py")]}
    with pytest.raises(RunError, match=r"failed for all .* mine: not_finite"):
        design(tmp_path / "run", settings(tiny_prior, oracle={"components": [component]}))


def test_a_repaired_oracle_lets_the_run_resume(tiny_prior: Path, tmp_path: Path) -> None:
    works = tmp_path / "works"
    (tmp_path / "mine.py").write_text(
        "import os, sys\n"
        f"works = lambda: os.path.exists({str(works)!r})\n"
        "for line in sys.stdin:\n"
        "    print(0.5 if works() else 'null', flush=True)\n"
    )
    component = {"kind": "process", "command": ["python3", str(tmp_path / "mine.py")]}
    out = tmp_path / "run"
    with pytest.raises(RunError, match="failed for all"):
        design(out, settings(tiny_prior, oracle={"components": [component]}))
    works.touch()
    resume_design(out)
    rows = read_ledger(out / "reinvent-0/ledger.sqlite")
    assert len(rows) == 120
    assert all(row.evaluation.reward == 0.5 for row in rows)


def test_a_program_that_cannot_run_stops_before_the_run(tiny_prior: Path, tmp_path: Path) -> None:
    component = {"kind": "process", "name": "mine", "command": ["python3", str(tmp_path / "missing.py")]}
    with pytest.raises(ConfigError, match=r"component 'mine': `command`: expected an answer .* died"):
        new_design(settings(tiny_prior, oracle={"components": [component]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_prior_is_another_run(tiny_prior: Path, tmp_path: Path) -> None:
    out = design(tmp_path / "run", settings(tiny_prior, budget=20))
    policy, tokenizer = load_policy(tiny_prior)
    with torch.no_grad():
        policy.head.bias += 0.5
    save_policy(tiny_prior, policy, tokenizer)
    with pytest.raises(RunError, match=r"`prior`: .* has changed since the run began"):
        resume_design(out)


def test_a_loss_that_is_not_finite_stops_the_run(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infinite = torch.tensor([math.inf], requires_grad=True)
    monkeypatch.setattr("allmodes.chem.design.losses.reinvent_loss", lambda *_, **__: infinite)
    with pytest.raises(RunError, match=r"the loss of step 1 is inf: .* `learning_rate` .* `sigma` \(99\)"):
        design(tmp_path / "run", settings(tiny_prior, sigma=99.0))


def test_stops_at_the_asked_number_of_hits(tiny_prior: Path, tmp_path: Path) -> None:
    out = design(tmp_path / "run", settings(tiny_prior, hit_threshold=0.05, stop_at_hits=5))
    result = json.loads((out / "reinvent-0/result.json").read_text())
    assert (result["stopped_by"], result["hits"]) == ("hits", 5)
    rows = read_ledger(out / "reinvent-0/ledger.sqlite")
    assert (rows[-1].evaluation.reward or 0) >= 0.05  # not one call more than were needed


def test_collapse_stops_or_warns(tiny_prior: Path, tmp_path: Path) -> None:
    monitor = {"window": 2, "min_new": 1.0}  # anything repeated counts as collapse
    for action, reason in (("stop", "collapse"), ("warn", "budget")):
        out = design(
            tmp_path / action, settings(tiny_prior, collapse={**monitor, "action": action}, budget=200)
        )
        result = json.loads((out / "reinvent-0/result.json").read_text())
        assert result["stopped_by"] == reason
        assert result["collapsed_at_step"] is not None


def test_a_run_that_finds_nothing_new_ends(tiny_prior: Path, tmp_path: Path) -> None:
    # At most 4 + 16 molecules exist with two atoms, so the budget can never be spent.
    out = design(tmp_path / "run", settings(tiny_prior, max_tokens=3, budget=1000, max_steps=30))
    result = json.loads((out / "reinvent-0/result.json").read_text())
    assert result["stopped_by"] == "max_steps"
    assert result["steps"] == 30


def test_scaffold_filter_penalises_in_the_ledger(tiny_prior: Path, tmp_path: Path) -> None:
    config = settings(tiny_prior, scaffold_filter={"min_reward": 0.0, "bucket_size": 1})
    out = design(tmp_path / "run", config)
    rows = read_ledger(out / "reinvent-0/ledger.sqlite")
    # All molecules are acyclic chains, each its own scaffold: new ones are never penalised.
    assert all(row.penalised_reward == row.evaluation.reward for row in rows)
    # A repeated one is: the mean penalised reward falls below the mean raw reward.
    steps = metrics(out / "reinvent-0")
    assert any(row["mean_penalised_reward"] < row["mean_reward"] - 1e-6 for row in steps)


@pytest.mark.parametrize("algorithm", ["reinvent", "mara", "ips-grpo"])
def test_samples_are_kept_as_they_were_drawn(algorithm: str, tiny_prior: Path, tmp_path: Path) -> None:
    out = design(tmp_path / "run", settings(tiny_prior, algorithm=[algorithm])) / f"{algorithm}-0"
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    evaluations = {row.evaluation.smiles: row.evaluation.reward for row in read_ledger(out / "ledger.sqlite")}
    prior, tokenizer = load_policy(tiny_prior)
    first = [row for row in rows if row["step"] == 1]
    assert len(first) == settings(tiny_prior).batch_size
    assert {row["step"] for row in rows} == {row["step"] for row in metrics(out)}
    with torch.no_grad():
        expected = prior.logprobs(
            pad_tokens([tokenizer.encode(row["response"]) for row in first if not row["truncated"]])
        )
    finished = [row for row in first if not row["truncated"]]
    for row, logprob in zip(finished, expected.tolist(), strict=True):
        assert row["policy_logprob"] == pytest.approx(logprob, abs=1e-3)  # step 1 is the prior's own
        if row["ref_logprob"] is not None:
            assert row["ref_logprob"] == pytest.approx(logprob, abs=1e-3)
        assert row["num_tokens"] == len(tokenizer.encode(row["response"]))
    for row in rows:
        assert row["outcome"] == (None if row["truncated"] else canonical_smiles(row["response"]))
        assert row["reward"] == pytest.approx(
            0.0 if row["outcome"] is None else evaluations.get(row["outcome"]), nan_ok=True
        )
    config = AuditConfig.model_validate_json((out / "audit.json").read_text())
    assert (config.trainer, config.beta) == ("allmodes", 1 / settings(tiny_prior).sigma)
    assert config.transform == {"mara": "mara", "ips-grpo": "ips"}.get(algorithm, "none")
    # A KL of whole molecules, under which the audit's optima hold.
    assert config.kl == ("sequence-k2-in-loss" if "grpo" in algorithm else "reinvent-loss")


def test_processes_and_one_process_give_the_same_results(tiny_prior: Path, tmp_path: Path) -> None:
    """Three seeds, so that one waits for a process; `test_resume.py` does the same with two algorithms."""
    changes = {"algorithm": "mara", "seeds": [0, 1, 2], "mara": {"threshold": 0.5}, "budget": 60}
    one = design(tmp_path / "one", settings(tiny_prior, **changes))
    two = design(tmp_path / "two", settings(tiny_prior, **changes, workers=2))
    assert (one / "results.json").read_bytes() == (two / "results.json").read_bytes()
    for job in ("mara-0", "mara-2"):
        assert read_ledger(one / job / "ledger.sqlite") == read_ledger(two / job / "ledger.sqlite")
        assert (one / job / "metrics.jsonl").read_bytes() == (two / job / "metrics.jsonl").read_bytes()


def test_what_would_fail_later_fails_before_anything_is_written(tiny_prior: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="`prior`"):
        new_design(settings(tmp_path / "none.safetensors"), out)
    bad = {"components": [{"kind": "smarts", "patterns": ["C(("]}]}
    with pytest.raises(ConfigError, match="SMARTS"):
        new_design(settings(tiny_prior, oracle=bad), out)
    assert not out.exists()


def test_a_folder_with_a_run_is_not_written_over(tiny_prior: Path, tmp_path: Path) -> None:
    out = design(tmp_path / "run", settings(tiny_prior, budget=20))
    before = (out / "results.json").read_bytes()
    with pytest.raises(RunError, match="--resume"):
        new_design(settings(tiny_prior, budget=30), out)
    assert (out / "results.json").read_bytes() == before


class _FixedOracle:
    """Scores from a table, for the arithmetic of one update."""

    def finish(self) -> None: ...

    def submit(self, smiles: Any) -> Any:
        futures = []
        for line in smiles:
            future: Future[Evaluation] = Future()
            reward = min(1.0, len(line) / 10)
            future.set_result(Evaluation(smiles=line, raw={}, shaped={}, reward=reward, failure=None))
            futures.append(future)
        return futures


@pytest.mark.parametrize("algorithm", ["reinvent", "mara"])
def test_first_update_equals_the_formula(algorithm: str, tiny_prior: Path, tmp_path: Path) -> None:
    """The loss of the first step from its definition: (log p − log q − σ R̄)², R̄ by equation 11."""
    from allmodes.chem.design.loop import DesignLoop
    from allmodes.runs.folder import RunFolder

    sigma, tau = 20.0, 0.5
    config = settings(
        tiny_prior,
        sigma=sigma,
        max_steps=1,
        mara={"threshold": tau},
        scaffold_filter=None,
        replay={"size": 10, "sample": 5, "augmentation_rounds": 0},
    )
    with RunFolder(tmp_path / "run") as folder:
        loop = DesignLoop(config, arm=parse_arm(algorithm), seed=3, folder=folder, oracle=_FixedOracle())  # type: ignore[arg-type]
        loop.run(lambda _: None)
    policy, tokenizer = load_policy(tiny_prior)
    generator = torch.Generator().manual_seed(3)
    samples = policy.sample(16, max_length=24, generator=generator)
    rewards, logs = [], samples.logprobs.tolist()
    for ids, finished in zip(samples.tokens.tolist(), samples.finished.tolist(), strict=True):
        smiles = canonical_smiles(tokenizer.decode(ids)) if finished else None
        rewards.append(0.0 if smiles is None else min(1.0, len(smiles) / 10))
    anchors = [(log, reward) for log, reward in zip(logs, rewards, strict=True) if reward >= tau]
    if algorithm == "mara":
        log_z, reward_z = max(anchors)
        rewards = [
            reward_z + (log_z - log) / sigma if reward >= tau else reward
            for log, reward in zip(logs, rewards, strict=True)
        ]
    # The agent is still the prior, so log p = log q.
    expected = sum((sigma * reward) ** 2 for reward in rewards) / len(rewards)
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert not math.isnan(expected)


@pytest.mark.parametrize(
    "ips",
    [
        None,
        {"outcome": "molecule"},
        {"outcome": "scaffold", "min_probability": 0.2},
        {"outcome": "molecule", "frequency": "history"},
    ],
)
def test_first_update_of_grpo_equals_the_formula(
    ips: dict[str, Any] | None, tiny_prior: Path, tmp_path: Path
) -> None:
    """Weights after one step of Adam along the gradient of -A log p + (log p - log q)^2 / 2 sigma.

    A = (r - mean r) / (std r + 1e-4), where IPS divides r by the share of the sample's outcome in the batch.
    """
    from allmodes.chem.design.loop import DesignLoop
    from allmodes.runs.folder import RunFolder

    algorithm = "grpo" if ips is None else "ips-grpo"
    config = settings(
        tiny_prior,
        algorithm=algorithm,
        batch_size=40,
        max_steps=1,
        scaffold_filter=None,
        ips=ips or {},
        replay={"size": 10, "sample": 5, "augmentation_rounds": 0},
    )
    with RunFolder(tmp_path / "run") as folder:
        loop = DesignLoop(config, arm=parse_arm(algorithm), seed=3, folder=folder, oracle=_FixedOracle())  # type: ignore[arg-type]
        loop.run(lambda _: None)
    policy, tokenizer = load_policy(tiny_prior)
    samples = policy.sample(40, max_length=24, generator=torch.Generator().manual_seed(3))
    molecules = [
        canonical_smiles(tokenizer.decode(ids)) if finished else None
        for ids, finished in zip(samples.tokens.tolist(), samples.finished.tolist(), strict=True)
    ]
    rewards = torch.tensor([0.0 if smiles is None else min(1.0, len(smiles) / 10) for smiles in molecules])
    if ips is not None:
        counts = torch.tensor([1 if smiles is None else molecules.count(smiles) for smiles in molecules])
        assert counts.max() > 1  # chains are acyclic, so a scaffold is the molecule itself
        rewards = rewards / (counts / 40).clamp(min=ips.get("min_probability", 0.0))
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    logprobs = policy.logprobs(samples.tokens)
    ref_logprobs = logprobs.detach().clone()
    loss = (-advantages * logprobs + (logprobs - ref_logprobs).square() / (2 * config.sigma)).mean()
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    loss.backward()
    optimizer.step()
    agent = load_checkpoint(tmp_path / "run" / "agent.safetensors")[0]
    for name, expected in policy.state_dict().items():
        assert torch.allclose(agent[name].float(), expected, rtol=2e-3, atol=1e-4), name


def test_ips_with_equal_frequencies_is_grpo(tiny_prior: Path, tmp_path: Path) -> None:
    """One frequency for all multiplies all rewards by one number, which the standard deviation undoes.

    Up to its epsilon: the runs begin alike and need not stay so.
    """
    out = design(
        tmp_path / "run",
        settings(
            tiny_prior,
            algorithm=["grpo", "ips-grpo", "reinvent"],
            max_steps=2,
            ips={"outcome": "cluster", "cluster_distance": 1.0},  # everything is one cluster
        ),
    )
    grpo, ips, reinvent = (metrics(out / f"{name}-0") for name in ("grpo", "ips-grpo", "reinvent"))
    assert ips[1]["agent_nll"] == pytest.approx(grpo[1]["agent_nll"], rel=1e-4)
    assert reinvent[1]["agent_nll"] != pytest.approx(grpo[1]["agent_nll"], rel=1e-4)


def test_grpo_weighs_a_batch_ahead_by_the_ratio_of_both_agents(tiny_prior: Path, tmp_path: Path) -> None:
    """With lookahead 1 both batches come from the prior; the second is learnt from by another agent."""
    from allmodes.chem.design.loop import DesignLoop
    from allmodes.runs.folder import RunFolder

    config = settings(
        tiny_prior,
        algorithm="grpo",
        batch_size=40,
        max_steps=2,
        lookahead=1,
        scaffold_filter=None,
        replay={"size": 0, "sample": 0, "augmentation_rounds": 0},
    )
    with RunFolder(tmp_path / "run") as folder:
        loop = DesignLoop(config, arm=parse_arm("grpo"), seed=3, folder=folder, oracle=_FixedOracle())  # type: ignore[arg-type]
        loop.run(lambda _: None)
    policy, tokenizer = load_policy(tiny_prior)
    generator = torch.Generator().manual_seed(3)
    batches = [policy.sample(40, max_length=24, generator=generator) for _ in range(2)]
    priors = [policy.logprobs(samples.tokens).detach() for samples in batches]
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    for samples, prior in zip(batches, priors, strict=True):
        molecules = [
            canonical_smiles(tokenizer.decode(ids)) if finished else None
            for ids, finished in zip(samples.tokens.tolist(), samples.finished.tolist(), strict=True)
        ]
        rewards = torch.tensor([0.0 if line is None else min(1.0, len(line) / 10) for line in molecules])
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        logprobs = policy.logprobs(samples.tokens)
        ratio = (logprobs - prior).exp()
        clipped = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        optimizer.zero_grad()
        (-clipped + (logprobs - prior).square() / (2 * config.sigma)).mean().backward()
        optimizer.step()
    assert (ratio - 1).abs().max() > 0.2  # the second batch's, so that clipping was at work
    agent = load_checkpoint(tmp_path / "run" / "agent.safetensors")[0]
    for name, expected in policy.state_dict().items():
        assert torch.allclose(agent[name].float(), expected, rtol=2e-3, atol=1e-4), name
