"""Several workers at once: the same results, nobody idle, nothing lost when one of them ends."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.design import new_design, resume_design
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.oracles.results import Failure, Scored
from allmodes.chem.oracles.store import ResultStore
from allmodes.errors import ConfigError
from molecule_settings import oracle_config, training_config
from processes import start_command
from run_files import rows_so_far

# Molecules take unequal time, so that results come out of order.
PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    smiles = request["smiles"]
    with open("{log}", "a") as log:
        log.write(f"{{os.getpid()}} {{smiles}}\\n")
    time.sleep(sum(map(ord, smiles)) % 7 / 500)
    while smiles in ("SLOW", "HOLD") and not os.path.exists("{folder}/" + smiles):
        time.sleep(0.01)
    value = min(1.0, smiles.count("O") / 4 + 0.05 * smiles.count("N"))
    print(json.dumps({{"id": request["id"], "value": value}}), flush=True)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the program below was asked, with the process that was."""
    path = tmp_path / "asked.txt"
    (tmp_path / "program.py").write_text(PROGRAM.format(log=path, folder=tmp_path))
    return path


def component(log: Path, **rest: Any) -> dict[str, Any]:
    command = [sys.executable, "-S", "-E", str(log.with_name("program.py"))]
    return {"name": "mine", "kind": "process", "protocol": "json", "command": command, **rest}


def asked(log: Path) -> list[tuple[int, str]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), smiles) for pid, smiles in map(str.split, lines)]


def wait_until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_slow_molecule_holds_up_nobody_else(log: Path) -> None:
    others = ["C" * length for length in range(1, 30)]
    with ComponentOracle(oracle_config(component(log), workers=2)) as oracle:
        slow, *futures = oracle.submit(["SLOW", *others])
        assert [future.result(timeout=30).smiles for future in futures] == others
        assert not slow.done()
        log.with_name("SLOW").touch()
        assert slow.result(timeout=30).smiles == "SLOW"
    assert len({pid for pid, _ in asked(log)}) == 2
    assert sorted(smiles for _, smiles in asked(log)) == sorted(["SLOW", *others])


def test_the_longest_of_a_batch_go_first_and_batches_keep_their_order(log: Path) -> None:
    with ComponentOracle(oracle_config(component(log), workers=2)) as oracle:
        held = oracle.submit(["SLOW", "HOLD"])  # both workers, until all others are in the queue
        others = [*oracle.submit(["C", "CCC", "CC"]), *oracle.submit(["NNNN", "O"])]
        wait_until(lambda: len(asked(log)) == 2)
        log.with_name("SLOW").touch()
        for future in others:
            future.result(timeout=30)
        log.with_name("HOLD").touch()
        for future in held:
            future.result(timeout=30)
    assert [smiles for _, smiles in asked(log)][2:] == ["CCC", "CC", "C", "NNNN", "O"]


def test_a_worker_that_is_killed_costs_its_molecule_alone(log: Path) -> None:
    with ComponentOracle(oracle_config(component(log), workers=2)) as oracle:
        slow, other = oracle.submit(["SLOW", "C"])
        other.result(timeout=30)
        wait_until(lambda: any(smiles == "SLOW" for _, smiles in asked(log)))
        (pid,) = {pid for pid, smiles in asked(log) if smiles == "SLOW"}
        os.kill(pid, signal.SIGKILL)
        assert slow.result(timeout=30).failure == "mine: died: signal 9"
        rest = oracle.submit(["CC", "CCC", "O", "N"])
        assert [future.result(timeout=30).failure for future in rest] == [None] * 4


