"""Logs of means: how they are recognised among logs of samples, what is read of each, and what is counted."""

import json
import re
from array import array
from pathlib import Path
from random import Random
from typing import Any

import pytest

from allmodes.audit.logs.sources import SAMPLES
from allmodes.audit.scalars.files import find_scalars
from allmodes.audit.scalars.log import ScalarLog, _in_order
from allmodes.audit.scalars.names import KNOWN, NAMES, SIGNS, names_of, plain_name, program_of
from allmodes.errors import ConfigError, InputError

TRL = {"reward": 0.5, "entropy": 1.2, "frac_reward_zero_std": 0.25, "completions/clipped_ratio": 0.1}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def state(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps({"best_metric": None, "epoch": 1.0, "log_history": rows}, indent=2))
    return path


def read(path: Path) -> ScalarLog:
    found = find_scalars(path)
    assert found is not None
    return found.read()


def points(log: ScalarLog, name: Any) -> list[tuple[int, float]]:
    series = log.series[name]
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_a_name_belongs_to_one_figure_of_a_program_and_a_sign_to_one_program() -> None:
    for own in NAMES.values():
        names = [name for of_figure in own.values() for name in of_figure]
        assert len(set(names)) == len(names)
    assert [program_of(signs) for signs in SIGNS.values()] == list(SIGNS)
    assert sum(map(len, SIGNS.values())) == len(frozenset.union(*SIGNS.values()))
    assert names_of("kl", "verl") == ["actor/kl_loss", "actor/reward_kl_penalty"]
    assert {name for name in KNOWN if plain_name(name) != name} == set()


def test_the_guide_names_what_is_read_of_each_program() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "audit.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| figure \|.*\n\| -.*\n((?:\|.*\n)+)", guide, re.MULTILINE)
    columns = list(zip(*(line.strip("| \n").split(" | ") for line in table.splitlines()), strict=True))
    for program, cells in zip(("trl", "verl", "openrlhf"), columns[1:4], strict=True):
        documented = set(re.findall(r"`([^`]+)`", " ".join(cells)))
        names = [own for figure, own in NAMES[program].items() if figure not in ("beta", "longest")]
        assert documented <= {name for own in names for name in own}
        assert {own[0] for own in names} <= documented, program


@pytest.mark.parametrize("name", ["eval/reward", "eval_reward", "val/reward", "val-core/x/reward", "test/kl"])
def test_figures_of_evaluations_are_not_read(name: str) -> None:
    assert plain_name(name) is None


@pytest.mark.parametrize(
    "row",
    [
        {"step": 1, "reward": 0.5},
        {"step": 1, "reward": 0.5, "kl": 0.1, "entropy": 1.0},
        {"step": 1, "response": "a", "frac_reward_zero_std": 0.5},
        {"step": 1, "prompt": "p", "completion": "c", "reward": 1.0, "train/kl": 0.1},
        {"input": "p", "output": "c", "score": 1.0, "critic/score/mean": 0.5},
    ],
)
def test_rows_of_samples_stay_samples(row: dict[str, Any], tmp_path: Path) -> None:
    assert find_scalars(write(tmp_path / "log.jsonl", [row] * 3)) is None


