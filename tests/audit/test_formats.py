"""Rows as TRL, verl, OpenRLHF, REINVENT and Saturn write them, in the columns of an audit.

Rows have the form of the programs' own files; those of REINVENT the numbers of a published summary CSV.
"""

import math
from pathlib import Path
from typing import Any

import pytest

from allmodes.audit.logs.formats import Mapped, map_columns
from allmodes.audit.logs.log import Log, read_log
from allmodes.audit.logs.reading import Reading
from allmodes.audit.logs.sources import RecordSource
from allmodes.errors import InputError
from audit_logs import numbers


def read(rows: list[dict[str, Any]], **settings: Any) -> tuple[Mapped, Log]:
    mapped = map_columns(rows[0], rows=rows, **settings)
    return mapped, read_log(RecordSource(list(rows)), mapped.convert)


def test_our_own_columns() -> None:
    mapped, log = read([{"prompt": "p", "response": "r", "reward": 0.5, "other": 1}])
    assert mapped.format == "allmodes"
    assert dict(mapped.sources) == {"prompt": "prompt", "response": "response", "reward": "reward"}
    assert numbers(log.rewards) == [0.5]


def test_columns_by_other_names() -> None:
    row = {"question": "p", "text": "r", "points": 0.5, "reward": 0.1, "when": 3}
    mapped, log = read(
        [row], columns={"prompt": "question", "response": "text", "reward": "points", "step": "when"}
    )
    assert mapped.sources["reward"] == "points"
    assert numbers(log.rewards) == [0.5]
    assert log.steps is not None
    assert log.steps.tolist() == [3]


def test_a_log_without_any_of_our_columns() -> None:
    with pytest.raises(InputError, match=r"one of the columns prompt, .*, or `--columns`; got prompt;reward"):
        map_columns({"prompt;reward": "p;1"})
    assert map_columns({}).sources == {}  # of a log without a row, which reading it says


def test_names_that_are_not_there() -> None:
    with pytest.raises(
        InputError, match=r"`columns\.reward`: expected a column of the log \(response\); got 'points'"
    ):
        map_columns({"response": "r"}, columns={"reward": "points"})
    with pytest.raises(InputError, match=r"`columns`: expected one of prompt, response, .*; got 'points'"):
        map_columns({"response": "r"}, columns={"points": "response"})
    with pytest.raises(InputError, match=r"`rewards`: expected a column of the log .*; got 'gone'"):
        map_columns({"prompt": "p", "completion": "c"}, rewards={"gone": 1.0})


TRL = [
    {"step": 3, "prompt": "user\n2+2?\nassistant\n", "completion": "4", "accuracy": 1.0, "format": None,
     "advantage": 0.3},
    {"step": 3, "prompt": "user\n2+2?\nassistant\n", "completion": "5", "accuracy": 0.0, "format": 0.4,
     "advantage": -0.3},
    {"step": 3, "prompt": "user\n2+2?\nassistant\n", "completion": "6", "accuracy": math.nan, "format": None,
     "advantage": 0.0},
]  # fmt: skip


def test_trl_sums_its_reward_functions() -> None:
    mapped, log = read(TRL)
    assert mapped.format == "trl"
    assert mapped.sources["reward"] == "accuracy + format"
    assert numbers(log.rewards) == [1.0, 0.4, None]
    assert log.bad == {}


def test_trl_with_weights_leaves_other_columns_out() -> None:
    mapped, log = read(TRL, rewards={"accuracy": 1.0, "format": 0.25})
    assert mapped.sources["reward"] == "accuracy + 0.25 × format"
    assert numbers(log.rewards) == [1.0, 0.1, None]
    assert numbers(read(TRL, rewards={"accuracy": 2.0})[1].rewards) == [2.0, 0.0, None]


def test_trl_conversations() -> None:
    row = {
        "step": 1, "prompt": [{"role": "user", "content": "2+2?"}],
        "completion": [{"role": "assistant", "content": None}, {"role": "assistant", "content": "4"}],
        "accuracy": 1.0, "advantage": 0.0,
    }  # fmt: skip
    same = {**row, "completion": "4"}
    bad = {**row, "completion": ["4"]}
    _, log = read([row, same, bad])
    assert log.responses is not None
    assert log.responses[0] == log.responses[1]
    assert log.prompts.tolist() == [0, 0]
    assert [bad.first_line for bad in log.bad.values()] == [3]


def test_trl_files_on_disk(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from allmodes.audit.logs.sources import open_source

    for step in (1, 2):
        rows = [{**row, "step": step} for row in TRL]
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / f"completions_{step:05d}.parquet")
    source = open_source(tmp_path)
    log = read_log(source, Reading().mapped(source).convert)
    assert log.steps is not None
    assert log.steps.tolist() == [1, 1, 1, 2, 2, 2]
    assert numbers(log.rewards) == [1.0, 0.4, None] * 2


def test_verl() -> None:
    old = {"input": "user\n1+1?\nassistant\n", "output": "2", "score": 1.0, "step": 7}
    mapped, log = read([old, {**old, "output": "3", "score": "0.5"}, {**old, "score": math.nan}])
    assert mapped.format == "verl"
    assert numbers(log.rewards) == [1.0, 0.5, None]
    assert log.prompts.tolist() == [0, 0, 0]