def test_leaving_while_workers_compute_ends_them_at_once(log: Path) -> None:
    with ComponentOracle(oracle_config(component(log, time_limit=600), workers=3)) as oracle:
        oracle.submit(["SLOW"] * 5)
        wait_until(lambda: len(asked(log)) == 3)
        pids = {pid for pid, _ in asked(log)}
        assert len(pids) == 3
        left = time.monotonic()
    assert time.monotonic() - left < 60  # and not 600
    wait_until(lambda: not any(is_running(pid) for pid in pids))  # the system may take a moment to end them


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended but that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_every_worker_must_be_able_to_start(log: Path) -> None:
    missing = {"name": "mine", "kind": "function", "function": "no_such_module:score"}
    with (
        pytest.raises(ConfigError, match="no_such_module"),
        ComponentOracle(oracle_config(missing, workers=3)),
    ):
        pass


def test_time_that_workers_are_busy_is_counted_by_component(log: Path) -> None:
    config = oracle_config({"kind": "qed"}, {"kind": "logp", "shaping": {"kind": "step", "low": -99}},
                           component(log), workers=2)  # fmt: skip
    with ComponentOracle(config) as oracle:
        for future in oracle.submit(["CCO", "CCN", "CCC"] * 5):
            future.result(timeout=30)
        times = oracle.busy_times()
        assert set(times["busy"]) == {"RDKit", "mine"}
        # 15 molecules at 2, 8 and 4 (sums of characters 213, 212 and 201 modulo 7, over 500) ms and more
        least = 5 * sum(sum(map(ord, smiles)) % 7 / 500 for smiles in ("CCO", "CCN", "CCC"))
        assert least <= times["busy"]["mine"] <= 2 * times["seconds"]
        assert 0 < oracle.busy_share() <= 1


def test_what_the_store_knows_is_not_computed_again(tmp_path: Path) -> None:
    """Its answer is taken as it is, even a wrong one: so it was not computed."""
    config = oracle_config({"kind": "qed"}, {"name": "route", "kind": "retrosynthesis"})
    with ResultStore(str(tmp_path / "store.sqlite")) as store:
        with ComponentOracle(config, store=store) as oracle:
            (key,) = oracle.store_keys().values()
            store.put(key, "CCO", Scored(0.25, {"note": "not what a search would say"}))
            store.put(key, "CCN", Failure("unsuitable", "not for us"))
            known, failed, computed = oracle.evaluate(["CCO", "CCN", "CC(=O)NC"])
        assert known.raw["route"] == 0.25
        assert known.details == {"route": {"note": "not what a search would say"}}
        assert failed.failure == "route: unsuitable: not for us"
        kept = store.get(key, "CC(=O)NC")
        assert isinstance(kept, Scored)
        assert (kept.value, kept.details) == (computed.raw["route"], computed.details["route"])
        assert computed.details["route"]["solved"] == (computed.raw["route"] == 1)


def settings(prior: Path, log: Path, **changes: Any) -> MoleculesConfig:
    oracle = {"components": [component(log)], "workers": changes.pop("oracle_workers", 1)}
    values = {
        "algorithm": "mara",
        "budget": 150,
        "hit_threshold": 0.4,
        "learning_rate": 1e-2,
        "checkpoint_every": 3,
        "mara": {"threshold": 0.4},
        "scaffold_filter": {"min_reward": 0.4, "bucket_size": 2},
        "oracle": oracle,
        **changes,
    }
    return training_config(prior, **values)


def outcome(out: Path, algorithm: str) -> tuple[Any, bytes, bytes, bytes]:
    run = out / f"{algorithm}-0"
    return (
        read_ledger(run / "ledger.sqlite"),
        (run / "metrics.jsonl").read_bytes(),
        (run / "samples.jsonl").read_bytes(),
        (run / "agent.safetensors").read_bytes(),
    )


@pytest.mark.parametrize("algorithm", ["mara", "ips-grpo"])
@pytest.mark.parametrize("lookahead", [0, 2])
def test_results_do_not_depend_on_the_number_of_workers(
    lookahead: int, algorithm: str, log: Path, tiny_prior: Path, tmp_path: Path
) -> None:
    runs = []
    for workers in (1, 3):
        out = tmp_path / str(workers)
        new_design(
            settings(tiny_prior, log, lookahead=lookahead, oracle_workers=workers, algorithm=algorithm), out
        )
        runs.append(outcome(out, algorithm))
    assert runs[0] == runs[1]
    assert [row.call for row in runs[0][0]] == list(range(1, 151))


