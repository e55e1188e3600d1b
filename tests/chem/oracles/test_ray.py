"""The oracle's workers on Ray: a cluster of this machine alone."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.errors import ConfigError

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own dependencies

# The first time it is asked about WAIT, it waits to be killed; "where" is answered with Ray's process.
FUNCTION = """
import os, time
from pathlib import Path

def score(smiles):
    folder = Path({folder!r})
    with open(folder / "asked.txt", "a") as log:
        log.write(f"{{os.getppid()}} {{smiles}}\\n")
    if smiles.startswith("WAIT") and not (folder / "killed").exists():
        time.sleep(600)
    return min(1.0, len(smiles) / 10)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of this machine, with more CPUs than there need be."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleConfig:
    source = tmp_path / "module" / "slow_one.py"
    source.parent.mkdir()
    source.write_text(FUNCTION.format(folder=str(tmp_path)))
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(source.parent)!r})\nfrom slow_one import score\n"
        "for line in sys.stdin: print(score(line.strip()), flush=True)\n"
    )
    component = {"name": "mine", "kind": "process", "command": [sys.executable, str(program)]}
    return OracleConfig.model_validate(
        {"components": [{"kind": "qed"}, component], "workers": 2, "ray": "local"}
    )


def asked(tmp_path: Path) -> list[tuple[int, str]]:
    lines = (tmp_path / "asked.txt").read_text().splitlines() if (tmp_path / "asked.txt").exists() else []
    return [(int(pid), smiles) for pid, smiles in map(str.split, lines)]


@pytest.mark.usefixtures("cluster")
def test_results_on_ray_are_those_of_this_machine(config: OracleConfig) -> None:
    molecules = ["C" * length for length in range(1, 20)] + ["CO", "not a molecule"]
    results: list[Any] = []
    for where in (config, config.model_copy(update={"ray": None})):
        with ComponentOracle(where) as oracle:
            oracle.probe()
            results.append([future.result(timeout=60) for future in oracle.submit(molecules)])
    assert results[0] == results[1]
    assert results[0][0].reward > 0
    assert results[0][-1].failure.startswith("qed: raised: ValueError: RDKit cannot read")


@pytest.mark.usefixtures("cluster")
def test_a_worker_of_ray_that_is_killed_is_replaced_and_its_molecule_asked_again(
    config: OracleConfig, tmp_path: Path
) -> None:
    with ComponentOracle(config) as oracle:
        before = processes(oracle)
        futures = oracle.submit(["WAIT", *(["C" * length for length in range(1, 9)])])
        for future in futures[1:]:
            assert future.result(timeout=60).failure is None or "qed" in str(future.result().failure)
        assert len(before) == 2
        (tmp_path / "killed").touch()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        evaluation = futures[0].result(timeout=120)
        assert evaluation.raw["mine"] == 0.4
        assert [smiles for _, smiles in asked(tmp_path)].count("WAIT") == 2
        again = oracle.submit(["CCO", "CCN", "CCC"])
        assert [future.result(timeout=120).failure for future in again] == [None] * 3
        assert not before & processes(oracle)


def processes(oracle: ComponentOracle) -> set[int]:
    """The processes of the oracle's workers in the cluster."""
    actors: list[Any] = [worker._actor for worker in oracle._workers]  # type: ignore[attr-defined]
    return {ray.get(actor.__ray_call__.remote(lambda _: os.getpid())) for actor in actors}


@pytest.mark.usefixtures("cluster")
def test_a_component_that_cannot_work_says_so_through_ray(config: OracleConfig) -> None:
    missing = {"name": "mine", "kind": "function", "function": "no_such_module:score"}
    bad = OracleConfig.model_validate({"components": [missing], "ray": "local"})
    with pytest.raises(ConfigError, match=r"cannot import 'no_such_module'") as caught, ComponentOracle(bad):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cluster")
def test_more_workers_than_the_cluster_has_processors_is_an_error(config: OracleConfig) -> None:
    components = [component.model_copy(update={"start_limit": 8.0}) for component in config.components]
    many = config.model_copy(update={"workers": 6, "components": tuple(components)})
    with pytest.raises(ConfigError, match=r"`oracle.workers`: expected a free CPU"), ComponentOracle(many):
        pass


def test_a_cluster_that_is_not_there(config: OracleConfig) -> None:
    nowhere = config.model_copy(update={"ray": "127.0.0.1:1"})
    if ray.is_initialized():
        ray.shutdown()
    with (
        pytest.raises(ConfigError, match=r"`oracle.ray`: expected .*127\.0\.0\.1:1"),
        ComponentOracle(nowhere),
    ):
        pass