def test_a_folder_with_samples_is_read_for_them(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", [{"step": 1, **TRL}])
    assert find_scalars(tmp_path) is not None
    write(tmp_path / SAMPLES, [{"response": "a", "reward": 1.0}])
    assert find_scalars(tmp_path) is None


def test_a_folder_of_tables_with_a_trainers_state_is_one_of_samples(tmp_path: Path) -> None:
    state(tmp_path / "trainer_state.json", [{"step": 1, **TRL}])
    write(tmp_path / "part-0.jsonl", [{"response": "a", "reward": 1.0}])
    assert find_scalars(tmp_path) is None


def test_the_state_of_a_trainer_and_of_its_last_checkpoint(tmp_path: Path) -> None:
    for number in (9, 10):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        rows = [{"step": step, **TRL, "reward": step / 10} for step in range(1, number + 1)]
        state(folder / "trainer_state.json", [*rows, {"step": number, "train_runtime": 3.0}])
    log = read(tmp_path)
    assert points(log, "reward") == [(step, step / 10) for step in range(1, 11)]
    assert (log.program, log.is_whole, log.rows, len(log), log.faulty) == ("trl", True, 11, 10, 0)
    assert log.series["token_entropy"].column == "entropy"
    by_another_name = state(tmp_path / "state-of-run-1.json", [{"step": 1, **TRL}])
    assert points(read(by_another_name), "idle") == [(1, 0.25)]


def test_the_file_logger_of_verl(tmp_path: Path) -> None:
    rows = [
        {
            "step": step,
            "elapsed_seconds": 1.5,
            "data": {
                "critic/score/mean": 0.1 * step,
                "critic/rewards/mean": -1.0,  # with the KL taken off: the raw score is preferred
                "actor/entropy": 1.0,
                "actor/ppo_kl": 9.0,  # to the last policy, not to the reference
                "actor/reward_kl_penalty": 0.02,
                "actor/reward_kl_penalty_coeff": 0.001,
                "response_length/clip_ratio": 0.5,
                "val-core/gsm8k/reward/mean@1": 0.3,
                "training/global_step": step,
            },
        }
        for step in (1, 2, 3)
    ]
    log = read(write(tmp_path / "run.jsonl", rows))
    assert (log.program, log.is_whole) == ("verl", True)
    assert points(log, "reward") == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert points(log, "kl") == [(1, 0.02), (2, 0.02), (3, 0.02)]
    assert points(log, "beta")[-1] == (3, 0.001)
    assert points(log, "truncated")[0] == (1, 0.5)


def test_the_history_of_weights_and_biases(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"_step": 10 * step, "_runtime": 1.0, "train/global_step": step, "train/reward": 1.0, "train/kl": 0.1,
         "train/actor_lr": 1e-6}
        for step in (1, 2)
    ]  # fmt: skip
    rows.append({"_step": 30, "train/global_step": 2, "eval/reward": 5.0})
    log = read(write(tmp_path / "history.jsonl", rows))
    assert (log.program, log.is_whole) == ("openrlhf", False)
    assert points(log, "reward") == [(1, 1.0), (2, 1.0)]


def test_the_history_of_weights_and_biases_as_a_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "0000.parquet"
    columns = {"_step": [0, 1, 2], "train/global_step": [1, 2, None], "train/reward": [0.5, None, 1.0]}
    pq.write_table(pa.table(columns), path)
    log = read(path)
    assert points(log, "reward") == [(1, 0.5)]
    assert {kind: bad.count for kind, bad in log.bad.items()} == {"it has no step": 1}