def test_batches_ahead_are_sampled_by_an_earlier_agent(log: Path, tiny_prior: Path, tmp_path: Path) -> None:
    """Batch k comes from the agent after k − 1 − lookahead updates, so 1 and 2 are the prior's own."""
    nlls = {}
    for lookahead in (0, 1):
        out = tmp_path / str(lookahead)
        new_design(settings(tiny_prior, log, lookahead=lookahead), out)
        rows = [json.loads(line) for line in (out / "mara-0/metrics.jsonl").read_text().splitlines()]
        nlls[lookahead] = [row["agent_nll"] for row in rows]
    assert nlls[0][0] == nlls[1][0]
    assert nlls[0][1] != nlls[1][1]
    # Two batches of the prior itself: their mean NLL under it is what the update of their step says, too.
    out = tmp_path / "1/mara-0/metrics.jsonl"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0]["prior_nll"] == pytest.approx(rows[0]["agent_nll"], rel=1e-4)


def test_hits_stop_a_run_with_batches_ahead_at_the_same_call(
    log: Path, tiny_prior: Path, tmp_path: Path
) -> None:
    ledgers = []
    for workers in (1, 3):
        out = tmp_path / str(workers)
        config = settings(tiny_prior, log, lookahead=2, oracle_workers=workers, stop_at_hits=7)
        new_design(config, out)
        ledgers.append(read_ledger(out / "mara-0/ledger.sqlite"))
    assert ledgers[0] == ledgers[1]
    hits = [row for row in ledgers[0] if (row.evaluation.reward or 0) >= 0.4]
    assert len(hits) == 7
    assert ledgers[0][-1] == hits[-1]


# Before the first checkpoint, and after it: there the method's memory of outcomes is resumed, too.
@pytest.mark.parametrize(("calls", "algorithm"), [(20, "mara"), (90, "ips-grpo")])
def test_a_killed_run_with_batches_ahead_repeats_and_loses_nothing(
    calls: int, algorithm: str, log: Path, tiny_prior: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"lookahead": 2, "oracle_workers": 3, "algorithm": algorithm}
    changes["ips"] = {"outcome": "cluster", "frequency": "history"}
    config = settings(tiny_prior, log, **changes)
    new_design(config, tmp_path / "whole")
    log.unlink()
    recipe, out = tmp_path / "recipe.json", tmp_path / "killed"
    recipe.write_text(config.model_dump_json())
    process = start_command("run", recipe, "--out", out)
    deadline = time.monotonic() + 120
    while rows_so_far(out / f"{algorithm}-0/ledger.sqlite") < calls:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    time.sleep(1.5)  # worker processes notice that their parent is gone
    resume_design(out)
    assert outcome(out, algorithm) == outcome(tmp_path / "whole", algorithm)
    molecules = [smiles for _, smiles in asked(log) if smiles != "CCO"]
    repeated = len(molecules) - len(set(molecules))
    assert repeated <= 3  # what the three workers had in hand when they were killed


def test_leaving_with_molecules_in_the_queue_never_waits_for_one() -> None:
    """A worker may take the last molecule while the queue is being left."""

    def leave() -> None:
        for _ in range(3):
            with ComponentOracle(oracle_config({"kind": "qed"}, workers=4)) as oracle:
                futures = oracle.submit(["C" * length for length in range(1, 40)])
                futures[0].result(timeout=30)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        thread = threading.Thread(target=leave, daemon=True)
        thread.start()
        thread.join(timeout=120)
    finally:
        sys.setswitchinterval(switch)
    assert not thread.is_alive()