def test_verl_knows_prompts_apart_by_uid_and_prefers_the_reward_of_validation() -> None:
    row = {"input": "same", "output": "2", "gts": "2", "score": -1.0, "step": 0, "reward": 1.0}
    _, log = read([{**row, "uid": "3f0c-ab_0_0"}, {**row, "uid": "3f0c-ab_1_0"}, {**row, "uid": "77-c_0_0"}])
    assert log.prompts.tolist() == [0, 0, 1]
    assert numbers(log.rewards) == [1.0] * 3


def test_rows_with_which_verl_fills_a_batch_are_no_responses() -> None:
    row = {"input": "p", "output": "2", "gts": "2", "score": 1.0, "step": 1}
    padding = {**row, "output": "", "score": 0.0, "uid": f"pad{'0af3' * 8}_1_0"}
    _, log = read([{**row, "uid": "3f0c-ab_0_0"}, padding, {**row, "uid": "3f0c-ab_1_0"}])
    assert numbers(log.rewards) == [1.0, 1.0]
    assert {kind: bad.count for kind, bad in log.bad.items()} == {"verl added it to fill a batch": 1}
    _, log = read([{**row, "uid": "padding_0_0"}])
    assert len(log) == 1


def test_openrlhf() -> None:
    mapped, log = read([{"input": "p", "output": "r", "reward": 0.25}])
    assert mapped.format == "openrlhf"
    assert numbers(log.rewards) == [0.25]
    assert log.steps is None


def test_a_log_of_ones_own_in_the_names_of_trl() -> None:
    row = {"prompt": "p", "completion": "c", "reward": "0.5", "ref_logprob": -3.0, "num_tokens": 7, "seed": 1}
    mapped, log = read([row])
    assert mapped.format == "trl"
    assert mapped.sources["response"] == "completion"
    assert {"reward", "ref_logprob", "num_tokens"} <= set(mapped.sources.values())
    assert (numbers(log.rewards), numbers(log.ref_logprobs)) == ([0.5], [-3.0])
    # Of TRL's own files any function may be the reward, also one of this name.
    own = {"prompt": "p", "completion": "c", "step": 3}
    rows = [
        {**own, "reward": 0.5, "format": 1.0, "advantage": 0.25},
        {**own, "reward": 0.0, "format": 1.0, "advantage": -0.25},
        {**own, "reward": 0.5, "format": 0.5, "advantage": 0.0},
    ]
    assert (
        read([{**row, "advantage": a} for row, a in zip(rows, (0.5, 0.0, -0.5), strict=True)])[0].sources[
            "reward"
        ]
        == "reward"
    )


HEAD = {"Agent": "20.6034", "Prior": "20.6034", "Target": "-18.8154", "Score": "0.0139693",
        "SMILES": "NC(N)=NN=c1[nH]c2ccccc2[nH]1", "step": "1"}  # fmt: skip


def test_reinvent_writes_negative_log_likelihoods() -> None:
    mapped, log = read([HEAD])
    assert mapped.format == "reinvent"
    assert mapped.sources["ref_logprob"] == "−Prior"
    assert numbers(log.ref_logprobs) == numbers(log.policy_logprobs) == [-20.6034]
    # Its own target is −Prior + σ·Score with σ = 128: the sign that is assumed here.
    assert pytest.approx(float(HEAD["Target"]), abs=1e-3) == -20.6034 + 128 * 0.0139693


def test_reinvents_states() -> None:
    valid = {**HEAD, "SMILES_state": "1", "Score": "0.3"}
    repeated = {**HEAD, "SMILES_state": "2", "Score": "0.0"}
    invalid = {**HEAD, "SMILES_state": "0", "Score": "0.0", "SMILES": "c1cc"}
    failed = {**HEAD, "SMILES_state": "1", "Score": "nan"}
    _, log = read([valid, repeated, invalid, failed])
    assert numbers(log.rewards) == [0.3, None, 0.0, None]
    assert log.outcomes is not None
    assert log.outcomes.tolist() == [0, 0, -1, 0]


def test_reinvents_inputs_are_prompts() -> None:
    rows = [{**HEAD, "Input_Scaffold": scaffold} for scaffold in ("a", "b", "a")]
    assert read(rows)[1].prompts.tolist() == [0, 1, 0]
    assert read([HEAD, HEAD])[1].prompts.tolist() == [0, 0]


def test_saturn() -> None:
    row = {
        "": "4",
        "oracle_calls": "14",
        "scaffold": "",
        "smiles": "CCO",
        "reward": "0.5",
        "penalized_reward": "0",
    }
    mapped, log = read([row])
    assert mapped.format == "saturn"
    assert numbers(log.rewards) == [0.5]
    assert log.steps is not None
    assert log.steps.tolist() == [14]


def test_a_format_can_be_demanded() -> None:
    row = {"input": "p", "output": "r", "score": 0.5, "reward": 0.25, "step": 1}
    assert map_columns(row).format == "verl"
    assert map_columns(row, format="openrlhf").format == "openrlhf"
    assert map_columns(row, format="allmodes").sources == {
        "prompt": "input", "response": "output", "reward": "reward", "score": "score", "step": "step"
    }  # fmt: skip