def test_a_chart_of_weights_and_biases(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    name = "a - run - train/reward"
    path.write_text(
        f'"Step","{name}","{name}__MIN","{name}__MAX","a - run - train/entropy"\n'
        '"1","0.5","0.1","0.9","1.5"\n"2","","0.1","0.9","1.25"\n'
    )
    log = read(path)
    assert points(log, "reward") == [(1, 0.5)]
    assert points(log, "token_entropy") == [(1, 1.5), (2, 1.25)]
    assert (log.is_whole, log.remarks) == (False, ("The chart's run a - run is read.",))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ('"a - train/reward","a - train/kl"', "expected a column of steps, one of step, "),
        ('"Step","a - train/reward","b - train/reward"', "expected a chart of one run; got 2: a, b"),
        ('"Step","a - train/loss"', "such as reward, entropy or kl; got loss"),
    ],
)
def test_a_chart_without_steps_of_several_runs_or_of_nothing_known(
    head: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "chart.csv"
    path.write_text(f"{head}\n{','.join(['1'] * (head.count(',') + 1))}\n")
    with pytest.raises(InputError, match=said) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_what_cannot_be_used_is_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    rows = [
        {"step": 1, **TRL},
        {"step": 2, **TRL, "reward": float("nan"), "entropy": float("inf")},
        {"step": 3, **TRL, "entropy": "much"},
        {**TRL},
        {"step": 4.5, **TRL},
        "no object",
        {"step": 5, **TRL, "reward": None},
    ]
    log = read(state(tmp_path / "trainer_state.json", rows))
    assert {kind: bad.count for kind, bad in log.bad.items()} == {
        "`reward` is NaN or infinite": 1,
        "`entropy` is NaN or infinite": 1,
        "`entropy` is not a number": 1,
        "it has no step": 1,
        "`step` is not a whole number ≥ 0": 1,
        "not an object": 1,
    }
    assert (log.faulty, log.rows) == (5, 7)
    assert log.first_places["not an object"] == "entry 6"
    assert [step for step, _ in points(log, "reward")] == [1, 3]
    assert [step for step, _ in points(log, "idle")] == [1, 2, 3, 5]


def test_steps_that_go_back_are_a_resumed_run() -> None:
    found = _in_order(array("q", [1, 2, 3, 4, 3, 4, 5]), array("d", [1, 2, 3, 4, 30, 40, 50]))
    assert found.steps.tolist() == [1, 2, 3, 4, 5]
    assert found.values.tolist() == [1, 2, 30, 40, 50]
    assert (found.written_again, found.returns) == (2, ((4, 3),))
    killed = _in_order(array("q", [1, 2, 3, 4, 2]), array("d", [1, 2, 3, 4, 20]))
    assert killed.values.tolist() == [1, 20]  # 3 and 4 are of a policy that was thrown away


def test_the_order_is_that_of_appending_and_cutting() -> None:
    random = Random(0)
    for _ in range(200):
        steps = sorted(random.choices(range(30), k=40))
        for _ in range(random.randrange(4)):
            at = random.randrange(5, 40)
            steps[at:] = sorted(random.choices(range(random.randrange(30), 31), k=40 - at))
        kept: list[tuple[int, int]] = []
        for number, step in enumerate(steps):
            kept = [pair for pair in kept if pair[0] < step]
            kept.append((step, number))
        found = _in_order(array("q", steps), array("d", range(40)))
        assert list(zip(found.steps.tolist(), found.values.tolist(), strict=True)) == kept


def test_steps_in_no_order_are_sorted() -> None:
    found = _in_order(array("q", [5, 4, 3, 2, 1]), array("d", [5, 4, 3, 2, 1]))
    assert found.values.tolist() == [1, 2, 3, 4, 5]
    assert (found.is_unordered, found.returns, found.written_again) == (True, (), 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"log_history": [{"step": 1, "reward": 0.',
            "expected a whole trainer_state.json; it may be cut off",
        ),
        ('{"epoch": 1}', "expected `log_history`, a list of logged values; got none"),
        ('{"log_history": {}}', "expected `log_history`, a list of logged values; got none"),
        ('{"log_history": []}', "expected means over training; got an empty log"),
        ('{"log_history": [1]}', "got none that can be used: not an object: 1, first at entry 1"),
        ('{"log_history": [{"step": 1, "loss": 1.0}]}', "such as reward, entropy or kl; got loss"),
        ("[" * 100_000, "expected a whole trainer_state.json"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "expected a whole trainer_state.json"),
    ],
)
def test_a_broken_state_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=said) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """An event file of a training with TRL, with 40 steps of two figures."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    for step in range(1, 41):
        writer.add_scalar("train/reward", step / 40, step)
        writer.add_scalar("train/frac_reward_zero_std", 0.5, step)
        writer.add_scalar("eval/reward", 7.0, step)
    writer.close()
    (path,) = tmp_path.iterdir()
    return path


def test_event_files(events: Path) -> None:
    for path in (events, events.parent):
        log = read(path)
        assert (log.program, log.is_whole, log.faulty) == ("trl", True, 0)
        assert points(log, "reward") == [(step, pytest.approx(step / 40)) for step in range(1, 41)]


def test_an_event_file_that_is_cut_off_or_damaged_is_read_up_to_there(events: Path) -> None:
    data = events.read_bytes()
    for damaged in (data[: len(data) // 2], data[: len(data) // 2] + b"\0" * 40):
        events.write_bytes(damaged)
        log = read(events)
        assert 10 < len(log) < 30
        assert list(log.bad) == ["cut off or damaged, and not read from here"]
    events.write_bytes(b"no events at all, but some text")
    with pytest.raises(InputError, match="got none that can be used: not an event file: 1, first at events"):
        read(events)


def test_event_files_without_tensorboard_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(b"")
    monkeypatch.setattr("allmodes.extras.is_installed", lambda module: False)
    with pytest.raises(ConfigError, match=r"reading event files needs `.*\[tensorboard\].*`; tensorboard"):
        read(path)
